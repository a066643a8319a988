"""Who may ask, how much, and how slowly: looked at before the app, and while a request is read and answered."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from leanpose.serve.faults import LEFT, RefusedError
from leanpose.serve.metrics import Metrics
from leanpose.serve.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PART = 2**16  # bytes of an answer that are sent at a time
SLOWEST = 2**18  # bytes of an answer that a client reads in a second
LIVE = "/v1/live"  # the one address of WebSockets
ASKED = ("/v1/", "/models/", "/metrics")  # addresses that need the token; the page asks for it
LONGEST_PATH, LONGEST_QUERY = 2**10, 2**16
SAFE_HEADERS = {
    # Together they give a page threads in WebAssembly.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Guard:
    """An ASGI app around another.

    Args:
        app: the other.
        settings: of the service.
        metrics: counts what is answered and held.
    """

    def __init__(self, app: App, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._limits, self._metrics = app, settings, settings.limits, metrics
        self._held = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket" and (scope["path"] != LIVE or self._refusal(scope)):
            await receive()
            await send({"type": "websocket.close"})  # before it is accepted: 403
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        answer = _Answer(send, self._limits.seconds, self._count)
        body = _Body(receive, self._limits.seconds, self._hold)
        start = time.perf_counter()
        try:
            if refusal := self._refusal(scope):
                await refusal.response()(scope, receive, answer)
            else:
                await self._app(scope, body, answer)
        except Exception:  # the app told the client, and the log
            if answer.status == LEFT:
                raise
        finally:
            self._count(-body.held)
            self._metrics.answered(scope["path"], answer.status, time.perf_counter() - start)

    def _refusal(self, scope: MutableMapping[str, Any]) -> RefusedError | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not _may_be_called(host, self._settings.hosts):
            return RefusedError(
                403, "This name is not the service's; it is started with --allow-host for further names."
            )
        if origin is not None and not _same(origin, host) and not {origin, "*"} & {*self._settings.origins}:
            return RefusedError(
                403, "Pages of other sites may not use this service; it is started with --allow-origin for them."
            )
        if "\0" in scope["path"]:
            return RefusedError(404, "There is nothing at this address; see /docs.")
        if len(scope["path"]) > LONGEST_PATH or len(scope["query_string"]) > LONGEST_QUERY:
            return RefusedError(414, "The address is too long; send long parameters as fields of a form.")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.bytes:
            return self._too_large()
        asks = scope["type"] == "http" and scope["path"].startswith(ASKED) and scope["method"] != "OPTIONS"
        if asks and not knows(
            self._settings.token, headers.get("authorization", "").removeprefix("Bearer ").encode("latin-1")
        ):
            return RefusedError(
                401, "This service needs its token: Authorization: Bearer TOKEN.", WWW_Authenticate="Bearer"
            )
        return None

    def _hold(self, more: int, body: int) -> None:
        """Count bytes that are held in addition, of a body that has so many now, or raise RefusedError."""
        if body > self._limits.bytes:
            raise self._too_large()
        if more > 0 and self._held + more > self._limits.memory:
            raise RefusedError(429, "Too many requests are being read; send this again in 1 s.", Retry_After="1")
        self._count(more)

    def _count(self, more: int) -> None:
        """Count bytes of bodies and answers that are held in addition."""
        self._held += more
        self._metrics.held.set(self._held)

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"A request takes {self._limits.bytes / 2**20:g} MiB; send fewer or smaller images.")


class _Body:
    """What a client sends: counted, and in time."""

    def __init__(self, receive: Receive, seconds: float, hold: Callable[[int, int], None]) -> None:
        self._receive, self._hold, self._seconds = receive, hold, seconds
        self._latest = time.monotonic() + seconds
        self._read = False
        self.held = 0

    async def __call__(self) -> Message:
        if self._read:  # what still comes is that the client leaves
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._latest - time.monotonic()))
        except asyncio.TimeoutError:
            raise RefusedError(
                408, f"The request did not come within {self._seconds:g} s; send smaller images."
            ) from None
        more = len(message.get("body", b""))
        self._hold(more, self.held + more)
        self.held += more
        self._read = not message.get("more_body", False)
        return message


class _Answer:
    """What a client gets: with safe headers, and in parts, of which the server has few that are not read yet. Who reads
    very slowly gets no more."""

    def __init__(self, send: Send, seconds: float, count: Callable[[int], None]) -> None:
        self._send, self._seconds, self._count = send, seconds, count
        self.status = LEFT  # until the answer begins

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
        size = len(message.get("body", b""))
        self._count(size)
        try:
            await asyncio.wait_for(self._send_parts(message), self._seconds + size / SLOWEST)
        except asyncio.TimeoutError:
            raise ClientDisconnect from None
        finally:
            self._count(-size)

    async def _send_parts(self, message: Message) -> None:
        parts = memoryview(message.get("body", b""))
        while len(parts) > PART:
            await self._send({"type": "http.response.body", "body": bytes(parts[:PART]), "more_body": True})
            parts = parts[PART:]
        await self._send({**message, "body": bytes(parts)} if "body" in message else message)


def knows(token: str | None, given: bytes) -> bool:
    """Whether a client knows the token, if there is one; what it gives is UTF-8."""
    return token is None or hmac.compare_digest(token.encode(), given)


def _may_be_called(host: str, names: Iterable[str]) -> bool:
    """Whether the header Host is a numeric address, localhost, or one of the names. A page elsewhere can let its own
    name mean this machine (DNS rebinding), but not these."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # "[::1"
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost") or name in names
    return True


def _same(origin: str, host: str) -> bool:
    """Whether a page at an origin, "http://localhost:8000", comes from the host that it asks, "localhost:8000"."""
    scheme, _, its_host = origin.partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme, "")
    return its_host.lower().removesuffix(default) == host.lower().removesuffix(default) and bool(default)
