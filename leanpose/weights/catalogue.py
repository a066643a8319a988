"""The names of weights: `lpn50` means the first of the bundled weights whose name begins with "lpn50.", else of the
user's own, else of those that lie in the repository and are too many for the package, else public ones, which are
fetched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from leanpose.errors import WeightsError, suggest
from leanpose.geometry import Size
from leanpose.networks import NETWORKS
from leanpose.weights.download import download, local_file, weights_folder
from leanpose.weights.metadata import read_metadata
from leanpose.weights.public import PUBLIC, public_by_sha256
from leanpose.weights.record import METADATA_KEY, Weights
from leanpose.weights.sidecar import read_sidecar

SUFFIXES = (".onnx", ".safetensors")
EXPORTED = (".xml", ".tflite", ".param")  # of OpenVINO, LiteRT and ncnn, with sidecars
END_TO_END_KEY = "leanpose.end_to_end"  # the record's place in ONNX files that are no network alone
INT8 = "_int8"  # end of the names of int8 weights
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
FURTHER_FOLDER = Path(__file__).parents[2] / "weights"  # of the repository; not in the package

# name -> SHA-256 of its files: int8 to predict with, the first of a network is its default; and floats to train on
BUNDLED: dict[str, dict[str, str]] = {
    "sfm.coco_256x192_int8": {
        ".onnx": "b5cab6d206cb58887eb51b9e3bb9fbd8cdebce02b529b950b378039e1702eab1",
    },
    "sfm.coco_256x192": {
        ".safetensors": "9158e7a61478ff57beb334d9e9baf3dbac93e86ddc1d48331f99e916c4492155",
    },
    "sfm.coco_128x96_int8": {
        ".onnx": "20f8d5fde7dd3556b965f05f6c5d8830cb314b078036ea063b65a988d40b3657",
    },
    "lpn50.coco_256x192_int8": {
        ".onnx": "82217b545d98f02af4b06ba71ecb9795f327220a51cc24385ecec2b9e28bdf7a",
    },
    "lpn50.coco_256x192": {
        ".safetensors": "621f94fd636d45b72fb349023fa5514593344138c9d8c06897109c1fca165906",
    },
    "sfm_persons.coco_256x256_int8": {
        ".onnx": "f382eb57ca687965e2ddaeb116c84c63ca0426c42f599a68318c2ef08bb9baa8",
    },
}
# The same of files outside the package: networks to train on, and those that few predict with
FURTHER: dict[str, dict[str, str]] = {
    "lpn50.coco_192x144_int8": {
        ".onnx": "13115f08b52447f844a09c318dc49fb9ba78fa5ba9aef07e4b5a680ae35f1f63",
    },
    "lpn50.coco_128x96_int8": {
        ".onnx": "afa26c06760c3094d7904290ebccdd13ebcc200ea10e44a5112c712d1d468de8",
    },
    "litepose_xs.coco_256x256": {
        ".onnx": "37cff44c66ca88163146b26d603decd6709df8b044ccee52f02292151ccb52a7",
        ".safetensors": "ed8729e5545e56ff4b9fde53a06bfba113405ffa5402496cb5dab3a26b44117d",
    },
    "sfm_persons.coco_256x256": {
        ".safetensors": "3fac36300a37b22c549ad36e8c959fd44d08c2c1829b763f7fb208f139c554e4",
    },
    "sfm.coco_128x96": {
        ".safetensors": "cc17bf9a1c9d438f7f896457e80225e91e1fb057ed5fc7ee08e40fa59312ffdb",
    },
    "hevitpose_t.coco_128x96": {
        ".safetensors": "b2bb1b5c1802aeb0bb2cc9f1e258a2b712c5e20b0b3fe6987f021019fa0d088d",
    },
}


def find_weights(model: str | Path, suffix: str = "", int8: bool = True, input_size: Size | None = None) -> Path:
    """Return the file that a model name or path stands for.

    Args:
        model: a path to a .onnx or .safetensors file or one of EXPORTED, or a name: that of weights
            ("lpn50.coco_128x96") or of a network ("lpn50", for the first of its weights). Names are those of bundled
            files, then those of the files in the folder that the environment variable LEANPOSE_WEIGHTS names,
            `~/.leanpose` without it, then those of the repository's folder weights, then those of public weights, which
            are fetched into the user's folder unless they are there, under any name (`leanpose.weights.download`).
        suffix: the kind of file that a name shall stand for; by default .onnx, else .safetensors. ".safetensors" stands
            for what torch loads, and so for public .onnx files too whose network we have.
        int8: whether the name of a network may stand for int8 weights though there is a float .onnx file.
        input_size: (height, width) in pixels; weights whose name ends with it, as in "lpn50.coco_128x96", come first.

    Raises:
        WeightsError: unknown name (the nearest is suggested), missing file, a kind of file that is not loaded, or
            public weights that cannot be fetched.
    """
    path = Path(model)
    if path.suffix in (".pth", ".pt", ".ckpt", ".pkl", ".bin", ".tar"):
        raise WeightsError(
            f"{path.name} is a pickle, which may hold code: turn it into safetensors with "
            f"`leanpose convert {path.name} --model NAME --out FILE.safetensors`."
        )
    if path.suffix in SUFFIXES + EXPORTED:
        if not os.path.isfile(path):
            raise WeightsError(f"There is no file {path}; check the path.")
        return path
    folder = weights_folder()
    own = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []
    known = [*_files(BUNDLED), *own, *_files(FURTHER)]
    fitting = [file for file in known if file.startswith(f"{model}.") and file.endswith(suffix)]
    if input_size is not None:
        fitting.sort(key=lambda file: not file.rpartition(".")[0].endswith("_{}x{}".format(*input_size)))
    floats = [file for file in fitting if file.endswith(".onnx") and f"{INT8}." not in file]
    for file in fitting if int8 else floats or fitting:
        name, _, kind = file.rpartition(".")
        if f".{kind}" in BUNDLED.get(name, {}):
            return _whole(BUNDLED_FOLDER / file, BUNDLED, "install leanpose again")
        if file in own:
            if model not in PUBLIC or file != f"{model}.onnx" or _has_record(folder / file):
                return folder / file
            break  # the public file, whose hash has to be checked
        return _whole(FURTHER_FOLDER / file, FURTHER, f"copy it from leanpose's repository, weights/, to {folder}")
    row = PUBLIC.get(str(model))
    if row is not None and (suffix in ("", ".onnx") or row.loads_in_torch or not row.urls):
        return download(row.name)
    kind = f" as {suffix}" if suffix else ""
    if model in NETWORKS:
        raise WeightsError(
            f"{model} is a known network, but there are no weights of it{kind}: train it, or give the path of a file, "
            f"or put one into {folder}."
        )
    if row is not None:
        raise WeightsError(f"{model} is a public .onnx file, for prediction; there are no weights of it{kind}.")
    names = {file.rpartition(".")[0] for file in known}
    raise WeightsError(
        f"There are no weights '{model}'{kind}."
        f"{suggest(str(model), names | {name.split('.')[0] for name in names} | PUBLIC.keys())} "
        f"Other files go by their path, or by name if they lie in {folder}."
    )


def read_record(path: str | Path) -> Weights:
    """Read the record of a .onnx or .safetensors file, or of one of EXPORTED, without loading its network; for public
    weights, which carry none, that of the table of public weights.

    Raises:
        WeightsError: there is no such file, or it has no usable record.
    """
    path = Path(path)
    if path.suffix in EXPORTED:
        return read_sidecar(path)
    metadata = read_metadata(path)
    if END_TO_END_KEY in metadata:
        raise WeightsError(f"{path.name} is for apps, with its preprocessing inside: export it without --end-to-end.")
    if METADATA_KEY not in metadata:
        named = PUBLIC.get(path.stem)
        unknown = named if named and not named.sha256 else None
        if public := public_by_sha256(hashlib.sha256(path.read_bytes()).hexdigest()) or unknown:
            return public.record
    return Weights.from_metadata(metadata, path.name)


def on_this_machine(names: Sequence[str]) -> list[str]:
    """Return those of some public weights whose file is on this machine, and the last name, which is bundled."""
    return [*(name for name in names[:-1] if local_file(PUBLIC[name])), names[-1]]


def _files(shipped: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the names of files, those to predict with first."""
    return [f"{name}{kind}" for kind in SUFFIXES for name, kinds in shipped.items() if kind in kinds]


def _has_record(path: Path) -> bool:
    try:
        return METADATA_KEY in read_metadata(path)
    except WeightsError:
        return False


def _whole(path: Path, shipped: Mapping[str, Mapping[str, str]], remedy: str) -> Path:
    """Return the path of a file that is there and as it was made; else raise WeightsError with the remedy."""
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing here: {remedy}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != shipped[path.stem][path.suffix]:
        raise WeightsError(f"{path.name} is damaged: {remedy}.")
    return path
