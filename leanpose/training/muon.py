"""The optimizer Muon: AdamW whose updates of large kernels are turned into nearly orthogonal matrices.

Source: Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein, "Muon: An optimizer for hidden layers in neural networks",
2024, kellerjordan.github.io/posts/muon; the size of an update independent of a kernel's shape: Liu et al., "Muon is
Scalable for LLM Training", arXiv 2502.16982. torch.optim.Muon takes matrices alone, no kernels of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

SMALLEST = 32  # rows and columns of a kernel, seen as a matrix, from which on updates are made orthogonal
MOMENTUM = 0.95
UPDATE_SIZE = 0.6  # root mean square of an orthogonal update, as a share of the learning rate; AdamW's is about 0.3
ITERATION = (3.4445, -4.7750, 2.0315)  # coefficients of the published Newton-Schulz iteration
ITERATIONS = 5


class Muon(torch.optim.AdamW):
    """Update kernels whose matrix (output channels, all else) has 32 rows and columns by Muon, all others by AdamW.

    So stems, depthwise kernels, heads of few keypoints and vectors are AdamW's, at the same learning rate.

    Args:
        params, lr: as of AdamW; weight decay stands in the groups.
    """

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, lr)
        for group in [*self.param_groups]:
            matrices = [parameter for parameter in group["params"] if is_matrix(parameter)]
            group["params"] = [parameter for parameter in group["params"] if not is_matrix(parameter)]
            group["orthogonal"] = False
            if matrices:
                self.add_param_group({**group, "params": matrices, "orthogonal": True})
        self.param_groups = [group for group in self.param_groups if group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:  # with all groups in place: it sets their gradients to zero and clips them
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["orthogonal"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, group["lr"], group["weight_decay"])
        return loss

    def _update(self, kernel: Tensor, learning_rate: float, weight_decay: float) -> None:
        assert kernel.grad is not None
        state = self.state[kernel]
        if not state:
            state |= {"momentum": torch.zeros_like(kernel), "step": torch.zeros(())}  # AdamW reads a step when it loads
        momentum = state["momentum"].lerp_(kernel.grad, 1 - MOMENTUM)
        update = orthogonalised(kernel.grad.lerp(momentum, MOMENTUM).flatten(1)).view(kernel.shape)
        size = UPDATE_SIZE * max(kernel.flatten(1).shape) ** 0.5
        kernel.mul_(1 - learning_rate * weight_decay).add_(update, alpha=-learning_rate * size)


def is_matrix(parameter: Tensor) -> bool:
    """Return whether a parameter's updates are made orthogonal."""
    return parameter.ndim > 1 and min(parameter.shape[0], parameter[0].numel()) >= SMALLEST


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return a matrix (rows, columns) of the same singular vectors whose singular values are all near 1, about 0.7 to
    1.2; those that are very small against the largest are less."""
    a, b, c = ITERATION
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
