"""Make a small set to learn on: rendered photographs of scissors, annotated as a tool exports them in YOLO's pose form.

    python make_scissors.py scissors            # 60 images, and one that is not annotated, scissors/new.jpg
    python make_scissors.py scissors --count 8 --seed 1

Each image shows one pair of scissors on a table among other things, some of which hide parts of it. Its five keypoints
are the two tips, the pivot and the middles of the two rings; left is what lies left when the tips point up. Writes
scissors/data.yaml, scissors/images/train/*.jpg and scissors/labels/train/*.txt. Needs NumPy and OpenCV.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 640, 480
FINE = 2  # everything is drawn this many times as large, and then shrunk
KEYPOINTS = ("left_tip", "right_tip", "pivot", "left_handle", "right_handle")
YAML = """path: .
train: images/train
kpt_shape: [5, 3]
flip_idx: [1, 0, 2, 4, 3]
names: {0: scissors}
kpt_names:
  0: [left_tip, right_tip, pivot, left_handle, right_handle]
"""
PHOTO = Path(__file__).parent.parent / "assets" / "astronaut.png"  # NASA, public domain: a magazine on the table

# One half of a pair, closed: x to the right, y from the pivot to the tip, which is at (0, 1). The other is its mirror.
BLADE = np.array([
    (0.005, 1.0), (0.045, 0.5), (0.06, 0.1), (0.075, -0.08), (0.02, -0.16), (-0.07, -0.1), (-0.1, 0.1), (-0.085, 0.5),
    (-0.05, 0.8), (-0.012, 0.98),
])  # fmt: skip
EDGE = np.array([(0.005, 1.0), (0.045, 0.5), (0.06, 0.1), (0.03, 0.1), (0.018, 0.5)])  # ground, so it shines
SHANK = np.array([(-0.05, -0.07), (0.065, -0.05), (0.16, -0.38), (0.3, -0.55), (0.14, -0.68), (0.03, -0.35)])
RING_CENTER, RING_RADII, RING_WIDTH = np.array([0.235, -0.74]), np.array([0.155, 0.235]), 0.062


@dataclass
class View:
    """Where the table is seen from, and its light.

    Attributes:
        matrix: (3, 3) homography from table to drawn pixels.
        scale: drawn pixels of a unit of the table, about.
        light: (3,) unit vector to the lamp, in the image: right, down, to us.
    """

    matrix: np.ndarray
    scale: float
    light: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return (N, 2) drawn pixels of points (N, 2) of the table."""
        return cv2.perspectiveTransform(points[None].astype(np.float64), self.matrix)[0]

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """Return (H, W) float32 0..1 of polygons of the table; where two overlap is outside, as in a ring."""
        mask = np.zeros((FINE * HEIGHT, FINE * WIDTH), np.uint8)
        outlines = [np.rint(16 * self.project(polygon)).astype(np.int32) for polygon in polygons]
        cv2.fillPoly(mask, outlines, 255, cv2.LINE_AA, 4)
        return mask.astype(np.float32) / 255


def smooth(polygon: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Round the corners of a closed polygon (Chaikin's corner cutting)."""
    for _ in range(rounds):
        following = np.roll(polygon, -1, axis=0)
        polygon = np.stack([0.75 * polygon + 0.25 * following, 0.25 * polygon + 0.75 * following], 1).reshape(-1, 2)
    return polygon


def ellipse(center: np.ndarray, radii: np.ndarray, angle: float = 0.0, points: int = 60) -> np.ndarray:
    turns = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return center + (radii * np.column_stack([np.cos(turns), np.sin(turns)])) @ rotation(angle).T


def rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def paint(
    canvas: np.ndarray, mask: np.ndarray, colour: np.ndarray, view: View, bevel: float, gloss: float = 0.25
) -> None:
    """Lay a solid thing on the canvas (H, W, 3) 0..1: lit, with rounded edges, above a soft shadow.

    Args:
        mask: (H, W) 0..1, where it is.
        colour: (3,) or (H, W, 3) 0..1.
        bevel: width of the rounded edge, in units of the table.
        gloss: strength of the highlights.
    """
    part = around(mask, round(0.2 * view.scale))  # with its shadow
    canvas, mask = canvas[part], mask[part]
    for distance, blur, darkness in ((0.05, 0.035, 0.45), (0.008, 0.01, 0.35)):
        moved = np.array([[1, 0, 0], [0, 1, 0]]) + np.outer(-view.light[:2], [0, 0, distance * view.scale])
        shadow = cv2.warpAffine(mask, moved, mask.shape[::-1])
        canvas *= 1 - darkness * cv2.GaussianBlur(shadow, (0, 0), blur * view.scale)[..., None]
    edge = bevel * view.scale
    inside = np.minimum(cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / edge, 1)
    height = cv2.GaussianBlur((edge * np.sqrt(1 - (1 - inside) ** 2)).astype(np.float32), (0, 0), 1.2)
    slope_x, slope_y = (cv2.Sobel(height, cv2.CV_32F, *axis, ksize=3) / 8 for axis in ((1, 0), (0, 1)))
    normals = np.dstack([-slope_x, -slope_y, np.ones_like(height)])
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    half = view.light + np.array([0, 0, 1])
    shine = np.clip(normals @ (half / np.linalg.norm(half)), 0, 1) ** 64
    brightness = 0.45 + 0.65 * np.clip(normals @ view.light, 0, 1)
    lit = (colour if colour.ndim == 1 else colour[part]) * brightness[..., None] + gloss * shine[..., None]
    canvas += mask[..., None] * (np.clip(lit, 0, 1) - canvas)


def around(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Return the rows and columns where a mask (H, W) is above 0, and some more on each side."""
    left, top, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    return slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)


def noise(random: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Return smooth noise 0..1 of a size (height, width) with so many hills down and across."""
    return cv2.resize(random.uniform(0, 1, cells).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)


def table(random: np.random.Generator, side: int = 1000) -> np.ndarray:
    """Return the surface of a table, (side, side, 3) BGR 0..1."""
    size = (side, side)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    kind = random.integers(5)
    tint = random.uniform(0.25, 0.8) + random.uniform(-0.2, 0.2, 3)
    if kind == 0:  # wood
        rings = np.sin(60 * y + 14 * noise(random, size, (7, 3))) * 0.5 + 0.5
        fibre = noise(random, size, (500, 12))
        brown = np.array([0.28, 0.45, 0.65]) * random.uniform(0.5, 1.35)
        return np.clip(brown * (0.75 + 0.25 * rings + 0.2 * fibre)[..., None], 0, 1)
    if kind == 1:  # cutting mat
        lines = ((x * 28 % 1 < 0.035) | (y * 28 % 1 < 0.035)) * 0.25 + ((x * 7 % 1 < 0.014) | (y * 7 % 1 < 0.014)) * 0.3
        return np.clip(0.6 * tint + lines[..., None] + 0.05 * noise(random, size, (300, 300))[..., None], 0, 1)
    if kind == 2:  # cloth
        weave = np.sin(500 * x) * np.sin(500 * y + 40 * noise(random, size, (9, 9)))
        stripes = (np.sin(2 * np.pi * random.integers(4, 14) * x) > 0.3)[..., None] * random.uniform(-0.3, 0.3, 3)
        return np.clip(tint + stripes + 0.08 * weave[..., None], 0, 1)
    if kind == 3:  # stone
        stone = 0.35 * noise(random, size, (8, 8)) + 0.35 * noise(random, size, (90, 90))
        return np.clip(0.3 + 0.5 * tint * 0.6 + stone[..., None] * random.uniform(0.6, 1), 0, 1)
    photo = cv2.imread(str(PHOTO))
    if photo is None:
        return np.clip(tint + 0.2 * noise(random, size, (20, 20))[..., None], 0, 1)
    tiles = np.tile(cv2.resize(photo, (side // 2, side // 2), interpolation=cv2.INTER_CUBIC), (2, 2, 1))
    return tiles.astype(np.float32) / 255 * random.uniform(0.5, 1, 3)


def seen(random: np.random.Generator) -> View:
    """Return a camera above the table, tilted by up to 40 degrees, and a lamp."""
    scale, focal = FINE * random.uniform(115, 190), FINE * 900.0
    turn, towards, tilt = random.uniform(-1, 1), random.uniform(0, 2 * np.pi), random.uniform(0, np.radians(40))
    axis = np.array([np.cos(towards), np.sin(towards), 0]) * tilt
    pose = cv2.Rodrigues(axis)[0] @ cv2.Rodrigues(np.array([0, 0, turn]))[0]
    place = np.array([random.uniform(-0.35, 0.35), random.uniform(-0.25, 0.25), focal / scale])
    center = np.array([FINE * WIDTH / 2, FINE * HEIGHT / 2])
    lens = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    matrix = lens @ np.column_stack([pose[:, 0], -pose[:, 1], place])  # y of the table points up
    towards = random.uniform(0, 2 * np.pi)
    light = np.array([np.cos(towards), np.sin(towards), random.uniform(0.9, 1.8)])
    return View(matrix, scale, light / np.linalg.norm(light))


def things(random: np.random.Generator, view: View, canvas: np.ndarray, count: int, near: float) -> np.ndarray:
    """Lay pencils, coins and paper onto the table, so near to the pivot; return where they are: (H, W) 0..1."""
    covered = np.zeros(canvas.shape[:2], np.float32)
    for _ in range(count):
        turn, center = random.uniform(0, 2 * np.pi), random.uniform(-near, near, 2)
        length, width, bevel, gloss = random.choice(
            [(0.75, 0.035, 0.03, 0.35), (0.13, 0.13, 0.02, 0.3), (0.4, 0.3, 0.004, 0)]
        )
        corners = np.array([(-length, -width), (length, -width), (length, width), (-length, width)])
        outline = ellipse(center, np.array([length, width])) if length == width else corners @ rotation(turn).T + center
        mask = view.mask(outline)
        colour = random.uniform(0.1, 0.95, 3) if gloss else random.uniform(0.75, 1, 3)
        paint(canvas, mask, colour, view, bevel, gloss)
        covered = np.maximum(covered, mask)
    return covered


def scissors(random: np.random.Generator, view: View, canvas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a pair of scissors; return its keypoints on the table, (5, 2), and where it is, (H, W) 0..1."""
    opening, slim, rings = random.uniform(0.2, 1.35), random.uniform(0.8, 1.25), random.uniform(0.85, 1.2)
    plastic, grey = random.uniform(0.05, 0.9, 3), random.uniform(0.55, 0.85) * random.uniform(0.95, 1.05, 3)
    steel = (0.8 + 0.25 * noise(random, canvas.shape[:2], (400, 6))[..., None]) * grey.astype(np.float32)  # brushed
    covered = np.zeros(canvas.shape[:2], np.float32)
    halves = []
    for side in (1, -1):  # the half whose tip is on the left lies below
        place = (rotation(side * opening / 2) * [side, 1]).T

        def laid(points: np.ndarray, place: np.ndarray = place) -> np.ndarray:
            return points @ place

        ring = [ellipse(RING_CENTER, RING_RADII * rings + wider, -0.25) for wider in (RING_WIDTH / 2, -RING_WIDTH / 2)]
        blade, ground = (view.mask(smooth(laid(part * [slim, 1]), 2)) for part in (BLADE, EDGE))
        paint(canvas, blade, steel, view, 0.03, 0.5)
        part = around(ground)
        canvas[part] += (0.5 * ground[part])[..., None] * (np.minimum(1.35 * grey, 1) - canvas[part])
        handle = np.maximum(
            view.mask(*map(laid, ring)), view.mask(smooth(laid(SHANK))) * (1 - view.mask(laid(ring[1])))
        )
        paint(canvas, handle, plastic, view, 0.045, 0.35)
        covered = np.maximum.reduce([covered, blade, handle])
        halves.append(laid(np.array([(0.003, 1.0), RING_CENTER])))
    screw = view.mask(ellipse(np.zeros(2), np.array([0.05, 0.05])))
    paint(canvas, screw, 0.8 * grey, view, 0.02, 0.6)
    slot = np.array([(-0.035, -0.008), (0.035, -0.008), (0.035, 0.008), (-0.035, 0.008)])
    slit = view.mask(slot @ rotation(random.uniform(0, 3)).T)
    canvas[around(slit)] *= 1 - 0.6 * slit[around(slit)][..., None]
    (left_tip, right_handle), (right_tip, left_handle) = halves
    return np.array([left_tip, right_tip, (0, 0), left_handle, right_handle]), covered


def photograph(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image (480, 640, 3) uint8 BGR, keypoints (5, 3) x, y, visibility, and the box (4,) xyxy, in pixels."""
    view = seen(random)
    surface = table(random)
    side = len(surface)
    onto = view.matrix @ np.array([[8 / side, 0, -4], [0, 8 / side, -4], [0, 0, 1]])  # 8 units of the table
    size = (FINE * WIDTH, FINE * HEIGHT)
    canvas = cv2.warpPerspective(
        surface.astype(np.float32), onto, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_WRAP
    )
    things(random, view, canvas, random.integers(0, 6), 1.8)
    points, where = scissors(random, view, canvas)
    hidden = things(random, view, canvas, random.choice([0, 0, 1, 2]), 0.9)
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    lamp = 1 + 0.25 * ((x / size[0] - 0.5) * view.light[0] + (y / size[1] - 0.5) * view.light[1])
    canvas *= (lamp * random.uniform(0.75, 1.15))[..., None] * random.uniform(0.93, 1.07, 3)
    small = cv2.resize(np.clip(canvas, 0, 1), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), random.uniform(0.3, 0.9)) + random.normal(
        0, random.uniform(0.004, 0.02), small.shape
    )
    places = view.project(points)
    triples = np.column_stack([places / FINE, np.full(len(points), 2)])
    for i, (column, row) in enumerate(np.rint(places).astype(int)):
        if not (0 <= column < size[0] and 0 <= row < size[1]):
            triples[i] = 0
        elif hidden[row, column] > 0.5:
            triples[i, 2] = 1
    rows, columns = around(where)
    box = np.array([columns.start, rows.start, columns.stop, rows.stop]) / FINE
    return np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8), triples, box


def label(triples: np.ndarray, box: np.ndarray) -> str:
    """Return a line of YOLO's pose form: class, box (center, size), then x, y, visibility; 1 is the image's side."""
    size = np.array([WIDTH, HEIGHT])
    center, extent = (box[:2] + box[2:]) / 2 / size, (box[2:] - box[:2]) / size
    points = [f"{x / WIDTH:.6f} {y / HEIGHT:.6f} {v:.0f}" for x, y, v in triples]
    return " ".join(["0", *(f"{value:.6f}" for value in (*center, *extent)), *points])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for kind in ("images", "labels"):
        (options.out / kind / "train").mkdir(parents=True, exist_ok=True)
    (options.out / "data.yaml").write_text(YAML, encoding="utf-8")
    for number in range(options.count + 1):
        image, triples, box = photograph(np.random.default_rng([options.seed, number]))
        new = number == options.count
        file = options.out / ("new.jpg" if new else f"images/train/{number:03d}.jpg")
        cv2.imwrite(str(file), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        if not new:
            (options.out / "labels" / "train" / f"{number:03d}.txt").write_text(label(triples, box) + "\n")
    print(f"{options.count} images of scissors are in {options.out}.")


if __name__ == "__main__":
    main()
