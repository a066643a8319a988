"""The seams: what a new detector and a new codec need is written here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from leanpose import COCO, InputError, Predictor
from leanpose.codecs import CODECS
from leanpose.commands.cli import main
from leanpose.geometry import Size
from leanpose.structures import Poses
from leanpose.weights.record import Task, Weights

if TYPE_CHECKING:
    import torch

Rectangles = Any  # the class RectanglePeople of conftest.py
CROPS = Weights("crops", "crops", (128, 96), codec="dark", codec_options={"sigma": 2.0})
BOXES = [[100.0, 20.0, 200.0, 220.0], [10.0, 20.0, 80.0, 200.0]]


def found(rectangle_people: Rectangles, detector: Any) -> Poses:
    image = rectangle_people.image(240, 320, red=(100, 20, 200, 220, 250), green=(10, 20, 80, 200, 200))
    return Predictor(rectangle_people(CROPS), detector=detector)(image)


def test_a_function_is_a_detector(rectangle_people: Rectangles) -> None:
    poses = found(rectangle_people, lambda image: (BOXES, [0.9, 0.8]))
    np.testing.assert_allclose(poses.boxes_xyxy, BOXES)
    places = [rectangle_people.keypoints(box) for box in BOXES]
    np.testing.assert_allclose(poses.keypoints, places, rtol=0, atol=3)
    assert len(found(rectangle_people, lambda image: ([], []))) == 0
    assert len(found(rectangle_people, lambda image: (np.array(BOXES), np.array([0.9, 1e-4])))) == 1  # unsure


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "A detector must give boxes"),
        ((BOXES,), "A detector must give boxes"),
        ((BOXES, [0.9]), r"not \(2, 4\) and \(1,\)"),
        (([[1, 2, 3]], [0.9]), r"not \(1, 3\) and \(1,\)"),
        (([["a", 1, 2, 3]], [0.9]), "two arrays of numbers"),
        (([[0, 0, 5, float("nan")]], [0.9]), "boxes must be x1, y1, x2, y2 with x1 < x2"),
        (([[5, 0, 0, 9]], [0.9]), "boxes must be x1, y1, x2, y2 with x1 < x2"),
        (([[0, 0, 5, 5]], [float("nan")]), "with the score nan"),
    ],
)
def test_a_function_that_gives_something_else(given: Any, message: str, rectangle_people: Rectangles) -> None:
    with pytest.raises(InputError, match=message) as caught:
        found(rectangle_people, lambda image: given)
    assert "\n" not in str(caught.value)


def test_finder_is_the_former_name_of_detector(rectangle_people: Rectangles) -> None:
    with pytest.warns(DeprecationWarning, match="finder is now called detector"):
        assert Predictor(rectangle_people(CROPS), finder=None).detector is None


@pytest.mark.parametrize(
    "verb", [["predict", "photo.jpg"], ["evaluate", "lpn50", "--boxes", "found"]], ids=lambda v: v[0]
)
def test_the_option_finder_still_works(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((60, 40, 3), np.uint8)).save("photo.jpg")
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 50], "area": 900, "keypoints": [9, 9, 2] * 17}
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    images = [{"id": 1, "file_name": "photo.jpg"}]
    Path("a.json").write_text(json.dumps({"images": images, "annotations": [entry], "categories": [category]}))
    words = [*verb, "--data", "a.json", "--images", "."] if verb[0] == "evaluate" else verb
    assert main([*words, "--finder", "absent.onnx"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "leanpose: --finder is now called --detector; the old name goes with the next release.",
        "leanpose: There is no file absent.onnx; check the path.",
    ]


@dataclass(frozen=True)
class Vectors:
    """A keypoint as the argmax of one vector per axis, twice as long as the input; learned by cross-entropy."""

    task: ClassVar[Task] = "top_down"
    output_names: ClassVar[tuple[str, ...]] = ("x", "y")

    def decode(self, outputs: Mapping[str, np.ndarray], input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        keypoints = np.stack([outputs[name].argmax(axis=2) / 2 for name in ("x", "y")], axis=2)
        return keypoints.astype(np.float32), np.minimum(outputs["x"].max(axis=2), outputs["y"].max(axis=2))

    def merge_flipped(
        self, outputs: Mapping[str, np.ndarray], mirrored: Mapping[str, np.ndarray], flip_index: Sequence[int]
    ) -> dict[str, np.ndarray]:
        back = {"x": mirrored["x"][:, flip_index, ::-1], "y": mirrored["y"][:, flip_index]}
        return {name: (outputs[name] + back[name]) / 2 for name in ("x", "y")}

    def encode(
        self, keypoints: torch.Tensor, weights: torch.Tensor, outputs: Mapping[str, torch.Tensor], input_size: Size
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        places = (2 * keypoints).round().long()
        inside = ((places >= 0) & (keypoints < keypoints.new_tensor(input_size[::-1]))).all(dim=2)
        return {"x": places[..., 0].clamp(min=0), "y": places[..., 1].clamp(min=0)}, weights * inside

    def loss(
        self,
        outputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
        weights: torch.Tensor,
        foreground_weight: float,
    ) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        losses = [cross_entropy(outputs[n].transpose(1, 2), targets[n], reduction="none") for n in ("x", "y")]
        return ((losses[0] + losses[1]) * weights).mean()


class VectorNetwork:
    """Sees each keypoint k of one person at (10 + 3 k, 20 + 4 k) of its input, or where it lies in a mirrored one."""

    weights = Weights("vectors", "vectors", (128, 96), codec="vectors", padding=1.0)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {"x": np.zeros((len(images), 17, 192), np.float32), "y": np.zeros((len(images), 17, 256), np.float32)}
        mirrored, self.calls = self.calls == 1, self.calls + 1
        for k in range(17):
            seen = int(COCO.flip_index[k]) if mirrored else k
            x = 191 - 2 * (10 + 3 * seen) if mirrored else 2 * (10 + 3 * seen)
            outputs["x"][:, k, x] = outputs["y"][:, k, 2 * (20 + 4 * seen)] = 0.8
        return outputs


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "vectors", Vectors)


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_codec_of_two_vectors_predicts(flip_test: bool, vectors: None) -> None:
    image = np.zeros((128, 96, 3), np.uint8)
    poses = Predictor(VectorNetwork(), flip_test=flip_test, detector=None)(image)  # padding 1: input and image agree
    expected = np.array([(10 + 3 * k, 20 + 4 * k) for k in range(17)])
    np.testing.assert_allclose(poses.keypoints, [expected], atol=0.51)
    np.testing.assert_allclose(poses.scores, 0.8)


def test_a_codec_of_two_vectors_trains(vectors: None, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from leanpose.training.crops import DataSource
    from leanpose.training.objectives import create_objective
    from leanpose.training.recipe import Recipe

    nowhere = DataSource("", "")
    recipe = Recipe("vectors", "", [nowhere], nowhere, input_size=(128, 96), codec="vectors")
    objective = create_objective(recipe, {})
    outputs = {
        "x": torch.zeros(2, 17, 192, requires_grad=True),
        "y": torch.zeros(2, 17, 256, requires_grad=True),
    }
    annotations = {"keypoints": torch.full((2, 17, 2), 40.25), "weights": torch.ones(2, 17)}
    optimizer = torch.optim.SGD(outputs.values(), lr=100.0)
    for _ in range(20):
        optimizer.zero_grad()
        torch.stack([*objective.losses(outputs, annotations).values()]).sum().backward()
        optimizer.step()
    keypoints, _ = Vectors().decode({name: t.detach().numpy() for name, t in outputs.items()}, (128, 96))
    np.testing.assert_allclose(keypoints, 40.25, atol=0.5)
