"""The service over HTTP: the same poses as everywhere, limits, and who may ask."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from serve.bad_images import encoded, jpeg_of_scans, tiff_in_tiles
from serve.serving import SMALL, serving

from leanpose.commands.cli import main
from leanpose.inference.predictor import Predictor
from leanpose.io.draw import draw_poses
from leanpose.io.images import read_image
from leanpose.serve import guard, uploads
from leanpose.serve.settings import Limits

ASTRONAUT = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"
BOX = [100, 30, 400, 500]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of a service with two networks."""
    with serving(SMALL, "lpn50") as address, httpx.Client(base_url=address) as client:
        yield client


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(SMALL)


def png(height: int, width: int) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), 128, np.uint8))[1].tobytes()


def send(client: httpx.Client, *images: bytes, path: str = "v1/poses", **parameters: Any) -> httpx.Response:
    files = [("file", (f"{i}.png", image)) for i, image in enumerate(images)]
    return client.post(path, files=files, params=parameters)


def test_an_image_gives_what_predict_writes(client: httpx.Client, tmp_path: Path) -> None:
    assert main(["predict", str(ASTRONAUT), "--model", SMALL, "--format", "json", "-o", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "astronaut.json").read_text())
    answer = client.post("v1/poses", files={"file": ("astronaut.png", ASTRONAUT.read_bytes())})
    assert answer.status_code == 200
    assert answer.json() == written | {"image": "astronaut.png"}
    assert len(written["persons"]) == 1


def test_bytes_alone_are_an_image(client: httpx.Client) -> None:
    answer = client.post("v1/poses", content=ASTRONAUT.read_bytes())
    assert len(answer.json()["persons"]) == 1


def test_several_images_give_a_list_in_their_order(client: httpx.Client) -> None:
    found = send(client, png(30, 20), ASTRONAUT.read_bytes(), png(40, 50)).json()
    assert [(one["image"], one["width"], len(one["persons"])) for one in found] == [
        ("0.png", 20, 0), ("1.png", 512, 1), ("2.png", 50, 0)
    ]  # fmt: skip


def test_boxes_and_network_can_be_chosen(client: httpx.Client) -> None:
    expected = Predictor("lpn50")(ASTRONAUT, [BOX]).to_dicts()
    image = ASTRONAUT.read_bytes()
    assert send(client, image, model="lpn50", boxes=json.dumps([BOX])).json()["persons"] == expected
    each = send(client, image, png(30, 20), model="lpn50", boxes=json.dumps([[BOX], []])).json()
    assert [one["persons"] for one in each] == [expected, []]
    form = {"model": "lpn50", "boxes": json.dumps(BOX)}
    assert client.post("v1/poses", files={"file": ("a.png", image)}, data=form).json()["persons"] == expected


def test_boxes_image_takes_the_whole_image_as_one_person(client: httpx.Client, predictor: Predictor) -> None:
    found = send(client, ASTRONAUT.read_bytes(), boxes="image").json()["persons"]
    assert found == predictor(ASTRONAUT, "image").to_dicts()


def test_the_least_person_score_is_used_and_told(client: httpx.Client, predictor: Predictor) -> None:
    low = send(client, ASTRONAUT.read_bytes(), min_person_score=0.01).json()
    assert low["persons"] == predictor(ASTRONAUT, min_person_score=0.01).to_dicts()
    assert low["leanpose"]["min_person_score"] == 0.01
    assert send(client, ASTRONAUT.read_bytes(), min_person_score=0.99).json()["persons"] == []


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_is_drawn(client: httpx.Client, predictor: Predictor, kind: str) -> None:
    answer = send(client, ASTRONAUT.read_bytes(), path="v1/draw", format=kind, min_score=0.3)
    assert answer.headers["content-type"] == f"image/{kind}"
    drawn = draw_poses(ASTRONAUT, predictor(ASTRONAUT), min_score=0.3)
    apart = np.abs(read_image(answer.content).astype(int) - drawn).mean()
    assert apart == 0 if kind == "png" else apart < 5


def test_models_are_told_with_keypoints_and_limits(client: httpx.Client, predictor: Predictor) -> None:
    told = client.get("v1/models").json()
    assert [one["name"] for one in told["models"]] == [SMALL, "lpn50"]
    assert told["default"] == SMALL
    assert told["models"][0]["keypoints"] == list(predictor.keypoint_set.keypoints)
    assert told["models"][0]["input_size"] == [128, 96]
    assert told["limits"]["images"] == Limits().images


def test_numbers_are_counted(client: httpx.Client) -> None:
    def count(name: str) -> float:
        lines = client.get("metrics").text.splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(name)), 0))

    images, requests = (
        f'leanpose_images_total{{model="{SMALL}"}}',
        'leanpose_requests_total{path="/v1/poses",status="400"}',
    )
    before = count(images), count(requests)
    send(client, png(30, 20), png(30, 20))
    send(client, png(30, 20), boxes="[[")
    assert (count(images) - before[0], count(requests) - before[1]) == (2, 1)
    while count("leanpose_held_bytes"):  # until the last answer is through
        time.sleep(0.01)
    assert client.get("healthz").json() == {"status": "ok"}


def test_openapi_names_what_can_be_sent(client: httpx.Client) -> None:
    operation = client.get("openapi.json").json()["paths"]["/v1/poses"]["post"]
    assert operation["security"] == [{"HTTPBearer": []}]
    assert {entry["name"] for entry in operation["parameters"]} == {"model", "boxes", "min_person_score"}
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert form["file"]["items"]["format"] == "binary"


@pytest.mark.parametrize(
    ("status", "word", "parameters"),
    [
        (400, "lpn50", {"model": "lpn5"}),
        (422, "min_person_score", {"min_person_score": "2"}),
        (422, "min_person_score", {"min_person_score": "nan"}),
        (422, "colour", {"colour": "red"}),
        (400, "JSON", {"boxes": "1,2"}),
        (400, "JSON", {"boxes": "[" * 20000}),
        (400, "no area", {"boxes": "[[5, 5, 5, 9]]"}),
        (400, "outside", {"boxes": "[[500, 5, 600, 9]]"}),
        (400, "up to 100", {"boxes": json.dumps([[0, 0, 9, 9]] * 101)}),
        (400, "list", {"boxes": "7"}),
    ],
)
def test_parameters_that_cannot_be_get_one_sentence(
    client: httpx.Client, status: int, word: str, parameters: dict[str, str]
) -> None:
    answer = send(client, png(30, 20), **parameters)
    assert answer.status_code == status
    assert word in answer.json()["detail"]


def test_large_images_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "decode_image", lambda *_: pytest.fail("unpacked"))
    limits = Limits(bytes=100_000, pixels=10_000, images=2)
    with serving(limits=limits) as address, httpx.Client(base_url=address) as client:
        bomb = png(101, 100)
        assert (send(client, bomb).status_code, send(client, bomb).json()["detail"]) == (
            413, "0.png has 100 x 101 pixels, more than 0.01 megapixels; make it smaller."
        )  # fmt: skip
        assert send(client, bytes(200_000)).status_code == 413
        chunks = iter([bytes(60_000)] * 2)
        assert client.post("v1/poses", content=chunks).status_code == 413
        assert send(client, bomb, bomb, bomb).status_code == 413
        assert "in tiles of more" in send(client, tiff_in_tiles(112)).json()["detail"]
        assert "more than 100 scans" in send(client, jpeg_of_scans(100)).json()["detail"]


def test_an_image_may_have_some_scans_and_tiles(client: httpx.Client) -> None:
    with_a_clip_behind = encoded("JPEG") + b"\xff\xda" * 200
    found = send(client, jpeg_of_scans(50), tiff_in_tiles(112), with_a_clip_behind).json()
    assert [(one["width"], one["height"]) for one in found] == [(64, 48)] * 3


class SlowNetwork:
    """A person in every image, after a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(self.seconds)
        return np.array([[0, 0, 9, 9]]), np.array([1.0])


def test_who_comes_when_the_line_is_full_is_asked_to_come_again() -> None:
    with (
        serving(limits=Limits(waiting=1, images=2), detector=SlowNetwork(0.5)) as address,
        httpx.Client(base_url=address) as client,
    ):
        assert send(client, png(30, 20), png(30, 20)).status_code == 429
        threads = [threading.Thread(target=send, args=(client, png(30, 20))) for _ in range(2)]
        for thread in threads:  # one is worked on, the other waits
            thread.start()
            time.sleep(0.1)
        full = send(client, png(30, 20))
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
        for thread in threads:
            thread.join()
        assert send(client, png(30, 20)).status_code == 200


def test_work_and_uploads_end_in_time() -> None:
    limits = Limits(seconds=0.3)
    with serving(limits=limits, detector=SlowNetwork(0.6)) as address, httpx.Client(base_url=address) as client:
        late = send(client, png(30, 20))
        assert (late.status_code, late.json()["detail"]) == (503, "This took longer than 0.3 s; send it again later.")

        def slowly() -> Iterator[bytes]:
            yield b"a"
            time.sleep(0.5)
            yield b"b"

        assert client.post("v1/poses", content=slowly()).status_code == 408


def test_what_was_taken_is_finished_at_the_end() -> None:
    answers = []
    with httpx.Client() as client:
        with serving(detector=SlowNetwork(0.4)) as address:
            client.base_url = httpx.URL(address)
            threads = [threading.Thread(target=lambda: answers.append(send(client, png(30, 20)))) for _ in range(2)]
            for thread in threads:
                thread.start()
            time.sleep(0.2)
        for thread in threads:
            thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]


def test_who_left_is_not_worked_for() -> None:
    with serving(detector=SlowNetwork(0.4)) as address, httpx.Client(base_url=address) as client:
        image = png(30, 20)
        for _ in range(6):
            with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as leaver:
                head = f"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image)}\r\n\r\n"
                leaver.sendall(head.encode() + image)
                time.sleep(0.05)
        assert send(client, image).status_code == 200
        told = client.get("metrics").text
    assert f'leanpose_images_total{{model="{SMALL}"}} 2.0' in told  # the first, which had begun, and the last
    assert 'leanpose_requests_total{path="/v1/poses",status="499"} 6.0' in told


def test_pages_elsewhere_and_other_names_are_refused(client: httpx.Client) -> None:
    port = client.base_url.port or 0
    for allowed in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "10.0.0.7"):
        assert client.get("healthz", headers={"Host": allowed}).status_code == 200
    for refused in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        assert client.get("healthz", headers={"Host": refused}).status_code == 403
    assert client.get("healthz", headers={"Origin": f"http://127.0.0.1:{port}"}).status_code == 200
    for refused in ("http://evil.example", f"http://localhost:{port + 1}", "null", "file://"):
        assert send(client, png(9, 9)).status_code == 200
        assert client.post("v1/poses", headers={"Origin": refused}).status_code == 403


def test_sites_and_names_can_be_allowed() -> None:
    site = "https://poses.example"
    with serving(origins=(site,), hosts=("pose.example",)) as address, httpx.Client(base_url=address) as client:
        assert client.get("healthz", headers={"Host": "pose.example"}).status_code == 200
        answer = client.get("v1/models", headers={"Origin": site})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, site)
        asking = {"Origin": site, "Access-Control-Request-Method": "POST"}
        assert client.options("v1/poses", headers=asking).status_code == 200


def test_a_token_is_asked_for() -> None:
    with serving(token="säme") as address, httpx.Client(base_url=address) as client:
        assert client.get("v1/models").status_code == 401
        assert client.get("metrics").status_code == 401
        assert client.get("models/manifest.json").status_code == 401
        assert client.get("v1/models", headers={"Authorization": "Bearer other"}).status_code == 401
        right = {b"Authorization": "Bearer säme".encode()}
        assert client.get("v1/models", headers=right).status_code == 200
        assert client.get("healthz").status_code == 200  # and the page, which asks for the token


def test_answers_have_safe_headers(client: httpx.Client) -> None:
    for path in ("", "v1/models", "nothing"):
        headers = client.get(path).headers
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["content-security-policy"].startswith("default-src 'self'")


def test_a_client_that_does_not_read_holds_nobody_up(client: httpx.Client) -> None:
    host, port = client.base_url.host, client.base_url.port
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    image = cv2.imencode(".png", noise)[1].tobytes()
    assert port is not None
    with socket.create_connection((host, port)) as stuck:
        head = f"POST /v1/draw?boxes=image HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(image)}\r\n\r\n"
        stuck.sendall(head.encode() + image)
        for _ in range(3):
            assert send(client, png(30, 20)).status_code == 200


def test_who_reads_very_slowly_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLOWEST", 2**24)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    image = cv2.imencode(".png", noise)[1].tobytes()
    with serving(limits=Limits(seconds=1)) as address, httpx.Client(base_url=address) as client:
        assert client.base_url.port is not None
        with socket.create_connection((client.base_url.host, client.base_url.port)) as slow:
            head = f"POST /v1/draw?boxes=image HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image)}\r\n\r\n"
            slow.sendall(head.encode() + image)
            read = len(slow.recv(2**16))
            assert held(client) >= 2 * len(image)  # the body and the answer
            while held(client) > 0:
                read += len(slow.recv(2**14))
                time.sleep(0.05)
            with contextlib.suppress(ConnectionError):
                while part := slow.recv(2**20):
                    read += len(part)
            assert read < len(image)


def held(client: httpx.Client) -> float:
    return float(client.get("metrics").text.partition("\nleanpose_held_bytes ")[2].split()[0])


def test_bytes_of_all_requests_are_limited() -> None:
    limits = Limits(memory=150_000)
    with serving(limits=limits) as address, httpx.Client(base_url=address) as client:
        host, port = client.base_url.host, client.base_url.port
        assert port is not None
        with socket.create_connection((host, port)) as slow:
            head = f"POST /v1/poses HTTP/1.1\r\nHost: {host}\r\nContent-Length: 120000\r\n\r\n"
            slow.sendall(head.encode() + bytes(100_000))
            deadline = time.monotonic() + 10
            while "leanpose_held_bytes 100000" not in client.get("metrics").text and time.monotonic() < deadline:
                time.sleep(0.02)
            refused = client.post("v1/poses", content=bytes(60_000))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        while "leanpose_held_bytes 0" not in client.get("metrics").text and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.post("v1/poses", content=io.BytesIO(png(30, 20))).status_code == 200
