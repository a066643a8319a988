/** SimCC (arXiv 2107.03332): a keypoint as two vectors, one for each axis; the highest bins. */

import { argmax } from "./heatmap.js";

/**
 * @param {{split: number}} codec bins per input pixel.
 * @param {Object<string, {data: Float32Array, dims: number[]}>} outputs simcc_x, simcc_y (1, K, bins).
 * @returns {{keypoints: number[][], scores: number[]}} in input pixels, and raw scores.
 */
export function simcc(codec, outputs) {
  const axes = [outputs.simcc_x, outputs.simcc_y];
  const found = Array.from({ length: axes[0].dims[1] }, (_, k) => {
    const vectors = axes.map(({ data, dims }) => data.subarray(k * dims[2], (k + 1) * dims[2]));
    const bins = vectors.map(argmax);
    const score = Math.max(Math.min(vectors[0][bins[0]], vectors[1][bins[1]]), 0);
    return { keypoint: bins.map((bin) => (score > 0 ? Math.fround(bin / codec.split) : 0)), score };
  });
  return { keypoints: found.map(({ keypoint }) => keypoint), scores: found.map(({ score }) => score) };
}
