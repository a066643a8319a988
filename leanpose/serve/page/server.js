/** The server: its networks, and poses of one image. Addresses are relative, so it may lie under any path. */

import { ask, authorization } from "./token.js";

const MOST_TRIES = 8;
const LONGEST_WAIT_S = 60;

/** What went wrong, as one sentence for people. */
export class Fault extends Error {}

/** The server asks for its token, and nobody gives it. */
export class NoTokenFault extends Fault {}

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
    let response;
    try {
      response = await fetch(path, { ...options, headers: authorization() });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Fault("The server does not answer. Is leanpose serve still running?");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (await ask()) continue;
      throw new NoTokenFault("This server works only for those who give its token.");
    }
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
  } catch (error) {
    if (error instanceof NoTokenFault) throw error;
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
