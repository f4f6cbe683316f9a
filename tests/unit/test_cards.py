from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

from rmtension.analysis.cards import cards, parameters
from rmtension.base.errors import UserError
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
        "settings": {"training": training, "epochs": 2, "seed": seed},
        "environment": {"python": "3.11", "torch": "2.13"},
        "pairs": {"train": 60 + seed, "train_left_out": 3, "validation": 6, "validation_left_out": 1},
        "device": {"type": "cuda" if seed == 5 else "cpu", "precision": "bf16"},
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance))
    pl.DataFrame({
        "tokens": [100, 200, 300 + seed], "seconds": [0.1, 0.2, 0.3],
        "validation_loss": [0.5, None, 0.7], "validation_accuracy": [0.75, None, 0.5 + seed / 100],
    }).write_parquet(folder / "training.parquet")  # fmt: skip


def example_cards() -> dict[str, pl.DataFrame]:
    """Every card, of the example below."""
    with TemporaryDirectory() as folder:
        return cards(write_study(Path(folder)), STUDY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path)


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


def test_parameters_of_pythia_are_those_published(tmp_path: Path) -> None:
    write_backbone(tmp_path / "pythia", {}, {"model.safetensors": pythia_70m_shapes()})
    assert parameters(tmp_path / "pythia", {"tie_word_embeddings": False}) == 70_426_624


def test_models_card_knows_published_sizes(folder: Path) -> None:
    card = cards(folder, STUDY)["models_card"].rows_by_key("model", named=True, unique=True)
    assert card["gpt2"] == {
        "kind": "pretrained", "source": "openai-community/gpt2", "revision": "abc", "family": "gpt2", "layers": 12,
        "width": 768, "heads": 12, "neurons_per_layer": 3072, "vocabulary": 50257, "positions": 1024,
        "neurons": 36_864, "parameters": 124_439_808,
    }  # fmt: skip
    small = card["smollm2-135m"]
    assert (small["kind"], small["source"], small["revision"]) == ("gguf", "smollm2.gguf", "")
    assert (small["neurons"], small["positions"], small["parameters"]) == (46_080, 8192, 134_515_008)


def test_an_output_layer_of_its_own_counts(folder: Path) -> None:
    untied = SMOLLM2 | {"tie_word_embeddings": False}
    (folder / "backbones/smollm2-135m/config.json").write_text(json.dumps(untied))
    assert cards(folder, STUDY)["models_card"]["parameters"][1] == 134_515_008 + 49_152 * 576


def test_data_card_measures_both_sides_in_characters(folder: Path) -> None:
    card = cards(folder, STUDY)["data_card"]
    assert card.filter(regime="both", split="train").rows() == [
        ("both", "train", "helpful", "helpful", 2, (4 + 3 + 2 + 10) / 4, 10),
        ("both", "train", "harmless", "harmless", 2, (4 + 3 + 2 + 10) / 4, 10),
    ]
    assert card["split"].unique(maintain_order=True).to_list() == ["train", "validation", "test"]


def test_training_card_is_read_from_logs_and_provenance(folder: Path) -> None:
    card = cards(folder, STUDY)["training_card"].rows_by_key(["model", "regime"], named=True, unique=True)
    assert len(card) == 6
    helpful, both = card["gpt2", "helpful"], card["gpt2", "both"]
    assert helpful.pop("optimiser").startswith("AdamW")
    assert helpful == Training().model_dump(mode="json") | {
        "seeds": "5, 2", "adopted": "", "epochs": 2, "keep": "best", "steps": 3,
        "train_pairs": 63.5, "train_left_out": 3, "validation_pairs": 6, "validation_left_out": 1,
        "kept_loss": 0.5, "kept_accuracy": 75, "device": "cuda, cpu", "arithmetic": "bfloat16",
        "libraries": "python 3.11, torch 2.13",
    }  # fmt: skip
    assert (both["kept_loss"], both["kept_accuracy"]) == (0.7, pytest.approx((55 + 52) / 2))


def adopt(folder: Path, seed: int) -> None:
    for place in folder.glob(f"reward_models/*/*/seed-{seed}"):
        (place / "training.parquet").unlink()
        (place / "provenance.json").write_text(json.dumps({"adopted": "elsewhere", "environment": {}}))


def test_adopted_reward_models_are_said_to_be_so_and_have_no_training(folder: Path) -> None:
    whole = cards(folder, STUDY)
    adopt(folder, 5)
    made = cards(folder, STUDY)
    helpful = made["training_card"].row(0, named=True)
    assert (helpful["seeds"], helpful["adopted"]) == ("5, 2", "5")
    assert (helpful["epochs"], helpful["learning_rate"], helpful["train_pairs"]) == (2, 1e-4, 62)
    assert made["compute_card"].row(0) == ("gpt2", "helpful", "train", "5, 2", 3, 602, "cpu")
    adopt(folder, 2)
    none = cards(folder, STUDY)
    assert none["training_card"].schema == whole["training_card"].schema
    row = none["training_card"].row(0, named=True)
    assert (row.pop("model"), row.pop("regime"), row.pop("seeds"), row.pop("adopted")) == (
        "gpt2", "helpful", "5, 2", "5, 2",
    )  # fmt: skip
    assert not any(row.values())
    assert none["compute_card"].row(0) == ("gpt2", "helpful", "train", "5, 2", 0, 0, "")


def test_compute_card_adds_up_seeds_and_leaves_wall_times_out(folder: Path) -> None:
    made = cards(folder, STUDY)
    assert made["compute_card"].row(0) == ("gpt2", "helpful", "train", "5, 2", 6, 1207, "cuda, cpu")
    assert not [name for table in made.values() for name in table.columns if "second" in name]


def test_benchmarks_card_counts_candidates(folder: Path) -> None:
    assert cards(folder, STUDY)["benchmarks_card"].rows() == [
        ("own-test", "helpful", "helpful", 2, "1", "1", "regime-test", "", "", ""),
        ("own-test", "harmless", "harmless", 2, "1", "1", "regime-test", "", "", ""),
        ("bench", "chat", "helpful", 2, "1", "1 to 3", "rm-bench", "rm-bench.parquet", "", "paper"),
        ("bench", "ties", "unoriented", 1, "2", "1", "rm-bench", "rm-bench.parquet", "", "paper"),
    ]


def test_hygiene_brings_data_training_and_benchmarks_together(folder: Path) -> None:
    table = cards(folder, STUDY)["hygiene"]
    own = table.filter(pl.col("source").is_in(["helpful", "harmless"])).rows()
    same = ("both sides the same", "left out", 4, 9)
    assert own == [("helpful", "", "helpful", "train", *same), ("harmless", "", "harmless", "train", *same),
                   ("both", "", "helpful", "train", *same), ("both", "", "harmless", "train", *same)]  # fmt: skip
    long = ("a side too long, or without a token", "left out")
    assert table.filter(regime="both", model="gpt2").rows() == [
        ("both", "gpt2", "", "train", *long, 3, 65 + 3),
        ("both", "gpt2", "", "validation", *long, 1, 6 + 1),
    ]
    # The file has two comparisons of `chat` and other tasks than RM-Bench's.
    found = (
        table.filter(reason="comparisons, of those expected").select("source", "split", "treatment", "n", "of").rows()
    )
    assert found == [("bench", task, "", 0, n) for task, n in
                     (("Chat", 129), ("Math", 529), ("Safety Response", 157), ("Safety Refuse", 284))]  # fmt: skip


def test_counts_are_not_expected_of_a_benchmark_that_is_drawn_from(folder: Path) -> None:
    settings = STUDY.model_dump()
    settings["benchmarks"]["bench"]["max_per_task"] = 2
    table = cards(folder, Study.model_validate(settings))["hygiene"]
    assert table.filter(reason="comparisons, of those expected").is_empty()


def test_hygiene_finds_a_benchmarks_questions_in_training(folder: Path) -> None:
    for split, question in (("train", "p q"), ("validation", "r")):
        pairs = pl.DataFrame({"chosen": [f"\n\nHuman: {question}\n\nAssistant: x\n\nHuman: s\n\nAssistant: y"]})
        pairs = pairs.with_columns(
            comparison_id=pl.lit("s/0"), rejected="chosen", source=pl.lit("helpful"), orientation=pl.lit("helpful")
        )
        pairs.write_parquet(folder / f"data/helpful/{split}.parquet")
    asked = [[f"Human:{question}\n\nAssistant:z"] for question in ("p q", "q", "r", "s", "")]
    texts = pl.DataFrame({"chosen": asked, "rejected": asked}).with_columns(task=pl.lit("t"), orientation=pl.lit("o"))
    texts = texts.with_columns(comparison_id=pl.lit("bench"))
    texts.write_parquet(folder / "benchmarks/bench.parquet")
    table = cards(folder, STUDY)["hygiene"].filter(source="bench", reason="the opening question occurs in training")
    assert table.select("regime", "n", "of").rows() == [("helpful", 2, 5), ("harmless", 0, 5), ("both", 0, 5)]


@pytest.mark.parametrize("file", ["backbones/gpt2/config.json", "data/both/test.parquet", "benchmarks/bench.parquet",
                                  "data/both/hygiene.parquet",
                                  "reward_models/gpt2/both/seed-2/training.parquet"])  # fmt: skip
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"{file}: no such file"):
        cards(folder, STUDY)
