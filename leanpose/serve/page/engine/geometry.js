/**
 * Where things are: box -> crop matrix -> crop, and back. As leanpose/geometry.py, which says what and why.
 *
 * The center of the top-left pixel is (0, 0). Sizes are [height, width], boxes [x1, y1, x2, y2], points [x, y].
 *
 * @typedef {import("./resample.js").Pixels} Pixels
 * @typedef {import("./resample.js").Matrix} Matrix
 * @typedef {[number, number]} Size
 */

import { blank, resize, shrink, shrinkByWhole, warpAffine } from "./resample.js";

const { fround, floor, ceil, min, max, sqrt, abs, trunc } = Math;

/** Width and height of a pixel grid as the convention counts them. */
function extent([height, width], convention) {
  return convention === "udp" ? [width - 1, height - 1] : [width, height];
}

/** Carry a point from heatmap pixels to network-input pixels. */
export function heatmapToInput([x, y], inputSize, heatmapSize, convention) {
  const [width, height] = extent(inputSize, convention), [mapWidth, mapHeight] = extent(heatmapSize, convention);
  return [fround(fround(x) * fround(width / mapWidth)), fround(fround(y) * fround(height / mapHeight))];
}

/** Return center and [width, height] of a box extended to an aspect ratio (width / height) and padded. */
export function paddedBox([x1, y1, x2, y2], aspect, padding) {
  const height = max(y2 - y1, (x2 - x1) / aspect);
  return { center: [(x1 + x2) / 2, (y1 + y2) / 2], size: [height * aspect * padding, height * padding] };
}

/**
 * Return the matrix from image pixels to network-input pixels for a box.
 * @returns {Matrix}
 */
export function cropMatrix(box, inputSize, padding, convention) {
  const { center, size } = paddedBox(box, inputSize[1] / inputSize[0], padding);
  const [width, height] = extent(inputSize, convention);
  const scale = height / size[1];
  return [scale, 0, width / 2 - scale * center[0], 0, scale, height / 2 - scale * center[1]];
}

/**
 * Lay a network input over a whole image.
 * @param {Size} imageSize
 * @param {number} shortSide of the input.
 * @param {{multiple: number, longest: number}} rules
 * @returns {{matrix: Matrix, inputSize: Size}}
 */
export function imageMatrix(imageSize, shortSide, { multiple, longest }) {
  const short = min(...imageSize), long = max(...imageSize);
  const scale = min(shortSide / short, (longest * shortSide) / long);
  const longSide = ceil((scale * long) / multiple - 1e-9) * multiple;
  const [height, width] = imageSize[0] <= imageSize[1] ? [shortSide, longSide] : [longSide, shortSide];
  const center = [trunc(imageSize[1] / 2 + 0.5), trunc(imageSize[0] / 2 + 0.5)];
  const matrix = [scale, 0, width / 2 - scale * center[0], 0, scale, height / 2 - scale * center[1]];
  return { matrix, inputSize: [height, width] };
}

/**
 * Lay a whole image as large as it fits at the top left of a network input.
 * @param {Pixels} image
 * @param {Size} inputSize
 * @param {number} border pixel value of what the image does not cover.
 * @returns {{pixels: Pixels, matrix: Matrix}}
 */
export function letterbox(image, inputSize, border) {
  const scale = min(inputSize[0] / image.height, inputSize[1] / image.width);
  const size = [image.height, image.width].map((side) => max(1, trunc(side * scale)));
  const small = scale < 0.5 ? shrink(image, size) : resize(image, size);
  const pixels = blank(...inputSize, border);
  for (let y = 0; y < small.height; y++) {
    const line = small.data.subarray(4 * y * small.width, 4 * (y + 1) * small.width);
    pixels.data.set(line, 4 * y * pixels.width);
  }
  return { pixels, matrix: [scale, 0, 0, 0, scale, 0] };
}

/** Return the inverse of a matrix that neither turns nor skews, as all of ours are. */
export function invert([a, , c, , e, f]) {
  return [1 / a, 0, -c / a, 0, 1 / e, -f / e];
}

/** Apply a matrix to a point. */
export function transform([x, y], m) {
  return [m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]];
}

/** Apply a matrix to the corners of a box. */
export function transformBox([x1, y1, x2, y2], matrix) {
  return [...transform([x1, y1], matrix), ...transform([x2, y2], matrix)];
}

/**
 * Cut one crop out of an image: bilinear, black outside, averaged down first where it is much smaller than its region.
 * @param {Pixels} image
 * @param {Matrix} matrix image pixels -> crop pixels.
 * @param {Size} inputSize of the crop.
 * @returns {Pixels}
 */
export function crop(image, matrix, inputSize) {
  const scale = sqrt(abs(matrix[0] * matrix[4]));
  const factor = trunc(1 / scale);
  if (factor >= 2) [image, matrix] = averagedDown(image, matrix, inputSize, factor);
  return warpAffine(image, matrix, inputSize);
}

/** Shrink the part of the image that the crop needs by a whole factor; return it and its matrix. */
function averagedDown(image, matrix, [height, width], factor) {
  const back = invert(matrix);
  const first = transform([0, 0], back), last = transform([width, height], back);
  const limits = [image.width, image.height];
  const inside = (place, axis) => min(max(place, 0), limits[axis]);
  const start = first.map((place, axis) => inside(floor(place) - factor, axis));
  const stop = last.map((place, axis) => inside(ceil(place) + 2 * factor, axis));
  const [smallWidth, smallHeight] = start.map((place, axis) => floor((stop[axis] - place) / factor));
  if (min(smallWidth, smallHeight) <= 0) return [image, matrix];
  const small = shrinkByWhole(image, start[0], start[1], [smallHeight, smallWidth], factor);
  const [dx, dy] = start.map((place) => place + (factor - 1) / 2);
  const [a, b, c, d, e, f] = matrix;
  return [small, [a * factor, b * factor, a * dx + b * dy + c, d * factor, e * factor, d * dx + e * dy + f]];
}

/** Return the intersection over union of two boxes. */
export function iou(a, b) {
  const shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return shared / max(area(a) + area(b) - shared, 1e-12);
}

/** Return the positions of scores, best first; of equal ones the first. */
export function bestFirst(scores) {
  return Array.from(scores, (_, i) => i).sort((i, j) => scores[j] - scores[i]);
}

/** Return the positions of what is kept, best first: what is too much like a better one that was kept goes. */
function greedy(scores, like, threshold) {
  const kept = [];
  for (const i of bestFirst(scores)) {
    if (kept.every((j) => !(like(i, j) > threshold))) kept.push(i);
  }
  return kept;
}

/** Return the positions of the boxes to keep, best score first. */
export function boxNms(boxes, scores, threshold) {
  return greedy(scores, (i, j) => iou(boxes[i], boxes[j]), threshold);
}

/** Return what boxes are worth that several looks may have found; each look is a list of boxes with scores. */
export function jointScores(boxes, looks, threshold) {
  return boxes.map((box) => {
    const scores = looks.map((look) =>
      look.reduce((best, other) => (iou(box, other.box) > threshold ? max(best, other.score) : best), 0),
    );
    return fround((max(...scores) + scores.reduce((sum, score) => sum + score, 0) / looks.length) / 2);
  });
}

/** Return the object keypoint similarity of two persons by the keypoints that count of both; 0 if these are too few. */
export function oks(keypointsA, keypointsB, areaA, areaB, sigmas, countedA, countedB, fewest) {
  const area = (areaA + areaB) / 2 + Number.EPSILON;
  let sum = 0, shared = 0;
  sigmas.forEach((sigma, k) => {
    if (!countedA[k] || !countedB[k]) return;
    shared += 1;
    const dx = keypointsA[k][0] - keypointsB[k][0], dy = keypointsA[k][1] - keypointsB[k][1];
    sum += Math.exp(-(dx * dx + dy * dy) / (2 * area * (2 * sigma) ** 2));
  });
  return shared >= Math.min(fewest, sigmas.length) ? sum / shared : 0;
}

/** Return the positions of the persons to keep, best score first. */
export function oksNms(keypoints, scores, areas, sigmas, threshold, counted, fewest) {
  const similarity = (i, j) =>
    oks(keypoints[i], keypoints[j], areas[i], areas[j], sigmas, counted[i], counted[j], fewest);
  return greedy(scores, similarity, threshold);
}

/** Return the box around keypoints, wider by a share of the longer side, at least one pixel, on each side. */
export function boxAround(keypoints, margin) {
  const xs = keypoints.map(([x]) => x), ys = keypoints.map(([, y]) => y);
  const [x1, y1, x2, y2] = [min(...xs), min(...ys), max(...xs), max(...ys)];
  const reach = max(margin * max(x2 - x1, y2 - y1), 1);
  return [x1 - reach, y1 - reach, x2 + reach, y2 + reach].map(fround);
}
