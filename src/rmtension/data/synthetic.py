"""Synthetic preference pairs and benchmark tasks in the dialogue form of HH-RLHF.

The word material lies in ``resources/synthetic.yaml``. Every comparison is one dialogue with
better and worse last assistant turns; helpful and harmless pairs hold the same two replies to a
borderline request in opposite order, so that no single reward can satisfy both.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl
import yaml
from numpy.random import Generator

from rmtension.base.files import RESOURCES

RESOURCE = RESOURCES / "synthetic.yaml"
EARLIER_EXCHANGE = 0.25  # share of dialogues with two human turns

Item = TypeVar("Item")
Group = Literal["benign", "borderline", "harmful", "trigger"]
Orientation = Literal["helpful", "harmless"]
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


@dataclass(frozen=True)
class Comparison:
    """A dialogue up to its last assistant turn, with better and worse replies."""

    prompt: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]

    def flipped(self) -> Comparison:
        return Comparison(self.prompt, self.rejected, self.chosen)

    def texts(self) -> tuple[list[str], list[str]]:
        """Whole dialogues: one list for the better replies and one for the worse."""
        chosen = [f"{self.prompt} {reply}" for reply in self.chosen]
        return chosen, [f"{self.prompt} {reply}" for reply in self.rejected]


Reply = Callable[[Generator, Scene], str]
Make = Callable[[Generator], Comparison]


@cache
def _resource() -> dict[str, Any]:
    resource: dict[str, Any] = yaml.safe_load(RESOURCE.read_text(encoding="utf-8"))
    return resource


@cache
def _topics(group: Group) -> tuple[Topic, ...]:
    fields = ({name: tuple(values) for name, values in entry.items()} for entry in _resource()[group])
    return tuple(Topic(**entry) for entry in fields)


def _phrases(pool: str) -> list[str]:
    phrases: list[str] = _resource()["phrases"][pool]
    return phrases


def _stream(seed: int, use: str) -> Generator:
    """A random stream of its own for every named use of a seed."""
    return np.random.default_rng([seed, zlib.crc32(use.encode())])


def _pick(rng: Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def _sample(rng: Generator, items: Sequence[Item], count: int) -> list[Item]:
    """``count`` different items in their original order."""
    return [items[i] for i in np.sort(rng.choice(len(items), count, replace=False))]


def _phrase(rng: Generator, pool: str, scene: Scene, chance: float = 1.0) -> str:
    """One phrase of a pool about the scene, or "" with probability 1 - chance."""
    return _pick(rng, _phrases(pool)).format(action=scene.action) if rng.random() < chance else ""


def _some_phrases(rng: Generator, pool: str, scene: Scene, fewest: int, most: int) -> str:
    """Different phrases of a pool in random order."""
    phrases = rng.permutation(_phrases(pool))[: rng.integers(fewest, most + 1)]
    return " ".join(phrases).format(action=scene.action)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


# --- Requests -----------------------------------------------------------------------------------


def _scene(rng: Generator, group: Group) -> Scene:
    topic = _pick(rng, _topics(group))
    return Scene(_pick(rng, topic.actions), topic)


def _prompt(rng: Generator, scene: Scene, constraint: str = "", question: str = "") -> str:
    """The dialogue up to and including the tag of the last assistant turn."""
    earlier = ""
    if rng.random() < EARLIER_EXCHANGE:
        human, assistant = _pick(rng, _resource()["exchanges"])
        earlier = f"\n\nHuman: {human}\n\nAssistant: {assistant}".format(action=scene.action)
    request = _join(
        _phrase(rng, "before_request", scene, 0.25),
        question or _phrase(rng, "request", scene),
        constraint or _phrase(rng, "after_request", scene, 0.25),
    )
    return f"{earlier}\n\nHuman: {request}\n\nAssistant:"


# --- Replies ------------------------------------------------------------------------------------


def _written(steps: Sequence[str], style: Style) -> str:
    sentences = [f"{step[0].upper()}{step[1:]}." for step in steps]
    if style == "numbered":
        return " ".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
    if style == "plain" or len(steps) == 1:
        return " ".join(sentences)
    if style == "sentence":
        return f"{', '.join([sentences[0][:-1], *steps[1:-1]])} and then {steps[-1]}."
    middle = [f"Then {step}." for step in steps[1:-1]]
    return " ".join([f"First, {steps[0]}.", *middle, f"Finally, {steps[-1]}."])


def _framed(rng: Generator, scene: Scene, body: str) -> str:
    """Good and bad replies share these frames, so that a frame does not give the label away."""
    return _join(_phrase(rng, "opening", scene, 0.5), body, _phrase(rng, "closing", scene, 0.35))


def _answer(rng: Generator, scene: Scene) -> str:
    steps = _sample(rng, scene.topic.steps, int(rng.integers(3, min(5, len(scene.topic.steps)) + 1)))
    return _framed(rng, scene, _written(steps, _pick(rng, STYLES)))


def _elsewhere(rng: Generator, scene: Scene) -> Scene:
    """The same request, answered from another topic."""
    others = [topic for topic in _topics("benign") if topic != scene.topic]
    return replace(scene, topic=_pick(rng, others))


def _off_topic(rng: Generator, scene: Scene) -> str:
    return _answer(rng, _elsewhere(rng, scene))


def _vague(rng: Generator, scene: Scene) -> str:
    return _framed(rng, scene, _some_phrases(rng, "vague", scene, 2, 4))


def _incomplete(rng: Generator, scene: Scene) -> str:
    step = _written([_pick(rng, scene.topic.steps)], "plain")
    padding = _phrase(rng, "trailing_off", scene, 0.8), _phrase(rng, "vague", scene, 0.6)
    return _framed(rng, scene, _join(step, *padding))


def _safer(scene: Scene) -> list[str]:
    """Safer ways out, those of the topic first."""
    return [*scene.topic.safer, *_phrases("safer_anywhere")]


def _decline(rng: Generator, scene: Scene, stance: str) -> str:
    """Declines in words of the pool ``stance``, with or without reasons and a way out."""
    way_out = _pick(rng, _phrases("alternative")).format(safer=_pick(rng, _safer(scene)))
    return _join(
        _phrase(rng, "opening_of_refusal", scene, 0.4),
        _phrase(rng, stance, scene),
        _some_phrases(rng, "reason", scene, 0, 2),
        way_out if rng.random() < 0.7 else "",
        _phrase(rng, "closing_of_refusal", scene, 0.25),
    )


def _refusal(rng: Generator, scene: Scene) -> str:
    return _decline(rng, scene, "refusal")


def _caution(rng: Generator, scene: Scene) -> str:
    return _decline(rng, scene, _pick(rng, ("caution", "caution", "refusal")))


def _reckless(rng: Generator, scene: Scene) -> str:
    steps = _sample(rng, scene.topic.steps, int(rng.integers(0, 3)))
    insult, advice = _phrase(rng, "rude", scene), _phrase(rng, "reckless", scene, 0.8)
    return _framed(rng, scene, _join(insult, _written(steps, "plain"), advice))


def _bare_answer(rng: Generator, scene: Scene) -> str:
    return _written(_sample(rng, scene.topic.steps, 3), "plain")


def _trap(rng: Generator, scene: Scene) -> str:
    """Long, polite, numbered, sure of itself, and about something else."""
    astray = _written(_sample(rng, _elsewhere(rng, scene).topic.steps, 5), "numbered")
    return _join(_phrase(rng, "trap_opening", scene), astray, _phrase(rng, "trap_closing", scene))


def _drift(rng: Generator, scene: Scene) -> str:
    """Starts on topic and leaves it midway, or is off topic from the start."""
    if rng.random() < 1 / 3:
        return _off_topic(rng, scene)
    start = _written(_sample(rng, scene.topic.steps, 2), "plain")
    first, *others = _sample(rng, _elsewhere(rng, scene).topic.steps, int(rng.integers(2, 4)))
    return _framed(rng, scene, _join(start, _phrase(rng, "drift", scene), f"{first}.", _written(others, "plain")))


# --- Comparisons --------------------------------------------------------------------------------


def _pair(group: Group, better: Sequence[Reply], worse: Sequence[Reply]) -> Make:
    """Makes comparisons of one better and one worse reply, each of a kind drawn from its list."""

    def make(rng: Generator) -> Comparison:
        scene = _scene(rng, group)
        chosen, rejected = _pick(rng, better)(rng, scene), _pick(rng, worse)(rng, scene)
        return Comparison(_prompt(rng, scene), (chosen,), (rejected,))

    return make


def _two_counts(rng: Generator) -> tuple[int, int]:
    """A count to ask for and a different one."""
    asked = int(rng.integers(2, 5))
    return asked, _pick(rng, [count for count in range(1, 6) if count != asked])


NUMBER = {2: "two", 3: "three", 4: "four"}


def _exact_steps(rng: Generator) -> Comparison:
    scene, style = _scene(rng, "benign"), _pick(rng, STYLES)
    asked, given = _two_counts(rng)
    right, wrong = (
        _framed(rng, scene, _written(_sample(rng, scene.topic.steps, count), style)) for count in (asked, given)
    )
    return Comparison(_prompt(rng, scene, f"Answer in exactly {NUMBER[asked]} steps."), (right,), (wrong,))


def _named_things(rng: Generator) -> Comparison:
    scene = _scene(rng, "benign")
    asked, given = _two_counts(rng)

    def named(count: int) -> str:
        things = _sample(rng, scene.topic.things, count)
        listed = " and ".join([", ".join(things[:-1]), things[-1]]) if count > 1 else things[0]
        return _framed(rng, scene, f"You need {listed}.")

    prompt = _prompt(rng, scene, question=f"Name {NUMBER[asked]} things I need to {scene.action}.")
    return Comparison(prompt, (named(asked),), (named(given),))


def _mentions(word: str, text: str) -> bool:
    return re.search(rf"\b{word}s?\b", text) is not None


def _avoidable(topic: Topic) -> list[str]:
    """Words that at least one step mentions, that three steps do without, and no action has."""
    words = [thing.split()[-1] for thing in topic.things]
    used = {word: sum(_mentions(word, step) for step in topic.steps) for word in words}
    free = [word for word in words if not any(_mentions(word, action) for action in topic.actions)]
    return [word for word in free if 1 <= used[word] <= len(topic.steps) - 3]


def _without_word(rng: Generator) -> Comparison:
    scene, style = _scene(rng, "benign"), _pick(rng, STYLES)
    word = _pick(rng, _avoidable(scene.topic))
    safe = _sample(rng, [step for step in scene.topic.steps if not _mentions(word, step)], 3)
    telling = _pick(rng, [step for step in scene.topic.steps if _mentions(word, step)])
    kept = _sample(rng, safe, 2)
    spoilt = [step for step in scene.topic.steps if step == telling or step in kept]
    right, wrong = (_framed(rng, scene, _written(steps, style)) for steps in (safe, spoilt))
    return Comparison(_prompt(rng, scene, f"Do not use the word {word}."), (right,), (wrong,))


def _one_sentence(rng: Generator) -> Comparison:
    scene = _scene(rng, "benign")
    right = _written(_sample(rng, scene.topic.steps, int(rng.integers(2, 5))), "sentence")
    wrong = _written(_sample(rng, scene.topic.steps, int(rng.integers(2, 5))), _pick(rng, STYLES))
    return Comparison(_prompt(rng, scene, "Answer in one sentence."), (right,), (_framed(rng, scene, wrong),))


def _precise(rng: Generator) -> Comparison:
    return _pick(rng, (_exact_steps, _named_things, _without_word, _one_sentence))(rng)


def _focus(rng: Generator) -> Comparison:
    scene = _scene(rng, "benign")
    rejected: list[str] = []
    while len(rejected) < 3:
        reply = _drift(rng, scene)
        rejected += [reply] if reply not in rejected else []
    return Comparison(_prompt(rng, scene), (_answer(rng, scene),), tuple(rejected))


def _answers_in_styles(rng: Generator, scene: Scene) -> tuple[str, str, str]:
    """The steps of the topic: terse, detailed, and detailed with a list."""
    opening, closing = _phrase(rng, "opening", scene), _phrase(rng, "closing", scene)
    terse = _written(_sample(rng, scene.topic.steps, 2), "sentence")
    detailed = _join(opening, _written(_sample(rng, scene.topic.steps, 4), "linked"), closing)
    listed = _join(opening, _written(_sample(rng, scene.topic.steps, 4), "numbered"), closing)
    return terse, detailed, listed


def _refusals_in_styles(rng: Generator, scene: Scene) -> tuple[str, str, str]:
    """Refusals: terse, detailed, and detailed with a list of safer ways."""
    opening, refusal = _phrase(rng, "opening_of_refusal", scene), _phrase(rng, "refusal", scene)
    reasons, way_out = _some_phrases(rng, "reason", scene, 2, 2), _pick(rng, _safer(scene))
    listed = _join(_phrase(rng, "reason", scene), _written(_sample(rng, _safer(scene), 3), "numbered"))
    return (
        refusal,
        _join(opening, refusal, reasons, f"Please {way_out} instead."),
        _join(opening, refusal, listed),
    )


def _mixed_safety(rng: Generator) -> Comparison:
    harmful = rng.random() < 0.5
    scene = _scene(rng, "harmful" if harmful else "trigger")
    answers, refusals = _answers_in_styles(rng, scene), _refusals_in_styles(rng, scene)
    comparison = Comparison(_prompt(rng, scene), answers, refusals)
    return comparison.flipped() if harmful else comparison


# --- Public interface -----------------------------------------------------------------------------

_harmful = _pair("harmful", [_refusal], [_answer])
_borderline_helpful = _pair("borderline", [_answer], [_caution])
_borderline_harmless = _pair("borderline", [_caution], [_answer])

# objective -> kind -> (share of the pairs, how to make one)
KINDS: dict[str, dict[str, tuple[float, Make]]] = {
    "helpful": {
        "benign": (0.55, _pair("benign", [_answer], [_vague, _off_topic, _incomplete, _refusal])),
        "borderline": (0.3, _borderline_helpful),
        "precise": (0.15, _precise),
    },
    "harmless": {
        "harmful": (0.5, _harmful),
        "borderline": (0.35, _borderline_harmless),
        "trigger": (0.15, _pair("trigger", [_answer], [_reckless])),
    },
}
# task -> (orientation, how to make one)
TASKS: dict[str, tuple[Orientation, Make]] = {
    "plain-instruction": ("helpful", _pair("benign", [_answer], [_vague, _incomplete])),
    "adversarial-trap": ("helpful", _pair("benign", [_bare_answer], [_trap])),
    "precise-instruction": ("helpful", _precise),
    "focus": ("helpful", _focus),
    "should-refuse": ("harmless", _harmful),
    "should-refuse-soft": ("harmless", _borderline_harmless),
    "should-respond": ("harmless", _pair("trigger", [_answer], [_refusal])),
    "mixed-safety": ("harmless", _mixed_safety),
}


def preference_pairs(objective: str, n: int, seed: int, *, label_noise: float = 0.04) -> pl.DataFrame:
    """Draw ``n`` preference pairs of one objective.

    Columns ``chosen`` and ``rejected`` (whole dialogues that differ in the last assistant turn)
    and ``kind`` (a key of ``KINDS[objective]``). A share ``label_noise`` of the pairs is swapped.
    Raises ValueError for an unknown objective.
    """
    if objective not in KINDS:
        raise ValueError(f"objective must be one of {list(KINDS)}, not {objective!r}")
    kinds = KINDS[objective]
    rng = _stream(seed, objective)
    rows: list[tuple[str, str, str]] = []
    for _ in range(n):
        kind = str(rng.choice(list(kinds), p=[share for share, _ in kinds.values()]))
        comparison = kinds[kind][1](rng)
        swap = rng.random() < label_noise
        [chosen], [rejected] = (comparison.flipped() if swap else comparison).texts()
        rows.append((chosen, rejected, kind))
    return pl.DataFrame(rows, {"chosen": pl.String, "rejected": pl.String, "kind": pl.String}, orient="row")


def benchmark(n_per_task: int, seed: int) -> pl.DataFrame:
    """Draw ``n_per_task`` comparisons, free of label noise, of every task in ``TASKS``.

    Columns ``task``, ``orientation`` ("helpful" or "harmless"), ``chosen`` and ``rejected``
    (lists of whole dialogues: 1 and 1, but 1 and 3 in focus, 3 and 3 in mixed-safety, where the
    i-th of each have the same style). Rows are grouped by task in the order of ``TASKS``.
    """
    rows = []
    for task, (orientation, make) in TASKS.items():
        rng = _stream(seed, f"benchmark/{task}")
        rows += [(task, orientation, *make(rng).texts()) for _ in range(n_per_task)]
    texts = pl.List(pl.String)
    schema = pl.Schema({"task": pl.String(), "orientation": pl.String(), "chosen": texts, "rejected": texts})
    return pl.DataFrame(rows, schema, orient="row")


def corpus(n: int, seed: int) -> list[str]:
    """Draw ``n`` dialogues whose last turn is good or bad alike, of all kinds and tasks, unlabelled."""
    rng = _stream(seed, "corpus")
    makes = [make for kinds in KINDS.values() for _, make in kinds.values()]
    makes += [make for _, make in TASKS.values()]
    dialogues = (_pick(rng, makes)(rng).texts() for _ in range(n))
    return [_pick(rng, _pick(rng, sides)) for sides in dialogues]
