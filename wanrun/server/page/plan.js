// Says what the video would take before it is made, while the settings change.

import { send } from "/page/api.js";
import { element } from "/page/lists.js";
import { bytes, duration, phase } from "/page/words.js";

const QUIET_MS = 350;
const box = document.getElementById("plan");
const sum = document.getElementById("plan-sum");
const table = document.getElementById("plan-table");
const rows = document.getElementById("plan-rows");
const ways = document.getElementById("plan-ways");
let timer = 0;
let pending = new AbortController();

/** Asks for the plan of ``order`` once it has not changed for a moment; ``choose`` takes another way. */
export function planSoon(order, choose) {
  clearTimeout(timer);
  pending.abort();
  box.classList.add("busy");
  timer = setTimeout(() => plan(order, choose), QUIET_MS);
}

async function plan(order, choose) {
  pending = new AbortController();
  try {
    show(await send("/api/plan", order, { signal: pending.signal }), choose);
  } catch (error) {
    if (error.name === "AbortError") return;
    say(error.message, true);
    table.hidden = ways.hidden = true;
  }
  box.classList.remove("busy");
}

function show(plan, choose) {
  const memory = plan.peak_vram_bytes
    ? `${bytes(plan.peak_ram_bytes)} of memory and ${bytes(plan.peak_vram_bytes)} on the device`
    : `${bytes(plan.peak_ram_bytes)} of memory`;
  say(plan.fits ? `About ${duration(plan.seconds)}, ${memory}. It fits.` : (plan.reason ?? "It does not fit."), !plan.fits);
  rows.replaceChildren(
    ...plan.phases.map((each) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, phase(each.name)),
        element("td", {}, duration(each.seconds)),
        element("td", {}, bytes(each.ram_bytes) + (each.vram_bytes ? ` + ${bytes(each.vram_bytes)}` : "")),
      ),
    ),
  );
  table.hidden = false;
}

// said anew only when it is new, so that a screen reader is not told twice
function say(text, wrong) {
  box.classList.toggle("wrong", wrong);
  if (sum.textContent !== text) sum.textContent = text;
}
