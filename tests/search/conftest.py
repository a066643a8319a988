"""A supernet of a few layers whose person head sees persons by luck, more or less often with each arch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from leanpose.models import create_model  # noqa: E402
from leanpose.models.checkpoints import save_network  # noqa: E402
from leanpose.models.litepose import LitePose  # noqa: E402
from leanpose.models.litepose_arch import LitePoseArch  # noqa: E402
from leanpose.search.onnx_template import OnnxTemplate  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

TINY = LitePoseArch(16, (16, 16, 16, 80), (16, 16, 16), stage_depths=(2, 1, 1, 1), kernel_size=3, input_size=128)


@pytest.fixture
def tiny() -> LitePoseArch:
    """Return the supernet's arch."""
    return TINY


@pytest.fixture(scope="session")
def template() -> OnnxTemplate:
    """Return one that has exported a network of the supernet."""
    template = OnnxTemplate()
    template.model_of(LitePose(TINY, person_head=True))
    return template


@pytest.fixture
def supernet(tmp_path: Path) -> Path:
    """Return the file of a supernet, whose boxes have about the size of the stick figures."""
    options: dict[str, Any] = {"arch": TINY.as_dict(), "person_head": True}
    generator = torch.Generator().manual_seed(0)
    network: Any = create_model("litepose_supernet", **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
        network.person.center.weight.normal_(generator=generator)
        network.person.box.weight.zero_()
        network.person.box.bias.copy_(torch.tensor([7.0, 13.0, 7.0, 13.0]).log())  # in pixels of maps
    record = Weights(
        "supernet",
        "litepose_supernet",
        (128, 128),
        task="bottom_up",
        convention="classic",
        codec="associative_embedding",
        codec_options={"upsample": False},
        box_codec="center_box",
        model_options=options,
    )
    file = tmp_path / "supernet.safetensors"
    save_network(file, network, record)
    return file
