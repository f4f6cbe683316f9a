"""The chat form: rewards are those of plain transformers on apply_chat_template, text by text."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
import torch
import transformers
from chat_templates import DATED, TEMPLATES, save_chat_model
from hypothesis import given
from hypothesis import strategies as some
from tiny_models import save_backbone, two_families
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmtension.base.errors import UserError
from rmtension.data.dialogues import Turn, rendered, turns_of
from rmtension.engine.given_models import give_reward_model
from rmtension.engine.lengths import lengths
from rmtension.engine.packing import batches
from rmtension.engine.reading import ChatReader, load_reader, pack_table
from rmtension.engine.reward_model import load_reward_model, score
from rmtension.engine.scoring import Scorer, read_request
from rmtension.engine.training import Trainer, TrainingRun, train_reward_model
from rmtension.study.models import GivenModel
from rmtension.study.stages import Training

CPU = torch.device("cpu")
PROMPT = [
    Turn("user", "How do I wash a red shirt?"),
    Turn("assistant", " Cold.\n"),
    Turn("user", "And a blue one\n\n?"),
]
REPLIES = ["Cold water.", "  Warm water, \n\nand é 你好 soap. ", "", "Cold water. No."]

# --- turns ----------------------------------------------------------------------------------------------------

PIECES = some.sampled_from(
    ["\n", "\n\n", "\r", " ", "Human:", "Human", "Assistant: ", ":", "a", "\u2028", "Human: Assistant:", "\t", "é"]
)
CONTENTS = some.lists(PIECES, max_size=5).map("".join)


def holds_a_mark(content: str) -> bool:
    """Whether a turn's words, with the blank before and the mark behind them, would be read as several turns."""
    breaks = ("\n\n", "\r\n\r\n")
    return any(f"{line}{name}:" in f" {content}" for line in breaks for name in ("Human", "Assistant"))


@given(some.lists(some.tuples(some.sampled_from(["user", "assistant"]), CONTENTS), min_size=1, max_size=4))
def test_turns_are_told_from_the_text_that_was_made_of_them(given_turns: list[tuple[str, str]]) -> None:
    turns = [Turn(*turn) for turn in given_turns if not holds_a_mark(turn[1])]
    if turns:
        assert turns_of(rendered(turns, "hh")) == turns


def test_a_mark_inside_a_turn_is_read_as_a_turn() -> None:
    turns = [Turn("user", "a"), Turn("assistant", "b\n\nHuman: c")]
    assert turns_of(rendered(turns, "hh")) == [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")]
    assert turns_of("Human: a\n\nAssistant:") == [Turn("user", "a"), Turn("assistant", "")], "as some files have it"
    for text in ("", "Hello\n\nHuman: a", "You are kind.\n\nHuman: a\n\nAssistant: b"):
        with pytest.raises(ValueError, match="no dialogue"):
            turns_of(text)


# --- rewards --------------------------------------------------------------------------------------------------


def plain_reward(folder: Path, turns: list[Turn]) -> float:
    """What anyone gets who follows the documentation of transformers."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = tokenizer.apply_chat_template([turn._asdict() for turn in turns], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return float(model(ids).logits)


def rewards(folder: Path, comparisons: pl.DataFrame) -> list[float]:
    model = load_reward_model(folder, CPU)
    kept, packed = pack_table(load_reader(folder, "chat"), comparisons, 512)
    assert kept == list(range(len(comparisons)))
    assert all((one.segments == 0).sum() > 20 for one in packed), "the prompt is shared"
    with torch.inference_mode():
        return [r for one in packed for batch in batches([one], 4096) for r in score(model, batch).tolist()]


def table(*rows: tuple[list[str], list[str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, {"chosen": pl.List(pl.String), "rejected": pl.List(pl.String)}, orient="row").select(
        pl.format("c{}", pl.int_range(pl.len())).alias("comparison_id"), pl.all()
    )


@two_families
@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_rewards_of_a_chat_template(name: str, pad: str, family: str, tmp_path: Path) -> None:
    """Of Mistral's a text ends in the end-of-text token, which transformers passes over where it is the padding."""
    folder = save_chat_model(family, TEMPLATES[name], tmp_path, pad)
    dialogues = [[*PROMPT, Turn("assistant", reply)] for reply in REPLIES]
    texts = [rendered(turns, "hh") for turns in dialogues]
    found = rewards(folder, table((texts[:1], texts[1:3]), (texts[3:], texts[:1])))
    expected = [plain_reward(folder, turns) for turns in [*dialogues, dialogues[0]]]
    assert found == pytest.approx(expected, abs=1e-5)
    assert len({round(reward, 4) for reward in expected}) == 4, "else nothing is compared"


PADDED = ["Cold water.<pad>", "Cold.<pad><pad>", "<pad>", "Cold<pad> water.", "Cold water. <pad> ", "Cold water."]


@two_families
@pytest.mark.parametrize("template", ["hh", "none", "paper"])
def test_a_text_is_scored_before_the_padding_that_it_ends_in(template: str, family: str, tmp_path: Path) -> None:
    """As transformers has it, which scores nothing but padding at its first token."""
    folder = save_chat_model(family, None, tmp_path)
    row = {"prompt": "" if template == "none" else "How do I wash a red shirt?", "responses": PADDED}
    scorer = Scorer(folder, template, pl.DataFrame(schema=["unit", "layer", "neuron"]), CPU)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    texts = [dialogue.text for dialogue in read_request(row, "", template).dialogues]
    with torch.inference_mode():
        expected = [float(model(**tokenizer(text, return_tensors="pt")).logits) for text in texts]
    for is_running in (False, True):
        [answer] = scorer.answers([("", row)], is_running)
        assert json.loads(answer)["scores"] == pytest.approx(expected, abs=1e-5)


def test_training_reads_before_padding_too(tmp_path: Path) -> None:
    """The padding token of a new reward model is its tokenizer's, where the backbone's configuration has none."""
    save_backbone("llama", tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token_id": None}))
    texts = {side: [f"\n\nHuman: a\n\nAssistant: {side}{end}" for end in ("", "<|pad|>", "<|pad|><|pad|>")]
             for side in ("chosen", "rejected")}  # fmt: skip
    words = {name: pl.lit(name) for name in ("comparison_id", "source", "orientation")}
    pl.DataFrame(texts).with_columns(**words).write_parquet(tmp_path / "pairs.parquet")
    settings = Training(pairs_per_step=1, evaluation_interval=9)
    files = (tmp_path / "pairs.parquet",) * 2
    run = TrainingRun(tmp_path, *files, code=[], settings=settings, epochs=1, seed=0, budget=99, threads=1)
    with patch.object(Trainer, "fit", side_effect=KeyboardInterrupt) as fit, pytest.raises(KeyboardInterrupt):
        train_reward_model(run, tmp_path / "checkpoint", tmp_path / "output", {})
    pairs = fit.call_args.args[0]
    assert len({tuple(pair.tokens) for pair in pairs}) == 1 and len(pairs) == 3


def test_marks_are_not_doubled(tmp_path: Path) -> None:
    """Llama 3's template writes a begin-of-text token, and its tokenizer puts one before each plain text."""
    reader = load_reader(save_chat_model("llama", TEMPLATES["Llama 3"], tmp_path), "chat")
    text = rendered(PROMPT[:2], "hh")
    [ids] = reader([text])["input_ids"]
    assert ids.count(reader.tokenizer.bos_token_id) == 1
    assert ids[-1] == reader.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert load_reader(tmp_path, "hh")([text])["input_ids"] == reader.tokenizer([text])["input_ids"]


def test_the_date_of_a_template_is_the_same_on_any_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Day(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2024, 7, 26)

    reader = load_reader(save_chat_model("llama", DATED, tmp_path), "chat")
    text = rendered(PROMPT[:2], "hh")
    [found] = reader([text])["input_ids"]
    assert "Today: 26 July 2024, in short 26 Jul 24" in reader.tokenizer.decode(found)
    monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", Day)
    messages = [turn._asdict() for turn in PROMPT[:2]]
    assert found == reader.tokenizer.apply_chat_template(messages)["input_ids"]


# --- what cannot be read --------------------------------------------------------------------------------------


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    return save_chat_model("llama", TEMPLATES["Gemma"], tmp_path)


def hh(*turns: str) -> str:
    """Of 'user: words' …"""
    return rendered([Turn(*turn.split(": ", 1)) for turn in turns], "hh")


def test_what_a_template_refuses_is_left_out_and_the_log_names_it(
    strict: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = hh("user: a", "assistant: b"), hh("user: a", "assistant: c")
    twice = hh("user: a", "user: b", "assistant: c")
    comparisons = table(
        ([good[0]], [twice]),
        ([good[0]], [good[1]]),
        (["no dialogue"], [good[1]]),
        ([hh("user: " + "long " * 600, "assistant: b")], [good[1]]),
    )
    reader = load_reader(strict, "chat")
    with caplog.at_level(logging.WARNING):
        kept, packed = pack_table(reader, comparisons, 512)
    assert (kept, len(packed)) == ([1], 1)
    assert caplog.messages == [
        "comparison c0, and 1 others, cannot be read: its chat template says: Conversation roles must alternate "
        "user/assistant/user/assistant/...",
        "1 of 4 comparisons have a text that is empty or longer than 512 tokens",
    ]
    counted = lengths(reader, comparisons)
    assert counted["prefix_tokens"].is_null().to_list() == [True, False, True, False]
    assert counted["chosen_tokens"].is_null().to_list() == [True, False, True, False]


FAULTS = {
    "none": (None, "its tokenizer has no chat template; take template: hh, or give it one"),
    "several": ({"rag": "a", "tool_use": "b"}, r"its chat template cannot be used \(This model has multiple chat"),
    "syntax": (
        "{% for message in messages %}",
        r"its chat template cannot be used \(its chat template says: Unexpected",
    ),
    "system": ("{{ raise_exception('A system message is needed') }}", "says: A system message is needed"),
    "prompts": ("{{ messages[0]['content'] }}", "its chat template leaves out what the assistant says; correct it"),
    "unsafe": ("{{ messages.__class__.__mro__ }}", "its chat template"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_template_that_cannot_be_used_is_one_line(fault: str, tmp_path: Path) -> None:
    template, expected = FAULTS[fault]
    folder = save_chat_model("llama", template, tmp_path)
    with pytest.raises(UserError, match=f"^{folder}: .*{expected}") as raised:
        load_reader(folder, "chat")
    assert "\n" not in str(raised.value)
    load_reader(folder, "hh")


def test_a_model_that_is_given_is_checked_in_the_form_that_it_reads(tmp_path: Path) -> None:
    folder = save_chat_model("llama", TEMPLATES["Mistral"], tmp_path / "models" / "rm", pad="</s>")
    source = {"kind": "given", "path": "rm", "template": "chat"}
    give_reward_model(GivenModel.model_validate(source), str(folder.parent), tmp_path / "there")
    assert isinstance(load_reader(tmp_path / "there"), ChatReader)
    assert not isinstance(load_reader(folder), ChatReader)
    save_chat_model("llama", None, tmp_path / "models" / "mute")
    with pytest.raises(UserError, match=f"^{folder.parent}/mute: its tokenizer has no chat template"):
        give_reward_model(GivenModel.model_validate(source | {"path": "mute"}), str(folder.parent), tmp_path / "none")
    assert not (tmp_path / "none").exists()
