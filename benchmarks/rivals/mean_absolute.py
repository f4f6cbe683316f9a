"""Mean |a| of every neuron by plain hooks, nnsight and TransformerLens. Runs in an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nnsight import NNsight
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.activations import ACT2FN

from benchmarks.side import Measured, Stopwatch, device, warm_up

Inputs = dict[str, Tensor]  # input_ids and attention_mask [B, T]
Sums = Callable[[Inputs], list[Tensor]]  # of each layer the sums of |a| over the real tokens of a batch [neurons]


def activation_functions(model: Any, family: str) -> list[Any]:
    """Of each layer the module whose outputs are the neurons' values, in a model or in what nnsight makes of it."""
    if family == "gpt2":
        return [layer.mlp.act for layer in model.transformer.h]
    return [layer.mlp.act_fn for layer in model.model.layers]


def total(values: Tensor, inputs: Inputs) -> Tensor:
    """Sums over real tokens of |a| [B, T, neurons]."""
    return (values.abs() * inputs["attention_mask"][..., None]).sum((0, 1))


def classifier(folder: str) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval().to(device())
    warm_up(model)
    return model


def by_hooks(folder: str) -> Sums:
    model, kept = classifier(folder), []
    for module in activation_functions(model, model.config.model_type):
        module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))

    def sums(inputs: Inputs) -> list[Tensor]:
        kept.clear()
        model(**inputs, use_cache=False)
        return [total(values, inputs) for values in kept]

    return sums


def by_nnsight(folder: str) -> Sums:
    plain = classifier(folder)
    model = NNsight(plain)
    modules = activation_functions(model, plain.config.model_type)

    def sums(inputs: Inputs) -> list[Tensor]:
        with model.trace(**inputs, use_cache=False):
            found: Any = [total(module.output, inputs) for module in modules]
            found.save()
        return list(found)

    return sums


def by_transformer_lens(folder: str) -> Sums:
    """It takes language models, which the body of the reward model is that of; logits of one token are all it makes."""
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    settings = plain.config.to_dict()
    activation = ACT2FN[settings.get("hidden_act") or settings["activation_function"]]
    tokenizer, layers = AutoTokenizer.from_pretrained(folder), plain.config.num_hidden_layers
    model = TransformerBridge.boot_transformers(folder, hf_model=plain, tokenizer=tokenizer, device=device())
    warm_up(plain)

    def sums(inputs: Inputs) -> list[Tensor]:
        found: dict[str, Tensor] = {}

        def keep(values: Tensor, hook: Any) -> None:
            found[hook.name] = total(activation(values), inputs)

        hooks = [(f"blocks.{layer}.mlp.hook_pre", keep) for layer in range(layers)]
        model.run_with_hooks(
            inputs["input_ids"], attention_mask=inputs["attention_mask"], fwd_hooks=hooks, return_type="logits",
            logits_to_keep=1,
        )  # fmt: skip
        return list(found.values())

    return sums


WAYS = {"hooks": by_hooks, "nnsight": by_nnsight, "transformer-lens": by_transformer_lens}


@torch.no_grad()
def measured(way: str, reward_model: str, texts: str, batch_size: int) -> Measured:
    """texts: a file with all chosen and all rejected ones; padded on the right to the longest of their batch."""
    load, work = Stopwatch(), Stopwatch()
    with load:
        sums = WAYS[way](reward_model)
        tokenizer = AutoTokenizer.from_pretrained(reward_model, padding_side="right")
        sides = json.loads(Path(texts).read_text())
    means, computed = [], 0
    with work:
        for side in sides:
            of_side, tokens = torch.zeros((), dtype=torch.float64), 0
            for start in range(0, len(side), batch_size):
                batch = tokenizer(side[start : start + batch_size], padding=True, return_tensors="pt").to(device())
                inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
                of_side = of_side + torch.stack(sums(inputs)).double().cpu()
                tokens += int(inputs["attention_mask"].sum())
                computed += inputs["input_ids"].numel()
            means.append(of_side / tokens)
    return Measured(work.seconds, load.seconds, computed, {"mean_abs": torch.stack(means, dim=1).numpy()})
