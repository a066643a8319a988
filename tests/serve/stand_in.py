"""A server of the page and of answers by a real Predictor, with no guard, queue or token: `python stand_in.py 8000`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from fastapi.staticfiles import StaticFiles

import leanpose
from leanpose.inference.predictor import Predictor
from leanpose.io.images import read_image
from leanpose.io.results import to_json
from leanpose.structures import CALIBRATED_LEAST
from leanpose.tracking.tracker import Tracker

PAGE = Path(leanpose.__file__).parent / "serve" / "page"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; worker-src 'self' blob:; connect-src 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}
MODELS = ("lpn50", "lpn50.coco_128x96_int8")


def create_app() -> FastAPI:
    """Return the application; its networks are loaded."""
    app = FastAPI()
    predictors = {name: Predictor(name, threads=1) for name in MODELS}

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {
            "version": leanpose.__version__,
            "default": MODELS[0],
            "detector": "litepose_xs",
            "models": [_described(name, predictor) for name, predictor in predictors.items()],
            "limits": {"bytes": 33554432, "pixels": 67108864, "images": 16, "seconds": 30},
        }

    @app.post("/v1/poses")
    def poses(file: UploadFile, model: str = MODELS[0], min_person_score: float | None = None) -> Response:
        result = answered(predictors[model], file.file.read(), file.filename or "", min_person_score)
        return Response(json.dumps(result), media_type="application/json")

    @app.websocket("/v1/live")
    async def live(
        socket: WebSocket, model: str = MODELS[0], track: bool = False, min_person_score: float | None = None
    ) -> None:
        await socket.accept()
        tracker, frame = Tracker() if track else None, 0
        try:
            while True:
                content = await socket.receive_bytes()
                options = (min_person_score, tracker)
                result = await run_in_threadpool(answered, predictors[model], content, f"frame {frame}", *options)
                await socket.send_text(json.dumps(result | {"frame": frame}))
                frame += 1
        except WebSocketDisconnect:
            pass

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def answered(
    predictor: Predictor, content: bytes, name: str, min_person_score: float | None, tracker: Tracker | None = None
) -> dict[str, Any]:
    """Return the JSON object of one image file."""
    image = read_image(content)
    found = predictor(image, min_person_score=min_person_score)
    if tracker:
        found = tracker(found, time.monotonic())
    return to_json(name, (image.shape[0], image.shape[1]), found, predictor.provenance)


def _described(name: str, predictor: Predictor) -> dict[str, Any]:
    keypoint_set = predictor.keypoint_set
    return {
        "name": name,
        "task": predictor.weights.task,
        "input_size": list(predictor.weights.input_size),
        "calibrated": True,
        "min_score": CALIBRATED_LEAST,
        "min_person_score": predictor.min_person_score,
        "keypoint_set": keypoint_set.name,
        "keypoints": list(keypoint_set.keypoints),
        "edges": keypoint_set.edge_indices.tolist(),
    }


if __name__ == "__main__":
    uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning")
