"""One reward model in this project and in the field's tools, each in an environment of its own.

`make test-interchange` builds the environments and runs this; without them the tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from project import ROOT, Project
from tiny_models import TWO, save_backbone
from tokenizers import Tokenizer, pre_tokenizers

from rmtension.analysis.official import official_metrics, sections
from rmtension.data import synthetic
from rmtension.data.benchmarks import read_benchmark
from rmtension.data.tasks import subset_names
from rmtension.engine.evaluation import evaluate
from rmtension.engine.learner import bradley_terry, margins
from rmtension.engine.packing import collate, pack
from rmtension.engine.reward_model import (
    CHAT_TEMPLATE,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    pack_comparisons,
    save_reward_model,
    score,
    tokenise,
)
from rmtension.study.benchmarks import PublishedBenchmark

CPU = torch.device("cpu")
HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "
PUBLISHED = ROOT / "data" / "reward-bench" / "filtered.parquet"
ENVIRONMENTS = {"transformers_4": "rewardbench"}
MADE = synthetic.preference_pairs("helpful", 60, seed=5).select("chosen", "rejected")


def run_with(tool: str, jobs: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What tests/interchange/with_{tool}.py makes of the jobs."""
    environment = ROOT / ".venv-interchange" / ENVIRONMENTS.get(tool, tool)
    if not (environment / "installed").exists():
        pytest.skip(f"no environment of {tool}: `make test-interchange` builds it where packages can be had")
    (folder / "jobs.json").write_text(json.dumps(jobs))
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    script = Path(__file__).with_name(f"with_{tool}.py")
    done = subprocess.run(
        [environment / "bin" / "python", script, "jobs.json", "results.json"], cwd=folder,
        env=inherited | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "WANDB_MODE": "disabled"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return results


def messages(dialogue: str) -> list[dict[str, str]]:
    turns = re.split(r"\n\n(Human|Assistant): ", dialogue)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[r], "content": text} for r, text in zip(turns[::2], turns[1::2], strict=True)]


def as_messages(pairs: pl.DataFrame) -> list[dict[str, Any]]:
    return [{side: messages(row[side]) for side in ("chosen", "rejected")} for row in pairs.iter_rows(named=True)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random reward model of each family, as this project saves it, and its backbone."""
    folder = tmp_path_factory.mktemp("models")
    for family in TWO:
        save_backbone(family, folder / f"{family}-backbone")
        model = new_reward_model(folder / f"{family}-backbone", seed=0, head_deviation=0.1)
        save_reward_model(model, load_tokenizer(folder / f"{family}-backbone"), folder / family)
    return folder


# --- rewardbench ----------------------------------------------------------------------------------------------


def made_rows() -> pl.DataFrame:
    """Synthetic pairs of one exchange under the names of RewardBench's subsets."""
    single = MADE.filter(pl.col("chosen").str.count_matches(HUMAN, literal=True) == 1)
    parts = {side: pl.col(side).str.split(ASSISTANT).list.last() for side in ("chosen", "rejected")}
    prompt = pl.col("chosen").str.split(ASSISTANT).list.first().str.strip_prefix(HUMAN)
    subsets = sections("reward-bench")["subset"]
    return single.select(prompt=prompt, **parts, subset=subsets.gather(np.arange(len(single)) % len(subsets)))


def published_rows() -> pl.DataFrame:
    """The three shortest comparisons of each of RewardBench's subsets."""
    length = pl.sum_horizontal(pl.col(side).str.len_chars() for side in ("prompt", "chosen", "rejected"))
    frame = pl.read_parquet(PUBLISHED).sort(length, maintain_order=True)
    return frame.group_by("subset", maintain_order=True).head(3).select("prompt", "chosen", "rejected", "subset")


ROWS = {"made": made_rows} | ({"published": published_rows} if PUBLISHED.exists() else {})


@pytest.fixture(scope="module")
def rewardbench(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, int], dict[str, Any]]:
    """rewardbench's results by rows, family and batch size, all out of one process."""
    folder = tmp_path_factory.mktemp("rewardbench")
    jobs = {}
    for rows, read in ROWS.items():
        upstream = folder / rows / "allenai" / "reward-bench" / "data"
        upstream.mkdir(parents=True)
        read().write_parquet(upstream / "filtered-00000-of-00001.parquet")
        for family in TWO:
            shutil.copytree(models / family, folder / rows / family)
            for size in (1, 8) if rows == "made" else (1,):
                job = {"folder": str(folder / rows), "model": family, "batch_size": size, "torch_dtype": "float32"}
                jobs[rows, family, size] = job
    return dict(zip(jobs, run_with("rewardbench", list(jobs.values()), folder), strict=True))


@cache
def our_scores(folder: Path, rows: str, scratch: Path) -> pl.DataFrame:
    ROWS[rows]().write_parquet(scratch / "filtered.parquet")
    benchmark = PublishedBenchmark.model_validate({"kind": "reward-bench", "path": "filtered.parquet", "tasks": "all"})
    comparisons = read_benchmark("rb", benchmark, str(scratch))
    nothing = pl.DataFrame(schema={"ablation": pl.String, "unit": pl.String, "layer": pl.Int32, "neuron": pl.Int32})
    scores = evaluate(folder, comparisons, nothing, ["none"], None, "", budget=4096, device=CPU)
    texts = comparisons.select("comparison_id", "chosen", "rejected", row=pl.col("comparison_id").str.slice(3))
    return scores.join(texts.cast({"row": pl.Int64}), on="comparison_id").sort("row")


@pytest.mark.parametrize("rows", ["made", "published"])
@pytest.mark.parametrize("family", TWO)
def test_rewardbench_decides_as_we_do(
    rows: str, family: str, models: Path, rewardbench: dict[tuple[str, str, int], dict[str, Any]], tmp_path: Path
) -> None:
    if rows not in ROWS:
        pytest.skip("no data/reward-bench/filtered.parquet; docs/data.md says where to get it")
    ours = our_scores(models / family, rows, tmp_path)
    theirs = rewardbench[rows, family, 1]
    assert len(ours) == len(theirs["rows"]) > 40
    for side in ("chosen", "rejected"):
        assert [row[f"text_{side}"] for row in theirs["rows"]] == ours[side].list.first().to_list()
        scores = [row[f"scores_{side}"] for row in theirs["rows"]]
        np.testing.assert_allclose(ours[f"{side}_scores"].list.first(), scores, atol=2e-5)
    assert [bool(row["results"]) for row in theirs["rows"]] == ours["correct"].to_list()
    assert 5 < ours["correct"].sum() < len(ours) - 5  # a model that could be told from a constant
    by_subset = ours.join(subset_names("reward-bench"), on="task").with_columns(benchmark=pl.lit("rb"))
    metrics = official_metrics(by_subset, "reward-bench", [])
    for name in ("Chat", "Chat Hard", "Safety", "Reasoning"):
        assert 100 * theirs["sections"][name] == pytest.approx(metrics.filter(metric=name)["value"].item())


def test_padding_on_the_left_moves_only_absolute_positions(
    models: Path, rewardbench: dict[tuple[str, str, int], dict[str, Any]]
) -> None:
    """docs/interchange.md: rewardbench scores GPT-2 truly with one text a batch, rotary families with any number."""

    def shift(family: str) -> float:
        one, eight = (rewardbench["made", family, size]["rows"] for size in (1, 8))
        return float(max(abs(a["scores_chosen"] - b["scores_chosen"]) for a, b in zip(one, eight, strict=True)))

    assert shift("gpt2") > 1e-2
    assert max(shift(family) for family in TWO if family != "gpt2") < 2e-5


# --- transformers 4 -------------------------------------------------------------------------------------------

# Settings other than the defaults, as files of version 4 name them.
UNSCALED: dict[str, dict[str, Any]] = {
    "gpt_neox": {"rotary_emb_base": 30_000, "rotary_pct": 0.5},
    "llama": {"rope_theta": 30_000.0},
    "qwen2": {"rope_theta": 30_000.0},
    "qwen3": {"rope_theta": 30_000.0},
}
SCALED: dict[str, dict[str, Any]] = {  # of 2,048 positions
    "unscaled": {},
    "linear": {"type": "linear", "factor": 4},
    "dynamic": {"type": "dynamic", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "attention_factor": 1.5},
    "yarn of all positions": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
    "yarn of no length": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16.0, "beta_slow": 2.0},
}  # fmt: skip
READ: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"activation_function": "relu", "layer_norm_epsilon": 0.1, "reorder_and_upcast_attn": True}),
    "gpt_neox in whole": ("gpt_neox", {"rotary_emb_base": 500, "rotary_pct": 1.0, "use_parallel_residual": False}),
    "llama": ("llama", {"rms_norm_eps": 0.1, "hidden_act": "gelu", "bos_token_id": 5, "torch_dtype": "bfloat16"}),
    "qwen2 in a window": ("qwen2", {"use_sliding_window": True, "sliding_window": 900, "max_window_layers": 1}),
    **{
        f"{family} {kind}": (family, base | ({"rope_scaling": rope} if rope else {}))
        for family, base in UNSCALED.items()
        for kind, rope in SCALED.items()
    },
}
NO_WORDS = "Missing required keys in `rope_scaling`"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a factor of its own": ("qwen3", {"rope_scaling": SCALED["yarn"] | {"factor": 2.0}}, NO_WORDS),
    "no whole dimensions": ("qwen2", {"rope_scaling": SCALED["yarn"] | {"truncate": False}}, NO_WORDS),
    "olmo2": ("olmo2", {}, "Unrecognized configuration class"),
}
# The files of tokenizers, as published beside models of these families.
FILES: dict[str, tuple[str, pre_tokenizers.PreTokenizer, dict[str, Any]]] = {
    "SmolLM2": (
        "llama", pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]),
        {"tokenizer_class": "GPT2Tokenizer", "additional_special_tokens": ["<|end|>", "<|pad|>"], "vocab_size": 400},
    ),
    "Qwen2.5": (
        "qwen2", pre_tokenizers.ByteLevel(False),
        {"tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": ["<|pad|>"], "add_bos_token": False,
         "errors": "replace", "bos_token": None, "split_special_tokens": False},
    ),
    "of version 5": (
        "qwen3", pre_tokenizers.ByteLevel(False),
        {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<|end|>"]},
    ),
    "a letter said to be special": (
        "llama", pre_tokenizers.ByteLevel(False),
        {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["e", "<|pad|>"]},
    ),
    "a space before": ("llama", pre_tokenizers.ByteLevel(True), {"tokenizer_class": "PreTrainedTokenizerFast"}),
    "no space before": (
        "gpt_neox", pre_tokenizers.ByteLevel(False),
        {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True},
    ),
}  # fmt: skip
TEXTS = [*MADE["chosen"][:2], "Steps:\n\n1. Wash\n  2. Dry 123<|end|> don't", "caf\u00e9 " * 50]


def save_from(family: str, settings: dict[str, Any], files: str | None, folder: Path) -> Path:
    """A reward model of ours, from a backbone with these settings and tokenizer files."""
    backbone = folder.with_name(f"{folder.name} backbone")
    save_backbone(family, backbone)
    changed = {"config.json": settings, "tokenizer_config.json": {}}
    if files:
        _, words, changed["tokenizer_config.json"] = FILES[files]
        own = Tokenizer.from_file(str(backbone / "tokenizer.json"))
        own.pre_tokenizer = words
        own.save(str(backbone / "tokenizer.json"))
    for name, changes in changed.items():
        before = json.loads((backbone / name).read_text())
        before.pop("rope_parameters", None)
        (backbone / name).write_text(json.dumps(before | changes))
    save_reward_model(new_reward_model(backbone, seed=0, head_deviation=0.1), load_tokenizer(backbone), folder)
    return folder


@pytest.fixture(scope="module")
def version_4(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Reward models of ours, and what version 4 makes of each, all in one process."""
    folder = tmp_path_factory.mktemp("version-4")
    made = {name: save_from(family, settings, None, folder / name) for name, (family, settings) in READ.items()}
    made |= {name: save_from(family, {}, name, folder / name) for name, (family, *_) in FILES.items()}
    made |= {name: save_from(family, settings, None, folder / name) for name, (family, settings, _) in REFUSED.items()}
    by_layer = save_from("gpt2", {"scale_attn_by_inverse_layer_idx": True}, None, folder / "by layer")
    made |= {"by layer": by_layer, "by layer, eager": by_layer}
    jobs = [{"model": str(model), "texts": TEXTS, "settings": {}} for model in made.values()]
    jobs[-1]["settings"] = {"attn_implementation": "eager"}
    results = run_with("transformers_4", jobs, folder)
    return {name: (made[name], result) for name, result in zip(made, results, strict=True)}


def ids_and_scores(folder: Path) -> tuple[list[list[int]], list[float]]:
    tokens = tokenise(load_tokenizer(folder), TEXTS)
    batch = collate([pack([text], []) for text in tokens], range(len(tokens)))
    with torch.no_grad():
        return [text.tolist() for text in tokens], score(load_reward_model(folder, CPU), batch).tolist()


@pytest.mark.parametrize("name", [*READ, *FILES])
def test_transformers_4_scores_as_we_do(name: str, version_4: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    folder, theirs = version_4[name]
    ids, scores = ids_and_scores(folder)
    assert theirs["ids"] == ids
    np.testing.assert_allclose(theirs["scores"], scores, atol=2e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_transformers_4_refuses_what_it_would_score_otherwise(
    name: str, version_4: dict[str, tuple[Path, dict[str, Any]]]
) -> None:
    assert REFUSED[name][-1] in version_4[name][1]["refused"]


def test_transformers_4_needs_to_be_told_of_scaling_by_layer(version_4: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    """docs/interchange.md: GPT-2's by its place among the layers is left out of version 4's default attention."""
    _, ours = ids_and_scores(version_4["by layer"][0])
    by_default, eager = (np.array(version_4[name][1]["scores"]) for name in ("by layer", "by layer, eager"))
    np.testing.assert_allclose(eager, ours, atol=2e-5)
    assert np.abs(by_default - ours).max() > 1e-2


# --- TRL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trl(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """TRL's results by family, of further training."""
    folder = tmp_path_factory.mktemp("trl")
    pairs = as_messages(MADE[:16])
    jobs = [
        {"model": str(models / family), "chat_template": None, "pairs": pairs, "scored": [], "steps": 8,
         "output": str(folder / family)}
        for family in TWO
    ]  # fmt: skip
    return dict(zip(TWO, run_with("trl", jobs, folder), strict=True))


@pytest.mark.parametrize("family", TWO)
def test_trl_has_our_tokens_and_our_loss(family: str, models: Path, trl: dict[str, dict[str, Any]]) -> None:
    tokenizer, model = load_tokenizer(models / family), load_reward_model(models / family, CPU)
    chosen, rejected = ([[text] for text in MADE[side][:16]] for side in ("chosen", "rejected"))
    ids = [[t.tolist() for t in tokenise(tokenizer, c + r)] for c, r in zip(chosen, rejected, strict=True)]
    assert trl[family]["ids"] == ids
    _, packed = pack_comparisons(tokenizer, chosen, rejected, max_tokens=2048)
    batch = collate(packed, range(16))
    with torch.no_grad():
        loss = bradley_terry(margins(score(model, batch), batch)).item() / 16
    assert trl[family]["loss"] == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("family", TWO)
def test_trl_trains_a_saved_reward_model_further(family: str, trl: dict[str, dict[str, Any]]) -> None:
    assert trl[family]["loss_after"] < trl[family]["loss"] - 0.01
    # A constant in all rewards has no gradient, as the loss is of differences.
    assert set(trl[family]["unmoved"]) <= {"transformer.ln_f.bias"}


def test_a_reward_model_from_trl_takes_its_place_in_a_study(tmp_path: Path) -> None:
    """The study's own backbone and pairs, trained by TRL: scored by TRL and, with everything after it, by the study."""
    project = Project(tmp_path / "project")
    project.run("results/small/backbones/tiny/checksums.json", "results/small/data/helpful/test.parquet")
    pairs = {s: pl.read_parquet(project.results / f"data/helpful/{s}.parquet") for s in ("train", "test")}
    job = {
        "model": str(project.results / "backbones/tiny"), "chat_template": CHAT_TEMPLATE, "steps": 60,
        "pairs": as_messages(pairs["train"]), "scored": as_messages(pairs["test"]),
        "output": str(project.folder / "from-trl"),
    }  # fmt: skip
    [theirs] = run_with("trl", [job], tmp_path)
    project.edit("small.yaml", "runtime: 5}", "runtime: 5}\n    trained: {helpful: {7: from-trl}}")
    project.run("results/small/claims.md", "results/small/tables/training_card.parquet")
    scores = pl.read_parquet(project.results / "scores/tiny/helpful/seed-7/own.parquet")
    ours = scores.filter(ablation="none")
    assert ours["comparison_id"].to_list() == pairs["test"]["comparison_id"].to_list()
    for side in ("chosen", "rejected"):
        reward = [row[side] for row in theirs["scores"]]
        np.testing.assert_allclose(ours[f"{side}_scores"].list.first(), reward, atol=1e-5)
    assert ours["correct"].sum() > 10  # it has learnt something
    assert set(scores["ablation"]) > {"none", "magnitude-p10", "random-p20"}
    changed = pl.read_parquet(project.results / "activations/tiny/helpful/seed-7.parquet")["change_rms"]
    assert (changed > 0).all()
    card = pl.read_parquet(project.results / "tables/training_card.parquet")
    assert dict(card.select("regime", "adopted").rows()) == {"helpful": "7", "harmless": "", "helpful-harmless": ""}
    delta = pl.read_parquet(project.results / "tables/own_ablation.parquet")
    assert delta.filter(regime="helpful").height
