/** Codecs by their names in the records. Each reads the outputs of a network and speaks of input pixels. */

import { centerBox } from "./center_box.js";
import { dark } from "./dark.js";
import { detectedPoses, detections } from "./detections.js";
import { heatmap } from "./heatmap.js";
import { simcc } from "./simcc.js";
import { betaSoftArgmax } from "./soft_argmax.js";
import { udp } from "./udp.js";
import { yolox } from "./yolox.js";

const CODECS = {
  heatmap,
  udp,
  dark,
  beta_soft_argmax: betaSoftArgmax,
  center_box: centerBox,
  simcc,
  detections,
  detected_poses: detectedPoses,
  yolox,
};

/** Read what a network gave for one input, with a codec of the manifest. */
export const decode = (codec, outputs, inputSize) => CODECS[codec.name](codec, outputs, inputSize);
