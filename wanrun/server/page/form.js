// The form for a new video: the model's defaults come in, an order goes out.

import { get, send } from "/page/api.js";
import { keepDraft, takeDraft } from "/page/draft.js";
import { element } from "/page/lists.js";
import { duration } from "/page/words.js";

const form = document.getElementById("order");
const fields = form.elements;
const WHOLE = ["width", "height", "frames", "fps", "steps", "seed"];
const SHARES = ["guidance_start", "guidance_end", "guidance_rescale", "cross_frame", "compose", "flicker"];
const NUMBERS = [...WHOLE, ...SHARES, "guidance", "guidance_low", "shift", "boundary"];
const WORDS = ["sampler", "schedule", "cache", "noise", "precision", "decoder", "lora", "negative_prompt"];
const SETTINGS = [...NUMBERS, ...WORDS];
/** What only a model of two experts has. */
const OF_TWO = ["guidance_low", "boundary"];
let template = "";

/** Shows the models that there are; the one that changed last is chosen unless another was. */
export async function loadModels() {
  const names = (await get("/api/tags")).models.map(({ name }) => name);
  document.getElementById("no-model").hidden = names.length > 0;
  fields.start.disabled = names.length === 0;
  if (names.join() === [...fields.model.options].map(({ value }) => value).join()) return;
  const draft = takeDraft();
  const chosen = draft?.model ?? fields.model.value;
  fields.model.replaceChildren(...names.map((name) => element("option", { value: name }, shortName(name))));
  if (names.includes(chosen)) fields.model.value = chosen;
  if (fields.model.value && (draft || fields.model.value !== chosen)) await loadDefaults();
  if (!draft) return;
  fields.prompt.value ||= draft.prompt;
  if (fields.model.value === chosen) fill(draft);
}

/** Has what is written outlast the page. */
export function keep() {
  keepDraft(Object.fromEntries(["model", "prompt", ...SETTINGS].map((name) => [name, fields[name].value])));
}

/** Fills in what the chosen model's Modelfile says. */
export async function loadDefaults() {
  const shown = await send("/api/show", { model: fields.model.value });
  template = shown.template ?? "";
  const [width, height] = shown.settings.size.split("x");
  const guidance = shown.settings.guidance_high ?? shown.settings.guidance;
  for (const name of OF_TWO) fields[name].closest(".field").hidden = shown.settings.boundary == null;
  fill({ guidance_low: guidance, ...shown.settings, width, height, guidance });
}

/** Fills in the settings of a video that there is. */
export async function reuse(video) {
  const model = [...fields.model.options].find(({ value }) => shortName(value) === shortName(video.model));
  if (model) {
    fields.model.value = model.value;
    await loadDefaults();
  }
  fields.prompt.value = withoutTemplate(video.prompt);
  fill({ ...video.wanrun, lora: video.wanrun.lora.map(written).join() });
  fields.prompt.focus();
}

/** What the form asks for; what is left empty is the model's business. */
export function readOrder() {
  return { model: fields.model.value, prompt: fields.prompt.value, ...readSettings() };
}

/** Whether ``apply`` can make these changes: another quantisation is another model. */
export function offers({ quant }) {
  return !quant || [...fields.model.options].some(({ value }) => value === quantised(quant));
}

/** Makes the changes that a plan suggests. */
export function apply({ size, quant, ...changes }) {
  const [width, height] = size ?? [fields.width.value, fields.height.value];
  for (const [name, value] of Object.entries({ width, height, ...changes })) fields[name].value = value;
  if (quant) fields.model.value = quantised(quant);
  form.dispatchEvent(new Event("input"));
}

/** Has the reader correct the first field that cannot be right; whether there was none. */
export function check() {
  const wrong = [...form.querySelectorAll("input, select, textarea")].find((field) => !field.validity.valid && !stepOff(field));
  if (!wrong) return true;
  for (let parent = wrong.closest("details"); parent; parent = null) parent.open = true;
  wrong.reportValidity();
  wrong.focus();
  return false;
}

/** ``wan-toy`` for ``wan-toy:latest``. */
export function shortName(name) {
  return name.replace(/:latest$/, "");
}

export function showLength() {
  const { frames, fps } = readSettings();
  document.getElementById("length").textContent =
    frames > 0 && fps > 0 ? `${duration(frames / fps)} at ${fps} frames a second` : "";
}

function quantised(quant) {
  return `${fields.model.value.split(":")[0]}:${quant}`;
}

function readSettings() {
  // an empty negative prompt is one: it says that there is none
  const filled = SETTINGS.filter((name) => !absent(fields[name]) && (fields[name].value || name === "negative_prompt"));
  return Object.fromEntries(
    filled.map((name) => [name, NUMBERS.includes(name) ? Number(fields[name].value) : fields[name].value]),
  );
}

function fill(settings) {
  for (const name of SETTINGS) fields[name].value = settings[name] ?? "";
  form.dispatchEvent(new Event("input"));
}

/** A LoRA as it is asked for: ``high_noise=sha256:…:0.8``. */
function written({ digest, role, scale }) {
  return `${role ? `${role}=` : ""}${digest}:${scale}`;
}

/** The words that somebody wrote, without those that the model's template puts around them. */
function withoutTemplate(prompt) {
  const [before, after, ...others] = template.split(/\{\{\s*prompt\s*\}\}/);
  const wrapped = after !== undefined && !others.length && prompt.startsWith(before) && prompt.endsWith(after);
  return wrapped ? prompt.slice(before.length, prompt.length - after.length) : prompt;
}

function absent(field) {
  return field.closest(".field").hidden;
}

/** The server takes the nearest size and length that the model can do. */
function stepOff({ validity }) {
  return validity.stepMismatch && !validity.rangeOverflow && !validity.rangeUnderflow && !validity.badInput;
}
