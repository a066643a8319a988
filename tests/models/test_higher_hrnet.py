"""HigherHRNet and its shrunken forms: official names, what the head sees, and the way from training to poses.

Sizes and gradients are tested with those of all other networks in test_models.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support import shapes_only

from leanpose.inference.engines import OnnxRuntimeEngine, TorchEngine
from leanpose.inference.predictor import Predictor
from leanpose.keypoint_sets import CROWDPOSE
from leanpose.models import create_model, higher_hrnet, hrnet
from leanpose.models.higher_hrnet import HigherHRNet
from leanpose.models.resnet import resnet_stage

TINY = partial(HigherHRNet, 4, layer1_width=8, blocks=((0, 1), (0, 0, 1), (0, 0, 0, 1)))


def shapes(name: str, num_keypoints: int = 17) -> dict[str, tuple[int, ...]]:
    with shapes_only():
        state = create_model(name, num_keypoints).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def test_the_backbone_has_the_names_of_hrnet_and_the_head_those_of_its_authors() -> None:
    backbone = {key: shape for key, shape in shapes("hrnet_w32").items() if not key.startswith("final_layer.")}
    network = shapes("higher_hrnet_w32")
    assert list(network.items())[: len(backbone)] == list(backbone.items())
    norm = [("weight", (32,)), ("bias", (32,)), ("running_mean", (32,)), ("running_var", (32,))]
    norm.append(("num_batches_tracked", ()))
    head = [("final_layers.0.weight", (34, 32, 1, 1)), ("final_layers.0.bias", (34,))]
    head += [("final_layers.1.weight", (17, 32, 1, 1)), ("final_layers.1.bias", (17,))]
    head += [("deconv_layers.0.0.0.weight", (66, 32, 4, 4))]
    head += [(f"deconv_layers.0.0.1.{key}", shape) for key, shape in norm]
    for block in range(1, 5):
        for layer in (1, 2):
            head.append((f"deconv_layers.0.{block}.0.conv{layer}.weight", (32, 32, 3, 3)))
            head += [(f"deconv_layers.0.{block}.0.bn{layer}.{key}", shape) for key, shape in norm]
    assert list(network.items())[len(backbone) :] == head


def test_a_branch_without_blocks_has_one_convolution() -> None:
    network = shapes("higher_hrnet_shrink3", 14)
    assert network["conv2.weight"] == (64, 64, 3, 3)
    assert network["layer1.0.downsample.0.weight"] == (144, 64, 1, 1)
    assert network["deconv_layers.0.0.0.weight"] == (18 + 28, 32, 4, 4)
    assert not [key for key in network if key.startswith("deconv_layers.0.1")]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        for module in range(modules):
            for branch in range(stage):
                name = f"stage{stage}.{module}.branches.{branch}."
                width, inside = 18 * 2**branch, {key.removeprefix(name) for key in network if key.startswith(name)}
                if branch < stage - 1:
                    assert network[f"{name}0.weight"] == (width, width, 3, 3)
                    assert {key.partition(".")[0] for key in inside} == {"0", "1"}  # convolution and norm
                else:
                    assert network[f"{name}3.conv2.weight"] == (width, width, 3, 3)


def test_the_head_sees_features_and_first_maps() -> None:
    torch.manual_seed(0)
    network = TINY(num_keypoints=5).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features, outputs = network.features(images), network(images)
        first = network.final_layers[0](features)
        second = network.final_layers[1](network.deconv_layers[0](torch.cat([features, first], dim=1)))
    assert features.shape == (1, 4, 16, 24)
    for name, maps in (("heatmaps_4", first[:, :5]), ("tags", first[:, 5:]), ("heatmaps_2", second)):
        torch.testing.assert_close(outputs[name], maps)


def test_it_is_trained_exported_and_finds_persons(
    people: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("onnxscript")
    from leanpose.deploy.export import export
    from leanpose.training.loop import train
    from leanpose.training.recipe import find_recipe, read_recipe

    monkeypatch.setattr(hrnet, "MODULES", (1, 1, 1))
    monkeypatch.setattr(hrnet, "resnet_stage", lambda inside, width, _, stride: resnet_stage(inside, width, 1, stride))
    monkeypatch.setattr(higher_hrnet, "higher_hrnet_shrink3", TINY)
    annotations, images = people(count=2, keypoint_set=CROWDPOSE)
    data = f"{{annotations: {annotations}, images: {images}}}"
    changes = [f"train_data=[{data}]", f"val_data={data}", f"out={tmp_path / 'run'}", "model=higher_hrnet_shrink3"]
    changes += ["data_root=.", "input_size=[64, 64]", "epochs=1", "batch_size=2", "validate_every=1"]
    changes += ["accelerator=cpu", "precision=32-true", "threads=1", "codec_options={detection_threshold: 0.0}"]
    best = train(read_recipe(find_recipe("higher_hrnet_w16_crowdpose"), changes))
    file = tmp_path / "tiny.onnx"
    assert export(str(best), out=str(file)).difference < 1e-4

    inputs = np.random.default_rng(0).standard_normal((2, 3, 128, 192)).astype(np.float32)  # sides are free
    found, expected = OnnxRuntimeEngine(file, 1)(inputs), TorchEngine.from_file(best, 1)(inputs)
    assert {name: maps.shape[1:] for name, maps in found.items()} == {
        "heatmaps_4": (14, 32, 48), "tags": (14, 32, 48), "heatmaps_2": (14, 64, 96)
    }  # fmt: skip
    for name, maps in expected.items():
        np.testing.assert_allclose(found[name], maps, rtol=0, atol=1e-4 * np.abs(maps).max())

    poses = Predictor(file, threads=1, min_person_score=0.0)(str(images / "1.png"))
    assert len(poses) > 0
    assert poses.keypoint_set.keypoints == CROWDPOSE.keypoints
    assert np.isfinite(poses.keypoints).all()
