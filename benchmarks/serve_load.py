"""Many clients at once on `leanpose serve`: wrong answers, times, images per second, memory, and what disturbs them.

    python benchmarks/serve_load.py IMAGES [--model auto] [--boxes image] [--clients 64] [--seconds 60]
    python benchmarks/serve_load.py IMAGES --seconds 15 --rounds 4   # both in turns, where the machine has other work
    python benchmarks/serve_load.py IMAGES --disturb       # beside clients that do not read, cut off, or are slow
    python benchmarks/serve_load.py IMAGES --kill          # kill -9 in the middle, and a restart on the same port
    python benchmarks/serve_load.py IMAGES --terminate     # SIGTERM under load

IMAGES is a folder of images, of which --images are sent again and again, as raw bytes over connections of 127.0.0.1
that stay open. Each answer must be what the offline `Predictor` gives for the same bytes. Server and clients share the
machine. `Predictor.stream` on the same files, for comparison, runs before and after each round, half as long, while the
server idles. Time of the processor is that of one process, so other work changes it little.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leanpose import Predictor
from leanpose.evaluation.timing import machine
from leanpose.io.images import find_images, read_image
from leanpose.io.results import to_json

DISTURBERS = 4  # of each kind
SLOW_BYTES = 1000  # a second
UNSURE_S = 0.2  # before a signal, in which what was sent may not have come yet


@dataclass
class Load:
    """What clients ask and saw.

    Attributes:
        bodies: image files.
        expected: the right answers, JSON as values.
        boxes: as a parameter of the request, "" for none.
        known: bytes of answers that were found right, by image.
        times: seconds from request to answer.
        counts: of right and wrong answers, other statuses, lost connections.
        sent: when the requests were sent that have no answer yet, by client.
        unanswered: when those were sent whose connection closed without an answer.
        wrong: a few wrong answers.
    """

    bodies: list[bytes]
    expected: list[Any]
    boxes: str
    known: dict[int, bytes] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    sent: dict[int, float] = field(default_factory=dict)
    unanswered: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def request(self, number: int, path: str = "/v1/poses") -> bytes:
        query = f"?boxes={self.boxes}" if self.boxes else ""
        head = f"POST {path}{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(self.bodies[number])}\r\n\r\n"
        return head.encode() + self.bodies[number]

    def judge(self, number: int, answer: bytes) -> None:
        if self.known.get(number) != answer:
            if json.loads(answer) != self.expected[number]:
                self.counts["wrong"] += 1
                self.wrong.append(f"image {number}: {answer[:300]!r}")
                return
            self.known[number] = answer
        self.counts["right"] += 1


@dataclass
class Server:
    """`leanpose serve` in a process of its own."""

    options: list[str]
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "leanpose", "serve", "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)/", line)
        if found is None:
            raise SystemExit(f"The server did not start: {line}")
        self.port = int(found[1])

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def cpu(self) -> float:
        """Return the seconds of the processor so far."""
        assert self.process is not None
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status")
        found = re.findall(r"VmRSS:\s+(\d+)", status.read_text() if status.exists() else "")
        return int(found[0]) / 1024 if found else 0.0


async def client(number: int, server: Server, load: Load, until: float) -> None:
    """Ask for one image after another until a time; connect anew when the connection is lost."""
    streams = None
    for image in itertools.islice(itertools.cycle(range(len(load.bodies))), number, None):
        if time.perf_counter() >= until:
            break
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            load.counts["refused connections"] += 1
            await asyncio.sleep(0.2)
            continue
        load.sent[number] = time.perf_counter()
        try:
            streams[1].write(load.request(image))
            status, answer = await read_answer(streams[0])
        except (OSError, EOFError):
            load.unanswered.append(load.sent.pop(number))
            streams[1].close()
            streams = None
            continue
        seconds = time.perf_counter() - load.sent.pop(number)
        if status == 200:
            load.times.append(seconds)
            load.judge(image, answer)
        else:
            load.counts[f"status {status}"] += 1
            await asyncio.sleep(1)
    if streams:
        streams[1].close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


async def never_reads(server: Server, load: Load) -> None:
    """Send requests for drawn images, and read none of the answers."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(4):
            writer.write(load.request(number % len(load.bodies), "/v1/draw"))
        await asyncio.sleep(20)
        writer.transport.abort()


async def cuts_off(server: Server, load: Load) -> None:
    """Send half an image and break the connection, ten times a second."""
    for number in itertools.cycle(range(len(load.bodies))):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        request = load.request(number)
        writer.write(request[: len(request) // 2])
        await asyncio.sleep(0.1)
        writer.transport.abort()


async def is_slow(server: Server, load: Load) -> None:
    """Send an image a little at a time."""
    for number in itertools.cycle(range(len(load.bodies))):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        request = load.request(number)
        for start in range(0, len(request), SLOW_BYTES // 10):
            if writer.transport.is_closing():
                break
            writer.write(request[start : start + SLOW_BYTES // 10])
            await asyncio.sleep(0.1)
        writer.close()


async def run_load(server: Server, load: Load, given: argparse.Namespace, memory: list[float]) -> None:
    """Let all clients ask for some seconds, and note the server's memory in MiB, each second."""
    until = time.perf_counter() + given.seconds

    async def watch() -> None:
        while True:
            memory.append(server.memory())
            await asyncio.sleep(1)

    async def disturb(kind: Any) -> None:
        while True:
            try:
                await kind(server, load)
            except OSError:  # closed by the server
                load.counts[f"broken: {kind.__name__}"] += 1
                await asyncio.sleep(0.1)

    kinds = (never_reads, cuts_off, is_slow) if given.disturb else ()
    others = [asyncio.create_task(disturb(kind)) for kind in kinds for _ in range(DISTURBERS)]
    others.append(asyncio.create_task(watch()))
    if given.kill or given.terminate:
        others.append(asyncio.create_task(end_it(server, load, given)))
    await asyncio.gather(*(client(i, server, load, until) for i in range(given.clients)))
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def end_it(server: Server, load: Load, given: argparse.Namespace) -> None:
    """End the server in the middle, see what that did to requests, and start another on its port."""
    await asyncio.sleep(given.seconds / 2)
    assert server.process is not None
    moment, right = time.perf_counter(), load.counts["right"]
    under_way = sum(sent < moment - UNSURE_S for sent in load.sent.values())
    server.signal(signal.SIGKILL if given.kill else signal.SIGTERM)
    await asyncio.to_thread(server.process.wait)
    took = time.perf_counter() - moment
    await asyncio.sleep(0.5)  # until clients see it
    lost = sum(sent < moment - UNSURE_S for sent in load.unanswered)
    print(f"ended after {took:.2f} s with {server.process.returncode}: of {under_way} requests under way {lost} lost")
    print(f"answers after the signal: {load.counts['right'] - right}")
    began = time.perf_counter()
    await asyncio.to_thread(server.start)
    print(f"another listens on the same port after {time.perf_counter() - began:.1f} s")


@dataclass
class Speed:
    """Of one way: images, and seconds of the clock and of the processor."""

    images: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.rate:.2f} images per second, {1000 * self.cpu / max(self.images, 1):.0f} ms of the processor each"
        )

    @property
    def rate(self) -> float:
        return self.images / self.seconds

    def add(self, work: Callable[[], int], cpu: Callable[[], float]) -> None:
        """Count work, which returns its images; `cpu` returns the seconds of the processor so far."""
        began, cpu_began = time.perf_counter(), cpu()
        self.images += work()
        self.seconds += time.perf_counter() - began
        self.cpu += cpu() - cpu_began


def stream(predictor: Predictor, files: list[str], boxes: str, seconds: float) -> int:
    """Work through the files again and again; return the number of images."""
    latest = time.perf_counter() + seconds
    endless = itertools.takewhile(lambda _: time.perf_counter() < latest, itertools.cycle(files))
    return sum(1 for _ in predictor.stream(endless, itertools.repeat(boxes) if boxes else None))


def expected(predictor: Predictor, body: bytes, boxes: str) -> Any:
    """Return what a client should get for an image."""
    height, width = read_image(body).shape[:2]
    content = to_json("image", (height, width), predictor(body, boxes or None), predictor.provenance)
    return json.loads(json.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--boxes", default="", choices=("", "image"))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=1)
    for option in ("disturb", "kill", "terminate"):
        parser.add_argument(f"--{option}", action="store_true")
    given = parser.parse_args()
    os.environ["LEANPOSE_OFFLINE"] = "1"

    files = find_images([given.folder])[: given.images]
    predictor = Predictor(given.model)
    bodies = [Path(file).read_bytes() for file in files]
    load = Load(bodies, [expected(predictor, body, given.boxes) for body in bodies], given.boxes)
    name = predictor.provenance["model"]
    print(f"{machine()['processor']}, {machine()['cores']} cores; {name}, detector {predictor.provenance['detector']}")
    print(f"{len(files)} images, boxes {given.boxes or 'found'}; {given.clients} clients, {given.seconds:g} s")

    server = Server(["--model", name])
    memory: list[float] = []
    online, offline = Speed(), Speed()

    def ask() -> int:
        before = load.counts["right"] + load.counts["wrong"]
        asyncio.run(run_load(server, load, given, memory))
        return load.counts["right"] + load.counts["wrong"] - before

    def work_offline() -> int:
        return stream(predictor, files, given.boxes, given.seconds / 2)

    try:
        server.start()
        for _ in range(given.rounds):
            offline.add(work_offline, time.process_time)
            online.add(ask, server.cpu)
            offline.add(work_offline, time.process_time)
    finally:
        server.signal(signal.SIGKILL)
    report(load, memory)
    if not (given.kill or given.terminate):
        print(f"served: {online}")
        print(f"offline stream: {offline}")
        print(f"served, of offline: {100 * online.rate / offline.rate:.1f} % of the images per second")


def report(load: Load, memory: list[float]) -> None:
    """Print what came out."""
    print("answers: " + ", ".join(f"{count} {kind}" for kind, count in sorted(load.counts.items())))
    print(f"wrong: {load.counts['wrong']}; connections lost without an answer: {len(load.unanswered)}")
    p50, p95, p99 = np.percentile(load.times, (50, 95, 99))
    print(f"seconds from request to answer: p50 {p50:.3f}, p95 {p95:.3f}, p99 {p99:.3f}, most {max(load.times):.3f}")
    quarters = ", ".join(f"{memory[len(memory) * i // 4 - (i == 4)]:.0f}" for i in range(5))
    print(f"memory of the server in MiB: {quarters} at quarters of the time, most {max(memory):.0f}")
    for line in load.wrong[:5]:
        print(line)


if __name__ == "__main__":
    main()
