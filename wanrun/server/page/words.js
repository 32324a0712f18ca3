// Turns numbers into the few words that the page shows.

const PHASES = {
  start: "Starting",
  text: "Reading the prompt",
  denoise: "Denoising",
  decode: "Decoding",
  diffusion: "Denoising",
  high_noise: "Denoising, high noise",
  low_noise: "Denoising, low noise",
  vae: "Decoding",
  tiny: "Decoding, tiny",
  writing: "Writing the file",
};

export function phase(name) {
  return PHASES[name] ?? (name ? name.replaceAll("_", " ") : "Starting");
}

/** Decimal units, as disks and the command line have them. */
export function bytes(count) {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)} GB`;
  if (count >= 1e6) return `${Math.round(count / 1e6)} MB`;
  return `${Math.ceil(count / 1e3)} kB`;
}

export function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function rate(stepsPerSecond) {
  return stepsPerSecond >= 1 ? `${stepsPerSecond.toFixed(1)} steps/s` : `${duration(1 / stepsPerSecond)} a step`;
}

export function moment(unixSeconds) {
  const when = new Date(unixSeconds * 1000);
  const today = when.toDateString() === new Date().toDateString();
  const time = { hour: "numeric", minute: "2-digit" };
  const format = today ? time : { month: "short", day: "numeric", ...time };
  return when.toLocaleString(undefined, format);
}

export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export function joined(...parts) {
  return parts.filter(Boolean).join(" · ");
}
