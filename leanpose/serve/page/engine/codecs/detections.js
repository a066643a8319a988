/** Networks that do all of the decoding themselves: boxes, and boxes with keypoints, as mmdeploy exports them. */

import { bestFirst } from "../geometry.js";

/**
 * @param {{score_threshold: number, max_people: number, person: number}} codec its parameters.
 * @param {Object<string, {data: ArrayLike<number>, dims: number[]}>} outputs dets (1, N, 5), labels (1, N).
 * @returns {{boxes: number[][], scores: number[]}} in input pixels, best first.
 */
export function detections(codec, outputs) {
  const labels = outputs.labels.data;
  const found = best(codec, outputs.dets, (row) => Number(labels[row]) === codec.person);
  return { boxes: found.map(({ box }) => box), scores: found.map(({ score }) => score) };
}

/**
 * @param {{score_threshold: number, max_people: number}} codec its parameters.
 * @param {Object<string, {data: Float32Array, dims: number[]}>} outputs dets (1, N, 5), keypoints (1, N, K, 3).
 * @returns {{keypoints: number[][], scores: number[], personScore: number}[]} in input pixels, best first.
 */
export function detectedPoses(codec, outputs) {
  const { data, dims } = outputs.keypoints, count = dims[2];
  return best(codec, outputs.dets, () => true).map(({ row, score }) => {
    const triples = Array.from({ length: count }, (_, k) => {
      const start = 3 * (row * count + k);
      return data.subarray(start, start + 3);
    });
    const [keypoints, scores] = [triples.map(([x, y]) => [x, y]), triples.map((triple) => triple[2])];
    return { keypoints, scores, personScore: score };
  });
}

/** Return the rows of dets that are boxes of some area, of those that are wanted, best first. */
function best(codec, { data, dims }, wanted) {
  const least = Math.fround(codec.score_threshold), rows = [];
  for (let row = 0; row < dims[1]; row++) {
    const [x1, y1, x2, y2, score] = data.subarray(5 * row, 5 * row + 5);
    if (x2 > x1 && y2 > y1 && score > least && wanted(row)) rows.push({ row, box: [x1, y1, x2, y2], score });
  }
  return bestFirst(rows.map(({ score }) => score)).slice(0, codec.max_people).map((i) => rows[i]);
}
