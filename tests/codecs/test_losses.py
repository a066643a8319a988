from __future__ import annotations

import math

import pytest
from support import GOLDENS, needs

pytest.importorskip("torch")

import torch

from leanpose.codecs.losses import (
    box_giou_loss,
    center_focal_loss,
    heatmap_mse,
    masked_heatmap_mse,
    tag_losses,
)
from leanpose.errors import InputError

GOLDEN = GOLDENS / "lpn_decode.safetensors"


def random_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.rand((2, 2, 3, 5, 4), generator=generator)
    weights = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    return predicted.requires_grad_(), target, weights


@needs(GOLDEN)
def test_golden() -> None:
    golden = pytest.importorskip("safetensors.torch").load_file(GOLDEN)
    target = golden["target.heatmap"].expand(3, -1, -1, -1)
    weights = golden["target.weight"][:, 0].expand(3, -1)
    loss = heatmap_mse(golden["heatmaps"], target, weights)
    torch.testing.assert_close(loss, golden["loss.mse_weighted"][0], rtol=1e-6, atol=0)


def test_is_the_mean_over_keypoints_of_half_the_mean_squared_error() -> None:
    predicted, target, weights = random_batch()
    per_keypoint = [
        0.5 * torch.mean((weights[:, k, None, None] * (predicted[:, k] - target[:, k])) ** 2) for k in range(3)
    ]
    torch.testing.assert_close(heatmap_mse(predicted, target, weights), torch.stack(per_keypoint).mean())


def test_foreground_weight_multiplies_each_pixel() -> None:
    predicted, target, weights = random_batch()
    squared_error = (weights[:, :, None, None] * (predicted - target)) ** 2
    expected = 0.5 * (squared_error * (1 + 3 * target)).mean()
    torch.testing.assert_close(heatmap_mse(predicted, target, weights, foreground_weight=3), expected)


@pytest.mark.parametrize("foreground_weight", [0.0, 2.0])
def test_gradient_reaches_weighted_keypoints_only(foreground_weight: float) -> None:
    predicted, target, weights = random_batch()
    heatmap_mse(predicted, target, weights, foreground_weight).backward()
    moved = (predicted.grad != 0).any(dim=(2, 3))
    assert torch.equal(moved, weights > 0)


def test_wrong_arguments() -> None:
    predicted, target, weights = random_batch()
    with pytest.raises(InputError, match=r"weights \(B, K\)"):
        heatmap_mse(predicted, target, weights[..., None])
    with pytest.raises(InputError, match=r"\(B, K, H, W\)"):
        heatmap_mse(predicted, target[:1], weights)
    with pytest.raises(InputError, match="foreground_weight"):
        heatmap_mse(predicted, target, weights, foreground_weight=-1)


# ---- heatmaps of all persons


def test_masked_loss_is_a_mean_over_all_pixels_of_each_image() -> None:
    predicted, target, _ = random_batch()
    mask = torch.ones(2, 5, 4)
    mask[1, 2:] = 0
    losses = masked_heatmap_mse(predicted, target, mask)
    assert losses.shape == (2,)
    squared_error = (predicted - target) ** 2
    torch.testing.assert_close(losses[0], squared_error[0].mean())
    torch.testing.assert_close(losses[1], squared_error[1, :, :2].sum() / (3 * 5 * 4))
    losses.sum().backward()
    assert torch.equal(predicted.grad != 0, (mask[:, None] > 0).expand(-1, 3, -1, -1))


def test_masked_loss_with_foreground_weight() -> None:
    predicted, target, _ = random_batch()
    mask = (torch.arange(40).view(2, 5, 4) % 3 > 0).float()
    expected = (mask[:, None] * (predicted - target) ** 2 * (1 + 3 * target)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(masked_heatmap_mse(predicted, target, mask, foreground_weight=3), expected)


def test_masked_loss_refuses_wrong_arguments() -> None:
    predicted, target, _ = random_batch()
    mask = torch.ones(2, 5, 4)
    with pytest.raises(InputError, match=r"mask \(B, H, W\), not .*\(2, 1, 5, 4\)"):
        masked_heatmap_mse(predicted, target, mask[:, None])
    with pytest.raises(InputError, match=r"two tensors \(B, K, H, W\)"):
        masked_heatmap_mse(predicted, target[:, :1], mask)
    with pytest.raises(InputError, match="foreground_weight"):
        masked_heatmap_mse(predicted, target, mask, foreground_weight=-1)


# ---- tags


def tag_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tags (2, 2, 1, 3) of two images; the first has persons with mean tags 0, 2 and 3, the second has one."""
    tags = torch.tensor([[[[-1.0, 2.0, 3.0]], [[1.0, 9.0, 9.0]]], [[[5.0, 6.0, 7.0]], [[8.0, 8.0, 8.0]]]])
    indices = torch.tensor([[[0, 0], [1, 0], [0, 0], [2, 0]], [[2, 0], [0, 0], [0, 0], [0, 0]]])
    valid = torch.tensor([[[1, 1], [1, 0], [0, 0], [1, 0]], [[1, 1], [0, 0], [0, 0], [0, 0]]], dtype=torch.bool)
    return tags.requires_grad_(), indices, valid


@pytest.mark.parametrize(
    ("form", "nearness"), [("exp", [math.exp(-4), math.exp(-9), math.exp(-1)]), ("max", [0.0, 0.0, 0.0])]
)
def test_tag_losses_by_hand(form: str, nearness: list[float]) -> None:
    push, pull = tag_losses(*tag_batch(), form)
    # Three pairs in both orders, half of the mean over 6; the other image counts as 0.
    assert push.item() == pytest.approx(0.5 * 2 * sum(nearness) / 6 / 2)
    # Tags -1 and 1 around 0, two persons of one keypoint; and 7 and 8 around 7.5.
    assert pull.item() == pytest.approx((1.0 / 3 + 0.25) / 2)


def test_tag_losses_have_gradients_at_valid_keypoints_only() -> None:
    tags, indices, valid = tag_batch()
    push, pull = tag_losses(tags, indices, valid)
    (push_gradient,) = torch.autograd.grad(push, tags, retain_graph=True)
    (pull_gradient,) = torch.autograd.grad(pull, tags)
    moved_apart = torch.tensor([[[[1, 1, 1]], [[1, 0, 0]]], [[[0, 0, 0]], [[0, 0, 0]]]])
    drawn_together = torch.tensor([[[[1, 0, 0]], [[1, 0, 0]]], [[[0, 0, 1]], [[1, 0, 0]]]])
    assert torch.equal(push_gradient != 0, moved_apart > 0)
    assert torch.equal(pull_gradient != 0, drawn_together > 0)


@pytest.mark.parametrize("form", ["exp", "max"])
@pytest.mark.parametrize("num_people", [0, 3])
def test_tag_losses_without_persons_are_zero_with_finite_gradient(form: str, num_people: int) -> None:
    tags = torch.randn(2, 5, 4, 4, requires_grad=True)
    indices = torch.zeros(2, num_people, 5, dtype=torch.int64)
    push, pull = tag_losses(tags, indices, indices.bool(), form)
    assert push.item() == pull.item() == 0
    (push + pull).backward()
    assert not tags.grad.any()


def test_tag_losses_refuse_wrong_arguments() -> None:
    tags, indices, valid = tag_batch()
    with pytest.raises(InputError, match=r"tags \(B, K, H, W\)"):
        tag_losses(tags.flatten(2), indices, valid)
    with pytest.raises(InputError, match=r"two tensors \(B, P, K\)"):
        tag_losses(tags, indices, valid[:, :1])
    with pytest.raises(InputError, match=r"two tensors \(B, P, K\)"):
        tag_losses(tags, indices[0], valid[0])
    with pytest.raises(InputError, match=r"Unknown push 'maxi'\. Did you mean 'max'\?"):
        tag_losses(tags, indices, valid, "maxi")


# ---- centers


def center_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 1, 5, 4), generator=generator)
    target = 0.9 * torch.rand((2, 1, 5, 4), generator=generator)
    target[0, 0, 1, 1] = target[0, 0, 3, 2] = target[1, 0, 4, 3] = 1
    return logits.requires_grad_(), target, torch.ones(2, 5, 4)


def test_center_loss_is_that_of_the_paper() -> None:
    logits, target, mask = center_batch()
    p = logits.sigmoid()
    at_centers, elsewhere = (1 - p) ** 2 * p.log(), (1 - target) ** 4 * p**2 * (1 - p).log()
    expected = -torch.where(target == 1, at_centers, elsewhere).sum() / 3
    torch.testing.assert_close(center_focal_loss(logits, target, mask), expected)


def test_center_loss_does_not_see_masked_pixels() -> None:
    logits, target, mask = center_batch()
    mask[1] = 0  # one of the three centers
    loss = center_focal_loss(logits, target, mask)
    torch.testing.assert_close(loss, center_focal_loss(logits[:1], target[:1], mask[:1]))
    loss.backward()
    assert not logits.grad[1].any()


def test_center_loss_without_centers_is_the_sum() -> None:
    logits, _, mask = center_batch()
    p = logits.sigmoid()
    expected = -(p**2 * (1 - p).log()).sum()
    torch.testing.assert_close(center_focal_loss(logits, torch.zeros_like(logits), mask), expected)


@pytest.mark.parametrize("logit", [-300.0, 300.0])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_center_loss_of_large_logits_is_finite(logit: float, value: float) -> None:
    logits = torch.full((1, 1, 1, 1), logit, requires_grad=True)
    loss = center_focal_loss(logits, torch.full((1, 1, 1, 1), value), torch.ones(1, 1, 1))
    wrong = (logit > 0) != (value == 1)
    assert loss.item() == pytest.approx(300.0 * (1 - value if value < 1 else 1) ** 4 if wrong else 0.0)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_center_loss_refuses_wrong_shapes() -> None:
    logits, target, mask = center_batch()
    with pytest.raises(InputError, match=r"mask \(B, H, W\)"):
        center_focal_loss(logits, target, mask[:, None])
    with pytest.raises(InputError, match=r"two tensors \(B, 1, H, W\)"):
        center_focal_loss(logits[:, 0], target[:, 0], mask[:, 0])


# ---- boxes


def one_pixel(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, len(values), 1, 1)


@pytest.mark.parametrize(
    ("distances", "target", "giou"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), 1.0),
        ((1, 1, 1, 1), (2, 2, 2, 2), 4 / 16),  # inside: only the IoU
        ((1, 2, 1, 2), (2, 1, 2, 1), 4 / 12 - (16 - 12) / 16),  # a cross
        ((3, 1, 1, 1), (1, 1, 3, 1), 4 / 12 - 0),  # side by side
    ],
)
def test_giou_by_hand(distances: tuple[float, ...], target: tuple[float, ...], giou: float) -> None:
    ones = torch.ones(1, 1, 1)
    for scale in (1.0, 10.0):
        loss = box_giou_loss(scale * one_pixel(*distances), scale * one_pixel(*target), ones)
        assert loss.item() == pytest.approx(1 - giou, abs=1e-6)


def test_giou_loss_is_a_weighted_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    distances, target = torch.rand((2, 2, 4, 5, 3), generator=generator) + 0.1
    weights = torch.rand((2, 5, 3), generator=generator)
    single = torch.stack(
        [
            box_giou_loss(
                distances[b, :, y, x].view(1, 4, 1, 1), target[b, :, y, x].view(1, 4, 1, 1), torch.ones(1, 1, 1)
            )
            for b, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(3)).tolist()
        ]
    )
    expected = (single.view(2, 5, 3) * weights).sum() / weights.sum()
    torch.testing.assert_close(box_giou_loss(distances, target, weights), expected)


def test_giou_loss_has_gradient_where_there_are_weights() -> None:
    distances = torch.full((1, 4, 2, 2), 2.0, requires_grad=True)
    weights = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    box_giou_loss(distances, torch.full_like(distances, 3.0), weights).backward()
    assert (distances.grad[:, :, 0, 0] < 0).all()  # larger boxes are better
    assert distances.grad.count_nonzero() == 4


def test_giou_loss_without_boxes_is_zero() -> None:
    distances = torch.full((1, 4, 2, 2), 2.0, requires_grad=True)
    loss = box_giou_loss(distances, torch.ones(1, 4, 2, 2), torch.zeros(1, 2, 2))
    assert loss.item() == 0
    loss.backward()
    assert not distances.grad.any()


def test_giou_loss_refuses_wrong_shapes() -> None:
    distances = torch.ones(2, 4, 5, 3)
    with pytest.raises(InputError, match=r"weights \(B, H, W\)"):
        box_giou_loss(distances, distances, torch.ones(2, 1, 5, 3))
    with pytest.raises(InputError, match=r"two tensors \(B, 4, H, W\)"):
        box_giou_loss(distances[:, :2], distances[:, :2], torch.ones(2, 5, 3))
