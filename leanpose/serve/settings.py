"""What a service is told when it starts: networks, limits, and who may ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one client can ask of the service, so that none takes it from the others.

    Attributes:
        bytes: of a request's body.
        frame: bytes of a message of a WebSocket; each holds up to four at once.
        pixels: of an image, width times height.
        images: in a request.
        boxes: of an image.
        waiting: images that wait to be worked on; who comes then is asked to come again (429).
        memory: bytes of all bodies and answers that are held at once.
        live: WebSockets at once.
        seconds: for a request to come, for its work, and for a client to read an answer, which has a little more for
            large ones.
    """

    bytes: int = 32 * 2**20
    frame: int = 8 * 2**20
    pixels: int = 64_000_000
    images: int = 16
    boxes: int = 100
    waiting: int = 256
    memory: int = 512 * 2**20
    live: int = 32
    seconds: float = 30.0


@dataclass(frozen=True)
class Settings:
    """All that `leanpose.serve.app.create_app` is told.

    Attributes:
        models: names or files of the networks that are served, the default first.
        detector: as of a Predictor.
        options: further arguments of each Predictor: engine, threads, device.
        limits: what one client can ask.
        token: what clients must know; None: nothing.
        hosts: names by which the service may be called, beside localhost and numeric addresses.
        origins: web pages elsewhere that may use it, such as "https://example.org"; "*": all.
    """

    models: tuple[str, ...]
    detector: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
