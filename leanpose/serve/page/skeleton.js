/** Draw persons onto a canvas, as leanpose/io/draw.py does: dark casing, light rim, opacity by score. */

import { CASING, RIM, idColour, lookOf } from "./look.js";

/** @typedef {import("./store.js").Answer} Answer */
/** @typedef {{x: number, y: number, score: number, opacity: number}} Point of the image, opacity 0 if not shown */
/** @typedef {{minScore: number, minPersonScore: number}} Thresholds */

const LIMB_WIDTH = 0.018; // of the person's size
const THINNEST = 1 / 800; // limb width as a part of the image's longer side
const THICKEST = 1 / 75;
const CONFIDENT_SCORE = 0.6; // from here on a keypoint is opaque
const FAINTEST = 0.3; // opacity at the least score

/**
 * The K keypoints of a person in the order of the set; absent ones are null.
 * @param {Answer} answer @param {number} person position @param {number} minScore
 * @returns {(Point|null)[]}
 */
export function pointsOf({ result, model }, person, minScore) {
  const { keypoints } = result.persons[person];
  const range = Math.max(minScore, CONFIDENT_SCORE) - minScore;
  return model.keypoints.map((name) => {
    const point = keypoints[name];
    if (!point) return null;
    const { x, y, score } = point;
    const inside = x >= -0.5 && y >= -0.5 && x <= result.width - 0.5 && y <= result.height - 0.5;
    const shown = score >= minScore && (inside || !model.calibrated);
    const strength = range > 0 ? Math.min((score - minScore) / range, 1) : 1;
    return { x, y, score, opacity: shown ? FAINTEST + (1 - FAINTEST) * strength : 0 };
  });
}

/** Positions of the persons that are shown. @param {Answer} answer @param {Thresholds} thresholds */
export const personsOf = ({ result }, { minPersonScore }) =>
  [...result.persons.keys()].filter((i) => result.persons[i].score >= minPersonScore);

/** The box's longer side, but at most 1.5 times the keypoints' extent. */
function sizeOf(points, [left, top, right, bottom]) {
  const shown = points.filter((point) => point?.opacity > 0);
  if (!shown.length) return 0;
  const extent = (axis) => Math.max(...shown.map((p) => p[axis])) - Math.min(...shown.map((p) => p[axis]));
  return Math.min(Math.max(right - left, bottom - top), 1.5 * Math.max(extent("x"), extent("y")));
}

/** A second canvas per canvas, on which one person is drawn before it is laid over the others. */
const layers = new WeakMap();

function layerOf(canvas) {
  if (!layers.has(canvas)) layers.set(canvas, new OffscreenCanvas(1, 1));
  const layer = layers.get(canvas);
  if (layer.width !== canvas.width || layer.height !== canvas.height) {
    layer.width = canvas.width;
    layer.height = canvas.height;
  }
  return layer.getContext("2d");
}

/** Paint a line with round ends, one coat [radius, colour] over another; it covers what was there. */
function stroke(ctx, a, b, coats, opacity) {
  ctx.beginPath();
  ctx.moveTo(a.x, a.y);
  ctx.lineTo(b.x, b.y === a.y && b.x === a.x ? b.y + 1e-3 : b.y);
  for (const [radius, colour] of coats) {
    ctx.lineWidth = 2 * radius;
    ctx.strokeStyle = colour;
    if (opacity < 1) {
      ctx.globalAlpha = 1;
      ctx.globalCompositeOperation = "destination-out";
      ctx.stroke();
    }
    ctx.globalAlpha = opacity;
    ctx.globalCompositeOperation = "source-over";
    ctx.stroke();
  }
}

function drawPerson(ctx, points, look, width, pixel) {
  const casing = Math.max(0.9 * pixel, 0.17 * width);
  const opacityOf = ({ a, b }) => Math.min(points[a]?.opacity ?? 0, points[b]?.opacity ?? 0);
  const edges = look.edges.filter((edge) => opacityOf(edge) > 0).sort((e, f) => opacityOf(e) - opacityOf(f));
  for (const edge of edges) {
    const radius = (edge.width * width) / 2;
    stroke(ctx, points[edge.a], points[edge.b], [[radius + casing, CASING], [radius, edge.colour]], opacityOf(edge));
  }
  const shown = [...points.keys()].filter((k) => points[k]?.opacity > 0);
  for (const k of shown.sort((j, l) => points[j].opacity - points[l].opacity)) {
    const radius = look.widths[k] * width * 0.85;
    const coats = [[radius + casing, CASING], [radius, RIM], [0.62 * radius, look.colours[k]]];
    stroke(ctx, points[k], points[k], coats, points[k].opacity);
  }
}

/** A text in a pill on the box's top edge, moved into the image where it would be cut. */
function drawLabel(ctx, { width, height }, box, text, colour, size) {
  ctx.lineCap = "round";
  ctx.font = `600 ${size}px system-ui, sans-serif`;
  const [left, top] = box;
  const long = ctx.measureText(text).width;
  const radius = 0.72 * size;
  const x = Math.max(radius, Math.min(left + radius, width - 1 - radius - long));
  const y = Math.max(radius + 1, Math.min(top - radius, height - 2 - radius));
  const ends = [{ x, y }, { x: x + long, y }];
  stroke(ctx, ...ends, [[radius + size / 14, CASING], [radius, colour]], 1);
  ctx.fillStyle = CASING;
  ctx.textBaseline = "middle";
  ctx.fillText(text, x, y + 0.06 * size);
}

/**
 * Draw the persons of an answer. Large ones lie on top of small ones; those with ids carry a label.
 * @param {HTMLCanvasElement|OffscreenCanvas} canvas on which the image lies already
 * @param {number} scale pixels of the canvas per pixel of the image
 * @param {Answer} answer
 * @param {Thresholds} thresholds
 * @param {number} pixel pixels of the canvas that look like one: more than 1 on dense screens
 */
export function drawSkeletons(canvas, scale, answer, thresholds, pixel = 1) {
  const ctx = canvas.getContext("2d");
  const layer = layerOf(canvas);
  const { result, model } = answer;
  const unit = pixel / scale; // one visible pixel, in pixels of the image
  const longer = Math.max(result.width, result.height);
  const persons = personsOf(answer, thresholds).map((i) => {
    const points = pointsOf(answer, i, thresholds.minScore);
    const size = sizeOf(points, result.persons[i].box_xyxy);
    const width = Math.max(Math.min(size * LIMB_WIDTH, longer * THICKEST), longer * THINNEST, 2 * unit);
    return { ...result.persons[i], points, size, width };
  });
  const shown = persons.filter(({ size }) => size > 0).sort((p, q) => p.size - q.size);
  for (const { points, width } of shown) {
    layer.setTransform(1, 0, 0, 1, 0, 0);
    layer.clearRect(0, 0, canvas.width, canvas.height);
    layer.setTransform(scale, 0, 0, scale, 0.5 * scale, 0.5 * scale); // pixel centers lie at whole numbers
    layer.lineCap = "round";
    drawPerson(layer, points, lookOf(model), width, unit);
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.drawImage(layer.canvas, 0, 0);
  }
  ctx.setTransform(scale, 0, 0, scale, 0.5 * scale, 0.5 * scale);
  for (const { id, box_xyxy, width } of shown) {
    if (id !== undefined) drawLabel(ctx, result, box_xyxy, String(id), idColour(id), Math.max(13 * unit, 1.4 * width));
  }
}
