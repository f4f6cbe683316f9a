"""A study of a given reward model with `template: chat`: what its rules find, recomputed with plain transformers.

Its template ends in the end-of-text token, which is the padding too: transformers reads the reward at the one before.
"""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch
from chat_templates import TEMPLATES, save_chat_model
from incremental import GIVEN, STUDIES, study_edit
from project import Project, complaints
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmtension.data.comparisons import draw

FILES = {
    "activations": "activations/mine/helpful/seed-0.parquet",
    "attributions": "attributions/mine/helpful/seed-0.parquet",
    "sets": "set_activations/mine/both/seed-0.parquet",
    "scores": "scores/mine/both/seed-0/tasks.parquet",
    "conflict": "conflicts/mine/both/seed-0.parquet",
    "lengths": "lengths/mine.parquet",
}


class Text(NamedTuple):
    ids: list[int]
    reward: torch.Tensor
    activations: list[torch.Tensor]  # of each layer [1, tokens, neurons], up to the token that is scored


class Plain:
    """The reward model as anyone uses it."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.kept: list[torch.Tensor] = []
        for layer in self.model.base_model.layers:
            layer.mlp.act_fn.register_forward_hook(lambda _module, _inputs, output: self.kept.append(output))

    def read(self, dialogue: str) -> Text:
        marked = re.split(r"\n\n(Human|Assistant): ", dialogue)[1:]
        roles = {"Human": "user", "Assistant": "assistant"}
        messages = [{"role": roles[m], "content": words} for m, words in zip(marked[::2], marked[1::2], strict=True)]
        ids = self.tokenizer.apply_chat_template(messages)["input_ids"]
        self.kept.clear()
        reward = self.model(torch.tensor([ids])).logits.squeeze()
        read = len(ids) - 1  # up to the end-of-text token
        assert ids[read] == self.tokenizer.pad_token_id
        for activations in self.kept:
            activations.retain_grad()
        return Text(ids[:read], reward, list(self.kept))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("chat") / "project")
    save_chat_model("llama", TEMPLATES["Mistral"], project.folder / "local" / "reward-model", pad="</s>")
    edit = study_edit({"models.public": None, "models.mine.source.template": "chat"})
    (project.folder / GIVEN).write_text(edit((STUDIES / GIVEN).read_text()))
    wanted = [f"results/given/{file}" for file in FILES.values()]
    done = project.snakemake("--cores", "2", *wanted, study=GIVEN)
    assert done.returncode == 0, complaints(done)
    return project


@pytest.fixture
def plain(project: Project) -> Plain:
    return Plain(project.folder / "local" / "reward-model")


def read(project: Project, what: str) -> pl.DataFrame:
    return pl.read_parquet(project.folder / "results/given" / FILES.get(what, what))


def shared(texts: list[Text]) -> int:
    return len(list(takewhile(lambda same: len(set(same)) == 1, zip(*(text.ids for text in texts), strict=False))))


def test_scores_and_lengths(project: Project, plain: Plain) -> None:
    scores = read(project, "scores").filter(ablation="none").drop("task", "orientation")
    lengths = read(project, "lengths").filter(benchmark="tasks").drop("task", "orientation")
    both = read(project, "benchmarks/tasks.parquet").join(scores, on="comparison_id").join(lengths, on="comparison_id")
    assert len(both) == len(scores) == len(lengths) > 10
    for row in both.iter_rows(named=True):
        texts = [[plain.read(text) for text in row[side]] for side in ("chosen", "rejected")]
        for side, of_side in zip(("chosen", "rejected"), texts, strict=True):
            assert row[f"{side}_scores"] == pytest.approx([text.reward.item() for text in of_side], abs=1e-5)
        prefix = shared([*texts[0], *texts[1]])
        assert row["prefix_tokens"] == prefix > 5
        assert row["chosen_tokens"] == [len(text.ids) - prefix for text in texts[0]]


def summed(values: list[torch.Tensor], n: int) -> torch.Tensor:
    """Of each layer [1, tokens, neurons], over the first n tokens: [layers * neurons]."""
    return torch.cat([of_layer[0, :n].detach().double().sum(0) for of_layer in values])


def test_statistics_and_attributions(project: Project, plain: Plain) -> None:
    pairs = read(project, "data/helpful/train.parquet")
    total, by_gradient, n_tokens = torch.zeros(3 * 24), torch.zeros(3 * 24), 0
    for chosen, rejected in pairs.select("chosen", "rejected").rows():
        one, other = plain.read(chosen), plain.read(rejected)
        (one.reward - other.reward).backward()
        n_tokens += len(one.ids)
        total = total + summed(one.activations, len(one.ids))
        for text in (one, other):
            products = [a * a.grad for a in text.activations if a.grad is not None]
            by_gradient = by_gradient + summed(products, len(text.ids))
    found = read(project, "activations").filter(response="chosen").sort("layer", "neuron")
    assert set(found["n_tokens"]) == {n_tokens}
    np.testing.assert_allclose(found["mean"], total / n_tokens, atol=1e-5)
    attributed = read(project, "attributions").filter(unit="neuron").sort("layer", "neuron")
    expected = by_gradient / len(pairs)
    np.testing.assert_allclose(attributed["attribution"], expected, atol=float(1e-5 * expected.abs().max()))


def gradient(plain: Plain, pairs: pl.DataFrame) -> torch.Tensor:
    """Of the mean loss of pairs, by all weights of each neuron: [layers * neurons, weights]."""
    plain.model.zero_grad()
    for chosen, rejected in pairs.select("chosen", "rejected").rows():
        (-logsigmoid(plain.read(chosen).reward - plain.read(rejected).reward) / len(pairs)).backward()
    layers = [layer.mlp for layer in plain.model.base_model.layers]
    found = [[mlp.gate_proj.weight.grad, mlp.up_proj.weight.grad, mlp.down_proj.weight.grad.T] for mlp in layers]
    return torch.cat([torch.cat(of_layer, dim=1) for of_layer in found]).double()


def test_gradients_of_two_objectives(project: Project, plain: Plain) -> None:
    """The file has the product of their means over two halves of 16 pairs each, so that of all pairs."""
    tests = [draw(read(project, f"data/{name}/test.parquet"), 16, 0) for name in ("helpful", "harmless")]
    first, second = (gradient(plain, pairs) for pairs in tests)
    found = read(project, "conflict").sort("layer", "neuron")
    expected = (first * second).sum(1)
    np.testing.assert_allclose(found["first_second"], expected, atol=float(1e-4 * expected.abs().max()))


def test_sets_are_measured_on_own_tokens(project: Project, plain: Plain) -> None:
    pairs = pl.concat(read(project, f"data/{name}/test.parquet") for name in ("helpful", "harmless"))
    sets = read(project, "sets").pivot("response", index=["ablation", "comparison_id"], values="n_tokens")
    [one, *_] = sets.join(pairs, on="comparison_id").iter_rows(named=True)
    texts = [plain.read(one[side + "_right"]) for side in ("chosen", "rejected")]
    assert [one["chosen"], one["rejected"]] == [len(text.ids) - shared(texts) for text in texts]
