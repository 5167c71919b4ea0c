// Talks to the server this page came from. The key (if any) lives in this tab only and travels in a header, so no
// other site can make the browser send it.
const KEY = "saccade-key";
const base = new URL(".", document.baseURI).href.replace(/\/$/, "");

export const origin = base;

// A model's name as it stands in an address.
export const inPath = (name) => name.split("/").map(encodeURIComponent).join("/");

export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

// Who wants to know when the server is gone ("lost") or knows the key no more ("refused").
const listeners = new Set();

export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(what) {
  for (const listener of listeners) listener(what);
}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function call(path, { method = "GET", json, body, headers = {}, signal } = {}) {
  // The custom header marks a request as this console's: pages of other sites cannot send it unasked.
  const sent = { "x-saccade-console": "1", ...headers };
  if (key()) sent.authorization = `Bearer ${key()}`;
  if (json !== undefined) {
    sent["content-type"] = "application/json";
    body = JSON.stringify(json);
  }
  if (/[^\x20-\x7e]/.test(key())) {
    // No key has such letters, and no header can carry them.
    if (path !== "/v1/session") tell("refused");
    throw new ApiError(401, "This key is not known.");
  }
  let answer;
  try {
    answer = await fetch(base + path, { method, body, headers: sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (await gone(body)) throw new ApiError(400, "The file was changed or removed since it was chosen. Choose it again.");
    tell("lost");
    throw new ApiError(0, "The server does not answer.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "/v1/session") tell("refused");
  throw new ApiError(answer.status, comeback(await reason(answer), answer));
}

// Whether a file of a form cannot be read any more; browsers tell that as they tell a lost server.
async function gone(body) {
  const files = body instanceof FormData ? [...body.values()].filter((value) => value instanceof Blob) : [];
  return Promise.all(files.map((file) => file.slice(0, 1).arrayBuffer())).then(() => false, () => true);
}

export async function get(path, options) {
  return whole((await call(path, options)).json());
}

// What an answer holds, or why it did not come to its end.
export async function whole(reading) {
  try {
    return await reading;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (await alive()) throw cut();
    tell("lost");
    throw new ApiError(0, "The server does not answer.");
  }
}

// Something between this browser and the server ended an answer too early.
export const cut = () => new ApiError(502, "The answer broke off before its end. Try again.");

export async function send(method, path, json) {
  const answer = await call(path, { method, json });
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

// Yields one object per line as lines arrive.
export async function* lines(path, options) {
  const answer = await call(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await whole(reader.read());
    rest += value ?? "";
    const parts = rest.split("\n");
    rest = done ? "" : parts.pop();
    for (const part of parts) if (part.trim()) yield JSON.parse(part);
    if (done) return;
  }
}

// Whether the server answers anything at all.
export async function alive() {
  try {
    await fetch(`${base}/health`, { cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}

// Of a limit that is used up, also when to come back; some answers say so themselves.
function comeback(text, { status, headers }) {
  const wait = status === 429 && Number(headers.get("retry-after"));
  if (!wait || text.includes("Try again")) return text;
  return wait < 120 ? `${text}. Try again in ${wait} seconds.` : `${text}. Try again in ${Math.ceil(wait / 60)} minutes.`;
}

async function reason(answer) {
  const text = await answer.text();
  try {
    const said = JSON.parse(text);
    return said.error ?? said.message ?? text;
  } catch {
    // A proxy in between has pages of its own.
    return !text || text.trimStart().startsWith("<") ? `The server answered ${answer.status}.` : text.slice(0, 500);
  }
}
