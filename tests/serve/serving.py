"""A service that runs in a thread of the tests, as `leanpose serve` runs it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from leanpose.serve.run import address, make_server
from leanpose.serve.settings import Settings

SMALL = "lpn50.coco_128x96_int8"  # the quickest bundled network


@contextmanager
def serving(*models: str, **settings: Any) -> Iterator[str]:
    """Yield the address of a service of some networks, by default SMALL, with a detector."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = make_server(Settings(models or (SMALL,), **settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address(listener)
        finally:
            server.should_exit = True
            thread.join()
