/** The server: its networks, and poses of one image. Addresses are relative, so it may lie under any path. */

import { ask, token } from "./token.js";

const MOST_TRIES = 8;
const LONGEST_WAIT_S = 60;

/** What went wrong, as one sentence for people. */
export class Fault extends Error {}

/** Wait, unless it is given up. @param {number} ms @param {AbortSignal} [signal] */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

/** The sentence that the server gives as a reason. @param {Response} response */
async function detailOf(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return detail;
  } catch { /* no JSON: a proxy's page */ }
  return `The server answers with the fault ${response.status}.`;
}

/** Seconds to wait as the answer says. @param {Response} response */
function retryAfter(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? 1);
  return Number.isFinite(seconds) ? Math.max(0, Math.min(seconds, LONGEST_WAIT_S)) : 1;
}

/**
 * Send a request; asks for the token where it is needed, and tries again while the server is busy.
 * @param {string} path @param {RequestInit} options
 * @param {(note: string) => void} onWait told why it waits
 * @returns {Promise<Response>} an answer without fault
 */
async function send(path, options, onWait) {
  const signal = options.signal ?? undefined;
  for (let tries = 1; ; tries += 1) {
    const headers = token() ? { Authorization: `Bearer ${token()}` } : undefined;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Fault("The server does not answer. Is leanpose serve still running?");
    }
    if (response.ok) return response;
    if (response.status === 401 && (await ask())) continue;
    if (response.status !== 429 || tries === MOST_TRIES) throw new Fault(await detailOf(response));
    const seconds = retryAfter(response);
    onWait(`The server is busy. Trying again in ${Math.ceil(seconds)} s`);
    await pause(1000 * seconds, signal);
    onWait("");
  }
}

/** What GET v1/models says; null: there is no server, only files. @returns {Promise<Object|null>} */
export async function askModels() {
  try {
    const response = await send("./v1/models", {}, () => {});
    return await response.json();
  } catch {
    return null;
  }
}

/**
 * Find the poses of an image file.
 * @param {Blob} file @param {string} name
 * @param {Object<string, string|number>} values model and min_person_score
 * @param {{signal: AbortSignal, onWait: (note: string) => void}} options
 * @returns {Promise<string>} the JSON, byte for byte
 */
export async function askPoses(file, name, values, { signal, onWait }) {
  const body = new FormData();
  body.append("file", file, name);
  const query = new URLSearchParams(Object.entries(values).map(([key, value]) => [key, String(value)]));
  const response = await send(`./v1/poses?${query}`, { method: "POST", body, signal }, onWait);
  try {
    return await response.text();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Fault("The server broke off its answer. Is leanpose serve still running?");
  }
}

const MOST_UNANSWERED = 2;

/** Frames to the server by WebSocket, answers back. At most two are unanswered. */
export class LiveSocket {
  /**
   * @param {Object<string, string|number>} values of the query: model, track, smooth, min_person_score
   * @param {{onAnswer: (text: string, sent: any) => void, onRefused: (fault: Fault) => void, onFault: (fault: Fault) => void}}
   *     handlers `sent` is what was given with the frame; `onRefused` concerns one frame, `onFault` ends all
   */
  constructor(values, handlers) {
    const address = new URL("./v1/live", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = String(new URLSearchParams(Object.entries(values).map(([key, value]) => [key, String(value)])));
    address.hash = "";
    this.handlers = handlers;
    /** @type {Map<number, any>} */
    this.unanswered = new Map();
    this.count = 0;
    this.closed = false;
    this.socket = new WebSocket(address);
    this.socket.addEventListener("open", () => {
      if (token()) this.socket.send(JSON.stringify({ token: token() }));
    });
    this.socket.addEventListener("message", ({ data }) => this.answered(data));
    this.socket.addEventListener("close", ({ reason }) => {
      if (this.closed) return;
      this.closed = true;
      handlers.onFault(new Fault(reason || "The server closed the connection. Is leanpose serve still running?"));
    });
  }

  /** Whether a frame may be sent now. */
  get ready() {
    return this.socket.readyState === WebSocket.OPEN && this.unanswered.size < MOST_UNANSWERED;
  }

  /** @param {Blob} frame an image file @param {any} sent comes back with its answer */
  send(frame, sent) {
    this.unanswered.set(this.count, sent);
    this.count += 1;
    this.socket.send(frame);
  }

  /** @param {string} text */
  answered(text) {
    const { frame, detail } = JSON.parse(text);
    const sent = this.unanswered.get(frame);
    for (const number of this.unanswered.keys()) if (!(number > frame)) this.unanswered.delete(number);
    if (detail) this.handlers[frame === undefined ? "onFault" : "onRefused"](new Fault(detail));
    else this.handlers.onAnswer(text, sent);
  }

  close() {
    this.closed = true;
    this.socket.close();
  }
}
