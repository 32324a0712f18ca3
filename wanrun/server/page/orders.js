// Says what the form asks for, in OpenAI's words.

const WORDS = {
  frames: "num_frames",
  steps: "num_inference_steps",
  guidance: "guidance_scale",
  guidance_low: "guidance_scale_2",
  shift: "flow_shift",
  boundary: "boundary_ratio",
};

/** The body of POST /v1/videos. */
export function videoOrder({ width, height, ...order }) {
  const renamed = Object.entries(order).map(([name, value]) => [WORDS[name] ?? name, value]);
  return { ...Object.fromEntries(renamed), ...(width && height && { size: `${width}x${height}` }) };
}
