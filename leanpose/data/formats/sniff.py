"""Tell the form of a file or folder by its content, and read it once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from leanpose.errors import InputError, require
from leanpose.io.values import read_json

MPII = "mpii"
HDF5 = (".h5", ".hdf5")
YAML = (".yaml", ".yml")
LEVELS = 3  # between a folder of labels and that of its YAML, at most
REFUSED = {
    ".zip": "is an archive; unpack it, and give the file or folder in it",
    ".xml": "is XML, which is not read; export as COCO JSON ('COCO Keypoints 1.0' in CVAT)",
}

Rows = list[list[str]]  # of a table, line by line


def opened(path: str | Path) -> tuple[str, Any]:
    """Return the form of a file or folder, and its content as the reader of the form takes it.

    Raises:
        InputError: it is missing, cannot be read, or is of no known form.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in HDF5:
        return MPII, None
    if path.is_dir():
        return _opened_folder(path)
    if suffix in REFUSED:
        raise InputError(f"{path} {REFUSED[suffix]}.")
    if suffix in YAML:
        return "yolo", (path, _read_yolo_yaml(path), None)
    if suffix == ".csv":
        return _form_of_table(path)
    return form_of_json(read_json(path), path)


def form_of_json(content: Any, path: str | Path) -> tuple[str, Any]:
    """Return the form of a JSON file that has been read, and its content as the reader of the form takes it."""
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if "annotation_id" in first and "data" not in first:
            raise InputError(f"{path} is Label Studio's JSON-MIN, which lacks the sizes of images; export as JSON.")
        return ("label_studio", content) if "data" in first else (MPII, content)
    if isinstance(content, dict) and "shapes" in content:
        return "labelme", [(Path(path), content)]
    return "coco", content


def _opened_folder(folder: Path) -> tuple[str, Any]:
    if yaml := _yolo_yaml(folder):
        return "yolo", (*yaml, None)
    jsons = [(file, read_json(file)) for file in _files(folder, ".json")]
    shapes = [(file, content) for file, content in jsons if isinstance(content, dict) and "shapes" in content]
    if shapes:
        return "labelme", shapes
    if _files(folder, ".txt"):
        above = [folder, *folder.absolute().parents][: LEVELS + 1]
        if yaml := next(filter(None, map(_yolo_yaml, above)), None):
            return "yolo", (*yaml, folder)
    tables = [_form_of_table(file) for file in _files(folder, ".csv", deep=False)]
    if tables and {form for form, _ in tables} == {"makesense"}:
        return "makesense", [table for _, raw in tables for table in raw]
    if len(tables) == 1:
        return tables[0]
    raise InputError(
        f"{folder} cannot be read as annotations: it holds neither labelme's JSON files, nor YOLO's labels below a "
        "data YAML with kpt_shape, nor makesense's CSV files; give the file."
    )


def _files(folder: Path, suffix: str, deep: bool = True) -> list[Path]:
    """Return the files of a folder that have a suffix, with its sub-folders or without; hidden ones are none."""
    try:
        found = [*(folder.rglob("*") if deep else folder.iterdir())]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    return sorted(file for file in found if file.suffix.lower() == suffix and not file.name.startswith("."))


def _yolo_yaml(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the first data YAML of YOLO-pose in a folder, and its content; other YAML files do not matter."""
    for file in (*_files(folder, ".yaml", deep=False), *_files(folder, ".yml", deep=False)):
        try:
            content = read_yaml(file)
        except InputError:
            continue
        if isinstance(content, dict) and "kpt_shape" in content:
            return file, content
    return None


def read_yaml(path: Path) -> Any:
    """Read a YAML file, which needs the package PyYAML."""
    yaml = require("yaml", "train")
    try:
        return yaml.safe_load(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no YAML file that can be read ({' '.join(str(error).split())}).") from None


def _read_yolo_yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if isinstance(content, dict) and ("bodyparts" in content or "multianimalbodyparts" in content):
        raise InputError(
            f"{path} is the file of a DeepLabCut project; give a CollectedData CSV of its labeled-data instead."
        )
    if not isinstance(content, dict) or "kpt_shape" not in content:
        raise InputError(f"{path} is no data YAML of YOLO-pose, which has the key 'kpt_shape'.")
    return content


def _form_of_table(path: Path) -> tuple[str, Any]:
    rows = _read_table(path)
    first = next((row for row in rows if row), [])
    if first and first[0].strip() == "scorer":
        return "deeplabcut", rows
    if len(first) in (6, 8):
        return "makesense", [(path, rows)]
    raise InputError(
        f"{path} is of no known form: DeepLabCut's CSV begins with 'scorer', makesense's has 6 columns (points) or 8 "
        f"(rectangles), and this has {len(first)}."
    )


def _read_table(path: Path) -> Rows:
    """Return the rows of a CSV file in UTF-8."""
    try:
        return [*csv.reader(path.read_text("utf-8-sig").splitlines())]
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV file in UTF-8 ({error}).") from None
