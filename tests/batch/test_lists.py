"""Lists of names: five forms, with columns and without, and those that are no lists."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from support import Host

from leanpose.batch.lists import COLUMNS, entries
from leanpose.errors import InputError

NAMES = ["a.jpg", "sub/b c.png", "s3://bucket/ü%20.jpg"]


def write(path: Path, column: str | None = "path", names: list[Any] = NAMES) -> str:
    """Write a list in the form that its suffix says."""
    rows = [{"id": number, column: name} for number, name in enumerate(names)] if column else names
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [f"id,{column}", *(f'{number},"{name}"' for number, name in enumerate(names))]
        path.write_text("\r\n".join(lines), "utf-8-sig")  # as Excel writes it
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", "utf-8")
    else:
        path.write_text("\n".join(names) + "\n\n", "utf-8")
    return str(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json", ".jsonl"])
def test_columns(suffix: str, tmp_path: Path) -> None:
    for column in COLUMNS:
        assert list(entries(write(tmp_path / f"list{suffix}", column), None)) == NAMES
    odd = write(tmp_path / f"odd{suffix}", "where")
    assert list(entries(odd, "where")) == NAMES
    with pytest.raises(InputError, match=r"columns id, where; say with --column"):
        list(entries(odd, None))
    with pytest.raises(InputError, match=r"no column 'were'. Did you mean 'where'\?"):
        list(entries(odd, "were"))


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".txt"])
def test_names_alone(suffix: str, tmp_path: Path) -> None:
    shouted = Path(write(tmp_path / f"list{suffix}", None)).rename(tmp_path / f"LIST{suffix.upper()}")
    assert list(entries(str(shouted), None)) == NAMES


def test_dictionaries_of_pyarrow(tmp_path: Path) -> None:
    column = pa.array(["a.jpg", "b.jpg", "a.jpg"]).dictionary_encode()
    pq.write_table(pa.table({"path": column}), tmp_path / "list.parquet")
    assert list(entries(str(tmp_path / "list.parquet"), None)) == ["a.jpg", "b.jpg", "a.jpg"]


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
@pytest.mark.parametrize("name", [None, "", 5, ["a.jpg"]])
def test_rows_without_a_name(suffix: str, name: Any, tmp_path: Path) -> None:
    path = write(tmp_path / f"list{suffix}", "path", [name] if suffix == ".parquet" else ["a.jpg", name])
    with pytest.raises(InputError, match=r"no name in row \d, but .*; leave such rows out"):
        list(entries(path, None))


def test_a_short_row(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("id,path\n1,a.jpg\n2\n")
    with pytest.raises(InputError, match="no name in row 2, but None"):
        list(entries(str(tmp_path / "list.csv"), None))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no.parquet", b"no Parquet at all"),
        ("empty.parquet", b""),
        ("no.json", b"{"),
        ("deep.json", b"[" * 200_000),
        ("object.json", b'{"a": 1}'),
        ("no.jsonl", b'"a.jpg"\n}'),
        ("utf16.txt", "a.jpg".encode("utf-16")),
        ("empty.csv", b""),
        ("long.csv", b'path\n"' + b"x" * 200_000 + b'"'),
    ],
)
def test_what_is_no_list(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        list(entries(str(tmp_path / name), None))


def test_a_list_on_the_web(tmp_path: Path) -> None:
    content = Path(write(tmp_path / "list.csv")).read_bytes()
    with Host(files={"/list.csv": content, "/list.csv?key=1": content}).running() as host:
        assert list(entries(f"{host.address}/list.csv", None)) == NAMES
        assert list(entries(f"{host.address}/list.csv?key=1", None)) == NAMES
        with pytest.raises(InputError, match="cannot be read as a list"):
            list(entries(f"{host.address}/other.csv", None))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".txt"])
def test_memory_does_not_grow_with_a_list(suffix: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / f"list{suffix}", "path" if suffix != ".txt" else None, [f"{i:0100d}" for i in range(50_000)]
    )
    found = entries(path, None)
    next(found)
    tracemalloc.start()
    assert sum(1 for _ in found) == 49_999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # the names alone are 7.5 MB
