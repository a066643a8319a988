/** Persons as a map of their centers and, at each pixel, the distances to the edges of the box (arXiv 1909.00700). */

import { bestFirst, boxNms, heatmapToInput } from "../geometry.js";

/**
 * Find the boxes of the persons of one image.
 * @param {{score_threshold: number, max_people: number, nms_iou: number, convention: string}} codec its parameters.
 * @param {Object<string, {data: Float32Array, dims: number[]}>} outputs centers (1, 1, h, w), box_logs (1, 4, h, w).
 * @param {[number, number]} inputSize
 * @returns {{boxes: number[][], scores: number[]}} in input pixels, best first.
 */
export function centerBox(codec, outputs, inputSize) {
  const { data: logits, dims } = outputs.centers, { data: logs } = outputs.box_logs;
  const [height, width] = dims.slice(2), area = height * width;
  const peaks = findPeaks(logits, height, width)
    .map((at) => ({ at, score: 1 / (1 + Math.exp(-Math.min(Math.max(logits[at], -50), 50))) }))
    .filter(({ score }) => score > codec.score_threshold);
  const best = bestFirst(peaks.map(({ score }) => score)).slice(0, codec.max_people).map((i) => peaks[i]);
  const reach = Math.log(height + width);
  const boxes = best.map(({ at }) => {
    const [left, top, right, bottom] = [0, 1, 2, 3].map((edge) => Math.exp(Math.min(logs[edge * area + at], reach)));
    const x = at % width, y = Math.floor(at / width);
    const inside = (place, length) => Math.fround(Math.min(Math.max(place, -0.5), length - 0.5));
    return [inside(x - left, width), inside(y - top, height), inside(x + right, width), inside(y + bottom, height)];
  });
  const scores = best.map(({ score }) => Math.fround(score));
  const kept = boxNms(boxes, scores, codec.nms_iou);
  const carry = (point) => heatmapToInput(point, inputSize, [height, width], codec.convention);
  return {
    boxes: kept.map((i) => [...carry(boxes[i].slice(0, 2)), ...carry(boxes[i].slice(2))]),
    scores: kept.map((i) => scores[i]),
  };
}

/** Return the places of the pixels that none of their eight neighbours passes, in reading order. */
function findPeaks(logits, height, width) {
  const peaks = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      let highest = true;
      for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, height - 1); row++) {
        for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, width - 1); column++) {
          if (logits[row * width + column] > logits[at]) highest = false;
        }
      }
      if (highest) peaks.push(at);
    }
  }
  return peaks;
}
