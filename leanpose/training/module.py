"""What Lightning trains: a network, its optimizer, the training step of its objective, predictions for validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from leanpose.data.annotations import AnnotatedSet
from leanpose.data.coco import CocoSet
from leanpose.errors import InputError, WeightsError, suggest
from leanpose.evaluation.evaluate import predict_image
from leanpose.evaluation.finding import LEAST_SCORE, Found, detector_figures, find_persons
from leanpose.evaluation.pairs import near_share
from leanpose.inference.detect import NetworkDetector
from leanpose.inference.engines import TorchEngine
from leanpose.inference.predictor import Predictor
from leanpose.keypoint_sets import KeypointSet
from leanpose.models.checkpoints import save_network
from leanpose.structures import ImageBoxes
from leanpose.training.depths import depths
from leanpose.training.depthwise import keep_depthwise_in_float32
from leanpose.training.muon import Muon
from leanpose.training.objectives import Batch, Losses, create_objective
from leanpose.training.recipe import Recipe
from leanpose.training.teacher import Teacher
from leanpose.weights.record import Weights

CHECK_LOSS_EVERY = 20  # steps


class PoseTraining(LightningModule):
    """One stage of a recipe: the training step, the optimizer, and predictions for validation.

    Args:
        recipe: what to train and how.
        network: its network.
        total_steps: optimizer steps of the stage, for the schedule; None: without an end.
        images: what to predict in validation.
        teacher: what is learned beside the annotations.
        scored: keypoints that are predicted in validation, a part of the recipe's; None: all of them.

    Raises:
        InputError: the network has no part that the recipe freezes.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: torch.nn.Module,
        total_steps: int | None,
        images: Sequence[ImageBoxes] = (),
        teacher: Teacher | None = None,
        scored: KeypointSet | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.images = images
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        keep_depthwise_in_float32(network)
        self.network = network
        self.total_steps = total_steps
        self.record = recipe.weights()
        self.scored = scored or self.record.keypoint_set
        self.objective = create_objective(recipe, getattr(network, "auxiliary", {}))
        self.results: list[dict[str, Any]] = []
        self._losses: list[torch.Tensor] = []
        self._predictor: Any
        # methods, not modules: modules would stand in the checkpoint, the network a second time
        self._forward = torch.compile(network.__call__) if recipe.compile else network.__call__
        self._teach = teacher
        self._frozen = freeze(network, recipe.freeze)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if self.recipe.freeze_batch_norm:
            for module in self.network.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for part in self._frozen:
            part.eval()

    def views(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        """Return normalised inputs (B, 3, h, w) and what is annotated in them, in input pixels."""
        with torch.no_grad():
            images, annotations = self.objective.views(batch)
        return self.normalised(images), annotations

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return network inputs of images (B, 3, h, w) in 0..255."""
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (self.record.mean, self.record.std))
        inputs = (images - mean) / std
        return inputs.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else inputs

    def losses(self, batch: Batch) -> Losses:
        """Return named scalars; their sum is the loss of the step."""
        inputs, annotations = self.views(batch)
        if self._teach is not None:
            annotations |= {f"teacher_{name}": values for name, values in self._teach(inputs).items()}
        return self.objective.losses(self._forward(inputs), annotations)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        losses = self.losses(batch)
        loss = torch.stack([*losses.values()]).sum()
        self.log("loss", loss.detach(), prog_bar=True)
        if len(losses) > 1:
            self.log_dict({f"loss {name}": value.detach() for name, value in losses.items()})
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        if batch_index % CHECK_LOSS_EVERY and not self.trainer.is_last_batch:
            return  # looking at a loss makes a GPU wait
        if not torch.stack(self._losses[-CHECK_LOSS_EVERY:]).isfinite().all():
            raise self._diverged("The loss is no finite number any more")

    def _diverged(self, what: str) -> InputError:
        return InputError(
            f"{what} in epoch {self.current_epoch + 1}: lower learning_rate, now {self.recipe.learning_rate:g}, or set "
            "gradient_clip."
        )

    def mean_loss(self) -> float:
        """Return the mean loss since the last call."""
        mean = torch.stack(self._losses).mean().item() if self._losses else math.nan
        self._losses.clear()
        return mean

    def evaluated(self) -> torch.nn.Module:
        """Return the network as it is evaluated and kept."""
        return self.network

    def predictor(self) -> Predictor:
        """Return what predicts with the network as it is evaluated, for validation."""
        self._engine = TorchEngine(self.evaluated(), self.record)
        return Predictor(
            self._engine,
            flip_test=self.recipe.flip_test,
            detector=None,
            min_person_score=0.0,
            keypoint_set=self.scored,
        )

    def on_validation_epoch_start(self) -> None:
        self.results = []
        self._predictor = self.predictor()

    def measured(self, annotated: AnnotatedSet) -> dict[str, float]:
        """Return the figures of the network as it is, outside training."""
        self.on_validation_epoch_start()
        for image in range(len(self.images)):
            self.predict(image)
        figures = self.figures(annotated)[0]
        del self._predictor  # which cannot be copied with the module
        return figures

    def figures(self, annotated: AnnotatedSet) -> tuple[dict[str, float], dict[str, float]]:
        """Return the figures of the last validation, 0 to 1: those of the set's metric, and what says more where these
        are equal."""
        metrics = annotated.score(self.results, self.scored)
        return metrics, near_share(annotated, self.results, self.scored)

    def save(self, path: Path, weights: Weights) -> None:
        """Write the network that was evaluated last, with its record."""
        save_network(path, self._engine.network, weights)

    def predict(self, image: int) -> None:
        """Predict one image of the validation set, by its place."""
        self.results += predict_image(self._predictor, self.images[image])

    def validation_step(self, image: int, batch_index: int) -> None:
        try:
            self.predict(image)
        except WeightsError:  # NaN from a network that trains
            raise self._diverged("The network gives no finite numbers any more: training diverged") from None

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        groups = _parameter_groups(self.network, recipe)
        if recipe.optimizer == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, recipe.learning_rate, momentum=0.9)
        else:
            make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}[recipe.optimizer]
            optimizer = make(groups, recipe.learning_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def learning_rate_factor(self, step: int) -> float:
        """Return the learning rate at an optimizer step as a share of its top."""
        recipe = self.recipe
        warmup = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
        if self.total_steps is None or recipe.epochs is None or (recipe.schedule == "wsd" and not recipe.decay_epochs):
            return warmup
        if recipe.schedule == "wsd":
            decay_steps = self.total_steps * recipe.decay_epochs / recipe.epochs
            return warmup * min(1.0, (self.total_steps - step) / decay_steps)
        if recipe.schedule == "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.total_steps)))
        epoch = step * recipe.epochs // self.total_steps
        return warmup * 0.1 ** sum(epoch >= milestone for milestone in recipe.milestones)


class DetectorTraining(PoseTraining):
    """As `PoseTraining`, for networks that find boxes: the figure is their recall.

    Args:
        annotated: the validation set, which must name everybody in an image.
    """

    def __init__(self, recipe: Recipe, network: torch.nn.Module, total_steps: int | None, annotated: CocoSet) -> None:
        super().__init__(recipe, network, total_steps, annotated.images(None))
        self.annotated = annotated

    def on_validation_epoch_start(self) -> None:
        self.found: list[Found] = []
        self._engine = TorchEngine(self.evaluated(), self.record)
        self._predictor = NetworkDetector(self._engine, score_threshold=LEAST_SCORE)

    def predict(self, image: int) -> None:
        self.found.append(find_persons(self._predictor, self.annotated, self.images[image]))

    def figures(self, annotated: AnnotatedSet) -> tuple[dict[str, float], dict[str, float]]:
        return detector_figures(self.found), {}


def freeze(network: torch.nn.Module, names: Sequence[str]) -> list[torch.nn.Module]:
    """Stop parts of a network from learning, and return them.

    Raises:
        InputError: the network has no such part, or nothing is left to learn.
    """
    parts = dict(network.named_modules())
    for name in names:
        if name not in parts or not name:
            top = [child for child, _ in network.named_children()]
            raise InputError(f"freeze: the network has no part '{name}'.{suggest(name, top)}")
        parts[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError("freeze leaves nothing of the network to learn: name fewer parts.")
    return [parts[name] for name in names]


def _parameter_groups(network: torch.nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return what the optimizer gets: kernels with weight decay, vectors without, and with `layer_decay` a learning
    rate for each depth (`leanpose.training.depths`) at which the network has parameters."""
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    depth_of = depths(network)
    head = max(depth_of.values())
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        steps = 0 if recipe.layer_decay == 1 else head - depth_of[name]
        groups.setdefault((steps, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": recipe.learning_rate * recipe.layer_decay**steps,
            "weight_decay": recipe.weight_decay if kernels else 0.0,
        }
        for (steps, kernels), parameters in groups.items()
    ]
