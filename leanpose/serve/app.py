"""The addresses of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request, Response, Security, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

import leanpose
from leanpose.errors import InputError
from leanpose.serve.faults import RefusedError, tell_faults
from leanpose.serve.guard import Guard
from leanpose.serve.live import live
from leanpose.serve.metrics import CONTENT_TYPE
from leanpose.serve.options import DrawOptions, PoseOptions
from leanpose.serve.service import Asked, Service
from leanpose.serve.settings import Settings
from leanpose.serve.uploads import Upload, receive_uploads

PAGE = Path(__file__).parent / "page"
IMAGES: dict[str, Any] = {"image/png": {}, "image/jpeg": {}, "image/webp": {}}
ONE_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
TOKEN = [Security(HTTPBearer(auto_error=False))]  # told by OpenAPI; the guard checks it

AnyOptions = TypeVar("AnyOptions", bound=PoseOptions)
Result = TypeVar("Result")


def create_app(settings: Settings) -> Any:
    """Return the service as an ASGI app.

    Raises:
        WeightsError: a network is missing, or the default one cannot be loaded.
        InputError: no such engine or device.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="leanpose", version=leanpose.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Keypoints of the persons in images.",
    )  # fmt: skip
    tell_faults(app)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"], allow_headers=["*"])
    _add_addresses(app, service)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return Guard(app, settings, service.metrics)


def _add_addresses(app: FastAPI, service: Service) -> None:
    limits = service.settings.limits

    @app.post("/v1/poses", dependencies=TOKEN, openapi_extra=_body(many=True), responses=_faults())
    async def poses(request: Request, options: Annotated[PoseOptions, Query()]) -> Response:
        """Return the keypoints of the persons in an image, as `leanpose predict` writes them; of several images a list.

        The parameters may also be fields of the form.
        """
        uploads, options = await _read(request, options)
        found = await _each(request, uploads, options, service.json)
        content = found[0] if len(found) == 1 else b"[" + b",".join(found) + b"]"
        return Response(content, media_type="application/json")

    @app.post(
        "/v1/draw",
        dependencies=TOKEN,
        openapi_extra=_body(many=False),
        responses={200: {"content": IMAGES}, **_faults()},
    )
    async def draw(request: Request, options: Annotated[DrawOptions, Query()]) -> Response:
        """Return an image with the skeletons of its persons drawn on it."""
        uploads, options = await _read(request, options)
        if len(uploads) > 1:
            raise RefusedError(400, "One image is drawn at a time; send the others in requests of their own.")
        (drawn,) = await _each(request, uploads, options, partial(service.drawn, options))
        return Response(drawn, media_type=f"image/{options.format}")

    async def _read(request: Request, options: AnyOptions) -> tuple[list[Upload], AnyOptions]:
        """Return the images of a request, and its options with those of the form."""
        uploads, fields = await receive_uploads(request, limits)
        given = options.model_dump(exclude_unset=True)
        return uploads, type(options).model_validate({**given, **fields})

    async def _each(
        request: Request, uploads: list[Upload], options: PoseOptions, finish: Callable[..., bytes]
    ) -> list[bytes]:
        model = service.networks.named(options.model)
        boxes = options.boxes_of(len(uploads), limits.boxes)
        asked = [Asked(model, *pair, options.min_person_score) for pair in zip(uploads, boxes, strict=True)]
        return await _while_there(request, service.run(asked, finish))

    @app.get("/v1/models", dependencies=TOKEN, responses=_faults())
    async def models() -> dict[str, Any]:
        """Return the networks that can be asked for, with their keypoints, and the limits of requests."""
        return {
            "version": leanpose.__version__,
            "default": service.networks.named(None),
            "detector": service.networks.default.provenance["detector"],
            "models": service.networks.describe(),
            "limits": {name: getattr(limits, name) for name in ("bytes", "pixels", "images", "boxes", "seconds")},
        }

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the service answers."""
        return {"status": "ok"}

    @app.get("/models/manifest.json", include_in_schema=False)
    async def manifest() -> JSONResponse:
        try:
            return JSONResponse(service.networks.for_browsers)
        except InputError as error:
            raise RefusedError(404, str(error)) from None

    @app.get("/models/{name}", include_in_schema=False)
    async def network(name: str) -> FileResponse:
        if name not in service.networks.files:
            raise RefusedError(404, "There is no such network; see /models/manifest.json.")
        return FileResponse(service.networks.files[name])

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    @app.get("/metrics", dependencies=TOKEN, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return numbers in Prometheus's text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.websocket("/v1/live")
    async def frames(socket: WebSocket) -> None:
        await live(socket, service)


async def _while_there(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what work gives, or cancel it when the client leaves."""

    async def until_it_leaves() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(until_it_leaves())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _body(many: bool) -> dict[str, Any]:
    """Return how OpenAPI describes a body of images."""
    file = {"type": "array", "items": ONE_FILE, "minItems": 1} if many else ONE_FILE
    form = {"schema": {"type": "object", "properties": {"file": file}, "required": ["file"]}}
    kinds = {"multipart/form-data": form, "application/octet-stream": {"schema": ONE_FILE}}
    return {"requestBody": {"required": True, "content": kinds}}


def _faults() -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI describes what can go wrong: all in one form."""
    schema = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
    entry = {"description": "One sentence says why.", "content": {"application/json": {"schema": schema}}}
    return {status: entry for status in (400, 401, 403, 408, 413, 415, 422, 429, 503)}
