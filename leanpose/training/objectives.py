"""What a batch asks of a network: random views of its crops, targets in heatmaps, losses. One class per task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.functional import interpolate

from leanpose.codecs import AssociativeEmbedding, CenterBox, TopDownCodec, codec_of
from leanpose.codecs.heatmap import HeatmapCodec
from leanpose.codecs.losses import box_giou_loss, center_focal_loss, masked_heatmap_mse, tag_losses
from leanpose.data.scenes import ALL_KNOWN, BOX_KNOWN
from leanpose.errors import InputError, suggest
from leanpose.geometry import Convention, Size, input_to_heatmap
from leanpose.keypoint_sets import KeypointSet
from leanpose.models.layers import Auxiliary
from leanpose.training.augment import Augmentation, augment, draw_views
from leanpose.training.recipe import Recipe

Batch = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]

HEATMAPS = ("heatmaps_2", "heatmaps_4")  # the second has the scale of the tags
LARGEST_LOG = 8.0  # of a distance in map pixels; keeps the exponential finite
PERSON_WEIGHTS = {"centers": 1.0, "boxes": 2.0}
BOTTOM_UP_WEIGHTS = {"heatmaps": 1.0, "push": 1e-3, "pull": 1e-3, "centers": 0.02, "boxes": 0.05}


class Objective(Protocol):
    """The part of the training step that depends on the task.

    Attributes:
        codec: its `output_names` are what the network must give.
    """

    codec: Any

    def views(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        """Return images (B, 3, h, w) in 0..255 and what is annotated in them, in input pixels."""
        ...

    def losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        """Return named scalars; their sum is the loss."""
        ...


@dataclass(frozen=True)
class ViewSettings:
    """How views are drawn from crops.

    Attributes:
        augmentation: how strongly they differ.
        input_size: their (height, width).
        keypoint_set: of the annotations.
        convention: of the crops, see leanpose.geometry.
    """

    augmentation: Augmentation
    input_size: Size
    keypoint_set: KeypointSet
    convention: Convention


def create_objective(recipe: Recipe, auxiliary: Mapping[str, Auxiliary]) -> Objective:
    """Return the objective of a recipe: that of its task.

    Args:
        auxiliary: the training-only heatmaps of its network by output name, as the network lists them.
    """
    record = recipe.weights()
    views = ViewSettings(recipe.augmentation, recipe.training_size, record.keypoint_set, record.convention)
    codec, options = codec_of(record), (recipe.loss_weights, recipe.foreground_weight)
    if recipe.absent_weight and record.task != "top_down":
        raise InputError("absent_weight is for one person per view: leave it out, maps of scenes are empty elsewhere.")
    if record.task == "detection":
        return Persons(codec, views, auxiliary, recipe.loss_weights)
    if record.task == "top_down":
        return TopDown(codec, views, auxiliary, *options, recipe.absent_weight, taught=recipe.teacher is not None)
    return BottomUp(codec, CenterBox(**record.box_codec_options), views, *options)


class TopDown:
    """One person per crop: what the codec reads, and the outputs that a network has for training only.

    Args:
        codec: draws the targets and compares them with the outputs.
        views: how views are drawn.
        auxiliary: training-only outputs as the network lists them; their targets are those of the final ones.
        loss_weights: of the losses by name, where they are not 1 or the network's.
        foreground_weight: see leanpose.codecs.losses.
        absent_weight: how much the empty maps of keypoints that are not in the view count.
        taught: whether what a teacher finds stands in the annotations, under "teacher_" and the names of `Teacher`.

    Raises:
        InputError: there is no loss of a name in loss_weights, or a weight is negative or no number;
            or absent_weight is not 0 and the codec reads no heatmaps, which alone can be empty.
    """

    def __init__(
        self,
        codec: TopDownCodec,
        views: ViewSettings,
        auxiliary: Mapping[str, Auxiliary],
        loss_weights: Mapping[str, float],
        foreground_weight: float = 0.0,
        absent_weight: float = 0.0,
        taught: bool = False,
    ) -> None:
        if absent_weight and not isinstance(codec, HeatmapCodec):
            raise InputError("absent_weight needs a codec with heatmaps, which can be empty: leave it out.")
        self.absent_weight = absent_weight
        self.codec, self.settings, self.auxiliary = codec, views, auxiliary
        self.foreground_weight = foreground_weight
        self.main = codec.output_names[0]
        defaults = {self.main: 1.0} | {name: weight for name, (_, weight) in auxiliary.items()}
        self.weights = _loss_weights(loss_weights, defaults | ({"teacher": 1.0} if taught else {}))

    def views(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        settings = self.settings
        images, keypoints, weights = augment(
            batch["crops"],
            batch["keypoints"],
            batch["weights"],
            batch["noise"],
            settings.augmentation,
            settings.input_size,
            settings.keypoint_set,
            settings.convention,
        )
        return images, {"keypoints": keypoints, "weights": weights}

    def losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        read = {name: outputs[name] for name in self.codec.output_names}
        weights = annotations["weights"]
        targets, learned = self.codec.encode(
            annotations["keypoints"], weights.clamp(min=0), read, self.settings.input_size
        )
        learned = learned + self.absent_weight * _absence(weights, learned)
        losses = {self.main: self.codec.loss(read, targets, learned, self.foreground_weight)}
        for name, (keypoints, _) in self.auxiliary.items():
            shown = slice(None) if keypoints is None else list(keypoints)
            suffix = name.removeprefix(self.main)
            early = {output: outputs[output + suffix] for output in read}
            target = {output: maps[:, shown] for output, maps in targets.items()}
            losses[name] = self.codec.loss(early, target, learned[:, shown], self.foreground_weight)
        if "teacher_weights" in annotations:  # of all keypoints, labelled or not
            weights = annotations["teacher_weights"]
            if "teacher_keypoints" in annotations:
                points = annotations["teacher_keypoints"]
                taught, weights = self.codec.encode(points, weights, read, self.settings.input_size)
            else:
                taught = {output: annotations[f"teacher_{output}"] for output in read}
            losses["teacher"] = self.codec.loss(read, taught, weights, self.foreground_weight)
        return {name: self.weights[name] * loss for name, loss in losses.items()}


class _Scenes:
    """What is common to the objectives that learn all persons of a view."""

    def __init__(self, box_codec: CenterBox, views: ViewSettings) -> None:
        self.box_codec, self.settings = box_codec, views

    def views(self, batch: Batch, input_size: Size | None = None) -> tuple[torch.Tensor, Batch]:
        """As of `Objective`, at the input size of the settings, or what they show then at another one."""
        settings, crops = self.settings, batch["crops"]
        views = draw_views(
            batch["noise"],
            settings.augmentation,
            (crops.shape[1], crops.shape[2]),
            settings.input_size,
            settings.convention,
        )
        if input_size is not None:
            views = views.at_size(input_size, settings.convention)
        images = views.images(crops)
        return images[:, :3], {
            "known": images[:, 3:],  # (B, 1, h, w)
            "keypoints": views.names(views.points(batch["keypoints"]), settings.keypoint_set, dim=2),  # (B, P, K, 2)
            "visibility": views.names(batch["visibility"], settings.keypoint_set, dim=2),  # (B, P, K)
            "boxes_xyxy": views.boxes(batch["boxes_xyxy"]),  # (B, P, 4)
        }

    def _person_losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch, suffix: str = "") -> Losses:
        """Return the losses of the outputs of a person head, whose names end with the suffix."""
        logits, logarithms = outputs[f"centers{suffix}"].float(), outputs[f"box_logs{suffix}"].float()
        corners = annotations["boxes_xyxy"].unflatten(2, (2, 2))
        boxes = self._on_maps(annotations, corners, logits).flatten(2)  # (B, P, 4)
        target, distances, weights = self.box_codec.encode_maps(boxes, boxes.isfinite().all(2), _size(logits))
        known = (self._known(annotations, logits) > BOX_KNOWN / 2).float()
        return {
            "centers": center_focal_loss(logits, target, known),
            "boxes": box_giou_loss(logarithms.clamp(max=LARGEST_LOG).exp(), distances, weights * known),
        }

    def _on_maps(self, annotations: Batch, points: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        return input_to_heatmap(points, _size(annotations["known"]), _size(maps), self.settings.convention)

    def _known(self, annotations: Batch, maps: torch.Tensor) -> torch.Tensor:
        """Return what is known at each pixel of maps (B, C, h, w): (B, h, w) in 0..255."""
        return interpolate(annotations["known"], _size(maps), mode="area")[:, 0]


class Persons(_Scenes):
    """Where the persons of a view are; outputs that are for training only learn the same.

    Args:
        codec: draws the targets.
        views, auxiliary, loss_weights: as of `TopDown`; the weights' defaults are PERSON_WEIGHTS.
    """

    def __init__(
        self,
        codec: CenterBox,
        views: ViewSettings,
        auxiliary: Mapping[str, Auxiliary],
        loss_weights: Mapping[str, float],
    ) -> None:
        super().__init__(codec, views)
        self.codec = codec
        main = codec.output_names[0]
        self.parts = {"": 1.0} | {name.removeprefix(main): weight for name, (_, weight) in auxiliary.items()}
        self.weights = _loss_weights(loss_weights, PERSON_WEIGHTS)

    def losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        losses = {}
        for suffix, share in self.parts.items():
            for name, value in self._person_losses(outputs, annotations, suffix).items():
                losses[name + suffix] = share * self.weights[name] * value
        return losses


class BottomUp(_Scenes):
    """All persons of a view: heatmaps at two scales, tags that tell them apart, and, if the network has the head for
    it, where each person is.

    Args:
        codec, box_codec: draw the targets.
        views, loss_weights, foreground_weight: as of `TopDown`; the weights' defaults are BOTTOM_UP_WEIGHTS.
    """

    def __init__(
        self,
        codec: AssociativeEmbedding,
        box_codec: CenterBox,
        views: ViewSettings,
        loss_weights: Mapping[str, float],
        foreground_weight: float = 0.0,
    ) -> None:
        super().__init__(box_codec, views)
        self.codec, self.foreground_weight = codec, foreground_weight
        self.weights = _loss_weights(loss_weights, BOTTOM_UP_WEIGHTS)

    def losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        heatmaps = torch.zeros((), device=outputs["tags"].device)
        for name in HEATMAPS:
            predicted = outputs[name].float()
            target, indices, valid = self.codec.encode_maps(
                self._on_maps(annotations, annotations["keypoints"], predicted),
                annotations["visibility"],
                _size(predicted),
            )
            heatmaps = heatmaps + self._heatmap_loss(predicted, target, annotations)
        push, pull = tag_losses(outputs["tags"].float(), indices, valid)
        losses = {"heatmaps": heatmaps, "push": push, "pull": pull}
        if "centers" in outputs:
            losses |= self._person_losses(outputs, annotations)
        return {name: self.weights[name] * value for name, value in losses.items()}

    def likeness(
        self, outputs: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], annotations: Batch
    ) -> torch.Tensor:
        """Return the squared error between the heatmaps of two networks for the same views, where persons are annotated
        or there are none; values of the wanted ones below 0 count as 0."""
        losses = [
            self._heatmap_loss(outputs[name].float(), wanted[name].float().clamp(min=0), annotations)
            for name in HEATMAPS
        ]
        return torch.stack(losses).sum()

    def _heatmap_loss(self, predicted: torch.Tensor, target: torch.Tensor, annotations: Batch) -> torch.Tensor:
        known = self._known(annotations, predicted) > (ALL_KNOWN + BOX_KNOWN) / 2
        return masked_heatmap_mse(predicted, target, known.float(), self.foreground_weight).mean()


def _absence(weights: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
    """Return (B, K) how sure it is that keypoints are not in the view: those whose weight is below 0, and those that
    are labelled (weight above 0) but draw nothing (learned is 0)."""
    return torch.where((weights < 0) | (learned == 0), weights.abs(), 0.0)


def _loss_weights(changes: Mapping[str, float], defaults: dict[str, float]) -> dict[str, float]:
    """Return the weights of the losses of `defaults`, as far as they are not changed."""
    for name, weight in changes.items():
        if name not in defaults:
            raise InputError(f"loss_weights: there is no loss '{name}'.{suggest(name, defaults)}")
        if not 0 <= weight < math.inf:
            raise InputError(f"loss_weights.{name} must be at least 0, not {weight}.")
    return defaults | dict(changes)


def _size(maps: torch.Tensor) -> Size:
    return maps.shape[2], maps.shape[3]
