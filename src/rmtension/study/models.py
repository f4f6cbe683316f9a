"""The part of a study file that says which backbones there are, and what their jobs ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rmtension.study.inputs import model_files
from rmtension.study.section import Activation, Count, Located, Name, Place, Section, Seed

Family = Literal[
    "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "ministral", "mistral", "olmo2", "olmo3", "phi3",
    "qwen2", "qwen3", "smollm3",
]  # fmt: skip


class Pretraining(Section):
    """Brief language-model training of a made backbone on the synthetic corpus."""

    texts: Count = Field(description="Synthetic dialogues to train the tokenizer and the language model on.")
    epochs: Count = Field(description="Passes over those dialogues.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of AdamW.")
    seed: Seed = Field(0, description="Seed of the corpus, the initial weights and the order.")


class MadeModel(Section):
    kind: Literal["made"]
    family: Family = Field(description="Architecture.")
    layers: Count = Field(description="Number of layers.")
    width: Count = Field(description="Hidden size.")
    heads: Count = Field(description="Attention heads of a layer; divides width.")
    neurons: Count = Field(description="MLP hidden size of a layer.")
    vocabulary: int = Field(1024, ge=258, description="Size of the byte-level BPE vocabulary: bytes, two marks, more.")
    pretraining: Pretraining = Field(description="How it learns the synthetic language.")

    @model_validator(mode="after")
    def heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width // self.heads % 2 and self.family not in ("gpt2", "gpt_neox"):
            raise ValueError(f"width {self.width} of heads {self.heads}: {self.family} takes heads of an even size")
        return self


class Shortened(Section):
    """Of a backbone that was trained elsewhere."""

    layers: Count | None = Field(None, description="Keep this many of its layers, the first; null: all.")


class FolderModel(Located, Shortened):
    kind: Literal["pretrained"]

    def files(self, data_root: str) -> list[Path]:
        return model_files(self.local(data_root))


class GgufModel(Shortened):
    kind: Literal["gguf"]
    path: Place = Field(description="GGUF file, relative to data_root.")

    def files(self, data_root: str) -> list[Path]:
        return [Path(data_root) / self.path]


class GivenModel(Located):
    """A reward model that is there: nothing is trained, and there is no backbone beside it."""

    kind: Literal["given"]
    template: Literal["chat", "hh"] = Field(
        "hh", description="Form in which it reads a dialogue. chat: its tokenizer's own; hh: that of HH-RLHF."
    )
    label: str | None = Field(None, description="Label that is the reward, by name, where it has several.")
    activation: Activation | None = Field(
        None, description="What is between the two layers of its head, where it has two."
    )

    def files(self, data_root: str) -> list[Path]:
        return model_files(self.local(data_root))


BackboneSource = Annotated[MadeModel | FolderModel | GgufModel | GivenModel, Field(discriminator="kind")]


class Compute(Section):
    """What one job of this model asks for and how it fills its batches."""

    threads: Count = Field(1, description="CPU threads of a job; results depend on it, never on --cores.")
    gpus: int = Field(
        0,
        ge=0,
        description="GPUs that a training job computes on, a process on each; scoring takes one. 0: the CPU.",
    )
    sharded: bool = Field(
        False, description="Spread weights and optimiser over these GPUs, instead of a copy on each. Takes 2 or more."
    )
    mem_mb: Count = Field(1500, description="Memory of a job that loads the model, in MB.")
    runtime: Count = Field(30, description="Time limit of a job that trains or scores, in minutes.")
    training_tokens: Count = Field(
        4096,
        description="Most tokens of a micro-batch, and of a batch of attributions; a longer pair is one by itself.",
    )
    inference_tokens: Count = Field(8192, description="Most tokens of a batch without gradients.")
    inference_precision: Literal["float32", "tensorfloat32", "bfloat16"] = Field(
        "float32",
        description="Of matrix products outside training. tensorfloat32 is for GPUs, and elsewhere float32; bfloat16 "
        "takes a GPU or CPU with instructions for it.",
    )
    checkpoint_minutes: int = Field(
        10,
        ge=0,
        description="Minutes between checkpoints that training and scoring resume from; 0: one after every step or "
        "batch.",
    )

    @model_validator(mode="after")
    def spreads_over_several(self) -> Self:
        if self.sharded and self.gpus < 2:
            raise ValueError("sharded takes gpus: 2 or more")
        return self


class Model(Section):
    source: BackboneSource = Field(description="Where the backbone comes from, or the reward model that is given.")
    compute: Compute = Field(Compute(), description="What its jobs ask for.")
    trained: dict[Name, dict[Seed, Place]] = Field(
        {}, description="Regime -> seed -> folder of a reward model trained elsewhere, relative to data_root."
    )


def made_neurons(models: Mapping[str, Model]) -> dict[str, int]:
    """Number of neurons of each model that is made here."""
    sources = {name: model.source for name, model in models.items()}
    return {name: one.layers * one.neurons for name, one in sources.items() if isinstance(one, MadeModel)}
