"""Crops in memory and the order in which persons are drawn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from leanpose import geometry
from leanpose.data.annotations import open_annotations
from leanpose.data.scenes import ALL_KNOWN, BOX_KNOWN, NOTHING_KNOWN, Views, known_map
from leanpose.errors import InputError
from leanpose.geometry import CONVENTIONS, Convention
from leanpose.io.images import read_image
from leanpose.keypoint_sets import COCO, LSP
from leanpose.structures import Sample, Scene
from leanpose.training.augment import NOISE, Augmentation, draw_views
from leanpose.training.crops import CropSet, DataSource, MixedSampler, draw_noise, read_sources

INPUT = (64, 48)
MakePeople = Callable[..., tuple[Path, Path]]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Three persons on two smooth images, with the last keypoint unlabelled."""
    y, x = np.mgrid[0:150, 0:200]
    for name, phase in (("a.png", 0.0), ("b.png", 1.0)):
        waves = [np.sin(x / 23 + phase), np.cos(y / 19 + phase), np.sin((x + y) / 31)]
        cv2.imwrite(str(tmp_path / name), (127 + 100 * np.stack(waves, -1)).astype(np.uint8))
    random = np.random.default_rng(0)
    boxes = np.array([[40, 30, 90, 120], [100, 20, 170, 140], [20.5, 40.25, 60, 110.5]], np.float32)
    persons = []
    for name, box in zip(("a.png", "b.png", "a.png"), boxes, strict=True):
        keypoints = random.uniform(box[:2], box[2:], (17, 2)).astype(np.float32)
        keypoints[-1] = np.nan
        visibility = np.array([2] * 16 + [0], np.int8)
        persons.append(Sample(str(tmp_path / name), name, box, keypoints, visibility))
    return persons


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_middle_of_a_crop_is_the_view_of_the_network(samples: list[Sample], convention: Convention) -> None:
    crops = CropSet(samples, INPUT, padding=1.2, convention=convention)
    batch = crops.__getitems__([(0, 0), (1, 1), (2, 2)])
    assert batch["crops"].dtype == torch.uint8
    assert batch["crops"].shape == (3, 96, 72, 3)
    for i, sample in enumerate(samples):
        (matrix,) = geometry.crop_matrices(sample.box_xyxy[None], INPUT, 1.2, convention)
        view = geometry.crop(read_image(sample.image_path), matrix, INPUT)
        middle = batch["crops"][i, 16:-16, 12:-12].numpy()
        assert np.abs(middle.astype(int) - view).max() <= 2
        expected = geometry.transform(sample.keypoints[None], matrix[None])[0] + [12, 16]
        np.testing.assert_allclose(batch["keypoints"][i, :16].numpy(), expected[:16], atol=1e-3)
        assert torch.isnan(batch["keypoints"][i, 16]).all()
        assert batch["weights"][i].tolist() == (sample.visibility > 0).tolist()


def test_a_large_person_is_averaged_down_as_prediction_does(tmp_path: Path) -> None:
    y, x = np.mgrid[0:800, 0:700]
    image = (127 + 100 * np.stack([np.sin(x / 90), np.cos(y / 80), np.sin((x + y) / 120)], -1)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    box = np.array([100, 50, 600, 750], np.float32)
    sample = Sample(str(tmp_path / "a.png"), 1, box, np.zeros((17, 2), np.float32), np.full(17, 2, np.int8))
    (matrix,) = geometry.crop_matrices(box[None], INPUT)
    view = geometry.crop(read_image(sample.image_path), matrix, INPUT)
    middle = CropSet([sample], INPUT).crops.numpy()[0, 16:-16, 12:-12]
    assert np.abs(middle.astype(int) - view).max() <= 8  # the blocks that are averaged begin elsewhere


def test_crops_stay_in_main_memory_where_a_gpu_has_none_or_too_little(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = CropSet(samples, INPUT)
    expected = crops[(1, 5)]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * crops.crops.nbytes - 1, 0))
    for device in ("cpu", "cuda"):
        crops.to(torch.device(device))
        assert crops.crops.device.type == "cpu"
    for name, values in expected.items():
        np.testing.assert_array_equal(crops[(1, 5)][name], values)


class Movable(torch.Tensor):
    """A tensor for which the device "meta", which every machine has, is the GPU."""

    def to(self, device: torch.device) -> torch.Tensor:  # type: ignore[override]
        assert device.type == "cuda"
        return super().to("meta")


def test_crops_move_to_a_gpu_with_room_for_them(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    crops = CropSet(samples, INPUT)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * crops.crops.nbytes, 0))
    crops.crops = crops.crops.as_subclass(Movable)
    crops.annotations = {name: values.as_subclass(Movable) for name, values in crops.annotations.items()}
    crops.to(torch.device("cuda"))
    assert crops.crops.device.type == "meta"
    assert {name: values.device.type for name, values in crops.annotations.items()} == {
        "keypoints": "meta",
        "weights": "meta",
    }


def test_one_item_is_a_batch_of_one(samples: list[Sample]) -> None:
    crops = CropSet(samples, INPUT)
    one, many = crops[(1, 5)], crops.__getitems__([(0, 4), (1, 5)])
    assert len(crops) == 3
    assert one.keys() == many.keys() == {"crops", "keypoints", "weights", "noise"}
    for name in ("crops", "noise", "weights"):
        assert torch.equal(one[name], many[name][1])


def test_noise_depends_on_seed_and_draw_only(samples: list[Sample]) -> None:
    crops = CropSet(samples, INPUT, seed=3)
    first = crops.__getitems__([(0, 10), (1, 11)])["noise"]
    again = crops.__getitems__([(2, 11), (2, 7), (2, 10)])["noise"]
    assert torch.equal(first[0], again[2])
    assert torch.equal(first[1], again[0])
    assert not torch.equal(again[0], again[1])
    crops.seed = 4
    assert not torch.equal(crops.__getitems__([(0, 10)])["noise"][0], first[0])


def test_noise_is_uniform_and_independent() -> None:
    noise = np.stack([draw_noise(0, draw) for draw in range(2000)])
    assert noise.shape == (2000, NOISE)
    assert noise.dtype == np.float32
    assert 0 <= noise.min() < noise.max() < 1
    np.testing.assert_allclose(noise.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(noise.std(0), 12**-0.5, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(noise.T), np.eye(NOISE), atol=0.1)
    np.testing.assert_allclose(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1], 0, atol=0.1)


SQUARE = (64, 64)


@pytest.fixture
def scenes(samples: list[Sample]) -> list[Scene]:
    """Return scenes of two, no and one person: two of them views of one image with two ignored regions."""

    def scene(name: str, box: list[float], persons: list[int], *ignored: tuple[np.ndarray, int]) -> Scene:
        chosen = [samples[i] for i in persons]
        return Scene(
            image_path=next(sample.image_path for sample in samples if sample.image_id == name),
            image_id=name,
            box_xyxy=np.array(box, np.float32),
            keypoints=np.array([person.keypoints for person in chosen], np.float32).reshape(-1, 17, 2),
            visibility=np.array([person.visibility for person in chosen], np.int8).reshape(-1, 17),
            boxes_xyxy=np.array([person.box_xyxy for person in chosen], np.float32).reshape(-1, 4),
            ignored=ignored,
        )

    crowd = (np.array([[60, 40], [90, 40], [90, 70], [60, 70]], np.float32), NOTHING_KNOWN)
    unlabelled = (np.array([[100, 60], [130, 60], [130, 110], [100, 110]], np.float32), BOX_KNOWN)
    return [
        scene("a.png", [25, 0, 174, 149], [0, 2], crowd, unlabelled),
        scene("b.png", [25, 0, 174, 149], []),
        scene("a.png", [40, 30, 90, 120], [0], crowd, unlabelled),
    ]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_crops_of_scenes_carry_what_is_known(scenes: list[Scene], convention: Convention) -> None:
    crops = CropSet(scenes, SQUARE, padding=1.0, convention=convention)
    batch = crops.__getitems__([(0, 0), (1, 1), (2, 2)])
    assert batch["crops"].dtype == torch.uint8
    assert batch["crops"].shape == (3, 96, 96, 4)
    for i, scene in enumerate(scenes):
        (matrix,) = geometry.crop_matrices(scene.box_xyxy[None], SQUARE, 1.0, convention)
        matrix[:, 2] += 16
        image = read_image(scene.image_path)
        expected = geometry.crop(np.dstack([image, known_map(scene, image.shape[:2])]), matrix, (96, 96))
        np.testing.assert_array_equal(batch["crops"][i].numpy(), expected)
    everybody, nobody = batch["crops"][0, ..., 3], batch["crops"][1, ..., 3]
    assert set(nobody.unique().tolist()) >= {0, ALL_KNOWN}
    assert (everybody[:10] == 0).all() and (everybody[-10:] == 0).all()  # above and below the image
    matrix = geometry.crop_matrices(scenes[0].box_xyxy[None], SQUARE, 1.0, convention)
    matrix[..., 2] += 16
    for place, level in (((75, 55), NOTHING_KNOWN), ((115, 85), BOX_KNOWN), ((150, 30), ALL_KNOWN)):
        x, y = geometry.transform(np.array([[place]], float), matrix)[0, 0].round().astype(int)
        assert everybody[y, x] == level


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_persons_of_scenes_are_carried_and_filled_up(scenes: list[Scene], convention: Convention) -> None:
    batch = CropSet(scenes, SQUARE, padding=1.2, convention=convention).__getitems__([(0, 0), (1, 1), (2, 2)])
    assert {name: tuple(values.shape) for name, values in batch.items()} == {
        "crops": (3, 96, 96, 4),
        "keypoints": (3, 2, 17, 2),
        "visibility": (3, 2, 17),
        "boxes_xyxy": (3, 2, 4),
        "noise": (3, NOISE),
    }
    for i, scene in enumerate(scenes):
        matrix = geometry.crop_matrices(scene.box_xyxy[None], SQUARE, 1.2, convention)
        matrix[..., 2] += 16
        count = len(scene.visibility)
        for person in range(count):
            expected = geometry.transform(scene.keypoints[person, None], matrix)[0]
            np.testing.assert_allclose(batch["keypoints"][i, person].numpy(), expected, atol=1e-3)
            corners = geometry.transform(scene.boxes_xyxy[person].reshape(1, 2, 2), matrix)
            np.testing.assert_allclose(batch["boxes_xyxy"][i, person].numpy(), corners.ravel(), atol=1e-3)
            assert batch["visibility"][i, person].tolist() == scene.visibility[person].tolist()
        assert batch["keypoints"][i, count:].isnan().all()
        assert batch["boxes_xyxy"][i, count:].isnan().all()
        assert (batch["visibility"][i, count:] == 0).all()


def test_the_same_draw_is_the_same_view(scenes: list[Scene]) -> None:
    settings = Augmentation(brightness=0.3, shift=0.1)
    sets = [CropSet(scenes, SQUARE, seed=3, threads=threads) for threads in (1, 2)]
    batches = [sets[0].__getitems__([(0, 5), (2, 8)]), sets[1].__getitems__([(2, 8), (1, 2), (0, 5), (0, 6)])]
    seen = []
    for batch in batches:
        views = draw_views(batch["noise"], settings, sets[0].crop_size, SQUARE)
        seen.append((views.images(batch["crops"]), views.points(batch["keypoints"]), views.boxes(batch["boxes_xyxy"])))
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other[[2, 0]], rtol=0, atol=1e-3, equal_nan=True)
    assert not torch.allclose(seen[1][0][2], seen[1][0][3], atol=5)  # another draw is another view
    one = sets[0][(2, 8)]
    for name, values in batches[0].items():
        torch.testing.assert_close(one[name], values[1], rtol=0, atol=0, equal_nan=True)


def test_a_missing_image_is_named(samples: list[Sample]) -> None:
    lost = Sample("absent.png", 1, samples[0].box_xyxy, samples[0].keypoints, samples[0].visibility)
    with pytest.raises(InputError, match=r"absent\.png"):
        CropSet([*samples, lost], INPUT)


def positions(sampler: MixedSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    return [position for position, _ in sampler]


def test_shares_are_respected_in_each_epoch() -> None:
    sampler = MixedSampler([10, 1000, 5], [0.5, 0.3, 0.2], 200, seed=1)
    for epoch in range(3):
        drawn = np.array(positions(sampler, epoch))
        counts = [int(((drawn >= low) & (drawn < high)).sum()) for low, high in ((0, 10), (10, 1010), (1010, 1015))]
        assert counts == [100, 60, 40]


@pytest.mark.parametrize(("shares", "number"), [([1, 1, 1], 100), ([0.7, 0.2, 0.1], 33), ([1, 0, 2], 7)])
def test_an_epoch_has_exactly_the_wanted_number(shares: list[float], number: int) -> None:
    sampler = MixedSampler([4, 5, 6], shares, number)
    drawn = positions(sampler)
    assert len(drawn) == len(sampler) == number
    assert all(0 <= position < 15 for position in drawn)
    if not shares[1]:
        assert not any(4 <= position < 9 for position in drawn)


def test_every_person_of_a_set_once_before_any_twice() -> None:
    sampler = MixedSampler([7, 11], [0.5, 0.5], 20, seed=2)  # 10 of each an epoch
    first: list[int] = []
    second: list[int] = []
    for epoch in range(11):
        drawn = positions(sampler, epoch)
        first += [p for p in drawn if p < 7]
        second += [p for p in drawn if p >= 7]
    # 110 draws of each set: 15 whole rounds and 5 of 7, 10 whole rounds of 11
    assert set(Counter(first).values()) == {15, 16}
    assert set(Counter(second).values()) == {10}
    small = MixedSampler([7], [1], 3)
    assert len({p for epoch in range(2) for p in positions(small, epoch)}) == 6  # rounds go on across epochs


def test_the_order_is_mixed() -> None:
    drawn = positions(MixedSampler([50, 50], [1, 1], 100))
    assert sorted(drawn) == list(range(100))
    assert len({p < 50 for p in drawn[:10]}) == 2
    assert drawn != sorted(drawn)


def test_epochs_differ_and_a_seed_repeats() -> None:
    sampler = MixedSampler([30], [1.0], 30, seed=5)
    one, two = positions(sampler, 0), positions(sampler, 1)
    assert one != two
    again = MixedSampler([30], [1.0], 30, seed=5)
    assert positions(again, 1) == two  # a resumed run begins with set_epoch
    assert positions(again, 0) == one
    assert positions(MixedSampler([30], [1.0], 30, seed=6), 0) != one


def test_draw_numbers_never_repeat() -> None:
    sampler = MixedSampler([3], [1.0], 8)
    numbers = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        numbers += [draw for _, draw in sampler]
    assert numbers == list(range(24))


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_one_sequence(processes: int) -> None:
    whole = MixedSampler([20, 9], [2, 1], 24, seed=3)
    whole.set_epoch(4)
    parts = [MixedSampler([20, 9], [2, 1], 24, 3, rank, processes) for rank in range(processes)]
    for part in parts:
        part.set_epoch(4)
    assert [len(part) for part in parts] == [24 // processes] * processes
    interleaved = [draw for draws in zip(*parts, strict=True) for draw in draws]
    assert interleaved == list(whole)


@pytest.mark.parametrize("shares", [[0, 0], [1, -1]])
def test_impossible_shares(shares: list[float]) -> None:
    with pytest.raises(InputError, match="shares"):
        MixedSampler([3, 3], shares, 10)


def test_an_image_of_another_size_is_not_cut(samples: list[Sample]) -> None:
    assert len(CropSet([replace(samples[0], image_size=(150, 200))], INPUT)) == 1
    with pytest.raises(InputError, match=r"a\.png has 200 x 150 pixels, but its annotations are for 150 x 200"):
        CropSet([samples[1], replace(samples[0], image_size=(200, 150))], INPUT)


def test_sources_become_one_keypoint_set(people: MakePeople, capsys: pytest.CaptureFixture[str]) -> None:
    coco, coco_images = people("coco", count=2)
    lsp, lsp_images = people("lsp", count=3, keypoint_set=LSP)
    sets = read_sources([DataSource(str(coco), str(coco_images)), DataSource(str(lsp), str(lsp_images))], COCO)
    assert [len(samples) for samples in sets] == [2, 3]
    (line,) = capsys.readouterr().err.splitlines()  # of the set that has other keypoints
    assert "people.json: of 'coco' it lacks nose, left_eye, right_eye, left_ear, right_ear; of its own" in line
    assert line.endswith("no use for neck, top_head.")
    assert all(len(sample.visibility) == 17 for samples in sets for sample in samples)
    own = open_annotations(lsp, lsp_images).samples()[0]
    ankle = COCO.keypoints.index("right_ankle")
    np.testing.assert_array_equal(sets[1][0].keypoints[ankle], own.keypoints[0])
    with pytest.raises(InputError, match="no data"):
        read_sources([], COCO)


def test_a_source_may_have_several_categories(people: MakePeople) -> None:
    file, images = people(count=2)
    content = json.loads(file.read_text())
    content["categories"].append({"id": 2, "name": "cup", "keypoints": ["handle"]})
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="choose one of 'person', 'cup'"):
        read_sources([DataSource(str(file), str(images))], COCO)
    ((first, _),) = read_sources([DataSource(str(file), str(images), category="person")], COCO)
    assert first.visibility.all()


@pytest.mark.parametrize("views", ["images", "persons"])
def test_sources_are_read_as_scenes_where_views_are_given(people: MakePeople, views: Views) -> None:
    coco, images = people("coco", count=3)
    ((first, *others),) = read_sources([DataSource(str(coco), str(images))], COCO, views)
    assert len(others) == 2
    assert isinstance(first, Scene)
    sample = open_annotations(coco, images).samples()[0]
    expected = sample.box_xyxy if views == "persons" else [0, 10, 99, 109]  # of 100 x 120 pixels
    np.testing.assert_array_equal(first.box_xyxy, np.asarray(expected, np.float32))
    np.testing.assert_array_equal(first.keypoints[0], sample.keypoints)
    lsp, lsp_images = people("lsp", count=1, keypoint_set=LSP)
    with pytest.raises(InputError, match="has the keypoints 'lsp', not 'coco'"):
        read_sources([DataSource(str(lsp), str(lsp_images))], COCO, views)
