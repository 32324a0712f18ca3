// Lists what is being made and what waits, each with its way out.

import { element, reconcile } from "/page/lists.js";
import { statusLine } from "/page/stage.js";
import { active } from "/page/watch.js";

const section = document.getElementById("queue");
const list = document.getElementById("jobs");

/** Shows the jobs among ``videos``; ``cancel(id)`` is what their buttons do. */
export function showQueue(videos, cancel) {
  const waiting = videos.filter(active).sort(sooner);
  section.hidden = waiting.length === 0 && !section.contains(document.activeElement);
  reconcile(list, waiting, (video) => entry(video, cancel), update);
}

function entry(video, cancel) {
  const link = element("a", { href: `#${video.id}` }, element("strong"), element("small"));
  const button = element("button", { type: "button", onclick: () => cancel(video.id) }, "Cancel");
  button.setAttribute("aria-label", `Cancel: ${video.prompt}`);
  const bar = element("progress", { max: 100, hidden: true });
  bar.setAttribute("aria-label", `Progress: ${video.prompt}`);
  return element("li", {}, link, button, bar);
}

function update(node, video) {
  node.querySelector("strong").textContent = video.prompt;
  node.querySelector("small").textContent = statusLine(video);
  node.querySelector("button").disabled = video.wanrun.cancelling;
  const bar = node.querySelector("progress");
  bar.hidden = video.status !== "in_progress";
  bar.value = video.live?.progress ?? video.progress ?? 0;
}

function sooner(one, other) {
  return rank(one) - rank(other) || one.created_at - other.created_at;
}

function rank({ status, wanrun }) {
  return status === "in_progress" ? -1 : (wanrun.queue_position ?? 0);
}
