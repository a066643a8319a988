from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from leanpose.errors import InputError  # noqa: E402
from leanpose.losses import heatmap_mse  # noqa: E402

GOLDEN = Path(__file__).parents[2] / "shared" / "goldens" / "lpn_decode.safetensors"


def random_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.rand((2, 2, 3, 5, 4), generator=generator)
    weights = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    return predicted.requires_grad_(), target, weights


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is not on this machine")
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
