// Says what the form asks for, in OpenAI's words.

/** The body of POST /v1/videos. */
export function videoOrder({ model, prompt, width, height, ...settings }) {
  return {
    model,
    prompt,
    size: width && height ? `${width}x${height}` : undefined,
    num_frames: settings.frames,
    fps: settings.fps,
    num_inference_steps: settings.steps,
    guidance_scale: settings.guidance,
    guidance_scale_2: settings.guidance_low,
    flow_shift: settings.shift,
    boundary_ratio: settings.boundary,
    sampler: settings.sampler,
    decoder: settings.decoder,
    seed: settings.seed,
    negative_prompt: settings.negative_prompt,
  };
}
