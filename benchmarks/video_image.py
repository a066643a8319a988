"""The image of docs/video.md: four frames of a made-up video, in which two photographs of a person cross.

    LEANPOSE_WEIGHTS=FOLDER python benchmarks/video_image.py docs/assets/video_strip.jpg

FOLDER holds the public weights rtmpose_s_26 and yolox_tiny (`leanpose download rtmpose_s_26 yolox_tiny`).
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np

from leanpose import Video, draw_poses, read_image, write_image
from leanpose.video.source import Shot, Source

PHOTOGRAPH = Path(__file__).parents[1] / "docs" / "assets" / "astronaut.png"
HEIGHT, WIDTH, COUNT, RATE = 220, 420, 30, 15.0
SCALE = 0.36  # of the photographs
SHOWN = (0, 12, 17, 29)  # frames


def shots() -> Generator[Shot]:
    """Yield the frames: one photograph goes to the right, behind a mirrored one that goes to the left."""
    photograph = read_image(PHOTOGRAPH)
    for index in range(COUNT):
        share = index / (COUNT - 1)
        image = np.full((HEIGHT, WIDTH, 3), 225, np.uint8)
        behind = (photograph, 90 + 240 * share, 6 - 12 * share)
        for laid, x, degrees in (behind, (photograph[:, ::-1], 330 - 240 * share, 0.0)):
            matrix = cv2.getRotationMatrix2D((256, 256), degrees, SCALE)
            matrix[:, 2] += np.array([x - 256, HEIGHT - 256 * SCALE + 8 - 256])  # the image cuts its lower side off
            cover = cv2.warpAffine(np.ones((512, 512), np.uint8), matrix, (WIDTH, HEIGHT)) > 0
            image[cover] = cv2.warpAffine(laid, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)[cover]
        yield Shot(index, index / RATE, image)


def main() -> None:
    video = Video(Source("made up", shots, RATE), "rtmpose_s_26", "yolox_tiny", track=True, smooth="recorded")
    drawn = [draw_poses(frame.image, frame.poses) for frame in video if frame.index in SHOWN]
    gap = np.full((HEIGHT, 6, 3), 255, np.uint8)
    write_image(sys.argv[1], np.hstack([part for image in drawn for part in (image, gap)][:-1]))


if __name__ == "__main__":
    main()
