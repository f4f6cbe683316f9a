"""Counts of odd pairs and of what splits share, against plain Python."""

from __future__ import annotations

import random

import polars as pl

from rmtension.data.hygiene import HYGIENE, benchmark_counts, opening, shared, sift

QUESTIONS = ["a", "b b", "c\n\nd"]
REPLIES = ["", " yes", " no", " well\n\nHuman: more?\n\nAssistant: no", " Human: so?", "\n\nHuman:\n\nAssistant: no",
           " no\n\nHuman: so?"]  # fmt: skip


def dialogue(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return rng.choice(["", " \n", "\n\nHuman: alone"])
    return f"\n\nHuman: {rng.choice(QUESTIONS)}\n\nAssistant:{rng.choice(REPLIES)}"


def pairs(seed: int, n: int, sources: int = 1) -> pl.DataFrame:
    rng = random.Random(seed)
    rows = [(dialogue(rng), dialogue(rng), f"s{rng.randrange(sources)}") for _ in range(n)]
    return pl.DataFrame(rows, ["chosen", "rejected", "source"], orient="row")


def first_fault(chosen: str, rejected: str) -> str:
    if not chosen.strip() or not rejected.strip():
        return "a side without text"
    if "\n\nAssistant:" not in chosen or "\n\nAssistant:" not in rejected:
        return "a side without an assistant turn"
    return "both sides the same" if chosen == rejected else ""


def turns(text: str) -> list[tuple[str, str, bool]]:
    """Who speaks, the words, and whether it is the last turn."""
    parts = [part.partition(":") for part in text.split("\n\n") if part.startswith(("Human:", "Assistant:"))]
    return [(who, said.strip(), i == len(parts) - 1) for i, (who, _, said) in enumerate(parts)]


def last_turn(text: str) -> tuple[str, str]:
    before, _, reply = text.rpartition("\n\nAssistant:")
    return before, reply


def test_every_pair_left_out_has_one_reason_and_the_others_may_have_several() -> None:
    frame = pairs(0, 300)
    kept, found = sift(frame, "mine", "train")
    rows = [(chosen, rejected) for chosen, rejected, _ in frame.rows()]
    faults = [first_fault(*row) for row in rows]
    assert kept.rows() == [row for row, fault in zip(frame.rows(), faults, strict=True) if not fault]
    both = [[*turns(a), *turns(b)] for (a, b), fault in zip(rows, faults, strict=True) if not fault]
    good = [(last_turn(a), last_turn(b)) for (a, b), fault in zip(rows, faults, strict=True) if not fault]
    expected = {(fault, "left out"): faults.count(fault) for fault in dict.fromkeys(faults) if fault}
    expected |= {
        ("last reply empty", "kept"): sum(not a[1].strip() or not b[1].strip() for a, b in good),
        ("a turn without words", "kept"): sum(not all(said for _, said, last in one if not last) for one in both),
        ("a turn begins with a mark", "kept"): sum(any(said[:6] == "Human:" for _, said, _ in one) for one in both),
        ("the last turn is the human's", "kept"): sum(("Human", "so?", True) in one for one in both),
        ("sides differ before the last reply", "kept"): sum(a[0] != b[0] for a, b in good),
    }
    assert min(expected.values()) > 5, "every reason occurs"
    assert {(row["reason"], row["treatment"]): row["n"] for row in found.iter_rows(named=True)} == expected
    assert found.schema == HYGIENE and set(found["of"]) == {300} and set(found["source"]) == {"mine"}


def test_what_test_pairs_share_with_training() -> None:
    train, test = sift(pairs(1, 12), "", "")[0], sift(pairs(2, 200, sources=2), "", "")[0]
    texts = {*train["chosen"], *train["rejected"]}
    asked = {text.split("\n\nAssistant:")[0] for text in train["chosen"]}
    found = {(source, reason): (n, of) for source, _, reason, _, n, of in shared(train, test).rows()}
    for source in ("s0", "s1"):
        rows = test.filter(source=source).rows()
        n_texts = sum(chosen in texts or rejected in texts for chosen, rejected, _ in rows)
        n_asked = sum(chosen.split("\n\nAssistant:")[0] in asked for chosen, _, _ in rows)
        assert 0 < n_texts < n_asked
        assert found.pop((source, "a text occurs in training")) == (n_texts, len(rows))
        assert found.pop((source, "the opening question occurs in training")) == (n_asked, len(rows))
    assert not found


def test_an_opening_question_is_the_same_in_every_template() -> None:
    asked = ["\n\nHuman: q?\nr\n\nAssistant: x\n\nHuman: s\n\nAssistant: y", "Human:q?\nr\n\nAssistant:x",
             "\n\nHuman: q?\nr \n\nAssistant:x\n\nHuman: s\n\nAssistant: y",
             "\n\nAssistant: p\n\no\n\nHuman: q?\nr\n\nAssistant: x"]  # fmt: skip
    found = pl.DataFrame({"t": [*asked, "q?", ""]}).select(opening(pl.col("t")))["t"].to_list()
    assert found == ["q?\nr"] * len(asked) + [None, None]


def test_odd_comparisons_of_a_benchmark_are_counted() -> None:
    head = "\n\nHuman: q\n\nAssistant:"
    frame = pl.DataFrame({
        "chosen": [[head + " a", head + " b"], [head + " a"], [head + " "], ["Human:\n\nAssistant:a"], [head + "a"]],
        "rejected": [[head + " b"], [head + " c\n\nHuman: d"], [head + " d", head + " e"], ["Human:\n\nAssistant:b"],
                     [head + head + "b"]],
    })  # fmt: skip
    assert {reason: n for _, _, reason, _, n, of in benchmark_counts("mine", frame).rows() if of == 5} == {
        "a text on both sides": 1,
        "last reply empty": 1,
        "a turn without words": 2,
        "a turn begins with a mark": 0,
        "the last turn is the human's": 1,
        "sides differ before the last reply": 1,
    }
