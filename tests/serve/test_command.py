"""The verb `serve` as a process, and what it says when it cannot start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from serve.serving import SMALL

from leanpose.commands import serve as command
from leanpose.commands.cli import main
from leanpose.errors import MissingPackageError
from leanpose.serve.run import address


def test_it_tells_its_address_and_ends_at_sigterm() -> None:
    words = [sys.executable, "-m", "leanpose", "serve", "--model", f"{SMALL},lpn50", "--port", "0"]
    environment = os.environ | {"LEANPOSE_TOKEN": "secret"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert address is not None
        assert httpx.get(f"{address[0]}v1/models").status_code == 401
        told = httpx.get(f"{address[0]}v1/models", headers={"Authorization": "Bearer secret"}).json()
        assert [one["name"] for one in told["models"]] == [SMALL, "lpn50"]
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("host", "called"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")],
)
def test_the_address_is_one_that_a_browser_can_open(host: str, called: str) -> None:
    class Listener:
        def getsockname(self) -> tuple[str, int]:
            return host, 8000

    assert address(Listener()) == f"http://{called}:8000/"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--port", "70000"], "--port must be 0 to 65535"),
        (["--model", ","], "--model names no network"),
        (["--model", "lpn51"], "There are no weights 'lpn51'"),
        (["--host", "999.1.1.1"], "cannot be used"),
        (["--max-images", "0"], "--max-images must be above 0"),
        (["--allow-host", "http://pose.example.org"], "--allow-host takes a name"),
        (["--allow-origin", "example.org"], "--allow-origin takes a site"),
        (["--timeout", "-1"], "--timeout must be above 0"),
        (["--engine", "none"], "--engine cannot be 'none'"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", *words] if "--port" not in words else ["serve", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_port_in_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "choose others with --host and --port" in capsys.readouterr().err


def test_a_missing_package_is_told_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def absent(package: str, extra: str) -> None:
        raise MissingPackageError(f"This needs the package {package}: the extra {extra}")

    monkeypatch.setattr(command, "require", absent)
    assert main(["serve", "--model", "lpn51"]) == 2
    assert "fastapi: the extra serve" in capsys.readouterr().err
