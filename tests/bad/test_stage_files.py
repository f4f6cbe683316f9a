"""What earlier stages left, damaged or of another version: the stage that reads it names file and column."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from example_cards import STUDY as CARDS_STUDY
from example_cards import write_study
from example_results import STUDY
from safetensors.torch import load_file, save_file

from bad import both, refused, save_models
from rmtension.analysis.loading import load_scores, load_stage
from rmtension.base.files import write_checksums
from rmtension.data.tasks import known_tasks
from rmtension.engine.evaluation import SCHEMA, read_previous
from rmtension.neurons.ranking import RANKINGS, SETS, STATISTICS, oriented_sets
from rmtension.running import jobs
from rmtension.study.scorings import Neurons
from rmtension.study.stages import Activations, Training
from rmtension.study.study import VALIDATION

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
RM = ["tiny", "helpful", "0"]


@pytest.fixture(autouse=True)
def _no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    job = SimpleNamespace(finish=lambda *_device: None)
    monkeypatch.setattr(jobs, "start", lambda *_arguments, **_more: job)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_models("gpt2", folder)
    write_checksums(folder / "reward_model")
    return folder


TEXTS = ["\n\nHuman: a?\n\nAssistant: b", "\n\nHuman: a?\n\nAssistant: c"]
WORDS = {name: [name] for name in ("comparison_id", "source", "orientation")}
PLACES = {"layer": [0, 0, 1, 1], "neuron": [0, 1, 0, 1]}
UNITS = {"unit": ["neuron"] * 4, **PLACES}
FILES = {
    "pairs": pl.DataFrame(WORDS | {"chosen": TEXTS[:1], "rejected": TEXTS[1:]}),
    "comparisons": pl.DataFrame(
        {"comparison_id": ["b/0"], "task": ["t"], "orientation": ["o"], "chosen": [TEXTS[:1]], "rejected": [TEXTS[1:]]}
    ),
    "statistics": pl.concat(
        pl.DataFrame(PLACES)
        .with_columns(pl.lit(0.5).alias(name) for name in STATISTICS if name not in PLACES)
        .with_columns(response=pl.lit(side), n_tokens=pl.lit(9))
        for side in ("chosen", "rejected")
    ),
    "heads": pl.DataFrame({"layer": [0, 1], "head": [0, 0], "response": ["chosen"] * 2, "mean_norm": [1.0, 2.0]}),
    "attributions": pl.DataFrame(
        UNITS | {"attribution": [1.0, -2.0, 0.5, 0.0], "attribution_abs": [1.0, 2.0, 0.5, 0.1]}
    ),
    "rankings": pl.DataFrame(UNITS | {"scoring": ["mean"] * 4, "score": [4.0, 3.0, 2.0, 1.0], "rank": [1, 2, 3, 4]}),
    "sets": pl.DataFrame({"ablation": ["mean-p50"] * 4} | UNITS),
}


UNREPAIRED: dict[str, object] = {"method": "joint", "parts": [], "objectives": {}}


def stages(folder: Path, models: Path) -> dict[str, dict[str, Any]]:
    """Script -> what Snakemake would hand it."""
    file = {name: str(folder / f"{name}.parquet") for name in FILES}
    compute = {"budget": 99, "threads": 1, "gpus": 0}
    training = compute | {"training": Training().model_dump(), "epochs": 1}
    judged = {"judged": {"own": [file["pairs"]], "b": [file["comparisons"]]}}
    inference = compute | {"precision": "float32"}
    activations = inference | {"activations": Activations().model_dump(), "max_tokens": 99}
    neurons = Neurons.model_validate({"scorings": ["mean", "head-norm", "attribution"]}).model_dump()
    rm, backbone = (str(models / name / "checksums.json") for name in ("reward_model", "backbone"))
    return {
        "train.py": {
            "input": {"backbone": backbone, "train": file["pairs"], "validation": file["pairs"], "code": []},
            "settings": training | UNREPAIRED | {"sharded": False, "checkpoint": str(folder / "checkpoint")},
            "resources": {"checkpoint_minutes": 0},
        },
        "activations.py": {
            "input": {"reward_model": rm, "backbone": backbone, "pairs": file["pairs"]},
            "settings": activations | {"standing": None},
        },
        "attribution.py": {"input": {"reward_model": rm, "pairs": file["pairs"]}, "settings": activations},
        "neurons.py": {
            "input": {"activations": file["statistics"], "heads": file["heads"], "attributions": file["attributions"]},
            "settings": {"neurons": neurons, "target": ""},
        },
        "select_sets.py": {
            "input": {"neurons": file["rankings"], "parts": [], "activations": file["statistics"]},
            "settings": {"scorings": ["mean"], "percent": 50, "tension": {}, "draws": 1, "random_seed": 0},
        },
        "select_swept.py": {
            "input": {"sets": file["sets"], "neurons": file["rankings"]},
            "settings": {"scorings": ["mean"], "sweep": [50]},
        },
        "lengths.py": {"input": {"backbone": backbone}, "settings": judged},
        "words.py": {"input": {"train": file["pairs"], "validation": file["pairs"]}, "settings": judged},
        "set_activations.py": {
            "input": {"reward_model": rm, "pairs": file["pairs"], "selected": file["sets"]},
            "settings": inference | {"sets": ["mean-p50"], "is_signed": True},
        },
        "evaluate.py": {
            "input": {"reward_model": rm, "comparisons": file["comparisons"], "selected": file["sets"]}
            | {"activations": [], "code": []},
            "settings": inference | {"ablations": ["none", "mean-p50"], "checkpoint": str(folder / "halfway.pt")},
            "resources": {"checkpoint_minutes": 10},
        },
    }


class Wildcards(list[str]):
    seed, benchmark = "0", "b"


class Output(list[str]):
    neurons, heads = property(lambda self: self[0]), property(lambda self: self[1])


def run(script: str, folder: Path, models: Path) -> list[Path]:
    """A stage as Snakemake runs it; its outputs."""
    stage = stages(folder, models)[script]
    given = {part: SimpleNamespace(**values) for part, values in stage.items() if part != "settings"}
    given["params"] = SimpleNamespace(settings=stage["settings"])
    outputs = [folder / "out" / "checksums.json", folder / "out-heads"]
    log = [str(folder / "log")]
    snakemake = SimpleNamespace(**given, output=Output(map(str, outputs)), wildcards=Wildcards(RM), log=log)
    runpy.run_path(str(SCRIPTS / script), init_globals={"snakemake": snakemake})
    return outputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, frame in FILES.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


@pytest.mark.parametrize("script", ["train.py", "activations.py", "attribution.py", "neurons.py", "select_sets.py",
                                    "select_swept.py", "lengths.py", "words.py", "set_activations.py",
                                    "evaluate.py"])  # fmt: skip
def test_a_stage_reads_good_files(script: str, folder: Path, models: Path) -> None:
    assert run(script, folder, models)[0].exists()


def change(expression: pl.Expr) -> Callable[[Path], None]:
    return lambda file: pl.read_parquet(file).with_columns(expression).write_parquet(file)


def drop(column: str) -> Callable[[Path], None]:
    return lambda file: pl.read_parquet(file).drop(column).write_parquet(file)


VERSION = r"made by another version of the project\? delete it and start again"
DAMAGED = r"cannot be read \(.*\): delete it and start again"
# stage, file, how it is spoilt, what is said of the file
FAULTS: dict[str, tuple[str, str, Callable[[Path], Any], str]] = {
    "cut off": ("neurons.py", "statistics", lambda f: f.write_bytes(f.read_bytes()[:-30]), DAMAGED),
    "empty": ("select_sets.py", "rankings", lambda f: f.write_bytes(b""), DAMAGED),
    "text": ("evaluate.py", "sets", lambda f: f.write_text("sets"), DAMAGED),
    "zero bytes": ("train.py", "pairs", lambda f: f.write_bytes(bytes(999)), DAMAGED),
    "folder": ("evaluate.py", "comparisons", both(Path.unlink, Path.mkdir), "cannot be read "),
    "gone": ("neurons.py", "heads", Path.unlink, "no such file; run the stage that makes it first"),
    "pairs without a side": ("train.py", "pairs", drop("rejected"), "column 'rejected' is missing; found .*" + VERSION),
    "pairs to take words from": ("words.py", "pairs", drop("chosen"), "column 'chosen' is missing; found .*" + VERSION),
    "judged, cut off": ("lengths.py", "comparisons", lambda f: f.write_bytes(f.read_bytes()[:-30]), DAMAGED),
    "judged without a task": ("words.py", "comparisons", drop("task"), "column 'task' is missing; .*" + VERSION),
    "sets of other columns": ("set_activations.py", "sets", drop("layer"), "column 'layer' is missing; .*" + VERSION),
    "pairs of numbers": (
        "activations.py",
        "pairs",
        change(pl.lit(1).alias("chosen")),
        "column 'chosen' is Int32, not Str",
    ),
    "pairs, none": (
        "train.py",
        "pairs",
        lambda f: FILES["pairs"].clear().write_parquet(f),
        "no rows: delete it and sta",
    ),
    "comparisons without a task": (
        "evaluate.py",
        "comparisons",
        drop("task"),
        "column 'task' is missing; .*" + VERSION,
    ),
    "comparisons of pairs": (
        "evaluate.py",
        "comparisons",
        change(pl.col("chosen").list.first()),
        r"column 'chosen' is String, not List\(",
    ),
    "statistics without a column": ("neurons.py", "statistics", drop("change_rms"), "column 'change_rms' is missing;"),
    "statistics, another type": (
        "neurons.py",
        "statistics",
        change(pl.col("mean").cast(pl.String)),
        "column 'mean' is String, not Float64;",
    ),
    "heads without a column": ("neurons.py", "heads", drop("mean_norm"), "column 'mean_norm' is missing; .*" + VERSION),
    "attributions without a column": (
        "neurons.py",
        "attributions",
        drop("attribution_abs"),
        "column 'attribution_abs' i",
    ),
    "rankings without heads": ("select_sets.py", "rankings", drop("unit"), "column 'unit' is missing; .*" + VERSION),
    "rankings without a rank": ("select_swept.py", "rankings", drop("rank"), "column 'rank' is missing; .*" + VERSION),
    "sets without names": ("select_swept.py", "sets", drop("ablation"), "column 'ablation' is missing; .*" + VERSION),
    "sets of an older version": ("evaluate.py", "sets", drop("unit"), "column 'unit' is missing; .*" + VERSION),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stage_names_a_bad_file(fault: str, folder: Path, models: Path) -> None:
    script, name, spoil, expected = FAULTS[fault]
    file = folder / f"{name}.parquet"
    spoil(file)
    with refused(f"^{file}: {expected}", folder):
        run(script, folder, models)


def test_numbers_may_be_of_another_size(folder: Path, models: Path) -> None:
    change(pl.col("layer").cast(pl.Int16))(folder / "sets.parquet")
    assert run("evaluate.py", folder, models)[0].exists()


def test_scores_that_cannot_be_read_are_computed_anew(folder: Path, models: Path) -> None:
    [scores, _] = run("evaluate.py", folder, models)
    whole = scores.read_bytes()
    for damaged in (b"", whole[:-9], b"PAR1"):
        scores.write_bytes(damaged)
        assert read_previous(scores) is None
        run("evaluate.py", folder, models)
        assert scores.read_bytes() == whole


@pytest.mark.parametrize("script", ["activations.py", "attribution.py"])
def test_statistics_of_texts_that_are_all_too_long_are_one_line(script: str, folder: Path, models: Path) -> None:
    change(pl.lit("long " * 999).alias("chosen"))(folder / "pairs.parquet")
    with refused(rf"^{folder}/pairs\.parquet: none of \d+ pairs is within training\.max_tokens = 99 and", folder):
        run(script, folder, models)


def test_comparisons_that_are_all_too_long_are_one_line(folder: Path, models: Path) -> None:
    change(pl.lit(["long " * 9999]).alias("chosen"))(folder / "comparisons.parquet")
    read = r"reward_model, which reads 2048 tokens, can read none of these \d+ comparisons"
    with refused(rf"^{folder}/comparisons\.parquet: .*{read}: take their benchmark or the model out of", folder):
        run("evaluate.py", folder, models)


def test_a_validation_split_that_is_all_too_long_has_no_scores(
    folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is judged on it: a study does without its temperatures."""
    monkeypatch.setattr(Wildcards, "benchmark", VALIDATION)
    change(pl.lit(["long " * 9999]).alias("chosen"))(folder / "comparisons.parquet")
    scores = pl.read_parquet(run("evaluate.py", folder, models)[0])
    assert scores["ablation"].to_list() == ["none", "mean-p50"] and scores.schema == SCHEMA
    assert scores.select("chosen_scores", "rejected_scores", "correct").null_count().row(0) == (2, 2, 2)


@pytest.mark.parametrize(
    ("tensor", "script", "expected"),
    [
        (
            "score.weight",
            "evaluate.py",
            r"\d rewards are not finite: train it anew with a lower training\.learning_rate",
        ),
        (
            "transformer.h.0.mlp.c_fc.weight",
            "activations.py",
            "its activations are not finite: train it anew with a lo",
        ),
        (
            "transformer.h.0.mlp.c_fc.weight",
            "attribution.py",
            "its attributions are not finite: train it anew with a lo",
        ),
    ],
)
def test_what_overflows_does_not_pass_for_a_result(
    tensor: str, script: str, expected: str, folder: Path, models: Path
) -> None:
    """Weights that are finite, with results that are not."""
    shutil.copytree(models, folder / "models")
    file = folder / "models/reward_model/model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {tensor: tensors[tensor].sign() * 3e38}, file, metadata={"format": "pt"})
    with refused(f"^{file.parent}: {expected}", folder):
        run(script, folder, folder / "models")


def test_a_set_without_a_neuron_is_one_line() -> None:
    expected = "^ablation: 10 % of 4 neurons by 'mean' are none: give a greater percent"
    with refused(expected, Path("/nowhere")):
        oriented_sets(FILES["rankings"], ["mean"], [50, 10])


# --- tables and cards -----------------------------------------------------------------------------------------

STAGES = {"neurons": RANKINGS, "selected": SETS, "activations": STATISTICS, "scores": SCHEMA}


@pytest.mark.parametrize("stage", STAGES)
def test_tables_name_a_file_of_an_older_version(stage: str, tmp_path: Path) -> None:
    columns = STAGES[stage]
    for column in [name for name in columns if name not in ("correct", "precision", "fingerprint")]:
        file = (
            tmp_path / stage / "zebra/helpful" / ("seed-7/own-test.parquet" if stage == "scores" else "seed-7.parquet")
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(schema=columns).drop(column).write_parquet(file)
        with refused(f"^{file}: column '{column}' is missing; found .*{VERSION}", tmp_path):
            load_scores(tmp_path, STUDY) if stage == "scores" else load_stage(tmp_path, STUDY, stage, columns)


def edit_json(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def edit(file: Path) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


ONE = "reward_models/gpt2/helpful/seed-5"
OTHER = "not as this version of the project makes it "
CARDS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "provenance without a setting": (
        f"{ONE}/provenance.json",
        edit_json(lambda p: p["settings"]["training"].pop("keep")),
        OTHER + r"\('keep' is missing or not known\): delete",
    ),
    "provenance without a section": (
        f"{ONE}/provenance.json",
        edit_json(lambda p: p.pop("device")),
        OTHER + r"\('device'",
    ),
    "provenance that is a list": (f"{ONE}/provenance.json", lambda f: f.write_text("[]"), OTHER),
    "provenance cut off": (
        f"{ONE}/provenance.json",
        lambda f: f.write_text("{"),
        r"cannot be read \(Expecting property",
    ),
    "log without losses": (f"{ONE}/training.parquet", drop("validation_loss"), "column 'validation_loss' is missing"),
    "hygiene without counts": ("data/helpful/hygiene.parquet", drop("n"), "column 'n' is missing; .*" + VERSION),
    "benchmark cut off": ("benchmarks/bench.parquet", lambda f: f.write_bytes(f.read_bytes()[:-5]), DAMAGED),
    "pairs without a source": ("data/both/test.parquet", drop("source"), "column 'source' is missing; .*" + VERSION),
    "backbone without settings": ("backbones/gpt2/config.json", lambda f: f.write_text("[]"), OTHER),
    "backbone without layers": (
        "backbones/gpt2/config.json",
        edit_json(lambda c: c.pop("n_layer")),
        "says neither num_hidden_layers nor n_layer; give",
    ),
}


@pytest.mark.parametrize("case", CARDS)
def test_cards_name_a_bad_file(case: str, tmp_path: Path) -> None:
    name, spoil, expected = CARDS[case]
    file = write_study(tmp_path / "results") / name
    spoil(file)
    stage, card = ("data_cards", "data_card") if case == "pairs without a source" else ("cards", "models_card")
    output = SimpleNamespace(parquet=[str(tmp_path / f"results/tables/{card}.parquet")])
    snakemake = SimpleNamespace(
        output=output, params=SimpleNamespace(settings={"study": CARDS_STUDY.analysed()}), log=["log"]
    )
    with refused(f"^{file}: {expected}", tmp_path):
        runpy.run_path(str(SCRIPTS / f"{stage}.py"), init_globals={"snakemake": snakemake})


# --- files of the project that users edit ---------------------------------------------------------------------

TASKS = {
    "column that is missing": ("benchmark,subset\nrm-bench,chat\n", "column 'task' is missing"),
    "number that is none": (
        "benchmark,subset,task,orientation,n_prompts\nrm-bench,chat,Chat,helpful,many\n",
        "column 'n_prompts' is String",
    ),
    "nothing": ("", r"cannot be read \("),
}


@pytest.mark.parametrize("case", TASKS)
def test_a_broken_list_of_tasks_is_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, expected = TASKS[case]
    file = tmp_path / "tasks.csv"
    file.write_text(content)
    monkeypatch.setattr("rmtension.data.tasks.OTHER_TASKS_FILE", file)
    with refused(f"^{file}: {expected}", tmp_path):
        known_tasks("rm-bench")
