"""The running reward against the plain model on each truncated text, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from chat_templates import TEMPLATES, save_chat_model
from tiny_models import block, two_families
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from rmtension.cli import app
from rmtension.engine.reward_model import load_tokenizer
from rmtension.engine.running_reward import SCHEMA, running_rewards, token_bounds

CPU = torch.device("cpu")
QUESTION = "How do I wash a red shirt?"
REPLIES = ["Cold water, \n\n  by itself.", "Cold soap, é 你好 \U0001f600", "No"]
HH = "\n\nHuman: {}\n\nAssistant: {}"
Ids = list[int]


def truncated_rewards(folder: Path, ids: Ids, n: int, change: Callable[[Any], None] | None = None) -> list[float]:
    """A naive loop: a forward pass over the text cut behind each of its last n tokens."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if change:
        change(model)
    with torch.inference_mode():
        return [float(model(torch.tensor([ids[:end]])).logits) for end in range(len(ids) - n + 1, len(ids) + 1)]


def hh_ids(folder: Path, reply: str) -> Ids:
    ids: Ids = load_tokenizer(folder)(HH.format(QUESTION, reply))["input_ids"]
    return ids


def chat_ids(folder: Path, reply: str) -> Ids:
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": reply}]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids: Ids = tokenizer.apply_chat_template(messages)["input_ids"]
    return ids


IDS = {"hh": hh_ids, "chat": chat_ids}


def score(folder: Path, template: str, *more: str, replies: list[str]) -> dict[str, Any]:
    """The one line that is printed of one prompt."""
    given = json.dumps({"prompt": QUESTION, "responses": replies})
    command = ["score", str(folder), "--template", template, "--tokens", *more]
    result = CliRunner().invoke(app, command, input=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    line: dict[str, Any] = json.loads(result.stdout)
    return line


@pytest.mark.parametrize("template", IDS)
def test_the_reward_at_every_token_is_that_of_the_text_cut_there(template: str, family: str, tmp_path: Path) -> None:
    folder = save_chat_model(family, TEMPLATES["Llama 3"], tmp_path)
    line = score(folder, template, replies=REPLIES)
    for reply, of_reply, found in zip(REPLIES, line["scores"], line["running"], strict=True):
        said = reply + "<|eot_id|>" if template == "chat" else reply
        assert "".join(found["tokens"]).removeprefix(" ") == said and found["text"].endswith(said)
        assert found["tokens"] == [found["text"][start:end] for start, end in found["offsets"]]
        expected = truncated_rewards(folder, IDS[template](folder, reply), len(found["tokens"]))
        assert found["rewards"] == pytest.approx(expected, abs=1e-5)
        assert found["rewards"][-1] == of_reply
        assert len(set(found["rewards"])) == len(found["tokens"]) > 1


def test_running_rewards_of_an_ablated_model(family: str, tmp_path: Path) -> None:
    folder, selected = save_chat_model(family, TEMPLATES["ChatML"], tmp_path / "rm"), tmp_path / "sets.parquet"
    rows = [("set", "neuron", layer, neuron) for layer, neuron in [(0, 1), (1, 20), (2, 3)]]
    pl.DataFrame(rows, ["ablation", "unit", "layer", "neuron"], orient="row").cast(
        {"layer": pl.Int32, "neuron": pl.Int32}
    ).write_parquet(selected)

    def without_weights(model: Any) -> None:
        for _, _, layer, neuron in rows:
            block(model, layer).from_neurons.data[neuron] = 0

    line = score(folder, "chat", "--ablate", f"{selected}:set", replies=REPLIES[:1])
    [found] = line["running"]
    ids = chat_ids(folder, REPLIES[0])
    expected = truncated_rewards(folder, ids, len(found["rewards"]), without_weights)
    assert found["rewards"] == pytest.approx(expected, abs=1e-5)
    assert found["rewards"] != pytest.approx(truncated_rewards(folder, ids, len(expected)), abs=1e-3)


def test_the_last_token_that_is_scored_is_the_last_that_is_shown(tmp_path: Path) -> None:
    """Mistral's end-of-text token, where it is the padding, is passed over by transformers."""
    folder = save_chat_model("llama", TEMPLATES["Mistral"], tmp_path, pad="</s>")
    line = score(folder, "chat", replies=["Cold water"])
    assert "".join(line["running"][0]["tokens"]) == "Cold water"
    assert line["scores"] == pytest.approx(truncated_rewards(folder, chat_ids(folder, "Cold water"), 1), abs=1e-5)


@two_families
@pytest.mark.parametrize("template", IDS)
def test_comparisons_of_a_study(template: str, family: str, tmp_path: Path) -> None:
    """Both texts of a pair, one that begins as the other does; and one that is too long."""
    folder = save_chat_model(family, TEMPLATES["Qwen"], tmp_path)
    texts = [[HH.format(QUESTION, reply)] for reply in ("Cold water. No.", "Cold water.", "No " * 600, "")]
    rows = [("a", texts[0], texts[1]), ("b", texts[0], texts[2]), ("c", [*texts[1], *texts[0]], texts[3])]
    comparisons = pl.DataFrame(rows, ["comparison_id", "chosen", "rejected"], orient="row")
    found = running_rewards(folder, comparisons, template, 300, CPU)
    assert found.schema == SCHEMA
    places = [("a", "chosen", 0), ("a", "rejected", 0), ("b", "chosen", 0), ("b", "rejected", 0)]
    places += [("c", "chosen", 0), ("c", "chosen", 1), ("c", "rejected", 0)]
    assert found.select("comparison_id", "response", "candidate").rows() == places
    replies = ["Cold water. No.", "Cold water.", None, None, "Cold water.", "Cold water. No.", ""]
    for reply, row in zip(replies, found.iter_rows(named=True), strict=True):
        if reply is None:
            assert row["tokens"] is row["rewards"] is None
            continue
        assert "".join(row["tokens"]).strip().removesuffix("<|im_end|>") == reply
        expected = truncated_rewards(folder, IDS[template](folder, reply), len(row["tokens"]))
        assert row["rewards"] == pytest.approx(expected, abs=1e-5)


# --- where tokens stand ---------------------------------------------------------------------------------------


def bounds_of(tokenizer: Tokenizer, text: str) -> list[str]:
    bounds = token_bounds(tokenizer.encode(text).offsets, len(text)).tolist()
    return [text[start:end] for start, end in pairwise(bounds)]


def byte_level(trim: bool) -> Tokenizer:
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters | {"Ġa": 256, "<e>": 257}, merges=[("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = processors.TemplateProcessing(single="<e> $A <e>", special_tokens=[("<e>", 257)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=trim), end])
    return tokenizer


@pytest.mark.parametrize("trim", [True, False])
def test_tokens_lie_one_behind_the_other(trim: bool) -> None:
    """Blanks that offsets leave out, a character of four tokens, and marks around a text that stand for nothing."""
    pieces = bounds_of(byte_level(trim), " a\U0001f600  a ")
    assert pieces == ["", " a", "", "", "", "\U0001f600", " ", " a", " ", ""]


def test_tokens_of_words_take_the_blanks_before_them() -> None:
    words = Tokenizer(models.WordLevel({"ab": 0, "c": 1, "?": 2}, unk_token="?"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    assert bounds_of(words, "AB  c\nab") == ["AB", "  c", "\nab"]
    assert bounds_of(words, "") == []
