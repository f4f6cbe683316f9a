#!/bin/sh
# Package: torch 2.13.0, on a CPU with instructions for bfloat16 (lscpu: amx_bf16 or avx512_bf16). Seen 2026-11-29.
#
# Behaviour: under bfloat16 autocast a CPU prepares each matrix product for its very number of rows (oneDNN) and keeps what
# it has prepared, up to 1,024 of them in oneDNN and as many in torch. Training on batches that each have another number of
# tokens therefore takes more and more memory, though none of it is a tensor; batches of one number do not.
# ONEDNN_PRIMITIVE_CACHE_CAPACITY=0 and LRU_CACHE_CAPACITY=1, set before the first product, keep it flat, but then each product
# is prepared anew, and a model of many layers takes several times as long; with 64 of each, neither.
#
# What most would expect: peak memory is that of the largest batch, as in float32, whatever sizes came before it.
#
# Why it matters: without padding, batches of texts hardly ever have the same number of tokens. A reward model of 135M
# parameters that should take 4.5 GB took 7 to 9 after a few hundred steps, and a limit of memory reckoned from tensors ends
# a job hours after its start.
#
# Output seen (MB that a process grew by from step 10 to step 60):
#   one length -12, lengths that differ 320, the same with nothing kept -1, the same in float32 11
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 numpy==2.4.6
if ! env/bin/python -c 'import torch; raise SystemExit(not torch.ops.mkldnn._is_mkldnn_bf16_supported())'; then
  echo "this CPU has no instructions for bfloat16, and torch no products in it to prepare: nothing to see here"
  exit 0
fi
cat > grown.py <<'PYTHON'
import random
import sys
from pathlib import Path

import torch

lengths, precision = sys.argv[1:]
torch.set_num_threads(1)
random.seed(0)
wide = [torch.nn.Linear(576, 1536, bias=False) for _ in range(6)]
narrow = [torch.nn.Linear(1536, 576, bias=False) for _ in range(6)]


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


for step in range(60):
    rows = torch.randn(1000 if lengths == "one" else random.randrange(600, 1000), 576)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for up, down in zip(wide, narrow, strict=True):
            rows = rows + down(torch.relu(up(rows)))
    rows.float().sum().backward()
    for layer in (*wide, *narrow):
        layer.weight.grad = None
    if step == 10:
        before = resident()
print(round(resident() - before))
PYTHON
one=$(env/bin/python grown.py one bfloat16)
several=$(env/bin/python grown.py several bfloat16)
unkept=$(ONEDNN_PRIMITIVE_CACHE_CAPACITY=0 LRU_CACHE_CAPACITY=1 env/bin/python grown.py several bfloat16)
float32=$(env/bin/python grown.py several float32)
echo "one length $one, lengths that differ $several, the same with nothing kept $unkept, the same in float32 $float32"
if [ "$several" -lt 100 ] || [ "$one" -gt 50 ] || [ "$unkept" -gt $((several / 2)) ]; then
  echo "it is no longer so"
  exit 1
fi
