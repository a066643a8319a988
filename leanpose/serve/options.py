"""What a request can say beside its images, checked."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from leanpose.serve.faults import RefusedError


class Options(BaseModel):
    """Of everything."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of a network, see /v1/models; by default the first.")
    min_person_score: float | None = Field(
        None, ge=0, le=1, description="Persons that a detector found are left out below this score."
    )


class LiveOptions(Options):
    """Of a WebSocket."""

    track: bool = Field(False, description="Give each person an identity.")
    smooth: Literal["off", "live"] = Field("off", description="Smooth each person's keypoints; tracks as well.")


class PoseOptions(Options):
    """Of images whose persons are wanted."""

    boxes: str | None = Field(
        None,
        description="Person boxes as JSON, [[x1, y1, x2, y2], ...] in pixels, of several images a list of these; "
        '"image": the whole image is one person. By default a detector finds the persons.',
    )

    def boxes_of(self, images: int, most: int) -> list[Any]:
        """Return the boxes for each of some images, as a call of a Predictor takes them.

        Args:
            images: how many there are.
            most: boxes of an image.

        Raises:
            RefusedError: they are no JSON, too many, or not for each image.
        """
        if self.boxes is None or self.boxes.strip('"') == "image":
            return [self.boxes and "image"] * images
        try:
            boxes = json.loads(self.boxes)
        except (ValueError, RecursionError):
            raise RefusedError(400, "boxes must be JSON: [[x1, y1, x2, y2], ...] in pixels.") from None
        each = [boxes] if images == 1 else boxes
        if not isinstance(each, list) or len(each) != images:
            raise RefusedError(400, f"There are {images} images; give boxes as a list with an entry for each.")
        if not all(isinstance(its, list) for its in each) or any(len(its) > max(most, 4) for its in each):
            raise RefusedError(400, f"boxes must be lists of up to {most}: [[x1, y1, x2, y2], ...] in pixels.")
        return each


class DrawOptions(PoseOptions):
    """Of an image that is drawn."""

    min_score: float | None = Field(
        None, ge=0, le=1, description="Keypoints below this score are not drawn; by default that of the network."
    )
    format: Literal["png", "jpeg", "webp"] = Field("png", description="Kind of the image.")
