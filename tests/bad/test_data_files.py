"""Every kind of malformed file is one line that names the file, and the row and field where there is one."""

from __future__ import annotations

import gzip
import json
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter

from bad import refused
from rmtension.base.errors import UserError
from rmtension.data.benchmarks import Readable, read_benchmark
from rmtension.data.pairs import regime_pairs
from rmtension.study.data import PairSource, RegimeData, Validation
from rmtension.study.inputs import data_files

PLAIN = {"prompt": "p", "chosen": "c", "rejected": "r", "subset": "donotanswer"}
STYLES = {"prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat"}
TIES = {"prompt": "p", "chosen": ["c"], "rejected": ["r"], "subset": "Ties", "id": "ref:7"}
BEST = {"conversation_input": [{"role": "user", "content": "q"}], "bon_best": {"answer": "b"},
        "loser_list": [{"answer": "x"}], "category_path": "BoN_set/Harmlessness/S1"}  # fmt: skip
OWN = {"prompt": "p", "chosen": "c", "rejected": "r", "task": "mine"}
ASKED, REPLY = [{"role": "user", "content": "q"}], {"role": "assistant", "content": "a"}
MARKED = "Human:q\n\nAssistant:a\n\nHuman:r\n\nAssistant: "
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
HH = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}


def parquet(*rows: dict[str, Any]) -> bytes:
    pl.DataFrame(rows, strict=False).write_parquet(buffer := BytesIO())
    return buffer.getvalue()


def no_row(row: dict[str, Any]) -> bytes:
    pl.DataFrame([row]).clear().write_parquet(buffer := BytesIO())
    return buffer.getvalue()


def array(*rows: Any) -> bytes:
    return json.dumps(rows).encode()


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != field}


# what is wrong -> (kind of benchmark, file, its content, what is said of it)
BENCHMARKS: dict[str, tuple[str, str, bytes | None, str]] = {
    "no file": ("reward-bench", "f.parquet", None, "no such file"),
    "folder without the files": ("reward-bench", "f/README.md", b"", "a folder without data/filtered-*.parquet"),
    "folder for a file": ("own", "f/f.jsonl", lines(OWN), "a folder without the shards of just one"),
    "no parquet": ("reward-bench", "f.parquet", b"no parquet", "cannot be read ("),
    "empty parquet": ("reward-bench", "f.parquet", b"", "cannot be read ("),
    "cut-off parquet": ("reward-bench", "f.parquet", parquet(PLAIN)[:-40], "cannot be read ("),
    "damaged parquet": ("reward-bench", "f.parquet", b"PAR1" + bytes(200) + b"PAR1", "cannot be read ("),
    "empty file": ("own", "f.jsonl", b"", "no rows"),
    "no row": ("rm-bench", "f.json", b"[]", "no rows"),
    "field missing": ("reward-bench", "f.parquet", parquet(without(PLAIN, "rejected")),
                      "row 0: field 'rejected' is missing; found prompt, chosen, subset"),
    "field missing later on": ("own", "f.jsonl", lines(OWN, without(OWN, "prompt")),
                               "row 1: field 'prompt' is missing; found chosen, rejected, task"),
    "null": ("reward-bench", "f.parquet", parquet(PLAIN, PLAIN | {"prompt": None}), "row 1: field 'prompt': empty"),
    "number": ("reward-bench-2", "f.parquet", parquet(TIES | {"chosen": [1]}),
               "row 0: field 'chosen': int instead of text"),
    "prompt that is no text": ("own", "f.jsonl", lines(OWN, OWN | {"prompt": 3.5}),
                               "row 1: field 'prompt': float instead of text"),
    "empty list": ("reward-bench-2", "f.parquet", parquet(TIES, TIES | {"chosen": []}),
                   "row 1: field 'chosen': an empty list"),
    "null in a list": ("reward-bench-2", "f.parquet", parquet(TIES | {"rejected": ["r", None]}),
                       "row 0: field 'rejected': empty"),
    "wrong number of responses": ("rm-bench", "f.parquet", parquet(STYLES, STYLES | {"rejected": ["d", "e"]}),
                                  "row 1: field 'rejected': not 3 texts"),
    "several in a pair": ("reward-bench", "f.json", array(PLAIN | {"chosen": ["c", "d"]}),
                          "row 0: field 'chosen': not 1 texts"),
    "unknown subset": ("rm-bench", "f.json", array(STYLES, STYLES | {"domain": "cht"}),
                       "row 1: field 'domain': unknown task 'cht'; did you mean 'chat'?"),
    "unknown task": ("own", "f.jsonl", lines(OWN | {"task": "min"}),
                     "row 0: field 'task': unknown task 'min'; did you mean 'mine'?"),
    "unknown folder": ("rmb-best-of-n", "f.json", array(BEST | {"category_path": "BoN_set/Harmlessness/S12"}),
                       "row 0: field 'category_path': unknown task 'Harmlessness/S12'; did you mean"),
    "no folder": ("rmb-best-of-n", "f.json", array(BEST | {"category_path": "S1"}),
                  "row 0: field 'category_path': unknown task 'S1'"),
    "id of another form": ("reward-bench-2", "f.parquet", parquet(TIES | {"id": "7"}),
                           "row 0: field 'id': neither ref:N nor tied:N"),
    "same id": ("reward-bench-2", "f.parquet", parquet(TIES, TIES), "row 0: field 'id': that of another row"),
    "no answer": ("rmb-best-of-n", "f.json", array(BEST | {"loser_list": [{"llm_name": "m"}]}),
                  "row 0: field 'loser_list': turn 0: key 'role' is missing; found llm_name"),
    "no turn": ("rmb-best-of-n", "f.json", array(BEST | {"conversation_input": []}),
                "row 0: field 'conversation_input': an empty list"),
    "third role": ("rmb-best-of-n", "f.json", array(BEST | {"conversation_input": [{"role": "tool", "content": "q"}]}),
                   "row 0: field 'conversation_input': turn 0: key 'role': 'tool' is neither 'user' nor"),
    "broken line": ("own", "f.jsonl", lines(OWN) + b'{"prompt": "p", \n' + lines(OWN), "row 1: no JSON ("),
    "broken array": ("rm-bench", "f.json", array(STYLES)[:-1], "no JSON ("),
    "row that is no mapping": ("own", "f.jsonl", lines(OWN, "text"), "row 1: no mapping of fields to values"),
    "cut-off gzip": ("own", "f.jsonl.gz", gzip.compress(lines(OWN) * 99)[:-9], "cannot be read ("),
    "no gzip": ("own", "f.jsonl.gz", lines(OWN), "cannot be read ("),
    "no UTF-8": ("own", "f.jsonl", "é".encode("latin-1"), "row 0: no JSON ('utf-8' codec"),
    "UTF-16": ("own", "f.jsonl", '{"prompt": "p"}'.encode("utf-16"), "row 0: no JSON ('utf-8' codec"),
    "half a character": ("own", "f.jsonl", lines(OWN, OWN | {"chosen": "\ud800"}),
                         "row 1: field 'chosen': 'utf-8' codec can't encode character '\\ud800'"),
    "half a character in a turn": ("own", "f.jsonl", lines(OWN | {"prompt": [{"role": "user", "content": "\udfff"}]}),
                                   "row 0: field 'prompt': turn 0: key 'content': 'utf-8' codec"),
    "number without an end": ("own", "f.jsonl", b'{"prompt": ' + b"1" * 5000 + b"}", "row 0: no JSON (Exceeds"),
    "nesting without an end": ("own", "f.jsonl", b'{"a":' * 99999, "row 0: no JSON (maximum recursion depth"),
    "zero bytes": ("own", "f.jsonl", bytes(99), "row 0: no JSON ("),
    "table of commas": ("own", "f.csv", b"prompt,chosen\np,c\n", "row 0: no JSON ("),
    "parquet called JSON": ("own", "f.jsonl", parquet(OWN), "row 0: no JSON ("),
    "JSON called parquet": ("own", "f.parquet", lines(OWN), "cannot be read ("),
    "pickle": ("own", "f.jsonl", pickle.dumps([OWN]), "row 0: no JSON ("),
    "parquet without a row": ("reward-bench", "f.parquet", no_row(PLAIN), "no rows"),
    "number for a task": ("own", "f.jsonl", lines(OWN | {"task": 3}), "row 0: field 'task': int instead of text"),
    "list for a task": ("own", "f.jsonl", lines(OWN | {"task": ["mine"]}), "row 0: field 'task': list instead of text"),
    "mapping for a text": ("own", "f.jsonl", lines(OWN | {"chosen": {"text": "c"}}),
                           "row 0: field 'chosen': turn 0: key 'role' is missing; found text"),
    "boolean for a text": ("own", "f.jsonl", lines(OWN | {"chosen": True}), "row 0: field 'chosen': bool instead"),
    "turn without words": ("own", "f.jsonl", lines(OWN | {"prompt": [{"role": "user"}]}),
                           "row 0: field 'prompt': turn 0: key 'content' is missing; found role"),
    "turn of null": ("own", "f.jsonl", lines(OWN | {"prompt": [*ASKED, {"role": "assistant", "content": None}]}),
                     "row 0: field 'prompt': turn 1: key 'content': empty"),
    "turns under other keys": ("own", "f.jsonl", lines(OWN, OWN | {"prompt": [*ASKED, {"from": "gpt", "value": "a"}]}),
                               "row 1: field 'prompt': turn 1: key 'role' is missing; found from, value"),
    "replies under other keys": ("own", "f.parquet", parquet(OWN | {"chosen": [{"from": "gpt", "value": "a"}]}),
                                 "row 0: field 'chosen': turn 0: key 'role' is missing; found from, value"),
    "role that is no text": ("own", "f.jsonl", lines(OWN | {"prompt": [{"role": ["user"], "content": "q"}]}),
                             "row 0: field 'prompt': turn 0: key 'role': ['user'] is neither 'user' nor 'assistant'"),
    "lists on lines": ("own", "f.jsonl", lines(ASKED, ASKED), "no JSON (Extra data: line 2 column 1 (char 35)); giv"),
    "turn that is no mapping": ("own", "f.jsonl", lines(OWN | {"prompt": ["q", "a", "q"]}),
                                "row 0: field 'prompt': turn 0: str instead of a mapping with 'role' and 'content'"),
    "assistant's turn at the end": ("own", "f.jsonl", lines(OWN | {"prompt": [*ASKED, REPLY]}),
                                    "row 0: field 'prompt': the last turn is not the user's"),
    "assistant's turn at the end, upstream": ("rmb-best-of-n", "f.json", array(BEST | {"conversation_input": [REPLY]}),
                                              "row 0: field 'conversation_input': the last turn is not the user's"),
    "twice the user's turn": ("own", "f.jsonl", lines(OWN | {"prompt": [*ASKED, *ASKED]}),
                              "row 0: field 'prompt': turn 1: the user's, as the one before"),
    "user's turn for a reply": ("own", "f.jsonl", lines(OWN | {"rejected": [*ASKED]}),
                                "row 0: field 'rejected': it begins with other turns than the prompt"),
    "no reply": ("own", "f.jsonl", lines(OWN | {"prompt": ASKED, "rejected": ASKED}),
                 "row 0: field 'rejected': the last turn is not the assistant's"),
    "prompt with marks": ("own", "f.jsonl", lines(OWN | {"prompt": "\n\nHuman: q\n\nAssistant:"}),
                          "row 0: field 'prompt': it has the marks Human: and Assistant: already"),
    "prompt with the paper's marks": ("own", "f.jsonl", lines(OWN | {"prompt": [ASKED[0] | {"content": MARKED}]}),
                                      "row 0: field 'prompt': it has the marks Human: and Assistant: already"),
    "pointer for parquet": ("own", "f.parquet", POINTER, "a git-lfs pointer, not the file itself"),
    "pointer for JSON": ("rm-bench", "f.json", POINTER, "a git-lfs pointer, not the file itself"),
    "pointer for JSON lines": ("own", "f.jsonl", POINTER, "a git-lfs pointer, not the file itself"),
    "pointer for gzip": ("own", "f.jsonl.gz", POINTER, "a git-lfs pointer, not the file itself"),
}  # fmt: skip


@pytest.mark.parametrize("case", BENCHMARKS)
def test_a_malformed_benchmark_is_one_line(case: str, tmp_path: Path) -> None:
    kind, name, content, expected = BENCHMARKS[case]
    if content is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    path = name.split("/")[0]
    settings = {"kind": kind, "path": path} | ({"tasks": {"mine": "helpful"}} if kind == "own" else {"tasks": "all"})
    with pytest.raises(UserError) as caught:
        read_benchmark("b", TypeAdapter(Readable).validate_python(settings), str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / path}: {expected}") and "\n" not in message


def test_a_benchmark_without_a_row_of_the_tasks_asked_for_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_bytes(array(STYLES))
    chat: dict[str, Any] = {"kind": "rm-bench", "path": "f.json", "tasks": ["math", "code"]}
    with refused(rf"^benchmarks\.b\.tasks: {tmp_path}/f\.json has no row of them; name others or", tmp_path):
        read_benchmark("b", TypeAdapter(Readable).validate_python(chat), str(tmp_path))


# what is wrong -> (content of an HH-RLHF file, what is said of it)
PAIRS: dict[str, tuple[bytes, str]] = {
    "field missing": (lines(without(HH, "rejected")), "row 0: field 'rejected' is missing; found chosen"),
    "field missing later on": (lines(HH, without(HH, "rejected")), "row 1: field 'rejected' is missing; found chosen"),
    "null": (lines(HH, HH | {"chosen": None}), "row 1: field 'chosen': empty"),
    "number": (lines(HH | {"chosen": 1, "rejected": 2}), "row 0: field 'chosen': int instead of text"),
    "number later on": (lines(HH, HH | {"chosen": 1}), "row 1: field 'chosen': int instead of text"),
    "list": (lines(HH | {"chosen": ["a", "b"]}), "row 0: field 'chosen': several texts in a pair"),
    "broken line": (lines(HH, HH) + b'{"chosen": \n' + lines(HH), "row 2: no JSON ("),
    "empty file": (b"", "no rows"),
    "no gzip": (b"text", "cannot be read ("),
    "half a character": (lines(HH | {"chosen": "\ud800"}), "row 0: field 'chosen': 'utf-8' codec"),
    "array": (array(HH, 3), "row 1: no mapping of fields to values"),
    "pointer": (POINTER, "a git-lfs pointer, not the file itself"),
    "reply without its question": (lines(HH | {"rejected": [REPLY]}),
                                   "row 0: field 'rejected': a response without the user's turn before it"),
    "turns under other keys": (lines(HH | {"chosen": [{"from": "human", "value": "q"}]}),
                               "row 0: field 'chosen': turn 0: key 'role' is missing; found from, value"),
    "dialogue that ends with the user": (lines(HH | {"chosen": [*ASKED, REPLY, *ASKED]}),
                                         "row 0: field 'chosen': the last turn is not the assistant's"),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("kind", ["hh-rlhf", "own"])
def test_a_malformed_file_of_pairs_is_one_line(kind: str, case: str, tmp_path: Path) -> None:
    content, expected = PAIRS[case]
    folder = tmp_path / "helpful-base"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl.gz").write_bytes(
            content if case in ("no gzip", "pointer") else gzip.compress(content)
        )
    files = {split: f"helpful-base/{split}.jsonl.gz" for split in ("train", "test")}
    upstream = {"path": ".", "folder": "helpful-base"}
    settings: dict[str, Any] = upstream if kind == "hh-rlhf" else files | {"columns": {"prompt": None}}
    source: PairSource = TypeAdapter(PairSource).validate_python({"kind": kind} | settings)
    data = RegimeData(
        sources={"s": source}, orientations={"s": "o"}, train=["s"], test=["s"], validation=Validation(),
        data_root=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        regime_pairs(data)
    message = str(caught.value)
    assert message.startswith(f"{folder}/train.jsonl.gz: {expected}") and "\n" not in message


# what is wrong -> (rows of the train split, what is said of it)
USELESS: dict[str, tuple[list[dict[str, str]], str]] = {
    "both sides the same": (
        [HH | {"rejected": HH["chosen"]}],
        "sources.s, train: no pair is of use: 1 both sides the ",
    ),
    "no dialogue": (
        [{"chosen": "a", "rejected": "b"}],
        "sources.s, train: no pair is of use: 1 a side without an assist",
    ),
    "empty texts": ([{"chosen": "", "rejected": " "}], "sources.s, train: no pair is of use: 1 a side without text"),
    "one question": (
        [HH, HH | {"rejected": HH["rejected"] + "!"}],
        "sources.s, train: too few opening questions to trai",
    ),
}


def own_pairs(folder: Path) -> RegimeData:
    source: PairSource = TypeAdapter(PairSource).validate_python(
        {"kind": "own", "train": "train.jsonl", "test": "test.jsonl", "columns": {"prompt": None}}
    )
    return RegimeData(
        sources={"s": source}, orientations={"s": "o"}, train=["s"], test=["s"], validation=Validation(),
        data_root=str(folder),
    )  # fmt: skip


@pytest.mark.parametrize("case", USELESS)
def test_a_regime_without_a_pair_to_train_on_is_one_line(case: str, tmp_path: Path) -> None:
    rows, expected = USELESS[case]
    (tmp_path / "train.jsonl").write_bytes(lines(*rows))
    (tmp_path / "test.jsonl").write_bytes(lines(HH))
    with refused(f"^{expected}", tmp_path):
        regime_pairs(own_pairs(tmp_path))


def test_a_source_of_which_all_is_held_out_is_one_line(tmp_path: Path) -> None:
    """Beside another that has enough opening questions: not a pair of it would be trained on."""
    two = own_pairs(tmp_path)
    (tmp_path / "test.jsonl").write_bytes(lines(HH))
    (tmp_path / "train.jsonl").write_bytes(lines(*(HH | {"rejected": f"{HH['rejected']}{i}"} for i in range(9))))
    other = {side: pl.Series([f"\n\nHuman: {i}\n\nAssistant: {side}" for i in range(9)]) for side in HH}
    pl.DataFrame(other).write_ndjson(tmp_path / "other.jsonl")
    source = two.sources["s"].model_copy(update={"train": "other.jsonl"})
    two = two.model_copy(update={"sources": {**two.sources, "t": source}, "train": ["s", "t"],
                                 "orientations": {"s": "o", "t": "o"}})  # fmt: skip
    with refused("^sources.s, train: too few opening questions to train and to validate$", tmp_path):
        regime_pairs(two)


def test_a_byte_order_mark_line_ends_of_windows_and_zero_bytes_in_texts_do_no_harm(tmp_path: Path) -> None:
    rows = [{side: HH[side].replace("q", f"q{i}\0") for side in HH} for i in range(3)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(*rows).replace(b"\n", b"\r\n"))
    assert regime_pairs(own_pairs(tmp_path))["test"]["chosen"].to_list() == [row["chosen"] for row in rows]


def test_two_files_of_one_split_are_one_line(tmp_path: Path) -> None:
    for name in ("train.jsonl", "train.jsonl.gz", "test.jsonl"):
        (tmp_path / name).write_bytes(gzip.compress(lines(HH)) if name.endswith("gz") else lines(HH))
    source: PairSource = TypeAdapter(PairSource).validate_python({"kind": "hh-rlhf", "path": ".", "folder": "."})
    data = own_pairs(tmp_path).model_copy(update={"sources": {"s": source}})
    with refused(f"^{tmp_path}: train twice: train.jsonl and train.jsonl.gz; keep one of them", tmp_path):
        regime_pairs(data)


# what is wrong -> (files of a folder, what is said of it)
SHARDS: dict[str, tuple[list[str], str]] = {
    "one missing": (["train-00000-of-00003", "train-00002-of-00003"], "/train-00001-of-00003.parquet: this shard is"),
    "the first missing": (["train-00001-of-00002"], "/train-00000-of-00002.parquet: this shard is missing"),
    "two divisions": (["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"],
                      "/train-00000-of-00002.parquet: not of the same division as train-00000-of-00001.parquet"),
    "two data sets": (["train_sft-00000-of-00001", "train_prefs-00000-of-00001"],
                      ": a folder without the shards of just one data set, such as train-00000-of-00002.parquet; found "
                      "train_prefs, train_sft"),
    "the other split": (["test-00000-of-00001"], ": a folder without the shards of just one data set, .*; found test"),
    "no shards": (["train"], ": a folder without the shards of just one data set, .*; found none"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARDS)
def test_a_folder_without_all_shards_of_one_data_set_is_one_line(case: str, tmp_path: Path) -> None:
    names, expected = SHARDS[case]
    for name in names:
        (tmp_path / f"{name}.parquet").write_bytes(parquet(HH))
    with refused(f"^{tmp_path}{expected}", tmp_path):
        data_files(tmp_path, "train")


def test_a_published_benchmark_with_a_shard_missing_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filtered-00001-of-00002.parquet").write_bytes(parquet(PLAIN))
    benchmark = TypeAdapter(Readable).validate_python({"kind": "reward-bench", "path": "."})
    with refused("/data/filtered-00000-of-00002.parquet: this shard is missing", tmp_path):
        read_benchmark("b", benchmark, str(tmp_path))


def test_a_benchmark_of_whole_dialogues_has_dialogues(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_bytes(lines(HH, HH | {"rejected": "no"}))
    settings = {"kind": "own", "path": "f.jsonl", "columns": {"prompt": None, "task": None}, "tasks": {"a": "helpful"}}
    with refused("/f.jsonl: row 1: field 'rejected': no dialogue: it has no assistant's turn", tmp_path):
        read_benchmark("b", TypeAdapter(Readable).validate_python(settings), str(tmp_path))
