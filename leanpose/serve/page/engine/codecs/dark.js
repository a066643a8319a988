/** DARK (arXiv 1910.06278): highest pixel, then a Newton step on the logarithm of the blurred map. */

import { decodeMaps, findPeak } from "./heatmap.js";

const SINGULAR = 2 ** -23; // float32's precision; a determinant below it says nothing

/**
 * @param {{convention: string, kernel: number[], floor: number, max_step: number}} codec its parameters.
 * Arguments and result are those of `heatmap`.
 */
export function dark(codec, outputs, inputSize) {
  return decodeMaps(codec, outputs, inputSize, (map) => {
    const { peak, score } = findPeak(map);
    const [x, y] = peak;
    const inside = x > 1 && x < map.width - 2 && y > 1 && y < map.height - 2;
    if (!inside) return { keypoint: peak, score };
    const log = logAroundPeak(map, peak, 2, codec, false);
    const center = log[2][2];
    const [dx, dy] = newtonStep(
      {
        dx: (log[2][3] - log[2][1]) / 2,
        dy: (log[3][2] - log[1][2]) / 2,
        dxx: (log[2][4] - 2 * center + log[2][0]) / 4,
        dyy: (log[4][2] - 2 * center + log[0][2]) / 4,
        dxy: (log[3][3] - log[1][3] - log[3][1] + log[1][1]) / 4,
      },
      codec.max_step,
    );
    return { keypoint: [x + dx, y + dy], score };
  });
}

/**
 * Return the logarithm of the blurred map at the pixels around its peak, rows of columns, 2 * reach + 1 each.
 * @param {boolean} reflect whether the blur sees the map mirrored about its outermost pixels outside it, or zeros.
 */
export function logAroundPeak({ data, height, width }, [peakX, peakY], reach, { kernel, floor }, reflect) {
  const side = 2 * reach + 1, blur = kernel.length, needed = side + blur - 1, margin = reach + (blur - 1) / 2;
  const at = (x, y) => {
    if (reflect) return data[mirror(y, height) * width + mirror(x, width)];
    return x >= 0 && y >= 0 && x < width && y < height ? data[y * width + x] : 0;
  };
  const numbers = (length) => Array.from({ length }, (_, i) => i);
  const weighted = (start, value) => kernel.reduce((sum, weight, i) => sum + weight * value(start + i), 0);
  const blurredRows = numbers(needed).map((row) =>
    numbers(side).map((column) => weighted(column, (i) => at(peakX - margin + i, peakY - margin + row))),
  );
  return numbers(side).map((row) =>
    numbers(side).map((column) => Math.log(Math.max(weighted(row, (i) => blurredRows[i][column]), floor))),
  );
}

/** Fold a pixel number outside 0 ... length - 1 back at the outermost pixels. */
function mirror(index, length) {
  const period = 2 * (length - 1), folded = Math.abs(index) % Math.max(period, 1);
  return Math.min(folded, period - folded);
}

/** Return the step from a pixel to the maximum of the parabola with these derivatives, zero where there is none. */
export function newtonStep({ dx, dy, dxx, dyy, dxy }, maxStep) {
  const determinant = dxx * dyy - dxy * dxy;
  if (!(dxx < 0 && determinant > SINGULAR)) return [0, 0];
  const limited = (step) => Math.min(Math.max(step, -maxStep), maxStep);
  return [limited((dxy * dy - dyy * dx) / determinant), limited((dxy * dx - dxx * dy) / determinant)];
}
