"""Cut the small goldens of this folder out of the large ones, which the repository does not have.

    python tests/goldens/make.py ../shared

What they hold are numbers that published code gave for drawn inputs (see `metadata`): github.com/zhang943/lpn-pytorch
for lpn_decode, github.com/mit-han-lab/litepose for the others. Kept are the arrays that tests read, and of maps the
first image and, of some, its first keypoints. First the tests must pass with the large ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

Arrays = dict[str, np.ndarray]

TESTS = Path(__file__).parents[1]
PARITY = ["codecs/test_lpn_decode_golden.py", "codecs/test_associative_embedding_golden.py"]
PARITY += ["codecs/test_litepose_loss_golden.py", "models/test_lpn_parity.py", "models/test_litepose_parity.py"]
KEYPOINTS = 3  # nose and eyes: closed under mirroring
NUM_KEYPOINTS, PEOPLE = 14, 5  # of the losses


def lpn_decode(large: Arrays) -> Arrays:
    kept = dict(large)
    for key in ("heatmaps", "flip.raw_output_of_flipped_image", "flip.fused_noshift", "flip.fused_shift"):
        kept[key] = large[key][:1, :KEYPOINTS]
    kept["target.heatmap"] = large["target.heatmap"][:KEYPOINTS]
    return kept


def litepose_group(large: Arrays) -> Arrays:
    drawn = ("A.det", "A.tag", "C.det", "C.tag", "F.tag")  # the test draws these maps itself
    unread = ("A.nms_index", "A.nms_value", *(f"{case}.gt" for case in "ABCGH"))
    kept = {key: array for key, array in large.items() if key not in (*drawn, *unread)}
    return {key: array.astype(np.int32) if array.dtype == np.int64 else array for key, array in kept.items()}


def litepose_loss(large: Arrays) -> Arrays:
    kept = {key: array for key, array in large.items() if key.startswith(("ae.", "heatmap_loss.", "target.joints"))}
    for key in ("target.joints.0", "target.joints.1", "ae.exp.grad_push", "ae.max.grad_push", "ae.grad_pull"):
        assert not large[key][:, PEOPLE:].any()
        kept[key] = large[key][:, :PEOPLE]
    kept["pred.0"] = large["pred.0"][:1, :NUM_KEYPOINTS]
    kept["mask.0"] = large["mask.0"][:1]
    for scale in (0, 1):
        kept[f"target.heatmaps.{scale}"] = large[f"target.heatmaps.{scale}"][:1, :1]
    flat, valid = np.moveaxis(kept["target.joints.0"], 3, 0)  # (3, PEOPLE, K) each
    tags = large["pred.0"][:, NUM_KEYPOINTS:].reshape(3, -1)
    kept["tags"] = tags[np.arange(3)[:, None, None], flat] * valid.astype(np.float32)
    return kept


def main(shared: Path) -> None:
    if shared.resolve() != (TESTS.parents[1] / "shared").resolve():
        sys.exit(f"Let the folder {shared} lie beside the repository, where the tests look for it.")
    if pytest.main(["-q", *(str(TESTS / file) for file in PARITY)]):
        sys.exit("The tests must pass with the large goldens first.")
    for cut in (lpn_decode, litepose_group, litepose_loss):
        large = shared / "goldens" / f"{cut.__name__}.safetensors"
        with safe_open(large, "np") as file:
            metadata = file.metadata()
        arrays = {key: np.ascontiguousarray(array) for key, array in cut(load_file(large)).items()}
        save_file(arrays, Path(__file__).parent / large.name, metadata)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
