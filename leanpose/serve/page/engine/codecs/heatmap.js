/** One heatmap per keypoint, read by its highest pixel and a quarter pixel towards the higher neighbour. */

import { heatmapToInput } from "../geometry.js";

/**
 * Find one keypoint in each heatmap of one input.
 * @param {{convention: string, shift: boolean}} codec its parameters.
 * @param {Object<string, {data: Float32Array, dims: number[]}>} outputs heatmaps (1, K, h, w).
 * @param {[number, number]} inputSize
 * @returns {{keypoints: number[][], scores: number[]}} in input pixels, and raw scores.
 */
export function heatmap(codec, outputs, inputSize) {
  return decodeMaps(codec, outputs, inputSize, (map) => {
    const { peak, score } = findPeak(map);
    return { keypoint: codec.shift ? shiftQuarter(map, peak) : peak, score };
  });
}

/**
 * Read each of the heatmaps with a function, and carry what it finds to input pixels.
 * @param {(map: Map_) => {keypoint: number[], score: number}} read
 * @typedef {{data: Float32Array, height: number, width: number}} Map_
 */
export function decodeMaps(codec, outputs, inputSize, read) {
  const { data, dims } = outputs.heatmaps;
  const [, count, height, width] = dims, area = height * width;
  const found = Array.from({ length: count }, (_, k) =>
    read({ data: data.subarray(k * area, (k + 1) * area), height, width }),
  );
  return {
    keypoints: found.map(({ keypoint }) => heatmapToInput(keypoint, inputSize, [height, width], codec.convention)),
    scores: found.map(({ score }) => score),
  };
}

/** Return the place of the highest value of an array; of equal ones the first. */
export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** Return the highest pixel of a map, (0, 0) where it is not positive, and its value. */
export function findPeak({ data, width }) {
  const best = argmax(data), score = data[best], index = score > 0 ? best : 0;
  return { peak: [index % width, Math.floor(index / width)], score };
}

/** Move a place a quarter pixel towards the higher neighbour, on each axis. */
export function shiftQuarter({ data, height, width }, place) {
  const [x, y] = place.map((v) => Math.floor(v + 0.5));
  if (!(x > 1 && x < width - 1 && y > 1 && y < height - 1)) return place;
  const at = y * width + x;
  const dx = data[at + 1] - data[at - 1], dy = data[at + width] - data[at - width];
  return [place[0] + 0.25 * Math.sign(dx), place[1] + 0.25 * Math.sign(dy)];
}
