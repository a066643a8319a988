"""What a client is told when it cannot have what it asks for: a status and one sentence."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from leanpose.errors import InputError
from leanpose.serve.pool import BusyError

LEFT = 499  # not of HTTP, but what counts for a client that left before its answer
TROUBLE = "The service could not do this; its log says why."
logger = logging.getLogger("uvicorn.error")


class RefusedError(InputError):
    """A request that is not worked on.

    Args:
        status: of HTTP, 400 to 499, or 503.
        sentence: what the client should do instead.
        headers: of the answer.
    """

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers

    def response(self) -> JSONResponse:
        """Return the answer."""
        names = {name.replace("_", "-"): value for name, value in self.headers.items()}
        detail = "".join(letter if letter.isprintable() else "?" for letter in str(self))
        return JSONResponse({"detail": detail}, self.status, names)


def refusal(error: Exception) -> RefusedError:
    """Return what the client is told of an error."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, BusyError):
        sentence = f"Too many images wait; send this again in {error.seconds} s."
        return RefusedError(429, sentence, Retry_After=str(error.seconds))
    if isinstance(error, (RequestValidationError, ValidationError)):
        return RefusedError(422, _first_of(error.errors()))
    if isinstance(error, ClientDisconnect):
        return RefusedError(LEFT, "The client left.")
    if isinstance(error, InputError):
        return RefusedError(400, str(error))
    if isinstance(error, HTTPException):
        detail = (
            "There is nothing at this address, or not for this method"
            if error.status_code == 404
            else error.detail.rstrip(".")
        )
        return RefusedError(error.status_code, f"{detail}; see /docs.", **dict(error.headers or {}))
    logger.error("A request failed", exc_info=error)
    return RefusedError(500, TROUBLE)


def _first_of(errors: Any) -> str:
    error = errors[0]
    name = ".".join(str(part) for part in error["loc"] if part not in ("query", "body"))
    if error["type"] == "extra_forbidden":
        return f"There is no parameter '{name[:80]}'; see docs for those that there are."
    return f"{name}: {error['msg'][0].lower()}{error['msg'][1:]}."


def tell_faults(app: FastAPI) -> None:
    """Let an app answer all errors by `refusal`."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return refusal(error).response()

    for kind in (
        InputError,
        ClientDisconnect,
        BusyError,
        RequestValidationError,
        ValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, answer)
