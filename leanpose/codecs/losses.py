"""Training losses. They use the methods of the tensors they are given, so this file does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from leanpose.errors import InputError, suggest

if TYPE_CHECKING:
    import torch

Push = Literal["exp", "max"]


def heatmap_mse(
    predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, foreground_weight: float = 0.0
) -> torch.Tensor:
    """Compute half the weighted mean squared error of heatmaps.

    With foreground_weight 0 it is the published loss of SimpleBaseline, HRNet and LPN: for each keypoint
    0.5 * mean over batch and pixels of (w * predicted - w * target)^2, then the mean over all K keypoints,
    those of weight zero included.

    Args:
        predicted: (B, K, H, W).
        target: (B, K, H, W), in 0..1.
        weights: (B, K), 0 for keypoints that do not count.
        foreground_weight: >= 0; each pixel's squared error is multiplied by 1 + foreground_weight * target.

    Returns:
        A scalar with gradient.

    Raises:
        InputError: the shapes do not fit, or foreground_weight is negative.
    """
    if predicted.shape != target.shape or predicted.shape[:2] != weights.shape:
        raise InputError(
            "heatmap_mse needs two tensors (B, K, H, W) and weights (B, K), "
            f"not {tuple(predicted.shape)}, {tuple(target.shape)} and {tuple(weights.shape)}."
        )
    _check_foreground_weight(foreground_weight)
    squared_error = ((predicted - target) * weights[:, :, None, None]) ** 2
    if foreground_weight > 0:
        squared_error = squared_error * (1 + foreground_weight * target)
    return 0.5 * squared_error.mean()


def masked_heatmap_mse(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, foreground_weight: float = 0.0
) -> torch.Tensor:
    """Compute the mean squared error of heatmaps of all persons, without the pixels that do not count.

    With foreground_weight 0 it is the published loss of HigherHRNet and LitePose (arXiv 1908.10357, 2205.01271):
    for each image the mean over keypoints and pixels of mask * (predicted - target)^2, pixels that do not count
    included in the number that the sum is divided by.

    Args:
        predicted: (B, K, H, W).
        target: (B, K, H, W), in 0..1.
        mask: (B, H, W), 0 for pixels that do not count, else 1.
        foreground_weight: >= 0; each pixel's squared error is multiplied by 1 + foreground_weight * target.

    Returns:
        (B,) with gradient, one value per image.

    Raises:
        InputError: the shapes do not fit, or foreground_weight is negative.
    """
    if predicted.shape != target.shape or predicted.ndim != 4 or mask.shape != predicted[:, 0].shape:
        raise InputError(
            "masked_heatmap_mse needs two tensors (B, K, H, W) and a mask (B, H, W), "
            f"not {tuple(predicted.shape)}, {tuple(target.shape)} and {tuple(mask.shape)}."
        )
    _check_foreground_weight(foreground_weight)
    squared_error = (predicted - target) ** 2 * mask[:, None]
    if foreground_weight > 0:
        squared_error = squared_error * (1 + foreground_weight * target)
    return squared_error.mean(dim=(1, 2, 3))


def tag_losses(
    tags: torch.Tensor, indices: torch.Tensor, valid: torch.Tensor, push: Push = "exp"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute how far apart the tags of one person are (pull) and how near those of two persons (push).

    Associative embedding (arXiv 1611.05424) in the form of HigherHRNet and LitePose, without their factors of
    1e-3. Persons without a valid keypoint are left out; let m_p be the mean tag of the valid keypoints of person p,
    P the number of persons of an image. Then pull is the mean over its persons of the mean of (tag - m_p)^2, and
    push 0.5 * the mean over its P * (P - 1) ordered pairs of exp(-(m_p - m_q)^2) or of max(0, 1 - |m_p - m_q|).
    Both are averaged over all images; those with no person (pull) or fewer than two (push) count as 0.

    Args:
        tags: (B, K, H, W), any range.
        indices: (B, P, K) int64, where each keypoint lies in the tag map of its kind: y * W + x, in 0..H*W-1; any
            such number, for example 0, where not valid.
        valid: (B, P, K) bool, whether the keypoint counts.
        push: "exp" (published default) or "max".

    Returns:
        push and pull, two scalars with gradient.

    Raises:
        InputError: the shapes do not fit, or push is neither.
    """
    batch, num_keypoints = tags.shape[:2]
    expected = (batch, indices.shape[1] if indices.ndim == 3 else "P", num_keypoints)
    if tags.ndim != 4 or tuple(indices.shape) != expected or tuple(valid.shape) != expected:
        raise InputError(
            "tag_losses needs tags (B, K, H, W) and two tensors (B, P, K), "
            f"not {tuple(tags.shape)}, {tuple(indices.shape)} and {tuple(valid.shape)}."
        )
    if push not in get_args(Push):
        raise InputError(f"Unknown push '{push}'.{suggest(push, get_args(Push))}")
    of_keypoints = tags.flatten(2).gather(2, indices.transpose(1, 2)).transpose(1, 2)  # (B, P, K)
    counts = valid.sum(dim=2)  # (B, P)
    present = counts > 0  # (B, P)
    num_people = present.sum(dim=1)  # (B,)
    means = (of_keypoints * valid).sum(dim=2) / counts.clamp(min=1)  # (B, P)

    spread = ((of_keypoints - means[..., None]) ** 2 * valid).sum(dim=2) / counts.clamp(min=1)  # (B, P), 0 if absent
    pull_loss = spread.sum(dim=1) / num_people.clamp(min=1)  # (B,)

    apart = means[:, :, None] - means[:, None, :]  # (B, P, P)
    nearness = (-(apart**2)).exp() if push == "exp" else (1 - apart.abs()).clamp(min=0)
    pairs = (present[:, :, None] & present[:, None, :]).triu(diagonal=1)  # each once; the other order is equal
    num_pairs = num_people * (num_people - 1)  # (B,)
    push_loss = (nearness * pairs).sum(dim=(1, 2)) / num_pairs.clamp(min=1)  # (B,); 2 orders * 0.5 = 1
    return push_loss.mean(), pull_loss.mean()


def center_focal_loss(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute the focal loss of a map of centers, reduced near the centers (CenterNet, arXiv 1904.07850, equation 1).

    With p = sigmoid(logits) it is the sum of -(1 - p)^2 log(p) at centers and of -(1 - target)^4 p^2 log(1 - p) at
    all other pixels, divided by the number of centers in the batch, or by 1 if there is none. Large logits do not
    overflow.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W), in 0..1, exactly 1 at centers.
        mask: (B, H, W), 0 for pixels that do not count, else 1.

    Returns:
        A scalar with gradient.

    Raises:
        InputError: the shapes do not fit.
    """
    if logits.ndim != 4 or logits.shape != target.shape or logits[:, 0].shape != mask.shape or logits.shape[1] != 1:
        raise InputError(
            "center_focal_loss needs two tensors (B, 1, H, W) and a mask (B, H, W), "
            f"not {tuple(logits.shape)}, {tuple(target.shape)} and {tuple(mask.shape)}."
        )
    zero = logits.new_zeros(())
    minus_log_p = (-logits).logaddexp(zero)  # log(1 + exp(-logits))
    minus_log_q = logits.logaddexp(zero)  # of q = 1 - p
    p, q = logits.sigmoid(), (-logits).sigmoid()
    centers = (target == 1) * mask[:, None]
    others = (target != 1) * mask[:, None]
    loss = centers * q**2 * minus_log_p + others * (1 - target) ** 4 * p**2 * minus_log_q
    return loss.sum() / centers.sum().clamp(min=1)


def box_giou_loss(distances: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute the weighted mean of 1 - GIoU (arXiv 1902.09630) of boxes given by distances from a pixel inside them.

    Predicted and wanted box of a pixel share this pixel, so they always overlap and their smallest common box
    follows from the larger distances.

    Args:
        distances: (B, 4, H, W), left, top, right, bottom, > 0 and finite, in any unit.
        target: (B, 4, H, W), in the same order and unit.
        weights: (B, H, W), >= 0; 0 for pixels without a box.

    Returns:
        A scalar with gradient, in 0..2; 0 where all weights are 0.

    Raises:
        InputError: the shapes do not fit.
    """
    shape = distances.shape
    if len(shape) != 4 or shape[1] != 4 or target.shape != shape or weights.shape != distances[:, 0].shape:
        raise InputError(
            "box_giou_loss needs two tensors (B, 4, H, W) and weights (B, H, W), "
            f"not {tuple(shape)}, {tuple(target.shape)} and {tuple(weights.shape)}."
        )
    intersection = _box_area(distances.minimum(target))  # (B, H, W)
    hull = _box_area(distances.maximum(target))
    union = _box_area(distances) + _box_area(target) - intersection
    giou = intersection / union - (hull - union) / hull
    return (weights * (1 - giou)).sum() / weights.sum().clamp(min=1e-6)


def _box_area(distances: torch.Tensor) -> torch.Tensor:
    """Areas (B, H, W) of boxes given by left, top, right, bottom (B, 4, H, W)."""
    left, top, right, bottom = distances.unbind(dim=1)
    return (left + right) * (top + bottom)


def _check_foreground_weight(foreground_weight: float) -> None:
    if foreground_weight < 0:
        raise InputError(f"Give foreground_weight as a number not below 0, not {foreground_weight}.")
