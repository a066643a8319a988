"""What a batch asks of a network: random views of its crops, targets in heat maps, losses. One class a paradigm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch.nn.functional import interpolate

from leanpose.codecs import create_codec
from leanpose.codecs.associative_embedding import AssociativeEmbedding
from leanpose.codecs.center_box import CenterBox
from leanpose.data.augment import augment, draw_views
from leanpose.data.scenes import ALL_KNOWN, BOX_KNOWN
from leanpose.errors import InputError, WeightsError, suggest
from leanpose.geometry import Size, input_to_heatmap
from leanpose.losses import box_giou_loss, center_focal_loss, heatmap_mse, masked_heatmap_mse, tag_losses
from leanpose.models.layers import Auxiliary
from leanpose.recipe import Recipe
from leanpose.runtime import top_down_heatmaps

Batch = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]

LARGEST_LOG = 8.0  # of a distance in map pixels; keeps the exponential finite
BOTTOM_UP_WEIGHTS = {"heatmaps": 1.0, "push": 1e-3, "pull": 1e-3, "centers": 0.02, "boxes": 0.05}


class Objective(Protocol):
    """The part of the training step that depends on what the network predicts."""

    def views(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        """Return images (B, 3, h, w) in 0..255 and what is annotated in them, in input pixels."""
        ...

    def check(self, outputs: Mapping[str, torch.Tensor]) -> None:
        """Raise WeightsError where a network's outputs are not those of this paradigm."""
        ...

    def losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        """Return named scalars; their sum is the loss."""
        ...


def create_objective(recipe: Recipe, network: torch.nn.Module) -> Objective:
    """Return the objective of a recipe and its network: that of its views."""
    return BottomUp(recipe) if recipe.views else TopDown(recipe, getattr(network, "auxiliary", {}))


class TopDown:
    """One person a crop: heat maps of its keypoints, also those that a network has for training only.

    Args:
        auxiliary: the training-only heat maps by output name, as the network lists them.
    """

    def __init__(self, recipe: Recipe, auxiliary: Mapping[str, Auxiliary]) -> None:
        self.recipe, self.record = recipe, recipe.weights()
        self.codec = create_codec(recipe.codec, **recipe.codec_options)
        self.maps = {"heatmaps": Auxiliary(), **auxiliary}
        defaults = {name: weight for name, (_, weight) in self.maps.items()}
        self.weights = _loss_weights(recipe, defaults | ({"teacher": 1.0} if recipe.teacher else {}))

    def views(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        record = self.record
        images, keypoints, visibility = augment(
            batch["crops"],
            batch["keypoints"],
            batch["visibility"],
            batch["noise"],
            self.recipe.augmentation,
            self.recipe.training_size,
            record.keypoint_set,
            record.convention,
        )
        return images, {"keypoints": keypoints, "visibility": visibility}

    def check(self, outputs: Mapping[str, torch.Tensor]) -> None:
        top_down_heatmaps(outputs, self.recipe.model)

    def losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        size = _size(top_down_heatmaps(outputs, self.recipe.model))
        points = input_to_heatmap(annotations["keypoints"], self.recipe.training_size, size, self.record.convention)
        target, weights = self.codec.encode(points, annotations["visibility"], size)  # (B, K, h / s, w / s), (B, K)
        losses = {}
        for name, (keypoints, _) in self.maps.items():
            shown = slice(None) if keypoints is None else list(keypoints)
            loss = heatmap_mse(
                outputs[name].float(), target[:, shown], weights[:, shown], self.recipe.foreground_weight
            )
            losses[name] = self.weights[name] * loss
        if "teacher" in annotations:
            taught = annotations["teacher"].float().clamp(min=0)  # of all keypoints, labelled or not
            everywhere = torch.ones_like(weights)
            loss = heatmap_mse(outputs["heatmaps"].float(), taught, everywhere, self.recipe.foreground_weight)
            losses["teacher"] = self.weights["teacher"] * loss
        return losses


class BottomUp:
    """All persons of a view: heat maps at two scales, tags that tell them apart, and, if the network has the head for
    it, where each person is."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.record = recipe, recipe.weights()
        self.codec = AssociativeEmbedding(**recipe.codec_options)
        self.person_codec = CenterBox()
        self.weights = _loss_weights(recipe, BOTTOM_UP_WEIGHTS)

    def views(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        keypoint_set, crops = self.record.keypoint_set, batch["crops"]
        views = draw_views(
            batch["noise"],
            self.recipe.augmentation,
            (crops.shape[1], crops.shape[2]),
            self.recipe.training_size,
            self.record.convention,
        )
        images = views.images(crops)
        return images[:, :3], {
            "known": images[:, 3:],  # (B, 1, h, w)
            "keypoints": views.names(views.points(batch["keypoints"]), keypoint_set, dim=2),  # (B, P, K, 2)
            "visibility": views.names(batch["visibility"], keypoint_set, dim=2),  # (B, P, K)
            "boxes_xyxy": views.boxes(batch["boxes_xyxy"]),  # (B, P, 4)
        }

    def check(self, outputs: Mapping[str, torch.Tensor]) -> None:
        if "heatmaps_4" not in outputs:
            raise WeightsError(
                f"'{self.recipe.model}' does not find people bottom-up: leave views out and use another codec."
            )

    def losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        heatmaps = torch.zeros((), device=outputs["tags"].device)
        for name in ("heatmaps_2", "heatmaps_4"):
            predicted = outputs[name].float()
            target, indices, valid = self.codec.encode(
                self._on_maps(annotations["keypoints"], predicted), annotations["visibility"], _size(predicted)
            )
            known = self._known(annotations, predicted) > (ALL_KNOWN + BOX_KNOWN) / 2
            weight = self.recipe.foreground_weight
            heatmaps = heatmaps + masked_heatmap_mse(predicted, target, known.float(), weight).mean()
        push, pull = tag_losses(outputs["tags"].float(), indices, valid)  # at the scale of heatmaps_4
        losses = {"heatmaps": heatmaps, "push": push, "pull": pull}
        if "centers" in outputs:
            losses |= self._person_losses(outputs, annotations)
        return {name: self.weights[name] * value for name, value in losses.items()}

    def _person_losses(self, outputs: Mapping[str, torch.Tensor], annotations: Batch) -> Losses:
        logits, logarithms = outputs["centers"].float(), outputs["box_logs"].float()
        corners = annotations["boxes_xyxy"].unflatten(2, (2, 2))
        boxes = self._on_maps(corners, logits).flatten(2)  # (B, P, 4)
        target, distances, weights = self.person_codec.encode(boxes, boxes.isfinite().all(2), _size(logits))
        known = (self._known(annotations, logits) > BOX_KNOWN / 2).float()
        return {
            "centers": center_focal_loss(logits, target, known),
            "boxes": box_giou_loss(logarithms.clamp(max=LARGEST_LOG).exp(), distances, weights * known),
        }

    def _on_maps(self, points: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        return input_to_heatmap(points, self.recipe.training_size, _size(maps), self.record.convention)

    def _known(self, annotations: Batch, maps: torch.Tensor) -> torch.Tensor:
        """Return what is known at each pixel of maps (B, C, h, w): (B, h, w) in 0..255."""
        return interpolate(annotations["known"], _size(maps), mode="area")[:, 0]


def _loss_weights(recipe: Recipe, defaults: dict[str, float]) -> dict[str, float]:
    """Return the weights of the losses of `defaults`, as far as the recipe does not change them."""
    for name, weight in recipe.loss_weights.items():
        if name not in defaults:
            raise InputError(f"{recipe.model} has no loss '{name}'.{suggest(name, defaults)}")
        if not 0 <= weight < math.inf:
            raise InputError(f"loss_weights.{name} must be at least 0, not {weight}.")
    return defaults | recipe.loss_weights


def _size(maps: torch.Tensor) -> Size:
    return maps.shape[2], maps.shape[3]
