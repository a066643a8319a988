"""Read the metadata entries of .onnx and .safetensors files without the libraries that load their networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from leanpose.errors import WeightsError

METADATA_FIELD = 14  # of ONNX's ModelProto: repeated {1: key, 2: value}
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5  # wire types of protocol buffers


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata entries of a file; numbers of the network are skipped, not read.

    Args:
        path: .safetensors (a header in JSON), or else ONNX (a protocol buffer).

    Raises:
        WeightsError: there is no such file, or it is of neither kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _of_safetensors(file) if path.suffix == ".safetensors" else _of_onnx(file)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}; check the path.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError, MemoryError):
        raise WeightsError(f"{path} is not a usable {path.suffix.lstrip('.')} file.") from None


def _of_safetensors(file: BinaryIO) -> dict[str, str]:
    length = int.from_bytes(_exactly(file, 8), "little")
    header = json.loads(_exactly(file, length))
    return dict(header.get("__metadata__") or {})


def _of_onnx(file: BinaryIO) -> dict[str, str]:
    end = file.seek(0, 2)
    file.seek(0)
    entries = {}
    for number, length in _fields(file, end):
        if number == METADATA_FIELD:
            stop, words = file.tell() + length, {}
            for part, size in _fields(file, stop):
                words[part] = _exactly(file, size).decode()
            entries[words[1]] = words[2]
        else:
            file.seek(length, 1)
    return entries


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield number and length of each field up to `end`; the caller moves the file past it."""
    while file.tell() < end:
        number, kind = divmod(_varint(file), 8)
        if kind == VARINT:
            _varint(file)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            file.seek(8 if kind == EIGHT_BYTES else 4, 1)
        elif kind == LENGTH:
            length = _varint(file)
            if file.tell() + length > end:
                raise EOFError
            yield number, length
        else:
            raise ValueError


def _varint(file: BinaryIO) -> int:
    value, shift = 0, 0
    while True:
        byte = _exactly(file, 1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
