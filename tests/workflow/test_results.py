"""What a finished study holds, recomputed without the engine: plain transformers, one text at a time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from project import ROOT, Project
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from rmtension.analysis.answer_key import ANSWER_KEY
from rmtension.analysis.cards import cards
from rmtension.analysis.data_cards import data_cards
from rmtension.analysis.holes import HOLES
from rmtension.analysis.ledger import ledger, ledger_markdown
from rmtension.analysis.presentation import write_table
from rmtension.analysis.results import load_results
from rmtension.analysis.tables import make_tables
from rmtension.base.errors import UserError
from rmtension.cli import app
from rmtension.data.comparisons import read_comparisons
from rmtension.data.hub import read_study
from rmtension.engine import planted
from rmtension.engine.answer_key import answer_key
from rmtension.report.figures import make_figures, write_figure
from rmtension.running import doubts, provenance, shown
from rmtension.running.lineage import Lineage
from rmtension.running.provenance import read_records
from rmtension.study.scorings import Neurons

RM = "tiny/helpful-harmless/seed-7"


def load(project: Project, name: str = RM) -> tuple[Any, Any]:
    folder = project.results / "reward_models" / name
    return AutoModelForSequenceClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def scores_of(project: Project, benchmark: str, name: str = RM) -> pl.DataFrame:
    return pl.read_parquet(project.results / "scores" / name / f"{benchmark}.parquet")


@torch.no_grad()
def reward(model: Any, tokenizer: Any, text: str) -> float:
    return float(model(**tokenizer(text, return_tensors="pt")).logits.item())


COLUMNS = {
    "data/helpful/train.parquet": ["comparison_id", "chosen", "rejected", "source"],
    "data/helpful-harmless/validation.parquet": ["comparison_id", "chosen", "rejected", "source"],
    "data/harmless/test.parquet": ["comparison_id", "chosen", "rejected", "source"],
    "data/helpful-harmless/hygiene.parquet": ["source", "split", "reason", "treatment", "n", "of"],
    "benchmarks/tasks.parquet": ["comparison_id", "task", "orientation", "chosen", "rejected"],
    "words/helpful-harmless.parquet": [
        "benchmark", "comparison_id", "task", "orientation", "chosen_scores", "rejected_scores",
    ],
    "lengths/tiny.parquet": [
        "benchmark", "comparison_id", "task", "orientation", "prefix_tokens", "chosen_tokens", "rejected_tokens",
    ],
    f"reward_models/{RM}/training.parquet": ["step", "loss", "accuracy", "learning_rate", "tokens", "seconds"],
    f"activations/{RM}.parquet": [
        "layer", "neuron", "response", "n_tokens", "mean", "mean_abs", "rms", "frac_positive", "change_rms",
    ],
    f"activations/{RM}/heads.parquet": ["layer", "head", "response", "n_tokens", "mean_norm"],
    f"neurons/{RM}.parquet": ["scoring", "unit", "layer", "neuron", "score", "rank"],
    f"selected/{RM}.parquet": ["ablation", "unit", "layer", "neuron"],
    f"set_activations/{RM}.parquet": [
        "comparison_id", "task", "orientation", "response", "ablation", "n_tokens", "mean",
    ],
    "passages/tiny/helpful-harmless/seed-0.parquet": ["layer", "neuron", "response", "tokens", "activations"],
    "passages/tiny/helpful-harmless/seed-0/scores.parquet": ["layer", "neuron", "comparison_id", "chosen_scores"],
    "running_rewards/tiny/helpful/seed-0.parquet": ["benchmark", "comparison_id", "response", "tokens", "rewards"],
    f"scores/{RM}/own.parquet": [
        "ablation", "comparison_id", "task", "chosen_scores", "rejected_scores", "correct",
    ],
}  # fmt: skip


@pytest.mark.parametrize("file", COLUMNS)
def test_every_file_has_its_columns(finished: Project, file: str) -> None:
    frame = pl.read_parquet(finished.results / file)
    assert set(COLUMNS[file]) <= set(frame.columns)
    assert len(frame)


def test_every_table_and_figure_has_its_twins(finished: Project) -> None:
    forms = {
        folder: {(p.stem, p.suffix) for p in (finished.results / folder).iterdir()} for folder in ("tables", "figures")
    }
    registries = [
        ("data_cards", "DATA_CARDS"),
        ("cards", "CARDS"),
        ("answer_key", "ANSWER_KEY"),
        ("tables", "TABLES"),
        ("tables", "DERIVED"),
        ("holes", "HOLES"),
    ]
    tables = [name for module, key in registries for name in provenance.registered(f"analysis.{module}", key)]
    figures = provenance.registered("report.figures", "FIGURES")
    assert forms["tables"] == {(t, form) for t in tables for form in (".parquet", ".csv", ".md", ".tex")}
    assert forms["figures"] == {(f, form) for f in figures for form in (".pdf", ".svg", ".png")}
    assert "<html" in (finished.results / "report.html").read_text()
    assert not list((finished.results / "checkpoints").rglob("*.pt")), "checkpoints go when the model is there"


@pytest.mark.parametrize(
    ("benchmark", "file"),
    [("tasks", "benchmarks/tasks.parquet"), ("validation", "data/helpful-harmless/validation.parquet")],
)
def test_saved_reward_models_reproduce_their_scores(benchmark: str, file: str, finished: Project) -> None:
    model, tokenizer = load(finished)
    rows = scores_of(finished, benchmark).filter(ablation="none")
    comparisons = read_comparisons(finished.results / file).drop("task", "orientation")
    assert rows["comparison_id"].to_list() == comparisons["comparison_id"].to_list()
    for row in rows.join(comparisons, on="comparison_id").iter_rows(named=True):
        for side in ("chosen", "rejected"):
            alone = [reward(model, tokenizer, text) for text in row[side]]
            np.testing.assert_allclose(row[f"{side}_scores"], alone, atol=1e-4)


def test_all_that_is_judged_is_counted_once(finished: Project) -> None:
    own = [pl.read_parquet(finished.results / "data" / regime / "test.parquet") for regime in ("helpful", "harmless")]
    tasks = pl.read_parquet(finished.results / "benchmarks" / "tasks.parquet")
    judged = [("own", name) for pairs in own for name in pairs["comparison_id"]]
    judged += [("tasks", name) for name in tasks["comparison_id"]]
    rows = pl.read_parquet(finished.results / "lengths" / "tiny.parquet")
    assert rows.select("benchmark", "comparison_id").rows() == judged
    for regime in ("helpful", "harmless", "helpful-harmless"):
        words = pl.read_parquet(finished.results / "words" / f"{regime}.parquet")
        assert words[:, :4].equals(rows[:, :4])
        assert words["chosen_scores"].list.len().equals(rows["chosen_tokens"].list.len())
    _, tokenizer = load(finished)
    for row in own[1].head(3).iter_rows(named=True):
        [counted] = rows.filter(comparison_id=row["comparison_id"]).to_dicts()
        for side in ("chosen", "rejected"):
            own_tokens = len(tokenizer(row[side])["input_ids"]) - counted["prefix_tokens"]
            assert counted[f"{side}_tokens"] == [own_tokens]


def activations(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Activation function's outputs [layers, tokens, neurons] of one text alone."""
    return kept(
        model, tokens, lambda block, keep: block.mlp.act.register_forward_hook(lambda _m, _i, out: keep(out[0]))
    )


def head_norms(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Norms [layers, tokens, 2 heads] of what GPT-2's attention projection reads of each head."""
    halves = kept(
        model, tokens, lambda block, keep: block.attn.c_proj.register_forward_pre_hook(lambda _m, x: keep(x[0][0]))
    )
    return torch.stack([halves[..., :16].norm(dim=-1), halves[..., 16:].norm(dim=-1)], dim=-1)


def kept(model: Any, tokens: torch.Tensor, hook: Callable[[Any, Callable[..., None]], Any]) -> torch.Tensor:
    """What `hook`, put on every layer, keeps of one text, in float64."""
    outputs: list[torch.Tensor] = []
    handles = [hook(block, outputs.append) for block in model.base_model.h]
    with torch.no_grad():
        model.base_model(tokens)
    for handle in handles:
        handle.remove()
    return torch.stack(outputs).double()


def test_statistics_are_those_of_a_pass_over_each_text(finished: Project) -> None:
    model, tokenizer = load(finished)
    base = AutoModel.from_pretrained(finished.results / "backbones" / "tiny").eval()
    pairs = pl.read_parquet(finished.results / "data" / "helpful-harmless" / "train.parquet")
    found = pl.read_parquet(finished.results / "activations" / f"{RM}.parquet")
    heads = pl.read_parquet(finished.results / "activations" / RM / "heads.parquet")
    for response in ("chosen", "rejected"):
        tokens = [tokenizer(text, return_tensors="pt")["input_ids"] for text in pairs[response]]
        a = torch.cat([activations(model, t) for t in tokens], dim=1)
        b = torch.cat([activations(base, t) for t in tokens], dim=1)
        rows = found.filter(response=response).sort("layer", "neuron")
        assert set(rows["n_tokens"]) == {a.shape[1]}
        scale = a.square().mean(1).sqrt().flatten().numpy()
        expected = {
            "mean": a.mean(1),
            "mean_abs": a.abs().mean(1),
            "rms": a.square().mean(1).sqrt(),
            "change_rms": (a - b).square().mean(1).sqrt(),
        }
        for name, values in expected.items():
            assert (np.abs(rows[name].to_numpy() - values.flatten().numpy()) / scale).max() < 1e-6, name
        norms = torch.cat([head_norms(model, t) for t in tokens], dim=1).mean(1).flatten()
        np.testing.assert_allclose(heads.filter(response=response).sort("layer", "head")["mean_norm"], norms, rtol=1e-5)


@pytest.mark.parametrize(
    "ablation", ["magnitude-p20", "random-p5", "head-norm-p20", "shared", "helpful-only", "shared-matched-0"]
)
def test_ablated_scores_are_those_of_a_naive_hook(finished: Project, ablation: str) -> None:
    model, tokenizer = load(finished)
    units = pl.read_parquet(finished.results / "selected" / f"{RM}.parquet").filter(ablation=ablation)
    neurons, heads = units.filter(unit="neuron"), units.filter(unit="head")
    assert len(units)
    pairs = pl.read_parquet(finished.results / "data" / "helpful-harmless" / "test.parquet")

    def zero(layer: int, output: torch.Tensor) -> torch.Tensor:
        output[..., neurons.filter(layer=layer)["neuron"].to_list()] = 0
        return output

    for layer, head in heads.select("layer", "neuron").rows():
        model.base_model.h[layer].attn.c_proj.weight.data[16 * head : 16 * (head + 1)] = 0
    for layer, block in enumerate(model.base_model.h):
        block.mlp.act.register_forward_hook(lambda _m, _i, out, layer=layer: zero(layer, out))
    rows = scores_of(finished, "own").filter(ablation=ablation).join(pairs, on="comparison_id")
    assert len(rows) == len(pairs) == 40
    for row in rows.iter_rows(named=True):
        for side in ("chosen", "rejected"):
            assert row[f"{side}_scores"] == [pytest.approx(reward(model, tokenizer, row[side]), abs=1e-5)]


def test_selected_sets_follow_from_the_rankings(finished: Project) -> None:
    selected = pl.read_parquet(finished.results / "selected" / f"{RM}.parquet")
    sizes = dict(selected.group_by("ablation").len().rows())
    assert {sizes[f"{s}-p5"] for s in ("magnitude", "random", "matched-random")} == {round(0.05 * 96)}
    assert (sizes["head-norm-p10"], "head-norm-p5" in sizes) == (round(0.1 * 6), False)
    top = {
        regime: set(
            pl.read_parquet(finished.results / "neurons" / f"tiny/{regime}/seed-7.parquet")
            .filter(pl.col("rank") <= 10, scoring="magnitude")
            .select("layer", "neuron")
            .rows()
        )
        for regime in ("helpful", "harmless")
    }
    for name, expected in {
        "shared": top["helpful"] & top["harmless"],
        "helpful-only": top["helpful"] - top["harmless"],
        "harmless-only": top["harmless"] - top["helpful"],
    }.items():
        assert set(selected.filter(ablation=name).select("layer", "neuron").rows()) == expected
    controls = [f"{s}-{c}-0" for s in ("shared", "helpful-only", "harmless-only") for c in ("sized", "matched")]
    smallest = min(sizes.get(name, 0) for name in ("shared", "helpful-only", "harmless-only"))
    assert {sizes.get(name, 0) for name in (*controls, "random-sized-0")} == {smallest}


def test_provenance_names_settings_data_and_versions(finished: Project) -> None:
    provenance = json.loads((finished.results / "reward_models" / RM / "provenance.json").read_text())
    assert provenance["settings"]["seed"] == 7
    assert provenance["settings"]["training"]["learning_rate"] == 1e-3
    assert set(provenance["origins"]) == {"backbone", "train", "validation", "code"}
    assert provenance["environment"]["torch"] == torch.__version__


# What a job writes beside its outputs: differs from run to run.
BESIDE = ("logs", "benchmark", "provenance", "checkpoints")


def test_every_file_has_one_record_that_holds(finished: Project) -> None:
    records = read_records(finished.results / "provenance")
    recorded = [(path, made["sha256"]) for record in records.values() for path, made in record["outputs"].items()]
    files = {
        str(file.relative_to(finished.folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in finished.results.rglob("*")
        if file.is_file() and file.relative_to(finished.results).parts[0] not in BESIDE
    }
    assert sorted(recorded) == sorted(files.items())
    [study] = {record["study"]["sha256"] for record in records.values()}
    assert study in (finished.results / "report.html").read_text()


def test_the_explorer_shows_what_the_files_hold(finished: Project) -> None:
    """Scores of a whole reward model, and what passages and running rewards say of the same texts."""
    page = (finished.results / "explore.html").read_text(encoding="utf-8")
    packed = dict(re.findall(r'data-block="(.*?)">(.*?)<', page))
    blocks = {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in packed.items()}
    whole, texts = blocks["scores"], blocks["comparisons"]
    values = np.frombuffer(base64.b64decode(whole["values"]), "<f4").reshape(len(whole["rows"]), -1)
    place = "tiny/helpful-harmless/seed-0"
    row = whole["rows"].index(["tiny", "helpful-harmless", 0, "none", 0])
    scores = pl.concat(
        pl.read_parquet(finished.results / f"scores/{place}/{name}.parquet").with_columns(benchmark=pl.lit(name))
        for name in ("own", "tasks")
    ).filter(ablation="none")
    both = pl.DataFrame({name: texts[name] for name in ("benchmark", "comparison_id")}).join(
        scores, on=["benchmark", "comparison_id"], how="left", maintain_order="left"
    )
    expected = both.select(pl.concat_list("chosen_scores", "rejected_scores").explode()).to_series()
    assert values[row].tolist() == expected.to_list() and len(both) == 40 + 24

    without = pl.read_parquet(finished.results / f"passages/{place}/scores.parquet")
    none = without.filter(pl.col("layer").is_null()).join(scores, on="comparison_id", maintain_order="left")
    alone, in_file = (none[name].explode().to_numpy() for name in ("chosen_scores", "chosen_scores_right"))
    np.testing.assert_allclose(alone, in_file, atol=1e-5)
    along = pl.read_parquet(finished.results / f"running_rewards/{place}.parquet")
    ends = along.group_by("benchmark", "comparison_id", "response", maintain_order=True).agg(
        pl.col("rewards").list.last()
    )
    chosen = ends.filter(response="chosen").join(scores, on=["benchmark", "comparison_id"], maintain_order="left")
    assert len(chosen) == 64
    end, in_file = (chosen[name].explode().to_numpy() for name in ("rewards", "chosen_scores"))
    np.testing.assert_allclose(end, in_file, atol=1e-5)


@pytest.mark.parametrize("file", ["tables/accuracy.tex", "figures/accuracy.pdf", "claims.md", "report.html"])
def test_a_result_leads_to_models_and_data(finished: Project, file: str) -> None:
    lineage = Lineage(finished.results / file)
    assert doubts.warnings(lineage) == []
    jobs = dict(shown.rules(lineage).select("rule", "jobs").rows())
    drawn = {"figures", "claims", "tables", "data_cards", "cards", "answer_key"}
    own = {"tables": {"tables"}, "figures": drawn - {"answer_key"}, "claims.md": {"claims", "tables"},
           "report.html": {"report_page"} | drawn}[file.partition("/")[0]]  # fmt: skip
    before = {"backbone": 1, "data": 3, "benchmark_comparisons": 1, "words": 3, "lengths": 1, "train": 6,
              "activations": 6, "neurons": 6, "select_sets": 6, "select": 6, "set_activations": 6,
              "evaluate": 18, "patch": 4, "conflict": 6}  # fmt: skip
    assert jobs == dict.fromkeys(own, 1) | before
    whats = " ".join(shown.origins(lineage)["what"])
    assert all(part in whats for part in ("family gpt2", "objective helpful", "objective harmless", "per_task 3"))


def test_the_same_study_gives_the_same_bytes(finished: Project, tmp_path: Path) -> None:
    """One mixed reward model and all before it, run anew in another folder and on one core."""
    again = Project(tmp_path / "again")
    made_last = [f"results/small/scores/{RM}/{benchmark}.parquet" for benchmark in ("own", "tasks", "validation")]
    made_last += ["results/small/lengths/tiny.parquet", "results/small/words/helpful.parquet"]
    made_last += [f"results/small/set_activations/{RM}.parquet"]
    again.run("--cores", "1", *made_last)
    made = [file.relative_to(again.results) for file in again.results.rglob("*") if file.is_file()]
    made = [file for file in made if file.parts[0] not in BESIDE and file.name != "training.parquet"]  # it tells times
    for file in made:
        assert (finished.results / file).read_bytes() == (again.results / file).read_bytes(), file
    stages = {"data", "benchmarks", "words", "backbones", "lengths", "reward_models", "activations", "neurons"}
    assert {file.parts[0] for file in made} == stages | {"selected", "set_activations", "scores"}


def test_the_same_scores_give_the_same_tables_claims_and_figures(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process than the study's own, so with other hashes of texts."""
    monkeypatch.chdir(finished.folder)
    study, folder = read_study(Path("small.yaml")), Path("results/small")
    tables = data_cards(folder, study) | cards(folder, study) | make_tables(load_results(folder, study))
    monkeypatch.setattr(planted, "RESOURCES", finished.folder / "resources")
    key = answer_key(planted.Planted.read(), Neurons())
    tables |= {name: make(key) for name, make in ANSWER_KEY.items()}
    claims = ledger(tables, study)
    tables |= {name: make(study, tables, claims) for name, make in HOLES.items()}
    for name, table in tables.items():
        write_table(table, tmp_path / "tables" / f"{name}.parquet")
    (tmp_path / "claims.md").write_text(ledger_markdown(claims))
    for name, figure in make_figures(tables | {"claims": claims}, study.figures, study.analysis).items():
        write_figure(figure, tmp_path / "figures" / name, study.figures.dpi)
    made = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    parts = ("tables", "figures", "claims.md")
    files = [file for part in parts for file in [folder / part, *folder.glob(f"{part}/*")] if file.is_file()]
    assert sorted(made) == sorted(file.relative_to(folder) for file in files)
    for file in made:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_snakemakes_own_report(project: Project) -> None:
    done = project.snakemake("--report", "own-report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (project.folder / "own-report.html").stat().st_size > 100_000


def test_jobs_are_chosen_when_one_has_ended_and_at_no_other_time(tmp_path: Path) -> None:
    """While no core is free, a look at all jobs that are ready is of no use; Snakemake has one a second and more."""
    said = Project(tmp_path / "project").snakemake("--cores", "1", "--until", "data", "--verbose").stderr
    assert (said.count("Ready jobs: "), said.count("Finished jobid: ")) == (3, 3), said[-3000:]


def test_a_bad_study_stops_before_any_job_with_one_line(project: Project) -> None:
    project.edit("small.yaml", "learning_rate", "learning_rat")
    done = project.snakemake("--cores", "1")
    assert done.returncode == 1
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert lines.pop(0).startswith("Using workflow specific profile")
    assert lines == ["error: small.yaml: training: unknown key 'learning_rat'; did you mean 'learning_rate'?"]


def test_a_users_mistake_in_a_job_is_one_line(project: Project) -> None:
    """Data that turn out unusable: the rule's log and the terminal say why, without a traceback."""
    project.edit("small.yaml", "max_tokens: 256", "max_tokens: 3")
    done = project.snakemake("--cores", "2")
    assert done.returncode == 1
    expected = "pairs is within training.max_tokens = 3: raise it"
    assert expected in done.stderr
    logs = [file.read_text() for file in (project.results / "logs" / "train").rglob("*.log")]
    failed = [log for log in logs if expected in log]
    assert failed and not any("Traceback" in log for log in failed)


def test_the_default_study_replaces_nothing_and_is_replaced(project: Project) -> None:
    assert project.planned("--rerun-triggers", "mtime") == {}
    done = project.snakemake("--dry-run", study=None)
    assert "tiny-llama" in done.stdout and "results/small" not in done.stdout


# Stands for the command in a shell: notes what it is called with, so that no call need import torch anew.
NOTES = """#!{python} -S
import json, sys
with open("calls", "a") as file:
    print(json.dumps([sys.argv[1:], sys.stdin.read()]), file=file)
"""
OWN = "my-reward-model"  # where the documentation names one of the reader's


def test_the_examples_of_the_command_line_work(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the documentation, with the names of the small study, as a shell gives them to the command.

    A reader's own reward model is none that is here, which is said where all options are understood.
    """
    program = tmp_path / "rmtension"
    program.write_text(NOTES.format(python=sys.executable))
    program.chmod(0o755)
    for here, there in {"results": "results", "resources": "resources", "config.yaml": "small.yaml"}.items():
        (tmp_path / here).symlink_to(finished.folder / there)
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL))
    script = blocks.replace("results/default", "results/small").replace("tiny-gpt2", "tiny")
    script = script.replace(".venv/bin", str(tmp_path))
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=600, check=True)
    monkeypatch.chdir(tmp_path)
    calls = [json.loads(line) for line in Path("calls").read_text().splitlines()]
    assert len(calls) == blocks.count("rmtension ")
    results = []
    for call, given in calls:
        with pytest.raises(UserError, match=rf"^{OWN}: no such folder") if OWN in call else nullcontext():
            results.append(CliRunner().invoke(app, call, input=given, catch_exceptions=False))
    assert {result.exit_code for result in results} == {0}
    said = "".join(result.stdout for result in results)
    assert said.count('{"scores": [') == 5
    for part in ("Jaccard index", '"assumptions"', "All files are as recorded."):
        assert part in said
