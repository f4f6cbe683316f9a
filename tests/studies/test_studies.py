"""Every kind of study, small, through Snakemake to its report; those in studies/ with tiny models and few rows."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import upstream
import yaml
from project import ROOT, Project, complaints
from pydantic import BaseModel

from rmtension.analysis.official import EARNED
from rmtension.base.errors import UserError
from rmtension.data.tasks import TIES, wanted_tasks
from rmtension.study.benchmarks import OwnBenchmark, PublishedBenchmark
from rmtension.study.loading import load_study
from rmtension.study.naming import AVERAGE, OVERALL, UNORIENTED
from rmtension.study.study import Study

Settings = dict[str, Any]  # what a study file holds
Place = tuple[Any, ...]  # keys from the top of a study file to a value

REAL = ROOT.parent / "shared" / "data"
REFERENCE = runpy.run_path(str(ROOT / "docs" / "study_reference.py"))


# --- the studies ----------------------------------------------------------------------------------------------


def studies_in(folder: Path) -> dict[str, Settings]:
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.yaml"))}


def folder_of(part: Settings) -> str:
    """Where the files of a model, source or benchmark lie: where it says, or in a folder called as on the hub."""
    return str(part.get("path") or Path(part["hub"]).name)


def shrunk(study: Settings) -> Settings:
    """The study with a tiny model, one seed, few pairs, sizes and draws; what else it is made of stays."""
    study["models"] = dict([*study["models"].items()][-1:])
    for model in study["models"].values():
        files = {"gguf": "models/llama.gguf", "pretrained": f"models/{Path(folder_of(model['source'])).name}"}
        kind, fewer = model["source"]["kind"], {"layers": 2} if "layers" in model["source"] else {}
        model |= {"source": {"kind": kind, "path": files[kind]} | fewer, "compute": {"mem_mb": 1000, "runtime": 5}}
    for part, fewer in (("sources", {"max_train": 30, "max_test": 4}), ("benchmarks", {"max_per_task": 2})):
        study[part] = {
            name: one | ({"path": folder_of(one), "hub": None} if "hub" in one else {}) | fewer
            if {"path", "hub"} & {*one}
            else one
            for name, one in study[part].items()
        }
    sizes = study["ablation"]["sweep"]
    fewer_sizes = [*sizes[:1], study["ablation"]["percent"], *sizes[-1:]] if sizes else []
    return study | {
        "seeds": study["seeds"][:1],
        "data_root": "data",
        # A step or two that change something, on pairs that are long in tiny tokenizers' tokens.
        "training": study["training"] | {"learning_rate": 1e-2, "max_tokens": 1024},
        "ablation": study["ablation"] | {"sweep": list(dict.fromkeys(fewer_sizes))},
        "analysis": study.get("analysis", {}) | {"draws": 100},
        "figures": {"dpi": 60},
    }


def containers(section: BaseModel, *before: Any) -> Iterator[tuple[Place, type[BaseModel]]]:
    """Every list and mapping in a part of a study, by its place, with the type that it is declared in."""
    for name, value in section:
        yield from within(value, type(section), *before, name)


def within(value: Any, owner: type[BaseModel], *place: Any) -> Iterator[tuple[Place, type[BaseModel]]]:
    if isinstance(value, BaseModel):
        yield from containers(value, *place)
    elif isinstance(value, list | dict):
        yield place, owner
        for key, part in value.items() if isinstance(value, dict) else ():
            yield from within(part, owner, *place, key)


def emptied(study: Settings, *places: Place) -> Settings:
    """A study with nothing in the lists and mappings at these places."""
    study = deepcopy(study)
    for *keys, last in places:
        section = study
        for key in keys:
            section = section.setdefault(key, {})
        if last in section:  # not in a mapping that has been emptied
            section[last] = {} if isinstance(section[last], dict) else []
    return study


SHIPPED, MADE = studies_in(ROOT / "studies"), studies_in(Path(__file__).parent)
CONTAINERS = dict(containers(Study.model_validate(MADE["everything"])))


def refusal(place: Place) -> list[str]:
    """What is said of the study with nothing at this place; nothing where it is taken."""
    try:
        load_study(emptied(MADE["everything"], place), "study.yaml")
    except UserError as error:
        return [line for line in str(error).splitlines() if "does not exist" not in line]  # its data are not here
    return []


# --- running them ---------------------------------------------------------------------------------------------


def write_data(study: Settings, folder: Path, real: Path) -> None:
    """The pairs and benchmarks that a study reads: links to the files that it names in `real`, else made ones."""
    for part in [*study["sources"].values(), *study["benchmarks"].values()]:
        if part["kind"] not in upstream.WRITERS:
            continue
        target = folder / folder_of(part)
        if "path" in part and (real / part["path"]).exists():
            target.parent.mkdir(exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(real / part["path"])
        else:
            upstream.WRITERS[part["kind"]](target)


class Run(NamedTuple):
    """A study that has been run to its end."""

    project: Project
    study: Study
    data: set[Path]  # the user's files before it

    @property
    def results(self) -> Path:
        return self.project.folder / "results" / self.study.name

    def tables(self) -> dict[str, pl.DataFrame]:
        return {file.stem: pl.read_parquet(file) for file in sorted((self.results / "tables").glob("*.parquet"))}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With all that the studies read."""
    project = Project(tmp_path_factory.mktemp("studies") / "project")
    data = project.folder / "data"
    upstream.write_models(data / "models")
    upstream.write_own(data / "own")
    for study in MADE.values():
        write_data(study, data, Path("nothing"))
    for study in SHIPPED.values():
        write_data(study, data, REAL)
    return project


# One runs over the results of the one that it is like, and has its name.
STUDIES = {name: shrunk(deepcopy(study)) for name, study in SHIPPED.items()} | MADE
STUDIES["everything, emptied"] = emptied(MADE["everything"], *(place for place in CONTAINERS if not refusal(place)))


@pytest.fixture(scope="module", params=STUDIES)
def run(request: pytest.FixtureRequest, project: Project) -> Run:
    study, file = STUDIES[request.param], project.folder / "study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    before = set((project.folder / "data").rglob("*"))
    done = project.snakemake("--cores", "2", study=file.name)
    assert done.returncode == 0, complaints(done)
    return Run(project, Study.model_validate(study), before)


# --- what a study has, said independently of the code that makes tables -----------------------------------------


METHODS = ["merged", "projected", "frozen"]


def facts(study: Study) -> set[str]:
    """What there is in a study to make tables of."""
    singles = {name for name, regime in study.regimes.items() if not regime.mixes}
    tasks: set[tuple[str, str]] = set()  # with their orientations
    for name, benchmark in study.benchmarks.items():
        if isinstance(benchmark, PublishedBenchmark | OwnBenchmark):
            tasks |= {*wanted_tasks(name, benchmark).select("task", "orientation").rows()}
        elif benchmark.kind == "all-tests":
            tasks |= {(f"{source} test pairs", name) for name in singles for source in study.regimes[name].test}
        elif benchmark.kind == "synthetic":
            tasks |= {("plain-instruction", "helpful"), ("should-refuse", "harmless")}
    orientations = {orientation for _, orientation in tasks} - {UNORIENTED}
    kinds, scorings = {benchmark.kind for benchmark in study.benchmarks.values()}, {*study.neurons.scorings}
    places = {Path(getattr(model.source, "path", "")).name for model in study.models.values()}
    has = {
        "seeds": len(study.seeds) > 1,
        "models": len(study.models) > 1,
        "regimes": len(study.regimes) > 1,
        "single regimes": len(singles) > 1,
        "shared": bool(kinds - {"regime-test"}),
        "mixture": any(regime.mixes for regime in study.regimes.values()),
        "patched": study.patching is not None,
        "conflict": study.conflict is not None,
        "repaired": any(regime.method != "joint" for regime in study.regimes.values()),
        "two repairs": sum(regime.method != "joint" for regime in study.regimes.values()) > 1,
        **{method: any(regime.method == method for regime in study.regimes.values()) for method in METHODS},
        "tasks": bool(orientations),
        "own orientation": bool(orientations & singles) or "regime-test" in kinds,
        "own tasks": singles <= orientations and len(singles) > 1,
        "papers tasks": bool(tasks & {("Focus", "helpful"), ("XStest Should Respond", "harmless")}),
        "metrics": bool(kinds & {*EARNED}),
        "swept": bool(study.ablation.sweep_benchmarks),
        "sizes": bool(study.ablation.sweep),
        "contrast": any(size != 100 for size in study.ablation.sweep),
        "two scorings": len([name for name in scorings if not name.startswith("head-")]) > 1,
        "change": {"magnitude", "change"} <= scorings,
        "attribution": {"magnitude", "attribution"} <= scorings,
        "matched": "matched-random" in scorings,
        "papers model": bool(places & {*upstream.PAPER}),
    }
    return {name for name, holds in has.items() if holds}


# Table -> what it is made of; all others have rows in every study.
NEEDS = {
    "accuracy": {"tasks"},
    "own_ablation": {"tasks"},
    "compression": {"tasks"},
    "score_histogram": {"tasks"},
    "contrasts": {"tasks", "regimes"},
    "length": {"tasks"},
    "length_contrasts": {"tasks", "regimes"},
    "length_change": {"tasks"},
    "length_lead": {"tasks", "single regimes"},
    "retention": {"tasks", "mixture"},
    "agreement": {"tasks", "mixture"},
    "score_shift": {"tasks", "mixture"},
    "shared_ablation": {"tasks", "mixture"},
    "shared_contrasts": {"tasks", "mixture"},
    "ablation_curve": {"swept", "sizes"},
    "set_size": {"swept"},
    "scoring_contrasts": {"swept", "contrast", "two scorings"},
    "neuron_overlap": {"regimes"},
    "neuron_retention": {"mixture"},
    "control_overlap": {"matched"},
    "stability": {"seeds"},
    "model_contrasts": {"models"},
    "tension": {"mixture", "own orientation"},
    "repair": {"own orientation", "mixture", "repaired"},
    "repair_contrasts": {"own orientation", "mixture", "two repairs"},
    **{name: {"mixture", "patched"} for name in ("patching", "patching_contrasts")},
    **{name: {"mixture", "conflict"} for name in ("conflict", "conflict_contrasts", "conflict_layers")},
    "thirds": {"own orientation"},
    "official": {"metrics"},
    "published": {"papers model", "papers tasks"},
}
# Claim -> what its test takes; the others can be tested in every study.
TESTABLE = {
    "C1": {"own tasks"},
    "C2": {"own tasks", "mixture"},
    "C3": {"papers tasks"},
    "C4": {"own tasks", "mixture"},
    "C5": {"tasks", "mixture"},
    "C6": {"swept", "contrast", "change"},
    "C9": {"own tasks"},
    "C10": {"tasks"},
    "C11": {"regimes"},
    "C12": {"own tasks", "mixture"},
    "D1": {"late over early"},
    "A1": {"swept", "contrast", "attribution"},
    "P1": {"recovery"},
    "G1": {"cosine"},
    "R1": {"own orientation", "mixture", "merged"},
    "R2": {"own orientation", "mixture", "frozen"},
    "R3": {"own orientation", "mixture", "projected"},
    "R4": {"balanced gain"},
    "L1": {"lead along length"},
    "L2": {"balanced lead"},
    "K1": {"shared", "mixture"},
    "K2": {"temperature"},
}


def measured(tables: dict[str, pl.DataFrame]) -> set[str]:
    """What depends on the comparisons: whether enough of them are on either side of length, and enough tasks."""
    is_own = (pl.col("orientation") == pl.col("first")) | (pl.col("orientation") == pl.col("second"))
    balanced = tables["length_contrasts"].filter(is_own, task=AVERAGE).drop_nulls("difference_mean")
    singles = tables["length_lead"].select("first", "second").unique()
    gains = (
        tables["repair"]
        .filter(model=OVERALL)
        .select("regime", "mixture", "orientation", "tasks", "measure", "gain_mean", "gain_low")
    )
    gained = gains.filter(pl.col("gain_low") > 0, measure="accuracy")
    beside = gains.filter(measure="balanced").drop_nulls("gain_mean")
    recovered = tables["patching_contrasts"].filter(against="matched-random", model=OVERALL)
    in_parts = pl.col("regime") != pl.col("mixture")
    # Its two figures are of sets of their own size and of a common one: there may be more than noise in one alone.
    cosines = tables["conflict"].filter(in_parts, set="shared", control="whole", model=OVERALL)["cosine_mean"]
    against = tables["conflict_contrasts"].filter(in_parts, against="matched-random", model=OVERALL)
    as_trained = tables["calibration"].filter(ablation="none", model=OVERALL)
    has = {
        "temperature": as_trained["n_fitted"].sum() > 0,  # none if all are no better than a coin
        "balanced gain": not beside.join(
            gained, on=["regime", "mixture", "orientation", "tasks"], how="semi"
        ).is_empty(),
        "lead along length": tables["length_lead"]["correlation_mean"].count() > 0,
        "recovery": bool(recovered["recovery_difference_mean"].count()),
        "cosine": bool(cosines.count() + against["cosine_difference_mean"].count()),
        # None where no decile of loudness is in every third, as in two layers.
        "late over early": tables["thirds"].filter(third="late")["difference_mean"].count() > 0,
        "balanced lead": not balanced.join(singles, on=["first", "second"], how="semi").is_empty(),
    }
    return {name for name, holds in has.items() if holds}


def test_it_ends_with_a_report_and_leaves_nothing_to_do(run: Run) -> None:
    assert (run.results / "report.html").stat().st_size > 100_000
    assert run.project.planned(study="study.yaml") == {}
    assert [file for file in run.results.rglob("*") if file.name.endswith((".partial", ".pt"))] == []
    assert set((run.project.folder / "data").rglob("*")) == run.data, "what is the user's stays as it is"


def test_every_table_has_rows_where_the_study_has_what_it_is_made_of(run: Run) -> None:
    empty = {name for name, table in run.tables().items() if table.is_empty()}
    lacking = {name for name, needed in NEEDS.items() if not needed <= facts(run.study)}
    assert empty <= lacking
    # Where a study has no matched scoring, a mixed reward model's sets have controls, unless they are too small.
    assert lacking - empty <= {"control_overlap"}


def test_the_data_section_says_how_many_pairs_statistics_took(run: Run) -> None:
    """Of each reward model whose neurons are looked at, where they were read until they stood still."""
    said = run.tables()["hygiene"].filter(pl.col("reason").str.starts_with("read for seed"))
    study = run.study
    looked_at = len(study.models) * len(study.with_neurons()) * len(study.seeds)
    assert len(said) == (looked_at if study.activations.stable else 0)


def test_official_metrics_are_percentages(run: Run) -> None:
    """Each where all of its subsets have been scored; a metric of parts alone is left out, not guessed."""
    metrics = run.tables()["official"]
    for name, benchmark in run.study.benchmarks.items():
        found = metrics.filter(benchmark=name)
        known = found.drop_nulls("value_mean")
        assert known.is_empty() == (benchmark.kind not in EARNED)
        if getattr(benchmark, "tasks", None) == ["all"]:
            assert len(known) == len(found), "all subsets, so all metrics"
        # By its formula, Ties lies between -1 and 101.
        beyond = pl.when(pl.col("metric").is_in([TIES, "overall"])).then(1).otherwise(0)
        for column in ("value_mean", "value_low", "value_high"):
            assert known.select(pl.col(column).is_between(-beyond, 100 + beyond).all()).item()


def test_claims_have_verdicts_where_they_can_be_tested(run: Run) -> None:
    claims = pl.read_parquet(run.results / "claims.parquet")
    assert set(claims["verdict"]) <= {"holds", "does not hold", "undecided"}
    tested = set(claims.drop_nulls("estimate")["claim"])
    known = facts(run.study) | measured(run.tables())
    assert tested == {c for c in claims["claim"] if TESTABLE.get(c, set()) <= known}
    untested = claims.filter(pl.col("part") != "", pl.col("estimate").is_null())
    assert untested["note"].str.len_chars().min() != 0, "a part without a figure says why"


def test_on_its_own_pairs_a_reward_model_scores_the_same_whatever_the_benchmark(run: Run) -> None:
    kinds = {benchmark.kind: name for name, benchmark in run.study.benchmarks.items()}
    if not {"regime-test", "all-tests"} <= {*kinds}:
        assert run.study.name != "everything"
        return
    own, every = (
        pl.read_parquet(sorted(run.results.glob(f"scores/*/*/*/{kinds[kind]}.parquet")), include_file_paths="file")
        .with_columns(pl.col("file").str.extract(r"scores/(.*)/"))
        for kind in ("regime-test", "all-tests")
    )  # fmt: skip
    columns = ["file", "ablation", "comparison_id", "chosen_scores", "rejected_scores"]
    joined = own.select(columns).join(every.select(columns), on=columns[:3], suffix="_of_every")
    assert joined["file"].n_unique() == own["file"].n_unique() > 3
    for side in ("chosen", "rejected"):
        ours, theirs = (joined[f"{side}_scores{of}"].list.first().to_numpy() for of in ("", "_of_every"))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    whole = every.filter(ablation="none").group_by("file").agg(pl.col("orientation").n_unique())
    assert set(whole["orientation"]) == {len([r for r in run.study.regimes.values() if not r.mixes])}


def test_no_value_is_written_as_python_would(run: Run) -> None:
    page = (run.results / "report.html").read_text(encoding="utf-8")
    shown = re.sub(r'<script type="module">.*?</script>|"data:[^"]*"|<pre>.*?</pre>', "", page, flags=re.DOTALL)
    files = [file for form in ("csv", "md", "tex") for file in run.results.glob(f"**/*.{form}")]
    texts = {"report": shown} | {file.name: file.read_text(encoding="utf-8") for file in files}
    assert len(texts) > 60
    for name, text in texts.items():
        assert re.findall(r"(?<![\w.-])(?:nan|NaN|None|-?inf|-0(?:\.0*)?)(?![\w.-])", text) == [], name


# --- what may be empty ----------------------------------------------------------------------------------------


def test_the_study_with_everything_has_every_list_and_mapping_that_a_study_can_have() -> None:
    declared = {
        (section, name)
        for _, section in REFERENCE["sections"]("", Study)
        for name, field in section.model_fields.items()
        if re.search(r"\b(list|dict)\[", str(field.annotation))
    }
    assert {(owner, next(key for key in reversed(place) if key in owner.model_fields))
            for place, owner in CONTAINERS.items()} == declared  # fmt: skip


@pytest.mark.parametrize("place", CONTAINERS, ids=lambda place: ".".join(map(str, place)))
def test_an_empty_list_or_mapping_is_refused_at_the_start_or_run_to_the_report(place: Place) -> None:
    said = refusal(place)
    section: Any = STUDIES["everything, emptied"]
    assert len(said) <= 1
    if said:
        assert said[0].startswith(f"study.yaml: {'.'.join(map(str, place[:2]))}")
    else:
        for key in place:
            section = section.get(key, {})
        assert not section
