"""The optimizer Muon: which parameters it takes, what its updates are, and that a saved state goes on."""

from __future__ import annotations

import copy

import pytest
import torch

from leanpose.models import create_model
from leanpose.training.muon import UPDATE_SIZE, Muon, is_matrix, orthogonalised


@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (64, 64)])
def test_updates_keep_singular_vectors_and_level_their_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalised(matrix) @ right.T  # diagonal, if the vectors are kept
    assert (turned - turned.diag().diag()).abs().max() < 1e-3
    level = turned.diag()[values > values.max() / 10]
    assert level.min() > 0.6
    assert level.max() < 1.3


def test_it_takes_large_kernels_alone() -> None:
    taken = {name for name, parameter in create_model("sfm").named_parameters() if is_matrix(parameter)}
    assert "pyramid1.encoder.0.0.residual.0.weight" in taken  # (64, 64, 3, 3)
    assert "stem.3.weight" in taken  # (64, 32, 3, 3)
    assert not taken & {"stem.0.weight", "head1.weight", "pyramid1.decoder.1.1.gate.weight", "stem.1.weight"}
    assert not any(p.shape[1] == 1 and is_matrix(p) for p in create_model("lpn50").parameters() if p.ndim == 4)


def _network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3), torch.nn.Conv2d(32, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 1, groups=32)
    )


def _groups(network: torch.nn.Module) -> list[dict[str, object]]:
    parameters = [*network.parameters()]
    kernels, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim == 1]
    return [{"params": kernels, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]


def _gradients(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    generator = torch.Generator().manual_seed(0)
    images, wanted = torch.randn(8, 3, 20, 20, generator=generator), torch.randn(8, 32, 16, 16, generator=generator)
    loss = (network(images) - wanted).square().mean()
    loss.backward()
    return loss.item()


def _step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    _gradients(network, optimizer)
    optimizer.step()


def test_a_step_is_orthogonal_for_large_kernels_and_that_of_adamw_for_the_rest() -> None:
    ours, theirs = _network(), _network()
    _step(ours, Muon(_groups(ours), lr=0.01))
    _step(theirs, torch.optim.AdamW(_groups(theirs), lr=0.01))
    for (name, found), expected, start in zip(
        ours.named_parameters(), theirs.parameters(), _network().parameters(), strict=True
    ):
        if name != "1.weight":
            assert torch.equal(found, expected)
            continue
        update = (start * (1 - 0.01 * 0.1) - found).flatten(1) / 0.01
        assert update.square().mean().sqrt().item() == pytest.approx(UPDATE_SIZE, rel=0.2)
        values = torch.linalg.svdvals(update)
        assert values[0] < 3 * values[-1]


def test_a_saved_state_goes_on() -> None:
    unbroken = _network()
    optimizer = Muon(_groups(unbroken), lr=0.01)
    _step(unbroken, optimizer)
    broken = copy.deepcopy(unbroken)
    resumed = Muon(_groups(broken), lr=0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _step(unbroken, optimizer)
    _step(broken, resumed)
    for one, other in zip(unbroken.parameters(), broken.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_closure_sees_all_parameters() -> None:  # Lightning sets gradients to zero in one
    ours, theirs = _network(), _network()
    optimizer, other = (Muon(_groups(network), lr=0.01) for network in (ours, theirs))
    for _ in range(3):
        assert optimizer.step(lambda: _gradients(ours, optimizer)) is not None
        _step(theirs, other)
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(found, expected)
