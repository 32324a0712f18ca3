// Knows every video: the list comes from the server again and again, progress as it happens.

import { follow, get } from "/page/api.js";

const BUSY_MS = 1500;
const IDLE_MS = 6000;
const PAGE = 100;
const newest = { videos: [], more: false };
let older = [];
let timer = 0;
let changed = () => {};
let lost = () => {};
const progress = new Map();
const followed = new Set();

/** Starts to look; ``onChange`` is called after every change, ``onLoss`` with whether the server is gone. */
export function watch(onChange, onLoss) {
  [changed, lost] = [onChange, onLoss];
  document.addEventListener("visibilitychange", () => document.hidden || look());
  return look();
}

/** All videos, the newest first; what is known of their progress is in ``live``. */
export function videos() {
  const listed = new Set(newest.videos.map(({ id }) => id));
  const all = [...newest.videos, ...older.filter(({ id }) => !listed.has(id))];
  return all.map((video) => (progress.has(video.id) ? { ...video, live: progress.get(video.id) } : video));
}

export function moreVideos() {
  return newest.more;
}

/** Gets the next older ones. */
export async function lookBack() {
  const last = videos().at(-1);
  const page = await get(`/v1/videos?limit=${PAGE}&after=${last.id}`);
  older = [...older, ...page.data];
  newest.more = page.has_more;
  changed();
}

/** Looks now, and then again. */
export async function look() {
  clearTimeout(timer);
  try {
    const page = await get(`/v1/videos?limit=${PAGE}`);
    // newer ones push others off the page, which then belong to the older ones that are shown
    if (older.length) older = [...newest.videos.filter(pushedOff(page.data)), ...older];
    newest.videos = page.data;
    if (!older.length) newest.more = page.has_more;
    lost(false);
  } catch {
    lost(true);
  }
  changed();
  newest.videos.filter(({ status }) => status === "in_progress").forEach(({ id }) => listen(id));
  clearTimeout(timer);
  timer = setTimeout(look, newest.videos.some(active) ? BUSY_MS : IDLE_MS);
}

/** Forgets a video that was deleted. */
export function forget(id) {
  newest.videos = newest.videos.filter((video) => video.id !== id);
  older = older.filter((video) => video.id !== id);
  changed();
}

export function active({ status }) {
  return status === "queued" || status === "in_progress";
}

function pushedOff(page) {
  const listed = new Set(page.map(({ id }) => id));
  const last = page.at(-1)?.created_at ?? Infinity;
  return ({ id, created_at }) => !listed.has(id) && created_at <= last;
}

async function listen(id) {
  if (followed.has(id)) return;
  followed.add(id);
  try {
    for await (const [name, data] of follow(id)) {
      if (name === "progress") {
        // a preview stays until there is a better one
        progress.set(id, { ...data, preview: data.preview ?? progress.get(id)?.preview });
        changed();
      }
    }
    await look();
  } catch {
    // the next look begins again
  } finally {
    followed.delete(id);
    progress.delete(id);
  }
}
