"""Values of files that others wrote, checked once where they are read: numbers, ids, names.

An InputError here is one sentence that begins with `what`: the file, the entry and the key.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError

FARTHEST = 1e6  # pixels; no coordinate of an image is larger

Id = int | str


def read_json(path: str | Path, unique_keys: bool = False) -> Any:
    """Read a JSON file in any Unicode encoding, with or without a byte-order mark.

    Args:
        unique_keys: refuse an object that has one key twice, of which JSON readers keep the last.

    Raises:
        InputError: the file is missing or broken.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise InputError(f"{path} has the key {shown(twice)} twice in one object; keep one of them.")
        return values

    try:
        return json.loads(Path(path).read_bytes(), object_pairs_hook=unique if unique_keys else None)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error.msg} in line {error.lineno}).") from None
    except RecursionError:
        raise InputError(f"{path} is not valid JSON (too many brackets inside one another).") from None
    except InputError:
        raise
    except ValueError as error:  # a whole number of thousands of digits
        raise InputError(f"{path} is not valid JSON ({error}).") from None


def shown(value: Any) -> str:
    """Return a value as JSON has it, cut short: words in quotes, so that "1" and 1 differ."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def entries(values: Any, keys: tuple[str, ...], what: str) -> list[dict[str, Any]]:
    """Return a list of JSON objects that all have these keys; `what` names one of them, such as "a.json: image"."""
    for i, entry in enumerate(values):
        if not isinstance(entry, dict):
            raise InputError(f"{what} {i} must be a mapping of keys to values, not {shown(entry)}.")
        for key in keys:
            if key not in entry:
                raise InputError(f"{what} {i} lacks the key '{key}'.")
    return values


def numbers(values: Any, shape: tuple[int, ...], what: str, largest: float = FARTHEST) -> np.ndarray:
    """Return finite numbers as float64 of this shape; numbers that stand as text are taken as numbers."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.full(shape, np.nan)
    if array.shape != shape or not (np.abs(array) <= largest).all():  # NaN compares false
        count = f"{' x '.join(map(str, shape))} numbers" if shape else "a number"
        raise InputError(f"{what} must be {count} (no NaN, at most {largest:g}), not {shown(values)}.")
    return array


def number(value: Any, what: str, largest: float = FARTHEST) -> float:
    """Return a finite number as float; one that stands as text is taken as a number."""
    return float(numbers(value, (), what, largest))


def text(value: Any, what: str) -> str:
    """Return a value that must be a word."""
    if not isinstance(value, str):
        raise InputError(f"{what} must be a word, not {shown(value)}.")
    return value


def identity(value: Any, what: str) -> Id:
    """Return an id: a whole number or a word."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InputError(f"{what} must be a whole number or a word, not {shown(value)}.")
    return value


class Known:
    """Ids that entries refer to. 1 and "1" are the same id unless both are there."""

    def __init__(self, ids: Iterable[Id]) -> None:
        self._by_text: dict[str, list[Id]] = {}
        for one in ids:
            self._by_text.setdefault(str(one), []).append(one)

    def find(self, value: Any) -> Id | None:
        """Return the known id that a value means; None: there is none."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            return None
        same = self._by_text.get(str(value), [])
        return same[0] if len(same) == 1 else next((one for one in same if one == value), None)


def repeated(values: Iterable[Hashable]) -> Any:
    """Return the first value that stands a second time; None: no value does."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
