"""The world that wan-toy knows: coloured shapes that move on a plain ground, with a caption each.

A clip is described by a ``Scene``; ``render`` draws scenes exactly (anti-aliased signed distances).
Everything is a function of a numpy generator, so a seed is a data set. How scenes are put into words is
``captions``'s part.
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
ROUND = ("ball", "ring")
MOVES = ("moving left", "moving right", "moving up", "moving down")
MOTIONS = ("bouncing", "rolling", *MOVES, "circling", "growing", "shrinking", "staying still")
SPEEDS = {"slowly": 0.6, "": 1.0, "quickly": 1.4}
RELATIONS = ("left of", "above", "behind")
PAIRS = 0.35  # of all scenes show two objects


@dataclass(frozen=True, slots=True)
class Thing:
    """One object's appearance and path; positions and radii are fractions of the picture's side."""

    colour: str
    shape: str
    centre: Tensor  # (frames, 2): x, y
    radius: Tensor  # (frames,)
    angle: Tensor  # (frames,)


@dataclass(frozen=True, slots=True)
class Scene:
    """One object, or two: the first is ``relation`` the second, and the later one hides the earlier."""

    things: tuple[Thing, ...]
    relation: str  # "" for one object
    motion: str
    speed: str
    ground: str
    brightness: float


def held_out(colour: str, shape: str, ground: str) -> bool:
    """Combinations that training never shows, one in eight: for testing composition."""
    return (
        3 * list(COLOURS).index(colour) + 5 * SHAPES.index(shape) + 7 * list(GROUNDS).index(ground)
    ) % 8 == 3


def sample(rng: np.random.Generator, held: bool = False, pairs: float = PAIRS) -> Scene:
    """A random scene from training's combinations, or one with an object from the held-out ones."""
    two = rng.random() < pairs
    while True:
        ground = str(rng.choice(list(GROUNDS)))
        colours = [str(name) for name in rng.choice(list(COLOURS), 2 if two else 1, replace=False)]
        shapes = [str(name) for name in rng.choice(SHAPES, 2 if two else 1, replace=False)]
        unseen = any(held_out(colour, shape, ground) for colour, shape in zip(colours, shapes, strict=True))
        if ground not in colours and unseen == held:
            break
    speed = str(rng.choice(list(SPEEDS), p=(0.2, 0.6, 0.2)))
    if two:
        relation, motion = str(rng.choice(RELATIONS)), str(rng.choice(("staying still", *MOVES)))
        paths = _pair(rng, relation, motion, SPEEDS[speed])
    else:
        relation, motion = "", str(rng.choice([m for m in MOTIONS if m != "rolling" or shapes[0] in ROUND]))
        paths = [_path(rng, motion, SPEEDS[speed])]
    things = tuple(
        Thing(colour, shape, *path) for colour, shape, path in zip(colours, shapes, paths, strict=True)
    )
    speed = "" if motion == "staying still" else speed
    return Scene(things, relation, motion, speed, ground, float(rng.uniform(0.92, 1.0)))


_Path = tuple[Tensor, Tensor, Tensor]


def _path(rng: np.random.Generator, motion: str, speed: float) -> _Path:
    """Centre, radius and angle of a lone object."""
    time = torch.linspace(0, 1, FRAMES)
    size = float(rng.uniform(0.19, 0.24))
    low, high = 1.3 * size, 0.96 - size  # a triangle reaches highest
    x = torch.full((FRAMES,), float(rng.uniform(0.3, 0.7)))
    y = torch.full((FRAMES,), float(rng.uniform(0.35, 0.65)))
    radius, angle = torch.full((FRAMES,), size), torch.zeros(FRAMES)
    span = min(0.42 * speed, 0.98 * (high - low))
    start = float(rng.uniform(low, high - span))
    if motion == "bouncing":
        # the ground is touched well within the clip, so that no bounce looks like a fall or a rise
        touched, height = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.34, 0.45))
        y = high - height * torch.sin(torch.pi * speed * (time - touched)).abs()
        x = x + float(rng.uniform(-0.1, 0.1)) * (time - 0.5)
    elif motion == "rolling":
        way = float(rng.choice((-1.0, 1.0)))
        x = start + span * (time if way > 0 else 1 - time)
        y = torch.full((FRAMES,), high)
        angle = way * span * time / size
    elif motion in MOVES:
        moved = start + span * (time if motion in ("moving right", "moving down") else 1 - time)
        x, y = (moved, y) if motion in ("moving left", "moving right") else (x, moved)
    elif motion == "circling":
        turn = 2 * torch.pi * (float(rng.uniform(0, 1)) + float(rng.choice((-1.0, 1.0))) * speed * time)
        x, y = 0.5 + 0.2 * torch.cos(turn), 0.5 + 0.2 * torch.sin(turn)
    elif motion in ("growing", "shrinking"):
        change = 0.45 + min(0.65 * speed, 0.85) * (time if motion == "growing" else 1 - time)
        radius = size * change
    return torch.stack([x, y], dim=1), radius, angle


def _pair(rng: np.random.Generator, relation: str, motion: str, speed: float) -> list[_Path]:
    """Two objects' paths: apart along the relation's axis, or the first half hidden; they move together."""
    time, way = torch.linspace(0, 1, FRAMES) - 0.5, torch.zeros(2)
    if motion != "staying still":
        axis = 0 if motion in ("moving left", "moving right") else 1
        way[axis] = 0.12 * speed * (1 if motion in ("moving right", "moving down") else -1)
    aside, along = rng.uniform(-0.05, 0.05), rng.uniform(0.185, 0.195)
    if relation == "behind":
        side = float(rng.choice((-1.0, 1.0)))
        offsets = [(-0.08 * side, -0.09), (0.08 * side, 0.09)]
        sizes = [float(rng.uniform(0.215, 0.235)), float(rng.uniform(0.15, 0.17))]
    else:
        offsets = [(-along, aside), (along, -aside)]
        offsets = offsets if relation == "left of" else [(y, x) for x, y in offsets]
        sizes = [float(size) for size in rng.uniform(0.15, 0.16, 2)]
    middle = torch.tensor([0.5, 0.5]) + torch.tensor(rng.uniform(-0.02, 0.02, 2)).float()
    travel = middle + time[:, None] * way
    return [
        (travel + torch.tensor(offset), torch.full((FRAMES,), size), torch.zeros(FRAMES))
        for offset, size in zip(offsets, sizes, strict=True)
    ]


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
    things = tuple(
        replace(thing, centre=thing.centre[part], radius=thing.radius[part], angle=thing.angle[part])
        for thing in scene.things
    )
    return replace(scene, things=things)


def render(scenes: Sequence[Scene], device: str = "cpu") -> Tensor:
    """(scenes, 3, frames, height, width) float32 in -1..1."""
    clips = []
    for scene in scenes:
        ground = torch.tensor(GROUNDS[scene.ground], device=device) / 255 * scene.brightness
        clip = ground.view(3, 1, 1, 1).expand(3, len(scene.things[0].radius), SIZE, SIZE)
        for thing in scene.things:
            clip = _draw(clip, thing, turning=scene.motion == "rolling")
        clips.append(clip)
    return torch.stack(clips) * 2 - 1


def _draw(clip: Tensor, thing: Thing, turning: bool) -> Tensor:
    grid = (torch.arange(SIZE, device=clip.device) + 0.5) / SIZE
    cx, cy = thing.centre.to(clip.device)[:, :, None, None].unbind(1)
    dx, dy = grid[None, None, :] - cx, grid[None, :, None] - cy
    angle, r = thing.angle.to(clip.device)[:, None, None], thing.radius.to(clip.device)[:, None, None]
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    inside = (0.5 - SIZE * _distance(thing.shape, x, y, r)).clamp(0, 1)
    colour = torch.tensor(COLOURS[thing.colour], device=clip.device).view(3, 1, 1, 1) / 255
    # a darker spot makes turning visible
    spot = (0.5 - SIZE * (torch.hypot(x, y + 0.6 * r) - 0.25 * r)).clamp(0, 1) * (0.35 * turning)
    return colour * (1 - spot) * inside + clip * (1 - inside)
