#!/bin/sh
# Package: polars 2.1.0. Seen 2026-11-28.
#
# Behaviour: the optimizer takes `.sort()` out of `col.sort().mean()`, as if a mean did not depend on the order of its rows.
# Of floats it does, in the last digits: so a sort that is put before a mean to make it the same whatever order a join has
# left the rows in has no effect on what a LazyFrame collects. A mean within a list (`col.sort().implode().list.mean()`)
# keeps its sort.
#
# What most would expect: an expression is computed as it is written, or the optimizer leaves alone what changes the result.
#
# Why it matters: whoever promises the same bytes for the same study sorts before averaging accuracies over seeds or tasks,
# sees the same digits on a small study, and gets other ones with other threads, as joins do not keep the order of rows.
#
# Output seen:
#   plan of col.sort().mean(): SELECT [col("x").mean()]
#   as the rows stand 0.32499999999999996, sorted first 0.32499999999999996, sorted in a list 0.325
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq polars==2.1.0
cat > show.py <<'PYTHON'
import polars as pl

rows = pl.LazyFrame({"x": [0.1, 0.7, 0.2, 0.3]})
x = pl.col("x")
means = {"as the rows stand": x.mean(), "sorted first": x.sort().mean(), "sorted in a list": x.sort().implode().list.mean()}
plan = rows.select(means["sorted first"]).explain().splitlines()[0]
found = {name: rows.select(mean).collect().item() for name, mean in means.items()}
print("plan of col.sort().mean():", plan)
print(", ".join(f"{name} {number}" for name, number in found.items()))
assert "sort" not in plan, "it is no longer so: the sort stays"
assert list(found.values()) == [0.32499999999999996, 0.32499999999999996, 0.325], "it is no longer so"
PYTHON
env/bin/python show.py
