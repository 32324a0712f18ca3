// Shows one video: how it comes about, then itself, and where it comes from.

import { get, media } from "/page/api.js";
import { shortName } from "/page/form.js";
import { element } from "/page/lists.js";
import { origins } from "/page/origins.js";
import { count, duration, joined, moment, phase, rate } from "/page/words.js";

const part = (id) => document.getElementById(id);
const [film, preview, notice, screen, bar] = ["film", "preview", "notice", "screen", "bar"].map(part);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
/** Frames that are smaller are shown with their pixels. */
const SMALL = 200;
const UNSEEN = "Your video will be here";
let showing = "";
let announced = "";

/** Has the stage show ``video``, or that there is none. */
export function showVideo(video) {
  const state = video ? `${video.id} ${video.status}` : "nothing";
  if (state !== showing) {
    showing = state;
    change(video);
  }
  if (video) advance(video);
}

/** Brings the stage into view, and the reader to its title. */
export function visitStage() {
  part("stage").scrollIntoView({ block: "nearest" });
  part("stage-title").focus({ preventScroll: true });
}

/** What a video has come to, in one line. */
export function statusLine(video) {
  if (video.status === "queued") return joined("Waiting", place(video));
  if (video.wanrun.cancelling) return "Stopping";
  if (video.status === "in_progress") return steps(video.live ?? {});
  return { completed: "Ready", failed: "Failed", cancelled: "Cancelled" }[video.status] ?? video.status;
}

function change(video) {
  const status = video?.status;
  const over = video && status !== "queued" && status !== "in_progress";
  part("stage-title").textContent = video ? (video.prompt) : UNSEEN;
  part("facts").textContent = video ? facts(video) : "";
  part("cancel").hidden = !video || over;
  part("again").hidden = part("delete").hidden = !over;
  part("download").hidden = part("provenance").hidden = status !== "completed";
  part("provenance").open = false;
  part("origins").replaceChildren();
  preview.hidden = true;
  preview.removeAttribute("src");
  preview.alt = "Preview";
  roll(status === "completed" ? video : null);
  notice.textContent = still(video);
  screen.classList.toggle("small", Boolean(video) && Math.max(...size(video)) <= SMALL);
  screen.style.setProperty("--shape", video ? size(video).join(" / ") : "16 / 9");
}

async function roll(video) {
  film.hidden = true;
  film.pause();
  film.removeAttribute("src");
  film.load();
  if (!video) return;
  const before = showing;
  const source = await media(video.id, "video").catch((error) => showing === before && refuse(error));
  if (!source || showing !== before) return;
  part("download").href = source;
  part("download").download = `${video.id}.${video.wanrun.format}`;
  // a gif is a picture to a browser, and has no controls
  const frame = video.wanrun.format === "gif" ? preview : film;
  preview.alt = video.prompt;
  frame.src = source;
  frame.hidden = false;
  film.setAttribute("aria-label", video.prompt);
  // a browser may decline to play; there are controls
  if (frame === film && !calm.matches) film.play().catch(() => {});
}

/** Says why there is no film; the next look at the server's videos does not. */
function refuse(error) {
  notice.textContent = error.message;
}

async function explain() {
  const before = showing;
  if (!part("provenance").open) return;
  const rows = await get(`/v1/videos/${before.split(" ")[0]}/provenance`).then(origins, (error) => [["Unknown", error.message]]);
  if (showing === before) part("origins").replaceChildren(...definitions(rows));
}

function advance(video) {
  const running = video.status === "in_progress";
  const live = video.live ?? {};
  bar.hidden = !running;
  bar.value = live.progress ?? video.progress;
  part("phase").hidden = !running && video.status !== "queued";
  part("phase").textContent = part("phase").hidden ? "" : statusLine(video);
  part("cancel").disabled = video.wanrun.cancelling;
  if (running && live.preview) {
    preview.src = live.preview;
    preview.hidden = false;
    notice.textContent = "";
  }
  announce(video);
}

function announce(video) {
  const quarter = Math.floor((video.live?.progress ?? 0) / 25) * 25;
  const words =
    video.status === "in_progress"
      ? joined(phase(video.live?.phase), quarter ? `${quarter} percent` : "")
      : joined(statusLine(video), video.error?.message);
  const said = `${video.id} ${words}`;
  if (said === announced) return;
  announced = said;
  part("said").textContent = words;
}

function still(video) {
  if (!video) return "Write what you want to see.";
  if (video.status === "failed") return video.error?.message ?? "It failed.";
  return { queued: "Waiting for its turn", in_progress: "Starting", cancelled: "Cancelled" }[video.status] ?? "";
}

function steps(live) {
  const step = live.steps ? `${live.phase === "decode" ? "frame" : "step"} ${live.step} of ${live.steps}` : "";
  const left = live.seconds_left == null ? "" : `${duration(live.seconds_left)} left`;
  return joined(phase(live.phase), step, live.rate ? rate(live.rate) : "", left);
}

function place({ wanrun }) {
  return wanrun.queue_position ? `${count(wanrun.queue_position, "video")} before it` : "";
}

function facts(video) {
  const { frames, steps: all, seed } = video.wanrun;
  return joined(
    shortName(video.model),
    size(video).join(" × "),
    frames && count(frames, "frame"),
    all && count(all, "step"),
    seed != null && `seed ${seed}`,
    moment(video.completed_at ?? video.created_at),
  );
}

function size(video) {
  return video.size.split("x").map(Number);
}

function definitions(pairs) {
  return pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
}

part("provenance").addEventListener("toggle", explain);
