/** Clips whose frames have poses: they play, and the poses follow. */

import { item, patch } from "./store.js";

/** By item, with the seconds from frame to frame. @type {Map<number, {video: HTMLVideoElement, period: number}>} */
export const clips = new Map();

/**
 * Call back with the next frame that a video shows.
 * @param {HTMLVideoElement} video
 * @param {(time: number, metadata?: any) => void} callback
 */
export function nextFrame(video, callback) {
  if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(callback);
  else requestAnimationFrame(callback);
}

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
  if (!video.paused) {
    video.pause();
    return;
  }
  const last = one.frames.length - 1;
  if (frameOf(one) >= last) video.currentTime = 0;
  const follow = (_, metadata) => {
    const time = metadata?.mediaTime ?? video.currentTime;
    const frame = Math.min(Math.floor((time + 1e-3) / period), last);
    patch(id, { answer: item(id)?.frames[frame] ?? null });
    if (frame >= last) video.pause();
    if (!video.paused) nextFrame(video, follow);
  };
  nextFrame(video, follow);
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
