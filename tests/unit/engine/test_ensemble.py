"""An ensemble's scores, against two lists made one by hand."""

from __future__ import annotations

import polars as pl
import pytest

from rmtension.base.errors import UserError
from rmtension.engine.ensemble import spread, together
from rmtension.engine.evaluation import SCHEMA


def scores(chosen: list[list[float] | None], rejected: list[list[float] | None], fingerprint: str,
           precision: str = "float32") -> pl.DataFrame:  # fmt: skip
    n = len(chosen)
    frame = pl.DataFrame(
        {"ablation": ["none"] * n, "comparison_id": [str(i) for i in range(n)], "task": ["t"] * n}
        | {"orientation": ["o"] * n, "chosen_scores": chosen, "rejected_scores": rejected}
        | {"correct": [None if c is None else True for c in chosen], "fingerprint": [fingerprint] * n}
        | {"precision": [None if c is None else precision for c in chosen]},
        schema=SCHEMA,
    )
    return frame


def test_a_spread_is_the_root_mean_square_of_margins_of_scored_pairs() -> None:
    pairs = scores([[3.0], [1.0], None], [[0.0], [5.0], None], "a")
    assert spread(pairs, "rm") == pytest.approx(((9 + 16) / 2) ** 0.5)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ([[1.0], [2.0]], "rewards every validation pair's two texts alike: it has no say"),
        ([None, None], "it can read none of the validation pairs"),
    ],
)
def test_without_a_spread_there_is_no_ensemble(chosen: list[list[float] | None], said: str) -> None:
    with pytest.raises(UserError, match=f"^rm: {said}"):
        spread(scores(chosen, chosen, "a"), "rm")


def test_scores_are_the_mean_of_both_in_units_of_their_spreads() -> None:
    one = scores([[4.0], [1.0, 2.0], None, [1.0]], [[2.0], [0.0], None, [0.0]], "a")
    other = scores([[-1.0], [10.0, 20.0], [1.0], [-5.0]], [[9.0], [0.0], [0.0], [5.0]], "b", "bfloat16")
    both = together([one, other], [2.0, 10.0])
    assert both.schema == pl.Schema(SCHEMA)
    assert both["precision"].to_list() == ["bfloat16", "bfloat16", None, "bfloat16"]
    assert both["chosen_scores"].to_list() == [
        [pytest.approx((4 / 2 - 1 / 10) / 2)], [pytest.approx(0.75), pytest.approx(1.5)], None, [pytest.approx(0.0)],
    ]  # fmt: skip
    assert both["rejected_scores"].to_list() == [[pytest.approx(0.95)], [0.0], None, [pytest.approx(0.25)]]
    # A tie is wrong, and of what one cannot score nothing is said.
    assert both["correct"].to_list() == [False, True, None, False]
    assert both["fingerprint"].n_unique() == 1
    assert together([one, other], [2.0, 9.0])["fingerprint"][0] != both["fingerprint"][0]
    assert both.select("ablation", "comparison_id", "task").equals(one.select("ablation", "comparison_id", "task"))
