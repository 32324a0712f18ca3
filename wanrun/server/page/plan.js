// Says what the video would take before it is made, while the settings change.

import { send } from "/page/api.js";
import { apply, offers } from "/page/form.js";
import { element } from "/page/lists.js";
import { bytes, count, duration, phase } from "/page/words.js";

const QUIET_MS = 350;
const box = document.getElementById("plan");
const sum = document.getElementById("plan-sum");
const table = document.getElementById("plan-table");
const rows = document.getElementById("plan-rows");
const ways = document.getElementById("plan-ways");
let timer = 0;
let pending = new AbortController();

/** Asks for the plan of ``order`` once it has not changed for a moment. */
export function planSoon(order) {
  clearTimeout(timer);
  pending.abort();
  box.classList.add("busy");
  timer = setTimeout(() => plan(order), QUIET_MS);
}

async function plan(order) {
  pending = new AbortController();
  try {
    show(await send("/api/plan", order, { signal: pending.signal }));
  } catch (error) {
    if (error.name === "AbortError") return;
    say(error.message, true);
    table.hidden = ways.hidden = true;
  }
  box.classList.remove("busy");
}

function show(plan) {
  const memory = plan.peak_vram_bytes
    ? `${bytes(plan.peak_ram_bytes)} of memory and ${bytes(plan.peak_vram_bytes)} on the device`
    : `${bytes(plan.peak_ram_bytes)} of memory`;
  const others = (plan.suggestions ?? []).map(({ changes }) => changes).filter(offers);
  // the reason's other lines say what to type in a terminal
  const verdict = plan.fits
    ? `About ${duration(plan.seconds)}, ${memory}. It fits.`
    : `It does not fit: ${plan.reason.split("\n")[0]}`;
  say([verdict, ...plan.notes, ...(others.length ? ["It fits with:"] : [])].join("\n"), !plan.fits);
  ways.replaceChildren(...others.map(way));
  ways.hidden = others.length === 0;
  rows.replaceChildren(...plan.phases.map(row));
  table.hidden = false;
}

function row({ name, seconds, ram_bytes, vram_bytes }) {
  const memory = bytes(ram_bytes) + (vram_bytes ? ` + ${bytes(vram_bytes)}` : "");
  const cells = [duration(seconds), memory].map((text) => element("td", {}, text));
  return element("tr", {}, element("th", { scope: "row" }, phase(name)), ...cells);
}

function way(changes) {
  const words = {
    size: ([width, height]) => `${width} × ${height}`,
    frames: (number) => count(number, "frame"),
    decoder: (name) => `the ${name} decoder`,
    quant: (name) => name,
  };
  const text = Object.entries(changes).map(([name, value]) => words[name](value)).join(", ");
  const choose = () => {
    apply(changes);
    document.getElementById("start").focus();
  };
  return element("li", {}, element("button", { type: "button", onclick: choose }, text));
}

// said anew only when it is new, so that a screen reader is not told twice
function say(text, wrong) {
  box.classList.toggle("wrong", wrong);
  if (sum.textContent !== text) sum.textContent = text;
}
