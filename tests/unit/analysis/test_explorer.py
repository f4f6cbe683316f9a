"""What the explorer's page holds is what the files hold: its data decoded and compared with them, number by number."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from example_explorer import ODD, PROMPT, STUDY, every, write_example
from example_results import STUDY as SWEPT
from polars.testing import assert_frame_equal

from rmtension.analysis.explorer import Json, comparisons_block, drawn, kind_of, shared_prompt, stands
from rmtension.analysis.explorer_neurons import effects
from rmtension.report.explorer import drawn as said
from rmtension.study.explored import explored, explored_sets, read_along
from rmtension.study.measured import ablated_sets, sets_of_sizes
from rmtension.study.study import Study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("explorer")).parent


@pytest.fixture(scope="module")
def page(folder: Path) -> dict[str, Json]:
    """The blocks of the page, as a browser reads them."""
    found = re.findall(r'data-block="(.*?)">(.*?)<', (folder / "explore.html").read_text(encoding="utf-8"))
    return {name: json.loads(gzip.decompress(base64.b64decode(content))) for name, content in found}


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_texts_are_those_of_the_files_with_their_prompt_once(page: dict[str, Json]) -> None:
    block, columns = page["comparisons"], ("benchmark", "comparison_id", "task", "orientation", "prompt")
    rows = zip(*(block[name] for name in (*columns, "chosen", "rejected")), strict=True)
    whole = [(*row[:4], *([row[4] + text for text in side] for side in row[5:])) for row in rows]
    assert whole == list(every())
    assert block["prompt"] == [PROMPT] * 61 + ["", PROMPT]
    assert block["totals"] == {"own-test": [60, 60], "one": [3, 3]}


def test_every_score_is_that_of_the_files(page: dict[str, Json], folder: Path) -> None:
    """Each row against its file, candidate by candidate; the sweep is left out, and what is not scored is NaN."""
    rows = []
    for name, block in page.items():
        if name == "scores" or name.startswith("ablated "):
            rows += list(zip(block["rows"], floats(block["values"]).reshape(len(block["rows"]), -1), strict=True))
    assert len(rows) == len({tuple(label[:4]) for label, _ in rows})
    found = {tuple(label[:4]): values for label, values in rows}
    units = {tuple(label[:4]): label[4] for label, _ in rows}
    for regime in STUDY.regimes:
        for model in STUDY.models:
            for seed in STUDY.seeds:
                place = f"{model}/{regime}/seed-{seed}"
                files = {b: pl.read_parquet(folder / f"scores/{place}/{b}.parquet") for b in STUDY.benchmarks}
                sets = pl.read_parquet(folder / f"selected/{place}/sets.parquet")
                names = [*sets_of_sizes(STUDY, regime)]
                assert {key[3] for key in found if key[:3] == (model, regime, seed)} == set(names)
                for name in names:
                    expected = list[float]()
                    for benchmark, id_, _, _, chosen, rejected in every():
                        row = files[benchmark].filter(ablation=name, comparison_id=id_).to_dicts()
                        scored = row and row[0]["chosen_scores"] is not None
                        n = len(chosen) + len(rejected)
                        expected += row[0]["chosen_scores"] + row[0]["rejected_scores"] if scored else [np.nan] * n
                    np.testing.assert_array_equal(found[model, regime, seed, name], np.array(expected, "f4"))
                    size = len(sets.filter(ablation=name.removesuffix("@mean")))
                    assert units[model, regime, seed, name] == size


def test_neurons_are_those_of_the_files(page: dict[str, Json], folder: Path) -> None:
    for model in STUDY.models:
        block, place = page[f"neurons {model} mixed"], f"{model}/mixed/seed-{STUDY.seeds[0]}"
        passages = pl.read_parquet(folder / f"passages/{place}.parquet").sort("layer", "neuron", "response", "place")
        np.testing.assert_array_equal(floats(block["activations"]), passages["activations"].explode().to_numpy())
        for neuron in block["neurons"]:
            here = {"layer": neuron["layer"], "neuron": neuron["neuron"]}
            for side in ("chosen", "rejected"):
                rows = passages.filter(response=side, **here)
                names = ("comparison_id", "peak", "start", "n_tokens", "tokens")
                assert neuron["passages"][side] == [list(row) for row in rows.select(names).rows()]
            for regime in STUDY.regimes:
                own = f"{model}/{regime}/seed-{STUDY.seeds[0]}.parquet"
                ranked = pl.read_parquet(folder / "neurons" / own).filter(unit="neuron", **here)
                ranks = {
                    scoring: [rank, score] for scoring, rank, score in ranked.select("scoring", "rank", "score").rows()
                }
                assert neuron["ranks"][regime] == ranks
                statistics = pl.read_parquet(folder / "activations" / own).filter(**here)
                for row in statistics.to_dicts():
                    assert neuron["statistics"][regime][row["response"]]["mean_abs"] == row["mean_abs"]
            for set_, rank in neuron["sets"].items():
                assert rank == neuron["ranks"]["mixed"][block["scorings"][set_]][0]


def test_running_rewards_are_those_of_the_files(page: dict[str, Json], folder: Path) -> None:
    for model in STUDY.models:
        block = page[f"running {model}"]
        assert list(block["rewards"]) == list(STUDY.regimes) and block["seed"] == STUDY.seeds[0]
        for regime, rewards in block["rewards"].items():
            file = pl.read_parquet(folder / f"running_rewards/{model}/{regime}/seed-{STUDY.seeds[0]}.parquet")
            known = file.filter(pl.col("rewards").is_not_null())
            columns = ("benchmark", "comparison_id", "response", "tokens")
            assert block["texts"] == [list(row) for row in known.select(columns).rows()] and len(known) < len(file)
            np.testing.assert_array_equal(floats(rewards), known["rewards"].explode().to_numpy())


def test_effects_of_a_neuron_by_hand() -> None:
    rows = [
        (None, None, "a", "x", [2.0], [1.0]),
        (None, None, "b", "x", [0.5, 3.0], [1.0]),  # the lowest chosen counts: wrong
        (None, None, "c", "y", None, None),
        (1, 2, "a", "x", [0.25], [1.0]),
        (1, 2, "b", "x", [2.0, 1.5], [1.0, 0.0]),
        (1, 2, "c", "y", None, None),
    ]
    schema = ["layer", "neuron", "comparison_id", "orientation", "chosen_scores", "rejected_scores"]
    found = effects(pl.DataFrame(rows, schema, orient="row"))
    [row] = found.rows(named=True)
    assert (row["orientation"], row["n"], row["right"], row["right_without"]) == ("x", 2, 1, 1)
    assert (row["lost"], row["gained"]) == (["a"], ["b"])
    assert (row["margin"], row["change"]) == (0.25, (-0.75 + 0.5) / 2 - 0.25)


def made_comparisons(n: int, size: int) -> pl.DataFrame:
    tasks = ["often"] * (n - 20) + ["seldom"] * 20
    texts = [[f"{i} " + "x" * size] for i in range(n)]
    return pl.DataFrame(
        {
            "benchmark": "b",
            "comparison_id": [str(i) for i in range(n)],
            "task": tasks,
            "chosen": texts,
            "rejected": texts,
        }
    )


def test_too_many_comparisons_are_drawn_evenly_and_the_same_again() -> None:
    many = made_comparisons(3000, 4000)
    one, again, other = (drawn(many, 500, seed) for seed in (0, 0, 1))
    assert_frame_equal(one, again)
    assert one["comparison_id"].to_list() != other["comparison_id"].to_list()
    assert 500 < len(one) < 3000
    assert len(one.filter(task="seldom")) == 20, "a small task is there whole"
    assert one["comparison_id"].cast(pl.Int64).is_sorted()
    few = made_comparisons(100, 4000)
    assert_frame_equal(drawn(few, 500, 0), few)
    schema: dict[str, pl.DataType] = {"benchmark": pl.String(), "comparison_id": pl.String()}
    schema |= dict.fromkeys(["chosen_tokens", "rejected_tokens"], pl.List(pl.Int32()))
    lengths = {"m": pl.DataFrame(schema=schema)}
    totals = comparisons_block(one.with_columns(orientation=pl.lit("")), many, lengths)["totals"]
    assert (
        said(totals).endswith(f"{len(one):,} of 3,000 on b.")
        and said({"b": [3, 3]}) == "All 3 comparisons of the study."
    )


@pytest.mark.parametrize(
    ("texts", "prompt"),
    [
        (["\n\nHuman: a\n\nAssistant: b c", "\n\nHuman: a\n\nAssistant: b d"], "\n\nHuman: a\n\nAssistant: "),
        (["Human:a\n\nAssistant:b", "Human:a\n\nAssistant:c"], "Human:a\n\nAssistant:"),
        (["\n\nHuman: a b", "\n\nHuman: a c"], "\n\nHuman: "),
        (["plain", "plainly"], ""),
        (ODD[1][3] + ODD[1][4], ""),
    ],
)
def test_a_prompt_ends_with_the_mark_of_a_turn(texts: list[str], prompt: str) -> None:
    assert shared_prompt(texts) == prompt


def test_sets_of_one_size_are_all_but_the_sweep() -> None:
    """Also where the sweep holds the one size."""
    for regime in SWEPT.regimes:
        swept, whole = ablated_sets(SWEPT, regime, "own-test"), sets_of_sizes(SWEPT, regime)
        assert set(whole) < set(swept) and {name for name in whole if "p50" in name or name == "all"} == set()
        assert whole == ablated_sets(SWEPT, regime, "one")
    kinds = {kind_of(SWEPT, "mixed", name) for name in sets_of_sizes(SWEPT, "mixed")[1:]}
    assert kinds == {"own", "whole", "control", "third"}
    assert (
        kind_of(SWEPT, "mixed", "shared@mean") == "whole" and kind_of(SWEPT, "helpful", "magnitude-p20@mean") == "own"
    )


def test_a_given_reward_model_is_shown_once_with_the_sets_of_all_places() -> None:
    place = Path(__file__).parents[2] / "workflow" / "given.yaml"
    given = Study.model_validate(yaml.safe_load(place.read_text(encoding="utf-8")))
    assert stands(given) == dict.fromkeys(["helpful", "harmless", "both"], "both")
    assert stands(STUDY) == {name: name for name in STUDY.regimes}
    assert read_along(given) == ["both"] and read_along(STUDY) == list(STUDY.regimes)
    assert explored_sets(given, "both")["attribution-p10"] == "attribution" and len(explored_sets(given, "both")) == 4


def test_a_study_without_a_mixture_is_explored_too() -> None:
    regimes = {name: regime for name, regime in STUDY.regimes.items() if not regime.mixes}
    single = STUDY.model_copy(update={"regimes": regimes})
    assert explored(single) == ["helpful", "harmless"] and explored(STUDY) == ["mixed"]
    assert explored_sets(single, "helpful") == {"attribution-p20": "attribution", "magnitude-p20": "magnitude"}
    assert list(explored_sets(STUDY, "mixed"))[:3] == ["shared", "helpful-only", "harmless-only"]
