"""Puts scenes into words, in many ways."""

from __future__ import annotations

import numpy as np
from world import Scene

_NOUNS = {"ball": ("ball", "circle"), "square": ("square", "cube", "box")}
_GROUND_NOUNS = ("surface", "background", "ground", "backdrop")
_MOTIONS = {
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
_RELATIONS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "above": ("above", "over"),
    "behind": ("behind", "partly hidden by"),
}
_ONE = (
    "a {thing} {motion} on a {ground} {noun}",
    "a {thing} {motion} on a {ground} {noun}",
    "{thing} {motion} on {ground}",
    "a {thing} {motion} in front of a {ground} {noun}",
    "on a {ground} {noun}, a {thing} {motion}",
    "a video of a {thing} {motion}, {ground} {noun}",
    "{ground} {noun}, {thing} {motion}",
)
_TWO = (
    "a {thing} {relation} a {other} on a {ground} {noun}",
    "a {thing} {relation} a {other} on a {ground} {noun}",
    "{thing} {relation} {other} on {ground}",
    "on a {ground} {noun}, a {thing} {relation} a {other}",
    "{ground} {noun}, a {thing} {relation} a {other}",
)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of many ways to say what the scene shows."""
    names = [
        f"{thing.colour} {rng.choice(_NOUNS.get(thing.shape, (thing.shape,)))}" for thing in scene.things
    ]
    words = {
        "thing": names[0],
        "other": names[-1],
        "ground": scene.ground if scene.ground != "gray" else rng.choice(("gray", "grey")),
        "noun": rng.choice(_GROUND_NOUNS),
    }
    motion = _moving(scene, rng)
    if scene.relation:
        text = rng.choice(_TWO).format(relation=rng.choice(_RELATIONS[scene.relation]), **words)
        if scene.motion != "staying still":
            text = f"{text}, both {motion}"
    else:
        text = rng.choice(_ONE).format(motion=motion, **words)
    text = str(text).replace("a orange", "an orange")
    return text[0].upper() + text[1:] + "." if rng.random() < 0.2 else text


def _moving(scene: Scene, rng: np.random.Generator) -> str:
    motion = str(rng.choice(_MOTIONS[scene.motion]))
    if not scene.speed:
        return motion
    before = not motion.startswith("that") and rng.random() < 0.5
    return f"{scene.speed} {motion}" if before else f"{motion} {scene.speed}"
