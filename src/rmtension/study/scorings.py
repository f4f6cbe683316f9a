"""The parts of a study file that say what neurons are ranked by, and which sets of them are ablated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from rmtension.study.naming import ablation_name, sized
from rmtension.study.section import Count, Name, Percent, Section, Seed, Size

# Scoring by a statistic of the neurons -> what goes unseen without it.
MEASURED = {
    "magnitude": "neurons that matter by magnitude, the paper's scoring",
    "mean": "neurons by signed mean activation, as in the authors' code (R1)",
    "mean_abs": "neurons by mean absolute activation, the paper's words (R1)",
    "change": "neurons by what training changed; the control of C11",
    "probability": "neurons by the share of tokens on which they are active",
    "attribution": "neurons by what they add to the margin of the own pairs, to first order (A1)",
    "attribution-abs": "neurons by how much they move the margin of the own pairs, either way, to first order",
}
SCORINGS = {
    **MEASURED,
    "random": "random neurons: the control of C6, C7, C9 and C10 (scoring_contrasts)",
    "matched-random": "random neurons as deep and as loud: the control of C6, C9 and L3 (control_overlap)",
    "head-norm": "attention heads that matter",
    "head-attribution": "attention heads by what they add to the margin of the own pairs, to first order",
    "head-random": "random attention heads, the control of head-norm",
}
ATTRIBUTED = {"attribution", "attribution-abs", "head-attribution"}  # they take gradients, a stage of its own
if TYPE_CHECKING:
    MeasuredScoring = str
    Scoring = str
else:
    MeasuredScoring = Literal[tuple(MEASURED)]
    Scoring = Literal[tuple(SCORINGS)]


class Neurons(Section):
    scorings: list[Scoring] = Field(
        ["magnitude", "change", "probability", "random", "matched-random", "head-norm", "head-random"],
        min_length=1,
        description="What neurons and, by those named `head-…`, attention heads are ranked by.",
    )
    magnitude: Literal["mean", "mean_abs"] = Field(
        "mean_abs",
        description="What `magnitude` is. mean_abs: the paper's word; mean: the signed mean of the authors' code.",
    )
    random_seed: Seed = Field(0, description="Seed of the random scorings and of the sets drawn as controls.")

    @property
    def takes_attributions(self) -> bool:
        return not ATTRIBUTED.isdisjoint(self.scorings)


class Ablation(Section):
    percent: Percent = Field(10, description="Size of the oriented sets.")
    scoring: MeasuredScoring = Field(
        "magnitude", description="Scoring that a mixed RM's sets are made by and that `matched-random` is matched to."
    )
    values: list[Literal["zero", "mean"]] = Field(
        ["zero"],
        description="What takes the place of an ablated neuron's values. zero, and beside it mean: its mean over the "
        "regime's texts, for sets of neurons of that size; tells what a set does from what zeros do.",
    )
    control_draws: Count = Field(
        3, description="Random draws of each control of a mixed RM's sets, and of the sets of a third of the layers."
    )
    sweep: list[Size] = Field(
        [2, 5, 10, 20, 30, 100],
        validate_default=True,
        description="Sizes of the ablation curve, percents or counts such as 10n; without any there is no curve.",
    )
    sweep_benchmarks: list[Name] = Field([], description="Benchmarks on which the curve is run.")

    @field_validator("values")
    @classmethod
    def zero_is_among_them(cls, values: list[str]) -> list[str]:
        if "zero" not in values:
            raise ValueError("'zero' is always there: give [zero] or [zero, mean]")
        return values

    @property
    def main_set(self) -> str:
        """The name that a reward model's own set, of the main scoring and size, is ablated under."""
        return ablation_name(self.scoring, self.percent)

    @property
    def swept(self) -> list[float | str]:
        """The sizes of the curve; none where it is run on no benchmark."""
        return self.sweep if self.sweep_benchmarks else []

    @property
    def parts_of_all(self) -> list[float | str]:
        """The sizes of the sweep without the whole network: counts, then percents, each from the least on."""
        parts = [size for size in self.sweep if sized(size)[0] != 100]
        return sorted(parts, key=lambda size: (sized(size)[0] or 0, sized(size)[1] or 0))

    @property
    def matched_set(self) -> str:
        """That of random neurons that are as many, and as deep and loud."""
        return ablation_name("matched-random", self.percent)
