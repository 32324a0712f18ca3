// Puts the page together: what comes from the server goes to the parts, what people do goes to the server.

import { release, remove, send } from "/page/api.js";
import { check, keep, loadDefaults, loadModels, readOrder, reuse, showLength } from "/page/form.js";
import { showGallery } from "/page/gallery.js";
import { videoOrder } from "/page/orders.js";
import { planSoon } from "/page/plan.js";
import { showQueue } from "/page/queue.js";
import { showVideo, visitStage } from "/page/stage.js";
import { active, forget, look, lookBack, moreVideos, videos, watch } from "/page/watch.js";
import { count } from "/page/words.js";

const part = (id) => document.getElementById(id);
const form = part("order");
const start = part("start");
let shown = "";

/** The video on the stage: the one in the address, else what is being made, else the newest. */
function chosen(all) {
  const find = (test) => all.find(test);
  return (
    find(({ id }) => id === location.hash.slice(1)) ??
    find(({ id }) => id === shown) ??
    find(({ status }) => status === "in_progress") ??
    find(({ status }) => status === "completed") ??
    all[0]
  );
}

function show() {
  const all = videos();
  const video = chosen(all);
  shown = video?.id ?? "";
  showVideo(video);
  showQueue(all, cancel);
  showGallery(all, shown, moreVideos());
  const running = all.find(({ status }) => status === "in_progress");
  const percent = running && (running.live?.progress ?? running.progress);
  document.title = running ? `${percent} % · wanrun` : "wanrun";
}

let gone = false;

function lost(isGone) {
  const waiting = videos().filter(active).length;
  const state = isGone ? "The server does not answer. Trying again." : waiting ? `${count(waiting, "video")} to make` : "";
  if (part("state").textContent !== state) part("state").textContent = state;
  if (gone && !isGone) attempt(loadModels);
  gone = isGone;
}

/** Does what somebody asked for, and says what was wrong with it. */
async function attempt(act) {
  part("mistake").textContent = "";
  try {
    await act();
  } catch (error) {
    part("mistake").textContent = error.message;
    part("mistake").scrollIntoView({ block: "nearest" });
  }
}

async function make() {
  if (start.disabled || !check()) return;
  start.disabled = true;
  await attempt(async () => {
    const { id } = await send("/v1/videos", videoOrder(readOrder()));
    history.pushState(null, "", `#${id}`);
    await look();
    part("stage").scrollIntoView({ block: "nearest" });
  });
  start.disabled = false;
}

function cancel(id) {
  return attempt(async () => {
    await send(`/v1/videos/${id}/cancel`, {});
    await look();
  });
}

function removeShown() {
  const id = shown;
  if (!confirm("Delete this video for good?")) return;
  attempt(async () => {
    await remove(`/v1/videos/${id}`);
    history.replaceState(null, "", location.pathname);
    shown = "";
    await release(id);
    forget(id);
    visitStage();
  });
}

function changed() {
  keep();
  showLength();
  const order = readOrder();
  if (order.model) planSoon(order);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  make();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) make();
});
form.addEventListener("input", (event) => event.target.name !== "model" && changed());
part("model").addEventListener("change", () => attempt(loadDefaults));
part("defaults").addEventListener("click", () => attempt(loadDefaults));
part("cancel").addEventListener("click", () => cancel(shown));
part("delete").addEventListener("click", removeShown);
part("again").addEventListener("click", () => attempt(() => reuse(videos().find(({ id }) => id === shown))));
part("older").addEventListener("click", () => attempt(lookBack));
addEventListener("popstate", show);
addEventListener("hashchange", () => {
  show();
  visitStage();
});
// a link to where the address is already changes nothing, but its reader wants to go there
document.addEventListener("click", ({ target }) => {
  if (target.closest("a")?.getAttribute("href") === location.hash) visitStage();
});

// somebody may have pulled one meanwhile
addEventListener("focus", () => loadModels().catch(() => {}));

attempt(loadModels);
watch(show, lost);
