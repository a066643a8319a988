/** A clip: all its frames to poses, one after another; then it plays with the poses of each frame. */

import { openFeed, shotOf } from "./frames.js";
import { Fault } from "./server.js";
import { item, patch } from "./store.js";

const USUAL_RATE = 30; // frames per second, where the browser does not tell
const WATCHED = 16; // frames from which the frame rate is told
const LONGEST_WATCH_MS = 1500;

/** @type {Map<number, {video: HTMLVideoElement, period: number}>} */
const clips = new Map();

/** @param {EventTarget} target @param {string} type @param {AbortSignal} signal */
function once(target, type, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    target.addEventListener(type, resolve, { once: true });
    target.addEventListener("error", () => reject(new Fault("The clip cannot be read.")), { once: true });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** @param {HTMLVideoElement} video @param {number} time seconds @param {AbortSignal} signal */
async function seek(video, time, signal) {
  const there = once(video, "seeked", signal);
  video.currentTime = time;
  await there;
}

/** @param {import("./store.js").Item} one @param {AbortSignal} signal @returns {Promise<HTMLVideoElement>} */
async function open({ file, name }, signal) {
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  video.preload = "auto";
  video.src = URL.createObjectURL(/** @type {Blob} */ (file));
  try {
    await once(video, "loadeddata", signal);
    if (!Number.isFinite(video.duration)) await seek(video, 1e9, signal); // recorded by a browser: no length inside
  } catch (error) {
    URL.revokeObjectURL(video.src);
    if (signal.aborted) throw error;
    throw new Fault(`This browser cannot play ${name}. MP4 (H.264) and WebM work in most.`);
  }
  return video;
}

/** Seconds from frame to frame, seen while the clip plays for a moment. @param {HTMLVideoElement} video */
async function periodOf(video) {
  if (!("requestVideoFrameCallback" in video)) return 1 / USUAL_RATE;
  video.currentTime = 0;
  const times = [];
  await new Promise((resolve) => {
    const watch = (_, { mediaTime }) => {
      times.push(mediaTime);
      if (times.length < WATCHED) video.requestVideoFrameCallback(watch);
      else resolve(null);
    };
    video.requestVideoFrameCallback(watch);
    video.addEventListener("ended", resolve, { once: true });
    setTimeout(resolve, LONGEST_WATCH_MS);
    video.play().catch(resolve);
  });
  video.pause();
  const gaps = times.slice(1).map((time, i) => time - times[i]).filter((gap) => gap > 1e-3).sort((a, b) => a - b);
  return gaps.length ? gaps[Math.floor(gaps.length / 4)] : 1 / USUAL_RATE;
}

/**
 * @param {import("./store.js").Item} one
 * @param {import("./jobs.js").Options} options
 * @returns {Promise<Partial<import("./store.js").Item>>}
 */
export async function runClip(one, { signal, onNote }) {
  onNote("Reading the clip", null);
  const { video, period } = clips.get(one.id) ?? (await prepare(one, signal));
  video.pause();
  const count = Math.max(1, Math.round(video.duration / period));
  const frames = [];
  patch(one.id, { frames });
  let wake = () => {};
  let fault = null;
  const onAnswer = (answer, { canvas, time }) => {
    frames.push({ ...answer, time });
    if (!signal.aborted) patch(one.id, { answer: frames[frames.length - 1], source: canvas });
    onNote(`Frame ${frames.length} of ${count}`, frames.length / count);
    wake();
  };
  const onFault = (error) => {
    fault = error;
    wake();
  };
  const feed = await openFeed(one.name, "off", { onAnswer, onRefused: onFault, onFault }, onNote);
  const stop = () => wake();
  signal.addEventListener("abort", stop);
  /** @param {() => boolean} enough */
  const until = async (enough) => {
    while (!enough() && !fault && !signal.aborted) {
      await new Promise((resolve) => {
        wake = () => resolve(null);
        setTimeout(resolve, 20); // the connection may still be opening
      });
    }
    if (fault) throw fault;
  };
  try {
    for (let i = 0; i < count && !signal.aborted; i += 1) {
      await seek(video, Math.min((i + 0.5) * period, video.duration), signal);
      const shot = shotOf(video, i * period);
      await until(() => frames.length === i && feed.ready()); // one on its way, so that the server drops none
      await feed.send({ ...shot, began: performance.now() });
    }
    await until(() => frames.length === count);
    return { source: video, answer: frames[0], facts: factsOf(frames, period) };
  } finally {
    feed.close();
    signal.removeEventListener("abort", stop);
    if (frames.length) patch(one.id, { source: video, facts: factsOf(frames, period) });
    showFrame(one.id, 0);
  }
}

/** @param {import("./store.js").Item} one @param {AbortSignal} signal */
async function prepare(one, signal) {
  const video = await open(one, signal);
  const clip = { video, period: await periodOf(video) };
  clips.set(one.id, clip);
  for (const type of ["play", "pause"]) video.addEventListener(type, () => patch(one.id, {})); // the button tells
  return clip;
}

const factsOf = (frames, period) => `${frames.length} frames, ${(1 / period).toFixed(period < 0.1 ? 0 : 1)} per second`;

/** Position of the frame that a clip shows. @param {import("./store.js").Item} one */
export const frameOf = (one) => Math.max(0, one.answer ? one.frames.indexOf(one.answer) : 0);

/** Go to a frame. @param {number} id @param {number} frame */
export function showFrame(id, frame) {
  const clip = clips.get(id);
  const answer = item(id)?.frames[frame];
  if (!clip || !answer) return;
  clip.video.addEventListener("seeked", () => patch(id, { answer }), { once: true });
  clip.video.currentTime = (answer.time ?? 0) + clip.period / 2;
}

/** Play or pause; the poses follow the frames. @param {number} id */
export function togglePlay(id) {
  const clip = clips.get(id);
  const one = item(id);
  if (!clip || !one?.frames.length) return;
  const { video, period } = clip;
  if (!video.paused) return video.pause();
  const last = one.frames.length - 1;
  if (frameOf(one) >= last) video.currentTime = 0;
  const follow = (time) => {
    const frame = Math.min(Math.floor((time + 1e-3) / period), last);
    patch(id, { answer: item(id)?.frames[frame] ?? null });
    if (frame >= last) video.pause();
  };
  const step = (_, metadata) => {
    follow(metadata?.mediaTime ?? video.currentTime);
    if (!video.paused) next();
  };
  const next = () => ("requestVideoFrameCallback" in video ? video.requestVideoFrameCallback(step) : requestAnimationFrame(step));
  next();
  video.play();
}

/** @param {number} id @returns {boolean} */
export const isPlaying = (id) => clips.get(id)?.video.paused === false;

/** Forget clips that are gone. @param {import("./store.js").State} state */
export function forgetClips({ items }) {
  for (const [id, { video }] of clips) {
    if (items.some((one) => one.id === id)) continue;
    video.pause();
    URL.revokeObjectURL(video.src);
    clips.delete(id);
  }
}
