"""Results that are committed: whoever has them can make every table and every verdict again."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from rmtension.analysis.ledger import ledger
from rmtension.analysis.results import load_results
from rmtension.analysis.tables import make_tables
from rmtension.study.study import Study

ROOT = Path(__file__).parents[3]
COMMITTED = sorted((ROOT / "docs" / "results").glob("*/claims.parquet"))


@pytest.mark.parametrize("claims", COMMITTED, ids=lambda file: file.parent.name)
def test_tables_and_claims_are_those_of_the_scores(claims: Path) -> None:
    settings = yaml.safe_load((ROOT / "studies" / f"{claims.parent.name}.yaml").read_text(encoding="utf-8"))
    study = Study.model_validate(settings)
    tables = make_tables(load_results(claims.parent, study))
    for name, table in tables.items():
        assert_frame_equal(table, pl.read_parquet(claims.parent / f"tables/{name}.parquet"), abs_tol=1e-9)
    assert_frame_equal(ledger(tables, study), pl.read_parquet(claims), abs_tol=1e-9)
