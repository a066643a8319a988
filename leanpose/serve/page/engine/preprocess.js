/**
 * From images to network inputs: persons cut out of their boxes, or whole images; and normalisation.
 *
 * @typedef {import("./resample.js").Pixels} Pixels
 * @typedef {{data: Float32Array, dims: number[]}} Tensor
 */

import { crop, cropMatrix, imageMatrix, letterbox } from "./geometry.js";

const { fround } = Math;

/**
 * Turn a crop into a network input (1, 3, h, w), as a record says.
 * @param {Pixels} pixels
 * @returns {Tensor}
 */
export function normalised({ data, height, width }, { mean, std, channel_order: order }) {
  const area = height * width, values = new Float32Array(3 * area);
  for (let c = 0; c < 3; c++) {
    const scale = fround(1 / fround(std[c])), shift = fround(fround(mean[c]) * scale);
    const table = Float32Array.from({ length: 256 }, (_, value) => fround(value * scale) - shift);
    const channel = order === "bgr" ? 2 - c : c;
    for (let i = 0; i < area; i++) values[c * area + i] = table[data[4 * i + channel]];
  }
  return { data: values, dims: [1, 3, height, width] };
}

/** Cut a person out of an image; return the network input and the matrix from image to input pixels. */
export function boxInput(image, box, network) {
  const matrix = cropMatrix(box, network.input_size, network.padding, network.convention);
  return { input: normalised(crop(image, matrix, network.input_size), network), matrix };
}

/**
 * Make the network input of a whole image.
 * @param {Pixels} image
 * @param {Object} network of the manifest.
 * @param {number} shortSide of the input; a letterbox has its own size.
 * @param {{multiple: number, longest: number}} rules
 */
export function imageInput(image, network, shortSide, rules) {
  if (network.fit === "letterbox") {
    const { pixels, matrix } = letterbox(image, network.input_size, network.border);
    return { input: normalised(pixels, network), matrix, inputSize: network.input_size };
  }
  const { matrix, inputSize } = imageMatrix([image.height, image.width], shortSide, rules);
  return { input: normalised(crop(image, matrix, inputSize), network), matrix, inputSize };
}

/** The box of a whole image. */
export const wholeImage = ({ height, width }) => [0, 0, Math.max(width - 1, 1), Math.max(height - 1, 1)];

/**
 * Return boxes as float32 numbers, or throw for a box that no person can be in.
 * @param {number[][]} boxes x1, y1, x2, y2 in image pixels each.
 * @param {Pixels} image
 * @param {number} farthest no coordinate is as far from 0.
 */
export function checkBoxes(boxes, { height, width }, farthest) {
  if (!Array.isArray(boxes) || !boxes.every((box) => Array.isArray(box) && box.length === 4)) {
    throw new Error("Boxes must be a list of boxes, each of four numbers: x1, y1, x2, y2 in pixels.");
  }
  return boxes.map((box, i) => {
    const [x1, y1, x2, y2] = box, name = `Box ${i} (${box.join(", ")})`;
    if (!box.every((value) => typeof value === "number" && Math.abs(value) < farthest)) {
      throw new Error(`${name} has a coordinate that is not a number of pixels; give x1, y1, x2, y2.`);
    }
    if (x2 <= x1 || y2 <= y1) {
      throw new Error(`${name} has no area; give x1, y1, x2, y2 with x1 < x2 and y1 < y2.`);
    }
    if (x2 <= 0 || y2 <= 0 || x1 >= width || y1 >= height) {
      throw new Error(`${name} lies outside the image of ${width} x ${height} pixels.`);
    }
    return box.map(fround);
  });
}
