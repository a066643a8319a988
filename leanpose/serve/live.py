"""Frames of a camera through a WebSocket: each is answered by its poses, and never by those of an old one."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from leanpose.serve.faults import refusal
from leanpose.serve.guard import knows
from leanpose.serve.options import LiveOptions
from leanpose.serve.service import Asked, Service
from leanpose.serve.uploads import Upload
from leanpose.structures import Poses
from leanpose.tracking import LiveSmoother, Tracker
from leanpose.video.video import WEAK

POLICY, TRY_LATER = 1008, 1013  # reasons for which a WebSocket is closed


class _Newest:
    """The newest frame of a client; older ones that wait are dropped."""

    def __init__(self) -> None:
        self._frame: tuple[int, bytes | None] | None = None
        self._came = asyncio.Event()

    def put(self, number: int, data: bytes | None) -> None:
        self._frame = (number, data)
        self._came.set()

    async def get(self) -> tuple[int, bytes | None]:
        await self._came.wait()
        self._came.clear()
        assert self._frame is not None
        return self._frame


class _Session:
    """One client: what it asked for, and who is who in its frames."""

    def __init__(self, service: Service, options: LiveOptions) -> None:
        self._service = service
        self._model = service.networks.named(options.model)
        self._least = options.min_person_score
        self._tracker: Tracker | None = None
        self._tracks = options.track or options.smooth == "live"
        self._smooth = LiveSmoother() if options.smooth == "live" else None

    async def answer(self, number: int, data: bytes) -> dict[str, Any]:
        """Return the answer to one frame.

        Raises:
            InputError: the frame is no image.
            BusyError: others are before it.
        """
        time_s = time.monotonic()
        if self._tracks and self._tracker is None:
            predictor = await asyncio.to_thread(self._service.networks.load, self._model)
            start = predictor.min_person_score if self._least is None else self._least
            self._tracker = Tracker(start, min(WEAK, start))

        def finish(asked: Asked, image: np.ndarray, poses: Poses) -> dict[str, Any]:
            if self._tracker is not None:
                poses = self._tracker(poses, time_s)
            if self._smooth is not None:
                poses = self._smooth(poses, time_s)
            return self._service.result(asked, image, poses)

        least = self._least if self._tracker is None else self._tracker.keep_score
        asked = Asked(self._model, Upload(f"frame {number}", data), least=least)
        (found,) = await self._service.run([asked], finish)
        return {**found, "frame": number}


async def live(socket: WebSocket, service: Service) -> None:
    """Serve one client until it leaves, or sends what cannot be."""
    limits = service.settings.limits
    await socket.accept()
    try:
        if service.live >= limits.live:
            await _close(socket, TRY_LATER, "Too many cameras are open; try again later.")
            return
        with service.live_connection():  # from here on, since also a client without the token can fill memory
            if service.settings.token is not None and not await _knows_token(socket, service):
                await _close(socket, POLICY, 'The first message must be {"token": TOKEN}, with the right one.')
                return
            try:
                session = _Session(service, LiveOptions.model_validate(dict(socket.query_params)))
            except (ValidationError, ValueError) as error:
                await _close(socket, POLICY, str(refusal(error)))
                return
            await _until_it_leaves(socket, session, limits.seconds)
    except (WebSocketDisconnect, asyncio.TimeoutError):
        return


async def _until_it_leaves(socket: WebSocket, session: _Session, seconds: float) -> None:
    newest = _Newest()

    async def read() -> None:
        number = 0
        while (message := await socket.receive())["type"] == "websocket.receive":
            newest.put(number, message.get("bytes"))
            number += 1

    async def answer() -> None:
        while True:
            text = json.dumps(await _answer(session, *await newest.get()))
            await asyncio.wait_for(socket.send_text(text), seconds)

    tasks = [asyncio.create_task(read()), asyncio.create_task(answer())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(session: _Session, number: int, data: bytes | None) -> dict[str, Any]:
    """Return the answer to a message, a fault as one sentence."""
    if data is None:
        return {"detail": "A frame must be a binary message: the bytes of an image file.", "frame": number}
    try:
        return await session.answer(number, data)
    except Exception as error:
        return {"detail": str(refusal(error)), "frame": number}


async def _knows_token(socket: WebSocket, service: Service) -> bool:
    """Whether the first message, which is due soon, has the token."""
    try:
        message = await asyncio.wait_for(socket.receive(), service.settings.limits.seconds)
        content = json.loads(message.get("text") or "")
        given = str(content["token"]).encode()
    except (asyncio.TimeoutError, ValueError, RecursionError, TypeError, KeyError):
        return False
    return knows(service.settings.token, given)


async def _close(socket: WebSocket, code: int, sentence: str) -> None:
    await socket.send_text(json.dumps({"detail": sentence}))
    await socket.close(code)
