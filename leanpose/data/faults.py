"""What can be wrong with an annotated set as its numbers say it: boxes, keypoints, visibility, scales, names.

Each check is a function from a `LenientSet` to its findings. What images say is in `image_faults`, and what a network
says in `evaluation.swaps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from leanpose.data.lenient import Case, Finding, LenientSet, Level
from leanpose.geometry import iou, similarities
from leanpose.keypoint_sets import has_sigma, side_and_part

OUTSIDE = 2.0  # pixels beyond an image from which on a box or keypoint counts as outside, since tools round
MOST_SHIFTED = 0.05  # of a box's sides, of one that fits
LEAST_LABELLED = 0.02  # share of persons from which on a keypoint is not called hardly ever labelled
SMALL_SIDE = 32.0  # pixels, of a small person: square root of the box's area, as in COCO
MOST_SMALL = 0.5  # share of small persons
WIDEST_RANGE = 20.0  # between the sides of large and small persons, the 95th and the 5th percentile
ONE_WAY = 0.85  # share of persons whose left lies on the same side of their right, from which on others are told
LEAST_PERSONS = 20  # for statistics of them
SAME_BOX = 0.9  # intersection over union
SAME_PERSON = 0.9  # mean similarity of keypoints, as OKS counts it

Check = Callable[[LenientSet], Iterable[Finding]]


def _finding(kind: str, level: Level, sentence: str, cases: Sequence[Case]) -> list[Finding]:
    return [Finding(kind, level, sentence, tuple(cases))] if cases else []


def _where(annotated: LenientSet, mask: np.ndarray, badness: np.ndarray | None = None) -> list[Case]:
    """Return the cases of a mask of persons, the worst first."""
    persons = np.flatnonzero(mask)
    if badness is not None:
        persons = persons[np.argsort(-badness[persons], kind="stable")]
    return [annotated.person_case(int(person)) for person in persons]


def _image_sizes(annotated: LenientSet) -> np.ndarray:
    """Return the (N, 2) width and height of each person's image; infinite where they are not known."""
    sizes = np.array([[np.inf, np.inf] if size is None else size[::-1] for size in annotated.sizes]).reshape(-1, 2)
    known = annotated.image_of >= 0
    result = np.full((len(known), 2), np.inf)
    result[known] = sizes[annotated.image_of[known]]
    return result


def boxes_without_area(annotated: LenientSet) -> list[Finding]:
    wh = annotated.boxes_xywh[:, 2:]
    flat = wh.min(axis=1) <= 0
    missing = np.isnan(wh).any(axis=1) & annotated.labelled.any(axis=1)
    return [
        *_finding(
            "boxes missing", "warning", "Persons have no box; one is made around their keypoints.",
            _where(annotated, missing),
        ),
        *_finding(
            "boxes without area", "error", "Boxes have no width or height; draw them anew.",
            _where(annotated, flat),
        ),
    ]  # fmt: skip


def boxes_outside(annotated: LenientSet) -> list[Finding]:
    start, sides = annotated.boxes_xywh[:, :2], annotated.boxes_xywh[:, 2:]
    limits = _image_sizes(annotated)
    beyond = np.maximum(-start, start + sides - limits).max(axis=1)
    wholly = ((start >= limits) | (start + sides <= 0)).any(axis=1)
    partly = (beyond > OUTSIDE) & ~wholly
    return [
        *_finding(
            "boxes outside", "error", "Boxes lie wholly outside their image; are they x, y, width, height in pixels?",
            _where(annotated, wholly, beyond),
        ),
        *_finding(
            "boxes beyond the edge", "warning", "Boxes reach out of their image, and will be clipped.",
            _where(annotated, partly, beyond),
        ),
    ]  # fmt: skip


def boxes_that_do_not_fit(annotated: LenientSet) -> list[Finding]:
    """Find boxes whose person's keypoints lie elsewhere: shifted ones, those of another person or unit.

    Keypoints stick out of a shifted box on one side, and the other side is empty: as far as both are, in sides of the
    box, is how far it is shifted at least.
    """
    shift = _shifts(annotated)
    cases = _where(annotated, np.nan_to_num(shift, nan=-1) > MOST_SHIFTED, shift)
    sentence = "Boxes lie beside the keypoints of their persons; draw them anew."
    return _finding("boxes that do not fit", "error", sentence, cases)


def _shifts(annotated: LenientSet) -> np.ndarray:
    """Return (N,) how far each box is shifted from its keypoints, in its sides; NaN for fewer than two keypoints.

    Of persons with two visible keypoints hidden ones do not count, since boxes hold what is visible.
    """
    start, sides = annotated.boxes_xywh[:, :2], annotated.boxes_xywh[:, 2:]
    visible = annotated.triples[..., 2] == 2
    counts = np.where((visible.sum(axis=1) > 1)[:, None], visible, annotated.labelled)
    usable = (counts.sum(axis=1) > 1) & ~annotated.crowd & (sides > 0).all(axis=1)
    shifts = np.full(len(usable), np.nan)
    if usable.any():
        points = np.where(counts[usable, :, None], annotated.triples[usable, :, :2], np.nan)
        places = (points - start[usable, None]) / sides[usable, None]  # 0 to 1 in the box
        before, behind = np.nanmin(places, axis=1), 1 - np.nanmax(places, axis=1)  # (n, 2) empty parts of the box
        shifts[usable] = np.maximum(np.minimum(-before, behind), np.minimum(-behind, before)).max(axis=1)
    return shifts


def keypoints_outside(annotated: LenientSet) -> list[Finding]:
    points, limits = annotated.keypoints, _image_sizes(annotated)[:, None]
    beyond = np.nan_to_num(np.maximum(-points, points - (limits - 1)), nan=-1.0, neginf=-1.0).max(axis=2)  # (N, K)
    worst = beyond.max(axis=1, initial=-1)
    return _finding(
        "keypoints outside", "warning", "Labelled keypoints lie outside their image; make them unlabelled.",
        _where(annotated, worst > OUTSIDE, worst),
    )  # fmt: skip


def visibility(annotated: LenientSet) -> list[Finding]:
    v, points = annotated.triples[..., 2], annotated.triples[..., :2]
    if not v.size:
        return []
    placed = (points != 0).any(axis=2)
    if not v.any() and placed.any():
        sentence = "No keypoint is labelled: visibility is 0 everywhere; set it to 2, or 1 for hidden keypoints."
        return _finding("visibility never set", "error", sentence, _where(annotated, placed.any(axis=1)))
    hidden = Case("all visibilities are 0 or 2" if (v == 2).any() else "all visibilities are 0 or 1")
    only = [hidden] if v.any() and len({*np.unique(v[v > 0])}) < 2 else []
    return [
        *_finding(
            "keypoints at 0, 0", "error", "Labelled keypoints lie at (0, 0); make them unlabelled (visibility 0).",
            _where(annotated, (annotated.labelled & ~placed).any(axis=1)),
        ),
        *_finding(
            "visibility of one kind", "warning",
            "All labelled keypoints have the same visibility, so hidden ones (1) are not told from visible ones (2).",
            only,
        ),
    ]  # fmt: skip


def keypoints_seldom_labelled(annotated: LenientSet) -> list[Finding]:
    persons = annotated.labelled[annotated.labelled.any(axis=1)]
    if annotated.keypoint_set is None or not len(persons):
        return []
    counts = persons.sum(axis=0)
    cases = [
        (count, Case(f"{name}: {count} of {len(persons)} persons"))
        for name, count in zip(annotated.keypoint_set.keypoints, counts.tolist(), strict=True)
    ]
    seldom = [case for count, case in cases if 0 < count < LEAST_LABELLED * len(persons)]
    return [
        *_finding(
            "keypoints never labelled", "error", "Keypoints are labelled for nobody, so they cannot be learned.",
            [case for count, case in cases if not count],
        ),
        *_finding("keypoints hardly ever labelled", "warning", "Keypoints are labelled for very few persons.", seldom),
    ]  # fmt: skip


def nobody_labelled(annotated: LenientSet) -> list[Finding]:
    if annotated.keypoint_set is None or annotated.labelled.any() or (annotated.triples[..., :2] != 0).any():
        return []
    return [Finding("nobody labelled", "error", "There is no person with a labelled keypoint.", (Case("all"),))]


def persons_annotated_twice(annotated: LenientSet) -> list[Finding]:
    """Find persons of one image with the same box and, where both have keypoints, the same keypoints."""
    boxes, keypoints, cases = annotated.boxes_xyxy, annotated.keypoints, []
    alone = (annotated.image_of >= 0) & ~annotated.crowd & np.isfinite(boxes).all(axis=1)
    for image in np.flatnonzero(np.bincount(annotated.image_of[alone], minlength=1) > 1):
        persons = np.flatnonzero(alone & (annotated.image_of == image))
        for a, b in np.argwhere(np.triu(iou(boxes[persons], boxes[persons]) >= SAME_BOX, 1)):
            first, second = persons[a], persons[b]
            if _same_keypoints(keypoints[first], keypoints[second], boxes[first], annotated):
                cases.append(annotated.person_case(int(second), f" is {annotated.person_ids[first]}"))
    return _finding("persons annotated twice", "warning", "Persons are annotated twice; delete one of each.", cases)


def _same_keypoints(a: np.ndarray, b: np.ndarray, box: np.ndarray, annotated: LenientSet) -> bool:
    both = ~np.isnan(a[:, 0]) & ~np.isnan(b[:, 0])
    if annotated.keypoint_set is None or not both.any():
        return bool(np.isnan(a).all() or np.isnan(b).all())
    area = np.array([np.prod(box[2:] - box[:2])])
    same = similarities(a[None, both], b[None, both], area, annotated.keypoint_set.oks_sigmas[both])
    return float(same.mean()) >= SAME_PERSON


def scales(annotated: LenientSet) -> list[Finding]:
    sides = person_sides(annotated)
    sides = sides[np.isfinite(sides) & annotated.labelled.any(axis=1) & (sides > 0)]
    if not len(sides):
        return []
    small = float((sides < SMALL_SIDE).mean())
    low, high = np.percentile(sides, [5, 95])
    cases = []
    if small > MOST_SMALL:
        cases.append(Case(f"{small:.0%} of the persons are smaller than {SMALL_SIDE:.0f} x {SMALL_SIDE:.0f} pixels"))
    if high > WIDEST_RANGE * low:
        cases.append(Case(f"a twentieth is smaller than {low:.0f} pixels, and a twentieth larger than {high:.0f}"))
    return _finding("scales", "warning", "Sizes of persons are unbalanced.", cases)


def person_sides(annotated: LenientSet) -> np.ndarray:
    """Return (N,) the square root of the area of each person's box, in pixels; NaN without a box."""
    boxes = annotated.boxes_xyxy
    return np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def names_of_keypoints(annotated: LenientSet) -> list[Finding]:
    """Find keypoints with a side but no partner, and those that no OKS sigma is known of."""
    found = annotated.keypoint_set
    if found is None:
        return []
    partner = found.flip_index
    alone = [Case(name) for i, name in enumerate(found.keypoints) if partner[i] == i and side_and_part(name)[0]]
    unknown = [] if found.sigmas or annotated.gives_sigmas else [
        Case(name) for name in found.keypoints if not has_sigma(name)
    ]  # fmt: skip
    return [
        *_finding(
            "flip pairs", "error", "Keypoints of one side have no partner of the other; name both alike, such as "
            "left_knee and right_knee.", alone,
        ),
        *_finding(
            "sigmas", "warning", "No OKS sigma is known of keypoints, so 0.079 stands for them; give the category a "
            "list 'sigmas'.", unknown,
        ),
    ]  # fmt: skip


def sides_against_most(annotated: LenientSet) -> list[Finding]:
    """Find persons whose left and right lie the other way round than those of nearly all others in the file.

    It needs no network, so it is for keypoints that none knows; it says nothing where objects are seen from all sides.
    """
    if annotated.keypoint_set is None or not len(annotated.person_ids):
        return []
    left = [i for i, name in enumerate(annotated.keypoint_set.keypoints) if side_and_part(name)[0] == "left"]
    right = annotated.keypoint_set.flip_index[left]
    x = annotated.keypoints[..., 0]
    votes = np.sign(np.nansum(np.sign(x[:, left] - x[:, right]), axis=1))  # (N,) 1: left lies at the right
    voting = votes[votes != 0]
    if len(voting) < LEAST_PERSONS or not ONE_WAY <= (share := abs(voting.mean()) / 2 + 0.5) < 1:
        return []
    sentence = f"Left and right lie the other way round than for {share:.0%} of the persons; are they swapped?"
    return _finding("sides against most", "warning", sentence, _where(annotated, votes == -np.sign(voting.mean())))


CHECKS: tuple[Check, ...] = (
    nobody_labelled, boxes_without_area, boxes_outside, boxes_that_do_not_fit, visibility, keypoints_outside,
    keypoints_seldom_labelled, persons_annotated_twice, scales, names_of_keypoints,
    sides_against_most,
)  # fmt: skip


def faults(annotated: LenientSet) -> list[Finding]:
    """Return what all checks find, and what was found while reading, errors first."""
    found = [*annotated.findings, *(finding for check in CHECKS for finding in check(annotated))]
    return sorted(found, key=lambda finding: finding.level)
