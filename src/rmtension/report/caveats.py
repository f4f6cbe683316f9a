"""What a reader of any study's report should keep in mind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from rmtension.report.conclusions import counted
from rmtension.study.study import Study

ORDINARY = [
    "An orientation's average counts each of its tasks once, however many comparisons the task has.",
    "Whole sets of neurons differ in size, and a larger set can do more harm for that reason alone: the size-matched "
    "rows do without this.",
    "An interval without width, as where all comparisons of a task are right, is no certainty: drawing them anew "
    "cannot show what a few comparisons do not. No verdict rests on one.",
    "Which random neurons were drawn is in no interval: seeds and draws (`ablation.control_draws`) tell how much it "
    "matters.",
    "The best of several rules without a model is chosen on the comparisons that it is judged on, so that by chance "
    "alone it lies above any single one.",
]


def caveats(study: Study, left_out: Sequence[str]) -> list[str]:
    """left_out: of each benchmark with comparisons that could not be scored, `so many of so many on it`."""
    rest = (
        f" the largest count left out by any model and regime was {', '.join(left_out)}. Rules without a model score "
        "all: where some were left out, a reward model is held against none (dotted in the figure `surface`)."
        if left_out
        else " all of them."
    )
    scored = f"Accuracies rest on the comparisons that could be scored:{rest}"
    return [*(of_given() if study.given else of_trained(len(study.seeds))), scored, *ORDINARY]


def of_given() -> Iterator[str]:
    yield (
        "Intervals come from resampling this study's comparisons; they say nothing about other pairs or tasks, nor "
        "about what another training of the same model would have given. Figures of neurons and gradients alone have "
        "none."
    )
    yield (
        "Where something is said of a kind of pairs (regime), it is of the neurons found on these pairs, in the same "
        "reward model."
    )


def of_trained(n_seeds: int) -> Iterator[str]:
    alone = ", and with one seed nothing about other seeds" if n_seeds == 1 else ""
    yield (
        f"Intervals come from resampling this study's comparisons and its {counted(n_seeds, 'seed')}; they say nothing "
        f"about other models, data or ways of training{alone}."
    )
    if n_seeds > 1:
        yield (
            "Intervals of figures on which no comparison has a bearing (depth, overlap, gradients) rest on the seeds "
            "alone, and are too narrow: docs/methods.md, section 7, says by how much."
        )


def unscored(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of the table benchmark_accuracy: of each benchmark, the one with most comparisons left out, if any."""
    counts = table.sort("n_unscored", descending=True, maintain_order=True).filter(pl.col("n_unscored") > 0)
    return counts.unique("benchmark", keep="first", maintain_order=True)
