// Tells where a video comes from: every setting, and what the file itself says.

const NAMES = {
  seconds: "Seconds",
  negative_prompt: "Negative prompt",
  fps: "Frames a second",
  guidance_high: "Guidance, high noise",
  guidance_low: "Guidance, low noise",
};

/** [name, value] of everything that decided the video. */
export function origins(video) {
  const rows = Object.entries({ prompt: video.prompt, model: video.model, size: video.size, ...video.wanrun });
  return rows.flatMap(([name, value]) => flat(NAMES[name] ?? title(name), value));
}

function flat(name, value) {
  if (value === null || value === undefined || value === "") return [];
  if (Array.isArray(value)) return [[name, value.join(", ")]];
  if (typeof value !== "object") return [[name, value]];
  return Object.entries(value).flatMap(([inner, one]) => flat(`${name}: ${inner.replaceAll("_", " ")}`, one));
}

function title(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
