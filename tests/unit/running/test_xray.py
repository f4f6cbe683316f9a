"""`rmtension xray` writes the study of reward models that are there, or says in one line why it cannot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import torch
import yaml
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from tiny_models import save_backbone
from typer.testing import CliRunner

from rmtension.base.errors import UserError
from rmtension.cli import app
from rmtension.data.benchmarks import read_benchmark
from rmtension.data.hub import read_lock, read_study
from rmtension.data.pairs import regime_pairs
from rmtension.engine.reward_model import load_tokenizer, new_reward_model, save_reward_model
from rmtension.running import xray
from rmtension.running.plan import make_plan
from rmtension.running.xray import flow
from rmtension.study.sources import regime_data

ROOT = Path(__file__).parents[3]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPTED = [{"prompt": f"q{i % 9}?", "chosen": f"a{i}", "rejected": "no", "task": "crafts"} for i in range(36)]
WHOLE = [{"chosen": f"\n\nHuman: q{i}\n\nAssistant: a", "rejected": f"\n\nHuman: q{i}\n\nAssistant: b"}
         for i in range(20)]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a reward model that this project saved, in the place of a study's, and pairs of one's own."""
    monkeypatch.chdir(tmp_path)
    save_backbone("llama", Path("backbone"))
    folder = Path("results/s/reward_models/tiny/both/seed-0")
    save_reward_model(new_reward_model(Path("backbone"), 0, 0.5), load_tokenizer(Path("backbone")), folder)
    Path("prompted.json").write_text(json.dumps(PROMPTED))
    Path("whole.json").write_text(json.dumps(WHOLE))
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["xray", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


OWN = ["--helpful", "prompted.json", "--harmless", "whole.json", "--benchmark", "prompted.json"]


def test_the_study_is_of_what_was_named(here: Path) -> None:
    said = run(here, here, "backbone/../" + str(here), *OWN, "--benchmark", "whole.json")
    [name] = [line.split(":")[0] for line in said.splitlines() if line.startswith("studies/")]
    study = read_study(Path(name))
    assert study.given and study.name == "xray-tiny-both-and-2-more" and name == f"studies/{study.name}.yaml"
    sources = {model: settings.source.model_dump(exclude_defaults=True) for model, settings in study.models.items()}
    assert list(sources) == ["tiny-both", "tiny-both-2", "tiny-both-3"]
    assert sources["tiny-both"] == {"kind": "given", "path": str(here)}  # in the form hh, as it was saved
    pairs = regime_pairs(regime_data(study, "both"))
    found = pairs["train"].vstack(pairs["validation"])["source"].value_counts(sort=True).rows()
    assert dict(found) == {"helpful": 20, "harmless": 10}  # of 5 of 9 openings, and of 10 of 20
    assert set(pairs["test"]["chosen"]).isdisjoint(pairs["train"]["chosen"])
    assert [b.model_dump(include={"tasks"}) for b in study.benchmarks.values()][1:] == [
        {"tasks": {"crafts": "unoriented"}}, {"tasks": {"whole": "unoriented"}},
    ]  # fmt: skip
    assert "snakemake --cores " in said and f"results/{study.name}/report.html" in said
    assert "| unpriced |" in said and "|        0 |" in said

    text = Path(name).read_text()
    run(here, here, "backbone/../" + str(here), *OWN, "--benchmark", "whole.json")
    assert Path(name).read_text() == text
    Path(name).write_text(text + "# mine\n")
    with pytest.raises(UserError, match=rf"^{name}: there is another study in it; .*--study or --name"):
        run(here, here, "backbone/../" + str(here), *OWN, "--benchmark", "whole.json")
    assert Path(name).read_text().endswith("# mine\n")


def test_files_may_have_names_that_a_study_has_another_use_for(here: Path) -> None:
    for word in ("validation", "average", "own-test", "unoriented", "helpful", "all models", "both"):
        Path(f"{word}.json").write_text(json.dumps(WHOLE))
    files = sorted(Path().glob("*.json"))
    here.rename("validation")
    run("validation", *(word for file in files for word in ("--benchmark", file)), "--study", "x.yaml", *OWN)
    study: Any = read_study(Path("x.yaml"))
    assert {"validation-2", "own-test-2", "average", "helpful"} < set(study.benchmarks)
    assert list(study.benchmarks["average"].tasks) == ["average-2"]


PAIR = {"prompt": "q?", "chosen": "a", "rejected": "b", "id": 3}
THREE = {"prompt": "q?", "chosen": ["a"] * 3, "rejected": ["b"] * 3}
RMB = {"conversation_input": [{"role": "user", "content": "q?"}], "chosen": {"answer": "a"}}
LAYOUTS: dict[str, list[dict[str, Any]]] = {  # by hand, as their makers have them
    "reward-bench": [PAIR | {"subset": "xstest-should-refuse"}, PAIR | {"subset": "hep-cpp"}],
    "reward-bench-2": [PAIR | {"id": "ref:1", "subset": "Ties"}, PAIR | {"id": "2", "subset": "Focus"}],
    "rm-bench": [THREE | {"domain": "chat"}, THREE | {"domain": "safety-refuse"}],
    "rmb-pairwise": [RMB | {"category_path": "Pairwise_set/Helpfulness/Chat/Casual", "reject": {"answer": "b"}}],
}


def test_a_file_of_a_published_benchmark_is_read_as_that_and_any_other_is_said_to_be_one_task(here: Path) -> None:
    files = [f"{kind}-of-mine.json" for kind in LAYOUTS]
    for file, rows in zip(files, LAYOUTS.values(), strict=True):
        Path(file).write_text(json.dumps(rows))
    Path("own.json").write_text(json.dumps([PAIR | {"subset": "hep-cpp"}, PAIR | {"subset": "crafts"}]))
    Path("named.json").write_text(json.dumps([PAIR | {"subset": "hep-cpp", "task": "code"}]))
    words = [word for file in (*files, "own.json", "named.json") for word in ("--benchmark", file)]
    said = run(here, *OWN[:4], *words, "--study", "x.yaml").splitlines()
    benchmarks: dict[str, Any] = dict(read_study(Path("x.yaml")).benchmarks)
    assert {name: (one.kind, one.path) for name, one in [*benchmarks.items()][1:5]} == {
        kind: (kind, file) for kind, file in zip(LAYOUTS, files, strict=True)
    }
    assert list(benchmarks)[5:] == ["own", "named"] and benchmarks["named"].tasks == {"code": "unoriented"}
    for kind, file in zip(LAYOUTS, files, strict=True):
        assert f"{file}: read as {kind}, by its columns and its tasks" in said
        read = read_benchmark(kind, benchmarks[kind].model_copy(update={"tasks": ["all"]}), ".")
        assert len(read) == len(LAYOUTS[kind])
    [line] = [line for line in said if line.startswith("own.json: ")]
    assert "one unoriented task, 'own', of 100 rows at most; where it has tasks, name their column" in line
    assert not any(line.startswith("named.json") for line in said)


def with_labels(folder: Path, *labels: str) -> str:
    """Another reward model, of these labels."""
    model = new_reward_model(Path("backbone"), 0, 0.5)
    model.score.weight = torch.nn.Parameter(torch.randn(len(labels), model.config.hidden_size))
    model.config.id2label = dict(enumerate(labels))
    save_reward_model(model, load_tokenizer(Path("backbone")), folder)
    return str(folder)


def test_a_label_is_that_of_the_models_that_have_several(here: Path) -> None:
    two, one = with_labels(Path("two"), "kind", "true"), with_labels(Path("one"), "kind")
    run(here, two, one, "--label", "kind", *OWN, "--study", "x.yaml")
    sources: dict[str, Any] = {name: model.source for name, model in read_study(Path("x.yaml")).models.items()}
    assert {name: source.label for name, source in sources.items()} == {"tiny-both": None, "two": "kind", "one": "kind"}
    for models, line in {
        (here, two): r"^two: no label 'knd'; did you mean 'kind'\?$",
        (here,): "no label 'knd'",
        (here, one): "^--label knd: each of these reward models has one label, of another name: leave it out$",
    }.items():
        with pytest.raises(UserError, match=line):
            run(*models, "--label", "knd", *OWN, "--study", "x.yaml")


def test_what_nobody_names_comes_from_the_hub_at_commits_of_the_lock_file(here: Path) -> None:
    run(here, "--study", "x.yaml", "--name", "2024")
    study = read_study(Path("x.yaml"))
    assert study.name == "2024"
    locked = read_lock(ROOT / "studies" / "hub.lock")
    parts: list[Any] = [*study.sources.values(), study.benchmarks["reward-bench"]]
    assert [part.revision for part in parts] == [locked[part.hub] for part in parts]
    assert [part.folder for part in parts[:2]] == ["helpful-base", "harmless-base"]


@pytest.mark.parametrize(("template", "form"), [(None, "hh"), ("own", "hh"), (CHATML, "chat")])
def test_the_form_is_that_of_the_tokenizer(here: Path, template: str | None, form: str) -> None:
    if template != "own":
        tokenizer = load_tokenizer(here)
        tokenizer.chat_template = template
        (here / "chat_template.jinja").unlink()
        tokenizer.save_pretrained(here)
    said = run(here, *OWN, "--study", "x.yaml")
    read_in = {"hh": "the form of HH-RLHF", "chat": "its own chat template"}
    assert f"\n  tiny-both: {here}, read in {read_in[form]}\n" in said
    source: Any = read_study(Path("x.yaml")).models["tiny-both"].source
    assert source.template == form


def test_a_large_model_asks_for_what_the_plan_reckons(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xray, "SMALL", 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run(here, *OWN, "--study", "x.yaml")
    study = read_study(Path("x.yaml"))
    compute = study.models["tiny-both"].compute
    assert (compute.threads, compute.gpus) == (xray.cores(), 1)
    largest = max(row["memory_gb"] for row in make_plan(study).rules.to_dicts() if row["gpu_hours"])
    assert 1000 * largest < compute.mem_mb < 1000 * 1.1 * largest + 500


def test_it_is_run_as_a_user_would(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run_it(command: list[str], **_: Any) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=7)

    monkeypatch.setattr(subprocess, "run", run_it)
    result = CliRunner().invoke(app, ["xray", str(here), *OWN, "--study", "x.yaml", "--run"])
    assert result.exit_code == 7
    [command] = ran
    assert command[:3] == [sys.executable, "-m", "snakemake"] and command[-2:] == ["--configfile", "x.yaml"]
    assert " ".join(command[2:]) in result.stdout
    assert f"--snakefile {ROOT / 'Snakefile'} " in result.stdout  # as there is none here
    Path("workflow").mkdir()
    Path("workflow", "Snakefile").touch()
    assert "--snakefile" not in run(here, *OWN, "--study", "x.yaml")


def emptied(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def with_rows(rows: Any) -> Callable[[Path], None]:
    def write(_: Path) -> None:
        Path("prompted.json").write_text(json.dumps(rows))

    return write


def nothing(_: Path) -> None: ...


UNNAMED = {name: value for name, value in PROMPTED[0].items() if name != "task"}
UNASKED = {name: value for name, value in PROMPTED[0].items() if name != "prompt"}
REFUSED: dict[str, tuple[str | None, Callable[[Path], None], str]] = {  # model, what is done, expected
    "no folder": ("nowhere", nothing, "nowhere: no such folder here; a reward model of the hub is named as ORG/NAME"),
    "no folder above": ("../rm", nothing, "../rm: no such folder here; a reward model of the hub is named"),
    "a file": ("whole.json", nothing, "whole.json: a file; name the folder"),
    "no model": (".", nothing, ".: no *.safetensors"),
    "a backbone": ("backbone", nothing, "backbone: "),
    "no weights": (None, emptied("model.safetensors"), "no *.safetensors"),
    "no tokenizer": (None, emptied("tokenizer_config.json"), "tokenizer_config.json is missing"),
    "no rows": (None, with_rows([]), "prompted.json: no rows"),
    "rows that are none": (None, with_rows([1]), "prompted.json: row 0: no mapping"),
    "tasks without a name": (None, with_rows([PROMPTED[0], PROMPTED[1] | {"task": 3}]),
                            "prompted.json: row 1: field 'task'"),
    "a row without a task": (None, with_rows([*PROMPTED[:2], UNNAMED]),
                           "prompted.json: row 2: field 'task' is missing, which other rows have: give it to all or"),
    "a row without a prompt": (None, with_rows([UNASKED, PROMPTED[0]]),
                             "prompted.json: row 0: field 'prompt' is missing"),
    "pairs without a side": (None, with_rows([{"prompt": "q", "chosen": "a"}]), "field 'rejected' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("word", ["two\nlines", "a\n\nb", "ü", "a: b", "yes", "1", " x ", "...", "'"])
def test_any_word_is_one_line_of_the_study(word: str) -> None:
    value = {word: {"kind": "own", "tasks": [word]}}
    assert "\n" not in flow(value) and yaml.safe_load(flow(value)) == value
    assert "\n" not in flow(word) and yaml.safe_load(flow(word)) == word


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_study_that_cannot_be_read_is_one_line(here: Path, is_folder: bool) -> None:
    Path("x.yaml").mkdir() if is_folder else Path("x.yaml").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"^x\.yaml: cannot be read"):
        run(here, *OWN, "--study", "x.yaml")


@pytest.mark.parametrize("name", ["a/b", "../x", "-x", "a\nb", "", "x" * 101])
def test_a_name_that_no_study_can_have_is_told_as_it_was_given(here: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        run(here, *OWN, "--name", name)
    said = name.replace("\n", "\\n")
    assert str(caught.value).startswith(
        f"--name '{said}': a name is letters, digits, '.', '_' and '-', of which the first"
    )
    assert "\n" not in str(caught.value) and not Path("studies").exists()


@pytest.mark.parametrize("place", ["mine/rm-lama", "mine/rm-lama@main"])
def test_a_folder_that_is_not_here_may_be_meant_where_the_hub_does_not_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UserError) as caught:
        run(place)
    advice = "name a folder that is here, or run this where the hub can be reached"
    expected = rf"{place}: no such folder here, and the hub cannot be reached \(.+\); {advice}"
    assert re.fullmatch(expected, str(caught.value))

    def unknown(*_: object, **__: object) -> None:
        raise RepositoryNotFoundError("404", response=httpx2.Response(404, request=httpx2.Request("GET", "http://hub")))

    monkeypatch.setattr(HfApi, "repo_info", unknown)
    with pytest.raises(UserError, match=f"^{place}: no such folder here, and the hub has no such repository"):
        run(place)


@pytest.mark.parametrize("option", ["--helpful", "--harmless", "--benchmark"])
def test_data_of_the_hub_are_named_in_the_study_file(here: Path, option: str) -> None:
    advice = "no such file here; data of the hub are named in the study file"
    with pytest.raises(UserError, match=f"^Anthropic/hh-rlhf: {advice}"):
        run(here, option, "Anthropic/hh-rlhf")


def test_a_commit_of_the_hub_that_cannot_be_fetched_is_of_no_study_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    place = f"mine/rm at {'0' * 40}"
    with pytest.raises(UserError, match=rf"^{place}: the hub cannot be reached \(.+\); name a folder that is here"):
        run(place.replace(" at ", "@"))


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_one_line_and_nothing_is_written(here: Path, mistake: str) -> None:
    model, do, expected = REFUSED[mistake]
    do(here)
    with pytest.raises(UserError) as caught:
        run(model or here, *OWN)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("studies").exists()
