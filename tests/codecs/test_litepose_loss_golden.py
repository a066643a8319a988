"""The losses of LitePose against the official ones (github.com/mit-han-lab/litepose): values and gradients."""

from __future__ import annotations

import pytest
from support import golden_file, litepose_keypoints

pytest.importorskip("torch")

import torch

from leanpose.codecs import AssociativeEmbedding
from leanpose.codecs.losses import Push, masked_heatmap_mse, tag_losses

GOLDEN = golden_file("litepose_loss")
NUM_KEYPOINTS = 14
MAP_PIXELS = 32 * 32  # of the scale that has tags
PUSH_FACTOR = PULL_FACTOR = 1e-3

Golden = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def golden() -> Golden:
    """The official targets, losses and gradients of three images with four, one and no persons."""
    return pytest.importorskip("safetensors.torch").load_file(GOLDEN)


def by_keypoint(golden: Golden, packed: torch.Tensor) -> torch.Tensor:
    """Move values (B, P, K) of a person's official keypoints, packed to the front, to the places of the keypoints."""
    flat, valid = golden["target.joints.0"].long().unbind(dim=3)  # (B, P, K) each
    image, person, slot = valid.nonzero(as_tuple=True)
    keypoint = flat[image, person, slot] // MAP_PIXELS
    moved = torch.zeros_like(packed)
    moved[image, person, keypoint] = packed[image, person, slot]
    return moved


def tag_targets(golden: Golden) -> tuple[torch.Tensor, torch.Tensor]:
    """The official targets as ours: indices within the map of each keypoint, and whether it is valid."""
    flat, valid = golden["target.joints.0"].long().unbind(dim=3)
    return by_keypoint(golden, flat % MAP_PIXELS), by_keypoint(golden, valid) > 0


def at_indices(maps: torch.Tensor, indices: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """What maps (B, K, H, W) hold at (B, P, K) places, 0 where not valid."""
    return maps.flatten(2).gather(2, indices.transpose(1, 2)).transpose(1, 2) * valid


def tag_maps(golden: Golden) -> torch.Tensor:
    """The tag maps (3, K, 32, 32) that the losses were made of; the small golden has them at valid places only."""
    if "tags" not in golden:
        return golden["pred.0"][:, NUM_KEYPOINTS:].clone()
    flat, valid = golden["target.joints.0"].long().unbind(dim=3)
    maps = torch.zeros(3, NUM_KEYPOINTS, 32, 32)
    image = valid.nonzero(as_tuple=True)[0]
    maps.flatten(1)[image, flat[valid > 0]] = golden["tags"][valid > 0]
    return maps


def needs_large(golden: Golden, key: str) -> None:
    if key not in golden:
        pytest.skip(f"{key} is not in the small golden")


@pytest.mark.parametrize("stage", [0, 1])
def test_heatmap_loss_equals_official(golden: Golden, stage: int) -> None:
    needs_large(golden, f"pred.{stage}")
    predicted = golden[f"pred.{stage}"][:, :NUM_KEYPOINTS]
    count, _, *size = predicted.shape  # the small golden has maps of the first image
    target, _, _ = AssociativeEmbedding().encode_maps(*litepose_keypoints(golden, stage), (size[0], size[1]))
    losses = masked_heatmap_mse(predicted, target[:count], golden[f"mask.{stage}"])
    torch.testing.assert_close(losses, golden[f"heatmap_loss.stage{stage}"][:count], rtol=0, atol=1e-7)


@pytest.mark.parametrize("form", ["exp", "max"])
def test_tag_losses_and_gradients_equal_official(golden: Golden, form: Push) -> None:
    tags = tag_maps(golden).requires_grad_()
    indices, valid = tag_targets(golden)
    push, pull = tag_losses(tags, indices, valid, form)
    torch.testing.assert_close(push, golden[f"ae.{form}.push"][0], rtol=0, atol=1e-7)
    torch.testing.assert_close(pull, golden[f"ae.{form}.pull"][0], rtol=0, atol=3e-7)
    for loss, expected in ((push, golden[f"ae.{form}.grad_push"]), (pull, golden["ae.grad_pull"])):
        expected = by_keypoint(golden, expected)
        (gradient,) = torch.autograd.grad(loss, tags, retain_graph=True)
        torch.testing.assert_close(at_indices(gradient, indices, valid), expected, rtol=0, atol=1e-7)
        assert gradient.count_nonzero() == expected.count_nonzero()  # no other pixel has one


@pytest.mark.parametrize("form", ["exp", "max"])
def test_tag_losses_of_single_images_equal_official(golden: Golden, form: Push) -> None:
    tags = tag_maps(golden)
    indices, valid = tag_targets(golden)
    for image in range(3):
        one = slice(image, image + 1)
        push, pull = tag_losses(tags[one], indices[one], valid[one], form)
        torch.testing.assert_close(push, golden[f"ae.{form}.single_push"][image], rtol=0, atol=1e-7)
        torch.testing.assert_close(pull, golden[f"ae.{form}.single_pull"][image], rtol=0, atol=3e-7)


def test_total_and_its_gradients_equal_official(golden: Golden) -> None:
    needs_large(golden, "factory.grad0")
    outputs = [golden[f"pred.{stage}"].clone().requires_grad_() for stage in (0, 1)]
    heatmap_losses = [
        masked_heatmap_mse(output[:, :NUM_KEYPOINTS], golden[f"target.heatmaps.{stage}"], golden[f"mask.{stage}"])
        for stage, output in enumerate(outputs)
    ]
    push, pull = tag_losses(outputs[0][:, NUM_KEYPOINTS:], *tag_targets(golden))
    total = sum(losses.mean() for losses in heatmap_losses) + PUSH_FACTOR * push + PULL_FACTOR * pull
    torch.testing.assert_close(total, golden["factory.total"][0], rtol=0, atol=1e-7)
    total.backward()
    torch.testing.assert_close(outputs[0].grad, golden["factory.grad0"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(outputs[1].grad[:, :, 16:48, 16:48], golden["factory.grad1_crop"], rtol=1e-5, atol=1e-9)
