/** A clip: all its frames to poses, one after another. */

import { abortOf, openFeed, shotOf } from "./frames.js";
import { clips, showFrame } from "./player.js";
import { Fault } from "./server.js";
import { patch } from "./store.js";

const USUAL_RATE = 30; // frames per second, where the browser does not tell
const WATCHED = 16; // frames from which the frame rate is told
const LONGEST_WATCH_MS = 1500;

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

/** @param {import("./store.js").Item} one @param {AbortSignal} signal */
async function prepare(one, signal) {
  const known = clips.get(one.id);
  if (known) return known;
  const video = await open(one, signal);
  const clip = { video, period: await periodOf(video) };
  clips.set(one.id, clip);
  for (const type of ["play", "pause"]) video.addEventListener(type, () => patch(one.id, {})); // the button tells
  return clip;
}

const factsOf = (frames, period) => `${frames.length} frames, ${(1 / period).toFixed(period < 0.1 ? 0 : 1)} per second`;

/**
 * @param {import("./store.js").Item} one
 * @param {import("./jobs.js").Options} options
 * @returns {Promise<Partial<import("./store.js").Item>>}
 */
export async function runClip(one, { signal, onNote }) {
  onNote("Reading the clip", null);
  const { video, period } = await prepare(one, signal);
  video.pause();
  const count = Math.max(1, Math.round(video.duration / period));
  const frames = [];
  patch(one.id, { frames });
  const feed = await openFeed(one.name, "off", onNote);
  const ended = Promise.race([feed.over, abortOf(signal)]);
  const grab = async (frame) => {
    await seek(video, Math.min((frame + 0.5) * period, video.duration), signal);
    return shotOf(video, frame * period);
  };
  try {
    let shot = await grab(0);
    for (let i = 0; i < count; i += 1) {
      const both = Promise.all([feed.ask(shot), i + 1 < count ? grab(i + 1) : shot]); // one on its way, none is dropped
      const [answer, next] = await Promise.race([both, ended]);
      frames.push({ ...answer, time: shot.time });
      patch(one.id, { answer: frames[i], source: shot.canvas, facts: factsOf(frames, period) });
      onNote(`Finding persons, frame ${i + 1} of ${count}`, (i + 1) / count);
      shot = next;
    }
  } finally { // what was found is kept, whatever ends it
    feed.close();
    if (frames.length) patch(one.id, { source: video });
    showFrame(one.id, 0);
  }
  return { answer: frames[0] };
}
