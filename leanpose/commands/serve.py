"""A page and a REST service, verb `serve`."""

from __future__ import annotations

import os
import socket
import webbrowser
from pathlib import Path

from leanpose.errors import InputError, note, require
from leanpose.inference.engines import EngineName

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PACKAGES = ("fastapi", "uvicorn", "httptools", "websockets", "python_multipart", "prometheus_client", "PIL")


def serve(
    model: str = "auto",
    detector: str = "auto",
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_host: str = "",
    allow_origin: str = "",
    engine: EngineName = "auto",
    threads: int | None = None,
    device: str = "cpu",
    max_megabytes: int = 32,
    max_megapixels: int = 64,
    max_images: int = 16,
    max_waiting: int = 256,
    timeout: float = 30,
    open: bool = False,
    static: str | None = None,
) -> None:
    """Serve a page that shows skeletons in photos, clips and from the camera, and a REST interface, until Ctrl-C.

    Only this machine can use it, unless --host says otherwise; set a token then. /docs lists the addresses.

    Args:
        model: names or files of networks, with commas between; the first is the default. "auto": all on this machine,
            the strongest first.
        detector: name or file of the network that proposes persons, "auto" as for `leanpose predict`; "none": each
            image is one person.
        host: address to listen at; 0.0.0.0 for all of this machine.
        port: port to listen at; 0: any that is free.
        token: clients must send it: Authorization: Bearer TOKEN. The environment variable LEANPOSE_TOKEN does the same,
            and other users of this machine cannot read it.
        allow_host: further names by which the service may be called, with commas between, such as pose.example.org.
        allow_origin: sites whose pages may use it, with commas between, such as https://example.org; "*": all.
        engine: as of `leanpose predict`.
        threads: threads of the networks.
        device: as of `leanpose predict`.
        max_megabytes: of a request.
        max_megapixels: of an image.
        max_images: in a request.
        max_waiting: images that wait; who sends more is asked to come again.
        timeout: seconds for a request to come, and to be worked on.
        open: open the page in a browser.
        static: write the page and the networks into this folder, for any web server, and end.
    """
    if static is not None:
        from leanpose.serve.static_site import write_site

        written = write_site(Path(static), _names(model), detector)
        print(f"{static}: {len(written)} files, for any web server")
        return
    for package in PACKAGES:
        require(package, "serve")
    from leanpose.serve.run import address, make_server
    from leanpose.serve.settings import Limits, Settings

    most = {"max_megabytes": max_megabytes, "max_megapixels": max_megapixels, "max_images": max_images}
    for name, value in (most | {"max_waiting": max_waiting, "timeout": timeout}).items():
        if not value > 0:
            raise InputError(f"--{name.replace('_', '-')} must be above 0, not {value}.")
    limits = Limits(
        bytes=max_megabytes * 2**20,
        pixels=max_megapixels * 10**6,
        images=max_images,
        waiting=max(max_waiting, max_images),
        seconds=timeout,
    )
    settings = Settings(
        tuple(_names(model)),
        detector,
        {"engine": engine, "threads": threads, "device": device},
        limits,
        token or os.environ.get("LEANPOSE_TOKEN") or None,
        (*_hosts(allow_host), host.lower()),
        _origins(allow_origin),
    )
    with _listening(host, port) as listener:
        if settings.token is None and host not in LOOPBACK:
            note("Everybody who reaches this machine can use the service; set a token (LEANPOSE_TOKEN) to prevent it.")
        server, page = make_server(settings), address(listener)
        print(f"leanpose serves at {page} (page) and {page}docs (REST); Ctrl-C ends it.", flush=True)
        if open:
            webbrowser.open(page)
        server.run(sockets=[listener])


def _names(model: str) -> list[str]:
    from leanpose.serve.networks import all_models

    names = list(dict.fromkeys(_words(model)))
    if not names:
        raise InputError("--model names no network; leave it out for all that are on this machine.")
    return [*all_models()] if names == ["auto"] else names


def _words(text: str) -> list[str]:
    return [word for word in map(str.strip, text.split(",")) if word]


def _hosts(text: str) -> list[str]:
    for word in _words(text):
        if "/" in word or ":" in word:
            raise InputError(f"--allow-host takes a name without scheme and port, pose.example.org, not {word}.")
    return _words(text.lower())


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(word.rstrip("/").lower() for word in _words(text))
    for origin in origins:
        scheme, _, site = origin.partition("://")
        if origin != "*" and (scheme not in ("http", "https") or not site or "/" in site):
            raise InputError(f'--allow-origin takes a site, https://example.org, or "*", not {origin}.')
    return origins


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port must be 0 to 65535, not {port}.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # Python repeats the address there
        raise InputError(
            f"{host} port {port} cannot be used ({reason}); choose others with --host and --port."
        ) from None
