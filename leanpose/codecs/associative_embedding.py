"""Associative embedding: the keypoints of all people in one set of maps, sorted into people by their tags.

Source: Newell et al., "Associative Embedding: End-to-End Learning for Joint Detection and Grouping", arXiv
1611.05424, in the exact form of HigherHRNet (arXiv 1908.10357) and LitePose (arXiv 2205.01271): their targets and
their parser, quirks included, because the published results have them. What differs from it: people whose first
tags are equal to the bit stay two people, and equal costs are decided by SciPy's assignment, not by that of the
package munkres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np

from leanpose.codecs.flip import flip_back
from leanpose.codecs.heatmap import check_positive
from leanpose.codecs.interface import Outputs
from leanpose.codecs.scales import enlarge, merge_scales
from leanpose.errors import InputError
from leanpose.geometry import Convention, Size, heatmap_to_input
from leanpose.weights.record import Task

if TYPE_CHECKING:
    import torch

# COCO's keypoints in the order in which they are grouped. As published, CrowdPose's 14 are grouped in the first 14
# of these numbers, although they mean other keypoints there.
COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
EXTRA_COST = 1e10  # of a candidate for opening a person of its own, as published
SHORTLIST = 0.02  # refine looks at the pixels not below this first; changes the time, never the result


@dataclass(frozen=True)
class AssociativeEmbedding:
    """Gaussians of all people in one map for each keypoint; decoded by peaks, tags and an assignment.

    Unlike the other codecs it reads whole images, and places follow the published parser: decode_maps adds half a
    pixel, so that (0, 0) is the top left corner of the top left pixel and a map of width W ends at x = W. Only
    with adjust off do the keypoints it found as peaks stay on whole pixels.

    Args:
        sigma: standard deviation of the target Gaussian, heatmap pixels, > 0.
        max_people: how many peaks of each map are read, and how many people take part in the assignment, >= 1.
        detection_threshold: peaks not above this value are left out, >= 0.
        tag_threshold: a peak joins a person whose mean tag is nearer than this (Euclidean), > 0.
        nms_kernel: side of the square window in which a peak is the highest pixel, odd, 1 for every pixel.
        use_detection_value: whether the assignment compares rounded distances of tags and prefers higher peaks,
            or compares the plain distances.
        ignore_too_much: whether keypoints are skipped once there are max_people people.
        adjust: whether decode moves peaks half a pixel, and a quarter towards the higher neighbour.
        refine: whether decode fills in the keypoints that a person lacks.
        upsample: whether the maps are enlarged to the size of the network's input before decode, as published;
            decode_maps takes maps of any size.
        convention: how maps lie over the input, see leanpose.geometry.

    Raises:
        InputError: a parameter is out of range.
    """

    sigma: float = 2.0
    max_people: int = 30
    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    nms_kernel: int = 5
    use_detection_value: bool = True
    ignore_too_much: bool = False
    adjust: bool = True
    refine: bool = True
    upsample: bool = True
    convention: Convention = "classic"

    task: ClassVar[Task] = "bottom_up"
    output_names: ClassVar[tuple[str, ...]] = ("heatmaps_4", "tags", "heatmaps_2")

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)
        check_positive("tag_threshold", self.tag_threshold)
        threshold = self.detection_threshold
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold < float("inf"):
            raise InputError(f"Give detection_threshold as a number of at least 0, not {threshold!r}.")
        for name, odd in (("max_people", False), ("nms_kernel", True)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (odd and value % 2 == 0):
                raise InputError(f"Give {name} as an {'odd ' if odd else ''}integer above 0, not {value!r}.")
        for name in ("use_detection_value", "ignore_too_much", "adjust", "refine", "upsample"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise InputError(f"Give {name} as true or false, not {value!r}.")

    def encode_maps(
        self, keypoints: torch.Tensor, visibility: torch.Tensor, heatmap_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw the targets of the heatmaps and say where the tags are read, on the keypoints' device.

        Args:
            keypoints: (B, P, K, 2), x and y in heatmap pixels; may lie outside the map, may be NaN (then not
                labelled). Places without a person have visibility 0.
            visibility: (B, P, K), 0 unlabelled, 1 hidden, 2 visible; 1 and 2 are treated alike.
            heatmap_size: (H, W).

        Returns:
            heatmaps (B, K, H, W) float32 in 0..1: a Gaussian of peak 1 for each valid keypoint, zero more than
            3 sigma + 1 pixels away on either axis; of several people the largest value counts. indices
            (B, P, K) int64: y * W + x of the keypoint's pixel in the map of its kind, 0 where it is not valid.
            valid (B, P, K) bool: labelled, and its pixel lies in the map. The pixel is the position truncated
            towards zero, as published, so that -0.5 is pixel 0.

        Raises:
            InputError: the shapes of keypoints and visibility do not fit.
        """
        import torch

        if keypoints.ndim != 4 or keypoints.shape[3] != 2 or keypoints.shape[:3] != visibility.shape:
            raise InputError(
                "encode needs keypoints (B, P, K, 2) and visibility (B, P, K), "
                f"not {tuple(keypoints.shape)} and {tuple(visibility.shape)}."
            )
        batch, _, num_keypoints, _ = keypoints.shape
        height, width = heatmap_size
        device = keypoints.device
        with torch.no_grad():
            pixels = torch.trunc(keypoints)
            size = torch.tensor([width, height], device=device)
            inside = ((pixels >= 0) & (pixels < size)).all(dim=3)  # NaN compares false
            valid = (visibility > 0) & inside  # (B, P, K)
            x, y = pixels.masked_fill(~valid[..., None], 0).to(torch.int64).unbind(dim=3)  # (B, P, K) each
            # The Gaussian is the same for all, so one patch is put at every place; a frame around the maps takes
            # what reaches over their edges.
            radius = int(3 * self.sigma + 1)
            offsets = torch.arange(-radius, radius + 1, device=device)
            square = (offsets**2).to(torch.float64)
            patch = torch.exp(-(square[:, None] + square) / (2 * self.sigma**2)).to(torch.float32)
            framed_height, framed_width = height + 2 * radius, width + 2 * radius
            framed = torch.zeros(
                (batch, num_keypoints, framed_height, framed_width), dtype=torch.float32, device=device
            )
            b, p, k = valid.nonzero(as_tuple=True)
            corner = ((b * num_keypoints + k) * framed_height + y[b, p, k]) * framed_width + x[b, p, k]
            steps = (offsets[:, None] + radius) * framed_width + offsets + radius
            places = corner[:, None] + steps.flatten()
            framed.view(-1).scatter_reduce_(
                0, places.flatten(), patch.flatten().repeat(len(corner)), reduce="amax", include_self=True
            )
            heatmaps = framed[:, :, radius : radius + height, radius : radius + width].contiguous()
            return heatmaps, y * width + x, valid

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the persons of one image in the outputs of a network.

        Args:
            outputs: heatmaps_4 and tags (T, K, h, w), heatmaps_2 (T, K, 2h, 2w), T looks at the image: one, or
                two as `merge_flipped` joins them.
            input_size: (height, width) of the network's input.

        Returns:
            keypoints (N, K, 2) float32 in input pixels, NaN where lacking, scores (N, K), person_scores (N,) float32;
            best first.
        """
        return self.decode_merged(*self.merge(outputs, input_size), input_size)

    def merge(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Return heatmaps (K, h, w), the mean of all looks, and tags (K, h, w, T), as large as they are decoded."""
        heatmaps, tags = merge_scales(outputs)
        size = input_size if self.upsample else heatmaps.shape[2:]
        heatmaps, tags = enlarge(heatmaps, size), enlarge(tags, size)
        return heatmaps.mean(axis=0), tags.transpose(1, 2, 3, 0)

    def decode_merged(
        self, heatmaps: np.ndarray, tags: np.ndarray, input_size: Size
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `decode` does, from maps that `merge` gives."""
        keypoints, scores, person_scores = self.decode_maps(heatmaps, tags)
        height, width = heatmaps.shape[1:]
        keypoints = heatmap_to_input(keypoints, input_size, (height, width), self.convention)
        order = np.argsort(-person_scores, kind="stable")
        return keypoints[order], scores[order], person_scores[order]

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        """Put the mirrored image's maps, turned back, beside the image's: heatmaps are averaged by `decode`, tags
        count twice."""
        return {
            name: np.concatenate([outputs[name], flip_back(mirrored[name], flip_index)]) for name in self.output_names
        }

    def decode_maps(self, heatmaps: np.ndarray, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the people of one image.

        Args:
            heatmaps: (K, H, W), about 0..1. A pixel that is NaN is no peak.
            tags: (K, H, W, T), any range, T >= 1 tags for each pixel. A pixel with a tag that is not finite is
                no peak.

        Returns:
            keypoints (N, K, 2) float32, x and y in heatmap pixels as the class describes them, NaN where the
            person lacks the keypoint; scores (N, K) float32, the value of the heatmap, 0 where it is lacking;
            and person_scores (N,) float32, the mean of the K scores before refine, zeros included. People come
            in the order in which the parser meets them.

        Raises:
            InputError: the shapes do not fit.
        """
        people, person_scores = self.group(heatmaps, tags)
        scores = people[..., 2].copy()
        keypoints = np.where(scores[..., None] > 0, people[..., :2], np.float32(np.nan))
        return keypoints, scores, person_scores

    def group(self, heatmaps: np.ndarray, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the people of one image, as the published parser gives them.

        Args:
            heatmaps, tags: as in `decode`.

        Returns:
            people (N, K, 3 + T) float32, x, y, value and tags of each keypoint, all 0 where it is lacking (the
            tags also where refine filled it in); and person_scores (N,) float32.

        Raises:
            InputError: the shapes do not fit.
        """
        heatmaps, tags = _check_maps(heatmaps, tags)
        k, y, x = find_candidates(heatmaps, tags, self.nms_kernel, self.detection_threshold, self.max_people)
        values, found_tags = heatmaps[k, y, x], tags[k, y, x]  # (C,), (C, T)
        members = self._assign(k, values, found_tags, len(heatmaps))  # (N, K)
        places = _quarter_places(heatmaps, k, y, x) if self.adjust else np.stack([x, y], axis=1).astype(np.float32)
        lacking = members < 0
        candidates = np.concatenate([places, values[:, None], found_tags], axis=1)  # (C, 3 + T)
        people = np.zeros((*members.shape, candidates.shape[1]), dtype=np.float32)
        people[~lacking] = candidates[members[~lacking]]
        person_scores = people[..., 2].mean(axis=1)
        if self.refine and lacking.any():
            _fill_in(people, lacking, heatmaps, tags)
        return people, person_scores

    def _assign(self, k: np.ndarray, values: np.ndarray, tags: np.ndarray, num_keypoints: int) -> np.ndarray:
        """Sort candidates into people, one keypoint after the other.

        Args:
            k: (C,) the keypoint of each candidate, ascending.
            values: (C,), those of one keypoint descending.
            tags: (C, T).
            num_keypoints: K.

        Returns:
            (N, K) int64: the number of the candidate that is this keypoint of this person, -1 where none is.
        """
        from scipy.optimize import linear_sum_assignment  # takes half a second, which only this codec should cost

        starts = np.searchsorted(k, np.arange(num_keypoints + 1)).tolist()
        values, tags = values.astype(np.float64), tags.astype(np.float64)
        members = np.full((len(k), num_keypoints), -1, dtype=np.int64)
        sums = np.zeros_like(tags)  # of the tags of each person's members
        counts = np.zeros((len(k), 1))
        num_people = 0
        for keypoint in grouping_order(num_keypoints):
            start, end = starts[keypoint], starts[keypoint + 1]
            rivals = min(num_people, self.max_people)  # only the first people can be joined
            if start == end or (self.ignore_too_much and rivals == self.max_people):
                continue
            newcomers = np.arange(start, end)
            if rivals:
                difference = tags[start:end, None] - sums[:rivals] / counts[:rivals]  # (n, rivals, T)
                distance = _length(difference)
                cost = np.full((end - start, max(rivals, end - start)), EXTRA_COST)
                if self.use_detection_value:
                    cost[:, :rivals] = 100 * np.rint(distance) - values[start:end, None]
                else:
                    cost[:, :rivals] = distance
                person = linear_sum_assignment(cost)[1]  # (n,), as no candidate remains without a column
                near = np.take_along_axis(distance, np.minimum(person, rivals - 1)[:, None], axis=1)[:, 0]
                joins = (person < rivals) & (near < self.tag_threshold)
                person, joining, newcomers = person[joins], newcomers[joins], newcomers[~joins]
                members[person, keypoint] = joining
                sums[person] += tags[joining]
                counts[person] += 1
            opened = slice(num_people, num_people + len(newcomers))
            members[opened, keypoint] = newcomers
            sums[opened] = tags[newcomers]
            counts[opened] = 1
            num_people = opened.stop
        return members[:num_people]


def grouping_order(num_keypoints: int) -> Sequence[int]:
    """Return the numbers of the keypoints in the order in which they are grouped, as published for 14 and 17."""
    return COCO_ORDER[:num_keypoints] if num_keypoints in (14, 17) else range(num_keypoints)


def find_candidates(
    heatmaps: np.ndarray, tags: np.ndarray, nms_kernel: int, threshold: float, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the highest peaks of each heatmap.

    Args:
        heatmaps: (K, H, W) float32.
        tags: (K, H, W, T) float32.
        nms_kernel: side of the window in which a peak is the highest pixel, odd. Equal pixels are all peaks.
        threshold: only finite values above this, with finite tags, are peaks; >= 0.
        count: at most so many of each map.

    Returns:
        k, y, x, (C,) int64 each: keypoint, row and column. Keypoints ascend; of one keypoint, values descend,
        and equal ones come in reading order.
    """
    kernel = np.ones((nms_kernel, nms_kernel), dtype=np.uint8)
    highest = np.empty_like(heatmaps)
    for single, result in zip(heatmaps, highest, strict=True):
        cv2.dilate(single, kernel, dst=result)  # what lies outside the map is lower than every pixel
    _, height, width = heatmaps.shape
    flat = np.flatnonzero((heatmaps == highest) & (heatmaps >= threshold))  # against the threshold as float32
    k, rest = np.divmod(flat, height * width)
    y, x = np.divmod(rest, width)
    values = heatmaps.reshape(-1)[flat]
    usable = np.isfinite(values) & (values > np.float64(threshold)) & np.isfinite(tags[k, y, x]).all(axis=1)
    order = np.lexsort((-values, k))
    order = order[usable[order]]
    first = np.searchsorted(k[order], k[order])  # where the keypoint of each begins
    order = order[np.arange(len(order)) - first < count]
    return k[order], y[order], x[order]


def _fill_in(people: np.ndarray, lacking: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray) -> None:
    """Give people the keypoints they lack: of all pixels p the one with the largest det(p) - round(|tag(p) - mean|).

    The mean is that of the tags of the person's other keypoints. Of equal pixels the first in reading order
    counts, and one without a positive value of the heatmap is not taken.

    Args:
        people: (N, K, 3 + T) float32; x, y and value are changed where the keypoint is lacking.
        lacking: (N, K) bool.
        heatmaps, tags: (K, H, W), (K, H, W, T) float32.
    """
    counts = (~lacking).sum(axis=1, keepdims=True)  # (N, 1), never 0
    means = (people[..., 3:].sum(axis=1, dtype=np.float64) / counts).astype(np.float32)  # (N, T)
    width = heatmaps.shape[2]
    best = np.zeros(lacking.shape, dtype=np.int64)
    for keypoint in np.flatnonzero(lacking.any(axis=0)):
        values = heatmaps[keypoint].reshape(-1)  # (pixels,)
        planes = [tags[keypoint, ..., channel].reshape(-1) for channel in range(tags.shape[3])]
        todo = np.flatnonzero(lacking[:, keypoint])
        # No pixel is better than its own value. So who finds a pixel with at least SHORTLIST among those whose
        # value is not below that needs no other.
        shortlist = np.flatnonzero(values >= SHORTLIST)
        if len(shortlist):
            near = _ratings(values[shortlist], [plane[shortlist] for plane in planes], means[todo])
            index = near.argmax(axis=1)
            best[todo, keypoint] = shortlist[index]
            todo = todo[~(near[np.arange(len(todo)), index] >= SHORTLIST)]
        for person in todo:
            best[person, keypoint] = _ratings(values, planes, means[person, None]).argmax()
    n, k = np.nonzero(lacking)
    y, x = np.divmod(best[n, k], width)
    values = heatmaps[k, y, x]
    taken = values > 0
    n, k, y, x = n[taken], k[taken], y[taken], x[taken]
    people[n, k, :2] = _quarter_places(heatmaps, k, y, x)
    people[n, k, 2] = values[taken]


def _ratings(values: np.ndarray, planes: Sequence[np.ndarray], means: np.ndarray) -> np.ndarray:
    """Compute value - round(distance of tag and mean): (n,), T times (n,), (m, T) -> (m, n) float32."""
    if len(planes) == 1:
        distance = planes[0] - means[:, :1]
        np.abs(distance, out=distance)
    else:
        distance = np.square(planes[0] - means[:, :1])
        for channel in range(1, len(planes)):
            distance += np.square(planes[channel] - means[:, channel, None])
        np.sqrt(distance, out=distance)
    np.rint(distance, out=distance)
    return np.subtract(values, distance, out=distance)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Euclidean length along the last axis."""
    return np.abs(vectors[..., 0]) if vectors.shape[-1] == 1 else np.sqrt(np.square(vectors).sum(axis=-1))


def _quarter_places(heatmaps: np.ndarray, k: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Compute pixel + 0.5, and a quarter pixel towards the higher neighbour on each axis: (C, 2) float32, x and y.

    As published, the neighbour of a border pixel outside the map is the pixel itself, and with equal neighbours the
    step is towards zero.
    """
    _, height, width = heatmaps.shape
    right = heatmaps[k, y, np.minimum(x + 1, width - 1)] > heatmaps[k, y, np.maximum(x - 1, 0)]
    down = heatmaps[k, np.minimum(y + 1, height - 1), x] > heatmaps[k, np.maximum(y - 1, 0), x]
    steps = np.where(np.stack([right, down], axis=1), 0.75, 0.25)
    return (np.stack([x, y], axis=1) + steps).astype(np.float32)


def _check_maps(heatmaps: np.ndarray, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float32, or raise InputError when their shapes cannot be decoded."""
    heatmaps = np.ascontiguousarray(heatmaps, dtype=np.float32)
    tags = np.asarray(tags, dtype=np.float32)
    if heatmaps.ndim != 3 or tags.ndim != 4 or tags.shape[:3] != heatmaps.shape or 0 in tags.shape:
        raise InputError(
            "decode needs heatmaps (K, H, W) and tags (K, H, W, T) with at least one pixel and tag, "
            f"not {heatmaps.shape} and {tags.shape}."
        )
    return heatmaps, tags
