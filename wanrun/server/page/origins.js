// Tells where a video comes from: what its own file says, in rows of words.

const NAMES = { negative: "Negative prompt", fps: "Frames a second", latent_shape: "Shape of the latents", vae: "VAE" };

/** [name, value] of everything that decided the video. */
export function origins({ model, components, adapters, request, sigmas, versions, ...others }) {
  return [
    ...rows({
      ...request,
      model,
      size: request && `${request.width} × ${request.height}`,
      width: null,
      height: null,
      lora: null,
    }),
    ...rows(components ?? {}),
    ...(adapters ?? []).map(({ digest, role, scale }) => ["Adapter", `${digest} ${role ?? ""} ${scale}`]),
    ...(request?.lora ?? []).map(({ digest, role, scale, origin }) => ["LoRA", `${origin} ${digest} ${role} ${scale}`]),
    ...rows({ sigmas: sigmas?.map((level) => level.toFixed(4)) }),
    ...Object.entries(versions ?? {}),
    ...rows(others),
  ];
}

function rows(values) {
  return Object.entries(values)
    .filter(([, value]) => !(value == null || value.length === 0))
    .map(([name, value]) => [NAMES[name] ?? title(name), text(value)]);
}

function text(value) {
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function title(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
