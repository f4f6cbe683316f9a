#!/bin/sh
# What there is to learn on a machine that has a GPU for some minutes; each part has its share of them, and one that fails
# does not end the others.
#   sh benchmarks/gpu.sh OUT STUDY [PART...]     OUT: folder for logs, figures and the study's results without weights
# On a machine without a network, in an unpacked bundle (docs/cluster.md). DEVICE=cpu BACKBONE=tiny: to try it out.
# JOBS=6: jobs of the study that share the GPU. STUDY_SECONDS=400: the study's share.
set -u
out=$1 study=$2 device=${DEVICE:-cuda} backbone=${BACKBONE:-smollm2-135m} jobs=${JOBS:-6}
shift 2
[ $# -gt 0 ] || set -- tests study attention train statistics ablation evaluation
gpu=${CUDA_VISIBLE_DEVICES:-0} gpu=${gpu%%,*}
bin=$PWD/.venv/bin name=$(sed -n 's/^name: *//p' "$study")
mkdir -p "$out"

part() {  # NAME SECONDS COMMAND...
  log=$out/$1.log seconds=$2
  shift 2
  began=$(date +%s)
  timeout --signal TERM "$seconds" "$@" > "$log" 2>&1
  status=$?
  echo "$(basename "$log" .log): status $status, $(($(date +%s) - began)) s"
}

bench() {  # NAME OPTION...: one turn of each side
  what=$1
  shift
  part "bench-$what" 90 "$bin/python" -m "benchmarks.$what" --device "$device" --backbone "$backbone" --rounds 1 \
    --results "$out/measured" "$@"
}

nvidia-smi > "$out/machine.txt" 2>&1 || lscpu > "$out/machine.txt"
for asked; do
  case $asked in
    tests) part tests 120 "$bin/python" -m pytest -rA --numprocesses 0 tests/gpu ;;
    study)  # the first GPU, named once for each job that it may have at a time
      gpus=$(yes "$gpu" | head -n "$jobs" | paste -s -d ,)
      part study "${STUDY_SECONDS:-190}" env CUDA_VISIBLE_DEVICES="$gpus" \
        "$bin/snakemake" --cores all --resources gpu="$jobs" --keep-going --configfile "$study"
      # What was finished: tables and figures if the time was enough, else scores and activations; never weights.
      tar -C results -czf "$out/$name.tar.gz" --exclude='*.safetensors' --exclude='*.pt' "$name" ;;
    attention) part bench-attention 60 "$bin/python" -m benchmarks.attention --device "$device" --out "$out/attention.json" ;;
    train) bench train --pairs 160 ;;
    statistics) bench statistics --pairs 320 ;;
    ablation) bench ablation --pairs 32 --ablations 10 ;;
    evaluation) bench evaluation --pairs 320 --prompts 60 ;;
    *) echo "no part '$asked'" >&2 ;;
  esac
done
