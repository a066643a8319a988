/** Work through the items: two at once on a server, one on this device; the camera as long as it is on the stage. */

import { runCamera } from "./camera.js";
import { runClip } from "./clip.js";
import { poses } from "./predict.js";
import { Fault } from "./server.js";
import { get, item, patch, set, subscribe } from "./store.js";

/** @typedef {import("./store.js").Item} Item */
/** @typedef {{signal: AbortSignal, onNote: (note: string, progress: number|null) => void}} Options */

/** @type {Object<string, (one: Item, options: Options) => Promise<Partial<Item>>>} */
const RUN = {
  image: async (one, options) => ({ answer: await poses(one, options) }),
  clip: runClip,
  camera: runCamera,
};
/** @type {Map<number, AbortController>} */
const running = new Map();

/** What an item becomes when its work was cut off. @param {Item|undefined} one @returns {Partial<Item>} */
function whenCancelled(one) {
  if (one?.answer) return { state: "done", note: "", progress: null };
  return { state: "failed", fault: one?.kind === "camera" ? "The camera is off." : "Cancelled." };
}

/** @param {unknown} error */
function sentenceOf(error) {
  if (error instanceof Fault) return error.message;
  console.error(error);
  return `The page could not do this: ${error instanceof Error ? error.message : error}`;
}

/** @param {Item} one */
async function run(one) {
  const controller = new AbortController();
  const { signal } = controller;
  running.set(one.id, controller);
  patch(one.id, { state: "working", note: "", progress: null, fault: "" });
  const onNote = (note, progress = null) => signal.aborted || patch(one.id, { note, progress });
  /** @type {Partial<Item>} */
  let end;
  try {
    end = { state: "done", note: "", progress: null, ...(await RUN[one.kind](one, { signal, onNote })) };
  } catch (error) {
    end = signal.aborted ? whenCancelled(item(one.id)) : { state: "failed", fault: sentenceOf(error) };
  }
  if (running.get(one.id) !== controller) return; // it runs anew, or is gone
  running.delete(one.id);
  patch(one.id, end);
}

/** Begin what waits, and end what nobody looks at. @param {import("./store.js").State} state */
function advance({ items, where, model, selected }) {
  for (const [id, controller] of running) {
    const one = item(id);
    if (!one) running.delete(id);
    if (!one || (one.kind === "camera" && selected !== id)) controller.abort();
  }
  const most = where === "server" ? 2 : 1;
  const waiting = model ? items.filter((one) => one.state === "waiting") : [];
  waiting.sort((a, b) => Number(b.id === selected) - Number(a.id === selected));
  for (const one of waiting) {
    if (one.kind === "camera" || running.size < most) run(one);
  }
}

export const mountJobs = () => subscribe(advance);

/** Cut off the work on an item. @param {number} id */
export const cancel = (id) => running.get(id)?.abort();

/** Do the work anew, of one item or of all: another network, another place, a lower score. @param {number|null} id */
export function again(id = null) {
  const concerned = get().items.filter((one) => (id === null ? one.file || running.has(one.id) : one.id === id));
  for (const one of concerned) {
    running.get(one.id)?.abort();
    running.delete(one.id);
  }
  const ids = new Set(concerned.map((one) => one.id));
  set({ items: get().items.map((one) => (ids.has(one.id) ? { ...one, state: "waiting", fault: "" } : one)) });
}
