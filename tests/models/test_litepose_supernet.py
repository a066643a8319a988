"""The LitePose supernet: what it holds is what is cut out of it, nothing of an arch stays, all of it is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models import create_model
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.checkpoints import load_network, save_network
from leanpose.models.litepose_arch import ARCHS, LitePoseArch, SearchSpace
from leanpose.models.litepose_supernet import LitePoseSupernet, cut, reorder_channels
from leanpose.weights.record import Weights

TINY = LitePoseArch(16, (16, 24, 24, 48), (24, 32, 16), (1, 2, 2, 2), kernel_size=3, input_size=128)
# As wide in stage 4 as in stage 3, so that the first block of stage 4 adds its input, which at full width it does not.
NARROW = LitePoseArch(8, (16, 16, 24, 24), (16, 24, 8), (1, 2, 2, 2), kernel_size=3, input_size=64)


def filled(network: nn.Module, seed: int = 0) -> Any:
    """Give every tensor values of its own, so that a wrong channel is seen; in float64 and eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.double().state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            if tensor.ndim == 4:
                values = values * (2 / tensor[0].numel()) ** 0.5
            elif name.endswith(("running_var", ".weight")):
                values = 0.5 + values.abs()
            tensor.copy_(values)
    return network.eval()


def tiny(**options: Any) -> Any:
    return filled(create_model("litepose_supernet", 5, arch=TINY, **options))


def images(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side + 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_the_published_networks_are_in_the_supernet() -> None:
    network = filled(create_model("litepose_supernet", 14)).float()
    for name in ("search_xs", "search_s", "search_m", "search_l"):
        static = create_model("litepose", 14, arch=name).eval()
        static.load_state_dict(cut(network, ARCHS[name]).state_dict())
        with torch.no_grad():
            outputs = network(images().float(), ARCHS[name])
            assert outputs["tags"].std() > 0.1
            assert difference(outputs, static(images().float())) == 0.0, name


@pytest.mark.parametrize("head", ["fusion", "plain"])
def test_what_is_cut_out_gives_the_same_outputs(head: Any) -> None:
    network = filled(create_model("litepose_supernet", 5, arch=replace(TINY, head=head), person_head=True))
    space = SearchSpace(network.arch, input_sizes=(64, 128))
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for arch in (replace(NARROW, head=head), network.arch, *(space.sample(generator) for _ in range(4))):
            static = cut(network, arch)
            assert static.arch == arch
            assert not static.training
            assert difference(network(images(), arch), static(images())) == 0.0, arch
        assert difference(network(images(), network.arch), network(images())) == 0.0


def test_training_an_arch_changes_its_channels_alone() -> None:
    network = tiny(person_head=True).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    static = cut(network, NARROW)
    for outputs in (network(images(), NARROW), static(images())):
        sum(maps.square().mean() for maps in outputs.values()).backward()
    theirs = dict(static.named_parameters())
    for name, parameter in network.named_parameters():
        shared = parameter.grad
        if name == "person.conv.0.0.weight":  # reads the head's second feature maps, then the backbone's first
            shared = torch.cat([shared[:, :24], shared[:, 32:48]], dim=1)
        shared = shared[tuple(slice(side) for side in theirs[name].shape)]
        assert torch.equal(shared, theirs[name].grad), name
        assert shared.count_nonzero() == parameter.grad.count_nonzero(), name
    for name, statistics in network.named_buffers():
        its_own = static.get_buffer(name)
        shared = tuple(slice(side) for side in its_own.shape)
        assert torch.equal(statistics[shared], its_own), name
        if its_own.ndim:
            rest = slice(len(its_own), None)
            assert torch.equal(statistics[rest], before[name][rest]), name
            assert not torch.equal(its_own, before[name][shared]), name


def test_every_parameter_is_trained_at_full_width() -> None:
    torch.manual_seed(0)
    arch = LitePoseArch(8, (8, 16, 24, 32), (16, 16, 16))  # as deep as the published networks
    network = create_model("litepose_supernet", 5, arch=arch, person_head=True)
    outputs = network(torch.randn(2, 3, 64, 64), arch)
    sum(maps.square().mean() for maps in outputs.values()).backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().max() > 0] == []


def test_nothing_of_an_arch_stays_in_the_network() -> None:
    network = tiny(person_head=True)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        before = network(images())
        narrow = network(images(), NARROW)
        with pytest.raises(InputError, match="both sides must be multiples of 16"):
            network(images(side=72), NARROW)
        assert difference(network(images()), before) == 0.0
        assert difference(network(images(), NARROW), narrow) == 0.0
    assert before["tags"].shape == narrow["tags"].shape
    assert not torch.equal(before["tags"], narrow["tags"])
    assert network.arch == TINY
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "arch",
    [
        replace(TINY, stem_width=24),
        replace(TINY, stage_widths=(16, 24, 24, 56)),
        replace(TINY, head_widths=(24, 32, 24)),
        replace(TINY, stage_depths=(1, 2, 2, 1)),
        replace(TINY, kernel_size=5),
        replace(TINY, head="plain"),
    ],
    ids=str,
)
def test_what_it_does_not_hold_is_refused(arch: LitePoseArch) -> None:
    network = create_model("litepose_supernet", 5, arch=TINY)
    for use in (lambda: network(torch.zeros(1, 3, 64, 64), arch), lambda: cut(network, arch)):
        with pytest.raises(InputError, match=r"The supernet holds archs as deep as .* and no wider, not "):
            use()


@pytest.mark.parametrize("options", [{}, {"person_head": True}, {"arch": replace(TINY, head="plain")}], ids=str)
def test_reordering_keeps_the_outputs_and_puts_important_channels_first(options: dict[str, Any]) -> None:
    network = filled(create_model("litepose_supernet", 5, **{"arch": TINY} | options))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = network(images())
        reorder_channels(network)
        assert difference(network(images()), expected) < 1e-9
    for stage in network.stage:
        importance = stage[0].inv[0].weight.abs().sum(dim=(0, 2, 3))
        assert (importance.diff() <= 0).all()
    state = network.state_dict()
    for part in ("weight", "bias", "running_mean", "running_var"):
        for norm in ("first.3", "stage.0.0.point_conv.1", "stage.1.1.point_conv.1", "stage.2.1.point_conv.1"):
            name = f"{norm}.{part}"
            assert not torch.equal(state[name], before[name]), name
            assert torch.equal(state[name].sort()[0], before[name].sort()[0]), name
    unmoved = [name for name, tensor in state.items() if name.startswith("stage.3.") and ".inv.0" not in name]
    assert all(torch.equal(state[name], before[name]) for name in unmoved)


def test_reordering_keeps_what_matters_in_narrow_networks() -> None:
    """Channels that the next stage does not read at all are the first to be cut off."""
    network = tiny()
    arch = replace(TINY, stem_width=8, stage_widths=(8, 24, 24, 48))
    with torch.no_grad():
        for level in (0, 1):  # of the stem's 16 channels and of the first stage's
            block = network.stage[level][0]
            block.inv[0].weight[:, :8] = 0
            block.point_conv[0].weight[:, 48:] = 0  # what is narrower too
            network.final_raw[1 - level].conv[3].weight[:, :8] = 0
        network.deconv_raw[2].weight[:8] = 0
        expected = network(images())
        assert difference(network(images(), arch), expected) > 0.1
        reorder_channels(network)
        assert difference(network(images(), arch), expected) < 1e-9


def test_the_supernet_is_a_network_like_others(tmp_path: Path) -> None:
    """It is saved, loaded and folded for export, which traces it, as the widest network."""
    options = {"arch": TINY.as_dict(), "person_head": True}
    record = Weights("supernet", "litepose_supernet", (128, 128), model_options=options)
    network = filled(create_model("litepose_supernet", 17, **options)).float()
    save_network(tmp_path / "supernet.safetensors", network, record)
    loaded, again = load_network(tmp_path / "supernet.safetensors")
    assert isinstance(loaded, LitePoseSupernet)
    assert again.model_options == options
    with torch.no_grad():
        expected = network(images().float())
        assert difference(loaded(images().float()), expected) == 0.0
        folded = fold_batch_norm(loaded)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        assert difference(folded(images().float()), expected) < 1e-3
