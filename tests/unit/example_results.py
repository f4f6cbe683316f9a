"""A study's results made of random scores, small enough for naive loops to check what is computed from them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import polars as pl

from rmtension.analysis.results import Results
from rmtension.analysis.statistics import REWARD_MODEL
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
    "ablation": {"percent": 20, "sweep": [20, 50, 100], "sweep_benchmarks": ["own-test"], "control_draws": 2},
    "analysis": {"draws": 200},
    "benchmarks": {
        "own-test": {"kind": "regime-test"},
        "one": {"kind": "synthetic", "per_task": 4},
        "two": {"kind": "synthetic", "per_task": 4},
    },
}
STUDY = Study.model_validate(SETTINGS)
# Benchmark -> task, orientation, comparisons, rejected responses. `sums` is in both benchmarks.
TASKS = {
    "one": [("sums", "helpful", 6, 1), ("tact & <tone>", "harmless", 9, 1)],
    "two": [("sums", "helpful", 5, 3), ("focus_50%", "helpful", 8, 3), ("left out", "unoriented", 4, 1)],
}
LAYERS, NEURONS, HEADS = 4, 5, 2


def own_tasks(study: Study, regime: str) -> list[tuple[str, str, int, int]]:
    return [(single, single, 7, 1) for single in study.regimes[regime].mixes or [regime]]


def scored(
    study: Study, reward_model: tuple[Any, ...], benchmark: str, rng: np.random.Generator
) -> list[dict[str, Any]]:
    tasks = TASKS[benchmark] if benchmark in TASKS else own_tasks(study, reward_model[1])
    rows: list[dict[str, Any]] = []
    for ablation, (task, orientation, n, rejected) in product(study.ablations(reward_model[1], benchmark), tasks):
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
        neurons += ranked(study, reward_model, rng)
        sets = study.ablations(reward_model[1], "own-test")
        sizes += [keys | {"ablation": name, "n_neurons": int(rng.integers(1, 9))} for name in sets if name != "none"]
        for layer, neuron, response in product(range(LAYERS), range(NEURONS), ("chosen", "rejected")):
            place = {"layer": layer, "neuron": neuron, "response": response, "mean": rng.normal()}
            activations.append(keys | place)
    lists = {"chosen_scores": pl.List(pl.Float32), "rejected_scores": pl.List(pl.Float32)}
    frame = pl.DataFrame(scores, schema_overrides=lists)
    return Results(
        study,
        frame.with_columns(
            chosen=pl.col("chosen_scores").list.min(), rejected=pl.col("rejected_scores").list.max()
        ).drop("chosen_scores", "rejected_scores"),
        frame.filter(pl.col("ablation").is_in(["none", "magnitude-p20"])),
        pl.DataFrame(sizes),
        pl.DataFrame(sizes)
        .select(*REWARD_MODEL, set=pl.lit(study.ablation.scoring), share=10.0 * pl.col("n_neurons"))
        .unique(REWARD_MODEL, maintain_order=True),
        pl.DataFrame(neurons),
        pl.DataFrame(activations),
    )
