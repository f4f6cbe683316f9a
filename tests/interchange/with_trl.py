"""Run within TRL's environment: its RewardTrainer on reward models in folders.

python with_trl.py JOBS.json RESULTS.json

JOBS: a list of {model, chat_template, pairs, scored, steps, output}. `model` is a folder, of a reward model or of a
backbone; `chat_template` is put into its tokenizer, null leaves that as it is; `pairs` and `scored` are lists of
{chosen, rejected}, lists of messages. RESULTS: for each of them the token ids that TRL makes of `pairs`; their loss as
one batch, before any step; after the steps the same loss, the number of tensors that did not move, and the scores of
`scored`. The trained model is saved to `output`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

Pair = dict[str, list[dict[str, str]]]


def trained(
    model: str, chat_template: str | None, pairs: list[Pair], scored: list[Pair], steps: int, output: str
) -> dict[str, Any]:
    settings = RewardConfig(
        output_dir=f"{output}-checkpoints", max_steps=steps, per_device_train_batch_size=4, learning_rate=1e-3,
        bf16=False, gradient_checkpointing=False, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(model)
    tokenizer.chat_template = chat_template or tokenizer.chat_template
    trainer = RewardTrainer(
        model=model, args=settings, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer
    )
    rows = [trainer.train_dataset[i] for i in range(len(pairs))]
    batch = trainer.data_collator(rows)

    @torch.no_grad()
    def loss() -> float:
        return float(trainer.compute_loss(trainer.model, dict(batch)))

    @torch.no_grad()
    def reward(messages: list[dict[str, str]]) -> float:
        ids: Any = tokenizer.apply_chat_template(messages, return_tensors="pt")
        return float(trainer.model(ids["input_ids"]).logits)

    before, loss_before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}, loss()
    trainer.train()
    trainer.save_model(output)
    trainer.model.eval()
    return {
        "ids": [[row["chosen_ids"], row["rejected_ids"]] for row in rows],
        "loss": loss_before,
        "loss_after": loss(),
        "unmoved": [name for name, tensor in trainer.model.state_dict().items() if torch.equal(before[name], tensor)],
        "scores": [{side: reward(pair[side]) for side in ("chosen", "rejected")} for pair in scored],
    }


if __name__ == "__main__":
    jobs, results = Path(sys.argv[1]), Path(sys.argv[2])
    results.write_text(json.dumps([trained(**job) for job in json.loads(jobs.read_text())]))
