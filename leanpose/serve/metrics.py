"""Numbers of a running service, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATHS = ("/v1/poses", "/v1/draw", "/v1/models", "/v1/live", "/healthz", "/metrics")  # others count together
SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """What is counted.

    Attributes:
        images: worked on, by network.
        persons: found in them, by network.
        waiting: images in the line; set by who owns it.
        held: bytes of bodies and answers that are in memory.
        live: open WebSockets.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("leanpose_requests", "Answered requests", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "leanpose_request_seconds", "From request to answer", ["path"], buckets=SECONDS, registry=self._registry
        )
        self.images = Counter("leanpose_images", "Images worked on", ["model"], registry=self._registry)
        self.persons = Counter("leanpose_persons", "Persons found", ["model"], registry=self._registry)
        self.waiting = Gauge("leanpose_waiting_images", "Images that wait", registry=self._registry)
        self.held = Gauge("leanpose_held_bytes", "Bytes of requests and answers in memory", registry=self._registry)
        self.live = Gauge("leanpose_live_connections", "Open WebSockets", registry=self._registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        path = path if path in PATHS else "other"
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)
