"""The parts of a study file that say how stages work: training, statistics, analysis, figures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rmtension.study.section import AtLeastTwo, Count, Name, Section, Seed

Memory = Literal["full", "lean"]


class Training(Section):
    """docs/methods.md, section 3: Bradley-Terry loss, linear decay to zero, no warm-up; AdamW without weight decay, or,
    where `memory` is lean, Adafactor."""

    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    pairs_per_step: Count = Field(16, description="Pairs of one optimiser step, whatever fits in a micro-batch.")
    max_tokens: Count = Field(
        1024, description="Pairs with a side longer than this, or than the model reads, are left out, and counted."
    )
    gradient_clip: float = Field(1.0, gt=0, description="Largest norm of a step's gradient.")
    head_deviation: float = Field(0.02, gt=0, description="Standard deviation of the head's initial weights.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="bfloat16 computes in bf16 over float32 master weights, and takes a GPU or CPU with instructions "
        "for it; auto: where a GPU has it.",
    )
    memory: Memory = Field(
        "full",
        description="lean: less than half the memory, for models too large; Adafactor, and a third more time.",
    )
    keep: Literal["best", "last"] = Field("best", description="best: lowest loss on the split `select_on`.")
    select_on: Literal["validation", "test"] = Field(
        "validation",
        description="Split whose loss chooses the checkpoint; test: the authors'. Neither is trained on.",
    )
    evaluation_interval: Count = Field(100, description="Steps between looks at that split.")
    evaluation_pairs: Count | None = Field(
        None, description="Look at this many of its pairs, drawn by the reward model's seed."
    )


class Activations(Section):
    max_pairs: Count | None = Field(None, description="Use this many train pairs, drawn by `seed`.")
    seed: Seed = Field(0, description="Draws what is kept, and the order that `stable` reads it in.")
    stable: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Of these, read only as many as it takes until the oriented sets of two halves of what is read "
        "agree by this Jaccard index, as 0.99. Attributions read all.",
    )


class Patching(Section):
    """Each mixed reward model with activations of its parts' written in (docs/methods.md, section 13)."""

    benchmarks: list[Name] = Field(min_length=1, description="Benchmarks on which it is patched.")


class Conflict(Section):
    """Gradients of two objectives in one reward model (docs/methods.md, section 14)."""

    max_pairs: AtLeastTwo | None = Field(  # two halves of them are compared
        None, description="Use this many test pairs of each objective, drawn by `seed`."
    )
    seed: Seed = Field(0, description="Draws what is kept, and what of it is in which half.")


class Explore(Section):
    """What the explorer shows beside the scores of all comparisons (docs/outputs.md)."""

    neurons: Count = Field(
        4, description="Neurons of each set that get a page, the strongest of the study's first seed."
    )
    passages: Count = Field(8, description="Passages of either side that a neuron's page shows.")
    pairs: Count = Field(200, description="Test pairs that passages are found in and single neurons ablated on.")
    running: Count = Field(100, description="Comparisons whose reward is shown token by token.")
    seed: Seed = Field(0, description="Draws those, and what is shown where a page of all comparisons would be large.")


class Analysis(Section):
    """How tables are made of the scores; nothing is trained or scored anew for it."""

    draws: Count = Field(
        2000, description="Bootstrap draws; 10000 halve what chance in drawing does to limits, for five times the cost."
    )
    seed: Seed = Field(0, description="Seed of the bootstrap.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Coverage of the intervals.")
    selection: Literal["exact", "authors"] = Field(
        "exact", description="Neurons that depth and overlap count. authors: scores averaged over seeds, a percentile."
    )
    shared: Literal["intersection", "authors"] = Field(
        "intersection", description="Which set the claims call shared; both are ablated."
    )
    rm_bench: Literal["strict", "same-style"] = Field(
        "strict", description="strict: all chosen above all rejected; same-style: pairs of one style, the authors'."
    )


class Figures(Section):
    palette: str = Field("colorblind", description="A seaborn palette.")
    dpi: Count = Field(150, description="Resolution of the png files.")
    font_size: float = Field(9, gt=0, description="In points.")
