/** Frames to the server by WebSocket, answers back. At most two are unanswered. */

import { Fault } from "./server.js";
import { token } from "./token.js";

const MOST_UNANSWERED = 2;

/** One frame was refused; others may not be. */
export class Refusal extends Fault {}

export class LiveSocket {
  /** @param {Object<string, string|number>} values of the query: model, track, smooth, min_person_score */
  constructor(values) {
    const address = new URL("./v1/live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = String(new URLSearchParams(Object.entries(values).map(([key, value]) => [key, String(value)])));
    /** @type {Map<number, {resolve: (text: string|null) => void, reject: (fault: Fault) => void}>} */
    this.unanswered = new Map();
    this.count = 0;
    this.socket = new WebSocket(address);
    this.opened = new Promise((resolve) => {
      this.socket.addEventListener("open", () => {
        if (token()) this.socket.send(JSON.stringify({ token: token() }));
        resolve(null);
      });
    });
    this.socket.addEventListener("message", ({ data }) => this.answered(data));
    /** Rejects when the connection is gone. @type {Promise<never>} */
    this.over = new Promise((_, reject) => {
      this.socket.addEventListener("close", ({ reason }) => {
        reject(new Fault(reason || "The server closed the connection. Is leanpose serve still running?"));
      });
    });
    this.over.catch(() => {}); // who waits for it is told; nobody may
  }

  /** Whether a frame would be worked on soon. */
  get ready() {
    return this.socket.readyState === WebSocket.OPEN && this.unanswered.size < MOST_UNANSWERED;
  }

  /** @param {Blob} frame an image file @returns {Promise<string|null>} JSON; null if the server left it out */
  async ask(frame) {
    await this.opened;
    return new Promise((resolve, reject) => {
      this.unanswered.set(this.count, { resolve, reject });
      this.count += 1;
      this.socket.send(frame);
    });
  }

  /** @param {string} text */
  answered(text) {
    const { frame, detail } = JSON.parse(text);
    for (const [number, { resolve, reject }] of this.unanswered) {
      if (number > frame) continue;
      this.unanswered.delete(number);
      if (number < frame) resolve(null);
      else if (detail) reject(new Refusal(detail));
      else resolve(text);
    }
  }

  close() {
    this.socket.close();
  }
}
