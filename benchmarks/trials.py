"""What was tried to make the engine faster, each variant in turn with the plain way. `make bench-trials`.

Variants of one trial take turns in one process. What they show is in docs/performance-notes.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from benchmarks import harness, workloads
from rmtension.base.device import arithmetic, start_torch
from rmtension.data.comparisons import as_comparisons
from rmtension.engine.ablation import Mask, ablated
from rmtension.engine.architectures import activation_modules
from rmtension.engine.evaluation import candidate_scores
from rmtension.engine.packing import Batch, Packed, batches, collate, pack
from rmtension.engine.reward_model import hidden_states, load_reward_model, load_tokenizer, score
from rmtension.engine.training import Trainer
from rmtension.study.stages import Training

Work = Callable[[], object]
CPU = torch.device("cpu")


class Trials:
    """The trials' model and comparisons. Those of TRIALS give variant -> work, the plain way first."""

    def __init__(self, folder: Path, frame: pl.DataFrame, budget: int) -> None:
        self.folder, self.frame, self.budget, self.tokenizer = folder, frame, budget, load_tokenizer(folder)
        self.model = load_reward_model(folder, CPU)
        self.pairs = workloads.packed(self.tokenizer, frame)
        sets = workloads.random_sets(self.model.config, 4).partition_by("ablation", maintain_order=True)
        self.masks = [Mask.of(one, self.model.config) for one in sets]
        self.nothing = Mask.of(sets[0].clear(), self.model.config)

    def scores(self, pairs: Sequence[Packed] | None = None, budget: int | None = None) -> Any:
        return candidate_scores(self.model, pairs or self.pairs, [self.nothing], budget or self.budget, CPU)

    def shared_prefix(self) -> Mapping[str, Work]:
        texts = [text for one in self.pairs for text in self.apart(one)]
        return {"one sequence a comparison": self.scores, "one sequence a text": lambda: self.scores(texts)}

    @staticmethod
    def apart(packed: Packed) -> Iterator[Packed]:
        """Each text of a comparison as a comparison of its own."""
        for segment in range(1, len(packed.ends) + 1):
            own = packed.tokens[(packed.segments == 0) | (packed.segments == segment)]
            yield pack([own], [])

    def batch_budget(self) -> Mapping[str, Work]:
        budgets = [self.budget, *(b for b in (256, 512, 2048, 4096) if b != self.budget)]
        return {f"{b} tokens": lambda b=b: self.scores(budget=b) for b in budgets}  # type: ignore[misc]

    def order_of_length(self) -> Mapping[str, Work]:
        def drawn() -> None:
            """Batches of the same number of comparisons, in the order in which they come."""
            size = len(self.pairs) // len(list(batches(self.pairs, self.budget)))
            with torch.inference_mode():
                for start in range(0, len(self.pairs), size):
                    score(self.model, collate(self.pairs, range(start, min(start + size, len(self.pairs)))))

        return {"by length": self.scores, "as they come": drawn}

    def precision(self) -> Mapping[str, Work]:
        def within(context: AbstractContextManager[None]) -> None:
            with context:
                self.scores()

        return {
            "float32": lambda: within(nullcontext()),
            "bfloat16": lambda: within(arithmetic("bfloat16", CPU)),
        }

    def several_ablations_in_a_pass(self) -> Mapping[str, Work]:
        def together() -> None:
            with torch.inference_mode():
                for batch in batches(self.pairs, self.budget // len(self.masks)):
                    self.in_one_pass(batch)

        return {"one after the other": lambda: candidate_scores(self.model, self.pairs, self.masks, self.budget, CPU),
                "four in a pass of as many tokens": together}  # fmt: skip

    def in_one_pass(self, batch: Batch) -> Tensor:
        """The batch once for every mask, one behind the other."""
        n = len(self.masks)

        def zero(off: Tensor, _module: object, _inputs: object, output: Tensor) -> Tensor:
            """off: [masks, neurons]"""
            by_mask: Tensor = output.unflatten(1, (n, -1))
            return by_mask.masked_fill(off[:, None], 0.0).flatten(1, 2)

        with ExitStack() as hooks:
            for layer, module in enumerate(activation_modules(self.model)):
                off = torch.stack([mask.neurons[layer] for mask in self.masks])
                hooks.enter_context(module.register_forward_hook(partial(zero, off)))
            return score(self.model, collate(self.pairs, batch.index * n))

    def where_neurons_are_zeroed(self) -> Mapping[str, Work]:
        def with_hooks(mask: Mask) -> None:
            with torch.inference_mode(), ablated(self.model, mask):
                for batch in batches(self.pairs, self.budget):
                    score(self.model, batch)

        return {"no ablation": lambda: with_hooks(self.nothing), "an ablation": lambda: with_hooks(self.masks[3])}

    def gradients_off(self) -> Mapping[str, Work]:
        def no_grad() -> None:
            with torch.no_grad():
                for batch in batches(self.pairs, self.budget):
                    score(self.model, batch)

        return {"inference mode": self.scores, "no_grad": no_grad}

    def last_positions(self) -> Mapping[str, Work]:
        def everywhere() -> None:
            with torch.inference_mode():
                for batch in batches(self.pairs, self.budget):
                    self.model.score(hidden_states(self.model, batch))

        return {"the head at the last tokens": self.scores, "the head at every token": everywhere}

    def tokenising(self) -> Mapping[str, Work]:
        return {"scoring": self.scores,
                "tokenising and packing": lambda: workloads.packed(self.tokenizer, self.frame)}  # fmt: skip

    def optimiser(self) -> Mapping[str, Work]:
        parameters = [p.detach().clone().requires_grad_() for p in self.model.parameters()]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        kinds = {"plain": None, "fused": True}
        made = {name: torch.optim.AdamW(parameters, lr=0.0, fused=fused) for name, fused in kinds.items()}
        return {name: one.step for name, one in made.items()}

    def training_step(self) -> Mapping[str, Work]:
        model = load_reward_model(self.folder, CPU)
        learner = Trainer(model, Training(), epochs=1, seed=0, budget=self.budget).learner
        index = range(16)
        return {
            "a step of 16 pairs": lambda: learner.step(self.pairs, index, 0.0),
            "its forward and backward passes": lambda: learner.gradients_of(self.pairs, index, 16),
        }

    def compiling(self) -> Mapping[str, Work]:
        compiled: Any = torch.compile(load_reward_model(self.folder, CPU).base_model, dynamic=True)

        def run() -> None:
            with torch.inference_mode():
                for batch in batches(self.pairs, self.budget):
                    compiled(
                        input_ids=batch.tokens[None], position_ids=batch.positions[None], packed=batch, use_cache=False
                    )

        return {"eager": self.scores, "compiled": run}


TRIALS = (
    Trials.shared_prefix, Trials.order_of_length, Trials.batch_budget, Trials.precision,
    Trials.several_ablations_in_a_pass, Trials.where_neurons_are_zeroed, Trials.gradients_off, Trials.last_positions,
    Trials.tokenising, Trials.training_step, Trials.optimiser, Trials.compiling,
)  # fmt: skip


def turns(variants: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of every turn, variants in turn; the first turn of each is not counted."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, work in variants.items():
            started = time.perf_counter()
            work()
            if number:
                found[name].append(time.perf_counter() - started)
    return found


def main() -> None:
    chosen = harness.options(__doc__, pairs=24, budget=0)
    start_torch(chosen.threads)
    folder = workloads.reward_model(chosen.backbone)
    frame = as_comparisons(workloads.pairs(folder, chosen.source, "train", chosen.pairs, chosen.seed))
    trials = Trials(folder, frame, harness.budget(chosen))
    found: dict[str, dict[str, list[float]]] = {}
    for trial in TRIALS:
        name = trial.__name__.replace("_", " ")
        found[name] = turns(trial(trials), chosen.rounds)
        plain = harness.typical(next(iter(found[name].values())))
        shares = [
            f"{variant} {harness.typical(s):.2f} s ({harness.typical(s) / plain:.2f})"
            for variant, s in found[name].items()
        ]
        print(f"{name}: {', '.join(shares)}", flush=True)
    about = {"backbone": chosen.backbone, "comparisons": len(frame), "budget": trials.budget}
    harness.write("trials", chosen, about | {"versions": {"torch": torch.__version__}, "trials": found})


if __name__ == "__main__":
    harness.start(main)
