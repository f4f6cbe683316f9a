"""The head of a reward model as it lies in its files: of any name, with biases, of two layers, of several labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.activations import ACT2FN

from rmtension.base.errors import UserError
from rmtension.study.inputs import weight_files
from rmtension.study.section import ACTIVATIONS, listing, nearest

LANGUAGE = re.compile(r"(lm_head|embed_out)\.")  # that of the language model, which some files still hold
BY = " by --{0}, or in the study of a given model by {0}"
STANDARD = re.compile(r"score\.")  # where transformers' own classes have the head


class Choice(NamedTuple):
    """What a study says of a head where its files do not: the label that is the reward, what is between two layers."""

    label: str | None = None
    activation: str | None = None


class Layer(NamedTuple):
    weight: Tensor  # [out, in]
    bias: Tensor | None  # [out]

    @property
    def width(self) -> int:
        return self.weight.shape[1]

    def only(self, row: int) -> Layer:
        """The layer of one output alone."""
        return Layer(self.weight[row : row + 1], None if self.bias is None else self.bias[row : row + 1])

    def module(self) -> nn.Linear:
        linear = nn.Linear(self.width, len(self.weight), bias=self.bias is not None, device="meta")
        state = {"weight": self.weight, "bias": self.bias}
        linear.load_state_dict({k: t.float() for k, t in state.items() if t is not None}, assign=True)
        return linear


def tensor_names(folder: Path) -> dict[str, Path]:
    """The name of every tensor of a model's weights -> the file that transformers, too, reads it from."""
    names: dict[str, Path] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            names |= dict.fromkeys(tensors.keys(), file)
    return names


def read_tensors(folder: Path, files: Mapping[str, Path], names: Iterable[str]) -> dict[str, Tensor]:
    """UserError where one holds what is no number."""
    found = {}
    for name in names:
        with safe_open(files[name], framework="pt") as tensors:
            found[name] = tensors.get_tensor(name)
        if not found[name].isfinite().all():
            raise UserError(
                f"{folder}: its weights have values that are not finite in tensor {name}; give it whole ones"
            )
    return found


def layers_of(tensors: Mapping[str, Tensor]) -> list[Layer]:
    """The linear layers that tensors are the weights and biases of, in the order of their names' numbers.

    ValueError where they are anything else.
    """

    def layer(name: str) -> str:
        return name.rpartition(".")[0]

    def place(name: str) -> tuple[tuple[int, str], ...]:
        """So that layer 10 comes behind layer 2."""
        return tuple((int(part), "") if part.isdigit() else (-1, part) for part in name.split("."))

    found = []
    for name, of_layer in groupby(sorted(tensors, key=lambda name: (place(layer(name)), name)), layer):
        parts = {full.removeprefix(f"{name}."): tensors[full] for full in of_layer}
        weight, bias = parts.pop("weight", None), parts.pop("bias", None)
        if parts or weight is None or weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            raise ValueError(name)
        found.append(Layer(weight, bias))
    return found


def without_head(folder: Path, config: Any) -> str:
    """What is to be said of weights that hold no head; LLaMA-Factory writes it to a file of its own."""
    for file in sorted({*folder.glob("*.safetensors")} - {*weight_files(folder)}):
        with suppress(SafetensorError, OSError), safe_open(file, framework="pt") as tensors:
            names = sorted(tensors.keys())
            if [1, config.get_text_config().hidden_size] in [tensors.get_slice(name).get_shape() for name in names]:
                held = f"no head among its tensors, but {file.name} has {', '.join(names[:2])}"
                return f"{held}, which transformers does not read: put them into its weights, as docs/xray.md shows"
    named = ", ".join(config.architectures or ["no class"])
    return (
        f"no head among its tensors (config.json names {named}): it gives no rewards; name a model that was trained to"
    )


def reward_label(folder: Path, labels: Sequence[str], label: str | None) -> int:
    """Which output of a head is the reward; UserError where that is not said, or is none of them."""
    if label is None and len(labels) == 1:
        return 0
    if label is None:
        several = f"its head has {len(labels)} labels ({listing(labels)})"
        raise UserError(f"{folder}: {several}: name the one that is the reward{BY.format('label')}")
    if label not in labels:
        raise UserError(f"{folder}: no label '{label}'; {nearest(label, labels)}")
    return labels.index(label)


def read_head(folder: Path, config: Any, names: Iterable[str], choice: Choice) -> nn.Module:
    """The head of a reward model in float32, with one output. config: the model's; names: of tensors that a body of
    its family has no place for.

    UserError, one line, where there is none, or where the files and the study do not say how it is to be read.
    """
    if choice.activation is not None and choice.activation not in ACTIVATIONS:
        raise UserError(f"{folder}: no activation '{choice.activation}'; {nearest(choice.activation, ACTIVATIONS)}")
    files, beside = tensor_names(folder), {*names}
    of_head = [name for name in files if (name in beside or STANDARD.match(name)) and not LANGUAGE.match(name)]
    if not of_head:
        raise UserError(f"{folder}: {without_head(folder, config)}")
    listed = ", ".join(sorted(of_head)[:4])
    try:
        layers = layers_of(read_tensors(folder, files, of_head))
    except ValueError:
        layers = []
    widths = [config.get_text_config().hidden_size, *(len(layer.weight) for layer in layers)]
    if len(layers) not in (1, 2) or [layer.width for layer in layers] != widths[:-1]:
        raise UserError(f"{folder}: its head ({listed}) is neither one linear layer nor two: it cannot be read")
    named = config.id2label if len(config.id2label) == widths[-1] else {}
    row = reward_label(folder, [named.get(number, str(number)) for number in range(widths[-1])], choice.label)
    layers[-1] = layers[-1].only(row)
    if len(layers) == 1:
        return layers[0].module()
    if choice.activation is None:
        what, known = f"what is between the two layers of its head ({listed})", ", ".join(ACTIVATIONS)
        raise UserError(f"{folder}: {what} is not in its files: name one of {known}{BY.format('activation')}")
    return nn.Sequential(layers[0].module(), ACT2FN[choice.activation], layers[1].module())


def linear_layers(head: nn.Module) -> list[nn.Linear]:
    """The linear layers of a head, first to last."""
    return [module for module in head.modules() if isinstance(module, nn.Linear)]
