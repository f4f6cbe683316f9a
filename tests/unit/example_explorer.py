"""The files of a small study that the explorer reads, made up: numbers drawn, texts written here; and their page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from example_results import SETTINGS

from rmtension.analysis.explorer import RUNNING, Json, comparisons_and_scores
from rmtension.analysis.explorer_neurons import neurons_blocks
from rmtension.data.comparisons import COMPARISONS, PAIRS
from rmtension.engine.evaluation import SCHEMA as SCORES
from rmtension.engine.passages import PASSAGES, WITHOUT
from rmtension.neurons.ranking import ATTRIBUTIONS, NEURON, oriented_sets, rankings, sets_to_frame, whole_sets
from rmtension.neurons.strongest import strongest
from rmtension.report.explorer import write_explorer
from rmtension.study.explored import explored, explored_sets
from rmtension.study.measured import sets_of_sizes
from rmtension.study.study import Study

STUDY = Study.model_validate(
    SETTINGS
    | {"benchmarks": {name: SETTINGS["benchmarks"][name] for name in ("own-test", "one")}}
    | {"neurons": {"scorings": ["magnitude", "attribution", "random", "head-norm"]}, "explore": {"passages": 2}}
)
LAYERS, NEURONS, HEADS = 4, 10, 2
PROMPT = "\n\nHuman: Is <b>bread</b> & butter “good”?\n\nAssistant: "
OWN = {
    regime: [
        (f"{regime}/test/{i}", f"{PROMPT}{regime} yes {i}. " + "word " * i, f"{PROMPT}no {i}. " + "word " * (29 - i))
        for i in range(30)
    ]
    for regime in ("helpful", "harmless")
}
# Two of each side, without a mark in what they share, and too long for any reward model.
ODD = [
    ("one/0", "plain", "helpful", [f"{PROMPT}a", f"{PROMPT}b"], [f"{PROMPT}c", f"{PROMPT}dd"]),
    ("one/1", "plain", "harmless", ["no mark at all"], ["no mark, either"]),
    ("one/2", "odd-task", "unoriented", [f"{PROMPT}too"], [f"{PROMPT}long"]),
]


def write_files(folder: Path) -> None:
    for name, frame in {**texts(), **of_reward_models()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(folder / name)


def texts() -> dict[str, pl.DataFrame]:
    """Comparisons, and their lengths in words."""
    files = {}
    for regime, own in OWN.items():
        pairs = [(*row, f"{regime}-source", regime) for row in own]
        files[f"data/{regime}/test.parquet"] = pl.DataFrame(pairs, PAIRS, orient="row")
    files["benchmarks/one.parquet"] = pl.DataFrame(ODD, COMPARISONS, orient="row")
    rows: list[tuple[Any, ...]] = []
    for benchmark, id_, task, orientation, chosen, rejected in every():
        counts = [[len(text.split()) for text in side] for side in (chosen, rejected)]
        rows.append((benchmark, id_, task, orientation, *counts))
    schema = dict.fromkeys(["benchmark", "comparison_id", "task", "orientation"], pl.String())
    sides = dict.fromkeys(["chosen_tokens", "rejected_tokens"], pl.List(pl.Int32()))
    lengths = pl.DataFrame(rows, {**schema, **sides}, orient="row")
    return files | {f"lengths/{model}.parquet": lengths for model in STUDY.models}


def every() -> Iterator[tuple[str, str, str, str, list[str], list[str]]]:
    """benchmark, comparison_id, task, orientation, chosen, rejected."""
    for regime, rows in OWN.items():
        yield from (
            ("own-test", id_, f"{regime}-source", regime, [chosen], [rejected]) for id_, chosen, rejected in rows
        )
    yield from (("one", *row) for row in ODD)


def of_reward_models() -> dict[str, pl.DataFrame]:
    files: dict[str, pl.DataFrame] = {}
    singles: dict[str, pl.DataFrame] = {}
    for model, seed, regime in product(STUDY.models, STUDY.seeds, STUDY.regimes):
        rng, place = np.random.default_rng([seed, len(model), len(regime)]), f"{model}/{regime}/seed-{seed}"
        statistics, heads, attributions = measured(rng)
        ranked = rankings(statistics, heads, attributions, STUDY.neurons, "magnitude", [model, regime, str(seed)])
        sets = oriented_sets(ranked, STUDY.neurons.scorings, [STUDY.ablation.percent])
        singles[regime] = sets[STUDY.ablation.main_set]
        if mixes := STUDY.regimes[regime].mixes:
            sets |= whole_sets({name: singles[name] for name in mixes})
        selected = sets_to_frame(sets)
        files |= {
            f"activations/{place}.parquet": statistics,
            f"neurons/{place}.parquet": ranked,
            f"selected/{place}/sets.parquet": selected,
            **{f"scores/{place}/{b}.parquet": scores(b, regime, rng) for b in STUDY.benchmarks},
        }
        if seed == STUDY.seeds[0]:
            files[f"running_rewards/{place}.parquet"] = running(rng)
        if regime in explored(STUDY) and seed == STUDY.seeds[0]:
            top = strongest(ranked, selected, explored_sets(STUDY, regime), STUDY.explore.neurons)
            neurons = top.select(NEURON).unique().sort(NEURON)
            files[f"passages/{place}.parquet"] = passages(neurons, rng)
            files[f"passages/{place}/scores.parquet"] = without(neurons, rng)
    return files


def measured(rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Statistics of neurons and of heads, and attributions of both."""
    sides, frames = pl.DataFrame({"response": ["chosen", "rejected"]}), {}
    for unit, n in (("neuron", NEURONS), ("head", HEADS)):
        places = list(product(range(LAYERS), range(n)))
        of = pl.DataFrame(places, {"layer": pl.Int32, unit: pl.Int32}, orient="row")
        frames[unit] = of.join(sides, how="cross", maintain_order="left_right")
    names = ("mean", "mean_abs", "rms", "frac_positive", "change_rms")
    statistics = frames["neuron"].with_columns(
        **{name: pl.Series(rng.lognormal(size=len(frames["neuron"]))) for name in names}
    )
    heads = frames["head"].with_columns(mean_norm=pl.Series(rng.lognormal(size=len(frames["head"]))))
    units = pl.concat(
        frame.unique(["layer", unit], maintain_order=True).select("layer", neuron=unit, unit=pl.lit(unit))
        for unit, frame in frames.items()
    )
    drawn = {name: pl.Series(rng.normal(size=len(units))) for name in ("attribution", "attribution_abs")}
    return statistics, heads, units.with_columns(**drawn).select(*ATTRIBUTIONS)


def scores(benchmark: str, regime: str, rng: np.random.Generator) -> pl.DataFrame:
    """Of all that is ablated, those of the sweep, too; the last comparison of `one` was too long."""
    of = [row for row in every() if row[0] == benchmark and (benchmark == "one" or regime in (row[3], "mixed"))]
    names = [*sets_of_sizes(STUDY, regime, STUDY.ablation.sweep if benchmark == "own-test" else [])]
    rows = []
    for name, (_, id_, task, orientation, *sides) in product(names, of):
        drawn = [None if id_ == "one/2" else rng.normal(0, 1, len(side)).tolist() for side in sides]
        rows.append((name, id_, task, orientation, *drawn, None, None, ""))
    return pl.DataFrame(rows, SCORES, orient="row")


def passages(neurons: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    rows = []
    for (layer, neuron), side, place in product(neurons.rows(), ("chosen", "rejected"), (1, 2)):
        words = [" <i>good</i>", "\n", " day", " “é”"][: 2 + place % 3]
        values = rng.normal(0, 2, len(words)).astype(np.float32)
        peak = int(np.abs(values).argmax())
        of_text = f"helpful/test/{place}", "helpful-source", "helpful"
        of_passage = values[peak], peak, 3, 3 + len(words) + place, words, values.tolist()
        rows.append((layer, neuron, side, place, *of_text, *of_passage))
    return pl.DataFrame(rows, PASSAGES, orient="row")


def running(rng: np.random.Generator) -> pl.DataFrame:
    """Of every second comparison, word by word; the last one could not be read."""
    rows = []
    for benchmark, id_, _, _, *sides in [*every()][::2]:
        for side, texts in zip(("chosen", "rejected"), sides, strict=True):
            for candidate, text in enumerate(texts):
                words = [f"{word} " for word in text.removeprefix(PROMPT).split()]
                both = (None, None) if id_ == "one/2" else (words, rng.normal(size=len(words)).tolist())
                rows.append((benchmark, id_, side, candidate, *both))
    columns = ["benchmark", "comparison_id", "response", "candidate", "tokens", "rewards"]
    return pl.DataFrame(rows, {name: RUNNING.get(name, pl.Int32()) for name in columns}, orient="row")


def without(neurons: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    pairs = [row for row in every() if row[0] == "own-test"]
    rows = [
        (*place, *pair[1:4], rng.normal(0, 1, 1).tolist(), rng.normal(0, 1, 1).tolist(), None)
        for place, pair in product([(None, None), *neurons.rows()], pairs)
    ]
    return pl.DataFrame(rows, WITHOUT, orient="row")


def blocks(folder: Path) -> dict[str, Json]:
    """What the page holds of the files in a folder."""
    own = [str(folder / f"data/{regime}/test.parquet") for regime in OWN]
    judged = {"own-test": own, "one": [str(folder / "benchmarks/one.parquet")]}
    return comparisons_and_scores(folder, STUDY, judged) | neurons_blocks(folder, STUDY)


def write_example(folder: Path) -> Path:
    """The page, beside the files that it is made of."""
    write_files(folder)
    page = folder / "explore.html"
    write_explorer(page, STUDY, blocks(folder))
    return page
