"""Preference pairs: from their upstream layout, a user's own files and the synthetic generator, and their splits."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import polars as pl

from rmtension.base.errors import UserError
from rmtension.data import synthetic
from rmtension.data.comparisons import PAIRS, draw
from rmtension.data.hygiene import opening, shared, sift
from rmtension.data.rows import files_of, load_rows, read_rows, refuse_rows
from rmtension.study.data import Columns, HHPairs, OwnPairs, RegimeData, SyntheticPairs
from rmtension.study.inputs import SPLITS

logger = logging.getLogger(__name__)


def load_published(file: Path) -> list[Any]:
    """The rows of a published file of JSON lines. One with a fault is read by hand, so that its row can be named."""
    import datasets  # two seconds to import, and only this function needs it

    datasets.disable_progress_bars()
    # A cache of its own: the common one takes a file for what it was as long as its date is the same.
    with TemporaryDirectory() as cache:
        plain = Path(cache, f"rows{''.join(file.suffixes[-2:])}")  # a name is a pattern: hh[1] would be read of hh1
        plain.symlink_to(file.resolve())
        try:
            data = datasets.load_dataset("json", data_files=str(plain), split="train", cache_dir=cache)
        except (datasets.exceptions.DatasetsError, OSError, EOFError, StopIteration, ValueError):
            return load_rows(file)
        whole = all(str(column.type) == "string" and column.null_count == 0 for column in data.data.table.columns)
        return data.to_list() if whole else load_rows(file)


def read_hh_pairs(source: HHPairs, split: Literal["train", "test"], data_root: str) -> pl.DataFrame:
    """row, chosen and rejected (whole dialogues) of one split of an HH-RLHF folder."""
    file, *others = files_of(source.local(data_root) / source.folder, SPLITS[split])
    if others:
        raise UserError(f"{file.parent}: {split} twice: {file.name} and {others[0].name}; keep one of them")
    return pairs_of({str(file): load_published(file)}, Columns(prompt=None))


def pairs_of(tables: Mapping[str, Sequence[Any]], columns: Columns) -> pl.DataFrame:
    """row, chosen and rejected (whole dialogues) of the rows of each file."""
    named = columns.model_dump(exclude_none=True)
    frame = read_rows(tables, named, "hh")
    for side in ("chosen", "rejected"):
        refuse_rows(frame, pl.col(side).list.len() > 1, f"field '{named[side]}': several texts in a pair")
    return frame.select("row", pl.col("chosen", "rejected").list.first())


def synthetic_pairs(source: SyntheticPairs, split: Literal["train", "test"]) -> pl.DataFrame:
    """row, chosen and rejected of one split; the two splits come from seeds of their own."""
    n = source.train if split == "train" else source.test
    seed = zlib.crc32(f"{source.seed} {split}".encode())
    return synthetic.preference_pairs(source.objective, n, seed).with_row_index("row")


def own_pairs(source: OwnPairs, split: Literal["train", "test"], data_root: str) -> pl.DataFrame:
    """row, chosen and rejected of one split; where all lie in one file, of the opening questions that are its half."""
    at = split if source.test is not None else "train"
    place = Path(data_root) / getattr(source, at)
    frame = pairs_of({str(file): load_rows(file) for file in files_of(place, split=at)}, source.columns)
    if source.test is not None:
        return frame
    train, test = hold_out(frame, 0.5, source.seed)
    if train.is_empty():
        raise UserError(f"{place}: one opening question, which cannot be in train and in test: give 'test' a file")
    return train if split == "train" else test


def read_pairs(data: RegimeData, name: str, split: Literal["train", "test"]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One split of a named source: PAIRS, without those that are of no use; and HYGIENE of them all."""
    source = data.sources[name]
    match source:
        case SyntheticPairs():
            frame = synthetic_pairs(source, split)
        case HHPairs():
            frame = read_hh_pairs(source, split, data.data_root)
        case OwnPairs():
            frame = own_pairs(source, split, data.data_root)
    kept, odd = sift(frame, name, split)
    found = odd.filter(pl.col("n") > 0).select(pl.format("{} {} ({})", "n", "reason", "treatment"))
    logger.info("%s, %s: %d pairs, %s", name, split, len(frame), ", ".join(found.to_series()) or "nothing odd")
    if kept.is_empty():
        raise UserError(f"sources.{name}, {split}: no pair is of use: {', '.join(found.to_series())}")
    if not isinstance(source, SyntheticPairs):
        kept = draw(kept, getattr(source, f"max_{split}"), source.seed)
    words = {"source": pl.lit(name), "orientation": pl.lit(data.orientations[name])}
    ids = pl.format("{}/{}/{}", pl.lit(name), pl.lit(split), "row")
    return kept.select("chosen", "rejected", comparison_id=ids, **words).select(*PAIRS), odd


def hold_out(pairs: pl.DataFrame, fraction: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide pairs into train and validation by opening question, so that no question is in both.

    Pairs of one question are never split; `fraction` is of the questions, at least one.
    """
    questions = openings(pairs).unique().sort()
    order = np.random.default_rng(seed).permutation(len(questions))
    return divide(pairs, questions[order[: max(1, round(fraction * len(questions)))]])


def openings(pairs: pl.DataFrame) -> pl.Series:
    """A pair without one has the empty one, as all such."""
    return pairs.select(opening(pl.col("chosen")).fill_null("")).to_series()


def divide(pairs: pl.DataFrame, questions: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs without and with one of the opening questions."""
    is_held = openings(pairs).is_in(questions.implode())
    return pairs.filter(~is_held), pairs.filter(is_held)


def regime_pairs(data: RegimeData) -> dict[str, pl.DataFrame]:
    """Every table of a regime's data: the splits, PAIRS each, and `hygiene`.

    Validation comes out of each source's train split, so that a mixed regime holds out what its parts hold out; a
    question that one source holds out is held out of all.
    """
    validation = data.validation
    read_train = [read_pairs(data, name, "train") for name in data.train]
    read_test = [read_pairs(data, name, "test") for name in data.test]
    held = pl.concat(hold_out(pairs, validation.fraction, validation.seed)[1] for pairs, _ in read_train)
    kept, held = divide(pl.concat(pairs for pairs, _ in read_train), openings(held))
    if lost := [name for name in data.train if name not in kept["source"]]:
        raise UserError(f"sources.{', sources.'.join(lost)}, train: too few opening questions to train and to validate")
    train, test = pl.concat(pairs for pairs, _ in read_train), pl.concat(pairs for pairs, _ in read_test)
    return {
        "train": kept,
        "validation": held,
        "test": test,
        "hygiene": pl.concat([*(odd for _, odd in read_train + read_test), shared(train, test)]),
    }
