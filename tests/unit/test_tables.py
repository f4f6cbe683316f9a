from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rmtension.errors import UserError
from rmtension.study import Study
from rmtension.tables import as_latex, as_markdown, load_scores, make_tables, readable, write_table

MADE = {"kind": "made", "family": "gpt2", "layers": 4, "width": 8, "heads": 2, "neurons": 5,
        "pretraining": {"texts": 1, "epochs": 1}}  # fmt: skip
SYNTHETIC = {"kind": "synthetic", "train": 9, "test": 9}
STUDY = Study.model_validate({
    "name": "example",
    "seeds": [7, 3],
    "models": {"zebra": {"source": MADE}, "ape": {"source": MADE}},
    "sources": {o: SYNTHETIC | {"objective": o} for o in ("helpful", "harmless")},
    "regimes": {
        "helpful": {"train": ["helpful"], "test": ["helpful"]},
        "harmless": {"train": ["harmless"], "test": ["harmless"]},
        "mixed": {"mixes": ["helpful", "harmless"]},
    },
    "neurons": {"scorings": ["magnitude", "random"]},
    "ablation": {"percent": 20, "sweep": [20, 100], "sweep_benchmarks": ["own-test"]},
    "benchmarks": {"own-test": {"kind": "regime-test"}, "shared": {"kind": "synthetic", "per_task": 4}},
})  # fmt: skip

# Of four comparisons so many are right: without ablation, and under an ablation for seeds 7 and 3.
BASELINE = 3
RIGHT = {"magnitude-p20": (1, 2), "random-p20": (3, 3), "all": (0, 0),
         "shared": (2, 0), "helpful-only": (3, 2), "harmless-only": (3, 4)}  # fmt: skip
TASKS = {"Tact & <tone>": "harmless", "focus_50%": "helpful", "aim": "helpful"}


def scored(keys: tuple[Any, ...], ablation: str, task: str, orientation: str) -> pl.DataFrame:
    model, regime, seed, benchmark = keys
    right = RIGHT[ablation][STUDY.seeds.index(seed)] if ablation in RIGHT else BASELINE
    right += ablation == "none" and task == "aim"
    return pl.DataFrame({
        "model": model, "regime": regime, "seed": seed, "benchmark": benchmark, "ablation": ablation,
        "task": task, "orientation": orientation,
        "comparison_id": [str(i) for i in range(5)], "correct": [*(i < right for i in range(4)), None],
    })  # fmt: skip


def example() -> tuple[pl.DataFrame, pl.DataFrame]:
    scores, neurons = [], []
    for model, regime, seed in product(["ape", "zebra"], STUDY.regimes, STUDY.seeds):
        own = STUDY.regimes[regime].mixes or [regime]
        swept = ["none", "magnitude-p20", "random-p20", "all"]
        scores += [scored((model, regime, seed, "own-test"), a, o, o) for a in swept for o in own]
        ablations = ["none", "magnitude-p20", "random-p20"]
        ablations += ["shared", "helpful-only", "harmless-only"] if len(own) == 2 else []
        scores += [scored((model, regime, seed, "shared"), a, t, o) for a in ablations for t, o in TASKS.items()]
        # Four layers of five neurons: the top 20 % are four, of layers 3, 3, 2, 0, or one of each.
        for scoring, top in {"magnitude": [3, 3, 2, 0], "random": [0, 1, 2, 3]}.items():
            rest = [layer for layer in range(4) for _ in range(5 - top.count(layer))]
            ranked = pl.DataFrame({"layer": [*top, *rest]}).with_row_index("rank", offset=1)
            key = {"model": model, "regime": regime, "seed": seed, "scoring": scoring}
            neurons.append(ranked.select(*[pl.lit(v).alias(k) for k, v in key.items()], "layer", "rank"))
    return pl.concat(scores), pl.concat(neurons)


TABLES = make_tables(*example(), STUDY)


def row(table: str, **keys: Any) -> dict[str, Any]:
    return TABLES[table].row(by_predicate=pl.all_horizontal(pl.col(k) == v for k, v in keys.items()), named=True)


def test_rows_follow_the_study_and_tasks_the_data_with_averages_last() -> None:
    table = TABLES["accuracy"]
    assert table["model"].unique(maintain_order=True).to_list() == ["zebra", "ape"]
    assert table["regime"].unique(maintain_order=True).to_list() == ["helpful", "harmless", "mixed"]
    tasks = table.filter(model="zebra", regime="mixed").select("orientation", "task").rows()
    assert tasks == [("helpful", "focus_50%"), ("helpful", "aim"), ("helpful", "average"),
                     ("harmless", "Tact & <tone>"), ("harmless", "average")]  # fmt: skip


def test_deltas_are_taken_within_a_seed() -> None:
    # focus: 75 to 25 and to 50; aim: 100 to 25 and to 50. Averages: 87.5 to 25 and to 50, so -62.5 and -37.5.
    focus = row("own_ablation", model="ape", regime="helpful", scoring="magnitude", task="focus_50%")
    assert [focus[c] for c in ("baseline_mean", "ablated_mean", "delta_mean", "delta_sd")] == [
        75,
        37.5,
        -37.5,
        12.5,
    ]
    keys = {"model": "ape", "regime": "helpful", "scoring": "magnitude", "orientation": "helpful"}
    average = row("own_ablation", **keys, task="average")
    assert [average[c] for c in ("baseline_mean", "delta_mean", "delta_sd", "n_seeds")] == [
        87.5,
        -50,
        12.5,
        2,
    ]


def test_shared_ablation_has_the_mixed_regime_only() -> None:
    assert TABLES["shared_ablation"].select("regime", "ablation").unique(maintain_order=True).rows() == [
        ("mixed", "shared"), ("mixed", "helpful-only"), ("mixed", "harmless-only")]  # fmt: skip
    shared = row("shared_ablation", model="ape", ablation="shared", task="aim")
    assert (shared["delta_mean"], shared["delta_sd"]) == (-75, 25)


def test_retention_leaves_own_tests_out() -> None:
    assert set(TABLES["retention"]["task"]) == {*TASKS, "average"}
    assert row("retention", model="ape", ablation="none", task="aim")["retention_mean"] == 1
    # Right under `shared`: 2 and 0 of the 3 that the single ones get right.
    focus = row("retention", model="ape", ablation="shared", task="focus_50%")
    assert (focus["retention_mean"], focus["retention_sd"]) == pytest.approx((1 / 3, 1 / 3))


def test_curve_runs_from_no_ablation_to_the_whole_network_for_each_scoring() -> None:
    keys = {"model": "ape", "regime": "mixed", "benchmark": "own-test"}
    columns = ["scoring", "percent", "n_neurons", "accuracy_mean", "delta_mean"]
    assert TABLES["ablation_curve"].filter(**keys).select(columns).rows() == [
        ("magnitude", 0, 0, 75, 0), ("magnitude", 20, 4, 37.5, -37.5), ("magnitude", 100, 20, 0, -75),
        ("random", 0, 0, 75, 0), ("random", 20, 4, 75, 0), ("random", 100, 20, 0, -75)]  # fmt: skip


def test_depth_against_a_loop_where_layers_do_not_divide_by_three() -> None:
    # Layers 0 and 1 of four are early, 2 is middle, 3 is late: floor(3 l / 4) = 0, 0, 1, 2.
    for scoring, layers in {"magnitude": [3, 3, 2, 0], "random": [0, 1, 2, 3]}.items():
        counts = [0, 0, 0]
        for layer in layers:
            counts[3 * layer // 4] += 1
        shares = TABLES["depth"].filter(model="ape", regime="mixed", scoring=scoring)
        assert shares["third"].to_list() == ["early", "middle", "late"]
        assert shares["share_mean"].to_list() == [25 * count for count in counts]


def test_benchmark_accuracy_counts_what_could_not_be_scored() -> None:
    # One regime's own test has 4 scored comparisons and one unscored; the mixed one joins both.
    both = row("benchmark_accuracy", model="ape", regime="mixed", benchmark="own-test")
    assert (both["accuracy_mean"], both["n_comparisons"], both["n_unscored"]) == (75, 10, 2)


@pytest.mark.parametrize("name", TABLES)
def test_latex_is_whole(name: str) -> None:
    tex = as_latex(readable(TABLES[name]))
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
    spec = re.search(r"\{([lr]+)\}", tex)
    lines = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert spec
    assert len(lines) > 1
    bare = re.sub(r"\\[&%$#_{}]", "", tex)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(spec[1]) - 1}
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#±]|(?<!\$)[<>]", bare)


def test_twins_show_the_same_numbers(tmp_path: Path) -> None:
    write_table(TABLES["own_ablation"], tmp_path / "own_ablation.parquet")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".md", ".parquet", ".tex"]
    assert pl.read_parquet(tmp_path / "own_ablation.parquet").equals(TABLES["own_ablation"])
    assert pl.read_csv(tmp_path / "own_ablation.csv").equals(TABLES["own_ablation"])
    lines = (tmp_path / "own_ablation.md").read_text().splitlines()
    assert lines[2].startswith("| zebra | helpful | magnitude | 20 % | -37.5 ± 12.5 | -62.5 ± 12.5 | -50.0 ± 12.5 |")
    assert "$-$37.5 $\\pm$ 12.5" in (tmp_path / "own_ablation.tex").read_text()


def test_one_seed_shows_no_spread_and_no_mixed_regime_gives_empty_tables() -> None:
    regimes = {name: regime for name, regime in STUDY.regimes.items() if not regime.mixes}
    scores, neurons = (frame.filter(pl.col("seed") == 7, pl.col("regime") != "mixed") for frame in example())
    tables = make_tables(scores, neurons, STUDY.model_copy(update={"regimes": regimes}))
    assert "±" not in as_markdown(readable(tables["accuracy"]))
    for name in ("retention", "shared_ablation"):
        assert tables[name].is_empty()
        assert tables[name].schema == TABLES[name].schema
        as_latex(readable(tables[name]))


def test_loading_adds_keys_and_names_a_missing_file(tmp_path: Path) -> None:
    one = scored(("ape", "helpful", 7, "shared"), "none", "aim", "helpful")
    one.drop("model", "regime", "seed", "benchmark").write_parquet(tmp_path / "a.parquet")
    loaded = load_scores({("ape", "helpful", 7, "shared"): tmp_path / "a.parquet"})
    assert loaded.cast({pl.Categorical: pl.String}).select(one.columns).equals(one.cast({"seed": loaded["seed"].dtype}))
    with pytest.raises(UserError, match="nowhere"):
        load_scores({("ape", "helpful", 7, "shared"): tmp_path / "nowhere"})


def test_tables_do_not_care_whether_text_is_categorical() -> None:
    scores, neurons = (frame.with_columns(pl.col(pl.String).cast(pl.Categorical)) for frame in example())
    for name, table in make_tables(scores, neurons, STUDY).items():
        assert table.equals(TABLES[name]), name
