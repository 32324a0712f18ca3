"""The world that wan-toy knows: coloured shapes that move on a plain ground, with a caption each.

A clip is described by a ``Scene``; ``render`` draws scenes exactly (anti-aliased signed distances),
``caption`` says what is to be seen. Everything is a function of a numpy generator, so a seed is a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

SIZE, FRAMES = 64, 17

COLOURS = {
    "red": (220, 30, 35), "green": (30, 170, 60), "blue": (35, 70, 220), "yellow": (245, 215, 40),
    "purple": (140, 45, 180), "orange": (245, 130, 25), "white": (245, 245, 245), "cyan": (40, 210, 220),
}  # fmt: skip
GROUNDS = {
    "blue": (25, 50, 150), "white": (232, 232, 232), "black": (14, 14, 14), "green": (20, 115, 45),
    "gray": (125, 125, 125), "yellow": (215, 190, 60),
}  # fmt: skip
SHAPES = ("ball", "square", "triangle", "star", "ring")
MOTIONS = (
    "bouncing", "rolling", "moving left", "moving right", "moving up", "moving down",
    "circling", "growing", "shrinking", "staying still",
)  # fmt: skip
SPEEDS = {"slowly": 0.6, "": 1.0, "quickly": 1.5}

_NOUNS = {"ball": ("ball", "circle"), "square": ("square", "cube", "box")}
_GROUND_NOUNS = ("surface", "background", "ground", "backdrop")
_PHRASES = {
    "bouncing": ("bouncing", "bouncing up and down", "that bounces"),
    "rolling": ("rolling", "rolling along", "that rolls"),
    "moving left": ("moving left", "moving to the left", "sliding left"),
    "moving right": ("moving right", "moving to the right", "sliding right"),
    "moving up": ("moving up", "moving upwards", "rising"),
    "moving down": ("moving down", "moving downwards", "falling"),
    "circling": ("circling", "moving in a circle", "going round and round"),
    "growing": ("growing", "getting bigger", "that grows"),
    "shrinking": ("shrinking", "getting smaller", "that shrinks"),
    "staying still": ("staying still", "standing still", "that does not move"),
}
_FRAMES_OF_CAPTION = (
    "a {colour} {shape} {motion} on a {ground} {noun}",
    "a {colour} {shape} {motion} on a {ground} {noun}",
    "{colour} {shape} {motion} on {ground}",
    "a {colour} {shape} {motion} in front of a {ground} {noun}",
    "on a {ground} {noun}, a {colour} {shape} {motion}",
    "a video of a {colour} {shape} {motion}, {ground} {noun}",
    "{ground} {noun}, {colour} {shape} {motion}",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One object's appearance and path; positions and radii are fractions of the picture's side."""

    colour: str
    shape: str
    motion: str
    speed: str
    ground: str
    centre: Tensor  # (frames, 2): x, y
    radius: Tensor  # (frames,)
    angle: Tensor  # (frames,)
    brightness: float


def held_out(colour: str, shape: str, ground: str) -> bool:
    """Combinations that training never shows, one in eight: for testing composition."""
    return (
        3 * list(COLOURS).index(colour) + 5 * SHAPES.index(shape) + 7 * list(GROUNDS).index(ground)
    ) % 8 == 3


def sample(rng: np.random.Generator, held: bool = False) -> Scene:
    """A random scene from training's combinations, or from the held-out ones."""
    while True:
        colour, shape, ground = (str(rng.choice(list(names))) for names in (COLOURS, SHAPES, GROUNDS))
        if colour != ground and held_out(colour, shape, ground) == held:
            break
    motion, speed = str(rng.choice(MOTIONS)), str(rng.choice(list(SPEEDS), p=(0.2, 0.6, 0.2)))
    centre, radius, angle = _path(rng, motion, SPEEDS[speed])
    still = motion == "staying still"
    return Scene(
        colour,
        shape,
        motion,
        "" if still else speed,
        ground,
        centre,
        radius,
        angle,
        float(rng.uniform(0.92, 1.0)),
    )


def _path(rng: np.random.Generator, motion: str, speed: float) -> tuple[Tensor, Tensor, Tensor]:
    time = torch.linspace(0, 1, FRAMES)
    size = float(rng.uniform(0.15, 0.2))
    low, high = size + 0.03, 0.97 - size
    x = torch.full((FRAMES,), float(rng.uniform(0.3, 0.7)))
    y = torch.full((FRAMES,), float(rng.uniform(0.35, 0.65)))
    radius, angle = torch.full((FRAMES,), size), torch.zeros(FRAMES)
    span = min(0.42 * speed, 0.98 * (high - low))
    start = float(rng.uniform(low, high - span))
    if motion == "bouncing":
        phase, height = float(rng.uniform(0, 1)), float(rng.uniform(0.34, 0.48))
        y = high - height * torch.sin(torch.pi * (1.6 * speed * time + phase)).abs()
        x = x + float(rng.uniform(-0.12, 0.12)) * (time - 0.5)
    elif motion == "rolling":
        way = float(rng.choice((-1.0, 1.0)))
        x = start + span * (time if way > 0 else 1 - time)
        y = torch.full((FRAMES,), high)
        angle = way * span * time / size
    elif motion in ("moving left", "moving up"):
        moved = start + span * (1 - time)
        x, y = (moved, y) if motion == "moving left" else (x, moved)
    elif motion in ("moving right", "moving down"):
        moved = start + span * time
        x, y = (moved, y) if motion == "moving right" else (x, moved)
    elif motion == "circling":
        turn = 2 * torch.pi * (float(rng.uniform(0, 1)) + float(rng.choice((-1.0, 1.0))) * speed * time)
        x, y = 0.5 + 0.24 * torch.cos(turn), 0.5 + 0.24 * torch.sin(turn)
    elif motion in ("growing", "shrinking"):
        change = 0.6 + min(0.9 * speed, 1.2) * (time if motion == "growing" else 1 - time)
        radius = size * change
    return torch.stack([x, y], dim=1), radius, angle


def _distance(shape: str, x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Signed distance to the outline, negative inside; y points down."""
    if shape == "ball":
        return torch.hypot(x, y) - r
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.88 * r
    if shape == "triangle":
        slope = 0.5 * 3**0.5
        return torch.maximum(y - 0.62 * r, slope * x.abs() - 0.5 * y - 0.62 * r)
    if shape == "ring":
        return (torch.hypot(x, y) - 0.74 * r).abs() - 0.26 * r
    angle = torch.atan2(x, -y)  # from the top
    sector = 2 * torch.pi / 5
    fold = torch.remainder(angle + sector / 2, sector) - sector / 2
    length = torch.hypot(x, y)
    px, py = length * torch.cos(fold), length * torch.sin(fold).abs()
    outer, inner = 1.15 * r, 0.5 * r
    ix, iy = inner * np.cos(sector / 2), inner * np.sin(sector / 2)
    ex, ey = ix - outer, iy
    return ((px - outer) * ey - py * ex) / torch.hypot(ex, ey)


def cut(scene: Scene, start: int, frames: int) -> Scene:
    """The scene's ``frames`` frames from ``start``."""
    part = slice(start, start + frames)
    return replace(scene, centre=scene.centre[part], radius=scene.radius[part], angle=scene.angle[part])


def render(scenes: Sequence[Scene], device: str = "cpu") -> Tensor:
    """(scenes, 3, frames, height, width) float32 in -1..1."""
    clips = []
    grid = (torch.arange(SIZE, device=device) + 0.5) / SIZE
    for scene in scenes:
        cx, cy = scene.centre.to(device)[:, :, None, None].unbind(1)
        dx, dy = grid[None, None, :] - cx, grid[None, :, None] - cy
        cos, sin = torch.cos(scene.angle.to(device)), torch.sin(scene.angle.to(device))
        x = dx * cos[:, None, None] + dy * sin[:, None, None]
        y = dy * cos[:, None, None] - dx * sin[:, None, None]
        r = scene.radius.to(device)[:, None, None]
        inside = (0.5 - SIZE * _distance(scene.shape, x, y, r)).clamp(0, 1)
        colour = torch.tensor(COLOURS[scene.colour], device=device) / 255
        ground = torch.tensor(GROUNDS[scene.ground], device=device) / 255 * scene.brightness
        # a darker spot makes turning visible
        spot = (0.5 - SIZE * (torch.hypot(x, y + 0.5 * r) - 0.22 * r)).clamp(0, 1) * 0.35
        paint = colour.view(3, 1, 1, 1) * (1 - spot * (scene.motion == "rolling"))
        clips.append(paint * inside + ground.view(3, 1, 1, 1) * (1 - inside))
    return torch.stack(clips) * 2 - 1


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of many ways to say what the scene shows."""
    motion = str(rng.choice(_PHRASES[scene.motion]))
    if scene.speed:
        before = not motion.startswith("that") and rng.random() < 0.5
        motion = f"{scene.speed} {motion}" if before else f"{motion} {scene.speed}"
    text = str(rng.choice(_FRAMES_OF_CAPTION)).format(
        colour=scene.colour,
        shape=str(rng.choice(_NOUNS.get(scene.shape, (scene.shape,)))),
        motion=motion,
        ground=scene.ground if scene.ground != "gray" else str(rng.choice(("gray", "grey"))),
        noun=str(rng.choice(_GROUND_NOUNS)),
    )
    if rng.random() < 0.2:
        text = text[0].upper() + text[1:] + "."
    return text
