"""Models and reward models of which only what the cards read has been written."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from rmtension.analysis.cards import cards
from rmtension.analysis.data_cards import data_cards
from rmtension.data.hygiene import counts
from rmtension.study.stages import Training
from rmtension.study.study import Study

STUDY = Study.model_validate({
    "name": "example",
    "seeds": [5, 2],
    "models": {
        "gpt2": {"source": {"kind": "pretrained", "hub": "openai-community/gpt2", "revision": "abc"}},
        "smollm2-135m": {"source": {"kind": "gguf", "path": "smollm2.gguf"}},
    },
    "sources": {o: {"kind": "synthetic", "objective": o, "train": 9, "test": 9} for o in ("helpful", "harmless")},
    "regimes": {
        "helpful": {"train": ["helpful"], "test": ["helpful"]},
        "harmless": {"train": ["harmless"], "test": ["harmless"]},
        "both": {"mixes": ["helpful", "harmless"]},
    },
    "benchmarks": {
        "own-test": {"kind": "regime-test"},
        "bench": {"kind": "rm-bench", "path": "rm-bench.parquet", "template": "paper"},
    },
})  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "n_inner": None,
        "vocab_size": 50257}  # fmt: skip
SMOLLM2 = {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9,
           "intermediate_size": 1536, "max_position_embeddings": 8192, "vocab_size": 49152,
           "tie_word_embeddings": True}  # fmt: skip


def gpt2_shapes() -> dict[str, list[int]]:
    """The tensors of the published file, causal masks among them."""
    layer = {"ln_1.weight": [768], "ln_1.bias": [768], "attn.bias": [1, 1, 1024, 1024],
             "attn.c_attn.weight": [768, 2304], "attn.c_attn.bias": [2304],
             "attn.c_proj.weight": [768, 768], "attn.c_proj.bias": [768],
             "ln_2.weight": [768], "ln_2.bias": [768], "mlp.c_fc.weight": [768, 3072], "mlp.c_fc.bias": [3072],
             "mlp.c_proj.weight": [3072, 768], "mlp.c_proj.bias": [768]}  # fmt: skip
    ends = {"wte.weight": [50257, 768], "wpe.weight": [1024, 768], "ln_f.weight": [768], "ln_f.bias": [768]}
    return ends | {f"h.{i}.{name}": shape for i in range(12) for name, shape in layer.items()}


def smollm2_shapes() -> dict[str, list[int]]:
    layer = {"self_attn.q_proj": [576, 576], "self_attn.k_proj": [192, 576], "self_attn.v_proj": [192, 576],
             "self_attn.o_proj": [576, 576], "mlp.gate_proj": [1536, 576], "mlp.up_proj": [1536, 576],
             "mlp.down_proj": [576, 1536], "input_layernorm": [576], "post_attention_layernorm": [576]}  # fmt: skip
    ends = {"model.embed_tokens.weight": [49152, 576], "lm_head.weight": [49152, 576], "model.norm.weight": [576]}
    return ends | {f"model.layers.{i}.{name}.weight": shape for i in range(30) for name, shape in layer.items()}


def pythia_70m_shapes() -> dict[str, list[int]]:
    """The tensors of the published file, causal masks and rotary frequencies among them."""
    layer = {"attention.bias": [1, 1, 2048, 2048], "attention.masked_bias": [], "attention.rotary_emb.inv_freq": [8],
             "attention.query_key_value.weight": [1536, 512], "attention.query_key_value.bias": [1536],
             "attention.dense.weight": [512, 512], "attention.dense.bias": [512],
             "mlp.dense_h_to_4h.weight": [2048, 512], "mlp.dense_h_to_4h.bias": [2048],
             "mlp.dense_4h_to_h.weight": [512, 2048], "mlp.dense_4h_to_h.bias": [512],
             "input_layernorm.weight": [512], "input_layernorm.bias": [512],
             "post_attention_layernorm.weight": [512], "post_attention_layernorm.bias": [512]}  # fmt: skip
    ends = {"gpt_neox.embed_in.weight": [50304, 512], "embed_out.weight": [50304, 512],
            "gpt_neox.final_layer_norm.weight": [512], "gpt_neox.final_layer_norm.bias": [512]}  # fmt: skip
    return ends | {f"gpt_neox.layers.{i}.{name}": shape for i in range(6) for name, shape in layer.items()}


def write_backbone(folder: Path, config: dict[str, Any], files: dict[str, dict[str, list[int]]]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for file, shapes in files.items():
        entries = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
        header = json.dumps({"__metadata__": {"format": "pt"}} | entries).encode()
        (folder / file).write_bytes(len(header).to_bytes(8, "little") + header)


def write_training(folder: Path, seed: int, keep: str) -> None:
    folder.mkdir(parents=True)
    training = Training.model_validate({"keep": keep}).model_dump(mode="json")
    provenance = {
        "method": "joint",
        "settings": {"training": training, "epochs": 2, "seed": seed},
        "environment": {"python": "3.11", "torch": "2.13"},
        "pairs": {"train": 60 + seed, "train_left_out": 3, "validation": 6, "validation_left_out": 1},
        "device": {"type": "cuda" if seed == 5 else "cpu", "precision": "bf16"},
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance))
    pl.DataFrame({
        "step": [1, 2, 3], "tokens": [100, 200, 300 + seed], "seconds": [0.1, 0.2, 0.3],
        "validation_loss": [0.5, None, 0.7], "validation_accuracy": [0.75, None, 0.5 + seed / 100],
    }).write_parquet(folder / "training.parquet")  # fmt: skip


def example_cards() -> dict[str, pl.DataFrame]:
    """Every card, of the example below."""
    with TemporaryDirectory() as folder:
        study = write_study(Path(folder))
        return data_cards(study, STUDY) | cards(study, STUDY)


def write_study(tmp_path: Path) -> Path:
    write_backbone(tmp_path / "backbones/gpt2", GPT2, {"model.safetensors": gpt2_shapes()})
    shapes = list(smollm2_shapes().items())
    sharded = {"model-1.safetensors": dict(shapes[:90]), "model-2.safetensors": dict(shapes[90:])}
    write_backbone(tmp_path / "backbones/smollm2-135m", SMOLLM2, sharded)
    for model in STUDY.models:
        for regime in STUDY.regimes:
            for seed in STUDY.seeds:
                path = tmp_path / f"reward_models/{model}/{regime}/seed-{seed}"
                write_training(path, seed, "last" if regime == "both" else "best")
    for regime in STUDY.regimes:
        own = STUDY.regimes[regime].mixes or [regime]
        pairs = pl.DataFrame({
            "comparison_id": [f"{source}/{row}" for source in own for row in range(2)],
            "chosen": ["é" * 4, "yes"] * len(own), "rejected": ["no", "n" * 10] * len(own),
            "source": [source for source in own for _ in range(2)],
        }).with_columns(orientation="source")  # fmt: skip
        for split in ("train", "validation", "test"):
            (tmp_path / f"data/{regime}").mkdir(parents=True, exist_ok=True)
            pairs.write_parquet(tmp_path / f"data/{regime}/{split}.parquet")
        odd = pl.concat(counts(source, "train", {"both sides the same": 4}, 9, "left out") for source in own)
        odd.write_parquet(tmp_path / f"data/{regime}/hygiene.parquet")
    (tmp_path / "benchmarks").mkdir()
    pl.DataFrame({
        "comparison_id": ["bench/0", "bench/1", "bench/2"],
        "task": ["chat", "chat", "ties"], "orientation": ["helpful", "helpful", "unoriented"],
        "chosen": [["a"], ["b"], ["c", "d"]], "rejected": [["x"], ["x", "y", "z"], ["x"]],
    }).write_parquet(tmp_path / "benchmarks/bench.parquet")  # fmt: skip
    return tmp_path
