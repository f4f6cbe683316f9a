"""Run within rewardbench's environment, which has transformers 4: reward models in folders, by its Auto classes.

python with_transformers_4.py JOBS.json RESULTS.json

JOBS: a list of {model, texts, settings}; `settings` are given to the model's from_pretrained. RESULTS: for each of them
the token ids and the scores of the texts, or the first line of what it raises.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


@torch.no_grad()
def scored(model: str, texts: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModelForSequenceClassification.from_pretrained(model, **settings).eval()
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}".partition("\n")[0]}
    inputs = [tokenizer(text, return_tensors="pt") for text in texts]
    return {
        "ids": [given["input_ids"][0].tolist() for given in inputs],
        "scores": [network(**given).logits.item() for given in inputs],
    }


if __name__ == "__main__":
    jobs, results = Path(sys.argv[1]), Path(sys.argv[2])
    results.write_text(json.dumps([scored(**job) for job in json.loads(jobs.read_text())]))
