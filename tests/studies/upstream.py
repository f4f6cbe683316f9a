"""Made files in the layouts of published data and models, a few rows each: what studies read, without a hub."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import polars as pl
from safetensors.numpy import load_file
from tiny_models import save_backbone

from rmtension.data import synthetic
from rmtension.data.tasks import TIES, known_tasks
from rmtension.engine.reward_model import load_tokenizer, new_reward_model, save_reward_model

Rows = list[dict[str, Any]]
ROWS = 2  # of every subset
CONTEXT = 1024  # most tokens that the model of the GGUF file reads, fewer than some real texts have
LENGTH = 60  # characters of a prompt and of a response


def questions(n: int, seed: int) -> list[tuple[str, str, str]]:
    """So many prompts, each with a better and a worse response, all without a turn in them."""
    pairs = synthetic.preference_pairs("helpful", n, seed)
    heads = pairs["chosen"].str.strip_prefix("\n\nHuman: ").str.split("\n\n").list.first()
    ends = [pairs[side].str.split("Assistant: ").list.last() for side in ("chosen", "rejected")]
    return [(p[:LENGTH], a[:LENGTH], b[:LENGTH]) for p, a, b in zip(heads, *ends, strict=True)]


def asked(kind: str) -> Iterator[tuple[str, int, tuple[str, str, str]]]:
    """subset, number within it, question; of every known subset of a benchmark."""
    subsets = known_tasks(kind)["subset"].to_list()
    made = iter(questions(ROWS * len(subsets), len(kind)))
    return ((subset, i, next(made)) for subset in subsets for i in range(ROWS))


# --- benchmarks -----------------------------------------------------------------------------------------------


def reward_bench() -> Rows:
    return [
        {"prompt": p, "chosen": a, "chosen_model": "m", "rejected": b, "rejected_model": "n", "subset": subset, "id": i}
        for subset, i, (p, a, b) in asked("reward-bench")
    ]


def reward_bench_2() -> Rows:
    """One response that is right and three that are wrong; in Ties each question twice, the second time with three."""
    rows = []
    for subset, i, (p, a, b) in asked("reward-bench-2"):
        forms = {f"ref:{i}": 1, f"tied:{i}": 3} if subset == TIES else {str(i): 1}
        rows += [
            {"id": name, "prompt": p, "chosen": [f"{a} {j}" for j in range(n)], "rejected": [f"{b} {j}" for j in "123"],
             "num_correct": n, "num_incorrect": 3, "total_completions": n + 3, "models": ["m"], "subset": subset}
            for name, n in forms.items()
        ]  # fmt: skip
    return rows


def rm_bench() -> Rows:
    """Three styles: bare, longer, longer and marked up."""
    return [
        {"id": f"{subset}/{i}", "prompt": p, "chosen": [a, f"{a} So it is.", f"**{a}** So it is."],
         "rejected": [b, f"{b} So it is.", f"**{b}** So it is."], "domain": subset}
        for subset, i, (p, a, b) in asked("rm-bench")
    ]  # fmt: skip


def rmb(kind: str, place: str) -> Rows:
    rows: Rows = []
    for subset, i, (p, a, b) in asked(kind):
        turns = [("user", "Hello."), ("assistant", "Yes?"), ("user", p)]
        row: dict[str, Any] = {"conversation_input": [{"role": role, "content": text} for role, text in turns]}
        row |= {"category_path": f"{place}/{subset}/scenario", "goal": subset.partition("/")[0]}
        right, *wrong = ({"llm_name": "m", "answer": text} for text in (a, b, f"{b} 2", f"{b} 3"))
        rows.append(row | {"pair_uid": f"{subset}/{i}", "chosen": right, "reject": wrong[0]} if kind == "rmb-pairwise"
                    else row | {"bon_uid": f"{subset}/{i}", "bon_best": right, "loser_list": wrong})  # fmt: skip
    return rows


# Kind -> its rows, and the file that they lie in upstream.
PUBLISHED: dict[str, tuple[Callable[[], Rows], str]] = {
    "reward-bench": (reward_bench, "data/filtered-00000-of-00001.parquet"),
    "reward-bench-2": (reward_bench_2, "data/test-00000-of-00001.parquet"),
    "rm-bench": (rm_bench, "total_dataset.json"),
    "rmb-pairwise": (lambda: rmb("rmb-pairwise", "Pairwise_set"), "RMB_dataset/Pairwise_set/all/all/all.json"),
    "rmb-best-of-n": (lambda: rmb("rmb-best-of-n", "BoN_set"), "RMB_dataset/BoN_set/all/all/all.json"),
}


def write(rows: Rows, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(file)
    else:
        file.write_text(json.dumps(rows))


def write_benchmark(kind: str, place: Path) -> None:
    """A folder in the upstream layout, or where `place` has a file's ending, one file of that form."""
    rows, name = PUBLISHED[kind]
    write(rows(), place if place.suffix else place / name)


# --- pairs ----------------------------------------------------------------------------------------------------

HH_FOLDERS: dict[str, synthetic.Orientation] = {
    "harmless-base": "harmless", "helpful-base": "helpful", "helpful-online": "helpful",
    "helpful-rejection-sampled": "helpful",
}  # fmt: skip


def write_hh_rlhf(place: Path) -> None:
    for seed, (name, objective) in enumerate(HH_FOLDERS.items()):
        for split, n in (("train", 24), ("test", 8)):
            file = place / name / f"{split}.jsonl.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            pairs = synthetic.preference_pairs(objective, n, 10 * seed + n).select("chosen", "rejected")
            file.write_bytes(gzip.compress(pairs.write_ndjson().encode()))


def write_own(place: Path) -> None:
    """A user's own: pairs with a prompt, and benchmarks of several tasks and of one without a name."""
    place.mkdir(parents=True)
    for split, n in (("train", 24), ("test", 8)):
        pairs = [{"question": p, "good": a, "bad": b} for p, a, b in questions(n, n)]
        (place / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    asked = [{"prompt": p, "chosen": [a], "rejected": [b, f"{b} {b}"]} for p, a, b in questions(3 * ROWS, 99)]
    tasks = ["crafts", "crime", "chess"] * ROWS
    write([row | {"task": task} for row, task in zip(asked, tasks, strict=True)], place / "tasks.json")
    write(asked, place / "one-task.parquet")


# Kind of a source or benchmark that lies upstream -> what writes it to a place.
WRITERS: dict[str, Callable[[Path], None]] = {
    "hh-rlhf": write_hh_rlhf,
    **{kind: partial(write_benchmark, kind) for kind in PUBLISHED},
}


# --- models ---------------------------------------------------------------------------------------------------

# Family of the made backbone that stands for one of the paper's, by the folder that it lies in.
PAPER = {
    **dict.fromkeys(["gpt2", "gpt2-medium", "gpt2-large"], "gpt2"),
    **dict.fromkeys(["SmolLM2-135M", "SmolLM2-360M", "SmolLM2-1.7B"], "llama"),
}


def write_models(place: Path) -> None:
    """The paper's backbones, `qwen2` with a `reward-model` on it, and `llama.gguf`."""
    for name, family in {**PAPER, "qwen2": "qwen2"}.items():
        save_backbone(family, place / name)
    model, tokenizer = new_reward_model(place / "qwen2", 0, 0.5), load_tokenizer(place / "qwen2")
    save_reward_model(model, tokenizer, place / "reward-model")
    write_gguf(place / "SmolLM2-135M", place / "llama.gguf")


def write_gguf(folder: Path, file: Path) -> None:
    """A Llama's folder as one GGUF file, for texts of up to CONTEXT tokens.

    Queries and keys stay in the folder's order, which is not GGUF's: as random weights they are none the worse for it.
    """
    config, words = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json"))
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    special = {added["content"]: added["id"] for added in words["added_tokens"]}
    ids = words["model"]["vocab"] | special
    vocabulary = sorted(ids, key=ids.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
    writer.add_token_types([kinds[word in special] for word in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in words["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in load_file(folder / "model.safetensors").items():
        writer.add_tensor(str(names.get_name(name, (".weight",))), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
