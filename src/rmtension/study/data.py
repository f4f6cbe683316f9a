"""The parts of a study file that say what reward models are trained on: sources of pairs, and regimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rmtension.study.inputs import SPLITS, data_files, found
from rmtension.study.section import Count, Located, Name, Place, Section, Seed


class SyntheticPairs(Section):
    kind: Literal["synthetic"]
    objective: Literal["helpful", "harmless"] = Field(description="What the pairs prefer.")
    train: Count = Field(description="Pairs of the train split.")
    test: Count = Field(description="Pairs of the test split.")
    seed: Seed = Field(0, description="Seed of the generator.")


class HHPairs(Located):
    kind: Literal["hh-rlhf"]
    folder: Place = Field(description="Folder of the data set, such as helpful-base.")
    max_train: Count | None = Field(None, description="Keep this many train pairs, drawn by `seed`.")
    max_test: Count | None = Field(None, description="Keep this many test pairs, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")

    def files(self, data_root: str) -> list[Path]:
        folder = self.local(data_root) / self.folder
        return [file for names in SPLITS.values() for file in found(folder, names)]


class Columns(Section):
    """What the columns of a user's own file are called."""

    prompt: str | None = Field("prompt", description="A text or a list of turns; null: the others are whole dialogues.")
    chosen: str = Field("chosen", description="What should score higher: a text, in a benchmark also a list of them.")
    rejected: str = Field("rejected", description="What should score lower: the same.")


class OwnPairs(Section):
    """A user's own files, parquet or JSON."""

    kind: Literal["own"]
    train: Place = Field(description="File or folder of shards of the train split, relative to data_root.")
    test: Place = Field(description="File or folder of shards of the test split, relative to data_root.")
    columns: Columns = Columns()
    max_train: Count | None = Field(None, description="Keep this many train pairs, drawn by `seed`.")
    max_test: Count | None = Field(None, description="Keep this many test pairs, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")

    def files(self, data_root: str) -> list[Path]:
        return [
            *data_files(Path(data_root) / self.train, "train"),
            *data_files(Path(data_root) / self.test, "test"),
        ]


PairSource = Annotated[SyntheticPairs | HHPairs | OwnPairs, Field(discriminator="kind")]


class Regime(Section):
    """What a reward model is trained on: named sources, or the union of two other regimes."""

    train: list[Name] = Field([], description="Sources whose train split is used.")
    test: list[Name] = Field([], description="Sources whose test split is used.")
    mixes: list[Name] = Field([], description="Two single-objective regimes whose data are joined.")
    epochs: Count = Field(2, description="Passes over the training pairs.")

    @model_validator(mode="after")
    def has_data(self) -> Self:
        if self.mixes and (self.train or self.test or len(self.mixes) != 2 or len(set(self.mixes)) != 2):
            raise ValueError("'mixes' names two different regimes and stands without 'train' and 'test'")
        if not self.mixes and not (self.train and self.test):
            raise ValueError("regime without data: give 'train' and 'test', or 'mixes'")
        return self


class Validation(Section):
    """Held out from train, for choosing a checkpoint; the test split is never looked at while training."""

    fraction: float = Field(0.05, gt=0, lt=1, description="Share of the opening questions that is held out.")
    seed: Seed = Field(0, description="Draws those questions.")


class RegimeData(Section):
    """All that one regime's pairs depend on."""

    sources: dict[Name, PairSource]
    orientations: dict[Name, str] = Field(description="Source -> the first single regime that uses it.")
    train: list[Name]
    test: list[Name]
    validation: Validation
    data_root: str
