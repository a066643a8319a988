/** What keypoints and limbs look like: the colours and widths of leanpose/io/draw.py. */

/** @typedef {{a: number, b: number, colour: string, width: number}} Edge between two positions in `keypoints` */
/** @typedef {{colours: string[], widths: number[], edges: Edge[]}} Look */

export const CASING = "rgb(16 20 32)";
export const RIM = "rgb(255 255 255)";

/** Side and whether it is a leg -> colour; arms and trunk sides are lighter than legs. */
const PALETTE = {
  left: ["rgb(64 190 255)", "rgb(36 112 255)"],
  right: ["rgb(255 184 28)", "rgb(255 100 16)"],
  "": ["rgb(240 240 236)", "rgb(240 240 236)"],
};
const words = (text) => new Set(text.split(" "));
const FACE = words("nose eye ear mouth chin forehead");
const LEG = words("pelvis mid_hip hip knee ankle foot heel toe big_toe small_toe");
const FINE = words(
  "jaw brow eye nose_bridge nostril lip inner_lip thumb forefinger middle_finger ring_finger pinky_finger",
);
const FINE_ALONE = words("nose_base upper_lip lower_lip upper_inner_lip lower_inner_lip hand_root");
const FACE_WIDTH = 0.55; // of a limb's width
const FINE_WIDTH = 0.25;
const SIDES = { left: "left", l: "left", right: "right", r: "right" };

/** Split a name in any common spelling: "left_ear", "Left Ear", "lEar" -> ["left", "ear"]. @param {string} name */
export function sideAndPart(name) {
  const found = name.match(/[A-Z]+(?![a-z])|[A-Z]?(?:(?![A-Z])\p{L})+|\p{Nd}+/gu) ?? [];
  const parts = found.flatMap((word) => {
    const low = word.toLowerCase();
    const glued = ["left", "right"].find((side) => low.startsWith(side)) ?? "";
    return [glued, low.slice(glued.length)].filter(Boolean);
  });
  const sides = parts.filter((part) => part in SIDES);
  if (sides.length !== 1) return ["", parts.join("_") || name];
  parts.splice(parts.indexOf(sides[0]), 1);
  return [SIDES[sides[0]], parts.join("_")];
}

/** @param {string} part */
function relativeWidth(part) {
  const [, name, number] = part.match(/^(.*)_(\d+)$/) ?? [];
  if (FINE_ALONE.has(part) || (number && FINE.has(name))) return FINE_WIDTH;
  return FACE.has(part) ? FACE_WIDTH : 1;
}

/** @param {import("./store.js").Model} model @returns {Look} the set's first edges are last, thus on top */
function makeLook(model) {
  const named = model.keypoints.map(sideAndPart);
  const widths = named.map(([, part]) => relativeWidth(part));
  const edges = [...model.edges].reverse().map(([a, b]) => {
    const sides = new Set([named[a][0], named[b][0]].filter(Boolean));
    const side = sides.size === 1 ? [...sides][0] : "";
    const leg = LEG.has(named[a][1]) && LEG.has(named[b][1]);
    return { a, b, colour: PALETTE[side][Number(leg)], width: Math.min(widths[a], widths[b]) };
  });
  return { colours: named.map(([side, part]) => PALETTE[side][Number(LEG.has(part))]), widths, edges };
}

const looks = new WeakMap();

/** @param {import("./store.js").Model} model @returns {Look} */
export function lookOf(model) {
  if (!looks.has(model)) looks.set(model, makeLook(model));
  return looks.get(model);
}

/** A light colour; consecutive ids are far apart on the colour circle (golden ratio). @param {number} id */
export function idColour(id) {
  const hue = (0.3 + 0.618034 * id) % 1;
  const channel = (n) => {
    const k = (n + 6 * hue) % 6;
    return Math.round(255 * (1 - 0.5 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return `rgb(${channel(5)} ${channel(3)} ${channel(1)})`;
}

/** "left_knee" -> "left knee", for people to read. @param {string} name */
export const readable = (name) => name.replaceAll("_", " ");
