"""A trained network that teaches another one: what it finds in the same views, as targets."""

from __future__ import annotations

import torch
from torch.nn.functional import grid_sample

from leanpose.codecs import check_outputs, codec_of
from leanpose.errors import InputError
from leanpose.geometry import Size, grid_center
from leanpose.keypoint_sets import mapping
from leanpose.weights.record import Weights

Targets = dict[str, torch.Tensor]


class Teacher:
    """A top-down network whose findings are learned; keypoints are joined by name.

    Where it draws the same maps or vectors as the pupil, of the same views, these are the targets; else it is the
    keypoints that it decodes, each counting by its score.

    Args:
        network: in evaluation mode.
        record: of the network.
        pupil: the record of what is trained.
        input_size: (height, width) of the views that the pupil trains on.

    Raises:
        InputError: the network does not find one person per input, or shares no keypoint with the pupil.
        WeightsError: it does not give what its codec reads.
    """

    def __init__(self, network: torch.nn.Module, record: Weights, pupil: Weights, input_size: Size) -> None:
        self.network, self.record, self.pupil, self.input_size = network, record, pupil, input_size
        self.places = torch.as_tensor(mapping(record.keypoint_set, pupil.keypoint_set))  # of our keypoints in theirs
        self.codec = codec_of(record)
        if record.task != "top_down" or not (self.places >= 0).any():
            raise InputError(
                f"{record.name} cannot teach: it must find one person per input, and at least one keypoint of "
                f"{pupil.keypoint_set.name}."
            )
        with torch.inference_mode():
            check_outputs(self.codec, network(torch.zeros(1, 3, *record.input_size)), record.name)
        self.shares_views = (record.input_size, record.convention) == (input_size, pupil.convention)
        codecs = self.codec, codec_of(pupil)
        theirs, ours = ((c.output_names, getattr(c, "sigma", None), getattr(c, "split", None)) for c in codecs)
        self.shares_targets = self.shares_views and theirs == ours
        self.middle = grid_center(record.input_size, record.convention)
        self.pupils_middle = grid_center(input_size, pupil.convention)
        self.ratio = self.middle[1] / self.pupils_middle[1]  # of the teacher's pixels, one of the pupil's

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self.network.to(device)
        self.places = self.places.to(device)

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor) -> Targets:
        """Return targets by the names of outputs, (B, K, ...) each, or "keypoints" (B, K, 2) in input pixels of the
        pupil; and their "weights" (B, K), 0 where the teacher lacks a keypoint.

        Args:
            inputs: (B, 3, h, w) as the pupil takes them.
        """
        found = self.network(self._normalised(self._views(inputs)))
        outputs = {name: found[name].float() for name in self.codec.output_names}
        known = (self.places >= 0).float().expand(len(inputs), -1)
        if self.shares_targets:  # heatmaps are at least 0, as those that are drawn
            taught = {name: maps.clamp(min=0) if maps.ndim == 4 else maps for name, maps in outputs.items()}
            return {name: self._ours(maps) for name, maps in taught.items()} | {"weights": known}
        arrays = {name: maps.cpu().numpy() for name, maps in outputs.items()}
        keypoints, scores = (torch.as_tensor(a) for a in self.codec.decode(arrays, self.record.input_size))
        keypoints = (keypoints - torch.tensor(self.middle)) / self.ratio + torch.tensor(self.pupils_middle)
        points, weights = (self._ours(values.to(inputs.device)) for values in (keypoints, scores.clamp(0, 1)))
        return {"keypoints": points, "weights": known * weights}

    def _ours(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (B, K, ...) of our keypoints; anything where the teacher has no such keypoint."""
        return values.index_select(1, self.places.clamp(min=0))

    def _views(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs of the pupil in the size and convention of the teacher, bilinear, the mean colour outside."""
        if self.shares_views:
            return inputs
        sides = (torch.arange(side, device=inputs.device, dtype=torch.float32) for side in self.record.input_size)
        y, x = torch.meshgrid(*sides, indexing="ij")
        points = (torch.stack([x, y], dim=2) - x.new_tensor(self.middle)) / self.ratio
        points = points + x.new_tensor(self.pupils_middle)  # (height, width, 2) pixels of the pupil
        last = x.new_tensor([self.input_size[1] - 1, self.input_size[0] - 1])
        grid = (2 * points / last - 1).expand(len(inputs), -1, -1, -1)
        return grid_sample(inputs.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True)

    def _normalised(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs that are normalised as those of the pupil as the teacher takes them."""
        keys = ("mean", "std", "channel_order")
        if all(getattr(self.record, key) == getattr(self.pupil, key) for key in keys):
            return inputs
        (mean, std), (their_mean, their_std) = (
            [inputs.new_tensor(values).view(3, 1, 1) for values in (record.mean, record.std)]
            for record in (self.pupil, self.record)
        )
        images = inputs * std + mean
        if self.record.channel_order != self.pupil.channel_order:
            images = images.flip(1)
        return (images - their_mean) / their_std
