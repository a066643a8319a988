"""Training of the networks inside a supernet: at each step one of them, with an input size; evaluated is the whole."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.func import functional_call

from leanpose.models.batch_norm import calibrate_batch_norm
from leanpose.models.litepose_arch import LitePoseArch
from leanpose.models.litepose_supernet import LitePoseSupernet
from leanpose.structures import ImageBoxes
from leanpose.training.crops import CropSet
from leanpose.training.module import PoseTraining
from leanpose.training.objectives import Batch, BottomUp, Losses
from leanpose.training.recipe import Recipe

CALIBRATION_BATCHES = 16


class SupernetTraining(PoseTraining):
    """As `PoseTraining`, for a recipe with the key supernet.

    What a process draws at a step is a function of the seed, the step and the process's rank, so that a resumed run is
    an unbroken one. The statistics of the batch norms, which all drawn networks share, fit none of them: evaluated is a
    copy of the whole supernet with statistics of its own, computed from training views.

    Args:
        crops: the training crops; its seed is that of the draws.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: torch.nn.Module,
        total_steps: int | None,
        images: Sequence[ImageBoxes],
        crops: CropSet,
    ) -> None:
        super().__init__(recipe, network, total_steps, images)
        self.space = recipe.search_space
        self.crops = crops

    def drawn(self, step: int, rank: int) -> LitePoseArch:
        """Return the network and input size of a process at an optimizer step."""
        return self.space.sample(np.random.default_rng((self.crops.seed, step, rank)))

    def losses(self, batch: Batch) -> Losses:
        arch = self.drawn(self.global_step, self.global_rank)
        inputs, annotations = self._views_at(batch, arch.input_size)
        outputs = self._forward(inputs, arch)
        losses = self.objective.losses(outputs, annotations)
        assert self.recipe.supernet is not None and isinstance(self.objective, BottomUp)
        weight = self.recipe.supernet.distillation
        if weight > 0:
            losses["widest"] = weight * self.objective.likeness(outputs, self._widest(inputs), annotations)
        return losses

    def _views_at(self, batch: Batch, side: int) -> tuple[torch.Tensor, Batch]:
        """Return what `views` does, at an input size."""
        assert isinstance(self.objective, BottomUp)
        with torch.no_grad():
            images, annotations = self.objective.views(batch, (side, side))
        return self.normalised(images), annotations

    def _widest(self, inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return the outputs of the whole supernet, normalised by the statistics of this batch, which leave no trace in
        its running ones."""
        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        with torch.no_grad():
            outputs: Mapping[str, torch.Tensor] = functional_call(self.network, buffers, (inputs,))
        return outputs

    def evaluated(self) -> torch.nn.Module:
        """Return a copy of the whole supernet whose batch norms have statistics of their own."""
        network = copy.deepcopy(self.network)
        assert isinstance(network, LitePoseSupernet)
        calibrate_batch_norm(network, self._calibration_inputs())
        return network

    def _calibration_inputs(self) -> Iterator[torch.Tensor]:
        """Yield batches of views at the input size, always the same, from all of the training set."""
        batch_size = self.recipe.batch_size
        count = min(len(self.crops), CALIBRATION_BATCHES * batch_size)
        draws = [(int(position), i) for i, position in enumerate(np.linspace(0, len(self.crops) - 1, count))]
        for first in range(0, count, batch_size):
            batch = self.crops.__getitems__(draws[first : first + batch_size])
            yield self._views_at(
                {name: values.to(self.device) for name, values in batch.items()}, self.recipe.input_size[0]
            )[0]
