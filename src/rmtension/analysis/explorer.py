"""What the explorer shows of a study's comparisons: texts, lengths, and every score of every candidate.

All of it becomes JSON. Scores are float32 as in their files, little endian, one behind the other, in base64; those of a
comparison that was not scored are NaN.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from rmtension.analysis.loading import LENGTHS, SCORES
from rmtension.base.files import read_table, scan_table
from rmtension.data.comparisons import evenly, read_judged
from rmtension.data.dialogues import MARK
from rmtension.neurons.ranking import SETS
from rmtension.study.explored import explored, read_along
from rmtension.study.measured import own_tests, sets_of_sizes
from rmtension.study.naming import MEAN, tension_sets_index, thirds_names
from rmtension.study.study import Study

PAGE = 11_000_000  # bytes that texts and scores take of the page; with the rest it stays below 15 MB
# What a score and a byte of text take there, in base64: float32 barely shrink, texts do so by half.
OF_A_SCORE, OF_A_TEXT = 5.0, 0.6
RUNNING = dict.fromkeys(["benchmark", "comparison_id", "response"], pl.String()) | {
    "tokens": pl.List(pl.String()),
    "rewards": pl.List(pl.Float32()),
}
Json = dict[str, Any]


def floats(values: ArrayLike) -> str:
    """Numbers as float32, in base64."""
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def kind_of(study: Study, regime: str, name: str) -> str:
    """What a set is: own (the top units by a scoring), whole (made of a mixed regime's parts), control, or third."""
    controls = tension_sets_index(study.regimes[regime].mixes, study.ablation.control_draws)
    kinds = {one.name: "whole" if one.control == "whole" else "control" for one in controls}
    kinds |= dict.fromkeys(thirds_names(study.ablation.control_draws), "third")
    return kinds.get(name.removesuffix(MEAN), "own")


class Rows(NamedTuple):
    """Reward models under ablations: the rows of all scores."""

    model: str
    regime: str
    seed: int
    ablations: list[str]

    @property
    def place(self) -> str:
        return f"{self.model}/{self.regime}/seed-{self.seed}"


def all_rows(study: Study) -> list[Rows]:
    ablations = {regime: sets_of_sizes(study, regime) for regime in study.regimes}
    places = product(study.models, study.regimes, study.seeds)
    return [Rows(model, regime, seed, ablations[regime]) for model, regime, seed in places]


def shared_prompt(texts: Sequence[str]) -> str:
    """What all texts begin with, up to and with the mark of a turn; empty where no mark is in what they share."""
    shortest = min(map(len, texts))
    length = bisect_left(range(shortest), True, key=lambda i: len({text[: i + 1] for text in texts}) > 1)
    same = texts[0][:length]
    marks = [*re.finditer(f"{MARK} ?", same)]
    return same[: marks[-1].end()] if marks else ""


def drawn(comparisons: pl.DataFrame, n_rows: int, seed: int) -> pl.DataFrame:
    """All comparisons, or as many as PAGE has room for, drawn by `seed`: of every task as many where it has them."""
    sides = [pl.col("chosen"), pl.col("rejected")]
    n, length = (sum(side.list.len() for side in sides), sum(size(side) for side in sides))
    cost = OF_A_SCORE * n_rows * n + OF_A_TEXT * length
    ordered = evenly(comparisons.select("benchmark", "task", cost=cost).with_row_index(), seed)
    return comparisons[ordered.filter(pl.col("cost").cum_sum() <= PAGE)["index"].sort()]


def size(texts: pl.Expr) -> pl.Expr:
    """Bytes of lists of texts."""
    return texts.list.eval(pl.element().str.len_bytes()).list.sum().cast(pl.Float64)


def comparisons_block(shown: pl.DataFrame, every: pl.DataFrame, lengths: Mapping[str, pl.DataFrame]) -> Json:
    """Columns of the comparisons shown, and of how many of each benchmark they were drawn.

    lengths: by model, LENGTHS.
    """
    prompts = [shared_prompt([*c, *r]) for c, r in shown.select("chosen", "rejected").rows()]
    rests = {
        side: [[text[len(prompt) :] for text in texts] for prompt, texts in zip(prompts, shown[side], strict=True)]
        for side in ("chosen", "rejected")
    }
    counted = {}
    for model, frame in lengths.items():
        both = shown.join(frame, on=["benchmark", "comparison_id"], how="left", maintain_order="left")
        counted[model] = both.select(pl.concat_list("chosen_tokens", "rejected_tokens")).to_series().to_list()
    totals = {
        name: [len(shown.filter(benchmark=name)), len(every.filter(benchmark=name))]
        for name in every["benchmark"].unique(maintain_order=True)
    }
    keys = {name: shown[name].to_list() for name in ("benchmark", "comparison_id", "task", "orientation")}
    return {**keys, "prompt": prompts, **rests, "tokens": counted, "totals": totals}


def scores_block(folder: Path, rows: Iterable[Rows], shown: pl.DataFrame, ablations: slice) -> Json:
    """rows: model, regime, seed, ablation, units of the set; values: floats [rows, candidates of all comparisons shown,
    chosen before rejected]. ablations: which of each reward model's."""
    counts = shown.select(n=pl.col("chosen").list.len() + pl.col("rejected").list.len())["n"].cast(pl.Int64)
    offsets, n = shown.select("benchmark", "comparison_id", offset=counts.cum_sum() - counts), int(counts.sum())
    labels, values = [], []
    for one in rows:
        names, found = one.ablations[ablations], np.full((len(one.ablations[ablations]), n), np.nan, "f4")
        for (benchmark,), of_benchmark in offsets.group_by("benchmark", maintain_order=True):
            file = folder / "scores" / one.place / f"{benchmark}.parquet"
            fill(found, names, scan_table(file, SCORES), of_benchmark)
        sizes = set_sizes(folder, one) if names != ["none"] else {}
        labels += [[one.model, one.regime, one.seed, name, sizes.get(name.removesuffix(MEAN), 0)] for name in names]
        values.append(found)
    return {"rows": labels, "values": floats(np.concatenate(values))} if values else {"rows": [], "values": ""}


def fill(values: NDArray[np.float32], names: Sequence[str], scores: pl.LazyFrame, offsets: pl.DataFrame) -> None:
    """Write the scores of a file under each of `names` into `values`, where each comparison's candidates begin."""
    rows = pl.DataFrame({"ablation": names}).with_row_index("row")
    both = pl.concat_list("chosen_scores", "rejected_scores").alias("score")
    wanted = pl.col("ablation").is_in(names) & pl.col("comparison_id").is_in(offsets["comparison_id"].implode())
    read = scores.filter(wanted).filter(pl.col("chosen_scores").is_not_null()).select("ablation", "comparison_id", both)
    placed = read.collect().join(offsets, on="comparison_id").join(rows, on="ablation")
    place = pl.int_ranges(pl.col("offset"), pl.col("offset") + pl.col("score").list.len())
    each = placed.with_columns(place=place).explode("score", "place")
    values[each["row"].to_numpy(), each["place"].to_numpy()] = each["score"].to_numpy()


def running_block(folder: Path, study: Study, model: str) -> Json:
    """Rewards token by token, of the first seed. texts: benchmark, comparison_id, response, tokens; rewards: by regime
    floats of all tokens one behind the other."""
    frames = {
        regime: read_table(folder / f"running_rewards/{model}/{regime}/seed-{study.seeds[0]}.parquet", RUNNING).filter(
            pl.col("tokens").is_not_null()
        )
        for regime in read_along(study)
    }
    texts = next(iter(frames.values())).select("benchmark", "comparison_id", "response", "tokens")
    rewards = {regime: floats(frame["rewards"].explode().to_numpy()) for regime, frame in frames.items()}
    return {"seed": study.seeds[0], "texts": [list(row) for row in texts.rows()], "rewards": rewards}


def set_sizes(folder: Path, one: Rows) -> dict[str, int]:
    """Units of every set that was selected in a reward model."""
    sets = read_table(folder / "selected" / one.place / "sets.parquet", SETS)
    return dict(sets.group_by("ablation", maintain_order=True).len().rows())


def comparisons_and_scores(folder: Path, study: Study, judged: Mapping[str, Iterable[str]]) -> dict[str, Json]:
    """The blocks of the page about comparisons: study, comparisons, scores, and of each model `ablated MODEL`.

    judged: benchmark -> files of its comparisons.
    """
    every, rows, places = read_judged(judged), all_rows(study), set(stands(study).values())
    shown = drawn(every, sum(len(one.ablations) for one in rows), study.explore.seed)
    lengths = {model: read_table(folder / "lengths" / f"{model}.parquet", LENGTHS) for model in study.models}
    blocks = {
        "comparisons": comparisons_block(shown, every, lengths),
        "scores": scores_block(folder, [one for one in rows if one.regime in places], shown, slice(0, 1)),
    }
    for model in study.models:
        ablated = [one for one in rows if one.model == model and len(one.ablations) > 1]
        blocks[f"ablated {model}"] = scores_block(folder, ablated, shown, slice(1, None))
        blocks[f"running {model}"] = running_block(folder, study, model)
    return {"study": study_block(study, rows), **blocks}


def stands(study: Study) -> dict[str, str]:
    """Regime -> the one under which its reward models' scores without ablation are shown: of given ones all are one."""
    distinct = study.distinct_regimes() if study.mixed_regimes() else list(study.regimes)
    return {name: name if name in distinct else distinct[0] for name in study.regimes}


def study_block(study: Study, rows: Sequence[Rows]) -> Json:
    """What the page calls things."""
    ablations = {one.regime: one.ablations[1:] for one in rows}
    return {
        "name": study.name,
        "models": list(study.models),
        "seeds": study.seeds,
        "regimes": {name: regime.mixes for name, regime in study.regimes.items()},
        "mixed": study.mixed_regimes(),
        "stands": stands(study),
        "explored": explored(study),
        "ablations": {r: [[name, kind_of(study, r, name)] for name in names] for r, names in ablations.items()},
        "tested": own_tests(study)[:1],
    }
