"""What an arch is worth: how the images are split, norms calibrated, and figures measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from leanpose.errors import InputError  # noqa: E402
from leanpose.inference.engines import TorchEngine  # noqa: E402
from leanpose.keypoint_sets import COCO  # noqa: E402
from leanpose.models.batch_norm import calibrate_batch_norm  # noqa: E402
from leanpose.models.litepose_arch import LitePoseArch  # noqa: E402
from leanpose.models.litepose_supernet import cut  # noqa: E402
from leanpose.search.judge import Judge, Task, split  # noqa: E402
from leanpose.search.onnx_template import OnnxTemplate  # noqa: E402

MakePeople = Callable[..., tuple[Path, Path]]
Rectangles = Any


@pytest.fixture
def task(supernet: Path, people: MakePeople) -> Task:
    data, images = people(count=12)
    return Task(str(supernet), str(data), str(images), "recall", calibration_images=4)


def test_images_for_calibration_and_for_the_search_have_none_in_common(task: Task) -> None:
    calibration, held = split(task)
    (one, other), everything = ([image.path for image in part] for part in (calibration, held.images(None))), 12
    assert (len(one), len(other)) == (4, 8)
    assert len({*one, *other}) == everything
    assert {person.image.path for person in held.persons} == set(other)
    assert [image.path for image in split(task)[0]] == one
    assert [image.path for image in split(dataclasses.replace(task, seed=1))[0]] != one
    fewer, part = split(dataclasses.replace(task, search_images=3))
    assert [image.path for image in fewer] == one
    assert {image.path for image in part.images(None)} < set(other) and len(part.images(None)) == 3
    with pytest.raises(InputError, match="has 12 images, and the search needs 13: give fewer --calibration-images or"):
        split(dataclasses.replace(task, search_images=9))


def test_only_coco_style_files(task: Task, mpii_people: MakePeople) -> None:
    data, images = mpii_people()
    with pytest.raises(InputError, match="is no COCO-style file, which names everybody in an image"):
        split(dataclasses.replace(task, data=str(data), images=str(images)))


def test_norms_are_those_of_the_arch_and_the_supernet_stays_as_it_is(task: Task, tiny: LitePoseArch) -> None:
    judge = Judge(task)
    before = {name: tensor.clone() for name, tensor in judge.supernet.state_dict().items()}
    arch = dataclasses.replace(tiny, stem_width=8, stage_widths=(8, 16, 8, 40), input_size=64)
    network: Any
    network, record = judge.network(arch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in judge.supernet.state_dict().items())
    assert not network.training
    assert (record.model, record.name, record.input_size) == ("litepose", "litepose.coco_64x64", (64, 64))
    assert record.model_options == {"arch": arch.as_dict(), "person_head": True}
    assert (record.codec, record.box_codec) == ("associative_embedding", "center_box")

    (batch,) = judge._batches(record)
    assert batch.shape == (4, 3, 64, 64)
    by_hand = cut(judge.supernet, arch)
    calibrate_batch_norm(by_hand, [batch])
    for name, tensor in by_hand.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    assert float(network.first[0][1].running_mean.abs().max()) > 0.1  # not as in the supernet, which saw nothing
    pixels = batch * torch.tensor(record.std)[:, None, None] + torch.tensor(record.mean)[:, None, None]
    assert pixels.min() > -0.01 and pixels.max() < 255.01


def test_the_recall_is_the_same_in_torch(task: Task, template: OnnxTemplate, tiny: LitePoseArch) -> None:
    judge = Judge(task, template)
    network, record = judge.network(tiny)
    assert judge(tiny) == pytest.approx(judge.measure(TorchEngine(network, record)))
    assert judge(tiny) == judge(tiny)


@pytest.fixture
def rectangles(rectangle_people: Rectangles, tmp_path: Path) -> tuple[str, str]:
    """An annotation file and a folder of four images with one person each."""
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}],
    }
    for number in range(1, 5):
        left, top, right, bottom = box = (30 + 40 * number, 20, 130 + 40 * number, 300)
        image = rectangle_people.image(330, 500, red=(*box, 100 + 30 * number))
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[..., ::-1])
        points = rectangle_people.keypoints(rectangle_people.edges(box))
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 500, "height": 330})
        person = {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
            "keypoints": [float(v) for point in points for v in (*point, 2)],
        }
        unseen = person | {"id": 10 + number, "bbox": [400, 200, 50, 100], "keypoints": [0.0] * 51}
        content["annotations"] += [person, unseen]
    file = tmp_path / "rectangles.json"
    file.write_text(json.dumps(content))
    return str(file), str(tmp_path)


def test_a_network_that_finds_everybody_who_counts(
    supernet: Path, rectangles: tuple[str, str], rectangle_people: Rectangles
) -> None:
    """For AP those with keypoints count; for the recall those without, whom it does not see, too."""
    judge = Judge(Task(str(supernet), *rectangles, calibration_images=1))
    engine = rectangle_people(person_head=True)
    assert judge.measure(engine) == pytest.approx(1.0)
    assert len(engine.calls) == 3  # images of the search
    judge = Judge(Task(str(supernet), *rectangles, "recall", calibration_images=1))
    assert judge.measure(engine) == pytest.approx(0.5)
