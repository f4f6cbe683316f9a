"""A change reruns what depends on it and nothing else: docs/incremental.md is what dry runs say, and keeps promises."""

from __future__ import annotations

import re
import runpy
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest
import yaml
from incremental import (
    ALIKE,
    ANALYSIS,
    GIVEN,
    KINDS,
    NOTHING,
    OTHER_PARTS,
    PAGE,
    SETTINGS,
    STUDIES,
    Row,
    after_events,
    alike,
    answers,
    beside_rows,
    comment,
    described,
    file_rows,
    is_wing,
    jobs_of,
    kind,
    one_of_each,
    page_answers,
    prepared,
    read_rows,
    renewed,
    study_edit,
)
from project import ROOT, Project
from pydantic import BaseModel

from rmtension.study.naming import MEAN
from rmtension.study.study import Study

STUDY = {"data_cards": 1, "cards": 1, "explore": 1} | dict.fromkeys(ANALYSIS, 1)  # what says what the study was
REFERENCE = runpy.run_path(str(ROOT / "docs" / "study_reference.py"))


@pytest.mark.sample
def test_one_change_of_each_kind_runs_what_the_page_says(project: Project) -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows, project = one_of_each(page), prepared(project)
    found = dict(zip((row.name for row in rows), map(described, answers(project, rows)), strict=True))
    assert 100 < len(found) < 200 and found == {row.name: page_answers(page)[row.name] for row in rows}
    assert set(map(described, after_events(project).values())) == {"nothing"}


def test_modules_that_the_same_scripts_import_have_one_answer() -> None:
    answer, answers_of = page_answers(PAGE.read_text(encoding="utf-8")), defaultdict(set)
    for row in file_rows():
        answers_of[kind(row)].add(answer[row.name])
    assert len(answers_of) > 100 and {len(found) for found in answers_of.values()} == {1}


@pytest.mark.page
def test_the_page_is_what_dry_runs_say(project: Project) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page, prepared(project)) == page, "run PYTHONPATH=src python tests/workflow/incremental.py"


@pytest.mark.page
def test_a_setting_that_takes_on_the_value_of_another_is_a_change(project: Project) -> None:
    """Snakemake compares params as a set: where each value occurs more than once, only their names tell a change."""
    _, rows = alike()
    assert len(rows) > 20
    planned = answers(prepared(project, [ALIKE]), rows)
    found = {row.name: set(jobs) for row, jobs in zip(rows, planned, strict=True)}
    answer = page_answers(PAGE.read_text(encoding="utf-8"))
    assert found == {row.name: rules_of(answer[f"`{row.name}`"]) for row in rows}


def rules_of(jobs: str) -> set[str]:
    """The rules that a line of the page names."""
    rules = {job.split()[0] for job in jobs.split(", ")} - {"nothing"}
    return rules - {"analysis"} | set(ANALYSIS if "analysis" in rules else [])


def test_every_rule_has_one_param_its_settings() -> None:
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for params in re.findall(r"^    params:\n((?:        .*\n)+)", file.read_text(encoding="utf-8"), flags=re.M):
            assert re.findall(r"^        (\w+)\b", params, flags=re.M) == ["settings"], file


@pytest.fixture(scope="module")
def of_all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Where only the studies of all kinds are asked about, so the small one need not have run."""
    return prepared(Project(tmp_path_factory.mktemp("kinds") / "project"), [KINDS, GIVEN])


def test_files_of_models_and_data_rerun_what_reads_them_and_those_beside_them_nothing(of_all_kinds: Project) -> None:
    [beside] = beside_rows()
    assert jobs_of(beside, of_all_kinds) == {}
    everything = Row("", "", {file: edit for row in read_rows() for file, edit in row.edits.items()}, KINDS)
    readers = {"backbone": 2, "adopt": 1, "data": 2, "benchmark_comparisons": 2}
    assert jobs_of(everything, of_all_kinds).items() >= readers.items()


def test_the_layout_of_a_published_benchmark_is_read_by_its_own_jobs_alone(of_all_kinds: Project) -> None:
    jobs = {kind: jobs_of(Row("", "", {f"src/rmtension/data/layouts/{kind}.py": comment}, KINDS), of_all_kinds)
            for kind in ("reward_bench", "rmb_pairwise")}  # fmt: skip
    assert jobs["reward_bench"]["benchmark_comparisons"] == 1
    assert jobs["rmb_pairwise"] == {}


@pytest.mark.page
def test_other_content_reruns_what_reads_it_whatever_its_date(of_all_kinds: Project) -> None:
    """Such as of a file that was moved or unpacked, and is dated before what was made of the one before it."""
    code = ["engine/training.py", "engine/activations.py", "neurons/ranking.py", "engine/evaluation.py"]
    code += ["report/figures.py", "report/page.html.j2"]
    files = [*(f"src/rmtension/{name}" for name in code), "resources/tasks.csv", "resources/paper/claims.csv"]
    rows = [*read_rows(), *(Row(file, "", {file: comment}, KINDS) for file in files)]
    found = answers(of_all_kinds, rows)
    assert all(found)
    assert answers(of_all_kinds, rows, date=1e9) == found


def test_files_that_were_changed_after_their_jobs_are_named_before_a_job_reads_them(
    project: Project, tmp_path: Path
) -> None:
    """Whole, and of the right form: nothing else would tell."""
    project = project.copy(tmp_path / "copy")
    one, other = (project.results / f"scores/tiny/helpful/seed-{seed}/tasks.parquet" for seed in (0, 7))
    for file, content in [(one, other.read_bytes()), (other, one.read_bytes())]:
        file.write_bytes(content)
    before = (project.results / "tables/accuracy.parquet").read_bytes()
    done = project.snakemake("--cores", "1")
    named = f"error: {one.relative_to(project.folder)}: changed after evaluate/tiny/helpful/seed-0/tasks made it: "
    assert done.returncode and named in done.stdout + done.stderr
    assert (project.results / "tables/accuracy.parquet").read_bytes() == before


def test_every_module_and_script_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    files = [*(ROOT / "src" / "rmtension").rglob("*.py"), *(ROOT / "workflow" / "scripts").glob("*.py")]
    modules = [str(file.relative_to(ROOT)) for file in files if not is_wing(str(file))]
    assert [file for file in modules if f"{file}`" not in page] == []


def section_of(study: Study, place: str) -> tuple[str, str]:
    """Class of the section that a place such as models.tiny.compute.threads is in, and the key."""
    section: object = study
    *names, key = place.split(".")
    for name in names:
        section = section[name] if isinstance(section, dict) else getattr(section, name)
    assert isinstance(section, BaseModel)
    return type(section).__name__, key


def test_every_key_of_a_study_is_on_the_page() -> None:
    studies = {file: Study.model_validate(yaml.safe_load((STUDIES / file).read_text())) for file in SETTINGS}
    listed = {section_of(studies[file], place) for file, settings in SETTINGS.items() for place in settings}
    # Keys that hold sections have those sections' keys; what is of another kind is another part.
    keys = {
        (section.__name__, key)
        for _, section in REFERENCE["sections"]("", Study)
        for key, field in section.model_fields.items()
        if key != "kind" and not list(REFERENCE["parts"](field.annotation, ""))
    }
    assert {name for name, _ in keys} > {"MadeModel", "OwnBenchmark", "TaskColumns"}
    assert keys - listed == set(), "give them another value in SETTINGS of tests/workflow/incremental.py"


@pytest.mark.parametrize(
    ("change", "jobs"),
    [
        ("another seed", "train 3, activations 3, neurons 3, select_sets 3, select 3, set_activations 3, "
                         "evaluate 9, patch 2, conflict 3, data_cards, cards, analysis, explore"),
        ("another percentile", "select 6, evaluate 6, analysis, explore"),
        ("another benchmark", "benchmark_comparisons, words 3, lengths, evaluate 6, running_rewards 3, "
                              "data_cards, cards, analysis, explore"),
        ("one seed fewer", "data_cards, cards, analysis, explore"),
        ("`analysis.draws`", "analysis"),
        ("`figures.palette`", "figures, report_page, explore"),
        ("a claim's threshold, in `src/rmtension/analysis/claims.py`", "claims, figures, report_page"),
        ("`models.hub.source.revision`", "fetch, backbone, lengths, train 2, activations 2, neurons 2, select_sets 2, "
                                         "select 2, set_activations 2, evaluate 8, passages 2, running_rewards 2, "
                                         "data_cards, cards, analysis, explore"),
    ],
)  # fmt: skip
def test_the_page_keeps_what_was_promised(change: str, jobs: str) -> None:
    assert page_answers(PAGE.read_text(encoding="utf-8"))[change] == jobs


def test_nothing_runs_for_what_no_result_depends_on() -> None:
    _, section = PAGE.read_text(encoding="utf-8").split(f"## {NOTHING}\n")
    rows = [*page_answers(section).values()][1:]
    assert len(rows) > 15 and set(rows) == {"nothing"}


def test_new_sets_compute_only_themselves(project: Project) -> None:
    """Their scores are appended to the file that is there, and the file equals one made from nothing."""
    new = {  # reward model and benchmark -> what the sets are that each change adds
        "helpful/seed-0/own": ("-p30", MEAN),
        "helpful-harmless/seed-7/tasks": ("-1", MEAN),
        "helpful-harmless/seed-0/tasks": ("-1", MEAN),
    }
    files = {name: project.results / "scores" / "tiny" / f"{name}.parquet" for name in new}

    def of_all(column: str) -> dict[str, set[str]]:
        return {name: set(pl.read_parquet(file)[column]) for name, file in files.items()}

    def computed() -> None:
        project.run(*(str(file.relative_to(project.folder)) for file in files.values()))

    def said(name: str) -> str:
        return (project.results / "logs" / "evaluate" / "tiny" / f"{name}.log").read_text()

    scored, named = of_all("fingerprint"), of_all("ablation")
    change = OTHER_PARTS["another percentile"] | {"ablation.control_draws": 2, "ablation.values": ["zero", "mean"]}
    study = Path(project.folder / "small.yaml")
    study.write_text(study_edit(change)(study.read_text()))
    computed()
    every = of_all("fingerprint")
    for name, ends in new.items():
        added = of_all("ablation")[name] - named[name]
        assert all(any(ablation.endswith(end) for ablation in added) for end in ends)
        fresh = len(every[name]) - len(scored[name])
        assert fresh > 0 and f"{fresh} of {len(every[name])} different ablations to compute" in said(name)
    grown = {name: file.read_bytes() for name, file in files.items()}
    for file in files.values():
        file.unlink()
    computed()
    for name, file in files.items():
        assert f"{len(every[name])} of {len(every[name])} different ablations to compute" in said(name)
        assert file.read_bytes() == grown[name]
