"""All that is judged, read from the files of its benchmarks."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rmtension.data.comparisons import COMPARISONS, PAIRS, read_judged


def test_what_is_in_several_files_of_a_benchmark_is_judged_once(tmp_path: Path) -> None:
    pairs = pl.DataFrame([(f"s/test/{i}", f"a{i}", f"b{i}", "s", "helpful") for i in range(3)], PAIRS, orient="row")
    several = pl.DataFrame([("b/0", "t", "harmless", ["a", "c"], ["d"])], COMPARISONS, orient="row")
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("one", "other", "b")}
    for name, frame in {"one": pairs[1:], "other": pairs[:2], "b": several}.items():
        frame.write_parquet(files[name])
    found = read_judged({"own": [files["one"], files["other"]], "b": [files["b"]], "again": [files["one"]]})
    assert found.columns == ["benchmark", *COMPARISONS]
    assert found.select("benchmark", "comparison_id", "task", "orientation", "chosen").rows() == [
        ("own", "s/test/1", "s", "helpful", ["a1"]),
        ("own", "s/test/2", "s", "helpful", ["a2"]),
        ("own", "s/test/0", "s", "helpful", ["a0"]),
        ("b", "b/0", "t", "harmless", ["a", "c"]),
        ("again", "s/test/1", "s", "helpful", ["a1"]),
        ("again", "s/test/2", "s", "helpful", ["a2"]),
    ]
