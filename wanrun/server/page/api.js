// Talks to the server that the page came from, and to nobody else.

import { apiKey, askForKey } from "/page/key.js";

/** What the server said no to, in its own words. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The response to a request with the key; raises Refused for an answer that is an error. */
export async function request(path, options = {}) {
  for (;;) {
    const key = apiKey();
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...options, headers });
    if (response.ok) return response;
    if (response.status !== 401) throw new Refused(await reason(response), response.status);
    await askForKey(key);
  }
}

export async function get(path, options) {
  return (await request(path, options)).json();
}

export async function send(path, body, options) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(body), ...options })).json();
}

export async function remove(path) {
  await request(path, { method: "DELETE" });
}

/** The events of one video as [name, data], until its end. */
export async function* follow(id, signal) {
  const response = await request(`/v1/videos/${id}/events`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (text + value).replaceAll("\r\n", "\n").split("\n\n");
    text = events.pop();
    for (const event of events) {
      const fields = event.split("\n").map((line) => line.split(/: ?(.*)/s));
      const data = fields.filter(([name]) => name === "data").map(([, part]) => part);
      if (data.length) yield [fields.find(([name]) => name === "event")?.[1], JSON.parse(data.join("\n"))];
    }
  }
}

const held = new Map();

/** A URL of a video or its thumbnail. Media elements cannot send a key: with one, it is fetched before. */
export async function media(id, variant) {
  const path = `/v1/videos/${id}/content?variant=${variant}`;
  if (!apiKey()) return path;
  if (!held.has(path)) held.set(path, request(path).then(async (got) => URL.createObjectURL(await got.blob())));
  return held.get(path);
}

/** Lets go of what was fetched of a video. */
export async function release(id) {
  for (const [path, url] of held) {
    if (path.startsWith(`/v1/videos/${id}/`)) {
      held.delete(path);
      URL.revokeObjectURL(await url);
    }
  }
}

async function reason(response) {
  try {
    const { error } = await response.json();
    return (typeof error === "string" ? error : error?.message) ?? response.statusText;
  } catch {
    return `The server answered ${response.status}.`;
  }
}
