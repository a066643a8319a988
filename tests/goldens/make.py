"""Cut the small goldens of this folder out of the large ones, which the repository does not have.

    python tests/goldens/make.py ../shared/goldens

What they hold are numbers that published code gave for drawn inputs (see `metadata`): github.com/zhang943/lpn-pytorch
for lpn_decode, github.com/mit-han-lab/litepose for litepose_group. Kept are the arrays that tests read, and of maps
the first image and its first keypoints.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import load_file, save_file

MAPS = {"heatmaps", "flip.raw_output_of_flipped_image", "flip.fused_noshift", "flip.fused_shift"}
KEYPOINTS = 3  # nose and eyes: closed under mirroring
REDRAWN = ("A.det", "A.tag", "C.det", "C.tag")  # the test draws these maps itself
UNREAD = ("A.nms_index", "A.nms_value")


def main(large: Path) -> None:
    for name in ("lpn_decode", "litepose_group"):
        arrays = load_file(large / f"{name}.safetensors")
        with safe_open(large / f"{name}.safetensors", "np") as file:
            metadata = file.metadata()
        for key in (*REDRAWN, *UNREAD):
            arrays.pop(key, None)
        for key in MAPS & arrays.keys():
            arrays[key] = arrays[key][:1, :KEYPOINTS].copy()
        if "target.heatmap" in arrays:
            arrays["target.heatmap"] = arrays["target.heatmap"][:KEYPOINTS].copy()
        save_file(arrays, Path(__file__).parent / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
