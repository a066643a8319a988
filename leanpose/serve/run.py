"""The service as a running server."""

from __future__ import annotations

import math
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from leanpose.serve.app import create_app
from leanpose.serve.settings import Settings

CONNECTIONS = 1024
IDLE_S = 30  # a connection without a request is closed


class _Protocol(HttpToolsProtocol):
    """HTTP that closes a connection on which no whole request head comes, at first or after an answer."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._latest = self.loop.call_later(IDLE_S, self._close_if_silent)

    def on_response_complete(self) -> None:
        self._latest.cancel()
        self._latest = self.loop.call_later(IDLE_S, self._close_if_silent)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._latest.cancel()  # else it would hold the connection in memory
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
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
        ws_max_size=settings.limits.bytes,
        ws_max_queue=4,
        ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=math.ceil(settings.limits.seconds),
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    return uvicorn.Server(config)


def address(listener: socket.socket) -> str:
    """Return the address of the page at a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
