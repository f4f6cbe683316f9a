"""Cards of pairs and benchmarks (paper, Tables 5-9): there before any reward model is trained."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import polars as pl

from rmtension.base.files import read_table, scan_table
from rmtension.data.comparisons import COMPARISONS, PAIRS
from rmtension.study.section import Section
from rmtension.study.study import Study

SIDES = ("chosen", "rejected")


def origin(section: Section) -> dict[str, str]:
    """kind; source, an id on the hub or a path; revision. The last two are empty for what is made here."""
    known = {"source": getattr(section, "hub", None) or getattr(section, "path", None)}
    known |= {name: getattr(section, name, None) for name in ("kind", "revision")}
    return {name: known[name] or "" for name in ("kind", "source", "revision")}


def data_card(folder: Path, study: Study) -> pl.DataFrame:
    """regime, split, source, orientation; pairs, before those too long for a model are left out (training_card);
    mean_characters and max_characters of their sides."""
    frames = []
    for regime, split in product(study.regimes, ("train", "validation", "test")):
        pairs = scan_table(folder / f"data/{regime}/{split}.parquet", PAIRS)
        sides = [pl.col(side).str.len_chars() for side in SIDES]
        counts = pairs.group_by("source", "orientation", maintain_order=True).agg(
            pairs=pl.len(),
            mean_characters=pl.mean_horizontal(side.mean() for side in sides),
            max_characters=pl.max_horizontal(side.max() for side in sides),
        )
        frames.append(counts.collect().select(pl.lit(regime).alias("regime"), pl.lit(split).alias("split"), pl.all()))
    return pl.concat(frames)


def benchmarks_card(folder: Path, study: Study) -> pl.DataFrame:
    """benchmark, task, orientation; comparisons, and of each so many chosen and rejected texts; kind, source,
    revision; template of their texts. A regime's own test split has its sources as tasks."""
    frames = []
    for name, benchmark in study.benchmarks.items():
        if benchmark.kind == "regime-test":
            paths = [folder / f"data/{regime}/test.parquet" for regime in study.single_regimes()]
            own = pl.concat(read_table(path, PAIRS) for path in paths)
            texts = own.unique("comparison_id", maintain_order=True).rename({"source": "task"})
            texts = texts.with_columns(pl.concat_list(side).alias(side) for side in SIDES)
        else:
            texts = read_table(folder / f"benchmarks/{name}.parquet", COMPARISONS)
        lengths = [pl.col(side).list.len() for side in SIDES]
        ranges = [pl.concat_list(n.min(), n.max()).list.unique(maintain_order=True) for n in lengths]
        ranges = [n.cast(pl.List(pl.String)).list.join(" to ") for n in ranges]
        counts = texts.group_by("task", "orientation", maintain_order=True).agg(pl.len().alias("comparisons"), *ranges)
        said = {key: pl.lit(value) for key, value in origin(benchmark).items()}
        said["template"] = pl.lit(getattr(benchmark, "template", ""))
        frames.append(counts.select(pl.lit(name).alias("benchmark"), pl.all(), **said))
    return pl.concat(frames)


DATA_CARDS: dict[str, Callable[[Path, Study], pl.DataFrame]] = {
    "data_card": data_card,
    "benchmarks_card": benchmarks_card,
}


def data_cards(folder: Path, study: Study) -> dict[str, pl.DataFrame]:
    """Every such card of the study whose results are in `folder`; UserError where a file is missing."""
    return {name: card(folder, study) for name, card in DATA_CARDS.items()}
