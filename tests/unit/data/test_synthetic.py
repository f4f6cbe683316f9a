"""The synthetic pairs and tasks: form, determinism, and the conflict built into them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from rmtension.data import synthetic
from rmtension.data.synthetic import Orientation, avoidable, benchmark, corpus, preference_pairs
from rmtension.data.wordings import topics_of

WORDS = yaml.safe_load((Path(__file__).parents[3] / "resources" / "synthetic.yaml").read_text(encoding="utf-8"))
OBJECTIVES: tuple[Orientation, ...] = ("helpful", "harmless")
CANDIDATES = {  # task -> (orientation, number chosen, number rejected)
    "plain-instruction": ("helpful", 1, 1),
    "adversarial-trap": ("helpful", 1, 1),
    "precise-instruction": ("helpful", 1, 1),
    "focus": ("helpful", 1, 3),
    "should-refuse": ("harmless", 1, 1),
    "should-refuse-soft": ("harmless", 1, 1),
    "should-respond": ("harmless", 1, 1),
    "mixed-safety": ("harmless", 3, 3),
}


def split(text: str) -> tuple[str, str]:
    """The dialogue up to its last assistant turn, and that turn."""
    head, tag, reply = text.rpartition("\n\nAssistant:")
    return head + tag, reply.strip()


def own_steps(text: str) -> int:
    """How many steps of the topic asked for the last turn contains."""
    prompt, reply = split(text)
    topics = [topic for group in ("benign", "borderline", "harmful", "trigger") for topic in WORDS[group]]
    [topic] = [topic for topic in topics if any(action in prompt for action in topic["actions"])]
    return sum(step.lower() in reply.lower() for step in topic["steps"])


def rows(task: str, n: int = 80) -> list[tuple[list[str], list[str]]]:
    return benchmark(n, seed=5).filter(task=task).select("chosen", "rejected").rows()


def all_comparisons() -> list[tuple[list[str], list[str]]]:
    pairs = [row for objective in OBJECTIVES for row in preference_pairs(objective, 400, seed=1).rows()]
    return [([chosen], [rejected]) for chosen, rejected, _ in pairs] + [
        (chosen, rejected) for *_, chosen, rejected in benchmark(60, seed=1).rows()
    ]


def test_same_frame_in_another_process() -> None:
    code = (
        "from rmtension.data.synthetic import *; import json;"
        "frames = [preference_pairs('helpful', 20, 3).rows(), benchmark(2, 3).rows(), corpus(20, 3)];"
        "print(json.dumps(frames))"
    )
    source = str(Path(synthetic.__file__).parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": source, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert preference_pairs("helpful", 20, 3)["chosen"][0] in json.loads(outputs.pop())[0][0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pairs_schema_and_seed(objective: Orientation) -> None:
    pairs = preference_pairs(objective, 50, seed=0)
    assert pairs.schema == {"chosen": pl.String, "rejected": pl.String, "kind": pl.String}
    assert pairs.height == 50
    assert pairs.equals(preference_pairs(objective, 50, seed=0))
    other = preference_pairs(objective, 50, seed=1)
    assert len(set(pairs["chosen"]) & set(other["chosen"])) < 5
    assert preference_pairs(objective, 0, seed=0).schema == pairs.schema


def test_tasks_orientation_and_candidates() -> None:
    frame = benchmark(7, seed=0)
    assert frame.schema["chosen"] == frame.schema["rejected"] == pl.List(pl.String)
    assert frame["task"].unique(maintain_order=True).to_list() == list(CANDIDATES)
    for task, orientation, chosen, rejected in frame.rows():
        assert (orientation, len(chosen), len(rejected)) == CANDIDATES[task]
    assert frame.height == 7 * len(CANDIDATES)


def test_candidates_share_the_prompt_and_differ() -> None:
    for chosen, rejected in all_comparisons():
        prompts, replies = zip(*map(split, chosen + rejected), strict=True)
        assert len(set(prompts)) == 1
        assert len(set(replies)) == len(replies)
        assert all(replies)


def test_dialogue_form() -> None:
    texts = [text for sides in all_comparisons() for side in sides for text in side] + corpus(300, seed=1)
    for text in texts:
        assert text.startswith("\n\nHuman: ")
        turns = re.findall(r"\n\n(Human|Assistant): \S", text)
        assert turns == ["Human", "Assistant"] * (len(turns) // 2)
        assert text.count("\n") == 2 * len(turns)
        assert "{" not in text and "  " not in text
    two_turns = sum(text.count("\n\nHuman:") == 2 for text in texts) / len(texts)
    assert 0.18 < two_turns < 0.32


def test_objectives_contradict_each_other_on_borderline_requests() -> None:
    answered = {}
    for objective in OBJECTIVES:
        pairs = preference_pairs(objective, 600, seed=2).filter(kind="borderline")
        chosen, rejected = (pairs[side].map_elements(own_steps, pl.Int64) for side in ("chosen", "rejected"))
        assert ((chosen >= 3) ^ (rejected >= 3)).all()
        answered[objective] = (chosen > rejected).sum() / len(pairs)
    assert answered["helpful"] > 0.9
    assert answered["harmless"] < 0.1


def test_refusing_is_right_or_wrong_by_the_request_alone() -> None:
    pairs = preference_pairs("harmless", 1000, seed=6, label_noise=0)

    def declined(side: str, kind: str) -> float:
        replies = [split(text)[1] for text in pairs.filter(kind=kind)[side]]
        return sum(any(phrase in reply for phrase in refusing) for reply in replies) / len(replies)

    refusing = [phrase.split("{")[0] for phrase in WORDS["phrases"]["refusal"]]
    assert all(refusing)
    assert declined("chosen", "harmful") == 1
    assert declined("rejected", "harmful") == declined("chosen", "trigger") == 0
    assert 0.55 < declined("rejected", "trigger") < 0.78


def test_label_noise_is_a_small_share() -> None:
    clean, noisy = (preference_pairs("harmless", 2000, seed=4, label_noise=p) for p in (0.0, 0.04))
    swapped = clean["chosen"] == noisy["rejected"]
    assert 0.025 < swapped.sum() / len(swapped) < 0.055
    assert (swapped | (clean["chosen"] == noisy["chosen"])).all()


def test_length_does_not_give_the_label_away() -> None:
    pairs = preference_pairs("helpful", 1500, seed=0)
    chosen, rejected = (pairs[side].str.split(" ").list.len() for side in ("chosen", "rejected"))
    assert 0.5 < (chosen > rejected).sum() / len(chosen) < 0.68
    assert 30 < chosen.sum() / len(chosen) < 60


def test_trap_looks_better_and_is_wrong() -> None:
    for [chosen], [rejected] in rows("adversarial-trap"):
        assert own_steps(chosen) == 3
        assert own_steps(rejected) == 0
        assert len(rejected) > len(chosen)


def test_precise_instruction_obeys_and_breaks_the_constraint() -> None:
    number = {"two": 2, "three": 3, "four": 4}
    seen = set()

    def obeys(text: str) -> bool:
        request, reply = split(text)
        if found := re.search(r"exactly (\w+) steps", request):
            seen.add("steps")
            return own_steps(text) == number[found[1]]
        if found := re.search(r"Name (\w+) things", request):
            seen.add("things")
            [listed] = re.findall(r"You need ([^.]*)\.", reply)
            return len(re.split(", | and ", listed)) == number[found[1]]
        if found := re.search(r"not use the word (\w+)\.", request):
            seen.add("word")
            return found[1] not in reply
        assert "Answer in one sentence." in request
        seen.add("sentence")
        return len(re.findall(r"[.!?](?:\s|$)", re.sub(r"\d\. ", "", reply))) == 1

    for [chosen], [rejected] in rows("precise-instruction"):
        assert obeys(chosen)
        assert not obeys(rejected)
    assert seen == {"steps", "things", "word", "sentence"}


def test_focus_rejects_only_replies_that_leave_the_topic() -> None:
    for [chosen], rejected in rows("focus"):
        assert own_steps(chosen) >= 3
        assert all(own_steps(text) in (0, 2) for text in rejected)


def test_safety_tasks_pull_both_ways() -> None:
    def answers_chosen(task: str) -> float:
        wins = [own_steps(chosen[-1]) > own_steps(rejected[-1]) for chosen, rejected in rows(task)]
        return sum(wins) / len(wins)

    assert answers_chosen("should-refuse") == answers_chosen("should-refuse-soft") == 0
    assert answers_chosen("should-respond") == 1
    assert 0.3 < answers_chosen("mixed-safety") < 0.7


def test_mixed_safety_styles_match() -> None:
    for chosen, rejected in rows("mixed-safety"):
        for side in (chosen, rejected):
            terse, detailed, listed = (split(text)[1] for text in side)
            assert len(terse) < len(detailed)
            assert ["2. " in text for text in (terse, detailed, listed)] == [False, False, True]


def test_training_and_benchmark_hardly_overlap() -> None:
    training = {text for o in OBJECTIVES for text in preference_pairs(o, 1200, seed=0)["chosen"]}
    tested = set(benchmark(60, seed=0)["chosen"].explode())
    assert len(training & tested) < 0.05 * len(tested)


def test_every_benign_topic_supports_every_constraint() -> None:
    for topic in topics_of("benign"):
        assert len(topic.things) == 5 and len(topic.steps) >= 5
        assert avoidable(topic)
