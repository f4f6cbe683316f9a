from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from example_cards import SMOLLM2, STUDY, pythia_70m_shapes, write_backbone, write_study

from rmtension.analysis.cards import STABLE, cards, parameters
from rmtension.analysis.data_cards import benchmarks_card, data_card
from rmtension.base.errors import UserError
from rmtension.study.stages import Training
from rmtension.study.study import Study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path)


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


def test_sizes_of_a_model_that_reads_pictures_are_those_of_its_text_part(folder: Path) -> None:
    """Of google/gemma-3-4b-it: what its file leaves to the family is not 0."""
    said = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    pictures = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    published = {"model_type": "gemma3", "text_config": said, "vision_config": pictures}
    (folder / "backbones/gpt2/config.json").write_text(json.dumps(published))
    card = cards(folder, STUDY)["models_card"].row(0, named=True)
    assert (card["family"], card["layers"], card["width"], card["neurons_per_layer"]) == ("gemma3", 34, 2560, 10240)
    assert (card["neurons"], card["heads"], card["vocabulary"], card["positions"]) == (348_160, None, None, None)


def test_an_output_layer_of_its_own_counts(folder: Path) -> None:
    untied = SMOLLM2 | {"tie_word_embeddings": False}
    (folder / "backbones/smollm2-135m/config.json").write_text(json.dumps(untied))
    assert cards(folder, STUDY)["models_card"]["parameters"][1] == 134_515_008 + 49_152 * 576


def test_data_card_measures_both_sides_in_characters(folder: Path) -> None:
    card = data_card(folder, STUDY)
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
        "seeds": "5, 2", "adopted": "", "method": "joint", "epochs": 2, "keep": "best", "steps": 3,
        "train_pairs": 63.5, "train_left_out": 3, "validation_pairs": 6, "validation_left_out": 1,
        "kept_step": 1, "kept_loss": 0.5, "kept_accuracy": 75, "device": "cuda, cpu", "arithmetic": "bfloat16",
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


def test_what_was_not_trained_is_said_by_its_method_alone(folder: Path) -> None:
    for place in folder.glob("reward_models/gpt2/both/seed-*"):
        (place / "training.parquet").unlink()
        (place / "provenance.json").write_text(json.dumps({"method": "merged", "parts": {}, "environment": {}}))
    row = cards(folder, STUDY)["training_card"].row(2, named=True)
    assert {key: value for key, value in row.items() if value} == {
        "model": "gpt2", "regime": "both", "seeds": "5, 2", "method": "merged",
    }  # fmt: skip


def test_compute_card_adds_up_seeds_and_leaves_wall_times_out(folder: Path) -> None:
    made = cards(folder, STUDY)
    assert made["compute_card"].row(0) == ("gpt2", "helpful", "train", "5, 2", 6, 1207, "cuda, cpu")
    assert not [name for table in made.values() for name in table.columns if "second" in name]


def test_benchmarks_card_counts_candidates(folder: Path) -> None:
    assert benchmarks_card(folder, STUDY).rows() == [
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


def test_hygiene_says_how_many_pairs_statistics_took(folder: Path) -> None:
    stable = Study.model_validate(STUDY.model_dump() | {"activations": {"stable": 0.99}})
    for model, regime, seed in product(stable.models, stable.regimes, stable.seeds):
        path = folder / f"activations/{model}/{regime}/seed-{seed}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        said = {"n_pairs": len(model) + seed, "of_pairs": 70, "agreement": 0.99125}
        pl.DataFrame([said] * 3, STABLE).write_parquet(path)
    before, table = cards(folder, STUDY)["hygiene"], cards(folder, stable)["hygiene"]
    more = table.join(before, on=table.columns, how="anti", nulls_equal=True, maintain_order="left")
    assert len(more) == len(table) - len(before) == 2 * 3 * 2
    reason = "read for seed {}; agreement of their halves 0.9912".format
    assert more.filter(model="gpt2", regime="both").rows() == [
        ("both", "gpt2", "", "train", reason(seed), "", 4 + seed, 70) for seed in (5, 2)
    ]


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
        data_card(folder, STUDY)
        cards(folder, STUDY)
