from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import GOLDENS
from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models import create_model
from leanpose.models.batch_norm import (
    calibrate_batch_norm,
    fold_batch_norm,
    measure_batch_norm,
    unfold_batch_norm,
    unmeasured_norms,
)
from leanpose.networks import NETWORKS

GOLDEN = GOLDENS / "litepose_xs_crowdpose.safetensors"
NOT_WEIGHTS = ("input", "output.", "feat.", "refined.", "infer.")


def perturb(network: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights that do something, and return the network in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in norms(network):
            if norm.track_running_stats:
                norm.running_mean.normal_(0, 0.1, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)
            if norm.affine:
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.3, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def images(count: int = 1, side: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


# ---- fold


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"input_size": (32, 32)} if name.startswith(("vitpose", "rtmpose")) else {}) for name in NETWORKS),
        ("lpn50", {"head": "simcc", "input_size": (32, 32)}),
        ("sfm", {"head": "simcc", "input_size": (32, 32)}),
        ("litepose_xs", {"head": "plain"}),
        ("litepose_xs", {"kernel_size": 3}),
        ("lpn50", {"attention": "se"}),
        ("lpn50", {"attention": "none"}),
    ],
    ids=str,
)
@pytest.mark.usefixtures("small_networks")
def test_networks_without_norms_compute_the_same(name: str, options: dict[str, Any]) -> None:
    network = perturb(create_model(name, 14, **options)).double()
    folded = fold_batch_norm(network)
    assert norms(network)
    kept = (".norm", ".ffn.0") if "rmpg" in name else ()  # RMPG also has norms that do not follow convolutions
    left = [key for key, module in folded.named_modules() if module in norms(folded) and not key.endswith(kept)]
    assert all(key.startswith("head1.") for key in left)  # of sfm_persons, for training only
    assert type(folded) is type(network)
    inputs = images(side=128 if name.startswith("hourglass") else 32).double()
    with torch.no_grad():
        expected, found = network(inputs), folded(inputs)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert (found[key] - values).abs().max() < 1e-9 * values.abs().max(), key


def test_folded_litepose_equals_official() -> None:
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not here; it does not come with the repository")
    golden = pytest.importorskip("safetensors.torch").load_file(GOLDEN)
    network = create_model("litepose_xs", 14)
    network.load_state_dict({key: value for key, value in golden.items() if not key.startswith(NOT_WEIGHTS)})
    with torch.no_grad():
        outputs = fold_batch_norm(network)(golden["input"])
    maps_4 = torch.cat([outputs["heatmaps_4"], outputs["tags"]], dim=1)
    torch.testing.assert_close(maps_4, golden["output.0"], rtol=0, atol=2e-5)
    torch.testing.assert_close(outputs["heatmaps_2"], golden["output.1"], rtol=0, atol=2e-5)


def test_a_sum_of_convolutions_gets_the_shift_once() -> None:
    folded = fold_batch_norm(perturb(create_model("litepose_xs")))
    for refined, raw in zip(folded.deconv_refined, folded.deconv_raw, strict=True):
        assert refined.bias is not None
        assert raw.bias is None


def test_the_network_is_left_as_it_is() -> None:
    network = create_model("lpn50").train()
    before = copy.deepcopy(network.state_dict())
    assert not fold_batch_norm(network).training
    assert network.training
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_folded_network_still_checks_its_input() -> None:
    with pytest.raises(InputError, match="multiples of 16"):
        fold_batch_norm(create_model("lpn50"))(images(side=40))


class Layers(nn.Module):
    """Every way in which a norm can follow convolutions; `wanted` tells which of them can be folded."""

    wanted = ("of_conv", "of_groups", "of_sum", "plain")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.of_conv = nn.BatchNorm2d(4)
        self.groups = nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2)
        self.of_groups = nn.BatchNorm2d(6)
        self.left, self.right, self.third = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1, bias=False), nn.Conv2d(6, 4, 1)
        self.of_sum = nn.BatchNorm2d(4)
        self.for_plain = nn.Conv2d(4, 4, 1)
        self.plain = nn.BatchNorm2d(4, affine=False)
        self.used_again = nn.Conv2d(4, 4, 1)
        self.of_used_again = nn.BatchNorm2d(4)
        self.doubled = nn.Conv2d(4, 4, 1)
        self.of_doubled = nn.BatchNorm2d(4)
        self.called_twice = nn.Conv2d(4, 4, 1)
        self.of_called_twice = nn.BatchNorm2d(4)
        self.narrow = nn.Conv2d(4, 1, 1)
        self.wide = nn.Conv2d(4, 4, 1)
        self.of_broadcast = nn.BatchNorm2d(4)
        self.momentary = nn.Conv2d(4, 4, 1)
        self.of_momentary = nn.BatchNorm2d(4, track_running_stats=False)
        self.activated = nn.Conv2d(4, 4, 1)
        self.of_activated = nn.BatchNorm2d(4)
        self.part = nn.Conv2d(4, 4, 1)
        self.of_part = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.of_groups(self.groups(self.of_conv(self.conv(x))))
        x = self.of_sum(self.left(x) + self.right(x) + self.third(x))
        x = self.plain(self.for_plain(x))
        y = self.used_again(x)
        x = self.of_used_again(y) + y
        y = self.doubled(x)
        x = self.of_doubled(y + y)
        x = self.called_twice(self.of_called_twice(self.called_twice(x)))
        x = self.of_broadcast(self.wide(x) + self.narrow(x))
        x = self.of_momentary(self.momentary(x))
        x = self.of_activated(self.activated(x).relu())
        return {"x": self.of_part(self.part(x) + x)}


def test_only_norms_of_convolutions_alone_are_folded() -> None:
    torch.manual_seed(0)
    network = perturb(Layers())
    folded = fold_batch_norm(network)
    kept = {name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)}
    every = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert every - kept == set(Layers.wanted)
    with torch.no_grad():
        torch.testing.assert_close(folded(images())["x"], network(images())["x"], rtol=1e-4, atol=1e-5)


def test_convolutions_may_share_a_weight() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    network[2].weight = network[0].weight
    perturb(network)
    folded = fold_batch_norm(network)
    assert not norms(folded)
    with torch.no_grad():
        torch.testing.assert_close(folded(images()), network(images()))


# ---- unfold and measure


@pytest.mark.parametrize("make", [lambda: create_model("lpn50"), Layers], ids=["lpn50", "layers"])
def test_a_network_gets_its_folded_values_back(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    trained, network = perturb(make()), make().eval()
    if isinstance(network, Layers):  # which sums three convolutions, two of them with a bias
        trained.left.bias.data.zero_()
    unfold_batch_norm(network, fold_batch_norm(trained))
    with torch.no_grad():
        expected, found = trained(images()), network(images())
    for name, values in expected.items():
        assert (found[name] - values).abs().max() < 1e-4 * values.abs().max(), name


def unfolded(width: int = 8) -> tuple[nn.Module, nn.Module]:
    """Return a network and another one that computes the same without measured statistics."""
    torch.manual_seed(0)

    def make() -> nn.Module:
        convs = [nn.Conv2d(3, width, 3, bias=False), nn.Conv2d(width, width, 3, groups=2, bias=False)]
        return nn.Sequential(convs[0], nn.BatchNorm2d(width), nn.ReLU(), convs[1], nn.BatchNorm2d(width))

    trained, network = perturb(make()), make().eval()
    unfold_batch_norm(network, fold_batch_norm(trained))
    return trained, network


def test_measured_norms_normalise_and_undo_it() -> None:
    trained, network = unfolded()
    assert unmeasured_norms(network) == norms(network)
    batches = [2 * images(3, 16, seed=1) + 1, images(5, 16, seed=2)]
    network.train()
    measure_batch_norm(network, iter(batches))
    assert all(module.training for module in network.modules())
    assert not unmeasured_norms(network)
    network.eval()
    everything = torch.cat(batches)
    with torch.no_grad():
        torch.testing.assert_close(network(everything), trained(everything), rtol=1e-4, atol=1e-4)
        inputs = network[3](network[2](network[1](network[0](everything))))
    torch.testing.assert_close(network[4].running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network[4].running_var, inputs.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)
    network.train()
    with torch.no_grad():  # which now does what eval mode does
        torch.testing.assert_close(network(everything), trained(everything), rtol=1e-3, atol=1e-3)


def test_channels_that_never_change_stay() -> None:
    trained, network = unfolded()
    for one in (trained, network):
        one[0].weight.data[0] = 0
    measure_batch_norm(network, [images(2, 16)])
    with torch.no_grad():
        torch.testing.assert_close(network(images(2, 16)), trained(images(2, 16)), rtol=1e-4, atol=1e-4)


def test_measured_norms_are_left_alone() -> None:
    network = perturb(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    network[1].num_batches_tracked.fill_(1)
    before = copy.deepcopy(network.state_dict())
    measure_batch_norm(network, [images(2, 8)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_nothing_to_measure_on_is_refused() -> None:
    with pytest.raises(InputError, match="at least one batch"):
        measure_batch_norm(unfolded()[1], [])


# ---- calibrate


def test_statistics_become_the_means_of_those_of_the_batches() -> None:
    network = perturb(nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Conv2d(3, 2, 1)))
    batches = [2.0 * images(4, 8, seed=1) + 1, images(2, 8, seed=2), images(3, 8, seed=3)]
    calibrate_batch_norm(network, iter(batches))
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(dim=1) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, means)
    torch.testing.assert_close(network[0].running_var, variances)


def test_a_network_evaluates_as_it_trains_on_the_one_batch_it_was_calibrated_with() -> None:
    network = perturb(create_model("litepose_xs", 14))
    batch = images(4, side=64)
    with torch.no_grad():
        expected = copy.deepcopy(network).train()(batch)
        wrong = network(batch)
        calibrate_batch_norm(network, [batch])
        found = network(batch)
    # Eval mode divides by the unbiased variance; the smallest maps have 4 * 4 * 4 pixels.
    for key, values in expected.items():
        error = (found[key] - values).abs().mean() / values.abs().mean()
        assert error < 0.1
        assert error < 0.2 * (wrong[key] - values).abs().mean() / values.abs().mean()


@pytest.mark.parametrize("training", [False, True])
def test_nothing_but_statistics_changes(training: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm2d(4))
    network.train(training)
    network[3].eval()  # as some freeze it
    parameters = [parameter.clone() for parameter in network.parameters()]
    batch = images(4, 8)
    calibrate_batch_norm(network, [batch])
    assert [module.training for module in network] == [training, training, training, False]
    assert network.training == training
    assert [network[1].momentum, network[3].momentum] == [0.3, 0.1]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(parameters, network.parameters(), strict=True))
    # No dropout: the second norm sees what the first one gives in training, of mean 0 and variance 1.
    torch.testing.assert_close(network[3].running_mean, torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(network[3].running_var, torch.ones(4), rtol=0, atol=0.01)


def test_modes_and_momenta_come_back_after_an_error() -> None:
    network = create_model("lpn50").train()
    with pytest.raises(InputError, match="multiples of 16"):
        calibrate_batch_norm(network, [images(side=40)])
    assert all(module.training for module in network.modules())
    assert {norm.momentum for norm in norms(network)} == {0.1}


def test_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match="at least one batch"):
        calibrate_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), [])
