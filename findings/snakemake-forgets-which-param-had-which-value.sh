#!/bin/sh
# Package: snakemake 9.27.1. Seen 2026-11-29.
#
# Behaviour: to see whether a job's params have changed, Snakemake compares the set of their values, without their names
# and without how often each occurs. Two params that exchange their values, or one that takes on the value of another
# where its own old value is still that of a third, are no change: "Nothing to be done", and the old output stays.
#
# What most would expect: a job runs again where any of its params has another value, as the rerun trigger is called.
#
# Why it matters: weights of objectives, seeds, numbers of epochs and of neurons are small numbers that occur twice. A study
# of a mixture of 0.7 and 0.3 that is changed to 0.3 and 0.7 keeps the reward models of the old mixture under the new name.
#
# Output seen:
#   helpful 0.7, harmless 0.3: helpful 0.7 harmless 0.3
#   helpful 0.3, harmless 0.7: helpful 0.7 harmless 0.3
#   helpful 0.3, harmless 0.3: helpful 0.3 harmless 0.3
#
# Source: params_changed in snakemake/persistence/__init__.py.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq snakemake==9.27.1
cat > Snakefile <<'SNAKEFILE'
rule mixture:
    output: "mixture.txt"
    params: helpful=config["helpful"], harmless=config["harmless"]
    shell: "echo helpful {params.helpful} harmless {params.harmless} > {output}"
SNAKEFILE
mixture() {
  env/bin/snakemake --cores 1 --config helpful="$1" harmless="$2" > log 2>&1 || { cat log; exit 1; }
  echo "helpful $1, harmless $2: $(cat mixture.txt)"
  test "$(cat mixture.txt)" = "$3" || { echo "it is no longer so"; exit 1; }
}
mixture 0.7 0.3 "helpful 0.7 harmless 0.3"
mixture 0.3 0.7 "helpful 0.7 harmless 0.3"
mixture 0.3 0.3 "helpful 0.3 harmless 0.3"
