"""Draw poses into an image: left limbs blue, right limbs orange, the middle of the body white.

Everything is one shape, a capsule (a thick line with round ends) at sub-pixel positions; a disc is a capsule
of no length. Limbs wear a thin dark casing and keypoints a light rim, so that both show on bright and dark
backgrounds; blue and orange stay apart for colour-blind eyes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.images import Source, read_image
from leanpose.keypoint_sets import KeypointSet, side_and_part
from leanpose.structures import Poses

Colour = tuple[int, int, int]  # RGB, 0 to 255

# (side, is a leg) -> colour: arms and trunk sides lighter than legs.
PALETTE: dict[tuple[str, bool], Colour] = {
    ("left", False): (64, 190, 255),
    ("left", True): (36, 112, 255),
    ("right", False): (255, 184, 28),
    ("right", True): (255, 100, 16),
    ("", False): (240, 240, 236),
    ("", True): (240, 240, 236),
}
CASING: Colour = (16, 20, 32)
RIM: Colour = (255, 255, 255)

FACE = frozenset(("nose", "eye", "ear", "mouth", "chin", "forehead"))
LEG = frozenset(("pelvis", "mid_hip", "hip", "knee", "ankle", "foot", "heel", "toe", "big_toe", "small_toe"))
# Parts that come in numbers, such as "jaw_3", and crowd one another: outlines of the face, and hands.
FINE = frozenset((
    "jaw", "brow", "eye", "nose_bridge", "nostril", "lip", "inner_lip",
    "thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger",
))  # fmt: skip
FINE_ALONE = frozenset(("nose_base", "upper_lip", "lower_lip", "upper_inner_lip", "lower_inner_lip", "hand_root"))
FACE_WIDTH = 0.55  # of a limb's width
FINE_WIDTH = 0.25
LIMB_WIDTH = 0.018  # of the person's size
THINNEST, THICKEST = 1 / 800, 1 / 75  # limb width as a part of the image's longer side
THINNEST_PIXELS = 2.0

CONFIDENT_SCORE = 0.6  # from here on a keypoint is opaque
FAINTEST = 0.3  # opacity at min_score

_SHIFT = 4  # OpenCV takes coordinates as integers of 1/16 pixel
_BLEED = 0.6  # pixels by which an anti-aliased shape of OpenCV is too large on each side
_FAR = 2.0**20  # pixels; keeps those integers small
_HALF_TURN = np.linspace(-np.pi / 2, np.pi / 2, 12)
_ARC = np.stack([np.cos(_HALF_TURN), np.sin(_HALF_TURN)], axis=1)  # (12, 2) right end of a level capsule


def draw_poses(
    image: Source,
    poses: Poses,
    min_score: float | None = None,
    boxes: bool = False,
    thickness: float = 1.0,
    colour: Literal["side", "person"] = "side",
    labels: Sequence[str] | None = None,
) -> np.ndarray:
    """Return a copy of the image with the poses drawn on it; persons with ids carry a label.

    Large persons lie on top of small ones. A limb is as opaque as its less certain end: faint at `min_score`,
    full from 0.6 on. Its width follows the person's size.

    Args:
        image: (H, W, 3) uint8 RGB, or a path, URL or PIL image; it is left as it is. An array of OpenCV's, which is
            BGR, goes as `array[..., ::-1]`.
        poses: N persons in pixels of this image. NaN keypoints are skipped; those outside the image too where scores
            are calibrated, else they are cut off.
        min_score: keypoints of lower score are absent, with their limbs; about 0 to 1. None: 0.4 where scores are
            calibrated, 0.2 where they are raw.
        boxes: also draw the person boxes.
        thickness: factor on all line widths, above 0.
        colour: "side": left limbs blue, right limbs orange; "person": each person in one colour, by its id if there are
            ids, else by its place in `poses`.
        labels: N texts, one on each person, such as `[f"{score:.2f}" for score in poses.person_scores]`; letters beyond
            ASCII are drawn as question marks. None: the ids, if there are any.

    Returns:
        (H, W, 3) uint8 RGB: save it with `leanpose.write_image`, or give OpenCV `drawn[..., ::-1]`.

    Raises:
        InputError: the image cannot be read, `thickness` is not above 0, there is no such colour, or there are not as
            many labels as persons.
    """
    if colour not in ("side", "person"):
        raise InputError(f"colour must be 'side' or 'person', not '{colour}'.")
    if labels is not None and len(labels) != len(poses):
        raise InputError(f"labels must hold one text per person, {len(poses)}, not {len(labels)}.")
    if not thickness > 0:
        raise InputError(f"thickness must be above 0, not {thickness}; 1 is the usual width.")
    canvas = read_image(image).copy()
    opacities = _opacities(poses, (canvas.shape[0], canvas.shape[1]), min_score)
    sizes = _person_sizes(poses, opacities)
    widths = thickness * _limb_widths(sizes, max(canvas.shape[:2]))
    look = _look(poses.keypoint_set)
    order = np.argsort(sizes, kind="stable")
    by_person = colour == "person"
    own_colours = [_id_colour(i) for i in (range(len(poses)) if poses.ids is None else poses.ids.tolist())]
    for i in order:
        if boxes:
            of_box = own_colours[i] if by_person or poses.ids is not None else RIM
            _draw_box(canvas, poses.boxes_xyxy[i], max(widths[i] / 3, thickness), of_box)
        its_look = look.in_colour(own_colours[i]) if by_person else look
        _draw_person(canvas, poses.keypoints[i], opacities[i], its_look, widths[i])
    if labels is None and poses.ids is not None:
        labels = [str(identity) for identity in poses.ids]
    if labels is not None:
        for i in order[boxes | opacities[order].any(axis=1)]:
            _draw_label(canvas, poses.boxes_xyxy[i], labels[i], own_colours[i], widths[i])
    return canvas


def _opacities(poses: Poses, image_size: Size, min_score: float | None) -> np.ndarray:
    """Return (N, K) opacity of each keypoint, 0 where it is not drawn, otherwise FAINTEST to 1."""
    least = poses.least_score(min_score)
    shown = np.interp(poses.scores, [least, max(least, CONFIDENT_SCORE)], [FAINTEST, 1])
    return np.where(poses.present(image_size, min_score), shown, 0)


def _person_sizes(poses: Poses, opacities: np.ndarray) -> np.ndarray:
    """Return (N,) sizes in pixels: the box's longer side, but at most 1.5 times the keypoints' extent."""
    sizes = np.zeros(len(poses))
    for i, (keypoints, box) in enumerate(zip(poses.keypoints, poses.boxes_xyxy, strict=True)):
        drawn = keypoints[opacities[i] > 0]
        if len(drawn):
            sizes[i] = np.fmin((box[2:] - box[:2]).max(), 1.5 * np.ptp(drawn, axis=0).max())
    return sizes


def _limb_widths(sizes: np.ndarray, longer_side: int) -> np.ndarray:
    """Return (N,) widths in pixels for persons of these sizes in an image of this longer side."""
    thinnest = max(longer_side * THINNEST, THINNEST_PIXELS)
    return np.maximum(np.minimum(sizes * LIMB_WIDTH, longer_side * THICKEST), thinnest)


@dataclass(frozen=True)
class _Look:
    """How the keypoints and edges of one set look.

    Attributes:
        colours: K colours of keypoints.
        widths: (K,) relative width.
        edges: two keypoint positions, colour and relative width; the set's first edges are last, thus on top.
    """

    colours: list[Colour]
    widths: np.ndarray
    edges: list[tuple[int, int, Colour, float]]

    def in_colour(self, colour: Colour) -> _Look:
        """Return the same with one colour for all."""
        return _Look(
            [colour] * len(self.colours), self.widths, [(a, b, colour, width) for a, b, _, width in self.edges]
        )


def _look(keypoint_set: KeypointSet) -> _Look:
    sides, parts = zip(*map(side_and_part, keypoint_set.keypoints), strict=True)
    widths = np.array([_relative_width(part) for part in parts])
    edges = []
    for a, b in keypoint_set.edge_indices[::-1].tolist():
        sided = {sides[a], sides[b]} - {""}
        side = sided.pop() if len(sided) == 1 else ""
        edges.append((a, b, PALETTE[side, parts[a] in LEG and parts[b] in LEG], min(widths[a], widths[b])))
    return _Look([PALETTE[side, part in LEG] for side, part in zip(sides, parts, strict=True)], widths, edges)


def _relative_width(part: str) -> float:
    name, _, number = part.rpartition("_")
    if part in FINE_ALONE or (name in FINE and number.isdigit()):
        return FINE_WIDTH
    return FACE_WIDTH if part in FACE else 1.0


def _draw_person(canvas: np.ndarray, keypoints: np.ndarray, opacities: np.ndarray, look: _Look, width: float) -> None:
    """Draw limbs, then keypoints (K, 2) into the canvas; the faint ones first, so that they hide nothing."""
    drawn = opacities > 0
    if not drawn.any():
        return
    margin = 2 * width + 3
    layer = _Layer(canvas, keypoints[drawn].min(axis=0) - margin, keypoints[drawn].max(axis=0) + margin)
    casing = max(0.9, 0.17 * width)
    opacity_of_edge = [min(opacities[a], opacities[b]) for a, b, _, _ in look.edges]
    for e in np.argsort(opacity_of_edge, kind="stable"):
        a, b, colour, relative = look.edges[e]
        if opacity_of_edge[e] > 0:
            radius = relative * width / 2
            coats = [(radius + casing, CASING), (radius, colour)]
            layer.stroke(keypoints[a], keypoints[b], coats, opacity_of_edge[e])
    for k in np.argsort(opacities, kind="stable"):
        if drawn[k]:
            radius = look.widths[k] * width * 0.85
            coats = [(radius + casing, CASING), (radius, RIM), (0.62 * radius, look.colours[k])]
            layer.stroke(keypoints[k], keypoints[k], coats, opacities[k])
    layer.merge()


class _Layer:
    """Opaque ink on a copy of one region of the canvas, and the opacity with which that copy comes back."""

    def __init__(self, canvas: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Open the region between two corners x, y in pixels, cut at the canvas."""
        limit = canvas.shape[1::-1]
        (left, top), (right, bottom) = (np.clip(corner, 0, limit).astype(int) for corner in (low, high + 1))
        self._origin = np.array([left, top])
        self._region = canvas[top:bottom, left:right]
        self._ink = self._region.copy()
        self._opacity = np.zeros(self._ink.shape[:2], np.uint8)

    def stroke(self, a: np.ndarray, b: np.ndarray, coats: list[tuple[float, Colour]], opacity: float) -> None:
        """Paint a line between two points x, y, one coat (radius, colour) over another, the widest first."""
        a, b = a - self._origin, b - self._origin
        if self._ink.size:
            for radius, colour in coats:
                _fill_capsule(self._ink, a, b, radius, colour)
            # The soft edge is in the ink already, so the opacity is hard-edged and one pixel wider.
            _fill_capsule(self._opacity, a, b, coats[0][0] + 1, (round(255 * opacity),), soft=False)

    def merge(self) -> None:
        """Blend the ink into the canvas, where there is any."""
        inked = self._opacity > 0
        weight = self._opacity[inked].astype(np.float32)[:, None] / 255  # (pixels, 1)
        below = self._region[inked].astype(np.float32)  # (pixels, 3)
        self._region[inked] = np.rint(below + weight * (self._ink[inked] - below))


def _fill_capsule(
    image: np.ndarray, a: np.ndarray, b: np.ndarray, radius: float, colour: tuple[int, ...], soft: bool = True
) -> None:
    """Fill all pixels within `radius` of the line from a to b, with a soft or a hard edge."""
    length = np.hypot(*(b - a))
    x, y = (b - a) / length if length > 0 else (1.0, 0.0)
    inner = max(radius - _BLEED, 0) if soft else radius
    arc = inner * _ARC @ np.array([[x, y], [-y, x]])  # (12, 2) around b; turned by 180 degrees around a
    outline = np.clip(np.concatenate([b + arc, a - arc]), -_FAR, _FAR)
    points = np.rint(outline * 2**_SHIFT).astype(np.int32)
    cv2.fillConvexPoly(image, points, colour, cv2.LINE_AA if soft else cv2.LINE_8, _SHIFT)


def _draw_box(canvas: np.ndarray, box_xyxy: np.ndarray, width: float, colour: Colour) -> None:
    if not np.isfinite(box_xyxy).all():
        return
    left, top, right, bottom = box_xyxy
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    for radius, coat in ((width / 2 + 0.9, CASING), (width / 2, colour)):
        for i in range(4):
            _fill_capsule(canvas, corners[i - 1], corners[i], radius, coat)


def _draw_label(canvas: np.ndarray, box_xyxy: np.ndarray, text: str, colour: Colour, width: float) -> None:
    """Draw a text in a pill on the box's top edge, moved into the image where it would be cut."""
    if not np.isfinite(box_xyxy).all():
        return
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(0.34, width / 16)
    stroke = max(1, round(1.8 * scale))
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, stroke)
    radius, along = 0.85 * text_height, np.array([text_width, 0])
    low = np.array([radius, radius + 1])
    high = np.array(canvas.shape[1::-1]) - 1 - low - along
    start = np.clip(box_xyxy[:2] + radius * np.array([1, -1]), low, np.maximum(low, high))
    for r, coat in ((radius + 1, CASING), (radius, colour)):
        _fill_capsule(canvas, start, start + along, r, coat)
    x, y = round(start[0]), round(start[1] + text_height / 2)
    cv2.putText(canvas, text, (x, y), font, scale, CASING, stroke, cv2.LINE_AA)


def _id_colour(identity: int) -> Colour:
    """Return a light colour; consecutive ids are far apart on the colour circle (golden ratio)."""
    red, green, blue = colorsys.hsv_to_rgb((0.3 + 0.618034 * identity) % 1, 0.5, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
