#!/bin/sh
# Package: polars 2.1.0. Seen 2026-11-28.
#
# Behaviour: `pl.col("x") + 0.0` leaves a negative zero as it is in `DataFrame.select`, and makes it 0.0 in
# `LazyFrame.select(...).collect()`: the same expression on the same rows. A Series keeps its sign too.
#
# What most would expect: a number plus 0.0 is computed, and by IEEE 754 -0.0 + 0.0 is 0.0; in any case the same for the
# eager and the lazy form of one expression.
#
# Why it matters: differences of accuracies, and products with a zero, leave negative zeros in tables of results. Adding
# 0.0 is the usual way to be rid of them (numpy does it), before they are written as -0.0 in a CSV file or read as
# "slightly worse". What a lazy trial shows to work does nothing in the eager form.
#
# Output seen:
#   numpy [0.0, 1.0], eager [-0.0, 1.0], lazy [0.0, 1.0], series [-0.0, 1.0], by a condition [0.0, 1.0]
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq polars==2.1.0 numpy
cat > show.py <<'PYTHON'
import numpy as np
import polars as pl

rows, x = pl.DataFrame({"x": [-0.0, 1.0]}), pl.col("x")
found = {
    "numpy": (np.array([-0.0, 1.0]) + 0.0).tolist(),
    "eager": rows.select(x + 0.0)["x"].to_list(),
    "lazy": rows.lazy().select(x + 0.0).collect()["x"].to_list(),
    "series": (rows["x"] + 0.0).to_list(),
    "by a condition": rows.select(pl.when(x == 0).then(0.0).otherwise(x).alias("x"))["x"].to_list(),
}
print(", ".join(f"{name} {numbers}" for name, numbers in found.items()))
keep = [name for name, (zero, _) in found.items() if np.signbit(zero)]
assert keep == ["eager", "series"], f"it is no longer so: {keep} keep the sign"
PYTHON
env/bin/python show.py
