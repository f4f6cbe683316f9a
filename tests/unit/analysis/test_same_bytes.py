"""The same results give the same tables, byte for byte, however many threads add up and whatever engine joins."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
from example_results import SETTINGS

from rmtension.data.tasks import wanted_tasks
from rmtension.neurons.ranking import (
    ATTRIBUTIONS,
    UNIT,
    loudness_cells,
    oriented_sets,
    rankings,
    sets_to_frame,
    subsample,
    tension_sets,
)
from rmtension.study.benchmarks import PublishedBenchmark
from rmtension.study.measured import ablated_sets, scored_on
from rmtension.study.naming import ablation_name
from rmtension.study.study import Study

# Published benchmarks, for their official metrics, and so many neurons that polars shares them out among threads.
STUDY = Study.model_validate(
    SETTINGS
    | {"neurons": {"scorings": ["magnitude", "change", "random", "matched-random", "head-norm"]}}
    | {"ablation": SETTINGS["ablation"] | {"control_draws": 9}, "patching": None, "conflict": None}
    | {
        "benchmarks": {"own-test": {"kind": "regime-test"}}
        | {kind: {"kind": kind, "path": kind} for kind in ("reward-bench", "reward-bench-2", "rm-bench")}
    }
)
LAYERS, NEURONS, HEADS = 4, 1500, 4
TEXTS = {"rm-bench": (3, 3), "reward-bench-2": (1, 3)}
MEASURES = ("mean", "mean_abs", "frac_positive", "change_rms")
RUN = """
import sys
from pathlib import Path
from test_same_bytes import STUDY
from rmtension.analysis.presentation import write_table
from rmtension.analysis.results import load_results
from rmtension.analysis.tables import make_tables
for name, table in make_tables(load_results(Path(sys.argv[1]), STUDY)).items():
    write_table(table, Path(sys.argv[2], f"{name}.parquet"))
"""


def statistics(rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What rankings are made from: of neurons, and of heads."""
    sides, layers = pl.DataFrame({"response": ["chosen", "rejected"]}), pl.DataFrame({"layer": range(LAYERS)})
    units = {"neuron": NEURONS, "head": HEADS}
    neurons, heads = (layers.join(pl.DataFrame({u: range(n)}), how="cross").join(sides, how="cross").cast(
        {"layer": pl.Int32, u: pl.Int32}) for u, n in units.items())  # fmt: skip
    measured = {name: pl.Series(rng.lognormal(size=len(neurons))) for name in MEASURES}
    return neurons.with_columns(**measured), heads.with_columns(mean_norm=pl.Series(rng.lognormal(size=len(heads))))


def scores(regime: str, benchmark: str, rng: np.random.Generator) -> pl.DataFrame:
    """A file of scores, eleven comparisons a task."""
    settings, names = STUDY.benchmarks.get(benchmark), STUDY.regimes[regime].mixes or [regime]
    tasks = pl.DataFrame({"task": names, "orientation": names})
    if isinstance(settings, PublishedBenchmark):
        tasks = wanted_tasks(benchmark, settings).select("task", "orientation").unique(maintain_order=True)
    comparisons = tasks.join(pl.DataFrame({"i": range(11)}), how="cross", maintain_order="left_right")
    comparisons = comparisons.select("task", "orientation", comparison_id=pl.format("{}/{}", "task", "i"))
    ablations = pl.DataFrame({"ablation": ablated_sets(STUDY, regime, benchmark)})
    rows = ablations.join(comparisons, how="cross", maintain_order="left_right")
    drawn = {
        f"{side}_scores": rng.normal(centre, 1, (len(rows), n)).astype(np.float32).tolist()
        for side, centre, n in zip(("chosen", "rejected"), (0.4, 0), TEXTS.get(benchmark, (1, 1)), strict=True)
    }
    return rows.with_columns(pl.Series(name, of, pl.List(pl.Float32)) for name, of in drawn.items())


def write_results(folder: Path) -> None:
    """What the tables read of every reward model, drawn at random."""
    for model, regime, seed in product(STUDY.models, STUDY.regimes, STUDY.seeds):
        rng, names = np.random.default_rng([seed, len(model), len(regime)]), [model, regime, str(seed)]
        of_neurons, heads = statistics(rng)
        ranked = rankings(of_neurons, heads, pl.DataFrame(schema=ATTRIBUTIONS), STUDY.neurons, "magnitude", names)
        sets = oriented_sets(ranked, STUDY.neurons.scorings, [STUDY.ablation.percent])
        if mixes := STUDY.regimes[regime].mixes:
            cells = loudness_cells(of_neurons)
            singles = {r: subsample(cells.select(UNIT), 2000 + i, [i, seed]) for i, r in enumerate(mixes)}
            sets |= tension_sets(singles, cells, STUDY.ablation.control_draws, 0, names)
        swept = sets | oriented_sets(ranked, STUDY.neurons.scorings, STUDY.ablation.sweep)
        files = {
            "activations": of_neurons,
            "neurons": ranked,
            "selected": sets_to_frame(swept).unique(maintain_order=True),
        }
        place = f"{model}/{regime}/seed-{seed}"
        written = {f"{stage}/{place}.parquet": frame for stage, frame in files.items()}
        written[f"selected/{place}/sets.parquet"] = sets_to_frame(sets)
        written |= {f"scores/{place}/{b}.parquet": scores(regime, b, rng) for b in scored_on(STUDY)}
        written[f"set_activations/{place}.parquet"] = activations_on_texts(regime, rng)
        write(folder, written)
    write(folder, surface(np.random.default_rng(0)))


def write(folder: Path, frames: dict[str, pl.DataFrame]) -> None:
    for name, frame in frames.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(folder / name)


def activations_on_texts(regime: str, rng: np.random.Generator) -> pl.DataFrame:
    """Of the texts of the own test split."""
    own = next(name for name, benchmark in STUDY.benchmarks.items() if benchmark.kind == "regime-test")
    texts = scores(regime, own, rng).filter(ablation="none").select("comparison_id", "task", "orientation")
    texts = texts.join(pl.DataFrame({"response": ["chosen", "rejected"]}), how="cross")
    texts = pl.DataFrame(
        {"ablation": [STUDY.ablation.main_set, ablation_name("matched-random", STUDY.ablation.percent)]}
    ).join(texts, how="cross")
    tokens = pl.Series("n_tokens", rng.integers(1, 99, len(texts)), pl.Int32)
    return texts.with_columns(tokens, mean=pl.Series(rng.lognormal(size=len(texts))))


def surface(rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Lengths by each model's tokenizer, and scores by each regime's words, of all that is judged."""
    frames = []
    for benchmark, settings in STUDY.benchmarks.items():
        of = STUDY.single_regimes() if settings.kind == "regime-test" else STUDY.single_regimes()[:1]
        for one in (scores(regime, benchmark, rng).filter(ablation="none") for regime in of):
            frames.append(one.with_columns(benchmark=pl.lit(benchmark)))
    judged = pl.concat(frames)
    sizes = {side: judged[f"{side}_scores"].list.len() for side in ("chosen", "rejected")}
    place = judged.select("benchmark", "comparison_id", "orientation", "task")
    written, of_models = {}, [(model, "lengths", "tokens") for model in STUDY.models]
    for name, stem, kind in [*of_models, *((regime, "words", "scores") for regime in STUDY.regimes)]:
        drawn = {side: [rng.integers(1, 99, n).tolist() for n in of] for side, of in sizes.items()}
        inner = pl.List(pl.Int32() if kind == "tokens" else pl.Float64())
        columns = [pl.Series(f"{side}_{kind}", of, pl.List(pl.Int64)).cast(inner) for side, of in drawn.items()]
        written[f"{stem}/{name}.parquet"] = place.with_columns(columns)
    return written


def made(folder: Path, out: Path, threads: int, engine: str) -> dict[str, bytes]:
    """The files of all tables, made in a process of its own."""
    fixed = {
        "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2])),
        "PYTHONHASHSEED": str(threads),
        "POLARS_ENGINE_AFFINITY": engine,
    }
    counts = dict.fromkeys(["POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"], str(threads))
    command = [sys.executable, "-c", RUN, str(folder), str(out)]
    subprocess.run(command, env=os.environ | fixed | counts, check=True)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_threads_and_engine_leave_no_trace_in_the_tables(tmp_path: Path) -> None:
    write_results(tmp_path / "in")
    one, seven = (
        made(tmp_path / "in", tmp_path / "one", 1, "in-memory"),
        made(tmp_path / "in", tmp_path / "seven", 7, "streaming"),
    )
    assert len(one) > 80 and one.keys() == seven.keys()
    assert [name for name in one if one[name] != seven[name]] == []
