"""The service as a running server."""

from __future__ import annotations

import asyncio
import math
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from leanpose.serve.app import create_app
from leanpose.serve.settings import Settings

CONNECTIONS = 1024
LONGEST_HEAD = 2**17  # bytes of a request that are no part of its body


class _Protocol(HttpToolsProtocol):
    """HTTP that breaks a connection on which, for the seconds of `timeout_keep_alive`, no whole request head comes, at
    first or after an answer, or nothing of an answer is read; and one with a head that does not end."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._silent = self.loop.call_later(self.timeout_keep_alive, self._break_if_silent)
        self._unread: asyncio.TimerHandle | None = None
        self._head = 0  # bytes since the last that ended a head or were of a body

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > LONGEST_HEAD:
            self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        self._head = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        self._silent.cancel()
        self._silent = self.loop.call_later(self.timeout_keep_alive, self._break_if_silent)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.timeout_keep_alive, self._leave)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        self._silent.cancel()  # else it would hold the connection in memory
        self._cancel_unread()
        super().connection_lost(exc)

    def _leave(self) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # the app goes on, and what it writes goes nowhere
        self.transport.abort()

    def _cancel_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()

    def _break_if_silent(self) -> None:
        is_websocket = self.transport.get_protocol() is not self
        if not is_websocket and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()


def make_server(settings: Settings) -> uvicorn.Server:
    """Return the server of a service: `run(sockets=[...])` serves until SIGINT, SIGTERM or `should_exit`, and finishes
    what was taken until then.

    Raises:
        WeightsError: a network is missing, or the default one cannot be loaded.
        InputError: no such engine or device.
    """
    config = uvicorn.Config(
        create_app(settings),
        http=_Protocol,
        ws_max_size=min(settings.limits.frame, settings.limits.bytes),
        ws_max_queue=1,
        ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=math.ceil(settings.limits.seconds),
        timeout_graceful_shutdown=math.ceil(settings.limits.seconds),
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    return uvicorn.Server(config)


def address(listener: socket.socket) -> str:
    """Return the address of the page at a listening socket, one that a browser can open."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # everywhere: as this machine calls itself
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
