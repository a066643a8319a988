/** The server's token: taken from the address's fragment (#token=...) or asked for, kept for this tab. */

import { part } from "./dom.js";

const KEY = "leanpose-token";
/** @type {Promise<boolean>|null} */
let asking = null;

/** @returns {string|null} */
export const token = () => sessionStorage.getItem(KEY);

/** What is sent with requests to the server. @returns {Object<string, string>} */
export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** Move the token out of the address, so that it is neither bookmarked nor shared. */
export function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname + location.search);
}

/**
 * Ask for the token, since the server did not take what it got; who asks meanwhile waits for the same one.
 * @returns {Promise<boolean>} whether one was given
 */
export function ask() {
  asking ??= new Promise((resolve) => {
    const dialog = part("token");
    const input = part("token-input");
    input.value = "";
    part("token-wrong").hidden = token() === null;
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "ok" && input.value.trim() !== "";
      if (given) sessionStorage.setItem(KEY, input.value.trim());
      asking = null;
      resolve(given);
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
