#!/bin/sh
# Package: transformers 4.51.0 (the one that rewardbench 0.1.4 asks for), against 5.23.0 (torch 2.13.0). Seen 2026-11-28.
#
# Behaviour: YaRN's `factor` has no effect in 4.51.0 where the setting also gives `original_max_position_embeddings`: it
# is replaced by max_position_embeddings / original_max_position_embeddings (`_compute_yarn_parameters` in
# modeling_rope_utils.py; 4.55.4 still does so, 4.56.2 no longer). In 5.23.0 `factor` counts. With the setting that
# Qwen3 documents for long texts (factor 4, pretrained on 32,768, in a configuration of 40,960 positions) the slowest
# positions are slowed by 1.25 in one and by 4 in the other. 5.23.0 logs a warning that the two disagree; 4.51.0 is silent.
#
# What most would expect: a factor of 4 is a factor of 4, and both versions give one folder the same score.
#
# Why it matters: the difference is there for short texts too. A reward model trained with this setting in version 5 and
# judged by rewardbench in its own environment is another function than the one that was trained.
#
# Output seen:
#   4.51.0: slowest positions slowed by 1.25, attention by 1.022; score -0.8462
#   5.23.0: slowest positions slowed by 4.00, attention by 1.139; score -1.4516
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 numpy==2.4.6 transformers==5.23.0
# Version 4 stands before version 5 where PYTHONPATH names this folder.
env/bin/pip install -qq --target older numpy==2.4.6 transformers==4.51.0

cat > score.py <<'PYTHON'
import os

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForSequenceClassification

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def configuration(**scaled):
    return Qwen3Config(
        vocab_size=64, hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=1,
        num_key_value_heads=1, head_dim=64, max_position_embeddings=40960, rope_theta=1_000_000.0, num_labels=1,
        pad_token_id=0, initializer_range=0.3, **scaled,
    )


torch.manual_seed(0)
model = Qwen3ForSequenceClassification(configuration(rope_scaling=YARN)).eval()
if os.path.exists("weights.pt"):  # the first version to run made them
    model.load_state_dict(torch.load("weights.pt"))
torch.save(model.state_dict(), "weights.pt")
plain = Qwen3ForSequenceClassification(configuration()).model.rotary_emb.inv_freq
rotary = model.model.rotary_emb
slowed = (plain / rotary.inv_freq).max().item()
with torch.no_grad():
    score = model(torch.arange(1, 33)[None]).logits.item()
print(
    f"{transformers.__version__}: slowest positions slowed by {slowed:.2f}, attention by {rotary.attention_scaling:.3f}; "
    f"score {score:.4f}"
)
assert abs(slowed - {"4": 1.25, "5": 4.0}[transformers.__version__[0]]) < 1e-3, "no longer so"
with open("scores", "a") as file:
    file.write(f"{score}\n")
PYTHON

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
PYTHONPATH=older env/bin/python score.py
env -u PYTHONPATH env/bin/python score.py
env/bin/python -c 'one, other = map(float, open("scores")); assert abs(one - other) > 0.01, "no longer so"'
