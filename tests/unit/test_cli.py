"""The command line: scores of a user's texts, questions about neuron sets, and mistakes in one line."""

from __future__ import annotations

import gzip
import json
import os
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from chat_templates import TEMPLATES, save_chat_model
from example_results import SETTINGS
from tiny_models import block, random_model
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from typer.testing import CliRunner

from rmtension.base.errors import UserError
from rmtension.cli import app
from rmtension.engine import scoring
from rmtension.engine.reward_model import load_tokenizer, save_reward_model

PROGRAM = [sys.executable, "-c", "from rmtension.cli import main; main()"]
UNITS = ["unit", "layer", "neuron"]


def run(*arguments: object, given: str | bytes | None = None) -> str:
    """What a command prints; a user's mistake is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    """A saved reward model that reads single characters, so that every mark of a template counts; 64 at most."""
    characters = ["~", *"\n :HA.", *string.ascii_lowercase]
    vocabulary = {character: i for i, character in enumerate(characters)}
    reader = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="~"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=reader, eos_token="~", pad_token="~")
    save_reward_model(random_model(family), tokenizer, tmp_path / "rm")
    return tmp_path / "rm"


def plain_scores(folder: Path, texts: list[str], change: Any = None) -> list[float]:
    """Transformers' own forward pass, each text alone."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if change:
        change(model)
    tokenizer = load_tokenizer(folder)
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).logits.item() for text in texts]


# --- score ----------------------------------------------------------------------------------------------------

TURNS = [
    {"role": "user", "content": "a b"},
    {"role": "assistant", "content": "c"},
    {"role": "user", "content": "d"},
]
FILLED = {
    "hh": ["\n\nHuman: go on\n\nAssistant: yes", "\n\nHuman: a b\n\nAssistant: c\n\nHuman: d\n\nAssistant: yes"],
    "paper": ["Human:go on\n\nAssistant:yes", "Human:a b\n\nAssistant:c\n\nHuman:d\n\nAssistant:yes"],
}


@pytest.mark.parametrize("template", FILLED)
def test_scores_of_prompts_and_turns(folder: Path, template: str) -> None:
    given = "".join(json.dumps({"prompt": p, "responses": ["yes", "no way"]}) + "\n" for p in ("go on", TURNS))
    texts = [text.removesuffix("yes") + end for text in FILLED[template] for end in ("yes", "no way")]
    scores = [score for line in lines(run("score", folder, "--template", template, given=given))
              for score in line["scores"]]  # fmt: skip
    assert scores == pytest.approx(plain_scores(folder, texts), abs=1e-5)


def test_scores_of_pairs(folder: Path) -> None:
    """With a prompt the template is filled; whole dialogues are taken as they are, whatever the template."""
    given = [
        {"prompt": "go", "chosen": "yes", "rejected": "no"},
        {"chosen": "Human: go.", "rejected": "Human: go. no", "other": 1},
    ]
    printed = lines(run("score", folder, given="\n".join(map(json.dumps, given))))
    start = "\n\nHuman: go\n\nAssistant: "
    texts = [start + "yes", start + "no", "Human: go.", "Human: go. no"]
    assert [list(line) for line in printed] == [["chosen_score", "rejected_score"]] * 2
    scores = [score for line in printed for score in line.values()]
    assert scores == pytest.approx(plain_scores(folder, texts), abs=1e-5)


def test_scores_of_arguments_without_a_template(folder: Path) -> None:
    printed = run("score", folder, "--template", "none", "--prompt", "a b", "--response", " c", "--response", "d")
    assert lines(printed)[0]["scores"] == pytest.approx(plain_scores(folder, ["a b c", "a bd"]), abs=1e-5)


def test_scores_in_the_models_own_chat_form(tmp_path: Path) -> None:
    """Turns with marks inside them are rendered as they are; a template's refusal leaves one text without a score."""
    folder = save_chat_model("llama", TEMPLATES["Gemma"], tmp_path)
    marked = [*TURNS[:2], TURNS[2] | {"content": "what is\n\nHuman: in a text?"}]
    odd = {"chosen": "\n\nHuman: a\n\nHuman: b\n\nAssistant: c", "rejected": "\n\nHuman: a\n\nAssistant: b"}
    rows: list[dict[str, Any]] = [{"prompt": marked, "chosen": "yes", "rejected": "no\n\nAssistant: no"}, odd]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for more in [], ["--tokens"]:
        command = ["score", str(folder), "--template", "chat", *more]
        done = CliRunner().invoke(app, command, input="\n".join(map(json.dumps, rows)), catch_exceptions=False)
        assert done.stderr == (
            "1 of 4 texts cannot be read: their scores are null; the first is at standard input: line 2: its chat "
            "template says: Conversation roles must alternate user/assistant/user/assistant/...\n"
        )
        first, second = lines(done.stdout)
        assert second["chosen_score"] is None and isinstance(second["rejected_score"], float)
        for side in ("chosen", "rejected"):
            turns = [*marked, {"role": "assistant", "content": rows[0][side]}]
            ids = tokenizer.apply_chat_template(turns, return_tensors="pt")["input_ids"]
            assert first[f"{side}_score"] == pytest.approx(model(ids).logits.item(), abs=1e-5)
    assert second["chosen_running"] is None and second["rejected_running"]["rewards"][-1] == second["rejected_score"]
    done = CliRunner().invoke(app, [*command, "--prompt", "a", "--response", "a " * 600], catch_exceptions=False)
    assert lines(done.stdout) == [{"scores": [None], "running": [None]}]
    assert done.stderr == "1 of 1 texts are empty or longer than 512 tokens: their scores are null\n"
    given = ["score", folder, "--prompt", "a", "--response", "b"]
    assert (in_chat := run(*given, "--template", "chat")) != run(*given)
    (folder / "given.json").write_text('{"template": "chat", "label": null}')
    assert run(*given) == in_chat != run(*given, "--template", "hh"), "as its study reads it"


def test_whole_dialogues_that_are_none_cannot_be_in_the_chat_form(tmp_path: Path) -> None:
    folder = save_chat_model("llama", TEMPLATES["ChatML"], tmp_path)
    row = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "c"}
    with pytest.raises(UserError, match=r"^standard input: line 1: field 'rejected': no dialogue: it does not begin"):
        run("score", folder, "--template", "chat", given=json.dumps(row))


def test_order_is_kept_over_batches_and_long_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "REQUESTS", 3)
    monkeypatch.setattr(scoring, "TOKENS", 40)
    several = [[string.ascii_lowercase[i] * (1 + 7 * i % 11) for i in range(first, 20)] for first in range(8)]
    given = "\n\n".join(json.dumps({"prompt": "x", "responses": responses}) for responses in several)
    printed = lines(run("score", folder, "--template", "none", given=given))
    for responses, line in zip(several, printed, strict=True):
        assert line["scores"] == pytest.approx(plain_scores(folder, [f"x{r}" for r in responses]), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2"])
def test_texts_that_cannot_be_scored_are_null_and_counted(folder: Path, tmp_path: Path) -> None:
    """Through the real program and a pipe."""
    requests = [{"prompt": "", "responses": ["a" * 64, "a" * 65, "", "b"]}, {"prompt": "", "responses": ["c"]}]
    command = [*PROGRAM, "score", str(folder), "--template", "none"]
    given = "\n".join(map(json.dumps, requests))
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=600, check=True)
    first, second = (line["scores"] for line in lines(done.stdout))
    expected = plain_scores(folder, ["a" * 64, "b", "c"])
    assert [first[0], first[3], second[0]] == pytest.approx(expected, abs=1e-5)
    assert first[1:3] == [None, None]
    assert done.stderr == "2 of 5 texts are empty or longer than 64 tokens: their scores are null\n"


def test_a_set_that_is_ablated(folder: Path, family: str, tmp_path: Path) -> None:
    """As if what reads those neurons had no weight."""
    rows = [("mine", "neuron", 0, 3), ("mine", "neuron", 2, 5), ("other", "neuron", 1, 1)]
    sets = tmp_path / "sets.parquet"
    pl.DataFrame(rows, schema=["ablation", *UNITS], orient="row").write_parquet(sets)

    def without_weights(model: Any) -> None:
        for layer, neuron in ((0, 3), (2, 5)):
            block(model, layer).from_neurons.data[neuron] = 0

    arguments = ("score", folder, "--template", "none", "--prompt", "a b", "--response", " c")
    [whole] = lines(run(*arguments))
    [ablated] = lines(run(*arguments, "--ablate", f"{sets}:mine"))
    assert ablated["scores"] == pytest.approx(plain_scores(folder, ["a b c"], without_weights), abs=1e-5)
    assert ablated["scores"] != pytest.approx(whole["scores"], abs=1e-3)


@pytest.mark.parametrize("family", ["gpt2"])
def test_every_form_of_input_gives_the_same_lines(folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "responses": ["yes", "no"]} for prompt in ("a", "b c", "d")]
    (tmp_path / "f.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    pl.DataFrame(rows).write_parquet(tmp_path / "f.pq")
    (tmp_path / "shards").mkdir()
    for i in range(3):
        pl.DataFrame(rows[i : i + 1]).write_parquet(tmp_path / "shards" / f"test-0000{i}-of-00003.parquet")
    expected = run("score", folder, given="\n".join(map(json.dumps, rows)))
    assert len(lines(expected)) == 3
    assert run("score", folder, given=json.dumps(rows)) == expected
    for name in ("f.json", "f.jsonl.gz", "f.pq", "shards"):
        assert run("score", folder, tmp_path / name) == expected
    (tmp_path / "f.json").write_text(json.dumps([*rows, {}]))
    with pytest.raises(UserError, match=r"f\.json: row 3: field 'chosen' is missing"):
        run("score", folder, tmp_path / "f.json")


@pytest.mark.parametrize("family", ["gpt2"])
def test_texts_with_marks_inside_turns_are_counted(folder: Path) -> None:
    responses = ["yes", "Human: a", "a\n\nHuman: b\n\nAssistant: c", "a Human: b"]
    given = json.dumps({"prompt": "q", "responses": responses})
    for template, said in (("hh", "2 of 4 texts hold the mark of a turn inside a turn\n"), ("none", "")):
        command = ["score", str(folder), "--template", template]
        assert CliRunner().invoke(app, command, input=given, catch_exceptions=False).stderr == said


@pytest.mark.parametrize("family", ["gpt2"])
def test_texts_that_are_no_dialogues_are_counted(folder: Path) -> None:
    """As where the prompt lies under a name of its own."""
    rows = [{"question": "q", "chosen": "a", "rejected": "b"}, {"chosen": FILLED["hh"][0], "rejected": "b"}]
    given = "\n".join(map(json.dumps, rows))
    said = "3 of 4 texts have no assistant's turn: is their prompt in another field?\n"
    for template, expected in (("hh", said), ("none", "")):
        command = ["score", str(folder), "--template", template]
        assert CliRunner().invoke(app, command, input=given, catch_exceptions=False).stderr == expected


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_pipe_in_place_of_a_file_loses_no_row(folder: Path, tmp_path: Path) -> None:
    """As the shell gives one for `<(zcat f.jsonl.gz)`: it can be read once."""
    content = "".join(json.dumps({"prompt": "a", "responses": [letter]}) + "\n" for letter in "bcd")
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", f"printf %s '{content}' > '{tmp_path}/pipe'"])
    assert run("score", folder, tmp_path / "pipe") == run("score", folder, given=content)
    assert writer.wait(timeout=60) == 0


@pytest.mark.parametrize("family", ["gpt2"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", gzip.compress(b"", mtime=0)])
def test_a_file_without_a_row_is_one_line(folder: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / ("f.gz" if content.startswith(gzip.compress(b"", mtime=0)[:2]) else "f.json")
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{file}: no rows$"):
        run("score", folder, file)


MISTAKES = {
    "{": "line 2: no JSON (",
    "[]": "line 2: no mapping of fields to values",
    '{"prompt": "a", "responses": []}': "line 2: field 'responses': an empty list",
    '{"prompt": "a", "responses": ["b", 1]}': "line 2: field 'responses': int instead of text",
    '{"prompt": "a", "responses": null}': "line 2: field 'responses': empty",
    '{"prompt": "a", "chosen": ["b", "c"], "rejected": "d"}': "line 2: field 'chosen': several texts in a pair",
    '{"prompt": 1, "responses": ["b"]}': "line 2: field 'prompt': int instead of text",
    '{"prompt": null, "chosen": "b", "rejected": "c"}': "line 2: field 'prompt': empty",
    '{"responses": ["b"]}': "line 2: field 'prompt' is missing; found responses",
    '{"chosen": "b"}': "line 2: field 'rejected' is missing",
    '{"prompt": [{"role": "system", "content": "a"}], "responses": ["b"]}':
        "line 2: field 'prompt': turn 0: key 'role': 'system' is neither 'user' nor 'assistant': leave it out, or put"
        " it into the first user turn",
    '{"prompt": [{"role": "assistant", "content": "a"}], "responses": ["b"]}':
        "line 2: field 'prompt': the last turn is not the user's",
    '{"prompt": "Human: a\\n\\nAssistant:", "responses": ["b"]}': "line 2: field 'prompt': it has the marks",
}  # fmt: skip


@pytest.mark.parametrize("family", ["gpt2"])
@pytest.mark.parametrize("mistake", [*MISTAKES, b"\xff"])
def test_a_mistake_in_a_line_names_file_line_and_field(folder: Path, tmp_path: Path, mistake: str | bytes) -> None:
    file = tmp_path / "texts.jsonl"
    wrong = mistake if isinstance(mistake, bytes) else mistake.encode()
    file.write_bytes(b'{"chosen": "a", "rejected": "b"}\n' + wrong + b"\n")
    with pytest.raises(UserError) as raised:
        run("score", folder, file)
    message = MISTAKES[mistake] if isinstance(mistake, str) else "line 2: no JSON ("
    assert str(raised.value).startswith(f"{file}: {message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("family", ["gpt2"])
def test_mistakes_of_score(folder: Path, tmp_path: Path) -> None:
    sets = tmp_path / "sets.parquet"
    pl.DataFrame([("mine", "neuron", 3, 3)], schema=["ablation", *UNITS], orient="row").write_parquet(sets)
    text = ["--prompt", "a", "--response", "b"]
    turns = json.dumps({"prompt": TURNS, "responses": ["a"]})
    for arguments, message in {
        (tmp_path / "none", *text): "none: no such folder here; a model of the hub has one in hub/ once",
        (folder, "--prompt", "a"): "--prompt and --response go together, without a file",
        (folder, "texts.jsonl", *text): "--prompt and --response go together, without a file",
        (folder, "--template", "hhh", *text): "--template: no template 'hhh'; did you mean 'hh'?",
        (
            folder,
            "--template",
            "none",
        ): "standard input: line 1: field 'prompt': turns cannot be joined without a template",
        (folder, "--ablate", "sets", *text): "sets: give the file of sets and the name of one as FILE:NAME",
        (folder, "--ablate", f"{sets}:min", *text): "no set 'min' that holds anything; did you mean 'mine'?",
        (folder, "--ablate", f"{sets}:mine", *text): "not of this model",
        (folder, "--ablate", "gone.parquet:mine", *text): "gone.parquet: cannot be read",
        (folder, "gone.jsonl"): "gone.jsonl: no such file",
    }.items():
        with pytest.raises(UserError) as raised:
            run("score", *arguments, given=turns)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_label_is_named_and_a_form_that_nobody_named_is_said(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder, num_labels=2, id2label={0: "bad", 1: "good"})
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    command = ["score", str(folder), "--label", "good", "--prompt", "a", "--response", "b"]
    text = load_tokenizer(folder)("\n\nHuman: a\n\nAssistant: b", return_tensors="pt")
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert lines(done.stdout)[0]["scores"] == pytest.approx([model.eval()(**text).logits[0, 1].item()], abs=1e-5)
    assert done.stderr == ""
    (folder / "chat_template.jinja").write_text(TEMPLATES["Gemma"])
    said = "texts are read in the form hh; its tokenizer has another of its own, --template chat\n"
    assert CliRunner().invoke(app, command, catch_exceptions=False).stderr == said
    assert CliRunner().invoke(app, [*command, "--template", "hh"], catch_exceptions=False).stderr == ""


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_bare_backbone_is_no_reward_model(folder: Path) -> None:
    """Transformers would read it, and give it a random head."""
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    done = subprocess.run([*PROGRAM, "score", str(folder), "--prompt", "a", "--response", "b"],
                          capture_output=True, text=True, timeout=600, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    said = "no head among its tensors (config.json names GPT2LMHeadModel): it gives no rewards"
    assert f"error: {folder}: {said}; name a model that was trained to\n" in done.stderr


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from rmtension.cli import app\n"
        "try: app(['score', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'transformers', 'polars', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.endswith("[]\n")
    assert "Examples:" in done.stdout


# --- lock -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("benchmark", "said"),
    [
        ({"kind": "synthetic", "per_task": 4}, "it reads nothing from the hub"),
        (
            {"kind": "rm-bench", "hub": "x/y", "revision": "c" * 40},
            "nothing to look up: the commits of all that it reads from the hub are known",
        ),
    ],
)
def test_where_no_commit_is_looked_up_that_is_said(tmp_path: Path, benchmark: dict[str, Any], said: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(SETTINGS | {"benchmarks": {"own-test": {"kind": "regime-test"}, "one": benchmark}}))
    assert run("lock", file) == f"{file}: {said}\n"
    assert list(tmp_path.iterdir()) == [file]


# --- neurons --------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two reward models of 3 layers with 4 neurons and 1 head: rankings, sets and statistics."""
    best = {"helpful": [(2, 3), (2, 0), (1, 1)], "harmless": [(2, 3), (0, 2), (1, 1)]}
    for regime, first in best.items():
        rest = [(layer, i) for layer in range(3) for i in range(4) if (layer, i) not in first]
        rows = [("magnitude", "neuron", *place, 12.0 - i, i + 1) for i, place in enumerate([*first, *rest])]
        rows += [("head-norm", "head", layer, 0, 3.0 - layer, layer + 1) for layer in range(3)]
        ranked = pl.DataFrame(rows, schema=["scoring", *UNITS, "score", "rank"], orient="row")
        sets = pl.DataFrame(
            [("shared", "neuron", 2, 3), ("shared", "neuron", 1, 1)], schema=["ablation", *UNITS], orient="row"
        )
        measured = [(layer, i, side, 9, layer + side_mean) for layer in range(3) for i in range(4)
                    for side, side_mean in (("chosen", 0.0), ("rejected", 1.0))]  # fmt: skip
        statistics = pl.DataFrame(measured, schema=["layer", "neuron", "response", "n_tokens", "mean"], orient="row")
        for stage, frame in {"neurons": ranked, "selected": sets, "activations": statistics}.items():
            file = tmp_path / stage / "m" / regime / "seed-0.parquet"
            file.parent.mkdir(parents=True)
            frame.write_parquet(file)
    return tmp_path


def test_what_a_ranking_contains(study: Path) -> None:
    ranking = study / "neurons/m/helpful/seed-0.parquet"
    told = json.loads(run("neurons", "show", ranking, "--percent", 25, "--top", 2, "--json"))
    assert (told["size"], told["of"]) == (3, 12)
    assert [(row["layer"], row["in_set"], row["third"], row["percent"]) for row in told["layers"]] == [
        (0, 0, "early", 0), (1, 1, "middle", 25), (2, 2, "late", 50)
    ]  # fmt: skip
    assert [row["percent"] for row in told["thirds"]] == pytest.approx([0, 100 / 3, 200 / 3])
    # mean: the plain average of the chosen and the rejected texts' figures
    assert told["top"] == [
        {"unit": "neuron", "layer": 2, "neuron": 3, "score": 12, "rank": 1, "mean": 2.5},
        {"unit": "neuron", "layer": 2, "neuron": 0, "score": 11, "rank": 2, "mean": 2.5},
    ]


def test_a_set_may_be_asked_for_by_its_number(study: Path) -> None:
    files = [study / f"neurons/m/{regime}/seed-0.parquet" for regime in ("helpful", "harmless")]
    by_count = json.loads(run("neurons", "show", files[0], "--count", 3, "--json"))
    assert by_count == json.loads(run("neurons", "show", files[0], "--percent", 25, "--json"))
    [both] = json.loads(run("neurons", "overlap", *files, "--count", 1, "--json"))
    assert (both["first_size"], both["intersection"]) == (1, 1)


def test_what_a_named_set_contains(study: Path) -> None:
    told = run("neurons", "show", f"{study}/selected/m/helpful/seed-0.parquet:shared")
    assert "shared: 2 of 12 units" in told
    assert "| neuron |     1 |      1 | 1.500 |" in told


@pytest.mark.parametrize("inside", ["selected/m/helpful", "selected/m", "selected", "."])
def test_a_set_is_found_from_inside_the_results(study: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    """The rankings and statistics that belong to it lie beside it."""
    monkeypatch.chdir(study / inside)
    file = (study / "selected/m/helpful/seed-0.parquet").relative_to(study / inside)
    told = run("neurons", "show", f"{file}:shared")
    assert "shared: 2 of 12 units" in told and "| neuron |     1 |      1 | 1.500 |" in told


def test_heads_are_a_set_too(study: Path) -> None:
    ranking = study / "neurons/m/helpful/seed-0.parquet"
    told = json.loads(run("neurons", "show", ranking, "--scoring", "head-norm", "--percent", 34, "--json"))
    assert (told["size"], told["of"], [row["in_set"] for row in told["layers"]]) == (1, 3, [1, 0, 0])


def test_overlap_with_its_chance(study: Path) -> None:
    files = [study / f"neurons/m/{regime}/seed-0.parquet" for regime in ("helpful", "harmless")]
    named = f"{study}/selected/m/helpful/seed-0.parquet:shared"
    first, second, third = json.loads(run("neurons", "overlap", *files, named, "--percent", 25, "--json"))
    # Random sets of 3 of 12 are expected to share 3 * 3 / 12; of 3 and 2, 3 * 2 / 12.
    assert (first["intersection"], first["union"], first["jaccard"]) == (2, 4, 0.5)
    assert first["chance"] == pytest.approx(0.75 / 5.25)
    assert (second["jaccard"], second["chance"]) == pytest.approx((2 / 3, 0.5 / 4.5))
    assert third["second"] == named
    table = run("neurons", "overlap", *files, named, "--percent", 25)
    assert "| 0.50 (0.14) |" in table
    assert "| 0.67 (0.11) |" in table


def test_mistakes_of_neurons(study: Path, tmp_path: Path) -> None:
    ranking, sets = (study / f"{stage}/m/helpful/seed-0.parquet" for stage in ("neurons", "selected"))
    text = tmp_path / "text.parquet"
    text.write_text("text")
    for arguments, message in {
        ("show", ranking, "--scoring", "magnitud"): f"{ranking}: no scoring 'magnitud'; did you mean 'magnitude'?",
        ("show", ranking, "--count", 13): f"{ranking}: there are 12 units by 'magnitude': give a smaller count",
        ("show", sets): f"{sets}: this file holds several sets: name one, as {sets}:NAME",
        ("show", text): f"{text}: cannot be read (",
        ("show", study / "activations/m/helpful/seed-0.parquet"): "column 'scoring' is missing; found layer",
    }.items():
        with pytest.raises(UserError) as raised:
            run("neurons", *arguments)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("percent", [0, 0.001])
def test_a_share_that_holds_no_neuron_is_no_set(study: Path, percent: float) -> None:
    ranking = study / "neurons/m/helpful/seed-0.parquet"
    said = f"^{ranking}: so small a share holds none of the 12 units by 'magnitude': give a larger --percent$"
    for command in (["show", ranking], ["overlap", ranking, ranking]):
        with pytest.raises(UserError, match=said):
            run("neurons", *command, "--percent", percent)


def test_one_set_overlaps_with_nothing(study: Path) -> None:
    with pytest.raises(UserError, match="name two or more"):
        run("neurons", "overlap", study / "neurons/m/helpful/seed-0.parquet")


def test_what_a_terminal_has_no_letter_for_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("\N{MINUS SIGN}1.5 <!-- rmtension: none.parquet mean -->", encoding="utf-8")
    command = [sys.executable, "-c", "from rmtension.cli import main; main()", "check", f"{tmp_path}/page.md"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert done.returncode == 1 and b"Traceback" not in done.stderr and b"no such table" in done.stdout


def test_sets_of_models_of_different_shape_do_not_overlap(study: Path) -> None:
    ranking = study / "neurons/m/helpful/seed-0.parquet"
    other = study / "neurons/m/harmless/seed-0.parquet"
    pl.read_parquet(other).filter(pl.col("layer") < 2).write_parquet(other)
    with pytest.raises(UserError, match="of models of different shape"):
        run("neurons", "overlap", ranking, other, "--percent", 25)
