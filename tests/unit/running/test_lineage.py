"""The walk from a result through the records of jobs, on a study of records made by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from rmtension.base.errors import UserError
from rmtension.cli import app
from rmtension.running.doubts import warnings
from rmtension.running.lineage import Lineage
from rmtension.running.shown import origins, roots, rules
from rmtension.study.naming import OVERALL

REGIMES = ["helpful", "harmless"]
TABLE = "results/s/tables/accuracy"


def files(*paths: str) -> dict[str, dict[str, Any]]:
    return {path: {"size": 0, "mtime_ns": 0, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
            for path in paths}  # fmt: skip


def write(path: str, content: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    return path


def record(rule: str, number: int, inputs: list[str], outputs: list[str], **more: Any) -> None:
    """Leave a record of a job that ended at second `number`; more: wildcards, and keys that differ from the usual."""
    usual = {
        "rule": rule, "wildcards": {}, "params": {}, "study": {"name": "s", "files": ["s.yaml"], "sha256": "f" * 64},
        "code": {"version": "1", "commit": "c" * 40, "changed": [], "modules": ""}, "environment": {"torch": "2"},
        "device": "cpu", "slurm_job": "", "started": f"2026-01-01T00:00:{number:02}.000+00:00",
        "ended": f"2026-01-01T00:00:{number:02}.500+00:00", "earlier": [],
    }  # fmt: skip
    name = "/".join([rule, *more.get("wildcards", {}).values()])
    content = usual | {"inputs": files(*inputs), "outputs": files(*outputs)} | more
    write(f"results/s/provenance/{name}.json", json.dumps(content))


def edit(*names: str, **changes: Any) -> None:
    for file in (Path(f"results/s/provenance/{name}.json") for name in names):
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One model, two regimes, one seed, one benchmark, one table; the benchmark is read from a file of the user's."""
    monkeypatch.chdir(tmp_path)
    given, backbone = write("mine.jsonl", "{}"), write("results/s/backbones/tiny/config.json", "{}")
    benchmark = write("results/s/benchmarks/tasks.parquet", "tasks")
    source = {"kind": "pretrained", "hub": "o/n", "revision": "ab" * 20, "path": None}
    record("backbone", 1, [], [backbone], wildcards={"model": "tiny"}, params={"source": source})
    own = {"benchmark": {"kind": "own", "path": "mine.jsonl"}}
    record("benchmark", 2, [given], [benchmark], wildcards={"benchmark": "tasks"}, params=own)
    scores = []
    for regime in REGIMES:
        rm = {"model": "tiny", "regime": regime, "seed": "0"}
        train = write(f"results/s/data/{regime}/train.parquet", regime)
        pairs = {"data": {"sources": {f"{regime}-base": {"kind": "synthetic", "train": 60}}}}
        record("data", 3, [], [train], wildcards={"regime": regime}, params=pairs)
        weights = write(f"results/s/reward_models/tiny/{regime}/seed-0/model.safetensors", regime)
        record("train", 4, [backbone, train], [weights], wildcards=rm)
        scores.append(write(f"results/s/scores/tiny/{regime}/seed-0/tasks.parquet", regime))
        record("evaluate", 5, [weights, benchmark], scores[-1:], wildcards=rm | {"benchmark": "tasks"})
    rows = {"model": ["tiny", OVERALL, "tiny"], "regime": ["helpful", "harmless", "harmless"], "seed": [0, 1, 2]}
    table = pl.DataFrame(rows)
    Path(TABLE).parent.mkdir()
    table.write_parquet(f"{TABLE}.parquet")
    table.write_csv(f"{TABLE}.csv")
    record("tables", 6, scores, [f"{TABLE}.parquet", f"{TABLE}.csv"], params={"study": {"seeds": [0], "kind": "none"}})
    return tmp_path


def jobs(lineage: Lineage) -> list[str]:
    return list(lineage.jobs)


EVERY = [
    "tables", "evaluate/tiny/helpful/0/tasks", "evaluate/tiny/harmless/0/tasks", "train/tiny/helpful/0",
    "benchmark/tasks", "train/tiny/harmless/0", "backbone/tiny", "data/helpful", "data/harmless",
]  # fmt: skip
OF_HELPFUL = [job for job in EVERY if "harmless" not in job]


def test_a_table_comes_from_all_before_it(study: Path) -> None:
    lineage = Lineage(Path(f"{TABLE}.csv"))
    assert jobs(lineage) == EVERY
    assert warnings(lineage) == []
    counts = dict(rules(lineage).select("rule", "jobs").rows())
    assert counts == {"tables": 1, "evaluate": 2, "train": 2, "benchmark": 1, "backbone": 1, "data": 2}
    assert set(origins(lineage).rows()) == {
        ("benchmark", "tasks", "benchmark: own, path mine.jsonl"),
        ("backbone", "tiny", f"source: pretrained, hub o/n, revision {'ab' * 20}"),
        ("data", "helpful", "helpful-base: synthetic, train 60"),
        ("data", "harmless", "harmless-base: synthetic, train 60"),
    }
    makers = {path: maker for path, maker, _ in roots(lineage).rows()}
    assert makers.pop("mine.jsonl") == ""
    assert set(makers.values()) == {"benchmark", "backbone", "data"}


def test_what_stands_in_the_middle_comes_from_what_is_before_it() -> None:
    assert jobs(Lineage(Path("results/s/reward_models/tiny/helpful/seed-0"))) == [
        "train/tiny/helpful/0", "backbone/tiny", "data/helpful",
    ]  # fmt: skip
    assert jobs(Lineage(Path("results/s/data/helpful/train.parquet"))) == ["data/helpful"]


def test_a_table_is_restricted_to_some_reward_models() -> None:
    lineage = Lineage(Path(f"{TABLE}.csv"))
    for row, expected in {0: OF_HELPFUL, 1: [job for job in EVERY if "/helpful" not in job]}.items():
        where = lineage.named_in_row(row)
        lineage.restrict(where)
        assert sorted(jobs(lineage)) == sorted(expected)
    assert lineage.named_in_row(0) == {"model": {"tiny"}, "regime": {"helpful"}, "seed": {"0"}}
    assert lineage.named_in_row(1) == {"regime": {"harmless"}}  # neither a model nor a seed of the study


def test_a_restriction_leaves_alone_what_a_reward_model_itself_comes_from() -> None:
    """The sets of a mixed reward model come from its parts', whose regimes are others."""
    path = "results/s/scores/tiny/helpful/seed-0/tasks.parquet"
    inputs = ["results/s/reward_models/tiny/helpful/seed-0/model.safetensors", "results/s/data/harmless/train.parquet"]
    wildcards = {"model": "tiny", "regime": "helpful", "seed": "0", "benchmark": "tasks"}
    record("evaluate", 5, inputs, [path], wildcards=wildcards)
    lineage = Lineage(Path(f"{TABLE}.csv"))
    lineage.restrict({"regime": {"helpful"}})
    assert "data/harmless" in jobs(lineage) and "evaluate/tiny/harmless/0/tasks" not in jobs(lineage)


SCORES, WEIGHTS = "results/s/scores/tiny/helpful/seed-0/tasks.parquet", "results/s/data/helpful/train.parquet"
RM = "tiny/helpful/0"
CODE = {"version": "1", "commit": "d" * 40, "changed": [], "modules": ""}
FAULTS: dict[str, tuple[Any, list[str]]] = {
    "the file itself by hand": (
        lambda: write(f"{TABLE}.csv", "0"), [f"{TABLE}.csv: it was changed after tables"],
    ),
    "an ancestor by hand, of the same size": (
        lambda: write(SCORES, "hElpful"), [f"{SCORES}: it was changed after evaluate/{RM}/tasks"],
    ),
    "an ancestor gone": (lambda: Path(WEIGHTS).unlink(), [f"{WEIGHTS}: it is no longer there"]),
    "a user's file": (lambda: write("mine.jsonl", ""), ["mine.jsonl: it was changed after benchmark/tasks"]),
    "an ancestor made anew": (
        lambda: record("data", 9, [], [write(WEIGHTS, "new")], wildcards={"regime": "helpful"}),
        [f"{WEIGHTS}: train/{RM} read it with another content"],
    ),
    "a record missing": (
        lambda: Path(f"results/s/provenance/evaluate/{RM}/tasks.json").unlink(),
        [f"{SCORES}: no job has left a record of it"],
    ),
    "code": (
        lambda: edit(f"train/{RM}", code=CODE),
        ["code: cccccccccccc, clean (8 of 9 runs); dddddddddddd, clean (1 of 9 runs)"],
    ),
    "a dirty tree": (
        lambda: edit(*EVERY, code=CODE | {"changed": ["src/a.py"]}),
        ["code: changed since its commit: src/a.py"],
    ),
    "libraries": (
        lambda: edit("tables", environment={"torch": "3", "polars": "1"}), ["torch: 3 (1 of 9 runs); 2 (8 of 9 runs)"],
    ),
    "libraries of an earlier run that wrote the same file": (
        lambda: edit(f"evaluate/{RM}/tasks", earlier=[{"code": CODE | {"commit": "c" * 40}, "device": "cpu",
                                                       "environment": {"torch": "1"}}]),
        ["torch: 2 (9 of 10 runs); 1 (1 of 10 runs)"],
    ),
    "devices of one rule": (
        lambda: edit(f"train/{RM}", device="cuda H100"),
        ["device of train: cuda H100 (1 of 2 runs); cpu (1 of 2 runs)"],
    ),
    "devices of all jobs of a rule": (
        lambda: edit(*(f"train/tiny/{regime}/0" for regime in REGIMES), device="cuda H100"), [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_as_recorded_is_one_line(fault: str) -> None:
    do, expected = FAULTS[fault]
    do()
    assert warnings(Lineage(Path(f"{TABLE}.csv"))) == expected


def test_a_study_that_was_moved_is_the_same(study: Path) -> None:
    shutil.move(study / "results/s", study / "results/moved")
    lineage = Lineage(study / "results/moved/tables/accuracy.csv")
    assert jobs(lineage) == EVERY and warnings(lineage) == []


def names_its_folder(folder: Path) -> None:
    """As records do: the folder that the jobs ran in."""
    edit(*EVERY, study={"name": "s", "files": ["s.yaml"], "sha256": "f" * 64, "folder": str(folder)})


def link_elsewhere(part: Path, disk: Path) -> None:
    shutil.move(part, disk)
    part.symlink_to(disk)


@pytest.mark.parametrize("linked", ["results", "results/s", "results/s/tables"])
@pytest.mark.parametrize("place", ["accuracy.csv", "../tables/accuracy.csv"])
def test_linked_results_can_be_asked_from_inside_as_the_shell_names_it(
    study: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, linked: str, place: str
) -> None:
    link_elsewhere(study / linked, tmp_path_factory.mktemp("disk") / Path(linked).name)
    monkeypatch.chdir(study / "results/s/tables")
    monkeypatch.setenv("PWD", str(study / "results/s/tables"))
    lineage = Lineage(Path(place))
    assert jobs(lineage) == EVERY and warnings(lineage) == []


@pytest.mark.parametrize("linked", ["results", "results/s"])
def test_linked_results_can_be_asked_at_their_real_place(
    study: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, linked: str
) -> None:
    """From there nothing leads back to the user's files but the records."""
    names_its_folder(study)
    disk = tmp_path_factory.mktemp("disk") / "any"
    link_elsewhere(study / linked, disk)
    monkeypatch.chdir(disk)
    place = Path(f"{TABLE}.csv").relative_to(linked)
    assert jobs(Lineage(place)) == EVERY and warnings(Lineage(place)) == []
    (study / "mine.jsonl").unlink()
    (study / SCORES).unlink()
    missing = [f"{path}: it is no longer there" for path in (SCORES, "mine.jsonl")]
    assert sorted(warnings(Lineage(place))) == sorted(missing)


LOST = (
    "1 files outside of the results, mine.jsonl the first, cannot be looked for: these results are not in the folder "
    "that their jobs ran in"
)


def test_a_copied_project_is_asked_for_its_own_files(
    study: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_its_folder(study)
    copy = tmp_path_factory.mktemp("copy") / "copy"
    shutil.copytree(study, copy)
    (copy / "mine.jsonl").write_text("")
    monkeypatch.chdir(copy / "results")
    assert warnings(Lineage(Path("s/tables/accuracy.csv"))) == ["mine.jsonl: it was changed after benchmark/tasks"]


def test_results_that_were_moved_alone_say_nothing_of_the_files_they_left(study: Path) -> None:
    names_its_folder(study)
    shutil.move(study / "results", study / "archive/results")
    assert warnings(Lineage(study / "archive/results/s/tables/accuracy.csv")) == [LOST]


def test_what_was_made_by_two_rules_in_turn_is_the_later_ones() -> None:
    """A reward model that is no longer trained here, but adopted, and has no log of its training."""
    folder, rm = "results/s/reward_models/tiny/helpful/seed-0", {"model": "tiny", "regime": "helpful", "seed": "0"}
    weights, log = f"{folder}/model.safetensors", write(f"{folder}/training.parquet", "log")
    record("train", 4, [], [weights, log], wildcards=rm)
    Path(log).unlink()
    Path(weights).unlink()
    Path(weights).symlink_to(Path(write("elsewhere/model.safetensors", "theirs")).resolve())
    record("adopt", 8, [], [weights], wildcards=rm)
    link = {"link": str(Path("elsewhere/model.safetensors").resolve())}
    edit("adopt/tiny/helpful/0", outputs={weights: files(weights)[weights] | link})
    lineage = Lineage(Path(folder))
    assert jobs(lineage) == ["adopt/tiny/helpful/0"]
    assert origins(lineage).rows() == [("adopt", "tiny, helpful, 0", f"links to {Path('elsewhere').resolve()}")]


def test_a_row_is_of_the_very_table_that_is_named(study: Path) -> None:
    """A path is no pattern, and a damaged table is one line."""
    twin = study / "results/s[1]"
    shutil.move(study / "results/s", twin)
    assert Lineage(twin / "tables/accuracy.csv").named_in_row(0)["regime"] == {"helpful"}
    (twin / "tables/accuracy.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"s\[1\]/tables/accuracy\.parquet: cannot be read \(.*\): delete it"):
        Lineage(twin / "tables/accuracy.csv").named_in_row(0)


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no result": (["mine.jsonl"], "mine.jsonl: no result of a study"),
    "a whole study": (
        ["results/s"],
        "results/s: a study's whole folder: name a file in it, or one reward model's folder",
    ),
    "no record": (["results/s/logs/x.log"], "results/s/logs/x.log: it is not here, or no job has left a record of it"),
    "several jobs": (["results/s/scores"], "results/s/scores: 2 jobs have made what is in it"),
    "no wildcard": ([f"{TABLE}.csv", "--where", "task=x"], "--where task: no job has 'task'; known: benchmark, model,"),
    "no value": ([f"{TABLE}.csv", "--where", "regime=helpfull"], "no regime 'helpfull'; did you mean 'helpful'?"),
    "no row": ([f"{TABLE}.csv", "--row", "3"], f"{TABLE}.csv: --row 3: rows are counted from 0 to 2"),
    "no table": (["results/s/reward_models/tiny/helpful/seed-0", "--row", "0"], "seed-0: --row is for tables"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_line(mistake: str) -> None:
    arguments, expected = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        CliRunner().invoke(app, ["provenance", *arguments], catch_exceptions=False)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_a_whole_study_is_known_from_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("results/s")
    with pytest.raises(UserError, match=r"^\.: a study's whole folder: name a file in it"):
        Lineage(Path("."))


def test_the_command() -> None:
    def run(*arguments: str) -> str:
        return CliRunner().invoke(app, ["provenance", f"{TABLE}.csv", *arguments], catch_exceptions=False).stdout

    text = run()
    assert "made by: tables, on cpu" in text and "cccccccccccc, clean" in text
    assert hashlib.sha256(Path(f"{TABLE}.csv").read_bytes()).hexdigest() in text
    assert text.endswith("All files are as recorded.\n")
    found = json.loads(run("--where", "regime=helpful", "--where", "seed=0", "--json"))
    assert list(found["jobs"]) == OF_HELPFUL
    assert (found["where"], found["warnings"]) == ({"regime": ["helpful"], "seed": ["0"]}, [])
    Path(WEIGHTS).unlink()
    assert run().endswith(f"warning: {WEIGHTS}: it is no longer there\n")
