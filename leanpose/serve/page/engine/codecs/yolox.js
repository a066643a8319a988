/** YOLOX (arXiv 2107.08430) as its authors export it: one row per grid cell. */

import { bestFirst, boxNms } from "../geometry.js";

/**
 * @param {{score_threshold: number, nms_iou: number, max_people: number, strides: number[], candidates: number,
 *   largest_log: number}} codec its parameters.
 * @param {Object<string, {data: Float32Array, dims: number[]}>} outputs output (1, cells, 5 + classes).
 * @param {[number, number]} inputSize
 * @returns {{boxes: number[][], scores: number[]}} in input pixels, best first.
 */
export function yolox(codec, outputs, inputSize) {
  const { data, dims } = outputs.output, length = dims[2];
  const found = cells(codec.strides, inputSize)
    .map((cell, row) => {
      const values = data.subarray(row * length, row * length + 6);
      return { cell, values, score: Math.fround(values[4] * values[5]) };
    })
    .filter(({ score }) => score > Math.fround(codec.score_threshold));
  const best = bestFirst(found.map(({ score }) => score)).slice(0, codec.candidates).map((i) => found[i]);
  const boxes = best.map(({ cell: { left, top, stride }, values }) => {
    const x = values[0] * stride + left, y = values[1] * stride + top;
    const [halfWidth, halfHeight] = [2, 3].map((i) => (Math.exp(Math.min(values[i], codec.largest_log)) * stride) / 2);
    return [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight].map(Math.fround);
  });
  const scores = best.map(({ score }) => score);
  const kept = boxNms(boxes, scores, codec.nms_iou).slice(0, codec.max_people);
  return { boxes: kept.map((i) => boxes[i]), scores: kept.map((i) => scores[i]) };
}

/** Return the cells of all grids, row by row: top left corner and side in input pixels. */
function cells(strides, [height, width]) {
  return strides.flatMap((stride) => {
    const columns = Math.floor(width / stride), count = columns * Math.floor(height / stride);
    return Array.from({ length: count }, (_, i) => ({
      left: stride * (i % columns),
      top: stride * Math.floor(i / columns),
      stride,
    }));
  });
}
