"""A reward model that reads texts with the activations of another one written in at chosen neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from rmtension.engine.ablation import Mask, by_layer
from rmtension.engine.activations import observed_neurons
from rmtension.engine.architectures import activation_modules, longest_text
from rmtension.engine.decisions import precise_rewards
from rmtension.engine.evaluation import SCHEMA as SCORES
from rmtension.engine.evaluation import refuse_what_is_no_number, score_lists, with_comparisons
from rmtension.engine.packing import Batch
from rmtension.engine.passes import Find
from rmtension.engine.reading import load_reader, pack_table, unread
from rmtension.engine.reward_model import hidden_states, load_reward_model, score

SCHEMA = {"donor": pl.String(), **{name: kind for name, kind in SCORES.items() if name != "fingerprint"}}
Members = Sequence[Tensor]  # of a set, by layer: indices of its neurons


def neuron_values(model: Any, batch: Batch) -> list[Tensor]:
    """Activations [1, T, neurons] of a packed batch, by layer."""
    values: dict[int, Tensor] = {}
    with observed_neurons(model, values.__setitem__):
        hidden_states(model, batch)
    return [values[layer] for layer in sorted(values)]


def write_in(neurons: Tensor, given: Tensor, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    """Forward hook: the layer's activations with `given` ones at some neurons."""
    return output.index_copy(-1, neurons, given.index_select(-1, neurons))


@contextmanager
def patched(model: Any, members: Members, given: Sequence[Tensor]) -> Iterator[None]:
    """Within the context, the neurons of a set have the values of `given` [1, T, neurons], by layer: those of the very
    batch that the model reads."""
    with ExitStack() as hooks:
        for module, neurons, values in zip(activation_modules(model), members, given, strict=True):
            if len(neurons):
                hooks.enter_context(module.register_forward_hook(partial(write_in, neurons, values)))
        yield


def patched_scores(model: Any, donors: Sequence[Any], sets: Sequence[Members], batch: Batch) -> Tensor:
    """Rewards [donors * sets, C], float32; each donor reads the batch once."""
    rewards = torch.empty(len(donors), len(sets), len(batch.end), device=batch.end.device)
    for of_donor, donor in zip(rewards, donors, strict=True):
        given = neuron_values(donor, batch)
        for row, members in enumerate(sets):
            with patched(model, members, given):
                of_donor[row] = score(model, batch)
    return rewards.flatten(0, 1)


def patch(
    folder: Path,
    donors: Mapping[str, Path],
    comparisons: pl.DataFrame,
    selected: pl.DataFrame,
    sets: Sequence[str],
    budget: int,
    precision: str,
    device: torch.device,
    place: str = "comparisons",
) -> pl.DataFrame:
    """SCHEMA: every comparison as the reward model in `folder` scores it with every set patched from every donor.

    donors: regime -> folder of a reward model of the same backbone. comparisons: comparison_id, task, orientation,
    chosen and rejected (lists of texts). selected: ablation, unit, layer, neuron. Scores are null where a comparison is
    too long. Sets of the same neurons are computed once. place: the comparisons' file, for messages. UserError where
    all are too long, or a reward is no number.
    """
    model = load_reward_model(folder, device)
    longest = longest_text(model.config)
    kept, packed = pack_table(load_reader(folder), comparisons, longest)
    if not packed:
        raise unread(place, len(comparisons), folder, longest)
    masks = {name: Mask.of(selected.filter(ablation=name), model.config) for name in sets}
    distinct = {mask.content(): by_layer(mask.neurons, device) for mask in masks.values()}
    models, members = [load_reward_model(donor, device) for donor in donors.values()], [*distinct.values()]
    find, rows = partial(patched_scores, model, models, members), len(models) * len(members)

    def only(row: int) -> Find:
        donor, number = divmod(row, len(members))
        return partial(patched_scores, model, [models[donor]], [members[number]])

    rewards, precisions = precise_rewards("patching", find, only, packed, rows, budget, precision, device)
    refuse_what_is_no_number(folder, rewards)
    numbers = [str(number) for number in range(len(rewards))]  # of the rewards, in place of fingerprints
    scored = score_lists(rewards, packed, kept, numbers).with_columns(precision=pl.Series(precisions.ravel()))
    scored = with_comparisons(scored, comparisons, numbers)
    first = {content: number for number, content in enumerate(distinct)}
    index = [
        (donor, name, str(number * len(distinct) + first[mask.content()]))
        for number, donor in enumerate(donors)
        for name, mask in masks.items()
    ]
    named = pl.DataFrame(index, schema=["donor", "ablation", "fingerprint"], orient="row")
    return named.join(scored, on="fingerprint", maintain_order="left_right").select(*SCHEMA)
