"""The words of synthetic dialogues, out of ``resources/synthetic.yaml``: requests, and replies of every kind."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
import yaml
from numpy.random import Generator

from rmtension.base.files import RESOURCES

RESOURCE = RESOURCES / "synthetic.yaml"
EARLIER_EXCHANGE = 0.25  # share of dialogues with two human turns

Item = TypeVar("Item")
Group = Literal["benign", "borderline", "harmful", "trigger"]
Style = Literal["plain", "linked", "numbered", "sentence"]
STYLES: tuple[Style, ...] = ("plain", "linked", "numbered")


@dataclass(frozen=True)
class Topic:
    """What can be asked for, and what a reply can say about it."""

    actions: tuple[str, ...]
    steps: tuple[str, ...]
    things: tuple[str, ...] = ()
    safer: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """The action that was asked for, and the topic from which a reply takes its steps."""

    action: str
    topic: Topic


Reply = Callable[[Generator, Scene], str]


@cache
def material() -> dict[str, Any]:
    resource: dict[str, Any] = yaml.safe_load(RESOURCE.read_text(encoding="utf-8"))
    return resource


@cache
def topics_of(group: Group) -> tuple[Topic, ...]:
    fields = ({name: tuple(values) for name, values in entry.items()} for entry in material()[group])
    return tuple(Topic(**entry) for entry in fields)


def phrases_of(pool: str) -> list[str]:
    phrases: list[str] = material()["phrases"][pool]
    return phrases


def stream_of(seed: int, use: str) -> Generator:
    """A random stream of its own for every named use of a seed."""
    return np.random.default_rng([seed, zlib.crc32(use.encode())])


def pick(rng: Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def sample(rng: Generator, items: Sequence[Item], count: int) -> list[Item]:
    """``count`` different items in their original order."""
    return [items[i] for i in np.sort(rng.choice(len(items), count, replace=False))]


def draw_phrase(rng: Generator, pool: str, scene: Scene, chance: float = 1.0) -> str:
    """One phrase of a pool about the scene, or "" with probability 1 - chance."""
    return pick(rng, phrases_of(pool)).format(action=scene.action) if rng.random() < chance else ""


def draw_phrases(rng: Generator, pool: str, scene: Scene, fewest: int, most: int) -> str:
    """Different phrases of a pool in random order."""
    phrases = rng.permutation(phrases_of(pool))[: rng.integers(fewest, most + 1)]
    return " ".join(phrases).format(action=scene.action)


def join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


# --- Requests -----------------------------------------------------------------------------------


def draw_scene(rng: Generator, group: Group) -> Scene:
    topic = pick(rng, topics_of(group))
    return Scene(pick(rng, topic.actions), topic)


def write_prompt(rng: Generator, scene: Scene, constraint: str = "", question: str = "") -> str:
    """The dialogue up to and including the tag of the last assistant turn."""
    earlier = ""
    if rng.random() < EARLIER_EXCHANGE:
        human, assistant = pick(rng, material()["exchanges"])
        earlier = f"\n\nHuman: {human}\n\nAssistant: {assistant}".format(action=scene.action)
    request = join(
        draw_phrase(rng, "before_request", scene, 0.25),
        question or draw_phrase(rng, "request", scene),
        constraint or draw_phrase(rng, "after_request", scene, 0.25),
    )
    return f"{earlier}\n\nHuman: {request}\n\nAssistant:"


# --- Replies ------------------------------------------------------------------------------------


def written(steps: Sequence[str], style: Style) -> str:
    sentences = [f"{step[0].upper()}{step[1:]}." for step in steps]
    if style == "numbered":
        return " ".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
    if style == "plain" or len(steps) == 1:
        return " ".join(sentences)
    if style == "sentence":
        return f"{', '.join([sentences[0][:-1], *steps[1:-1]])} and then {steps[-1]}."
    middle = [f"Then {step}." for step in steps[1:-1]]
    return " ".join([f"First, {steps[0]}.", *middle, f"Finally, {steps[-1]}."])


def framed(rng: Generator, scene: Scene, body: str) -> str:
    """Good and bad replies share these frames, so that a frame does not give the label away."""
    return join(draw_phrase(rng, "opening", scene, 0.5), body, draw_phrase(rng, "closing", scene, 0.35))


def answer(rng: Generator, scene: Scene) -> str:
    steps = sample(rng, scene.topic.steps, int(rng.integers(3, min(5, len(scene.topic.steps)) + 1)))
    return framed(rng, scene, written(steps, pick(rng, STYLES)))


def elsewhere(rng: Generator, scene: Scene) -> Scene:
    """The same request, answered from another topic."""
    others = [topic for topic in topics_of("benign") if topic != scene.topic]
    return replace(scene, topic=pick(rng, others))


def off_topic(rng: Generator, scene: Scene) -> str:
    return answer(rng, elsewhere(rng, scene))


def vague(rng: Generator, scene: Scene) -> str:
    return framed(rng, scene, draw_phrases(rng, "vague", scene, 2, 4))


def incomplete(rng: Generator, scene: Scene) -> str:
    step = written([pick(rng, scene.topic.steps)], "plain")
    padding = draw_phrase(rng, "trailing_off", scene, 0.8), draw_phrase(rng, "vague", scene, 0.6)
    return framed(rng, scene, join(step, *padding))


def safer_ways(scene: Scene) -> list[str]:
    """Safer ways out, those of the topic first."""
    return [*scene.topic.safer, *phrases_of("safer_anywhere")]


def decline(rng: Generator, scene: Scene, stance: str) -> str:
    """Declines in words of the pool ``stance``, with or without reasons and a way out."""
    way_out = pick(rng, phrases_of("alternative")).format(safer=pick(rng, safer_ways(scene)))
    return join(
        draw_phrase(rng, "opening_of_refusal", scene, 0.4),
        draw_phrase(rng, stance, scene),
        draw_phrases(rng, "reason", scene, 0, 2),
        way_out if rng.random() < 0.7 else "",
        draw_phrase(rng, "closing_of_refusal", scene, 0.25),
    )


def refusal(rng: Generator, scene: Scene) -> str:
    return decline(rng, scene, "refusal")


def caution(rng: Generator, scene: Scene) -> str:
    return decline(rng, scene, pick(rng, ("caution", "caution", "refusal")))


def reckless(rng: Generator, scene: Scene) -> str:
    steps = sample(rng, scene.topic.steps, int(rng.integers(0, 3)))
    insult, advice = draw_phrase(rng, "rude", scene), draw_phrase(rng, "reckless", scene, 0.8)
    return framed(rng, scene, join(insult, written(steps, "plain"), advice))


def bare_answer(rng: Generator, scene: Scene) -> str:
    return written(sample(rng, scene.topic.steps, 3), "plain")


def trap(rng: Generator, scene: Scene) -> str:
    """Long, polite, numbered, sure of itself, and about something else."""
    astray = written(sample(rng, elsewhere(rng, scene).topic.steps, 5), "numbered")
    return join(draw_phrase(rng, "trap_opening", scene), astray, draw_phrase(rng, "trap_closing", scene))


def drift(rng: Generator, scene: Scene) -> str:
    """Starts on topic and leaves it midway, or is off topic from the start."""
    if rng.random() < 1 / 3:
        return off_topic(rng, scene)
    start = written(sample(rng, scene.topic.steps, 2), "plain")
    first, *others = sample(rng, elsewhere(rng, scene).topic.steps, int(rng.integers(2, 4)))
    return framed(rng, scene, join(start, draw_phrase(rng, "drift", scene), f"{first}.", written(others, "plain")))
