"""The documentation lists what the code makes: files, columns and keys, under the same names."""

from __future__ import annotations

import ast
import json
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import polars as pl
import pytest
import torch
import yaml
from example_results import STUDY
from pydantic import TypeAdapter

from rmtension.analysis.claims import CLAIMS
from rmtension.analysis.words import word_scores
from rmtension.base.environment import environment
from rmtension.base.files import write_checksums
from rmtension.data.benchmarks import Readable, read_benchmark
from rmtension.data.comparisons import as_comparisons, read_comparisons, read_judged
from rmtension.data.pairs import regime_pairs
from rmtension.engine.activations import reward_model_statistics
from rmtension.engine.attribution import reward_model_attributions
from rmtension.engine.backbones import make_backbone
from rmtension.engine.conflict import conflict
from rmtension.engine.evaluation import evaluate
from rmtension.engine.lengths import lengths
from rmtension.engine.passages import explore_neurons
from rmtension.engine.patching import patch
from rmtension.engine.reading import load_reader
from rmtension.engine.running_reward import judged_rewards
from rmtension.engine.set_activations import set_activations
from rmtension.engine.training import TrainingRun, train_reward_model
from rmtension.neurons.ranking import PLACE, oriented_sets, rankings, sets_to_frame
from rmtension.report.bindings import check_text
from rmtension.report.figures import FIGURES
from rmtension.running.provenance import KEYS
from rmtension.study.benchmarks import Benchmark, SyntheticBenchmark
from rmtension.study.data import OwnPairs
from rmtension.study.models import MadeModel
from rmtension.study.sources import regime_data
from rmtension.study.stages import Conflict
from rmtension.study.study import Study

ROOT = Path(__file__).parents[2]
DOCS, PACKAGE = ROOT / "docs", ROOT / "src" / "rmtension"
OUTPUTS = (DOCS / "outputs.md").read_text(encoding="utf-8")
STUDIES = (DOCS / "choosing-a-study.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
MODELS = (DOCS / "adding-a-model.md").read_text(encoding="utf-8")
TABLES = runpy.run_path(str(DOCS / "outputs_reference.py"))
PERFORMANCE = runpy.run_path(str(DOCS / "performance_reference.py"))
REFERENCE = runpy.run_path(str(DOCS / "study_reference.py"))
CPU = torch.device("cpu")


def listed(file: str, page: str = OUTPUTS) -> list[list[str]]:
    """Rows of the first table below the heading that names a file; cells without their backticks."""
    [below] = re.findall(rf"^#+ `{re.escape(file)}`\n(.*?)(?=^#|\Z)", page, flags=re.MULTILINE | re.DOTALL)
    rows = below.partition("\n| ")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a study of one tiny reward model, under the names that the documentation gives them."""
    torch.set_num_threads(1)  # for models this small, threads only wait for each other
    root = tmp_path_factory.mktemp("study")
    reward_model = root / "reward_models/{model}/{regime}/seed-{seed}"
    selected = root / "selected/{model}/{regime}/seed-{seed}"
    backbone = root / "backbones/{model}"
    frames: dict[str, pl.DataFrame] = {}
    for split, pairs in regime_pairs(regime_data(STUDY, "helpful")).items():
        frames[f"data/{{regime}}/{split}.parquet"] = pairs
    benchmark = SyntheticBenchmark(kind="synthetic", per_task=1)
    frames["benchmarks/{benchmark}.parquet"] = read_benchmark("b", benchmark, ".")
    for file in [*frames]:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        frames[file].write_parquet(root / file)

    pretraining = {"texts": 20, "epochs": 1}
    source = {"kind": "made", "family": "gpt2", "layers": 1, "width": 8, "heads": 2, "neurons": 8, "vocabulary": 300}
    make_backbone(MadeModel.model_validate(source | {"pretraining": pretraining}), backbone)
    write_checksums(backbone)
    train, validation = root / "data/{regime}/train.parquet", root / "data/{regime}/validation.parquet"
    frozen = root / selected / "frozen.parquet"
    frozen.parent.mkdir(parents=True)
    one = pl.DataFrame({"unit": ["neuron"], "layer": [0], "neuron": [1]}, schema_overrides=PLACE)
    sets_to_frame({"shared": one}).write_parquet(frozen)
    run = TrainingRun(
        backbone, train, validation, code=[], settings=STUDY.training, epochs=1, seed=0, budget=4096, threads=1,
        method="frozen", parts=["a", "b"], frozen=frozen,
    )  # fmt: skip
    train_reward_model(run, root / "checkpoint", reward_model, environment())

    statistics = reward_model_statistics(
        reward_model, backbone, train, STUDY.activations, max_tokens=512, budget=4096, device=CPU
    )
    attributed = reward_model_attributions(
        reward_model, train, STUDY.activations, max_tokens=512, budget=4096, device=CPU
    )
    reward_model_key = ["m", "helpful", "0"]
    ranked = rankings(statistics.neurons, statistics.heads, attributed, STUDY.neurons, "magnitude", reward_model_key)
    sets = sets_to_frame(oriented_sets(ranked, ["magnitude"], [50]))
    test = as_comparisons(pl.read_parquet(root / "data/{regime}/test.parquet"))
    scores = evaluate(reward_model, test, sets, ["none"], previous=None, inputs="", budget=4096, device=CPU)
    activities = set_activations(reward_model, test, sets, ["magnitude-p50"], is_signed=True, budget=4096, device=CPU)
    patched = patch(reward_model, {"helpful": reward_model}, test, sets, ["magnitude-p50"], 4096, "float32", CPU)
    held_out = {"helpful": root / "data/{regime}/test.parquet"}
    two = [("helpful", "helpful")]
    gradients = conflict(reward_model, held_out, two, Conflict(), max_tokens=512, budget=4096, device=CPU)
    pairs = read_comparisons(train)
    explored = explore_neurons(reward_model, test, one, most=1, budget=4096, device=CPU)
    judged = read_judged({"b": [str(root / "benchmarks/{benchmark}.parquet")]})
    for file, frame in {
        "words/{regime}.parquet": word_scores(pairs, pairs, judged),
        "lengths/{model}.parquet": lengths(load_reader(backbone), judged),
        "activations/{model}/{regime}/seed-{seed}.parquet": statistics.neurons,
        "activations/{model}/{regime}/seed-{seed}/heads.parquet": statistics.heads,
        "attributions/{model}/{regime}/seed-{seed}.parquet": attributed,
        "neurons/{model}/{regime}/seed-{seed}.parquet": ranked,
        f"{selected.relative_to(root)}.parquet": sets,
        f"{selected.relative_to(root)}/sets.parquet": sets,
        "set_activations/{model}/{regime}/seed-{seed}.parquet": activities,
        "passages/{model}/{regime}/seed-{seed}.parquet": explored.passages,
        "passages/{model}/{regime}/seed-{seed}/scores.parquet": explored.scores,
        "running_rewards/{model}/{regime}/seed-{seed}.parquet": judged_rewards(reward_model, judged, 4096, CPU),
        "scores/{model}/{regime}/seed-{seed}/{benchmark}.parquet": scores,
        "patched/{model}/{regime}/seed-{seed}/{benchmark}.parquet": patched,
        "conflicts/{model}/{regime}/seed-{seed}.parquet": gradients,
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(root / file)
    return root


def parquet_files(root: Path) -> list[str]:
    return sorted(str(file.relative_to(root)) for file in root.rglob("*.parquet"))


def test_every_parquet_file_has_its_heading(made: Path) -> None:
    # The splits of a regime share one heading.
    splits = r"(?<=data/\{regime\}/)(train|validation|test)(?=\.parquet)"
    files = {re.sub(splits, "{split}", file) for file in parquet_files(made)}
    files |= {f"tables/{name}.parquet" for name in TABLES["tables"]()}
    assert set(re.findall(r"^#+ `(.*\.parquet)`$", OUTPUTS, flags=re.MULTILINE)) == files


def test_the_reference_of_tables_is_up_to_date() -> None:
    assert TABLES["renewed"](OUTPUTS) == OUTPUTS, "run python docs/outputs_reference.py"


def test_columns_and_types_are_those_of_the_files(made: Path) -> None:
    for file in parquet_files(made):
        heading = re.sub(r"^(data/\{regime\}/)(?!hygiene).*", r"\1{split}.parquet", file)
        columns = [tuple(row[:2]) for row in listed(heading)]
        assert columns == [(name, str(kind)) for name, kind in pl.read_parquet_schema(made / file).items()], file


def test_a_reward_model_folder_holds_the_listed_files(made: Path) -> None:
    folder = "reward_models/{model}/{regime}/seed-{seed}/"
    assert {row[0] for row in listed(folder)} == {file.name for file in (made / folder).iterdir()}


def test_provenance_has_the_listed_keys(made: Path) -> None:
    file = "reward_models/{model}/{regime}/seed-{seed}/provenance.json"
    content = json.loads((made / file).read_text())
    nested = {part: values if isinstance(values, dict) else {"": values} for part, values in content.items()}
    keys = [f"{part}.{key}".rstrip(".") for part, values in nested.items() for key in values]
    assert [row[0] for row in listed(file)] == keys


def test_a_record_has_the_listed_keys() -> None:
    assert {row[0].partition(".")[0] for row in listed("provenance/{job}.json")} == KEYS


def test_every_key_of_a_study_is_described() -> None:
    rows = re.findall(r"^\| (\S+?) .*?\| `(\w+)` \|", STUDIES, flags=re.MULTILINE)
    for place, section in REFERENCE["sections"]("", Study):
        assert {key for named, key in rows if named == (place or "top")} >= set(section.model_fields), place


@pytest.mark.parametrize("page", REFERENCE["PAGES"], ids=lambda page: page.name)
def test_the_reference_of_study_keys_is_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert REFERENCE["renewed"](text) == text, "run python docs/study_reference.py"


def test_what_is_deployed_is_the_default_study() -> None:
    assert (ROOT / "config" / "config.yaml").readlink() == Path("../config.yaml")


def test_the_pages_of_performance_are_up_to_date() -> None:
    page, notes = ((DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("performance", "performance-notes"))
    results = PERFORMANCE["read_results"](PERFORMANCE["RESULTS"])
    assert PERFORMANCE["renewed"](page, results) == page, "run python docs/performance_reference.py"
    assert PERFORMANCE["with_generated"](notes, PERFORMANCE["trials"](results)) == notes


def test_padded_costs_are_of_each_text_at_full_length() -> None:
    """Of 5 comparisons of 6 texts: 30 sequences of 1,024 tokens; 2 layers of width 3, 10 weights."""
    size = PERFORMANCE["PaddedSize"](parameters=99, computing=10, width=3, layers=2, neurons=7, heads=1)
    assert size.forward([(5, 321.0, 6)]) == 30 * 1024 * (2 * 10 + 2 * 2 * 3 * 1024)


def test_the_page_of_performance_says_what_a_result_says(tmp_path: Path) -> None:
    """The last line of a benchmark counts; rates are of the middle turn."""
    side = {
        "settings": "s",
        "difference": 1e-6,
        "tokens": 900,
        "gpu": None,
        "versions": {"torch": "2.13.0"},
        "import_seconds": [1, 1],
        "load_seconds": [1, 3],
        "peak_memory": [2e9, 1e9],
        "peak_gpu_memory": [0, 0],
    }
    line = {
        "benchmark": "ablation", "backbone": "b", "device": "cpu", "threads": 2, "python": "3.11", "date": "2026-01-02",
        "commit": "0123456789abcdef", "machine": {"processor": "P", "cores": 2, "memory_gb": 8.0}, "load_average": 0.1,
        "data": "D", "comparisons": 6, "passes": 4, "text_tokens": 600, "tolerance": 1e-4,
        "ratios": {"usual": 9.5}, "limit": {"rate": 6e10, "matmul_rate": 8e10, "share": 0.75, "goal": 0.7},
        "sides": {"ours": side | {"goal": None, "seconds": [1, 3]}, "usual": side | {"goal": 10, "seconds": [37, 35]},
                  "limit": side | {"goal": None, "seconds": [1, 1]}},
    }  # fmt: skip
    lines = [line | {"ratios": {"usual": 11.0}}, line]
    (tmp_path / "ablation.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    made = PERFORMANCE["measurements"](PERFORMANCE["read_results"](tmp_path))
    assert "| ours (s) | 2.0 (1.0, 3.0) | 2.0 | 12.00 | 1,200 | 900 | 2.00 | - | 1 |" in made
    assert "| usual (s) | 36.0 (37.0, 35.0) | 2.0 | 0.67 | 67 | 900 | 2.00 | - | 9.50 |" in made
    assert "| Ablations: D; b, cpu | usual | 9.50 times | 12.67 | 10, **missed** |" in made
    assert "| Ablations: D; b, cpu | the machine's limit | 75% | - | 70%, reached |" in made
    assert "0.060 TFLOP/s" in made and "at 0.080: 75%." in made
    assert "No results yet: train, statistics," in made


def test_the_examples_of_backbones_are_valid() -> None:
    [example] = re.findall(r"^```yaml\n(.*?)^```", MODELS, flags=re.MULTILINE | re.DOTALL)
    models = Study.model_validate(STUDY.model_dump() | yaml.safe_load(example)).models
    assert {model.source.kind for model in models.values()} == {"made", "pretrained", "gguf"}


def test_the_example_of_a_study_is_valid() -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", STUDIES, flags=re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        Study.model_validate(yaml.safe_load(example))


def test_the_example_of_an_own_benchmark_is_read(tmp_path: Path) -> None:
    page = (DOCS / "adding-a-benchmark.md").read_text(encoding="utf-8")
    [rows] = re.findall(r"^```json\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    study, tests, more = map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL))
    benchmark: Readable = TypeAdapter(Readable).validate_python(study["benchmarks"]["mine"])
    assert TypeAdapter(Benchmark).validate_python(tests["benchmarks"]["all-tests"]).kind == "all-tests"
    assert OwnPairs.model_validate(more["sources"]["mine"]).columns.prompt is None
    (tmp_path / "mine.jsonl").write_text(rows, encoding="utf-8")
    frame = read_benchmark("mine", benchmark, str(tmp_path))
    assert frame.select("task", "orientation").rows() == [("crafts", "helpful"), ("crime", "harmless")]
    assert frame["rejected"].list.len().to_list() == [2, 1]


def test_the_example_of_a_published_benchmark_is_the_codes() -> None:
    page = (DOCS / "adding-a-benchmark.md").read_text(encoding="utf-8")
    layout, line = map(dedent, re.findall(r"^ +```python\n(.*?)^ +```", page, flags=re.MULTILINE | re.DOTALL))
    assert layout == (PACKAGE / "data" / "layouts" / "rm_bench.py").read_text(encoding="utf-8")
    assert line.strip() in (PACKAGE / "study" / "benchmarks.py").read_text(encoding="utf-8")


# --- architecture.md --------------------------------------------------------------------------------------------


def defined(file: Path) -> set[str]:
    """Classes, functions and constants of a Python file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assigned = [node.targets[0] if isinstance(node, ast.Assign) else node.target for node in tree.body
                if isinstance(node, ast.Assign | ast.AnnAssign)]  # fmt: skip
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return named | {target.id for target in assigned if isinstance(target, ast.Name)}


def imports_of_wings() -> Iterator[tuple[str, str]]:
    """Wing that imports, wing that is imported."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rmtension."):
                yield file.relative_to(PACKAGE).parts[0].removesuffix(".py"), str(node.module).split(".")[1]


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.stem)
def test_bound_numbers_are_those_of_committed_tables(page: Path) -> None:
    checked = check_text(page, None)
    assert [*checked.wrong, *checked.faults] == []


def test_every_place_that_the_architecture_names_is_there() -> None:
    places = re.findall(r"`([\w./-]+/[\w.-]*|\w+\.py)(?::(\w+))?`", ARCHITECTURE)
    assert len(places) > 50
    for path, name in places:
        file = next((folder / path for folder in (PACKAGE, ROOT) if (folder / path).exists()), None)
        assert file, path
        assert not name or name in defined(file), f"{path}:{name}"


def test_the_wings_are_drawn_as_they_import() -> None:
    [drawn] = re.findall(r"^flowchart TD\n(.*?)^```", ARCHITECTURE, flags=re.MULTILINE | re.DOTALL)
    arrows = {(one, below) for one, many in re.findall(r"(\w+) --> (.+)", drawn) for below in many.split(" & ")}
    found = {(one, below) for one, below in imports_of_wings() if one != below}
    assert arrows == {pair for pair in found if pair[1] != "base"} | {("study", "base")}
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    wings = [wing for layer in layers for wing in layer.split(" | ")]
    assert re.findall(r"^\| `(\w+)` \|", ARCHITECTURE.partition("| wing |")[2].partition("\n\n")[0], re.M) == wings


def rules() -> Iterator[tuple[str, str, str]]:
    """Name, file and text of every rule that runs a script."""
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        _, *parts = re.split(r"^rule (\w+):", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        yield from (
            (name, str(file.relative_to(ROOT)), text) for name, text in zip(parts[::2], parts[1::2], strict=True)
        )


def column_of(page: str, head: str, column: int) -> str:
    """What stands in one column of the table with this head."""
    _, _, *lines = page[page.index(head) :].partition("\n\n")[0].splitlines()
    return ", ".join(line.split("|")[column].strip() for line in lines)


def test_every_rule_is_in_each_list_of_rules() -> None:
    every = sorted({name for name, *_ in rules()})
    cluster = (DOCS / "cluster.md").read_text(encoding="utf-8")
    assert sorted(column_of(cluster, "| jobs | where |", 1).split(", ")) == every
    assert sorted(re.findall(r"`(\w+)`", column_of(OUTPUTS, "| stage | rule |", 2))) == every
    on_gpus = {name for name, _, text in rules() if "gpu=" in text}
    profile = (ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    assert {*re.findall(r"^  (?:# )?(\w+):$", profile.partition("set-resources:")[2], flags=re.MULTILINE)} == on_gpus


def test_every_figure_and_claim_has_its_row() -> None:
    figures = OUTPUTS.partition("| figure | paper |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]+)\|", figures, flags=re.MULTILINE)
    tables = {name: {*re.findall(r"`(\w+)", cell)} for name, cell in rows}
    assert tables.keys() == FIGURES.keys()
    assert [name for name, of in tables.items() if of and of != {*FIGURES[name].tables}] == []
    [row] = re.findall(r"^\| `claim` \|.*", OUTPUTS, flags=re.MULTILINE)
    spans = re.findall(r"`([A-Z])(\d+)`(?: to `[A-Z](\d+)`)?", row)
    named = {f"{kind}{i}" for kind, first, last in spans for i in range(int(first), int(last or first) + 1)}
    assert named == CLAIMS.keys()


def test_every_rule_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\S+\.smk)` \| `(\S+\.py)` \| (.+) \|$", ARCHITECTURE, flags=re.MULTILINE)
    texts = {(name, file): text for name, file, text in rules()}
    assert {(name, file) for name, file, *_ in rows} == texts.keys()
    for name, file, script, calls in rows:
        assert f"../{script.removeprefix('workflow/')}" in texts[name, file]
        called = re.findall(r":(\w+)`", calls)
        assert called and all(f"{one}(" in (ROOT / script).read_text(encoding="utf-8") for one in called), name


# --- links and paths --------------------------------------------------------------------------------------------

PAGES = [page for folder in (ROOT, DOCS, ROOT / "config", ROOT / "findings") for page in sorted(folder.glob("*.md"))]


def heading(line: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        headings = re.findall(r"^#+ .*$", file.read_text(encoding="utf-8"), re.M) if anchor else []
        assert not anchor or anchor in map(heading, headings), f"{target}#{anchor}"


def test_the_layout_in_the_readme_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [layout] = re.findall(r"^## Layout\n\n```\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    top, wings = (set(re.findall(rf"^ {{{indent}}}(\S+)", layout, re.M)) for indent in (0, 2))
    assert {name for name in top - {"hub/", "results/"} if not (ROOT / name).exists()} == set()
    assert wings == {f"{one.name}/" for one in PACKAGE.iterdir() if (one / "__init__.py").exists()} | {"cli.py"}
