#!/bin/sh
# Package: snakemake 9.27.1, with numpy 2.4.0. Seen 2026-11-30.
#
# Behaviour: of a job's params, Snakemake notes and compares those of Python's own types; any other is left out, without a
# word. numpy's float64 is a kind of Python's float and is compared, its int64, int32, float32 and bool are of no such
# kind: a seed, a number of epochs or a path object that changes reruns nothing.
#
# What most would expect: a job runs again where any of its params has another value; or an error where one cannot be noted.
#
# Why it matters: what a params function reads from a table of runs with pandas or numpy is such a number. A reward model
# trained with seed 0 stands under seed 7, and the learning rate beside it, a float64, is the one that does rerun training.
#
# Output seen:
#   int: 0 -> 7 runs again
#   float64: 0 -> 7 runs again
#   int64: 0 -> 7 does not run again
#   float32: 0 -> 7 does not run again
#   Path: 0 -> 7 does not run again
#
# Source: _serialize_param_builtin in snakemake/persistence/__init__.py.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq snakemake==9.27.1 numpy==2.4.0
cat > Snakefile <<'SNAKEFILE'
from pathlib import Path
import numpy as np
kinds = {"int": int, "float64": np.float64, "int64": np.int64, "float32": np.float32, "Path": lambda n: Path(str(n))}
rule train:
    output: "{kind}.txt"
    params: seed=lambda wildcards: kinds[wildcards.kind](config["seed"])
    shell: "echo {params.seed} > {output}"
SNAKEFILE
run() { env/bin/snakemake --cores 1 "$1.txt" --config seed="$2" > log 2>&1 || { cat log; exit 1; }; }
while read -r kind expected; do
  run "$kind" 0
  before=$(cat "$kind.txt")
  run "$kind" 7
  test "$(cat "$kind.txt")" = "$before" && seen="does not run" || seen="runs"
  echo "$kind: 0 -> 7 $seen again"
  test "$seen" = "$expected" || { echo "it is no longer so"; exit 1; }
done <<'KINDS'
int runs
float64 runs
int64 does not run
float32 does not run
Path does not run
KINDS
