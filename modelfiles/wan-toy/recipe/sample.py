"""Draws the picture of the README: some prompts and frames of their videos, a row each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import wanrun

PROMPTS = (
    "a red ball bouncing on a blue surface",
    "a yellow star moving left on a black background",
    "a green ring circling on a white ground",
    "a blue square moving right on a yellow surface",
    "a white triangle growing on a green background",
    "a purple ball rolling on a white surface",
)
SCALE, EVERY, TITLE = 2, 2, 22


def row(prompt: str, seed: int) -> Image.Image:
    """One prompt above its frames."""
    clip = wanrun.generate("wan-toy", prompt, seed=seed)
    frames = np.concatenate(clip.frames[::EVERY], axis=1)
    picture = Image.fromarray(frames).resize((frames.shape[1] * SCALE, frames.shape[0] * SCALE))
    framed = Image.new("RGB", (picture.width, picture.height + TITLE), "white")
    framed.paste(picture, (0, TITLE))
    text = f"{prompt}  (seed {seed})"
    ImageDraw.Draw(framed).text((2, 3), text, fill="black", font=ImageFont.load_default(14))
    return framed


if __name__ == "__main__":
    rows = [row(prompt, seed) for seed, prompt in enumerate(PROMPTS, start=7)]
    sheet = Image.new("RGB", (rows[0].width, sum(part.height for part in rows)))
    top = 0
    for part in rows:
        sheet.paste(part, (0, top))
        top += part.height
    sheet.save(Path(__file__).parent.parent / "sample.png", optimize=True)
