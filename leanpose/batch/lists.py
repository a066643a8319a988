"""Lists of names, in five forms, of any length: what they hold is read bit by bit, but for JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from leanpose.batch.store import opened
from leanpose.errors import InputError, suggest
from leanpose.io.images import download, is_url

LISTS = (".parquet", ".csv", ".json", ".jsonl", ".txt")
COLUMNS = ("source", "path", "url", "image", "file_name", "filename", "file")  # the first that is there
_ROWS = 10_000  # of Parquet in memory


def entries(source: str, column: str | None) -> Iterator[str]:
    """Yield the names in a list.

    Args:
        source: its path or address, whose suffix is one of LISTS.
        column: of lists that have columns; None: the first of COLUMNS that is there.

    Raises:
        InputError: it cannot be read, has no such column, or has a row without a name.
    """
    try:
        with io.BytesIO(download(source)) if is_url(source) else opened(source) as file:
            for row, name in enumerate(_names(file, source, column), 1):
                if not isinstance(name, str) or not name:
                    raise InputError(f"{source} has no name in row {row}, but {name!r}; leave such rows out.")
                yield name
    except InputError:
        raise
    except Exception as error:  # of decoders, pyarrow and each file system
        raise InputError(f"{source} cannot be read as a list ({error}).") from None


def _names(file: BinaryIO, source: str, column: str | None) -> Iterator[Any]:
    suffix = PurePosixPath(source.partition("?")[0].lower() if "://" in source else source.lower()).suffix
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.ParquetFile(file)
        name = _column(table.schema_arrow.names, column, source)
        for batch in table.iter_batches(_ROWS, columns=[name]):
            yield from batch.column(0).to_pylist()
        return
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        if suffix == ".csv":
            rows = csv.DictReader(text)
            name = _column(rows.fieldnames or (), column, source)
            yield from (row[name] for row in rows)
        elif suffix == ".json":
            content = json.load(text)
            if not isinstance(content, list):
                raise InputError(f"{source} must be a list of names, or of objects with them.")
            yield from (_entry(entry, column, source) for entry in content)
        elif suffix == ".jsonl":
            yield from (_entry(json.loads(line), column, source) for line in text if line.strip())
        else:
            yield from (line.strip() for line in text if line.strip())


def _entry(entry: Any, column: str | None, source: str) -> Any:
    return entry[_column(entry, column, source)] if isinstance(entry, dict) else entry


def _column(names: Iterable[str], column: str | None, source: str) -> str:
    """Return the column of a list that holds the names."""
    known = list(names)
    if column is not None:
        if column not in known:
            raise InputError(f"{source} has no column '{column}'.{suggest(column, known)}")
        return column
    for name in COLUMNS:
        if name in known:
            return name
    raise InputError(f"{source} has the columns {', '.join(known)}; say with --column which one holds the names.")
