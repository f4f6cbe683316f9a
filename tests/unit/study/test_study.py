"""A mistake in a study file is one line that names the file and the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_core import PydanticCustomError

from rmtension.base.errors import UserError
from rmtension.study.benchmarks import PublishedBenchmark
from rmtension.study.data import with_curves
from rmtension.study.loading import load_study
from rmtension.study.measured import ablated_sets, compared_objectives, observed_sets
from rmtension.study.places import fetched
from rmtension.study.sources import regime_data
from rmtension.study.study import Study

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def changed(path: str, value: Any, study: dict[str, Any] = DEFAULT) -> dict[str, Any]:
    """The default study, or another, with one key set, or removed where the value is None."""
    settings: dict[str, Any] = copy.deepcopy(study)
    *parents, last = path.split("/")
    place: Any = settings
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return settings


OWN = {"kind": "own", "path": "f.jsonl", "tasks": {"a": "helpful", "b": "harmless"}}
MIXES = {"mixes": ["helpful", "harmless"]}
REPAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "method of one regime": ({"train": ["s"], "test": ["s"], "method": "projected"}, "name them in 'mixes'"),
    "method": (MIXES | {"method": "mergd"}, "'merged'"),
    "merged without weights": (MIXES | {"method": "merged"}, "stand together"),
    "weights of no merged": (MIXES | {"weights": [0.5, 0.5]}, "stand together"),
    "weights above 1": (MIXES | {"method": "merged", "weights": [0.5, 0.6]}, "add up to 1"),
    "one weight": (MIXES | {"method": "merged", "weights": [1]}, "add up to 1"),
    "epochs of merged": (MIXES | {"method": "merged", "weights": [0.5, 0.5], "epochs": 1}, "trains nothing"),
    "frozen without a set": (MIXES | {"method": "frozen"}, "stand together"),
    "frozen set": (MIXES | {"method": "frozen", "frozen": "helpful-onyl"}, "did you mean 'helpful-only'"),
    "frozen matched": (MIXES | {"method": "frozen", "frozen": "matchd"}, "did you mean 'matched'"),
    "epochs of an ensemble": (MIXES | {"method": "ensemble", "epochs": 1}, "trains nothing"),
    "neurons of a mixed one": (MIXES | {"neurons": False}, "is for repairs"),
    "parts that are mixed": (
        {"mixes": ["helpful", "helpful-harmless"]},
        "regimes.repair.mixes: 'helpful-harmless' itself is made of two others; did you mean 'harmless'?",
    ),
    "part that is a repair": ({"mixes": ["helpful", "merged"]}, "repair.mixes: 'merged' itself is made of two others"),
    "part that is itself": ({"mixes": ["helpful", "repair"]}, "regimes.repair.mixes: 'repair' itself is made of two"),
    "weight twice": (
        MIXES | {"method": "merged", "weights": [[0.5, 0.5], [0.50, 0.5]]}, "repair.weights: 0.5 is given more than",
    ),
    "weight twice, once with a point": (
        MIXES | {"method": "merged", "weights": [[1, 0], [1.0, 0.0]]}, "repair.weights: 1 is given more than once",
    ),
    "weight twice, but for rounding": (
        MIXES | {"method": "merged", "weights": [[0.1, 0.9], [0.1 + 2e-17, 0.9]]}, "repair.weights: 0.1 is given more",
    ),
    "curve of words": (MIXES | {"method": "merged", "weights": [["a", "b"]]}, "regimes.repair.weights.0: "),
    "point without weights": (MIXES | {"method": "merged", "weights": [[]]}, "regimes.repair.weights.0: "),
}  # fmt: skip
SINGLES = {name: DEFAULT["regimes"][name] for name in ("helpful", "harmless")}
MISTAKES: dict[str, tuple[str, Any, str]] = {
    "more neurons than a made model has": (
        "ablation/sweep", [5, "999999n"], "ablation.sweep: 999999n: models.tiny-gpt2 has 384 neurons: give a",
    ),
    "one neuron more than the smaller model has": (
        "ablation/sweep", ["288n", "289n"], "ablation.sweep: 289n: models.tiny-llama has 288 neurons",
    ),
    "percent of none": ("ablation/percent", 0.1, "ablation.percent: 0.1 % of the 384 neurons of models.tiny-gpt2"),
    "swept percent of none": ("ablation/sweep", [10, 0.1], "ablation.sweep: 0.1 % of the 384 neurons of models"),
    **{what: ("regimes/repair", regime, said) for what, (regime, said) in REPAIRS.items()},
    "repairs of nothing": (
        "regimes", {"soup": MIXES | {"method": "ensemble"}}, "soup.mixes: unknown name 'helpful'; known: none",
    ),
    "patching without a mixed regime": ("regimes", SINGLES, "patching: it looks at regimes trained on two others'"),
    "one pair for two halves": ("conflict", {"max_pairs": 1}, "conflict.max_pairs: Input should be greater than"),
    "sets that agree by more than all": ("activations", {"stable": 1.01}, "activations.stable: Input should be less"),
    "sets that always agree": ("activations", {"stable": 0}, "activations.stable: Input should be greater than 0"),
    "column of an own file": (
        "benchmarks/mine", OWN | {"columns": {"promt": "q"}}, "benchmarks.mine.columns: unknown key 'promt'; did you",
    ),
    "orientation that is no regime": (
        "benchmarks/mine", OWN | {"tasks": {"a": "helpfull"}}, "benchmarks.mine.tasks: unknown name 'helpfull'",
    ),
    "sharded over nothing": (
        "models/tiny-gpt2/compute", {"gpus": 1, "sharded": True}, "models.tiny-gpt2.compute: sharded takes gpus: 2",
    ),
    "several tasks without a column": (
        "benchmarks/mine", OWN | {"columns": {"task": None}}, "benchmarks.mine: without columns.task the whole file",
    ),
    "own benchmark without its file": ("benchmarks/mine", OWN, "benchmarks.mine.path: f.jsonl does not exist"),
    "own pairs without their file": (
        "sources/mine", {"kind": "own", "train": "config.yaml", "test": "t.json"}, "sources.mine.test: t.json does not",
    ),
    "misspelt key": (
        "training/learning_rat", 1e-3, "training: unknown key 'learning_rat'; did you mean 'learning_rate'?",
    ),
    "misspelt section": ("trainning", {}, "unknown key 'trainning'; did you mean 'training'?"),
    "misspelt key of a model": (
        "models/tiny-gpt2/source/layer", 3, "models.tiny-gpt2.source: unknown key 'layer'; did you mean 'layers'?",
    ),
    "wrong type": ("training/learning_rate", "fast", "training.learning_rate: "),
    "fraction of a pair": ("training/pairs_per_step", 1.5, "training.pairs_per_step: "),
    "percentile of zero": ("ablation/percent", 0, "ablation.percent: "),
    "percentile over 100": ("ablation/sweep", [10, 101], "ablation.sweep.1: "),
    "zero left out": ("ablation/values", ["mean"], "ablation.values: 'zero' is always there: give [zero]"),
    "mean twice": ("ablation/values", ["zero", "mean", "mean"], "ablation.values: mean is given more than once"),
    "unknown value": ("ablation/values", ["zero", "median"], "ablation.values.1: "),
    "percentile twice": ("ablation/sweep", [10, 10], "ablation.sweep: 10"),
    "percentile twice, written otherwise": ("ablation/sweep", ["1n", 1, 1.0], "ablation.sweep: 1.0 is given more than"),
    "count twice": ("ablation/sweep", ["10n", 10, "10n"], "ablation.sweep: 10n is given more than once"),
    "count of none": ("ablation/sweep", [2, "0n"], "ablation.sweep.1: String should match pattern"),
    "count with a zero before it": ("ablation/sweep", ["010n"], "ablation.sweep.0: String should match pattern"),
    "part of a unit": ("ablation/sweep", ["1.5n"], "ablation.sweep.0: String should match pattern"),
    "neither percent nor count": ("ablation/sweep", ["10x"], "ablation.sweep.0: Input should be a valid number"),
    "list as a size": ("ablation/sweep", [[10]], "ablation.sweep.0: Input should be a valid number"),
    "main size as a count": ("ablation/percent", "10n", "ablation.percent: Input should be a valid number"),
    "seed twice": ("seeds", [1, 2, 1], "seeds: 1 is given more than once"),
    "negative seed": ("seeds", [-1], "seeds.0: "),
    "no seed": ("seeds", [], "seeds: "),
    "regime without data": ("regimes/helpful", {"epochs": 1}, "regimes.helpful: regime without data"),
    "unknown source": (
        "regimes/helpful/train", ["synthetic-helpfull"],
        "regimes.helpful.train: unknown name 'synthetic-helpfull'; did you mean 'synthetic-helpful'?",
    ),
    "unknown regime": (
        "regimes/helpful-harmless/mixes", ["helpful", "harmful"], "regimes.helpful-harmless.mixes: unknown name",
    ),
    "regime mixed with itself": ("regimes/helpful-harmless/mixes", ["helpful"] * 2, "regimes.helpful-harmless: "),
    "unknown model family": ("models/tiny-gpt2/source/family", "gpt3", "models.tiny-gpt2.source.family: "),
    "unknown kind of model": (
        "models/tiny-gpt2/source/kind", "mad", "models.tiny-gpt2.source.kind: unknown kind 'mad'; did you mean 'made'?",
    ),
    "unknown benchmark": ("ablation/sweep_benchmarks", ["hh-tset"], "unknown name 'hh-tset'; did you mean 'hh-test'?"),
    "unknown kind of benchmark": (
        "benchmarks/hh-test", {"kind": "reward-bensh"},
        "benchmarks.hh-test.kind: unknown kind 'reward-bensh'; did you mean 'reward-bench'?",
    ),
    "benchmark file that is missing": (
        "benchmarks/rb", {"kind": "reward-bench", "path": "nowhere.parquet"},
        "benchmarks.rb.path: nowhere.parquet does not exist",
    ),
    "neither path nor hub": (
        "benchmarks/rb", {"kind": "reward-bench"}, "benchmarks.rb: give exactly one of 'path' and 'hub'",
    ),
    "RMB from the hub": (
        "benchmarks/rb", {"kind": "rmb-pairwise", "hub": "a/b"}, "benchmarks.rb: rmb-pairwise is not on the hub",
    ),
    "path outside the hub": ("benchmarks/rb", {"kind": "rm-bench", "hub": "../b"}, "benchmarks.rb.hub: "),
    "adopted under an unknown regime": (
        "models/tiny-gpt2/trained", {"helpfull": {0: "."}},
        "models.tiny-gpt2.trained: unknown name 'helpfull'; did you mean 'helpful'?",
    ),
    "adopted under an unknown seed": (
        "models/tiny-gpt2/trained", {"helpful": {5: "."}},
        "models.tiny-gpt2.trained.helpful: unknown name '5'; known: ",
    ),
    "adopted folder that is missing": (
        "models/tiny-gpt2/trained", {"helpful": {0: "nowhere"}},
        "models.tiny-gpt2.trained.helpful.0: nowhere does not exist",
    ),
    "name that is no file name": ("models/a b", DEFAULT["models"]["tiny-gpt2"], "models.a b: "),
    "missing key": ("models/tiny-gpt2/source/layers", None, "models.tiny-gpt2.source.layers: this key is missing"),
    "missing section": ("regimes", None, "regimes: this key is missing"),
    "sets by attention heads": ("ablation/scoring", "head-norm", "ablation.scoring: Input should be 'magnitude', "),
    "sets by chance": ("ablation/scoring", "random", "ablation.scoring: Input should be 'magnitude', "),
    "no draw": ("ablation/control_draws", 0, "ablation.control_draws: "),
    "certain interval": ("analysis", {"confidence": 1}, "analysis.confidence: "),
    "heads that do not divide": ("models/tiny-gpt2/source/heads", 7, "models.tiny-gpt2.source: width 48"),
    "sets by a scoring that is not computed": (
        "neurons/scorings", ["change"], "ablation.scoring: unknown name 'magnitude'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_naming_file_and_key(mistake: str) -> None:
    path, value, expected = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        load_study(changed(path, value), "my-study.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("my-study.yaml: ")
    assert expected in message


def test_lean_training_shares_no_weights_out() -> None:
    study = changed("models/tiny-gpt2/compute", {"gpus": 2, "sharded": True})
    load_study(study, "my-study.yaml")
    with pytest.raises(
        UserError, match=r"^my-study.yaml: training.memory: lean, while models.tiny-gpt2.compute.sharded "
    ):
        load_study(changed("training/memory", "lean", study), "my-study.yaml")


def test_sets_by_attribution_do_not_stand_still() -> None:
    settings = changed("activations", {"stable": 0.99})
    load_study(settings, "f")
    settings |= {"neurons": {"scorings": ["magnitude", "attribution"]}, "ablation": {"scoring": "attribution"}}
    with pytest.raises(UserError, match=r"^f: activations\.stable: sets by 'attribution' are"):
        load_study(settings, "f")


def test_every_mistake_has_its_line() -> None:
    settings = changed("seeds", [-1]) | {"trainning": {}}
    with pytest.raises(UserError, match="trainning"):
        load_study(settings, "f")
    settings = changed("seeds", [-1])
    settings["training"]["epochs"] = 1
    with pytest.raises(UserError) as caught:
        load_study(settings, "f")
    assert [line.split(":")[1].strip() for line in str(caught.value).splitlines()] == ["seeds.0", "training"]


def test_numbers_may_be_written_as_yaml_misreads_them() -> None:
    assert yaml.safe_load("1e-4") == "1e-4"
    assert load_study(changed("training/learning_rate", "1e-4"), "f").training.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("revision", "commit"),
    [(None, "a" * 40), ("main", "b" * 40), ("c" * 40, "c" * 40), ("other", "unlocked"), ("c" * 39, "unlocked")],
)
def test_a_commit_comes_from_the_study_or_its_lock_file(revision: str | None, commit: str) -> None:
    """And a section that comes from the hub is read from that commit's folder in the cache."""
    locked = {"x/y": "a" * 40, "x/y@main": "b" * 40, "other/y@other": "e" * 40}
    settings = changed("benchmarks/rb", {"kind": "rm-bench", "hub": "x/y", "revision": revision})
    study = load_study(settings | {"data_root": "data", "hub_cache": "hub"}, "f", locked)
    assert fetched(study) == {"benchmarks.rb": Path(f"data/hub/rm-bench/x/y/{commit}/checksums.json")}
    cached = PublishedBenchmark.model_validate(study.benchmarks["rb"].cached("hub").model_dump())
    assert cached.local("data") == Path(f"data/hub/rm-bench/x/y/{commit}/files")


@pytest.mark.parametrize(("locked", "revision"), [({}, None), ({"x/y": "a" * 40}, None), ({}, "main")])
def test_a_model_and_a_dataset_of_one_name_need_their_commits_in_the_study(
    locked: dict[str, str], revision: str | None
) -> None:
    """A lock file has one line for both."""
    settings = changed("benchmarks/rb", {"kind": "rm-bench", "hub": "x/y", "revision": revision})
    name = next(iter(settings["models"]))
    settings["models"][name]["source"] = {"kind": "pretrained", "hub": "x/y", "revision": revision}
    said = rf"^f: benchmarks\.rb\.revision: models\.{name}\.source is called x/y, too: give the commit of each here$"
    with pytest.raises(UserError, match=said):
        load_study(settings, "f", locked)
    settings["benchmarks"]["rb"]["revision"] = "c" * 40
    load_study(settings, "f", locked)


def test_ablations_of_a_study() -> None:
    settings = changed("ablation/sweep", [2, 100])
    settings["neurons"]["scorings"] = ["magnitude", "random", "head-norm"]
    settings["ablation"]["control_draws"] = 2
    study = Study.model_validate(settings)
    own = ["none", "magnitude-p10", "random-p10", "head-norm-p10"]
    thirds = [f"{third}-matched-{d}" for d in range(2) for third in ("early", "middle", "late")]
    assert ablated_sets(study, "helpful", "synthetic") == [*own, *thirds]
    controls = [
        f"{name}-{d}"
        for d in range(2)
        for name in [f"{s}-{c}" for s in ("shared", "helpful-only", "harmless-only") for c in ("sized", "matched")]
        + ["random-sized"]
    ]
    mixed = ["shared", "helpful-only", "harmless-only", "shared-authors", *controls]
    assert ablated_sets(study, "helpful-harmless", "synthetic") == [*own, *mixed, *thirds]
    swept = ["none", "magnitude-p10", "magnitude-p2", "all", "random-p10", "random-p2",
             "head-norm-p10", "head-norm-p2", "all-heads"]  # fmt: skip
    assert ablated_sets(study, "helpful", "hh-test") == [*swept, *thirds]
    assert ablated_sets(study, "helpful-harmless", "hh-test") == [*swept, *mixed, *thirds]
    assert ablated_sets(study, "helpful-harmless", "validation") == ["none", own[1]]

    settings["ablation"]["values"] = ["zero", "mean"]
    study = Study.model_validate(settings)
    means = ["magnitude-p10@mean", "random-p10@mean"]
    assert ablated_sets(study, "helpful", "hh-test") == [*swept, *thirds, *means]
    means += [f"{name}@mean" for name in mixed]
    assert ablated_sets(study, "helpful-harmless", "synthetic") == [*own, *mixed, *thirds, *means]
    assert ablated_sets(study, "helpful", "validation") == ["none", own[1]]


def test_sizes_of_a_sweep_are_percents_or_counts() -> None:
    study = Study.model_validate(changed("ablation/sweep", [5, "100n", "2.5", "1n", 100, "5n"]))
    assert study.ablation.sweep == [5.0, "100n", 2.5, "1n", 100.0, "5n"]
    assert study.ablation.parts_of_all == ["1n", "5n", "100n", 2.5, 5.0]
    names = ablated_sets(study, "helpful", "hh-test")
    assert [name for name in names if name.startswith("magnitude")][:6] == [
        f"magnitude-{size}" for size in ("p10", "p5", "n100", "p2.5", "n1", "n5")
    ]
    assert Study.model_validate(study.model_dump(mode="json")) == study


@pytest.mark.parametrize(
    ("scorings", "percent", "sets"),
    [
        (["magnitude", "matched-random"], 10, ["magnitude-p10", "matched-random-p10"]),
        (["magnitude", "random"], 5, ["magnitude-p5"]),
        (["magnitude", "matched-random"], 100, ["all"]),
    ],
)
def test_sets_that_are_looked_at_text_by_text(scorings: list[str], percent: int, sets: list[str]) -> None:
    settings = changed("ablation/percent", percent)
    settings["neurons"]["scorings"] = scorings
    assert observed_sets(Study.model_validate(settings)) == sets


PUBLISHED = {"kind": "rm-bench", "hub": "a/b", "revision": "c"}
SWITCHES = {  # place: authors' value, corrected value
    "neurons/magnitude": ("mean", "mean_abs"),
    "analysis/selection": ("authors", "exact"),
    "analysis/shared": ("authors", "intersection"),
    "training/select_on": ("test", "validation"),
    "benchmarks/published/template": ("paper", "hh"),
    "analysis/rm_bench": ("same-style", "strict"),
}


def switches(settings: dict[str, Any]) -> dict[str, str]:
    """What a study makes of each switch."""
    study = Study.model_validate(settings).model_dump()
    return {place: study[s][k] if not more else study[s][k][more[0]] for place in SWITCHES
            for s, k, *more in [place.split("/")]}  # fmt: skip


@pytest.mark.parametrize("compatibility", ["corrected", "authors"])
def test_compatibility_sets_what_the_file_leaves_open(compatibility: str) -> None:
    settings = changed("compatibility", compatibility)
    settings["benchmarks"]["published"] = PUBLISHED
    expected = {place: values[compatibility == "corrected"] for place, values in SWITCHES.items()}
    assert switches(settings) == expected
    for place, values in SWITCHES.items():
        opposite = copy.deepcopy(settings)
        section: Any = opposite
        for key in place.split("/")[:-1]:
            section = section.setdefault(key, {})
        section[place.split("/")[-1]] = values[compatibility == "authors"]
        assert switches(opposite) == expected | {place: values[compatibility == "authors"]}, place


def test_without_compatibility_a_study_is_corrected() -> None:
    assert Study.model_validate(DEFAULT) == Study.model_validate(changed("compatibility", "corrected"))
    authors = Study.model_validate(changed("compatibility", "authors"))
    assert Study.model_validate(authors.analysed()).analysed() == authors.analysed()


MALFORMED: dict[str, dict[str, Any]] = {
    "sections that are none": {"neurons": None, "analysis": [1], "training": "fast", "benchmarks": 3},
    "benchmarks that are none": {"benchmarks": {"a": None, "b": {"kind": ["rm-bench"]}, "c": {"kin": "rm-bench"}}},
    "keys that are none": {"neurons": {1: 2}, "analysis": {None: 0}},
}


@pytest.mark.parametrize("mistake", MALFORMED)
def test_compatibility_leaves_mistakes_to_be_reported(mistake: str) -> None:
    lines = []
    for compatibility in ("corrected", "authors"):
        with pytest.raises(UserError) as caught:
            load_study(DEFAULT | MALFORMED[mistake] | {"compatibility": compatibility}, "f")
        lines.append(str(caught.value).splitlines())
    assert lines[0] == lines[1]
    assert {line.split(":")[1].split(".")[0].strip() for line in lines[0]} == set(MALFORMED[mistake])


@pytest.mark.parametrize("value", ["author", ["authors"], {"authors": 1}, None])
def test_an_unknown_compatibility_is_reported(value: Any) -> None:
    with pytest.raises(UserError, match=r"^f: compatibility: "):
        load_study(DEFAULT | {"compatibility": value}, "f")


GIVEN = {
    "name": "xray",
    "seeds": [0],
    "models": {"mine": {"source": {"kind": "given", "path": "rm"}}},
    "sources": DEFAULT["sources"],
    "regimes": {
        "helpful": {"train": ["synthetic-helpful"], "test": ["synthetic-helpful"]},
        "harmless": {"train": ["synthetic-harmless"], "test": ["synthetic-harmless"]},
        "both": MIXES,
    },
    "benchmarks": {"own-test": {"kind": "regime-test"}},
}
BESIDE_GIVEN: dict[str, tuple[str, Any, str]] = {
    "backbone": ("models/tiny", DEFAULT["models"]["tiny-gpt2"], "models.tiny.source.kind: "),
    "adopted one": ("models/mine/trained", {"both": {0: "."}}, "models.mine.trained: "),
    "seeds": ("seeds", [0, 1], "seeds: "),
    "learning rate": ("training", {"learning_rate": 1e-3}, "training.learning_rate: "),
    "method": ("regimes/soup", MIXES | {"method": "merged", "weights": [0.5, 0.5]}, "regimes.soup.method: "),
    "epochs": ("regimes/helpful/epochs", 3, "regimes.helpful.epochs: "),
    "change": ("neurons", {"scorings": ["magnitude", "change", "random"]}, "give [magnitude, random]"),
    "change alone": ("neurons", {"scorings": ["change"]}, "give [magnitude]"),
    "patching": ("patching", {"benchmarks": ["own-test"]}, "patching: "),
    "kind": ("models/mine/source/kind", "givn", "unknown kind 'givn'; did you mean 'given'?"),
    "template": ("models/mine/source/template", "chatml", "models.mine.source.template: Input should be"),
    "folder": ("models/mine/source/path", "nowhere", "models.mine.source.path: nowhere does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BESIDE_GIVEN)
def test_beside_given_reward_models_nothing_is_trained(mistake: str) -> None:
    path, value, expected = BESIDE_GIVEN[mistake]
    with pytest.raises(UserError) as caught:
        load_study(changed(path, value, GIVEN), "f")
    message = str(caught.value)
    assert message.startswith("f: ") and "\n" not in message and expected in message


def test_the_form_of_a_benchmark_is_that_of_a_given_model() -> None:
    paper = changed("benchmarks/rb", PUBLISHED | {"template": "paper"}, GIVEN)
    Study.model_validate(paper)
    paper["models"]["mine"]["source"]["template"] = "chat"
    with pytest.raises(UserError, match=r"benchmarks.rb.template: .* models.mine.source.template is 'chat'"):
        load_study(paper, "f")


@pytest.mark.parametrize("compatibility", ["corrected", "authors"])
def test_a_given_reward_model_is_one_in_all_regimes(compatibility: str) -> None:
    study = Study.model_validate(
        GIVEN | {"compatibility": compatibility, "conflict": {}, "training": {"max_tokens": 9}}
    )
    assert study.given and study.distinct_regimes() == ["both"]
    assert [regime for regime in study.regimes if compared_objectives(study, regime)] == ["both"]
    assert "change" not in study.neurons.scorings and "magnitude" in study.neurons.scorings
    for part in ((), ("neurons", "training")):  # as jobs are given it, and as those that take less of it
        assert Study.model_validate(study.analysed(*part)).analysed(*part) == study.analysed(*part)
    one = Study.model_validate(GIVEN | {"regimes": {"helpful": GIVEN["regimes"]["helpful"]}})
    assert one.distinct_regimes() == ["helpful"]
    trained = Study.model_validate(DEFAULT)
    assert not trained.given and trained.distinct_regimes() == list(trained.regimes)


def test_a_mixed_regime_has_the_data_of_its_parts() -> None:
    study = Study.model_validate(DEFAULT)
    data = regime_data(study, "helpful-harmless")
    assert data.train == ["synthetic-helpful", "synthetic-harmless"]
    assert data.orientations == {"synthetic-helpful": "helpful", "synthetic-harmless": "harmless"}


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_studies_are_valid(file: Path) -> None:
    Study.model_validate(yaml.safe_load(file.read_text()))


def test_a_study_with_every_method_is_the_same_as_jobs_are_given_it() -> None:
    frozen, merged = {"frozen": "matched"}, {"weights": [[0.5, 0.5], [0, 1]]}
    methods: dict[str, Any] = {"projected": {}, "frozen": frozen, "ensemble": {}, "merged": merged}
    repairs = {method: MIXES | {"method": method} | more for method, more in methods.items()}
    plain = {name: DEFAULT["regimes"][name] for name in ("helpful", "harmless")}
    study = Study.model_validate(changed("regimes", plain | {"helpful-harmless": MIXES} | repairs))
    assert study.repairs() == ["projected", "frozen", "ensemble", "merged-0.5", "merged-0"]
    given = Study.model_validate(study.analysed())
    assert given.regimes == study.regimes
    assert ablated_sets(study, "ensemble", "b") == ["none"] and len(ablated_sets(study, "frozen", "b")) > 20


def test_an_ensemble_cannot_have_been_trained_elsewhere() -> None:
    settings = changed("regimes/both", MIXES | {"method": "ensemble"})
    settings["models"]["tiny-gpt2"]["trained"] = {"both": {0: "x"}}
    with pytest.raises(
        UserError, match=r"^f: models.tiny-gpt2.trained.both: an ensemble has no reward model .*it out$"
    ):
        load_study(settings, "f")


def test_several_weights_are_so_many_regimes() -> None:
    merged = MIXES | {"method": "merged"}
    curve = with_curves(
        {"a": MIXES, "m": merged | {"weights": [[0.25, 0.75], [1, 0]]}, "n": merged | {"weights": [1, 0]}}
    )
    assert {name: regime.get("weights") for name, regime in curve.items()} == {
        "a": None, "m-0.25": [0.25, 0.75], "m-1": [1, 0], "n": [1, 0],
    }  # fmt: skip
    with pytest.raises(PydanticCustomError, match="'m-1' is there more than once"):
        with_curves({"m-1": MIXES, "m": merged | {"weights": [[1, 0]]}})
