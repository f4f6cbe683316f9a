"""A study of a reward model that is given, run to its report: what it holds, recomputed with plain transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from incremental import GIVEN, STUDIES, study_edit
from project import Project, complaints
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmtension.data.hub import read_study
from rmtension.running import doubts, shown
from rmtension.running.lineage import Lineage
from rmtension.running.plan import make_plan
from rmtension.study.naming import MEAN

TRAINED = "tiny/helpful-harmless/seed-0"


@pytest.fixture(scope="module")
def given(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A reward model of the small study, given to another one in a folder of its own."""
    project = Project(tmp_path_factory.mktemp("given") / "project")
    shutil.copytree(finished.results / "reward_models" / TRAINED, project.folder / "local" / "reward-model")
    text = study_edit({"models.public": None})((STUDIES / GIVEN).read_text())
    (project.folder / GIVEN).write_text(text)
    done = project.snakemake("--cores", "2", study=GIVEN)
    assert done.returncode == 0, complaints(done)
    return project


def of_given(project: Project, stage: str, regime: str, file: str = ".parquet") -> pl.DataFrame:
    return pl.read_parquet(project.folder / f"results/given/{stage}/mine/{regime}/seed-0{file}")


def load(project: Project) -> tuple[Any, Any]:
    folder = project.folder / "local" / "reward-model"
    return AutoModelForSequenceClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def test_nothing_is_trained_and_all_places_are_one_reward_model(
    given: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(given.folder)
    results = given.folder / "results" / "given"
    assert (results / "report.html").stat().st_size > 100_000
    lineage = Lineage(results / "report.html")
    assert doubts.warnings(lineage) == []
    jobs = dict(shown.rules(lineage).select("rule", "jobs").rows())
    jobs = dict(shown.rules(Lineage(results / "explore.html")).select("rule", "jobs").rows()) | jobs
    assert jobs.items() >= {"check_given": 1, "put_given": 3, "activations": 3, "conflict": 1}.items()
    assert jobs.keys().isdisjoint({"train", "adopt", "backbone"})
    planned = make_plan(read_study(Path(GIVEN))).rules
    assert dict(planned.select("rule", "jobs").rows()) == jobs
    for regime in ("helpful", "harmless", "both"):
        place = results / f"reward_models/mine/{regime}/seed-0"
        assert (place / "model.safetensors").samefile("local/reward-model/model.safetensors")
        assert json.loads((place / "provenance.json").read_text())["given"] == "local/reward-model"
        assert "base" not in given.planned(study=GIVEN)
    whats = shown.origins(Lineage(results / "tables/accuracy.csv"))["what"].to_list()
    assert f"links to {given.folder / 'local/reward-model'}" in whats
    assert "source: given, path local/reward-model, template hh" in whats


def test_what_is_known_without_a_backbone_is_as_with_one(given: Project, finished: Project) -> None:
    """Statistics and scores of the same pairs, by a study that trained the reward model and one that was given it."""
    one, other = of_given(given, "activations", "both"), pl.read_parquet(
        finished.results / f"activations/{TRAINED}.parquet"
    )  # fmt: skip
    assert one.drop("change_rms").equals(other.drop("change_rms"))
    assert one.schema == other.schema and one["change_rms"].null_count() == len(one)
    ours, theirs = of_given(given, "scores", "both", "/tasks.parquet"), pl.read_parquet(
        finished.results / f"scores/{TRAINED}/tasks.parquet"
    )  # fmt: skip
    plain = [frame.filter(ablation="none").drop("fingerprint") for frame in (ours, theirs)]
    assert plain[0].equals(plain[1])


def forward(model: Any, tokenizer: Any, text: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Reward of a text, and the activations [1, tokens, neurons] of every layer, which it is made of."""
    kept: list[torch.Tensor] = []
    handles = [block.mlp.act.register_forward_hook(lambda _m, _i, out: keep(kept, out)) for block in model.base_model.h]
    reward = model(**tokenizer(text, return_tensors="pt")).logits.squeeze()
    for handle in handles:
        handle.remove()
    return reward, kept


def keep(kept: list[torch.Tensor], activations: torch.Tensor) -> None:
    kept.append(activations)
    if activations.requires_grad:
        activations.retain_grad()


def attributions(project: Project, regime: str) -> np.ndarray[Any, Any]:
    """[layers, neurons]: mean over a regime's pairs of value times gradient of the margin, text by text."""
    model, tokenizer = load(project)
    pairs = pl.read_parquet(project.folder / f"results/given/data/{regime}/train.parquet")
    total = torch.zeros(3, 32, dtype=torch.float64)
    for chosen, rejected in pairs.select("chosen", "rejected").rows():
        for sign, text in ((1, chosen), (-1, rejected)):
            reward, kept = forward(model, tokenizer, text)
            (sign * reward).backward()
            total += torch.stack([(a.double() * a.grad.double()).sum((0, 1)) for a in kept if a.grad is not None])
    return (total / len(pairs)).detach().numpy()


def top(scores: np.ndarray[Any, Any]) -> set[tuple[int, int]]:
    """The tenth of all neurons that scores highest."""
    order = np.argsort(-scores, axis=None)[: round(0.1 * scores.size)]
    return {(int(index) // 32, int(index) % 32) for index in order}


def test_sets_are_made_within_the_one_reward_model(given: Project) -> None:
    found = {}
    for regime in ("helpful", "harmless"):
        naive = attributions(given, regime)
        ranked = of_given(given, "neurons", regime).filter(scoring="attribution").sort("layer", "neuron")
        np.testing.assert_allclose(ranked["score"], naive.flatten(), atol=1e-6 * abs(naive).max())
        found[regime] = top(naive)
    helpful, harmless = found["helpful"], found["harmless"]
    assert helpful != harmless
    expected = {"shared": helpful & harmless, "helpful-only": helpful - harmless, "harmless-only": harmless - helpful}
    selected = of_given(given, "selected", "both", "/sets.parquet")
    for name, members in expected.items():
        assert set(selected.filter(ablation=name).select("layer", "neuron").rows()) == members


def replaced(model: Any, units: pl.DataFrame, means: pl.DataFrame | None) -> Iterator[Any]:
    """Have a model compute with the neurons of `units` at zero, or at their means."""
    for layer, block in enumerate(model.base_model.h):
        of_layer = units.filter(layer=layer)["neuron"]
        values = torch.zeros(len(of_layer))
        if means is not None:
            by_neuron = dict(means.filter(layer=layer).select("neuron", "mean").rows())
            values = torch.tensor([by_neuron[neuron] for neuron in of_layer])

        yield block.mlp.act.register_forward_hook(partial(put, of_layer.to_list(), values))


def put(at: list[int], values: torch.Tensor, _module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    output[..., at] = values
    return output


@pytest.mark.parametrize("ablation", ["none", "attribution-p10", "shared", f"harmless-only{MEAN}"])
def test_accuracy_is_that_of_the_plain_model(given: Project, ablation: str) -> None:
    """With all of its neurons, and with those of sets found on one or both kinds of pairs replaced."""
    model, tokenizer = load(given)
    units = of_given(given, "selected", "both", "/sets.parquet").filter(ablation=ablation.removesuffix(MEAN))
    statistics = of_given(given, "activations", "both").group_by("layer", "neuron").agg(pl.col("mean").mean())
    list(replaced(model, units, statistics if ablation.endswith(MEAN) else None))
    comparisons = pl.read_parquet(given.folder / "results/given/benchmarks/tasks.parquet")
    rows = of_given(given, "scores", "both", "/tasks.parquet").filter(ablation=ablation)
    right = 0
    with torch.no_grad():
        for row in rows.join(comparisons, on="comparison_id", how="left", maintain_order="left").to_dicts():
            naive = {s: [forward(model, tokenizer, t)[0].item() for t in row[s]] for s in ("chosen", "rejected")}
            for side, rewards in naive.items():
                np.testing.assert_allclose(row[f"{side}_scores"], rewards, atol=1e-5)
            right += min(naive["chosen"]) > max(naive["rejected"])
    assert len(rows) == len(comparisons) and rows["correct"].sum() == right
    table = pl.read_parquet(given.folder / "results/given/tables/benchmark_accuracy.parquet")
    if ablation == "none":
        [accuracy] = table.filter(model="mine", regime="both", benchmark="tasks")["accuracy_mean"]
        assert accuracy == pytest.approx(100 * right / len(comparisons))


def test_a_given_model_that_is_none_is_one_line(given: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(given.folder / "local", project.folder / "local")
    (project.folder / GIVEN).write_text((given.folder / GIVEN).read_text())
    (project.folder / "local/reward-model/model.safetensors").unlink()
    done = project.snakemake("--cores", "1", "results/given/backbones/mine/checksums.json", study=GIVEN)
    assert done.returncode == 1
    assert "error: local/reward-model: no *.safetensors" in done.stderr
    assert not (project.folder / "results/given/backbones/mine").exists()
