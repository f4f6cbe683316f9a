"""A study of given reward models, of the example's kinds of pairs and tasks, and the cards that its report reads."""

from __future__ import annotations

from itertools import product
from typing import Any

import polars as pl
from example_results import SETTINGS, TASKS

from rmtension.study.study import Study

SOURCE = {"kind": "given", "path": "x"}
OF_GIVEN: dict[str, Any] = {
    "seeds": [4],
    "models": {name: {"source": SOURCE} for name in ("zebra", "ape")},
    "neurons": {"scorings": ["magnitude", "attribution", "random", "matched-random", "head-norm"]},
    "ablation": SETTINGS["ablation"] | {"scoring": "attribution"},
    "conflict": {},
}
GIVEN = Study.model_validate(SETTINGS | OF_GIVEN)


def cards(study: Study) -> dict[str, pl.DataFrame]:
    """The columns that figures and page read; eleven test pairs of each kind."""
    singles = study.single_regimes()
    own = [("own-test", source, single, "regime-test") for single in singles for source in study.regimes[single].test]
    others = [(name, task, side, "synthetic") for name, of in TASKS.items() for task, side, *_ in of]
    benchmarks = pl.DataFrame([*own, *others], ["benchmark", "task", "orientation", "kind"], orient="row")
    data = {"regime": singles, "split": "test", "source": singles, "orientation": singles, "pairs": 11}
    trained = [*product(study.models, study.regimes)]
    return {
        "models_card": pl.DataFrame({"model": [*study.models], "kind": "given", "source": "x"}),
        "data_card": pl.DataFrame(data),
        "benchmarks_card": benchmarks.with_columns(chosen=pl.lit("1"), rejected=pl.lit("1"), comparisons=10),
        "training_card": pl.DataFrame(trained, ["model", "regime"], orient="row").with_columns(
            seeds=pl.lit(", ".join(map(str, study.seeds))), method=pl.lit("given")
        ),
    }
