"""Fetch public weights into the user's folder: resumable, from several addresses in turn, checked before they are used.

Environment variables: LEANPOSE_WEIGHTS, the folder; LEANPOSE_OFFLINE=1, no network; LEANPOSE_MIRROR, an address that is
tried first, under which files lie by their own names; HF_ENDPOINT, in place of https://huggingface.co; HTTPS_PROXY.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import lzma
import os
import struct
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from leanpose.errors import InputError, WeightsError, note
from leanpose.io.preflight import check_needs
from leanpose.weights.metadata import read_metadata
from leanpose.weights.public import HUGGINGFACE, PublicWeights, get_public

SILENT_SECONDS = 30.0  # without a byte from a server
TRIES = 5  # at one address, as long as each brings something
CHUNK = 1 << 18
LARGEST = 1_000_000_000  # bytes of a file of unknown size
BESIDE = 1_000_000  # bytes that a zip may hold beside the file
ZIP = b"PK\x03\x04"
ON_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class _AddressError(Exception):
    """An address gave nothing of use; the words say why."""


class _NoConnectionError(_AddressError):
    """There was no connection to an address."""


def weights_folder() -> Path:
    """Return the user's folder of weights: LEANPOSE_WEIGHTS, `~/.leanpose` without it."""
    return Path(os.environ.get("LEANPOSE_WEIGHTS") or os.path.expanduser("~/.leanpose"))


def local_file(row: PublicWeights) -> Path | None:
    """Return the file of a row that lies in the user's folder, or below it; None: there is none.

    It may have any name that ends in .onnx, as its SHA-256 tells it. Where that is unknown its name does, and so it
    does for a checkpoint that `leanpose convert` made a file of.
    """
    folder = weights_folder()
    named = folder / (f"{row.name}.onnx" if row.urls else f"{row.record.name}.safetensors")
    if not row.sha256:
        return named if named.is_file() else None
    files = (file for file in sorted(folder.rglob("*.onnx")) if not file.name.startswith("."))
    for file in dict.fromkeys((named, *files)):
        with contextlib.suppress(OSError):  # no file, or not ours to read
            state = file.stat()
            if (
                row.size in (0, state.st_size)
                and _sha256_at(file.absolute(), state.st_size, state.st_mtime_ns) == row.sha256
            ):
                return file
    return None


@cache
def _sha256_at(file: Path, size: int, mtime_ns: int) -> str:
    """Return the SHA-256 of a file that has not changed since."""
    return _sha256(file)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(name: str, offline: bool = False) -> Path:
    """Return the .onnx file of public weights; what is not in the user's folder yet is fetched, `{name}.onnx`.

    Args:
        name: a name of leanpose.weights.public.
        offline: use no network; so does the environment variable LEANPOSE_OFFLINE=1.

    Raises:
        WeightsError: the name is unknown, the file has to be fetched by hand, or no address gives it as published.
        InputError: the folder cannot be written or lacks room, or an address in the environment cannot be used.
    """
    row, folder = get_public(name), weights_folder()
    target = folder / f"{name}.onnx"
    if here := local_file(row):
        return here
    if not row.urls:
        raise WeightsError(f"{name} has to be fetched by hand: {row.by_hand.replace('FOLDER', str(folder))}.")
    if target.exists():
        raise WeightsError(
            f"{target} is another file than the published one; rename it, and use it by its own name or path."
        )
    if offline or os.environ.get("LEANPOSE_OFFLINE", "0") not in ("", "0"):
        raise WeightsError(
            f"{name} is not in {folder}, and --offline or LEANPOSE_OFFLINE forbids the network: run `leanpose download "
            f"{name}` where there is one, and copy the file."
        )
    addresses = _addresses(row)
    check_needs(places=(target,), megabytes=(2 if row.member else 1) * row.size / 1e6)  # a zip, and what is in it
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if here := local_file(row):  # another process fetched it
            return here
        size = f"{row.size / 1e6:.0f} MB" if row.size else "size not stated"
        words = f"; {row.record.note}" if row.record.note else ""
        note(f"{name} ({size}) goes to {target}. Code: {row.code_licence}. Weights: {row.weights_licence}{words}.")
        try:
            sha256 = _fetch_from_any(row, addresses, target)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; what is here of {name} is kept, the same command goes on") from None
    if not row.sha256:
        note(f"the SHA-256 of {name} has not been published, so it was not checked; that of this file is {sha256}")
    return target


def _addresses(row: PublicWeights) -> list[str]:
    """Return all addresses in the order of trying."""
    hub = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUGGINGFACE
    mirror = os.environ.get("LEANPOSE_MIRROR", "").rstrip("/")
    addresses = [url.replace(f"{HUGGINGFACE}/", f"{hub}/", 1) for url in row.urls]
    if mirror:
        addresses = [*(f"{mirror}/{url.rpartition('/')[2]}" for url in row.urls), *addresses]
    for url in addresses:
        if not _is_safe(url):
            raise InputError(
                f"{url} is no https address; check LEANPOSE_MIRROR and HF_ENDPOINT (http is for localhost only)."
            )
    return list(dict.fromkeys(addresses))


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ON_THIS_MACHINE)
    except ValueError:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else fetches into a folder, and keep others waiting; a dead process holds nobody up."""
    with (folder / ".lock").open("ab") as file:
        told = False
        while not _lock(file):
            if not told:
                note(f"another process is fetching weights into {folder}; waiting for it")
                told = True
            time.sleep(0.2)
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a disk without locks; the hash shows whether two wrote at once
            pass
        return True


def _fetch_from_any(row: PublicWeights, addresses: list[str], target: Path) -> str:
    """Put the file at its place and return its SHA-256."""
    failures: list[tuple[str, _AddressError]] = []
    for url in addresses:
        of_address = hashlib.sha256(url.encode()).hexdigest()[:12]
        part = target.with_name(f".{row.name}.{of_address}.part")
        try:
            _fetch(url, part, row)
            sha256 = _install(part, row, target)
        except _AddressError as error:
            failures.append((urlsplit(url).hostname or url, error))
        else:
            for left in target.parent.glob(f".{row.name}.*.part"):  # of other addresses
                _remove(left)
            return sha256
    if all(isinstance(error, _NoConnectionError) for _, error in failures):
        hosts = ", ".join(dict.fromkeys(host for host, _ in failures))
        raise WeightsError(
            f"{row.name} cannot be fetched: there is no connection to {hosts} ({failures[-1][1]}); check the network "
            "and HTTPS_PROXY, or name a mirror in LEANPOSE_MIRROR."
        )
    reasons = "; ".join(dict.fromkeys(f"{host}: {error}" for host, error in failures))
    raise WeightsError(
        f"{row.name} cannot be fetched ({reasons}); try again later, name a mirror in LEANPOSE_MIRROR, or put the file "
        f"into {target.parent} yourself."
    )


def _fetch(url: str, part: Path, row: PublicWeights) -> None:
    """Fetch all of an address into a file, going on behind what is there of it."""
    for _ in range(TRIES):
        before = _size(part)
        try:
            return _fetch_rest(url, part, row)
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                return None  # there is no more of it; the hash tells whether that is right
            raise _AddressError(f"HTTP {error.code} {error.reason}".strip()) from None
        except (OSError, UnicodeError, http.client.HTTPException) as error:  # includes urllib.error.URLError
            cause = getattr(error, "reason", error)
            reason = str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
            failed = _NoConnectionError(reason) if isinstance(error, urllib.error.URLError) else _AddressError(reason)
        if _size(part) <= before:
            break
    raise failed from None


def _fetch_rest(url: str, part: Path, row: PublicWeights) -> None:
    done = _size(part)
    limit = row.size + BESIDE if row.size else LARGEST
    request = urllib.request.Request(url, headers={"User-Agent": "leanpose"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urllib.request.build_opener(_Redirects).open(request, timeout=SILENT_SECONDS) as answer:
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if not goes_on:
            done = 0
        coming = answer.length or 0  # bytes, where the server says how many
        if done + coming > limit:
            _remove(part)
            raise _AddressError(
                f"it has {(done + coming) / 1e6:.0f} MB, more than the {limit / 1e6:.0f} MB that it may have"
            )
        check_needs(places=(part.with_name(f"{row.name}.onnx"),), megabytes=coming / 1e6)
        with (
            _written(part, append=goes_on) as file,
            tqdm(
                desc=row.name, total=done + coming if coming else None, initial=done,
                unit="B", unit_scale=True, disable=None,
            ) as bar,
        ):  # fmt: skip
            end = done + coming
            while chunk := answer.read(CHUNK):
                done += len(chunk)
                if done > limit:
                    _remove(part)
                    raise _AddressError(f"it has more than the {limit / 1e6:.0f} MB that it may have")
                _write(file, chunk, part)
                bar.update(len(chunk))
    if coming and done < end:
        raise ConnectionError("the connection broke off")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only, those of this machine also to itself."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        if not _is_safe(newurl) or (req.type, urlsplit(newurl).scheme) == ("https", "http"):
            raise _AddressError(f"it redirects to {newurl}, which is no https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _install(part: Path, row: PublicWeights, target: Path) -> str:
    """Put what was fetched at its place if it is the published file, and return its SHA-256; else delete it."""
    whole = part
    try:
        with part.open("rb") as file:
            zipped = file.read(len(ZIP)) == ZIP
        if zipped:
            whole = part.with_suffix(".onnx.part")
            _unpack(part, whole, row)
        sha256 = _sha256(whole)
        if row.sha256 and sha256 != row.sha256:
            raise _AddressError(f"another file than the published one, SHA-256 {sha256}")
        if not row.sha256:
            try:
                read_metadata(whole)
            except WeightsError:
                raise _AddressError("no ONNX file") from None
        os.replace(whole, target)
    except (_AddressError, InputError):
        _remove(part)
        raise
    except OSError as error:
        _remove(part)
        raise _unwritable(target, error) from None
    finally:
        if whole != part:  # after Ctrl-C that is kept
            _remove(whole)
    _remove(part)
    return sha256


def _unpack(archive: Path, whole: Path, row: PublicWeights) -> None:
    """Write the member of a zip whose name ends as the row says; names in the archive never become paths."""
    left = row.size or LARGEST
    try:
        with zipfile.ZipFile(archive) as content:
            members = [name for name in content.namelist() if name.endswith(row.member or ".onnx")]
            if len(members) != 1:
                raise _AddressError(f"a zip with {len(members)} members {row.member or '.onnx'}, not one")
            with content.open(members[0]) as member, _written(whole) as file:
                while chunk := member.read(CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise _AddressError("a zip whose member is larger than it may be")
                    _write(file, chunk, whole)
    except InputError:  # is a ValueError
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise _AddressError(f"a damaged zip, {error}") from None


@contextlib.contextmanager
def _written(file: Path, append: bool = False) -> Iterator[BinaryIO]:
    try:
        stream = file.open("ab" if append else "wb", buffering=0)
    except OSError as error:
        raise _unwritable(file, error) from None
    with stream:
        yield stream


def _write(file: BinaryIO, chunk: bytes, place: Path) -> None:
    """Write bytes; where the disk is full, delete what there is."""
    try:
        rest = memoryview(chunk)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        _remove(place)
        raise _unwritable(place, error) from None


def _unwritable(file: Path, error: OSError) -> InputError:
    return InputError(
        f"{file.parent} cannot be written ({error.strerror or error}); free space, or name another folder in "
        "LEANPOSE_WEIGHTS."
    )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()
