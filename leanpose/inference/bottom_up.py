"""Bottom-up: all persons of an image from one look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leanpose import geometry
from leanpose.codecs import AssociativeEmbedding, BottomUpCodec, check_outputs, codec_of
from leanpose.codecs.scales import merge_scales
from leanpose.errors import InputError, WeightsError
from leanpose.inference.engines import Engine
from leanpose.inference.preprocess import image_input
from leanpose.structures import Poses
from leanpose.weights.calibration import calibrated
from leanpose.weights.record import Weights

LARGEST_SCALE = 10


class BottomUp:
    """A whole image in, all its persons out.

    Args:
        engine: a network of the task "bottom_up", with its record.
        flip_test: also run mirrored; the codec joins both.
        scales: sizes of the image, as factors on the record's input size; see `short_sides`. Heatmaps are averaged
            over all of them, tags come from the one nearest to 1.

    Raises:
        WeightsError: the record has another task, or another convention than "classic".
        InputError: a scale that cannot be, or several with a codec that cannot join them.
    """

    def __init__(self, engine: Engine, flip_test: bool = False, scales: Sequence[float] = (1.0,)) -> None:
        self.engine, self.weights = engine, engine.weights
        check_whole_images(engine.weights)
        self.codec: BottomUpCodec = codec_of(engine.weights)
        self.flip_test = flip_test
        self.short_sides = short_sides(engine.weights, scales)
        if len(self.short_sides) > 1 and not isinstance(self.codec, AssociativeEmbedding):
            raise InputError(f"The codec {engine.weights.codec} takes one size of the image: leave scales out.")

    def poses(self, image: np.ndarray) -> Poses:
        """Return all persons of one image, (H, W, 3) uint8 RGB, best first."""
        outputs, matrix, input_size = self._outputs(image, self.short_sides[0])
        if len(self.short_sides) == 1:
            return self.decode(outputs, matrix, input_size)
        assert isinstance(self.codec, AssociativeEmbedding)
        total, tags = self.codec.merge(outputs, input_size)
        size = (total.shape[1], total.shape[2])
        for side in self.short_sides[1:]:
            outputs, other_matrix, other_size = self._outputs(image, side)
            maps = merge_scales(outputs)[0].mean(axis=0)
            total = total + geometry.relaid_maps(maps, (other_matrix, other_size), (matrix, input_size), size)
        return self._in_image(*self.codec.decode_merged(total / len(self.short_sides), tags, input_size), matrix)

    def _outputs(
        self, image: np.ndarray, short_side: int
    ) -> tuple[Mapping[str, np.ndarray], np.ndarray, geometry.Size]:
        """Return the outputs for an image at one size, the (1, 2, 3) matrix to the input, and the input's size."""
        inputs, matrix, input_size = image_input(image, self.weights, short_side)
        outputs: Mapping[str, np.ndarray] = self.engine(inputs)
        check_outputs(self.codec, outputs, self.weights.model)
        if self.flip_test:
            mirrored = self.engine(np.ascontiguousarray(inputs[..., ::-1]))
            outputs = self.codec.merge_flipped(outputs, mirrored, self.weights.keypoint_set.flip_index)
        return outputs, matrix, input_size

    def decode(self, outputs: Mapping[str, np.ndarray], matrix: np.ndarray, input_size: geometry.Size) -> Poses:
        """Turn the outputs for one input of an image into poses.

        Args:
            outputs: of the network.
            matrix, input_size: as of `image_input`.
        """
        return self._in_image(*self.codec.decode(outputs, input_size), matrix)

    def _in_image(
        self, keypoints: np.ndarray, scores: np.ndarray, person_scores: np.ndarray, matrix: np.ndarray
    ) -> Poses:
        flat = geometry.transform(keypoints.reshape(1, -1, 2), geometry.invert(matrix))
        keypoints = flat.reshape(keypoints.shape).astype(np.float32)
        boxes = geometry.boxes_around(keypoints)
        poses = Poses(keypoints, scores, boxes, person_scores, self.weights.keypoint_set)
        return calibrated(poses, self.weights.calibration)


def check_whole_images(weights: Weights) -> None:
    """Raise WeightsError where a record is not of a network that takes whole images."""
    if weights.task == "top_down":
        raise WeightsError(f"{weights.name} finds one person per crop, not the persons of an image; use litepose_xs.")
    if weights.convention != "classic":
        raise WeightsError(f"{weights.name} must have the convention 'classic', in which whole images are laid.")


def short_sides(weights: Weights, scales: Sequence[float]) -> list[int]:
    """Return the short sides of a network's inputs, multiples of 64, the one nearest to the record's first; of a
    letterbox, whose size is fixed, the record's alone.

    Args:
        scales: factors on the record's input size.

    Raises:
        InputError: there is no scale, or one is not above 0 or larger than 10, or there are any with a letterbox.
    """
    if weights.fit == "letterbox":
        if tuple(scales) != (1.0,):
            raise InputError(f"{weights.name} takes images of one size: leave scales out.")
        return [weights.input_size[0]]
    if not len(scales) or not all(0 < scale <= LARGEST_SCALE for scale in scales):  # NaN compares false
        raise InputError(f"scales must be one number or more, above 0 and up to {LARGEST_SCALE}, not {[*scales]}.")
    sides = {max(64, round(weights.input_size[0] * scale / 64) * 64) for scale in scales}
    return sorted(sides, key=lambda side: abs(side - weights.input_size[0]))
