"""What a set of neurons or attention heads contains, and how far sets overlap, out of a study's files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, Self

import polars as pl

from rmtension.base.errors import UserError
from rmtension.base.files import from_here, read_table, reading
from rmtension.neurons.ranking import NEURON, UNIT, of_both_responses, oriented_set
from rmtension.study.naming import THIRDS, sized
from rmtension.study.section import nearest


def read_columns(file: Path, *columns: str) -> pl.DataFrame:
    """A parquet file; UserError where it cannot be read or lacks one of `columns`."""
    with reading(file):
        frame = pl.read_parquet(file, glob=False)
    for column in columns:
        if column == "scoring" and "ablation" in frame.columns:
            raise UserError(f"{file}: this file holds several sets: name one, as {file}:NAME")
        if column not in frame.columns:
            raise UserError(f"{file}: column '{column}' is missing; found {', '.join(frame.columns)}")
    return frame


def named_set(place: str) -> pl.DataFrame:
    """A set that a study ablates, given as FILE:NAME with a file of results/*/selected: unit, layer, neuron."""
    file, _, name = place.rpartition(":")
    if not file:
        raise UserError(f"{place}: give the file of sets and the name of one as FILE:NAME")
    sets = read_columns(Path(file), "ablation", *UNIT)
    chosen = sets.filter(ablation=name).select(UNIT)
    if chosen.is_empty():
        raise UserError(f"{file}: no set '{name}' that holds anything; {nearest(name, sets['ablation'].unique())}")
    return chosen


class NeuronSet(NamedTuple):
    """A set of one reward model."""

    place: str  # as it was asked for
    members: pl.DataFrame  # unit, layer, neuron; and score and rank where they come from a scoring
    units: pl.DataFrame  # all units of that kind that the reward model has: unit, layer, neuron
    statistics: Path  # of those units: a file that the study made, here or not

    @classmethod
    def read(cls, place: str, scoring: str, size: float | str) -> Self:
        """FILE:NAME, a set that is ablated; or a file of rankings, of which the top `size` by `scoring` are taken.

        A set that is ablated is looked up among all units in the rankings of the same reward model.
        """
        named = not place.endswith(".parquet")
        of_all = beside(Path(place.rpartition(":")[0]), "neurons") if named else Path(place)
        members = named_set(place) if named else None
        ranked = read_columns(of_all, "scoring", *UNIT, "score", "rank")
        if members is None:
            if scoring not in ranked["scoring"]:
                raise UserError(f"{place}: no scoring '{scoring}'; {nearest(scoring, ranked['scoring'].unique())}")
            of_scoring = ranked.filter(scoring=scoring)
            if (sized(size)[1] or 0) > len(of_scoring):
                raise UserError(f"{place}: there are {len(of_scoring)} units by '{scoring}': give a smaller count")
            top = oriented_set(ranked, scoring, size)
            if top.is_empty():
                small = f"so small a share holds none of the {len(of_scoring)} units by '{scoring}'"
                raise UserError(f"{place}: {small}: give a larger --percent")
            members = of_scoring.join(top, on=UNIT, how="semi").select(*UNIT, "score", "rank").sort("rank")
            units = of_scoring.select(UNIT)
        else:
            units = ranked.select(UNIT).unique().join(members, on="unit", how="semi")
        statistics = beside(of_all, "activations")
        heads = "head" in units["unit"]
        return cls(place, members, units, statistics.with_suffix("") / "heads.parquet" if heads else statistics)

    def layers(self) -> pl.DataFrame:
        """layer, third of the layers that it lies in, size, in_set, percent of the layer that is in the set."""
        third = pl.lit(pl.Series(THIRDS)).gather(3 * pl.col("layer") // (pl.col("layer").max() + 1))
        held = self.units.join(self.members.select(UNIT, in_set=pl.lit(1)), on=UNIT, how="left")
        by_layer = held.group_by("layer").agg(size=pl.len(), in_set=pl.col("in_set").count()).sort("layer")
        return by_layer.select("layer", "size", "in_set", third=third, percent=100 * pl.col("in_set") / pl.col("size"))

    def thirds(self) -> pl.DataFrame:
        """third, in_set, percent of the set that lies there."""
        counts = self.layers().group_by("third", maintain_order=True).agg(pl.col("in_set").sum())
        return counts.with_columns(percent=100 * pl.col("in_set") / pl.col("in_set").sum())

    def top(self, n: int) -> pl.DataFrame:
        """The first `n` members, best first, with the averages of both responses' statistics where these are there."""
        if not self.statistics.exists():
            return self.members.head(n)
        statistics = read_table(self.statistics)
        unit, *measured = statistics.drop("layer", "response", "n_tokens").columns
        both = of_both_responses(statistics, unit, *measured)
        return self.members.head(n).join(both, on=NEURON, how="left", maintain_order="left")


def beside(file: Path, stage: str) -> Path:
    """The same reward model's file of another stage: results/STUDY/STAGE/MODEL/REGIME/seed-SEED.parquet."""
    if len(file.parents) < 4:  # asked from inside the results
        file = from_here(file)
    up = len(file.parents) - 1  # a file that lies elsewhere has nothing beside it
    return file.parents[min(3, up)] / stage / file.relative_to(file.parents[min(2, up)])


def overlaps(sets: Sequence[NeuronSet]) -> pl.DataFrame:
    """Of every two sets: first, second (places), their sizes, intersection, union, their Jaccard index, and `chance`,
    the index of random sets of those sizes. UserError where they are of models of different shape."""
    rows = []
    for one, other in combinations(sets, 2):
        if not one.units.sort(UNIT).equals(other.units.sort(UNIT)):
            raise UserError(f"{one.place} and {other.place}: of models of different shape, or neurons and heads")
        both = len(one.members.join(other.members, on=UNIT, how="semi"))
        sizes = len(one.members), len(other.members)
        met = sizes[0] * sizes[1] / len(one.units)
        rows.append((one.place, other.place, *sizes, both, sum(sizes) - both, met / (sum(sizes) - met)))
    columns = ["first", "second", "first_size", "second_size", "intersection", "union", "chance"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    return frame.with_columns(jaccard=pl.col("intersection") / pl.col("union"))


def matrix(pairs: pl.DataFrame, places: Sequence[str]) -> pl.DataFrame:
    """overlaps as a square table, chance in brackets; columns are numbered in the order of `places`."""
    cells = {(place, place): "1.00" for place in places}
    for row in pairs.iter_rows(named=True):
        text = f"{row['jaccard']:.2f} ({row['chance']:.2f})"
        cells |= {(row["first"], row["second"]): text, (row["second"], row["first"]): text}
    columns = {str(i): [cells[row, place] for row in places] for i, place in enumerate(places, start=1)}
    return pl.DataFrame({"": range(1, len(places) + 1), "set": places} | columns)
