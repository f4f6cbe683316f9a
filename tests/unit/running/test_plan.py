"""The plan of a study: as many jobs as Snakemake counts, and prices that can be reckoned by hand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT, Project
from typer.testing import CliRunner

from rmtension.base.errors import UserError
from rmtension.cli import app
from rmtension.data.hub import read_study
from rmtension.running.amounts import KNOWN, RULES, Amounts, configuration, size_of
from rmtension.running.plan import make_plan
from rmtension.study.measured import ablated_sets, compared_sets
from rmtension.study.models import FolderModel, GgufModel
from rmtension.study.study import Study

CODE = "from pathlib import Path\nPath('ran').touch()\nclass Config: ..."
PAPER = {
    "openai-community/gpt2": 124_439_808,
    "openai-community/gpt2-medium": 354_823_168,
    "openai-community/gpt2-large": 774_030_080,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
}


@pytest.mark.parametrize(
    "config", ['{"model_type": "mine", "auto_map": {"AutoConfig": "conf.Config"}}', '{"model_', ""]
)
def test_a_model_that_cannot_be_read_is_one_line_and_its_code_does_not_run(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask
    study = Study.model_validate(paper(["openai-community/gpt2"]))
    Path("mine").mkdir()
    Path("mine/conf.py").write_text(CODE)
    Path("mine/model.safetensors").touch()
    if config:
        Path("mine/config.json").write_text(config)
    with pytest.raises(UserError, match=r"^mine: "):
        configuration(FolderModel(kind="pretrained", path="mine"), study.model_copy(update={"data_root": "."}))
    Path("mine.gguf").write_text("no such thing")
    with pytest.raises(UserError, match=r"^mine\.gguf: "):
        configuration(GgufModel(kind="gguf", path="mine.gguf"), study.model_copy(update={"data_root": "."}))
    assert not Path("ran").exists()


def on_the_hub(name: str, **more: Any) -> dict[str, Any]:
    return {"hub": name, "revision": "main", **more}


def paper(models: list[str]) -> dict[str, Any]:
    """A study of the hub's models and data, as the paper's."""
    folders = ["helpful-base", "helpful-online", "helpful-rejection-sampled", "harmless-base"]
    return {
        "name": "paper",
        "seeds": [0, 247, 932],
        "models": {
            hub.split("/")[1]: {"source": on_the_hub(hub, kind="pretrained"), "compute": {"gpus": 1}} for hub in models
        },
        "sources": {f: on_the_hub("Anthropic/hh-rlhf", kind="hh-rlhf", folder=f) for f in folders},
        "regimes": {
            "helpful": {"train": folders[:3], "test": ["helpful-base"]},
            "harmless": {"train": ["harmless-base"], "test": ["harmless-base"]},
            "helpful-harmless": {"mixes": ["helpful", "harmless"], "epochs": 1},
        },
        "ablation": {"sweep": [*range(2, 31, 2), 100], "sweep_benchmarks": ["hh-test"]},
        "benchmarks": {
            "hh-test": {"kind": "regime-test"},
            **{kind: on_the_hub(f"x/{kind}", kind=kind) for kind in ("reward-bench", "reward-bench-2", "rm-bench")},
        },
    }


def planned(settings: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A plan by rule: rule -> column -> value."""
    return {row["rule"]: row for row in make_plan(Study.model_validate(settings), **options).rules.to_dicts()}


STUDIES = ["config.yaml", "small.yaml", "repaired.yaml", "studies/smollm2-135m-hh.yaml", "studies/paper.yaml"]


@pytest.mark.parametrize("study", STUDIES)
def test_jobs_are_those_of_a_dry_run(study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if study == "studies/smollm2-135m-hh.yaml" and not (ROOT / "data").exists():
        pytest.skip("the files of docs/data.md are not in data/")
    project = Project(tmp_path / "project")
    (project.folder / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "tests" / "workflow" / "repaired.yaml", project.folder)
    monkeypatch.chdir(project.folder)
    result = CliRunner().invoke(app, ["plan", study, "--json"], catch_exceptions=False)
    counted = {row["rule"]: row["jobs"] for row in json.loads(result.stdout)["rules"]}
    assert counted == project.planned(study=study)


def test_backbones_of_the_paper_have_their_published_sizes() -> None:
    study = Study.model_validate(paper(list(PAPER)))
    found = [size_of(configuration(model.source, study)).parameters for model in study.models.values()]
    assert found == list(PAPER.values())


SMALL: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "workflow" / "small.yaml").read_text())
MIXES = {"mixes": ["helpful", "harmless"]}
REPAIRS: dict[str, Any] = {
    "projected": MIXES | {"method": "projected", "epochs": 1},
    "frozen": MIXES | {"method": "frozen", "frozen": "matched", "epochs": 1},
    "merged": MIXES | {"method": "merged", "weights": [[0.5, 0.5], [0.25, 0.75]]},
    "ensemble": MIXES | {"method": "ensemble"},
}
WIDTH, NEURONS, LAYERS = 32, 32, 3
# GPT-2: attention's four matrices, the MLP's two, biases of all, two norms a layer and one at the end.
LAYER = 4 * WIDTH * WIDTH + 4 * WIDTH + 2 * WIDTH * NEURONS + NEURONS + WIDTH + 4 * WIDTH
COMPUTING = LAYERS * LAYER + 2 * WIDTH
PARAMETERS = COMPUTING + (512 + 512) * WIDTH  # words and positions
TOKENS = KNOWN["tokens"]["synthetic"]
FORWARD = TOKENS * (2 * COMPUTING + 2 * LAYERS * WIDTH * TOKENS)


def test_a_backbone_holds_its_threads_and_no_gpu() -> None:
    source = SMALL["models"]["tiny"]["source"]
    of = planned({**SMALL, "models": {"tiny": {"source": source, "compute": {"threads": 4, "gpus": 1}}}})["backbone"]
    assert of["cpu_hours"] == pytest.approx(4 * of["longest_hours"]) and of["gpu_hours"] == 0


def test_several_gpus_train_and_one_scores() -> None:
    one, two, sharded = (
        planned({**SMALL, "models": {"tiny": {"source": SMALL["models"]["tiny"]["source"], "compute": compute}}})
        for compute in ({"gpus": 1}, {"gpus": 2}, {"gpus": 2, "sharded": True})
    )
    start = KNOWN["devices"]["a100"]["start"] / 3600
    alone = one["train"]["longest_hours"] - start
    for several, saved in ((two, 0), (sharded, 16 * PARAMETERS / 2)):
        assert several["train"]["longest_hours"] == pytest.approx(start + alone / 2)
        assert several["train"]["gpu_hours"] == pytest.approx(one["train"]["gpu_hours"] + 6 * start)  # twice the starts
        assert several["train"]["memory_gb"] * 1e9 == pytest.approx(one["train"]["memory_gb"] * 1e9 - saved)
        assert several["evaluate"] == one["evaluate"] and several["activations"] == one["activations"]


def test_lean_training_computes_more_and_holds_less() -> None:
    """A pass more over the 57 pairs of two epochs; no moments, on a CPU no best weights, of layers their inputs."""
    compute = {"training_tokens": 5000}
    settings = {**SMALL, "models": {"tiny": SMALL["models"]["tiny"] | {"compute": compute}}, "conflict": None}
    settings |= {"patching": None, "regimes": {"helpful": {"train": ["good"], "test": ["good"], "epochs": 2}}}
    lean = {**settings, "training": SMALL["training"] | {"memory": "lean"}}
    for device, (copies, kept, rate) in {"cpu": (12, 68, 0.146e12 / 2), "a100": (8, 34, 312e12)}.items():
        one, other = (planned(study, device=device, utilisation=0.5)["train"] for study in (settings, lean))
        saved = copies * PARAMETERS + 5000 * WIDTH * (kept * (LAYERS - 1) - 4 * LAYERS)
        assert (one["memory_gb"] - other["memory_gb"]) * 1e9 == pytest.approx(saved)
        more = 2 * 57 * FORWARD / (0.5 * rate)
        assert (other["longest_hours"] - one["longest_hours"]) * 3600 == pytest.approx(more)


def test_repairs_cost_what_they_do() -> None:
    """Beside the small study, with one of them at a time."""
    plain = planned(SMALL)
    added = {name: planned({**SMALL, "regimes": SMALL["regimes"] | {name: REPAIRS[name]}}) for name in REPAIRS}
    for name in ("projected", "frozen"):  # as the mixed one
        mixed = planned({**SMALL, "regimes": SMALL["regimes"] | {"again": MIXES | {"epochs": 1}}})["train"]
        copy = 4 * PARAMETERS if name == "projected" else 0
        assert added[name]["train"]["cpu_hours"] == pytest.approx(mixed["cpu_hours"])
        assert added[name]["train"]["memory_gb"] * 1e9 == pytest.approx(mixed["memory_gb"] * 1e9 + copy)
    assert added["frozen"]["select_frozen"]["jobs"] == 2
    for name in ("merged", "ensemble"):
        assert added[name]["train"] == plain["train"] and added[name]["words"] == plain["words"]
    assert added["merged"]["merge"]["jobs"] == 4
    assert added["merged"]["activations"]["jobs"] == plain["activations"]["jobs"] + 4
    # Both parts read the mixed one's 40 test pairs, 6 held out, and 3 comparisons of 8 tasks.
    ensemble, start = added["ensemble"]["ensemble"], KNOWN["devices"]["cpu"]["start"]
    rate = 1e12 * KNOWN["devices"]["cpu"]["tflops"]["float32"] / 2 * KNOWN["devices"]["cpu"]["utilisation"]["scoring"]
    assert ensemble["jobs"] == 2
    assert ensemble["longest_hours"] * 3600 == pytest.approx(start + 2 * (40 + 6 + 24) * FORWARD / rate)
    assert added["ensemble"]["evaluate"] == plain["evaluate"]


@pytest.mark.parametrize(("precision", "peak"), [("float32", 67), ("tensorfloat32", 495), ("bfloat16", 989)])
def test_prices_of_a_small_study_by_hand(precision: str, peak: float) -> None:
    """Two seeds of a regime with 57 pairs to train on and 3 held out, steps of 16, a look every second step."""
    models = {"tiny": SMALL["models"]["tiny"] | {"compute": {"inference_precision": precision}}}
    settings = {**SMALL, "models": models, "patching": None, "conflict": None}
    settings["regimes"] = {"helpful": {"train": ["good"], "test": ["good"], "epochs": 2}}
    rules = planned(settings, device="h100", utilisation=0.5)
    bf16, scoring = (0.5 * rate * 1e12 for rate in (989, peak))
    start = KNOWN["devices"]["h100"]["start"]
    # 2 epochs of 4 steps: 4 looks at 3 pairs. A training pass costs three forward passes.
    seconds = start + (2 * 57 * 3 + 4 * 3) * FORWARD / bf16
    train = rules["train"]
    assert train["jobs"] == 2
    assert (train["gpu_hours"], train["cpu_hours"]) == pytest.approx((2 * seconds / 3600, 0), rel=1e-9)
    assert train["longest_hours"] == pytest.approx(seconds / 3600, rel=1e-9)
    # 4,096 tokens of a micro-batch are more than two texts of 256.
    assert train["memory_gb"] * 1e9 == pytest.approx(1e9 + 16 * PARAMETERS + 34 * 4096 * LAYERS * WIDTH)
    assert train["disk_gb"] * 1e9 == pytest.approx(2 * 4 * PARAMETERS)

    seconds = start + 57 * 2 * FORWARD / scoring  # trained and base
    assert rules["activations"]["gpu_hours"] == pytest.approx(2 * seconds / 3600, rel=1e-9)
    # own: 20 test pairs, without anything, without 3 scorings of neurons and 1 of heads at 10, 5 and 20 percent, and
    # without a set of each third of the layers; tasks: 3 comparisons of 8 tasks, at 10 percent; validation: 3 pairs,
    # without anything and without the main set.
    scored = 20 * (1 + 4 * 3 + 3) + 3 * 8 * (1 + 4 + 3) + 3 * 2
    few = 0.5 * 67e12 if precision == "bfloat16" else scoring  # so few comparisons are scored in float32 then
    seconds = 3 * start + scored * FORWARD / few
    assert rules["evaluate"]["jobs"] == 6
    assert rules["evaluate"]["gpu_hours"] == pytest.approx(2 * seconds / 3600, rel=1e-9)
    assert rules["evaluate"]["disk_gb"] * 1e9 == pytest.approx(2 * 11 * scored)
    scores, rankings = 2 * 11 * scored, 2 * 96 * 3 * 12
    assert rules["tables"]["memory_gb"] * 1e9 == pytest.approx(1e9 + 7 * scores + rankings)
    assert rules["tables"]["cpu_hours"] * 3600 == pytest.approx(3 + 3.2e-7 * scores + 2.5e-8 * rankings)
    # 96 neurons by 3 scorings; 40 bytes for each of two responses.
    assert rules["activations"]["disk_gb"] * 1e9 == pytest.approx(2 * 96 * 2 * 40)
    seconds = start + 20 * FORWARD / scoring  # once, for both sets
    assert rules["set_activations"]["gpu_hours"] == pytest.approx(2 * seconds / 3600, rel=1e-9)
    assert rules["set_activations"]["disk_gb"] * 1e9 == pytest.approx(2 * 11 * 20 * 2 * 2)
    assert rules["set_activations"]["memory_gb"] == rules["evaluate"]["memory_gb"]
    assert rules["neurons"]["disk_gb"] * 1e9 == pytest.approx(2 * 96 * 3 * 12)
    # Of one regime, as nothing is mixed, and one seed: all 20 pairs, with the neurons of one set and without any.
    seconds = start + 20 * (1 + 4) * FORWARD / scoring
    assert rules["passages"]["gpu_hours"] == pytest.approx(seconds / 3600, rel=1e-9)
    assert rules["passages"]["disk_gb"] * 1e9 == pytest.approx(11 * 20 * 5 + 300 * 2 * 8 * 4)
    seconds = start + (20 + 3 * 8) * FORWARD / scoring  # all that is judged
    assert rules["running_rewards"]["gpu_hours"] == pytest.approx(seconds / 3600, rel=1e-9)


def test_what_bfloat16_leaves_in_doubt_is_priced_in_float32() -> None:
    """Of 1,000 test pairs 64 and 3.5 % for each ablation; of patching with a pass of the donor for each set."""
    objectives = SMALL["sources"]
    sources = {name: source | {"test": 1000} for name, source in objectives.items()}
    settings = {**SMALL, "sources": sources, "conflict": None, "patching": {"benchmarks": ["own"]}}
    settings["activations"] = {"stable": 0.9}
    found = {}
    for precision in ("tensorfloat32", "bfloat16"):
        models = {"tiny": SMALL["models"]["tiny"] | {"compute": {"inference_precision": precision}}}
        study = Study.model_validate(settings | {"models": models, "regimes": SMALL["regimes"]})
        plan = make_plan(study, device="a100", utilisation=0.5)
        found[precision] = {row["rule"]: row for row in plan.rules.to_dicts()}
    assert "activations: as if statistics never stood still, so that all pairs are read" in plan.assumptions
    start, seeds = KNOWN["devices"]["a100"]["start"], len(SMALL["seeds"])
    assert study.mixed_regimes() == ["helpful-harmless"]
    sets = len(compared_sets(study, "helpful-harmless"))
    for precision, peak in {"tensorfloat32": 156, "bfloat16": 312}.items():
        doubtful = 2 * 2 * sets * (64 / 2000 + 0.035) / 19.5 if precision == "bfloat16" else 0
        seconds = start + 2000 * FORWARD * (2 * (1 + sets) / peak + doubtful) / 0.5e12
        assert found[precision]["patch"]["gpu_hours"] == pytest.approx(seeds * seconds / 3600)
    # Single regimes: 1,000 own pairs; mixed ones 2,000.
    passes = {n: [len(ablated_sets(study, regime, "own")) for regime in regimes]
              for n, regimes in {1000: study.single_regimes(), 2000: study.mixed_regimes()}.items()}  # fmt: skip
    own = sum(sum(rows) * (n / 312 + (64 + 0.035 * n) / 19.5) for n, rows in passes.items())
    small = {**settings, "benchmarks": {"own": {"kind": "regime-test"}}, "models": models}
    one = make_plan(Study.model_validate(small), device="a100", utilisation=0.5).rules.to_dicts()
    [evaluate] = [row for row in one if row["rule"] == "evaluate"]
    fewer = sum(2 * sum(n for n, *_ in Amounts(study).volume(regime, "validation")) for regime in study.regimes)
    seconds = 6 * start + (own + fewer / 19.5) * FORWARD / 0.5e12
    assert evaluate["gpu_hours"] == pytest.approx(seeds * seconds / 3600)


def test_attribution_is_priced_where_a_scoring_takes_it() -> None:
    models = {"tiny": SMALL["models"]["tiny"] | {"compute": {"inference_precision": "tensorfloat32"}}}
    settings = {**SMALL, "models": models, "neurons": {"scorings": ["magnitude", "head-attribution"]}}
    rules = planned(settings, device="h100", utilisation=0.5)
    # Every regime and seed; forward and back, over the pairs that the statistics of two models are of.
    keys = ("jobs", "gpu_hours", "longest_hours")
    assert [rules["attribution"][key] for key in keys] == [rules["activations"][key] for key in keys]
    held = 68 * 4096 * LAYERS * WIDTH
    assert rules["attribution"]["memory_gb"] * 1e9 == pytest.approx(1e9 + 4 * PARAMETERS + held)
    assert rules["attribution"]["disk_gb"] * 1e9 == pytest.approx(6 * 17 * (96 + LAYERS * 2))
    assert "attribution" not in planned({**settings, "neurons": {"scorings": ["magnitude", "head-norm"]}})


def test_without_a_gpu_the_machine_measured_is_reckoned_with() -> None:
    """What benchmarks/results say: on two cores SmolLM2-135M trained on 32 pairs of 199 tokens in 35.3 s, and scored 48
    comparisons of RewardBench of 396 tokens in 37.6 s; here are pairs of 215."""
    settings = paper(["HuggingFaceTB/SmolLM2-135M"])
    settings["models"]["SmolLM2-135M"]["compute"] = {"threads": 4}  # twice those two
    settings["regimes"] = {"harmless": settings["regimes"]["harmless"] | {"epochs": 1}}
    settings["benchmarks"] = {"hh-test": {"kind": "regime-test"}}
    settings["training"] = {"evaluation_interval": 10**9}
    rules = planned(settings)
    pairs = 0.95 * 42537
    trained, scored = 32 / 35.3 * 199 / 215, 48 / 37.6 * 396 / 215
    assert rules["train"]["longest_hours"] == pytest.approx(pairs / trained / 2 / 3600, rel=0.1)
    assert rules["activations"]["longest_hours"] == pytest.approx(2 * pairs / scored / 2 / 3600, rel=0.1)
    assert rules["train"]["cpu_hours"] == pytest.approx(3 * 4 * rules["train"]["longest_hours"])
    assert rules["train"]["gpu_hours"] == 0


def test_pairs_too_long_to_be_trained_on_are_left_out_where_they_are_at_hand(tmp_path: Path) -> None:
    """Of 30 with texts of 400 and 401 characters, 10 of twice that: these are over 150 tokens, by 4 characters each."""
    texts = [f"\n\nHuman: {i}?\n\nAssistant: ".ljust(400 * k, "a") for i, k in enumerate((1, 1, 2) * 10)]
    rows = [{"chosen": text + "c", "rejected": text} for text in texts]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "own", "train": "mine.jsonl", "test": "mine.jsonl", "columns": {"prompt": None}}
    settings = {**SMALL, "data_root": str(tmp_path), "sources": {"good": source, "safe": source}}
    for most, pairs, tokens in ((150, 20, 401 / 4), (250, 30, (2 * 401 + 801) / 12)):
        study = Study.model_validate({**settings, "training": {"max_tokens": most}})
        [(n, length, texts_each)] = Amounts(study).volume("helpful", "train")
        assert [n, length, texts_each] == pytest.approx([0.95 * pairs, tokens, 2])


def test_of_all_tests_the_pairs_of_each_regime_are_scored() -> None:
    benchmarks = {"all": {"kind": "all-tests"}, "own": {"kind": "regime-test"}}
    others = {"patching": None, "ablation": {"sweep": [], "sweep_benchmarks": ["own"]}}
    study = Study.model_validate({**SMALL, "benchmarks": benchmarks, **others})
    amounts = Amounts(study)
    own = [amounts.evaluated(regime, "own") for regime in study.single_regimes()]
    assert [amounts.evaluated(regime, "all") for regime in study.regimes] == [own[0] + own[1]] * len(study.regimes)
    assert amounts.comparisons("all") == sum(n for n, *_ in own[0] + own[1]) > 0


def test_the_papers_study_is_priced_whole() -> None:
    plan = make_plan(Study.model_validate(paper(list(PAPER))))
    [total] = plan.total.to_dicts()
    assert (total["jobs"], total["unpriced"], plan.problems) == (657, 0, [])
    assert any("assumed" in line and "A100" in line for line in plan.assumptions)
    assert "reward-bench: 2,001 comparisons by the counts in resources/" in plan.assumptions
    assert total["disk_gb"] > 9 * 4e-9 * sum(PAPER.values())  # all saved reward models


def test_a_given_reward_model_is_looked_at_alone(tmp_path: Path) -> None:
    """Its statistics take one pass where those beside a backbone take two, and nothing is trained."""
    sizes = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 2048}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 1000, **sizes}))
    regimes = {name: {key: value for key, value in regime.items() if key != "epochs"}
               for name, regime in SMALL["regimes"].items()}  # fmt: skip
    kept = {key: value for key, value in SMALL.items() if key not in ("patching", "training")}
    settings = kept | {"seeds": [0], "regimes": regimes, "neurons": {"scorings": ["magnitude", "matched-random"]}}
    given, trained = (
        planned(settings | {"models": {"tiny": {"source": {"kind": kind, "path": str(tmp_path)}}}})
        for kind in ("given", "pretrained")
    )
    jobs = {rule: row["jobs"] for rule, row in given.items()}
    assert jobs.items() >= {"check_given": 1, "put_given": 3, "activations": 3, "conflict": 1}.items()
    assert jobs.keys().isdisjoint({"train", "backbone", "adopt"})
    start = KNOWN["devices"]["cpu"]["start"]
    one, two = (3600 * rules["activations"]["longest_hours"] - start for rules in (given, trained))
    assert 2 * one == pytest.approx(two)
    parameters = 1000 * 512 + 512 + 8 * (4 * 512**2 + 3 * 512 * 2048 + 2 * 512)  # no output layer
    assert given["activations"]["memory_gb"] == pytest.approx(1 + 4e-9 * parameters)


def test_what_cannot_be_priced_is_named_and_the_rest_is_priced() -> None:
    settings = paper(["openai-community/gpt2", "nobody/unheard-of"])
    plan = make_plan(Study.model_validate(settings))
    assert plan.problems == ["size of nobody/unheard-of: neither in resources/plan.yaml nor in the cache of the hub"]
    rules = {row["rule"]: row for row in plan.rules.to_dicts()}
    alone = planned(paper(["openai-community/gpt2"]))
    assert (rules["train"]["jobs"], rules["train"]["unpriced"]) == (18, 9)
    assert rules["train"]["gpu_hours"] == pytest.approx(alone["train"]["gpu_hours"])
    assert (rules["evaluate"]["jobs"], rules["evaluate"]["unpriced"]) == (90, 45)


def test_what_does_not_fit_is_named() -> None:
    plan = make_plan(Study.model_validate(paper(["HuggingFaceTB/SmolLM2-1.7B"])), device="rtx-4090")
    assert plan.problems == ["train of SmolLM2-1.7B does not fit: 35 GB of memory, a rtx-4090 has 24"]


def test_memory_of_small_rules_is_what_they_ask_for() -> None:
    text = "".join(file.read_text() for file in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    memory = r"^rule (\w+):(?:(?!^rule ).)*?^        mem_mb=(?:lambda.*int\(|by_attempt\()?(\d+)"
    asked = re.findall(memory, text, flags=re.MULTILINE | re.DOTALL)
    for rule, mem_mb in asked:
        if "memory_gb" in RULES.get(rule, {}):
            assert RULES[rule]["memory_gb"] * 1000 == int(mem_mb), rule
    assert {rule for rule, _ in asked} >= {"data", "select", "report_page"}


def test_tables_of_the_papers_study_are_priced_as_measured() -> None:
    """Made files of 144 reward models took 2.9 GB and 114 s of one core; those reckoned are a sixth larger."""
    study = yaml.safe_load((ROOT / "studies/paper.yaml").read_text())
    rules = {row["rule"]: row for row in make_plan(Study.model_validate(study)).rules.to_dicts()}
    assert 2.9 < rules["tables"]["memory_gb"] < 1.5 * 2.9
    assert rules["tables"]["cpu_hours"] * 3600 == pytest.approx(1.17 * 114, rel=0.1)


def test_the_table_says_what_it_assumes(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    told = CliRunner().invoke(app, ["plan", str(file), "--utilisation", "0.5"], catch_exceptions=False).stdout
    assert re.search(r"^\| train +\| +6 \|", told, flags=re.MULTILINE)
    assert "- device cpu: measured on two cores" in told
    assert "- device cpu: utilisation 0.5 as given, instead of 0.8 in training and 0.78 in scoring" in told
    assert f"- tiny: {PARAMETERS:,} parameters, {COMPUTING:,} of them outside embeddings" in told
    assert "Not priced" not in told


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    for content, message in {
        "a: [": f"{file}: cannot be read (line 1: ",
        "- a": f"{file}: no keys with values, but list",
        yaml.safe_dump({**SMALL, "seedz": 1}): f"{file}: unknown key 'seedz'; did you mean 'seeds'?",
    }.items():
        file.write_text(content)
        with pytest.raises(UserError) as raised:
            read_study(file)
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="no device 'h10'; did you mean 'h100'"):
        make_plan(Study.model_validate(SMALL), device="h10")
