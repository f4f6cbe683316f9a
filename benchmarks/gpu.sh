#!/bin/sh
# What there is to learn on a machine that has a GPU for eight minutes; each part has its share of them, and one that
# fails does not end the others.
#   sh benchmarks/gpu.sh OUT STUDY     OUT: folder for logs, figures and the study's results without weights
# On a machine without a network, in an unpacked bundle (docs/cluster.md). DEVICE=cpu BACKBONE=tiny: to try it out.
out=$1 study=$2 device=${DEVICE:-cuda} backbone=${BACKBONE:-smollm2-135m}
bin=$PWD/.venv/bin name=$(sed -n 's/^name: *//p' "$study")
mkdir -p "$out"

part() {  # NAME SECONDS COMMAND...
  log=$out/$1.log seconds=$2
  shift 2
  began=$(date +%s)
  timeout --signal TERM "$seconds" "$@" > "$log" 2>&1
  echo "$(basename "$log" .log): status $?, $(($(date +%s) - began)) s"
}

nvidia-smi > "$out/machine.txt" 2>&1 || lscpu > "$out/machine.txt"
part tests 90 "$bin/python" -m pytest -rs --numprocesses 0 tests/gpu
for what in train statistics ablation evaluation; do
  part "bench-$what" 50 "$bin/python" -m "benchmarks.$what" --device "$device" --backbone "$backbone" --rounds 1 \
    --results "$out/measured"
done
part study 190 "$bin/snakemake" --cores all --resources gpu=1 --configfile "$study"
# What was finished: tables and figures if the time was enough, else scores and activations; never weights.
tar -C results -czf "$out/$name.tar.gz" --exclude='*.safetensors' --exclude='*.pt' --exclude=data "$name"
