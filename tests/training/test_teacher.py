"""What a teacher says of the views of a pupil that sees them in another size, convention and normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

import torch
from support import one_layer

from leanpose.errors import InputError, WeightsError
from leanpose.geometry import CONVENTIONS, Convention, Size, crop, crop_matrices
from leanpose.keypoint_sets import COCO, HALPE26, LSP, MPII, KeypointSet, mapping
from leanpose.training.teacher import Teacher
from leanpose.weights.record import Weights

PUPIL = Weights("pupil", "lpn50", (64, 48), COCO, codec="udp", codec_options={"sigma": 1.5})
VECTORS = replace(PUPIL, name="teacher", keypoint_set=HALPE26, convention="classic", codec="simcc", codec_options={})


class Spots(torch.nn.Module):
    """Finds the brightest column and row; keypoint k has the score (k + 1) / 10. Keeps what it is shown."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.num_keypoints = num_keypoints
        self.images = torch.zeros(0)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self.images = images
        scores = torch.arange(1, self.num_keypoints + 1)[:, None] / 10
        vectors = {}
        for name, axis in (("simcc_x", 2), ("simcc_y", 3)):
            line = images.sum(dim=(1, axis))
            line = (line == line.amax(dim=1, keepdim=True)).float().repeat_interleave(2, dim=1)
            vectors[name] = line[:, None] * scores
        return vectors


def normalised(images: np.ndarray, record: Weights) -> torch.Tensor:
    if record.channel_order == "bgr":
        images = images[..., ::-1]
    return torch.from_numpy(((images - record.mean) / record.std).astype(np.float32)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("pupils", CONVENTIONS)
@pytest.mark.parametrize("teachers", CONVENTIONS)
@pytest.mark.parametrize("size", [(64, 48), (128, 96), (128, 128), (32, 24)], ids=str)
def test_keypoints_come_back_in_pixels_of_the_pupil(size: Size, teachers: Convention, pupils: Convention) -> None:
    record = replace(VECTORS, input_size=size, convention=teachers)
    pupil = replace(PUPIL, convention=pupils)
    y, x = np.mgrid[:64, :48]
    places = np.array([[12.0, 40.0], [37.0, 11.0]])
    spots = np.exp(-((x - places[:, :1, None]) ** 2 + (y - places[:, 1:, None]) ** 2) / 8)
    inputs = torch.from_numpy(spots.astype(np.float32))[:, None].expand(-1, 3, -1, -1)
    targets = Teacher(Spots(26), record, pupil, (64, 48))(inputs)
    assert targets.keys() == {"keypoints", "weights"}
    assert targets["keypoints"].shape == (2, 17, 2)
    ratio = size[0] / 64
    errors = targets["keypoints"].numpy() - places[:, None]
    assert np.abs(errors).max() <= 0.5 / ratio + 0.05  # half a pixel of the teacher's
    np.testing.assert_allclose(targets["weights"][0], np.minimum(np.arange(1, 18) / 10, 1), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 48), (128, 96)], ids=str)
def test_the_teacher_sees_what_it_would_see_in_prediction(size: Size) -> None:
    record = replace(VECTORS, input_size=size, channel_order="bgr", mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70.0))
    y, x = np.mgrid[:300, :400]
    waves = [128 + 100 * np.sin(x / 40 + y / period) for period in (30, 45, 60)]
    image, box = np.stack(waves, axis=2).astype(np.uint8), np.array([[120.0, 80.0, 210.0, 200.0]])
    views = {}
    for name, owner in (("pupil", PUPIL), ("teacher", record)):
        (matrix,) = crop_matrices(box, owner.input_size, owner.padding, owner.convention)
        views[name] = normalised(crop(image, matrix, owner.input_size)[None].astype(np.float32), owner)
    network = Spots(26)
    Teacher(network, record, PUPIL, (64, 48))(views["pupil"])
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    differences = (network.images[inner] - views["teacher"][inner]).abs()
    assert differences.max() < 0.1  # of a range of 4: interpolation and rounding


@pytest.mark.parametrize("keypoint_set", [COCO, LSP, MPII], ids=lambda one: one.name)
def test_maps_of_the_same_views_are_targets_by_name(keypoint_set: KeypointSet) -> None:
    torch.manual_seed(0)
    network = one_layer(26).eval()
    record = replace(PUPIL, keypoint_set=HALPE26)
    inputs = torch.randn(2, 3, 64, 48)
    targets = Teacher(network, record, replace(PUPIL, keypoint_set=keypoint_set), (64, 48))(inputs)
    assert targets.keys() == {"heatmaps", "weights"}
    found = network(inputs)["heatmaps"]
    assert found.min() < 0
    for i, place in enumerate(mapping(HALPE26, keypoint_set)):
        assert (targets["weights"][:, i] == float(place >= 0)).all()
        if place >= 0:
            assert torch.equal(targets["heatmaps"][:, i], found[:, place].clamp(min=0))


def test_vectors_are_targets_too() -> None:
    pupil = replace(VECTORS, keypoint_set=COCO)
    network, inputs = Spots(26), torch.randn(2, 3, 64, 48)
    targets = Teacher(network, VECTORS, pupil, (64, 48))(inputs)
    assert targets.keys() == {"simcc_x", "simcc_y", "weights"}
    for name, vectors in network(inputs).items():
        assert torch.equal(targets[name], vectors[:, :17])


@pytest.mark.parametrize("options", [{"sigma": (4.0, 4.0)}, {"split": 1.0}], ids=str)
def test_vectors_of_another_kind_are_decoded(options: dict[str, object]) -> None:
    pupil = replace(VECTORS, keypoint_set=COCO, codec_options=options)
    assert Teacher(Spots(26), VECTORS, pupil, (64, 48))(torch.randn(1, 3, 64, 48)).keys() == {"keypoints", "weights"}


def test_what_cannot_teach() -> None:
    other = KeypointSet("hand", ("thumb", "palm"), (), "test")
    with pytest.raises(InputError, match=r"teacher cannot teach: it must find one person .* one keypoint of hand"):
        Teacher(Spots(26), VECTORS, replace(PUPIL, keypoint_set=other), (64, 48))
    with pytest.raises(WeightsError, match="gives simcc_x, simcc_y, but the codec udp reads heatmaps"):
        Teacher(Spots(17), replace(PUPIL, name="teacher"), PUPIL, (64, 48))
