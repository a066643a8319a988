"""Weights files of torch: saved and loaded unchanged, published ones converted, and no code of theirs ever run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from leanpose.errors import InputError, LeanposeError, WeightsError
from leanpose.keypoint_sets import COCO, CROWDPOSE, LSP, MPII, KeypointSet
from leanpose.models import create_model
from leanpose.models.checkpoints import convert, load_network, load_start, load_state, read_state, save_network
from leanpose.weights.record import Weights

RECORD = Weights("lpn50.lsp_64x48", "lpn50", (64, 48), LSP, codec="dark", codec_options={"sigma": 1.5}, note="a test")


def random_network(name: str = "lpn50", num_keypoints: int = 17) -> torch.nn.Module:
    """Return a network in evaluation mode whose normalisation statistics are no longer those of a new one."""
    torch.manual_seed(0)
    network = create_model(name, num_keypoints)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return network.eval()


def heatmaps(network: torch.nn.Module, size: tuple[int, int] = (64, 48)) -> torch.Tensor:
    with torch.inference_mode():
        return network(torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)))["heatmaps"]


def test_round_trip(tmp_path: Path) -> None:
    network = random_network(num_keypoints=14)
    save_network(tmp_path / "a.safetensors", network, RECORD)
    loaded, record = load_network(tmp_path / "a.safetensors")
    assert record.to_metadata() == RECORD.to_metadata()
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(heatmaps(loaded), heatmaps(network))


def test_round_trip_of_half(tmp_path: Path) -> None:
    network = random_network(num_keypoints=14)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_network(whole, network, RECORD)
    save_network(half, network, RECORD, half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    stored, _ = read_state(half)
    assert stored["conv1.weight"].dtype == torch.float16
    assert torch.equal(stored["bn1.running_var"], network.state_dict()["bn1.running_var"])  # float32, unchanged
    loaded, record = load_network(half)
    assert record.to_metadata() == RECORD.to_metadata()
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    torch.testing.assert_close(heatmaps(loaded), heatmaps(network), rtol=0, atol=0.02 * heatmaps(network).abs().max())
    assert not torch.equal(heatmaps(loaded), heatmaps(network))


def test_memory_layout_does_not_matter(tmp_path: Path) -> None:
    network = random_network(num_keypoints=14)
    expected = heatmaps(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_network(tmp_path / "a.safetensors", network, RECORD)
    torch.testing.assert_close(heatmaps(load_network(tmp_path / "a.safetensors")[0]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.pop("bn1.bias"), r"w\.pth does not fit the network: it lacks bn1\.bias; choose the model"),
        (lambda state: state.update(extra=torch.zeros(1)), "it has extra too many"),
        (
            lambda state: state.update({"bn1.bias": torch.zeros(3)}),
            r"it has bn1\.bias of shape \(3,\) instead of \(64,\)",
        ),
        (lambda state: [state.pop(name) for name in list(state)[:5]], r"it lacks conv1\.weight \(5 such differences\)"),
    ],
    ids=["missing", "left_over", "shape", "several"],
)
def test_states_that_do_not_fit(edit: Callable[[dict[str, torch.Tensor]], object], message: str) -> None:
    network = random_network()
    before = network.state_dict()["conv1.weight"].clone()
    state = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    edit(state)
    with pytest.raises(WeightsError, match=message):
        load_state(network, state, "w.pth")
    assert torch.equal(network.state_dict()["conv1.weight"], before)


@pytest.mark.usefixtures("short_litepose")
@pytest.mark.parametrize("name", ["sfm", "litepose_xs"])
def test_a_start_of_other_keypoints_gives_its_rows_by_name(name: str, tmp_path: Path) -> None:
    source, network = random_network(name, 14), create_model(name, 17)
    fresh = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    save_network(tmp_path / "a.safetensors", source, Weights("a", name, (64, 64), CROWDPOSE))
    load_start(network, tmp_path / "a.safetensors", Weights("b", name, (64, 64), COCO))
    theirs, changed = source.state_dict(), []
    for key, tensor in network.state_dict().items():
        if theirs[key].shape == tensor.shape:
            assert torch.equal(theirs[key], tensor)
            continue
        changed.append(key)
        assert len(theirs[key]) % 14 == 0
        for group in range(len(theirs[key]) // 14):  # LitePose: heatmaps, then tags
            for i, keypoint in enumerate(COCO.keypoints):
                row = fresh[key][17 * group + i]
                if keypoint in CROWDPOSE.keypoints:
                    row = theirs[key][14 * group + CROWDPOSE.keypoints.index(keypoint)]
                assert torch.equal(tensor[17 * group + i], row)
    assert len(changed) == 4


def test_a_start_of_the_same_family_gives_all_but_the_heads(tmp_path: Path) -> None:
    source, network = random_network("sfm", 14), create_model("sfm_persons")
    heads = {key: tensor.clone() for key, tensor in network.state_dict().items() if key.startswith("head")}
    save_network(tmp_path / "a.safetensors", source, Weights("a", "sfm", (64, 64), CROWDPOSE))
    load_start(network, tmp_path / "a.safetensors", Weights("b", "sfm_persons", (64, 64), COCO))
    theirs = source.state_dict()
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, heads[key] if key in heads else theirs[key])
    with pytest.raises(WeightsError, match=r"a\.safetensors does not fit the network"):
        load_start(create_model("lpn50"), tmp_path / "a.safetensors", Weights("b", "lpn50", (64, 64), COCO))


def test_a_start_of_another_order_is_sorted(tmp_path: Path) -> None:
    turned = KeypointSet("turned", COCO.keypoints[::-1], (), "test")
    source, network = random_network(), create_model("lpn50")
    save_network(tmp_path / "a.safetensors", source, Weights("a", "lpn50", (64, 48), turned))
    load_start(network, tmp_path / "a.safetensors", Weights("b", "lpn50", (64, 48), COCO))
    torch.testing.assert_close(heatmaps(network.eval()), heatmaps(source).flip(1))


def test_a_network_with_parts_of_the_body_starts_from_its_own_keypoints(tmp_path: Path) -> None:
    source = torch.nn.Conv2d(1, 1, 1)
    save_network(tmp_path / "a.safetensors", source, Weights("a", "rmpg_hierarchical", (64, 48), CROWDPOSE))
    with pytest.raises(WeightsError, match=r"a\.safetensors finds other keypoints than those of coco, so rmpg_hier"):
        load_start(source, tmp_path / "a.safetensors", Weights("b", "rmpg_hierarchical", (64, 48), COCO))


def test_unusable_safetensors_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no file"):
        load_network(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights at all")
    with pytest.raises(WeightsError, match="is not a usable safetensors file"):
        load_network(tmp_path / "text.safetensors")
    whole = tmp_path / "whole.safetensors"
    save_network(whole, random_network(num_keypoints=14), RECORD)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="is not a usable safetensors file"):
        load_network(tmp_path / "cut.safetensors")


def test_a_file_without_a_record(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(random_network().state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="carries no leanpose record"):
        load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "in_state_dict"])
def test_convert_a_published_checkpoint(prefix: str, wrapped: bool, tmp_path: Path) -> None:
    network = random_network()
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "a.pth")
    out = tmp_path / "out" / "a.safetensors"
    record = convert(str(tmp_path / "a.pth"), model="lpn50", out=str(out))
    loaded, stored = load_network(out)
    assert stored.to_metadata() == record.to_metadata()
    assert torch.equal(heatmaps(loaded), heatmaps(network))
    assert (record.name, record.model, record.input_size) == ("lpn50.coco_256x192_published", "lpn50", (256, 192))
    assert (record.convention, record.channel_order, record.flip_shift, record.bias) == ("classic", "bgr", True, 0.0)
    assert (record.codec, record.codec_options) == ("beta_soft_argmax", {"sigma": 2.0, "beta": 160.0})
    assert (record.padding, record.keypoint_set) == (1.25, COCO)
    assert record.mean == (123.675, 116.28, 103.53)
    assert "MIT" in record.licence


def test_lpn_on_mpii_has_rgb_and_a_bias(tmp_path: Path) -> None:
    torch.save(random_network("lpn50", 16).state_dict(), tmp_path / "a.pth")
    record = convert(str(tmp_path / "a.pth"), model="lpn50", out=str(tmp_path / "a.safetensors"), input_size=(256, 256))
    assert (record.keypoint_set, record.channel_order, record.bias) == (MPII, "rgb", 1.0)
    assert record.model_options == {}


@pytest.mark.parametrize(("num_keypoints", "keypoint_set"), [(17, COCO), (16, MPII)], ids=["coco", "mpii"])
def test_convert_finds_the_keypoint_set(num_keypoints: int, keypoint_set: KeypointSet, tmp_path: Path) -> None:
    torch.save(random_network("simple_baseline_50", num_keypoints).state_dict(), tmp_path / "a.pth")
    out = tmp_path / "a.safetensors"
    record = convert(str(tmp_path / "a.pth"), model="simple_baseline_50", out=str(out), input_size=(384, 288))
    assert record.keypoint_set == keypoint_set
    assert record.codec == "heatmap"
    assert record.input_size == (384, 288)
    assert load_network(out)[1].to_metadata() == record.to_metadata()
    assert record.channel_order == "bgr"  # OpenCV's, for both sets
    data = {"coco": "ImageNet, COCO train2017", "mpii": "ImageNet, MPII Human Pose train"}
    assert record.data == data[record.keypoint_set.name]


def test_convert_hrnet(tmp_path: Path) -> None:
    network = random_network("hrnet_w32", 16)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    out = tmp_path / "a.safetensors"
    record = convert(str(tmp_path / "a.pth"), model="hrnet_w32", out=str(out), input_size=(256, 256))
    assert torch.equal(heatmaps(load_network(out)[0], (64, 64)), heatmaps(network, (64, 64)))
    assert (record.convention, record.channel_order, record.flip_shift, record.bias) == ("classic", "rgb", True, 0.0)
    assert (record.codec, record.codec_options, record.keypoint_set) == ("heatmap", {"sigma": 2.0}, MPII)
    assert record.licence == "MIT (leoxiaobin/deep-high-resolution-net.pytorch)"
    assert record.data == "ImageNet, MPII Human Pose train"


def test_convert_vitpose(tmp_path: Path) -> None:
    network = random_network("vitpose_s")
    torch.save({"meta": {"epoch": 210, "time": "a word"}, "state_dict": network.state_dict()}, tmp_path / "a.pth")
    out = tmp_path / "a.safetensors"
    record = convert(str(tmp_path / "a.pth"), model="vitpose_s", out=str(out))
    assert torch.equal(heatmaps(load_network(out)[0], (256, 192)), heatmaps(network, (256, 192)))
    assert (record.convention, record.channel_order, record.flip_shift, record.bias) == ("udp", "rgb", False, 0.0)
    assert (record.codec, record.codec_options, record.keypoint_set) == ("udp", {"sigma": 2.0}, COCO)
    assert record.licence == "Apache-2.0 (ViTAE-Transformer/ViTPose)"
    assert record.data == "ImageNet (MAE), COCO train2017"
    assert "0.13 %" in record.note


def test_convert_takes_a_keypoint_set_by_name(tmp_path: Path) -> None:
    torch.save(random_network(num_keypoints=14).state_dict(), tmp_path / "a.pth")
    options = {"model": "lpn50", "out": str(tmp_path / "a.safetensors")}
    assert convert(str(tmp_path / "a.pth"), **options, keypoint_set="lsp").keypoint_set == LSP
    with pytest.raises(InputError, match=r"no keypoint set 'lps'\. Did you mean 'lsp'"):
        convert(str(tmp_path / "a.pth"), **options, keypoint_set="lps")
    with pytest.raises(WeightsError, match="finds 14 keypoints, which the set 'coco' has not"):
        convert(str(tmp_path / "a.pth"), **options, keypoint_set="coco")


class Code:
    """Its pickle makes a folder when it is loaded carelessly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_code_in_a_pickle_is_not_run(kind: str, tmp_path: Path) -> None:
    file, sign = tmp_path / "a.pth", tmp_path / "the_code_ran"
    content = {"conv1.weight": torch.zeros(3), "more": Code(sign)}
    if kind == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(Code(sign), protocol=2))
    with pytest.raises(WeightsError, match="holds more than tensors, perhaps code, and was not loaded"):
        convert(str(file), model="lpn50", out=str(tmp_path / "a.safetensors"))
    assert not sign.exists()
    assert not (tmp_path / "a.safetensors").exists()
    if kind == "pickle":
        pickle.loads(file.read_bytes())
        assert sign.exists()  # so the file was a trap


def unusable(kind: str, file: Path) -> None:
    if kind == "text":
        file.write_text("hello there\n")
    elif kind == "json":
        file.write_text('{"a": 1}')
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "short":
        file.write_bytes(b"\x80\x02")
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a", "b")
    elif kind == "folder":
        file.mkdir()
    else:
        torch.save({"a": torch.zeros(10_000)}, file)
        file.write_bytes(file.read_bytes()[:20_000])


@pytest.mark.parametrize("kind", ["text", "json", "empty", "short", "zip", "folder", "cut"])
def test_not_a_checkpoint(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    unusable(kind, file)
    with pytest.raises(WeightsError, match=r"a\.pth is not a usable checkpoint") as caught:
        convert(str(file), model="lpn50", out=str(tmp_path / "a.safetensors"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(2)}, torch.zeros(3), {"state_dict": 3}])
def test_not_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        convert(str(tmp_path / "a.pth"), model="lpn50", out=str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("model", "out", "message"),
    [
        ("lpn101", "a.safetensors", r"a\.pth does not fit the network: it lacks layer3.*choose the model"),
        ("simple_baseline_50", "a.safetensors", r"a\.pth does not fit the network"),
        ("hrnet", "a.safetensors", "No published checkpoints of 'hrnet' are known"),
        ("hrnet_w32_rmpg", "a.safetensors", "No published checkpoints of 'hrnet_w32_rmpg' are known"),
        ("lpn5", "a.safetensors", "No published checkpoints of 'lpn5' are known. Did you mean 'lpn50'"),
        ("lpn50", "a.pth", r"must end in \.safetensors, not a\.pth"),
        ("lpn50", "a", r"must end in \.safetensors, not a"),
    ],
)
def test_wrong_model_or_suffix(model: str, out: str, message: str, tmp_path: Path) -> None:
    torch.save(random_network().state_dict(), tmp_path / "a.pth")
    before = (tmp_path / "a.pth").read_bytes()
    with pytest.raises(LeanposeError, match=message):
        convert(str(tmp_path / "a.pth"), model=model, out=str(tmp_path / out))
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]
    assert (tmp_path / "a.pth").read_bytes() == before


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no file .*absent\.pth"):
        convert(str(tmp_path / "absent.pth"), model="lpn50", out=str(tmp_path / "a.safetensors"))
