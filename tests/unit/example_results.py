"""A study's results made of random scores, small enough for naive loops to check what is computed from them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import polars as pl

from rmtension.analysis.loading import PAIRS_SEEN, PRODUCTS
from rmtension.analysis.results import Results
from rmtension.analysis.statistics import REWARD_MODEL, TASK
from rmtension.study.measured import ablated_sets, compared_sets, matched_frozen, patched_on
from rmtension.study.study import Study

MADE = {"kind": "made", "family": "gpt2", "layers": 4, "width": 8, "heads": 2, "neurons": 5,
        "pretraining": {"texts": 1, "epochs": 1}}  # fmt: skip
SYNTHETIC = {"kind": "synthetic", "train": 9, "test": 9}
SETTINGS: dict[str, Any] = {
    "name": "example",
    "seeds": [7, 3, 5],
    "models": {"zebra": {"source": MADE}, "ape": {"source": MADE}},
    "sources": {o: SYNTHETIC | {"objective": o} for o in ("helpful", "harmless")},
    "regimes": {
        "helpful": {"train": ["helpful"], "test": ["helpful"]},
        "harmless": {"train": ["harmless"], "test": ["harmless"]},
        "mixed": {"mixes": ["helpful", "harmless"]},
    },
    "neurons": {"scorings": ["magnitude", "change", "random", "head-norm", "head-random"]},
    "ablation": {
        "percent": 20,
        "sweep": [20, "3n", 50, 100],
        "sweep_benchmarks": ["own-test"],
        "control_draws": 2,
        "values": ["zero", "mean"],
    },
    "analysis": {"draws": 200},
    "benchmarks": {
        "own-test": {"kind": "regime-test"},
        "one": {"kind": "synthetic", "per_task": 4},
        "two": {"kind": "synthetic", "per_task": 4},
    },
}
CAUSES: dict[str, Any] = {"patching": {"benchmarks": ["own-test", "one", "two"]}, "conflict": {}}
STUDY = Study.model_validate(SETTINGS | CAUSES)
# Every way in which two objectives can come together; `again` is a second mixed regime of the same two.
REPAIRS: dict[str, Any] = {
    "merged": {"method": "merged", "weights": [0.5, 0.5]},
    "merged-most": {"method": "merged", "weights": [0.9, 0.1]},
    "projected": {"method": "projected", "epochs": 3},
    "frozen": {"method": "frozen", "frozen": "shared"},
    "frozen-matched": {"method": "frozen", "frozen": "matched"},
    "ensemble": {"method": "ensemble"},
}
OF_REPAIRS = {name: {"mixes": ["harmless", "helpful"]} | settings for name, settings in REPAIRS.items()}
REPAIRED = Study.model_validate(
    SETTINGS
    | {"regimes": SETTINGS["regimes"] | {"again": {"mixes": ["helpful", "harmless"], "epochs": 1}} | OF_REPAIRS}
    | {"ablation": {"percent": 20, "sweep": [], "control_draws": 1}}
)
# Benchmark -> task, orientation, comparisons, rejected responses. `sums` is in both benchmarks.
TASKS = {
    "one": [("sums", "helpful", 6, 1), ("tact & <tone>", "harmless", 9, 1)],
    "two": [("sums", "helpful", 5, 3), ("focus_50%", "helpful", 8, 3), ("left out", "unoriented", 4, 1)],
}
LAYERS, NEURONS, HEADS = 4, 5, 2


def own_tasks(study: Study, regime: str) -> list[tuple[str, str, int, int]]:
    singles = study.regimes[regime].mixes or [regime]
    return [(source, single, 7, 1) for single in singles for source in study.regimes[single].test]


def scored(
    study: Study, reward_model: tuple[Any, ...], benchmark: str, rng: np.random.Generator
) -> list[dict[str, Any]]:
    tasks = TASKS[benchmark] if benchmark in TASKS else own_tasks(study, reward_model[1])
    rows: list[dict[str, Any]] = []
    for ablation, (task, orientation, n, rejected) in product(ablated_sets(study, reward_model[1], benchmark), tasks):
        for i in range(n):
            unscored = task == "focus_50%" and i == 2
            scores = rng.normal(0.4, 1, 1 + rejected).astype(np.float32).tolist()
            rows.append(
                dict(zip(REWARD_MODEL, reward_model, strict=True))
                | {"benchmark": benchmark, "ablation": ablation, "comparison_id": f"{benchmark}/{task}/{i}"}
                | {"task": task, "orientation": orientation}
                | {
                    "chosen_scores": None if unscored else scores[:1],
                    "rejected_scores": None if unscored else scores[1:],
                }
            )
    return rows


def ranked(study: Study, reward_model: tuple[Any, ...], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for scoring in study.neurons.scorings:
        places = [
            (layer, i) for layer in range(LAYERS) for i in range(HEADS if scoring.startswith("head") else NEURONS)
        ]
        scores = np.sort(rng.normal(size=len(places)))[::-1]
        for rank, (place, score) in enumerate(zip(rng.permutation(len(places)), scores, strict=True), start=1):
            layer, neuron = places[place]
            row = {"scoring": scoring, "layer": layer, "neuron": neuron, "score": float(score), "rank": rank}
            rows.append(dict(zip(REWARD_MODEL, reward_model, strict=True)) | row)
    return rows


def example(study: Study = STUDY, seed: int = 0) -> Results:
    rng = np.random.default_rng(seed)
    scores, neurons, sizes, activations = [], [], [], []
    for reward_model in product(study.models, study.regimes, study.seeds):
        keys = dict(zip(REWARD_MODEL, reward_model, strict=True))
        for benchmark in study.benchmarks:
            scores += scored(study, reward_model, benchmark, rng)
        if reward_model[1] not in study.with_neurons():
            continue
        neurons += ranked(study, reward_model, rng)
        sets = ablated_sets(study, reward_model[1], "own-test")
        sizes += [keys | {"ablation": name, "n_neurons": int(rng.integers(1, 9))} for name in sets if name != "none"]
        for layer, neuron, response in product(range(LAYERS), range(NEURONS), ("chosen", "rejected")):
            place = {"layer": layer, "neuron": neuron, "response": response, "mean": rng.normal()}
            activations.append(keys | place)
    lists = {"chosen_scores": pl.List(pl.Float32), "rejected_scores": pl.List(pl.Float32)}
    frame = pl.DataFrame(scores, schema_overrides=lists)
    return Results(
        study,
        [
            frame.with_columns(
                chosen=pl.col("chosen_scores").list.min(), rejected=pl.col("rejected_scores").list.max()
            ).drop("chosen_scores", "rejected_scores")
        ],
        frame.filter(
            pl.col("ablation").is_in(["none", study.ablation.main_set, "shared", "helpful-only", "harmless-only"])
        ),
        pl.DataFrame(sizes),
        pl.DataFrame(sizes)
        .select(*REWARD_MODEL, set=pl.lit(study.ablation.scoring), share=10.0 * pl.col("n_neurons"))
        .unique(REWARD_MODEL, maintain_order=True),
        [pl.DataFrame(neurons)],
        [pl.DataFrame(activations)],
        **surface_of(frame, study, rng),
        patched=[patched(study, rng)],
        conflicts=conflicts(study, rng),
        pairs_seen=pairs_seen(study),
        loudness=loudness(study),
    )


def loudness(study: Study) -> pl.DataFrame:
    """As load_loudness has it, no two the same."""
    rows = [(*place, 0.8 + i / 100) for i, place in enumerate(matched_frozen(study))]
    schema = {"model": pl.String, "regime": pl.String, "seed": pl.Int64, "loudness": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def pairs_seen(study: Study) -> pl.DataFrame:
    """As load_pairs_seen has it, no two the same; the first seed's helpful reward model was trained elsewhere."""
    rows = []
    for i, (model, regime, seed) in enumerate(product(study.models, study.regimes, study.seeds)):
        is_trained = study.regimes[regime].method not in ("merged", "ensemble")
        elsewhere = regime == "helpful" and seed == study.seeds[0]
        rows.append((model, regime, seed, None if elsewhere else (1000 + i) * is_trained))
    return pl.DataFrame(rows, schema=PAIRS_SEEN, orient="row")


def patched(study: Study, rng: np.random.Generator) -> pl.DataFrame:
    """Scores of the mixed reward models with every set patched from either part, by the names that load_patched
    gives."""
    rows: list[dict[str, Any]] = []
    for (mixed, benchmark), model, seed in product(patched_on(study), study.models, study.seeds):
        tasks = TASKS[benchmark] if benchmark in TASKS else own_tasks(study, mixed)
        for donor, one in product(study.regimes[mixed].mixes, compared_sets(study, mixed)):
            for task, orientation, n, _ in tasks:
                for i in range(n):
                    unscored = task == "focus_50%" and i == 2
                    chosen, rejected = rng.normal(0.6, 1, 2).astype(np.float32).tolist()
                    rows.append(
                        {"model": model, "regime": mixed, "seed": seed, "benchmark": benchmark}
                        | {"ablation": f"{donor}/{one.name}", "comparison_id": f"{benchmark}/{task}/{i}"}
                        | {"orientation": orientation, "task": task}
                        | {"chosen": None if unscored else chosen, "rejected": None if unscored else rejected}
                    )
    words: dict[str, Any] = dict.fromkeys([*REWARD_MODEL, "benchmark", "ablation", "comparison_id", *TASK], pl.String)
    numbers = {"seed": pl.Int64, "chosen": pl.Float32, "rejected": pl.Float32}
    return pl.DataFrame(rows, schema=words | numbers)


def conflicts(study: Study, rng: np.random.Generator) -> pl.DataFrame:
    """Sums of products of gradients, some of them no squares, as load_conflicts has them."""
    rows: list[dict[str, Any]] = []
    for mixture in study.mixed_regimes() if study.conflict else []:
        sets = {(one.set, one.control): None for one in compared_sets(study, mixture)}
        places = [("all", "whole", layer) for layer in (None, *range(LAYERS))] + [(*one, None) for one in sets]
        for regime, model, seed, (name, control, layer) in product(
            [*study.regimes[mixture].mixes, mixture], study.models, study.seeds, places
        ):
            own, other, both = rng.normal([1, 1, 0], 0.5)
            square = float(rng.uniform(1, 2))
            rows.append(
                {"model": model, "regime": regime, "seed": seed, "mixture": mixture, "set": name, "control": control}
                | {"layer": layer, "n_neurons": 2.0, "first_first": own, "second_second": other}
                | {"first_second": both, "square": square, "opposed": square * float(rng.uniform())}
            )
    words: dict[str, Any] = dict.fromkeys([*REWARD_MODEL, "mixture", "set", "control"], pl.String)
    numbers = dict.fromkeys(["n_neurons", *PRODUCTS], pl.Float64)
    return pl.DataFrame(rows, schema=words | {"seed": pl.Int64, "layer": pl.Int32} | numbers)


def surface_of(frame: pl.DataFrame, study: Study, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Lengths and word scores of the comparisons of `frame`, activations on its texts, scores on validation splits."""
    place = ["benchmark", "comparison_id", "orientation", "task"]
    sizes = frame.group_by(place, maintain_order=True).agg(pl.col("rejected_scores").list.len().max().fill_null(1))
    lengths, words, validation, texts = [], [], [], []
    for (*names, n), model in product(sizes.rows(), study.models):
        chosen, rejected = rng.integers(1, 9, 1).tolist(), rng.integers(1, 9, n or 1).tolist()
        lengths.append({"model": model} | dict(zip(place, names, strict=True))
                       | {"chosen_tokens": chosen, "rejected_tokens": rejected})  # fmt: skip
    for (*names, n), regime in product(sizes.rows(), study.plain_regimes()):
        scores = {"chosen_scores": rng.normal(size=1).tolist(), "rejected_scores": rng.normal(size=n or 1).tolist()}
        words.append({"regime": regime} | dict(zip(place, names, strict=True)) | scores)
    for model, regime, seed in product(study.models, study.regimes, study.seeds):
        unit = {"model": model, "regime": regime, "seed": seed}
        for ablation, i in product(("none", study.ablation.main_set), range(12)):
            names = {"benchmark": "validation", "ablation": ablation, "comparison_id": f"v/{i}",
                     "orientation": "helpful", "task": "split"}  # fmt: skip
            scores = {"chosen_scores": rng.normal(1, size=1).tolist(), "rejected_scores": rng.normal(size=1).tolist()}
            validation.append(unit | names | scores)
        for (task, orientation, n, _), ablation in product(
            own_tasks(study, regime), (study.ablation.main_set, study.ablation.matched_set)
        ):
            for i, response in product(range(n), ("chosen", "rejected")):
                names = {"ablation": ablation, "comparison_id": f"own-test/{task}/{i}", "orientation": orientation,
                         "task": task, "response": response}  # fmt: skip
                texts.append(unit | names | {"n_tokens": int(rng.integers(1, 9)), "mean": float(rng.normal())})
    lists = {"chosen_scores": pl.List(pl.Float32), "rejected_scores": pl.List(pl.Float32)}
    return {"lengths": pl.DataFrame(lengths), "words": pl.DataFrame(words), "texts": pl.DataFrame(texts),
            "validation": pl.DataFrame(validation, schema_overrides=lists)}  # fmt: skip
