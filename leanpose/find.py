"""Find everybody in a picture with a bottom-up network: their poses, or boxes for a top-down network to refine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leanpose import geometry
from leanpose.codecs import create_codec
from leanpose.codecs.associative_embedding import AssociativeEmbedding, enlarge, flip_back, merge_scales
from leanpose.codecs.center_box import CenterBox
from leanpose.errors import InputError, WeightsError
from leanpose.runtime import Engine, normalised
from leanpose.structures import Poses
from leanpose.weights import Weights

LARGEST_SCALE = 10


class PersonFinder:
    """Whole pictures in, all persons out.

    Args:
        engine: a bottom-up network, with its record.
        flip_test: also run the mirrored picture: heat maps are averaged, tags count twice.
        scales: sizes of the picture, as factors on the record's input size, rounded so that the input's sides are
            multiples of 64. Heat maps are averaged over all of them, tags come from the one nearest to 1; boxes are
            collected from all.

    Raises:
        WeightsError: the record has no bottom-up codec, or another convention than "classic".
        InputError: there is no scale, or one is not above 0 or larger than 10.
    """

    def __init__(self, engine: Engine, flip_test: bool = False, scales: Sequence[float] = (1.0,)) -> None:
        weights = engine.weights
        if weights.codec != "associative_embedding":
            raise WeightsError(
                f"{weights.name} finds one person a crop, not the persons of a picture; use litepose_xs."
            )
        if weights.convention != "classic":
            raise WeightsError(f"{weights.name} must have the convention 'classic', in which whole pictures are laid.")
        self._engine = engine
        self.weights = weights
        self.flip_test = flip_test
        self.codec: AssociativeEmbedding = create_codec(weights.codec, **weights.codec_options)
        self.person_codec = CenterBox()
        if not len(scales) or not all(0 < scale <= LARGEST_SCALE for scale in scales):  # NaN compares false
            raise InputError(f"scales must be one number or more, above 0 and up to {LARGEST_SCALE}, not {[*scales]}.")
        short_sides = {max(64, round(weights.input_size[0] * scale / 64) * 64) for scale in scales}
        self._short_sides = sorted(short_sides, key=lambda side: abs(side - weights.input_size[0]))

    def poses(self, picture: np.ndarray) -> Poses:
        """Return all persons of one picture, (H, W, 3) uint8 RGB, best first."""
        return self._grouped(*self._maps(picture))

    def decode(self, outputs: Mapping[str, np.ndarray], matrix: np.ndarray, input_size: geometry.Size) -> Poses:
        """Turn the outputs for one input of a picture into poses; `poses` does this, and more with flip test or scales.

        Args:
            outputs: of the network.
            matrix, input_size: as of `picture_image`.
        """
        heatmaps, tags = merge_scales(outputs)
        size = input_size if self.codec.upsample else heatmaps.shape[2:]
        heatmaps, tags = enlarge(heatmaps, size), enlarge(tags, size)
        return self._grouped(heatmaps[0], tags.transpose(1, 2, 3, 0), matrix, input_size)

    def _grouped(self, heatmaps: np.ndarray, tags: np.ndarray, matrix: np.ndarray, input_size: geometry.Size) -> Poses:
        w = self.weights
        keypoints, scores, person_scores = self.codec.decode(heatmaps, tags)  # map pixels
        keypoints = geometry.heatmap_to_input(keypoints, input_size, heatmaps.shape[1:], w.convention)
        flat = geometry.transform(keypoints.reshape(1, -1, 2), geometry.invert(matrix))
        keypoints = flat.reshape(keypoints.shape).astype(np.float32)
        order = np.argsort(-person_scores, kind="stable")
        poses = Poses(keypoints, scores, geometry.boxes_around(keypoints), person_scores, w.keypoint_set)
        return poses[order]

    def boxes(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Propose persons for a top-down network.

        Returns:
            boxes_xyxy (N, 4) float32 picture pixels and scores (N,), best first: from the network's person head, or,
            where it has none, around the poses it finds.
        """
        if self.weights.model_options.get("person_head"):
            found = [self._boxes_at(picture, side) for side in self._short_sides]
            boxes, scores = (np.concatenate(values) for values in zip(*found, strict=True))
            best = geometry.box_nms(boxes, scores, self.person_codec.nms_iou)[: self.person_codec.max_people]
            boxes, scores = boxes[best], scores[best]
        else:
            poses = self.poses(picture)
            boxes, scores = poses.boxes_xyxy, poses.person_scores
        height, width = picture.shape[:2]
        boxes = boxes.clip(0, [width - 1, height - 1, width - 1, height - 1]).astype(np.float32)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return boxes[kept], scores[kept]

    def _boxes_at(self, picture: np.ndarray, short_side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4) in picture pixels and scores (N,) that the person head sees at one size."""
        image, matrix, input_size = picture_image(picture, self.weights, short_side)
        outputs = self._engine(image)
        boxes, scores = self.person_codec.decode(outputs["centers"][0, 0], outputs["box_logs"][0])  # map pixels
        size = (outputs["centers"].shape[2], outputs["centers"].shape[3])
        corners = geometry.heatmap_to_input(boxes.reshape(1, -1, 2), input_size, size, self.weights.convention)
        return geometry.transform(corners, geometry.invert(matrix)).reshape(-1, 4), scores

    def _maps(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, geometry.Size]:
        """Return heat maps (K, h, w) and tags (K, h, w, T) of the whole picture, the matrix and the input's size."""
        image, matrix, input_size = picture_image(picture, self.weights, self._short_sides[0])
        heatmaps, tags = self._merged(image)
        size = input_size if self.codec.upsample else heatmaps.shape[2:]
        heatmaps, tags = enlarge(heatmaps, size), enlarge(tags, size)
        total = heatmaps.mean(axis=0)
        for side in self._short_sides[1:]:
            image, other_matrix, other_size = picture_image(picture, self.weights, side)
            maps = self._merged(image)[0].mean(axis=0)
            total = total + geometry.relaid_maps(maps, (other_matrix, other_size), (matrix, input_size), size)
        return total / len(self._short_sides), tags.transpose(1, 2, 3, 0), matrix, input_size

    def _merged(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return heat maps (T, K, h, w) and tags (T, K, h, w) of one input; T is 2 with the flip test, else 1."""
        outputs = self._engine(np.concatenate([image, image[..., ::-1]]) if self.flip_test else image)
        if "heatmaps_2" not in outputs:
            raise WeightsError(f"'{self.weights.model}' finds one person a crop: give its record another codec.")
        heatmaps, tags = merge_scales(outputs)
        if not self.flip_test:
            return heatmaps, tags
        flip_index = self.weights.keypoint_set.flip_index
        for maps in (heatmaps, tags):
            maps[1] = flip_back(maps[1], flip_index)
        return heatmaps, tags


def picture_image(
    picture: np.ndarray, weights: Weights, short_side: int | None = None
) -> tuple[np.ndarray, np.ndarray, geometry.Size]:
    """Make the network input of a whole picture, as a record says.

    Args:
        picture: (H, W, 3) uint8 RGB.
        short_side: of the input, in place of the record's.

    Returns:
        (1, 3, h, w) float32, the (1, 2, 3) matrix from picture to input pixels, and (h, w).
    """
    matrix, input_size = geometry.picture_matrix(picture.shape[:2], short_side or weights.input_size[0])
    return normalised(geometry.crop(picture, matrix[0], input_size)[None], weights), matrix, input_size
