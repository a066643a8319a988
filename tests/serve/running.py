"""A service in a process of its own, and raw HTTP to it, so that a client can say what no library would."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL = "lpn50.coco_128x96_int8"  # the quickest of the bundled networks
TOKEN = "a secret"
SECONDS = 60.0  # in which a test gives up


@dataclass(frozen=True)
class Running:
    """A running service.

    Attributes:
        process: what runs it.
        port: where, on 127.0.0.1.
        log: its standard error so far.
    """

    process: subprocess.Popen[str]
    port: int
    log: Path

    def send(self, data: bytes, leave: bool = False) -> Answer:
        """Send bytes on a connection of their own and return the answer; `leave`: nothing more is sent after them."""
        with socket.create_connection(("127.0.0.1", self.port), SECONDS) as connection:
            try:
                connection.sendall(data)
                if leave:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it may answer, and close, before all is sent
            return read_answer(connection)

    def memory(self) -> int:
        """Return the bytes of memory that the process has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    def open_files(self) -> int:
        """Return how many files and connections it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@dataclass(frozen=True)
class Answer:
    """An answer; status 0: the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(connection: socket.socket) -> Answer:
    """Read one answer off a connection."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    except (http.client.HTTPException, ConnectionError):
        return Answer(0, {}, b"")
    finally:
        answer.close()


@contextmanager
def running(*options: str, token: str = "", port: int = 0, model: str = SMALL) -> Iterator[Running]:
    """Run `leanpose serve` with these options; it is ended afterwards."""
    words = [sys.executable, "-m", "leanpose", "serve", "--model", model, "--port", str(port), *options]
    environment = {**os.environ, "LEANPOSE_TOKEN": token, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        with log.open("w") as errors:
            process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        try:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
            assert found, log.read_text()
            yield Running(process, int(found[1]), log)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def post(
    target: str, body: bytes, kind: str = "application/octet-stream", method: str = "POST", **headers: str
) -> bytes:
    """Return a request as it is sent, with the token; an underscore in a header's name stands for a hyphen, an empty
    value leaves it out."""
    lines = {
        "Host": "localhost",
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items() if value)]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def get(target: str, method: str = "GET", **headers: str) -> bytes:
    """Return a request without a body, like `post`."""
    return post(target, b"", method=method, **{"Content_Type": "", "Content_Length": "", **headers})


Part = tuple[str, bytes] | tuple[str, bytes, str]  # a field's name and value, and a file's name


def form(*parts: Part, end: bytes = b"--limit--\r\n") -> bytes:
    """Return the body of a form, whose type is FORM."""
    body = b""
    for name, value, *file in parts:
        named = f'; filename="{file[0]}"' if file else ""
        body += f'--limit\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + value + b"\r\n"
    return body + end


FORM = "multipart/form-data; boundary=limit"
