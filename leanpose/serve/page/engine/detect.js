/** A network as a detector: an image in, the boxes of its persons out. */

import { posesOfImage } from "./bottom_up.js";
import { decode } from "./codecs/index.js";
import { bestFirst, boxNms, invert, jointScores, transformBox } from "./geometry.js";
import { imageInput } from "./preprocess.js";
import { toEven } from "./resample.js";

/**
 * Return boxes inside the image, on steps of a share of a pixel, and their scores, best first.
 * @param {import("./engine.js").Engine} engine of a network that proposes boxes, or finds persons.
 * @param {import("./resample.js").Pixels} image
 * @param {Object} rules of the manifest.
 * @returns {Promise<{box: number[], score: number}[]>}
 */
export async function detected(engine, image, rules) {
  const found = engine.network.box_codec
    ? await proposed(engine, image, rules)
    : (await posesOfImage(engine, image, rules)).map(({ box, personScore }) => ({ box, score: personScore }));
  const limits = [image.width - 1, image.height - 1, image.width - 1, image.height - 1];
  const { box_steps: steps } = rules;
  const laid = (place, i) => Math.fround(toEven(Math.min(Math.max(place, 0), limits[i]) * steps) / steps);
  return found
    .map(({ box, score }) => ({ box: box.map(laid), score }))
    .filter(({ box: [x1, y1, x2, y2] }) => x2 > x1 && y2 > y1);
}

/** Collect the boxes that are seen at several sizes of the image. */
async function proposed(engine, image, rules) {
  const { box_codec: codec, short_sides: sides } = engine.network;
  const looks = [];
  for (const side of sides) {
    const { input, matrix, inputSize } = imageInput(image, engine.network, side, rules);
    const { boxes, scores } = decode(codec, await engine.run(input, codec), inputSize);
    const back = invert(matrix);
    looks.push(boxes.map((box, i) => ({ box: transformBox(box, back), score: scores[i] })));
  }
  const found = looks.flat();
  const kept = boxNms(found.map(({ box }) => box), found.map(({ score }) => score), codec.nms_iou)
    .slice(0, codec.max_people)
    .map((i) => found[i]);
  if (looks.length === 1) return kept;
  const scores = jointScores(kept.map(({ box }) => box), looks, codec.nms_iou);
  return bestFirst(scores).map((i) => ({ box: kept[i].box, score: scores[i] }));
}
