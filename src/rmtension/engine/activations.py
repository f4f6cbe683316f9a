"""Streaming activation statistics of a trained backbone and of the backbone it came from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs
import torch
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.base.files import read_table
from rmtension.base.memory import within_memory
from rmtension.base.progress import Progress
from rmtension.data.comparisons import PAIRS, as_comparisons, draw
from rmtension.engine.architectures import activation_modules, layer_sizes, longest_text, projection_modules
from rmtension.engine.packing import Batch, Packed, batches
from rmtension.engine.reading import load_reader, pack_table
from rmtension.engine.reward_model import hidden_states, load_backbone, load_reward_model, not_finite
from rmtension.study.stages import Activations, Conflict

logger = logging.getLogger(__name__)

RESPONSES = ("chosen", "rejected")
Observer = Callable[[int, Tensor], None]


@contextmanager
def observed_neurons(model: Any, observe: Observer) -> Iterator[None]:
    """Within the context, `observe(layer, activations [1, T, neurons])` is called in every forward pass."""

    def hook(layer: int, _module: object, _inputs: object, output: Tensor) -> None:
        observe(layer, output)

    with ExitStack() as hooks:
        for layer, module in enumerate(activation_modules(model)):
            hooks.enter_context(module.register_forward_hook(partial(hook, layer)))
        yield


@contextmanager
def observed_heads(model: Any, observe: Observer) -> Iterator[None]:
    """The same for `observe(layer, outputs of all heads side by side [1, T, heads * size of a head])`."""

    def hook(layer: int, _module: object, inputs: tuple[Tensor]) -> None:
        observe(layer, *inputs)

    with ExitStack() as hooks:
        for layer, module in enumerate(projection_modules(model)):
            hooks.enter_context(module.register_forward_pre_hook(partial(hook, layer)))
        yield


@dataclass(frozen=True)
class TokenGroups:
    """The tokens of a batch, grouped by how many chosen and how many rejected texts hold them.

    Of pairs there are three groups: shared prefixes, chosen texts' own tokens, rejected texts' own tokens.
    """

    order: Tensor  # [tokens] places in the batch, group after group
    sizes: list[int]  # [groups]
    weights: Tensor  # [groups, responses] float64

    @classmethod
    def of(cls, batch: Batch) -> TokenGroups:
        weights = batch.token_weights()
        # As one number a token, in the same order: torch finds different rows by comparing them one after the other.
        one = weights @ weights.new_tensor([len(batch.end) + 1, 1])
        _, member, sizes = torch.unique(one, return_inverse=True, return_counts=True)
        order = member.argsort(stable=True)
        return cls(order, sizes.tolist(), weights[order[sizes.cumsum(0) - 1]])

    def tokens(self, values: Tensor) -> Tensor:
        """Values [..., tokens, units] as [tokens, units], group after group; in float32 where they are of less."""
        ordered = values.flatten(0, -2)[self.order]
        return ordered.to(torch.promote_types(ordered.dtype, torch.float32))

    def sums(self, term: Tensor) -> Tensor:
        """Sums [responses, units] of a term [tokens, units] over each response's tokens, float64."""
        # Ten times as fast as a product with a float64 copy, and the sums are float64 all the same.
        by_group = torch.stack([part.sum(0, dtype=torch.float64) for part in term.split(self.sizes)])
        return self.weights.T @ by_group


class Statistics(NamedTuple):
    """One row for each layer, index in the layer, and response."""

    # layer, neuron, response, n_tokens, mean, mean_abs, rms, frac_positive, change_rms (null without a base)
    neurons: pl.DataFrame
    heads: pl.DataFrame  # layer, head, response, n_tokens, mean_norm


class Sums:
    """Sums over tokens for every neuron and attention head, in float64 on the device; nothing else is kept."""

    def __init__(self, config: Any, has_base: bool, device: torch.device) -> None:
        layers, neurons, heads = layer_sizes(config)
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        self.tokens = zeros(len(RESPONSES))
        # value, |value|, value squared, value > 0, and where there is a base (trained - base) squared
        self.neurons = zeros(5 if has_base else 4, layers, len(RESPONSES), neurons)
        self.heads = zeros(layers, len(RESPONSES), heads)  # norm

    def add_neurons(self, groups: TokenGroups, layer: int, trained: Tensor, base: Tensor | None) -> None:
        """trained and base: activations [1, T, neurons] of one layer."""
        value = groups.tokens(trained)
        terms = [value, value.abs(), value.square(), (value > 0).to(value.dtype)]
        if base is not None:
            terms.append((value - groups.tokens(base)).square())
        for sums, term in zip(self.neurons[:, layer], terms, strict=True):
            sums += groups.sums(term)

    def add_heads(self, groups: TokenGroups, layer: int, outputs: Tensor) -> None:
        """outputs: those of all heads of one layer side by side [1, T, heads * size of a head]."""
        by_head = groups.tokens(outputs).unflatten(-1, (self.heads.shape[-1], -1))
        self.heads[layer] += groups.sums(by_head.norm(dim=-1))

    def plus(self, other: Sums) -> Sums:
        """The sums over the tokens of both; this one's are changed."""
        self.tokens += other.tokens
        self.neurons += other.neurons
        self.heads += other.heads
        return self

    def statistics(self) -> Statistics:
        mean, mean_abs, square, positive, *change = (self.neurons / self.tokens[:, None]).cpu()
        values = {"mean": mean, "mean_abs": mean_abs, "rms": square.sqrt(), "frac_positive": positive}
        if change:
            neurons = self.frame("neuron", values | {"change_rms": change[0].sqrt()})
        else:
            neurons = self.frame("neuron", values).with_columns(change_rms=pl.lit(None, pl.Float64))
        return Statistics(neurons, self.frame("head", {"mean_norm": (self.heads / self.tokens[:, None]).cpu()}))

    def frame(self, unit: str, columns: Mapping[str, Tensor]) -> pl.DataFrame:
        """columns: [layers, responses, units] each; returned are layer, `unit`, response, n_tokens and they."""
        index = torch.cartesian_prod(*(torch.arange(n) for n in next(iter(columns.values())).shape))
        return pl.DataFrame(
            {
                "layer": index[:, 0].to(torch.int32).numpy(),
                unit: index[:, 2].to(torch.int32).numpy(),
                "response": pl.Series(RESPONSES)[index[:, 1].numpy()],
                "n_tokens": self.tokens.cpu().long()[index[:, 1]].numpy(),
            }
            | {name: values.flatten().numpy() for name, values in columns.items()}
        ).sort("layer", unit, "response")


# Of a trained model, a base or none, comparisons, a budget and a device, as activation_statistics takes them.
Measure = Callable[[Any, Any | None, Sequence[Packed], int, torch.device], Statistics]


@torch.inference_mode()
def activation_statistics(
    trained: Any, base: Any | None, comparisons: Sequence[Packed], budget: int, device: torch.device
) -> Statistics:
    """Statistics over the chosen and over the rejected texts (docs/methods.md, section 4).

    A shared prefix is computed once and counts once for each text that holds it. `trained` and `base`, if there is
    one, share an architecture and see the same batches of at most `budget` tokens, or fewer where memory falls short.
    """

    def one_pass(budget: int) -> Statistics:
        sums = Sums(trained.config, base is not None, device)
        progress = Progress("activation statistics", len(comparisons), "comparisons")
        for batch in batches(comparisons, budget):
            add_batch(sums, trained, base, batch.to(device))
            progress.advance(len(batch.index), tokens=batch.tokens.numel())
        return sums.statistics()

    return within_memory(one_pass, budget, max(map(len, comparisons), default=0))[0]


def add_batch(sums: Sums, trained: Any, base: Any | None, batch: Batch) -> None:
    """One pass of each model; the base's activations of this batch are all that is held meanwhile."""
    groups = TokenGroups.of(batch)
    of_base: dict[int, Tensor] = {}
    if base is not None:
        with observed_neurons(base, of_base.__setitem__):
            hidden_states(base, batch)

    def add_neurons(layer: int, activations: Tensor) -> None:
        sums.add_neurons(groups, layer, activations, of_base.pop(layer, None))

    with observed_neurons(trained, add_neurons), observed_heads(trained, partial(sums.add_heads, groups)):
        hidden_states(trained, batch)
    sums.tokens += groups.weights.T @ torch.tensor(groups.sizes, dtype=torch.float64, device=batch.tokens.device)


@torch.inference_mode()
def mean_absolute(model: Any, comparisons: Sequence[Packed], budget: int, device: torch.device) -> Tensor:
    """Mean |a| [layers, responses, neurons] of one model over the chosen and over the rejected texts, float64.

    It is what activation_statistics has as mean_abs, and all that is paid for: in float32, with the same batches.
    UserError where there is no comparison.
    """
    if not comparisons:
        raise UserError("mean |a| of no comparison: all were left out, or there was none; see max_tokens and the texts")
    layers, neurons, _ = layer_sizes(model.config)

    def one_pass(budget: int) -> Tensor:
        sums = torch.zeros(layers, len(RESPONSES), neurons, dtype=torch.float64, device=device)
        tokens = sums.new_zeros(len(RESPONSES), 1)
        progress = Progress("mean absolute activations", len(comparisons), "comparisons")
        for batch in batches(comparisons, budget):
            moved = batch.to(device)
            weights = moved.token_weights().T

            def add(layer: int, activations: Tensor, weights: Tensor = weights) -> None:
                # A product with the weights sums at a tenth of the time that float64 takes, which batches add up in.
                sums[layer] += weights.to(activations.dtype) @ activations.flatten(0, -2).abs()

            with observed_neurons(model, add):
                hidden_states(model, moved)
            tokens += weights.sum(1, keepdim=True)
            progress.advance(len(batch.index), tokens=batch.tokens.numel())
        return (sums / tokens).cpu()

    return within_memory(one_pass, budget, max(map(len, comparisons), default=0))[0]


# --- of a reward model's own pairs ---------------------------------------------------------------------------


def packed_pairs(
    folder: Path, config: Any, pairs: Path, settings: Activations | Conflict, max_tokens: int
) -> list[Packed]:
    """Those of a file of pairs that `settings` draw, as the reward model in `folder` reads them.

    Left out are those with a text longer than `max_tokens`, or than the model reads; UserError where none remains.
    """
    frame = as_comparisons(draw(read_table(pairs, PAIRS), settings.max_pairs, settings.seed))
    kept, packed = pack_table(load_reader(folder), frame, min(max_tokens, longest_text(config)))
    logger.info("%d pairs, %d left out", len(kept), len(frame) - len(kept))
    if not packed:
        most = f"training.max_tokens = {max_tokens} and what {folder} reads"
        advice = "raise it, or max_pairs, or take the model out of the study"
        raise UserError(f"{pairs}: none of {len(frame)} pairs is within {most}: {advice}")
    return packed


def reward_model_statistics(
    folder: Path,
    backbone: Path | None,
    pairs: Path,
    settings: Activations,
    max_tokens: int,
    budget: int,
    device: torch.device,
    statistics_of: Measure = activation_statistics,
) -> Statistics:
    """Statistics of a reward model on its regime's pairs (packed_pairs); a given one has no backbone."""
    trained = load_reward_model(folder, device)
    base = load_backbone(backbone, device) if backbone else None
    packed = packed_pairs(folder, trained.config, pairs, settings, max_tokens)
    if base and max(one.tokens.max() for one in packed) >= base.get_input_embeddings().num_embeddings:
        unknown = f"a text has a special token of {folder} written out, for which {backbone} has no embedding"
        raise UserError(f"{pairs}: {unknown}: take it out")
    statistics = statistics_of(trained, base, packed, budget, device)
    if not all(all(frame.select(cs.float().is_finite().all()).row(0)) for frame in statistics):
        raise not_finite(folder, "its activations")
    return statistics
