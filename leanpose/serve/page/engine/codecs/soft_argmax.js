/** Beta-Soft-Argmax (arXiv 1911.10346): the mean position under softmax(beta * map), then the quarter pixel. */

import { toEven } from "../resample.js";
import { argmax, decodeMaps, shiftQuarter } from "./heatmap.js";

/**
 * @param {{convention: string, beta: number, shift: boolean}} codec its parameters.
 * Arguments and result are those of `heatmap`.
 */
export function betaSoftArgmax(codec, outputs, inputSize) {
  return decodeMaps(codec, outputs, inputSize, (map) => {
    const { data, width } = map, highest = data[argmax(data)];
    let sum = 0, x = 0, y = 0;
    data.forEach((value, i) => {
      const share = Math.exp(codec.beta * (value - highest));
      sum += share;
      x += share * (i % width);
      y += share * Math.floor(i / width);
    });
    const place = [x / sum, y / sum], [column, row] = place.map(toEven);
    return { keypoint: codec.shift ? shiftQuarter(map, place) : place, score: data[row * width + column] };
  });
}
