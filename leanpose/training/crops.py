"""From annotations to training batches: crops decoded once and kept in memory, drawn in a fixed random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from leanpose import geometry
from leanpose.data.annotations import check_size, open_annotations
from leanpose.data.scenes import Views, known_map
from leanpose.errors import InputError, note
from leanpose.geometry import Convention, Size
from leanpose.io.images import read_image
from leanpose.keypoint_sets import KeypointSet, without_partner
from leanpose.structures import Sample, Scene
from leanpose.training.augment import NOISE

MARGIN = 1.5  # side of a kept crop over side of the network input: room for zoom, rotation and shift


@dataclass
class DataSource:
    """One annotated set.

    Attributes:
        annotations: COCO-style JSON file, the export of an annotation tool, or MPII's list of persons (JSON or .h5).
        images: folder of its images.
        share: weight of this set among all: how often its persons are drawn.
        category: name or id of the category to learn, where several have keypoints.
    """

    annotations: str
    images: str
    share: float = 1.0
    category: str | None = None


Draw = tuple[int, int]  # position of a person in the set, number of the draw


class CropSet(Dataset):
    """Persons or scenes as uint8 crops in memory.

    A crop shows the padded box at the scale of the network input with a margin around it, so that one affine on the
    crop gives any view. Crops of scenes have a fourth channel: what is known about the persons at each pixel
    (scenes.known_map; 0 outside the image). Items are asked for in batches of (position, draw) pairs; the
    draw's number seeds its noise.

    Args:
        samples: annotated persons, or scenes; not both.
        input_size: (height, width) of the network input.
        padding, convention: as the network's Weights record says.
        seed: of the noise.
        threads: images decoded at once.
    """

    def __init__(
        self,
        samples: Sequence[Sample | Scene],
        input_size: Size,
        padding: float = 1.25,
        convention: Convention = "udp",
        seed: int = 0,
        threads: int = 2,
    ) -> None:
        self.seed = seed
        self.crowded = isinstance(samples[0], Scene)
        self.crop_size = (_with_margin(input_size[0]), _with_margin(input_size[1]))
        matrices = geometry.crop_matrices(
            np.stack([sample.box_xyxy for sample in samples]), input_size, padding, convention
        )
        middle, wanted = (geometry.grid_center(size, convention) for size in (input_size, self.crop_size))
        matrices[:, :, 2] += np.subtract(wanted, middle)  # the same scale, with a margin all around
        self.crops = torch.empty((len(samples), *self.crop_size, 4 if self.crowded else 3), dtype=torch.uint8)
        self._fill(samples, matrices, threads)
        self.annotations = {"keypoints": _carried([sample.keypoints for sample in samples], matrices)}
        if self.crowded:
            scenes = [sample for sample in samples if isinstance(sample, Scene)]
            self.annotations["visibility"] = torch.from_numpy(_stacked([scene.visibility for scene in scenes]))
            boxes = [scene.boxes_xyxy.reshape(-1, 2, 2) for scene in scenes]
            self.annotations["boxes_xyxy"] = _carried(boxes, matrices).flatten(2)
        else:
            weights = [sample.keypoint_weights for sample in samples if isinstance(sample, Sample)]
            self.annotations["weights"] = torch.from_numpy(np.stack(weights))

    def _fill(self, samples: Sequence[Sample | Scene], matrices: np.ndarray, threads: int) -> None:
        by_image = [
            (path, list(group))
            for path, group in groupby(
                sorted(range(len(samples)), key=lambda i: samples[i].image_path),
                lambda i: samples[i].image_path,
            )
        ]

        crops = self.crops.numpy()  # the same memory

        def cut(entry: tuple[str, list[int]]) -> None:
            path, positions = entry
            image = read_image(path)
            for i in positions:
                sample = samples[i]
                check_size(image, path, sample.image_size)
                if isinstance(sample, Scene):
                    image = np.dstack([image[..., :3], known_map(sample, image.shape[:2])])
                crops[i] = geometry.crop(image, matrices[i], self.crop_size)

        with ThreadPoolExecutor(threads) as pool:
            for _ in tqdm(pool.map(cut, by_image), "decoding images", len(by_image), disable=None):
                pass

    def to(self, device: torch.device) -> None:
        """Keep everything in a GPU's memory from now on, if it takes at most half of what is free there."""
        if device.type == "cuda" and self.crops.nbytes <= torch.cuda.mem_get_info(device)[0] / 2:
            self.crops = self.crops.to(device)
            self.annotations = {name: values.to(device) for name, values in self.annotations.items()}

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, item: Draw) -> dict[str, torch.Tensor]:
        return {name: values[0] for name, values in self.__getitems__([item]).items()}

    def __getitems__(self, items: Sequence[Draw]) -> dict[str, torch.Tensor]:
        """Return a batch: crops (B, H, W, 3) uint8, keypoints (B, K, 2), their weights (B, K), noise (B, NOISE).

        Of scenes: crops (B, H, W, 4), keypoints (B, P, K, 2), visibility (B, P, K), boxes_xyxy (B, P, 4), where
        persons that are not there have visibility 0 and NaN elsewhere.
        """
        positions = torch.tensor([position for position, _ in items]).to(self.crops.device, non_blocking=True)
        noise = np.stack([draw_noise(self.seed, draw) for _, draw in items])
        return {
            "crops": self.crops[positions],
            **{name: values[positions] for name, values in self.annotations.items()},
            "noise": torch.from_numpy(noise),
        }


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Stack arrays of the same shape, or of different first sides filled up with NaN (of whole numbers, 0)."""
    longest = max(len(array) for array in arrays)
    empty = np.nan if arrays[0].dtype.kind == "f" else 0
    stacked = np.full((len(arrays), longest, *arrays[0].shape[1:]), empty, dtype=arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def _carried(points: Sequence[np.ndarray], matrices: np.ndarray) -> torch.Tensor:
    """Carry (..., 2) image pixels of each sample to pixels of its crop."""
    stacked = _stacked(points)
    flat = geometry.transform(stacked.reshape(len(stacked), -1, 2), matrices)
    return torch.from_numpy(flat.reshape(stacked.shape).astype(np.float32))


def _with_margin(side: int) -> int:
    """Return the crop's side: whole pixels more on both sides, so that the plain view needs no resampling."""
    return side + 2 * round(side * (MARGIN - 1) / 2)


def draw_noise(seed: int, draw: int) -> np.ndarray:
    """Return (NOISE,) float32 uniform in (0, 1), a function of seed and draw alone."""
    return np.random.Generator(np.random.Philox(key=seed, counter=draw << 64)).random(NOISE, dtype=np.float32)


class MixedSampler(Sampler[Draw]):
    """Draw persons of several sets by their shares, every person of a set once before any comes twice.

    Epoch e of a seed is always the same sequence, so a resumed run continues as the unbroken one. Several processes
    take every n-th draw of the same sequence.

    Args:
        lengths: persons in each set; positions count through all sets.
        shares: weight of each set.
        samples_per_epoch: draws of all processes together.
        seed: of the order.
        rank, processes: which part of the sequence is ours.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        shares: Sequence[float],
        samples_per_epoch: int,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if min(shares) < 0 or sum(shares) <= 0:
            raise InputError(f"The shares of the data sets must not be negative and not all 0: {list(shares)}.")
        self.lengths, self.seed, self.rank, self.processes = lengths, seed, rank, processes
        exact = np.array(shares, dtype=np.float64) / sum(shares) * samples_per_epoch
        ends = np.round(np.cumsum(exact)).astype(int)
        self.counts = np.diff(ends, prepend=0)
        self.samples_per_epoch = samples_per_epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.samples_per_epoch, self.processes))

    def __iter__(self) -> Iterator[Draw]:
        first = np.cumsum([0, *self.lengths[:-1]])
        chosen = np.concatenate(
            [
                start + self._of_set(which, length, count)
                for which, (start, length, count) in enumerate(zip(first, self.lengths, self.counts, strict=True))
            ]
        )
        order = np.random.default_rng((self.seed, self.epoch)).permutation(chosen)
        for i in range(self.rank, self.samples_per_epoch, self.processes):
            yield int(order[i]), self.epoch * self.samples_per_epoch + i

    def _of_set(self, which: int, length: int, count: int) -> np.ndarray:
        """Return `count` positions in one set: the epoch's piece of an endless row of permutations."""
        start = self.epoch * count
        rounds = range(start // length, -(-(start + count) // length))
        row = [np.random.default_rng((self.seed, 1 + which, r)).permutation(length) for r in rounds]
        offset = start % length
        return np.concatenate([np.zeros(0, int), *row])[offset : offset + count]


def read_sources(
    sources: Sequence[DataSource], keypoint_set: KeypointSet, views: Views | None = None
) -> list[list[Sample | Scene]]:
    """Read the persons of each source, carried to one keypoint set by name; with `views` given, its scenes."""
    if not sources:
        raise InputError("There is no data to train on; give at least one annotation file and its folder.")
    sets: list[list[Sample | Scene]] = []
    for source in sources:
        annotated = open_annotations(source.annotations, source.images, source.category)
        if views is not None:
            sets.append([*annotated.scenes(keypoint_set, views)])
            continue
        sets.append([*annotated.samples(keypoint_set)])
        absent = without_partner(annotated.keypoint_set, keypoint_set)
        unused = without_partner(keypoint_set, annotated.keypoint_set)
        if absent or unused:
            lacks = [f"of '{keypoint_set.name}' it lacks {', '.join(absent)}"] if absent else []
            spare = [f"of its own keypoints there is no use for {', '.join(unused)}"] if unused else []
            note(f"{source.annotations}: {'; '.join(lacks + spare)}.")
    return sets
