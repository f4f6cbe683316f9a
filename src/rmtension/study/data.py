"""The parts of a study file that say what reward models are trained on: sources of pairs, and regimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from rmtension.study.inputs import SPLITS, data_files, found
from rmtension.study.naming import exclusive_names
from rmtension.study.section import Count, Located, Name, Place, Section, Seed, refuse_repeats, require_known


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
    test: Place | None = Field(
        None, description="Of the test split likewise; without it, that is the pairs of half the opening questions."
    )
    columns: Columns = Columns()
    max_train: Count | None = Field(None, description="Keep this many train pairs, drawn by `seed`.")
    max_test: Count | None = Field(None, description="Keep this many test pairs, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept.")

    def files(self, data_root: str) -> list[Path]:
        places = {"train": self.train, "test": self.test}
        return [file for split, place in places.items() if place for file in data_files(Path(data_root) / place, split)]


PairSource = Annotated[SyntheticPairs | HHPairs | OwnPairs, Field(discriminator="kind")]


Method = Literal["joint", "merged", "projected", "frozen", "ensemble"]
MATCHED = "matched"  # in place of a set: as many neurons as the shared ones, as deep and as loud
EPOCHS = 2  # unless the study says otherwise
Weight = Annotated[float, Field(ge=0, le=1)]


class Regime(Section):
    """What a reward model is trained on: named sources, or two other regimes; and how those two come together."""

    train: list[Name] = Field([], description="Sources whose train split is used.")
    test: list[Name] = Field([], description="Sources whose test split is used.")
    mixes: list[Name] = Field([], description="Two single-objective regimes whose data are joined.")
    method: Method = Field(
        "joint",
        description="joint: one training on both. merged: weights averaged. projected: gradients that conflict are "
        "projected. frozen: joint, with a set of neurons held fixed. ensemble: mean of both rewards, no model.",
    )
    weights: list[Weight] = Field([], description="Of a merged one, each part's share; a list of such is a curve.")
    frozen: str | None = Field(None, description="Set held fixed: shared, {regime}-only, or matched to shared.")
    epochs: Count = Field(EPOCHS, description="Passes over the training pairs.")
    neurons: bool = Field(
        True, description="no: a repair's reward models are scored alone, without a look at their neurons."
    )

    @property
    def is_part(self) -> bool:
        """Whether a merged one is no mixture, but one of its parts: an end of a curve."""
        return 0 in self.weights

    @model_validator(mode="after")
    def has_data(self) -> Self:
        if self.mixes and (self.train or self.test or len(self.mixes) != 2 or len(set(self.mixes)) != 2):
            raise ValueError("'mixes' names two different regimes and stands without 'train' and 'test'")
        if not self.mixes and not (self.train and self.test):
            raise ValueError("regime without data: give 'train' and 'test', or 'mixes'")
        return self

    @model_validator(mode="after")
    def has_what_its_method_takes(self) -> Self:
        if self.method != "joint" and not self.mixes:
            raise ValueError(f"method '{self.method}' is of two regimes: name them in 'mixes'")
        # Said or not, which a study that jobs are given as a whole no longer tells.
        if self.method in ("merged", "ensemble") and self.epochs != EPOCHS:
            raise ValueError(f"method '{self.method}' trains nothing: leave out 'epochs'")
        if (self.method == "merged") != bool(self.weights):
            raise ValueError("method 'merged' and 'weights', such as [0.5, 0.5], stand together")
        if self.weights and (len(self.weights) != 2 or abs(sum(self.weights) - 1) > 1e-9):
            raise ValueError("'weights' are two that add up to 1")
        if (self.method == "frozen") != (self.frozen is not None):
            raise ValueError("method 'frozen' and the set 'frozen' stand together")
        if self.method == "joint" and not self.neurons:
            raise ValueError("'neurons: no' is for repairs: claims are about the others' neurons")
        if self.frozen is not None:
            require_known("frozen", [self.frozen], [*exclusive_names(self.mixes), MATCHED])
        return self


def with_curves(regimes: Any) -> Any:
    """The regimes of a study file, each merged one of several weights as so many, named by the first part's share.

    What is malformed is left as it is, for the fields to refuse.
    """
    if not isinstance(regimes, Mapping):
        return regimes
    curves: dict[str, Any] = {}
    for name, regime in regimes.items():
        weights = regime.get("weights") if isinstance(regime, Mapping) else None
        points = [(name, regime)]
        if isinstance(weights, list) and weights and all(map(is_point, weights)):
            shares = [f"{one[0] + 0.0:g}" for one in weights]  # 1 and 1.0 are one share, and so are 0 and -0.0
            refuse_repeats(f"regimes.{name}.weights", shares)
            points = [
                (f"{name}-{share}", regime | {"weights": one}) for share, one in zip(shares, weights, strict=True)
            ]
        for point, of_point in points:
            if point in curves or (point != name and point in regimes):
                raise PydanticCustomError("taken", "{m}", {"m": f"regimes: '{point}' is there more than once"})
            curves[point] = of_point
    return curves


def is_point(weights: Any) -> bool:
    """Whether these can be one point of a curve: a list that begins with a number."""
    return isinstance(weights, list) and bool(weights) and isinstance(weights[0], int | float)


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
