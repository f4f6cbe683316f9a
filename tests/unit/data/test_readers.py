"""Readers on small made files in the upstream layouts, and on the real data where they are at hand."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rmtension.base.errors import UserError
from rmtension.data.benchmarks import all_tests, layout_of, read_benchmark
from rmtension.data.comparisons import COMPARISONS, PAIRS, as_comparisons
from rmtension.data.dialogues import Dialogue
from rmtension.data.hygiene import opening, sift
from rmtension.data.pairs import hold_out, read_hh_pairs, read_pairs, regime_pairs
from rmtension.data.rows import Row, load_rows
from rmtension.data.tasks import TASKS_FILE, known_tasks
from rmtension.engine.scoring import read_request
from rmtension.study.benchmarks import PUBLISHED, OwnBenchmark, PublishedBenchmark, SyntheticBenchmark
from rmtension.study.data import Columns, HHPairs, OwnPairs, RegimeData, SyntheticPairs, Validation

SHARED = Path(__file__).parents[4] / "shared" / "data"
REWARD_BENCH_FILE, RM_BENCH_FILE = "reward-bench/filtered.parquet", "rm-bench/train.parquet"
needs_real_data = pytest.mark.skipif(not SHARED.exists(), reason="the real data files are not on this machine")


def dialogue(question: str, answer: str) -> str:
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


@pytest.fixture
def hh(tmp_path: Path) -> Path:
    """A folder in HH-RLHF's layout: 20 train pairs over 10 questions, one of them identical, and 3 test pairs."""
    folder = tmp_path / "hh" / "helpful-base"
    folder.mkdir(parents=True)
    train = [
        {"chosen": dialogue(f"q{i % 10}", f"a{i}"), "rejected": dialogue(f"q{i % 10}", f"b{i}")} for i in range(20)
    ]
    train[7]["rejected"] = train[7]["chosen"]
    test = [{"chosen": dialogue("t", f"a{i}"), "rejected": dialogue("t", f"b{i}")} for i in range(3)]
    for split, rows in (("train", train), ("test", test)):
        write(folder / f"{split}.jsonl.gz", rows)
    return tmp_path


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def regime(source: HHPairs | OwnPairs | SyntheticPairs, root: Path) -> RegimeData:
    return RegimeData(
        sources={"s": source},
        orientations={"s": "helpful"},
        train=["s"],
        test=["s"],
        validation=Validation(fraction=0.2),
        data_root=str(root),
    )


def test_hh_pairs_of_a_local_folder(hh: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    splits = regime_pairs(regime(HHPairs(kind="hh-rlhf", path="hh", folder="helpful-base"), hh))
    assert list(splits) == ["train", "validation", "test", "hygiene"]
    assert all(frame.schema == PAIRS for name, frame in splits.items() if name != "hygiene")
    rows = pl.concat([splits["train"], splits["validation"]])
    assert sorted(rows["comparison_id"]) == sorted(f"s/train/{i}" for i in range(20) if i != 7)
    one = rows.filter(comparison_id="s/train/12").row(0, named=True)
    assert (one["chosen"], one["rejected"]) == (dialogue("q2", "a12"), dialogue("q2", "b12"))
    assert splits["test"]["comparison_id"].to_list() == ["s/test/0", "s/test/1", "s/test/2"]
    assert "20 pairs, 1 both sides the same (left out)" in caplog.text


def test_a_name_is_no_pattern(hh: Path) -> None:
    """Of two folders the one that is named is read."""
    for name in ("hh1", "hh[12]", "hh*"):
        (hh / name / "helpful-base").mkdir(parents=True)
        for split in ("train", "test"):
            write(
                hh / name / f"helpful-base/{split}.jsonl.gz",
                [{"chosen": dialogue("q", name), "rejected": dialogue("q", "b")}],
            )
        read = read_hh_pairs(HHPairs(kind="hh-rlhf", path=name, folder="helpful-base"), "test", str(hh))
        assert read["chosen"].to_list() == [dialogue("q", name)]


def test_windows_ends_of_lines_hide_no_turn() -> None:
    """A dialogue is what it is with others: its response, its turns, its opening question."""
    plain = dialogue("q", "a") + dialogue("r", "b")
    windows = plain.replace("\n", "\r\n")
    whole = [Dialogue.whole(text, template) for text in (plain, windows) for template in ("hh", "chat")]
    assert [one.text[one.start :] for one in whole] == ["b"] * 4
    assert [one.oddity for one in whole] == [""] * 4 and whole[1].turns == whole[3].turns
    pairs = pl.DataFrame({"chosen": [plain, windows], "rejected": [plain + "!", windows + "!"]})
    assert pairs.select(opening(pl.col("chosen")))["chosen"].to_list() == ["q", "q"]
    assert len(sift(pairs.with_row_index("row"), "s", "train")[0]) == 2


def test_a_file_that_takes_the_place_of_another_with_its_date_is_read(hh: Path) -> None:
    """As one that is moved, unpacked or copied keeps its own."""
    source, file = HHPairs(kind="hh-rlhf", path="hh", folder="helpful-base"), hh / "hh/helpful-base/test.jsonl.gz"
    old, dated = regime_pairs(regime(source, hh))["test"], file.stat()
    write(file, [{"chosen": dialogue("t", "another"), "rejected": dialogue("t", "b")}])
    os.utime(file, ns=(dated.st_atime_ns, dated.st_mtime_ns))
    assert len(old) == 3
    assert regime_pairs(regime(source, hh))["test"]["chosen"].to_list() == [dialogue("t", "another")]


def test_no_opening_question_is_in_both_train_and_validation(hh: Path) -> None:
    splits = regime_pairs(regime(HHPairs(kind="hh-rlhf", path="hh", folder="helpful-base"), hh))
    parts = {name: splits[name] for name in ("train", "validation")}
    questions = {name: {text.split("\n\n")[1] for text in frame["chosen"]} for name, frame in parts.items()}
    assert questions["train"].isdisjoint(questions["validation"])
    assert len(questions["validation"]) == 2, "a fifth of ten questions"


def test_one_question_is_not_in_two_splits_however_its_marks_are_written() -> None:
    forms = ["\n\nHuman: {}\n\nAssistant: a", "\n\nHuman:{}\n\nAssistant:b", "\n\nHuman: {} \n\nAssistant:c\n\nHuman: d"
             "\n\nAssistant: e"]  # fmt: skip
    pairs = pl.DataFrame({"chosen": [form.format(f"q{i}?") for form in forms for i in range(20)]})
    for seed in range(3):
        kept, held = (
            {text.split("?")[0].split("q")[1] for text in part["chosen"]} for part in hold_out(pairs, 0.3, seed)
        )
        assert len(held) == 6 and len(kept) == 14


def test_a_question_of_two_sources_is_not_in_two_splits(tmp_path: Path) -> None:
    """And without one, each source holds out by itself, as it does in a mixed regime."""
    for name, first, n in (("a", 0, 40), ("b", 20, 41), ("c", 80, 20)):
        rows = [{"prompt": f"q{i}", "chosen": "x", "rejected": name} for i in range(first, first + n)]
        pl.DataFrame(rows).write_parquet(tmp_path / f"{name}.parquet")
    sources = {name: OwnPairs(kind="own", train=f"{name}.parquet", test="c.parquet") for name in "abc"}

    def splits(*names: str) -> dict[str, set[str]]:
        data = RegimeData(sources=dict(sources), orientations=dict.fromkeys("abc", "o"), train=list(names), test=["c"],
                          validation=Validation(fraction=0.2), data_root=str(tmp_path))  # fmt: skip
        return {split: {text.split("\n\n")[1] for text in frame["chosen"]}
                for split, frame in regime_pairs(data).items() if split in ("train", "validation")}  # fmt: skip

    alone, both = {name: splits(name) for name in "abc"}, splits("a", "b")
    assert both["validation"] == alone["a"]["validation"] | alone["b"]["validation"]
    assert both["train"] == (alone["a"]["train"] | alone["b"]["train"]) - both["validation"]
    assert alone["a"]["validation"] & alone["b"]["train"], "so that there is something to see"
    apart = splits("a", "c")
    assert all(apart[split] == alone["a"][split] | alone["c"][split] for split in apart)


def test_hold_out_depends_on_the_seed() -> None:
    pairs = pl.DataFrame({"chosen": [dialogue(f"q{i}", "a") for i in range(50)]})
    held = [hold_out(pairs, 0.2, seed)[1]["chosen"].to_list() for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_drawn_pairs_are_fewer_and_seeded(hh: Path) -> None:
    def ids(seed: int) -> list[str]:
        source = HHPairs(kind="hh-rlhf", path="hh", folder="helpful-base", max_train=6, max_test=2, seed=seed)
        splits = regime_pairs(regime(source, hh))
        assert len(splits["test"]) == 2
        return sorted([*splits["train"]["comparison_id"], *splits["validation"]["comparison_id"]])

    assert len(ids(1)) == 6 and ids(1) == ids(1) != ids(2)


TURNS = [("user", "q1"), ("assistant", "a1"), ("user", "q2")]
OWN: list[dict[str, Any]] = [
    {"question": "q0", "good": "a", "bad": "b"},
    {"question": [{"role": role, "content": text} for role, text in TURNS], "good": "c", "bad": "d"},
]


def test_own_pairs_of_prompts_and_responses(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl.gz", OWN)
    (tmp_path / "test.json").write_text(json.dumps(OWN[:1]))
    source = {"train": "train.jsonl.gz", "test": "test.json",
              "columns": {"prompt": "question", "chosen": "good", "rejected": "bad"}}  # fmt: skip
    splits = regime_pairs(regime(OwnPairs.model_validate(source | {"kind": "own"}), tmp_path))
    rows = pl.concat([splits["train"], splits["validation"]]).sort("comparison_id")
    assert rows.select("comparison_id", "chosen", "rejected").rows() == [
        ("s/train/0", "\n\nHuman: q0\n\nAssistant: a", "\n\nHuman: q0\n\nAssistant: b"),
        ("s/train/1", *(f"\n\nHuman: q1\n\nAssistant: a1\n\nHuman: q2\n\nAssistant: {x}" for x in "cd")),
    ]
    assert splits["test"]["comparison_id"].to_list() == ["s/test/0"]


def test_own_pairs_of_whole_dialogues(tmp_path: Path) -> None:
    pairs = [{"chosen": dialogue(f"q{i}", "a"), "rejected": dialogue(f"q{i}", "b"), "more": i} for i in range(4)]
    pl.DataFrame(pairs).write_parquet(tmp_path / "both.parquet")
    source = OwnPairs(kind="own", train="both.parquet", test="both.parquet", columns=Columns(prompt=None), max_test=2)
    splits = regime_pairs(regime(source, tmp_path))
    assert len(splits["test"]) == 2 and set(splits["test"]["chosen"]) < {pair["chosen"] for pair in pairs}
    pl.DataFrame({"chosen": ["yes"], "rejected": ["no"]}).write_parquet(tmp_path / "both.parquet")
    with pytest.raises(UserError, match=r"sources\.s, train: no pair is of use: 1 a side without an assistant turn"):
        regime_pairs(regime(source, tmp_path))


def test_pairs_of_one_file_are_divided_by_opening_question(tmp_path: Path) -> None:
    """So that no set is tested on the pairs it was found on."""
    pairs = [{"chosen": dialogue(f"q{i % 10}", f"a{i}"), "rejected": dialogue(f"q{i % 10}", "b")} for i in range(40)]
    (tmp_path / "all.json").write_text(json.dumps([*pairs, {"chosen": "none", "rejected": "nothing"}]))
    source = OwnPairs(kind="own", train="all.json", columns=Columns(prompt=None))
    splits = regime_pairs(regime(source, tmp_path))
    known, test = pl.concat([splits["train"], splits["validation"]]), splits["test"]
    rows = {name: {int(id.split("/")[2]) for id in frame["comparison_id"]} for name, frame in
            (("known", known), ("test", test))}  # fmt: skip
    assert rows["known"] | rows["test"] == set(range(40)) and len(rows["test"]) == 20
    assert {row % 10 for row in rows["known"]}.isdisjoint(row % 10 for row in rows["test"])
    left_out = splits["hygiene"].filter(reason="a side without an assistant turn")
    assert left_out["n"].sum() == 1 and left_out["of"].sum() == 41
    again = regime(source.model_copy(update={"seed": 1}), tmp_path)
    assert set(regime_pairs(again)["test"]["chosen"]) != set(test["chosen"])
    (tmp_path / "all.json").write_text(json.dumps(pairs[::10]))
    with pytest.raises(UserError, match=r"all\.json: one opening question, .* give 'test' a file"):
        regime_pairs(regime(source, tmp_path))


ASKED = [{"role": role, "content": text} for role, text in TURNS]
REPLY = {"role": "assistant", "content": "a"}
HEAD = "\n\nHuman: q1\n\nAssistant: a1\n\nHuman: q2\n\nAssistant: "
# A prompt and a reply to it, "a", as they may lie in a file.
SAME: dict[str, tuple[Any, Any]] = {
    "text behind turns": (ASKED, "a"),
    "message behind turns": (ASKED, [REPLY]),
    "bare message": (ASKED, REPLY),
    "prompt inside, and beside": (ASKED, [*ASKED, REPLY]),
    "prompt inside": (None, [*ASKED, REPLY | {"name": "more"}]),
    "text": (None, HEAD + "a"),
}


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("case", SAME)
def test_every_form_of_a_dialogue_is_the_same_text(case: str, form: str, tmp_path: Path) -> None:
    prompt, reply = SAME[case]
    row = {"prompt": prompt, "chosen": reply, "rejected": json.loads(json.dumps(reply).replace('"a"', '"b"'))}
    row["rejected"] = HEAD + "b" if case == "text" else row["rejected"]
    frame = pl.DataFrame([row])
    frame.write_parquet(tmp_path / "f.parquet") if form == "parquet" else frame.write_ndjson(tmp_path / "f.jsonl")
    columns: dict[str, Any] = {} if prompt else {"prompt": None}
    source = OwnPairs.model_validate({"kind": "own", "train": f"f.{form}", "test": f"f.{form}", "columns": columns})
    pairs, _ = read_pairs(regime(source, tmp_path), "s", "test")
    assert pairs.select("chosen", "rejected").rows() == [(HEAD + "a", HEAD + "b")]
    settings = {"kind": "own", "path": f"f.{form}", "columns": columns | {"task": None}, "tasks": {"t": "helpful"}}
    frame = read_benchmark("b", OwnBenchmark.model_validate(settings), str(tmp_path))
    assert frame.select("chosen", "rejected").rows() == [([HEAD + "a"], [HEAD + "b"])]
    given = {key: value for key, value in row.items() if value is not None}
    assert [one.text for one in read_request(given, "", "hh").dialogues] == [HEAD + "a", HEAD + "b"]


def test_requests_of_turns_and_of_text_as_it_is() -> None:
    """The prompt may be the first of the turns, as in UltraFeedback."""
    turns = [[{"role": "user", "content": "q"}, REPLY], [{"role": "user", "content": "q"}, REPLY | {"content": "b"}]]
    request = read_request({"prompt": "q", "chosen": turns[0], "rejected": turns[1]}, "", "hh")
    assert [one.text for one in request.dialogues] == [dialogue("q", "a"), dialogue("q", "b")]
    as_it_is = read_request({"prompt": "Human: q\n\nAssistant:", "responses": [" a"]}, "", "none")
    [one] = as_it_is.dialogues
    assert (one.text, one.oddity) == ("Human: q\n\nAssistant: a", ""), "marks are the user's own matter there"
    several = read_request(
        {"prompt": {"role": "user", "content": "q"}, "responses": ["a", REPLY, [REPLY], turns[0]]}, "", "paper"
    )
    assert [one.text for one in several.dialogues] == ["Human:q\n\nAssistant:a"] * 4


def test_several_responses_of_turns(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": [[REPLY], "b"], "rejected": [REPLY]}
    (tmp_path / "f.json").write_text(json.dumps([row]))
    settings = {"kind": "own", "path": "f.json", "columns": {"task": None}, "tasks": {"t": "helpful"}}
    frame = read_benchmark("b", OwnBenchmark.model_validate(settings), str(tmp_path))
    assert frame.select("chosen", "rejected").rows() == [
        ([dialogue("q", "a"), dialogue("q", "b")], [dialogue("q", "a")])
    ]


def test_marks_inside_turns_are_counted(tmp_path: Path) -> None:
    """A prompt that begins with one, a response that does, one that goes on, one that ends in a question."""
    rows = [("\n\nHuman: q0", "a", "b"), ("q1", "Human: a", "b"), ("q2", "a\n\nHuman: r\n\nAssistant: s", "b"),
            ("q3", "a\n\nHuman: r", "b"), ("q4", "Human beings", "b")]  # fmt: skip
    pl.DataFrame(rows, ["prompt", "chosen", "rejected"], orient="row").write_parquet(tmp_path / "f.parquet")
    data = regime(OwnPairs(kind="own", train="f.parquet", test="f.parquet"), tmp_path)
    kept, odd = read_pairs(data, "s", "train")
    assert len(kept) == 5
    found = {"a turn without words": 1, "a turn begins with a mark": 1, "the last turn is the human's": 1}
    differ = {"sides differ before the last reply": 1}
    assert dict(odd.filter(pl.col("n") > 0).select("reason", "n").rows()) == found | differ
    # Ends of lines of Windows hide no mark.
    windows = [[text.replace("\n", "\r\n") for text in row] for row in rows]
    pl.DataFrame(windows, ["prompt", "chosen", "rejected"], orient="row").write_parquet(tmp_path / "f.parquet")
    _, odd = read_pairs(data, "s", "train")
    assert dict(odd.filter(pl.col("n") > 0).select("reason", "n").rows()) == found | differ


def test_shards_of_a_folder_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split, n in (("train", 3), ("test", 1)):
        for shard in reversed(range(n)):
            row = {"prompt": f"q{shard}", "chosen": "a", "rejected": "b", "task": "t"}
            pl.DataFrame([row]).write_parquet(tmp_path / "data" / f"{split}-{shard:05d}-of-{n:05d}.parquet")
    (tmp_path / "data" / "README.md").write_text("# Data")
    source = OwnPairs(kind="own", train="data", test="data")
    names = [f"train-{shard:05d}-of-00003.parquet" for shard in range(3)] + ["test-00000-of-00001.parquet"]
    assert source.files(str(tmp_path)) == [tmp_path / "data" / name for name in names]
    pairs, _ = read_pairs(regime(source, tmp_path), "s", "train")
    assert pairs.select("comparison_id", "chosen").rows() == [
        (f"s/train/{i}", dialogue(f"q{i}", "a")) for i in range(3)
    ]
    for file in (tmp_path / "data").glob("test-*"):
        file.unlink()
    benchmark = OwnBenchmark(kind="own", path="data", tasks={"t": "helpful"})
    assert benchmark.files(str(tmp_path)) == [tmp_path / "data" / name for name in names[:3]]
    assert len(read_benchmark("b", benchmark, str(tmp_path))) == 3


def test_every_form_of_a_file_holds_the_same_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "\u2028a", "n": i} for i in range(3)]
    array, lines = (json.dumps(rows, indent=1).encode(), "\r\n\n".join(map(json.dumps, rows)).encode())
    for name, content in {
        "f.json": array, "f.json.gz": gzip.compress(array), "f.JSONL.GZ": gzip.compress(lines), "f.jsonl": lines,
        "bom.jsonl": b"\xef\xbb\xbf" + lines, "bom.json": b"\xef\xbb\xbf\n" + array,
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    for name in ("f.parquet", "f.pq", "f.PARQUET"):
        pl.DataFrame(rows).write_parquet(tmp_path / name)
    for file in tmp_path.iterdir():
        assert load_rows(file) == rows, file.name


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_published_benchmark_has_a_layout_and_tasks(kind: str) -> None:
    columns = layout_of(PublishedBenchmark(kind=kind, path=".")).columns
    assert {"chosen", "rejected"} <= columns.keys() <= Row.model_fields.keys()
    assert known_tasks(kind)["orientation"].is_in(["helpful", "harmless", "unoriented"]).all()
    assert len(known_tasks(kind)) > 0


def test_reward_bench_layout(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "prompt": ["p0", "p1", "p2", "p3"],
            "chosen": ["c0", "c1", "c2", "c3"],
            "rejected": ["r0", "r1", "r2", "r3"],
            "subset": ["donotanswer", "hep-python", "alpacaeval-easy", "donotanswer"],
            "id": [3692, 3692, 1, 3692],  # an id can repeat
        }
    ).write_parquet(tmp_path / "f.parquet")
    frame = read_benchmark("rb", PublishedBenchmark(kind="reward-bench", path="f.parquet"), str(tmp_path))
    assert frame.schema == COMPARISONS
    assert frame.rows() == [
        ("rb/2", "Alpaca Eval (Easy)", "helpful", [dialogue("p2", "c2")], [dialogue("p2", "r2")]),
        ("rb/0", "Do Not Answer", "harmless", [dialogue("p0", "c0")], [dialogue("p0", "r0")]),
        ("rb/3", "Do Not Answer", "harmless", [dialogue("p3", "c3")], [dialogue("p3", "r3")]),
    ]


def test_rm_bench_layout_with_the_papers_template(tmp_path: Path) -> None:
    row = {"domain": "safety-refuse", "prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "id": "1"}
    (tmp_path / "total_dataset.json").write_text(json.dumps([row]))
    settings = PublishedBenchmark(kind="rm-bench", path=".", template="paper")
    frame = read_benchmark("rm", settings, str(tmp_path))
    assert frame["chosen"].to_list() == [[f"Human:p\n\nAssistant:{x}" for x in "abc"]]
    assert frame.select("task", "orientation").row(0) == ("Safety Refuse", "harmless")


def test_an_unknown_task_of_a_study_is_one_line(tmp_path: Path) -> None:
    settings = PublishedBenchmark(kind="reward-bench", path="f.parquet", tasks=["donotanswr"])
    with pytest.raises(
        UserError, match=r"benchmarks\.rb\.tasks: unknown task 'donotanswr'; did you mean 'donotanswer'"
    ):
        read_benchmark("rb", settings, str(tmp_path))


def test_a_folder_of_the_upstream_layout_is_read_by_its_pattern(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "repository" / "data"
    data.mkdir(parents=True)
    for i, file in enumerate(["filtered-00000-of-00002", "filtered-00001-of-00002", "raw-00000-of-00001"]):
        row = {"prompt": f"p{i}", "chosen": "c", "rejected": "r", "subset": "donotanswer"}
        pl.DataFrame([row]).write_parquet(data / f"{file}.parquet")
    settings = PublishedBenchmark(kind="reward-bench", path="repository", tasks=["donotanswer", "hep-go"])
    frame = read_benchmark("rb", settings, str(tmp_path))
    assert frame.select("comparison_id", pl.col("chosen").list.first()).rows() == [
        ("rb/0", dialogue("p0", "c")),
        ("rb/1", dialogue("p1", "c")),
    ]
    assert "rb: 2 comparisons of Do Not Answer where 136 are expected" in caplog.text
    assert "rb: 0 comparisons of hep-go where 164 are expected" in caplog.text


def answer(text: str) -> dict[str, Any]:
    return {"llm_name": "m", "answer": text}


def rmb(folder: Path) -> None:
    """A folder in RMB's layout: one conversation of three turns as a pair, one of best of N; two goals."""
    turns = [{"role": role, "content": text, "language": "English"} for role, text in TURNS]
    pair = {"pair_uid": "1", "conversation_input": turns, "chosen": answer("c") | {"score": 4.5},
            "reject": answer("r") | {"score": 2}}  # fmt: skip
    best = {"bon_uid": "1", "conversation_input": turns[:1], "bon_best": answer("b"),
            "loser_list": [answer("x"), answer("y")]}  # fmt: skip
    for row, path in (
        (pair, "Pairwise_set/Helpfulness/Open QA/Factual"),
        (pair, "Pairwise_set/Helpfulness/Open QA/Hypothetical Scenarios"),
        (pair, "Pairwise_set/Harmlessness/S1"),
        (best, "BoN_set/Harmlessness/multi"),
    ):
        file = folder / "RMB_dataset" / f"{path}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([row | {"category_path": path}], indent=1))


def test_rmb_layout(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rmb(tmp_path)
    head = "Human:q1\n\nAssistant:a1\n\nHuman:q2\n\nAssistant:"
    for template, form in (("paper", head), ("hh", "\n\n" + head.replace(":", ": "))):
        settings = {"kind": "rmb-pairwise", "path": ".", "template": template}
        frame = read_benchmark("p", PublishedBenchmark.model_validate(settings), str(tmp_path))
        assert frame.rows() == [
            ("p/1", "RMB Open QA", "helpful", [form + "c"], [form + "r"]),
            ("p/2", "RMB Open QA", "helpful", [form + "c"], [form + "r"]),
            ("p/0", "RMB S1", "harmless", [form + "c"], [form + "r"]),
        ]
    assert "RMB Open QA" not in caplog.text, "how many there should be is not known"
    assert "p: 0 comparisons of RMB Chat where some are expected" in caplog.text
    frame = read_benchmark("n", PublishedBenchmark(kind="rmb-best-of-n", path="RMB_dataset"), str(tmp_path))
    texts = [dialogue("q1", "b")], [dialogue("q1", "x"), dialogue("q1", "y")]
    assert frame.rows() == [("n/0", "RMB multi (best of N)", "harmless", *texts)]


def test_own_benchmark(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "better": [f"c{i}"], "rejected": ["r", "s"], "topic": f"t{i % 2}"} for i in range(6)]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {"kind": "own", "path": "f.jsonl", "columns": {"chosen": "better", "task": "topic"},
                                "tasks": {"t1": "harmless", "t0": "unoriented"}, "max_per_task": 2}  # fmt: skip
    frame = read_benchmark("mine", OwnBenchmark.model_validate(settings), str(tmp_path))
    assert frame.select("task", "orientation").rows() == [("t1", "harmless")] * 2 + [("t0", "unoriented")] * 2
    for row in frame.iter_rows(named=True):
        i = int(row["comparison_id"].removeprefix("mine/"))
        assert row["chosen"] == [dialogue(f"p{i}", f"c{i}")] and row["task"] == f"t{i % 2}"
        assert row["rejected"] == [dialogue(f"p{i}", "r"), dialogue(f"p{i}", "s")]
    one = settings | {"columns": {"chosen": "better", "task": None}, "tasks": {"all of it": "helpful"}}
    frame = read_benchmark("mine", OwnBenchmark.model_validate(one | {"max_per_task": None}), str(tmp_path))
    assert frame["task"].to_list() == ["all of it"] * 6


REWARD_BENCH_2: dict[str, list[Any]] = {
    "subset": ["Ties", "Math", "Ties", "Focus"],
    "id": ["tied:7", "0", "ref:7", "1"],
    "prompt": ["p0", "p1", "p2", "p3"],
    "chosen": [["a", "b"], ["c"], ["d"], ["e"]],
    "rejected": [["f"], ["g", "h", "i"], ["j"], ["k", "l", "m"]],
    "num_correct": [2, 1, 1, 1],
}


def reward_bench_2(folder: Path, tasks: list[str] | None = None, **changed: list[Any]) -> pl.DataFrame:
    pl.DataFrame({**REWARD_BENCH_2, **changed}, strict=False).write_parquet(folder / "f.parquet")
    settings = PublishedBenchmark(kind="reward-bench-2", path="f.parquet", tasks=tasks)
    return read_benchmark("rb2", settings, str(folder))


def test_reward_bench_2_layout(tmp_path: Path) -> None:
    frame = reward_bench_2(tmp_path)
    assert frame["comparison_id"].to_list() == ["rb2/1", "rb2/3"], "Ties is not of the paper"
    assert frame["rejected"].to_list()[0] == [dialogue("p1", x) for x in "ghi"]
    ties = reward_bench_2(tmp_path, ["Ties"])
    assert ties.select("comparison_id", "task", "orientation").rows() == [
        ("rb2/0/tied:7", "Ties", "unoriented"),
        ("rb2/2/ref:7", "Ties", "unoriented"),
    ]
    assert ties["chosen"].to_list()[0] == [dialogue("p0", "a"), dialogue("p0", "b")]


def test_synthetic_sources_in_the_same_form() -> None:
    splits = regime_pairs(regime(SyntheticPairs(kind="synthetic", objective="helpful", train=100, test=100), Path()))
    assert len(splits["train"]) + len(splits["validation"]) == len(splits["test"]) == 100
    assert splits["train"]["chosen"][:50].to_list() != splits["test"]["chosen"][:50].to_list()
    frame = read_benchmark("b", SyntheticBenchmark(kind="synthetic", per_task=2), ".")
    assert frame.schema == COMPARISONS and frame["comparison_id"].n_unique() == len(frame)


def test_test_splits_of_several_regimes_are_one_benchmark(tmp_path: Path) -> None:
    """A source of two regimes is the first one's, and each pair is there once."""

    def split(*rows: tuple[str, str]) -> Path:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        pairs = [(f"{s}/test/{i}", "c", "r", s, o) for i, (s, o) in enumerate(rows)]
        pl.DataFrame(pairs, schema=PAIRS, orient="row").write_parquet(file)
        return file

    files = (
        split(("base", "helpful"), ("base", "helpful"), ("more", "helpful")),
        split(("base", "safe"), ("safe", "safe")),
    )
    found = all_tests(files)
    assert found.schema == COMPARISONS
    assert found.select("comparison_id", "task", "orientation").rows() == [
        ("base/test/0", "base test pairs", "helpful"), ("base/test/1", "base test pairs", "helpful"),
        ("more/test/2", "more test pairs", "helpful"), ("safe/test/1", "safe test pairs", "safe"),
    ]  # fmt: skip
    assert found["chosen"].to_list() == [["c"]] * 4


def test_pairs_as_comparisons() -> None:
    pairs = pl.DataFrame([("i", "c", "r", "s", "helpful")], schema=PAIRS, orient="row")
    assert as_comparisons(pairs).rows() == [("i", "s", "helpful", ["c"], ["r"])]
    assert as_comparisons(as_comparisons(pairs)).equals(as_comparisons(pairs))


@needs_real_data
def test_real_reward_bench_has_the_papers_counts() -> None:
    frame = read_benchmark("rb", PublishedBenchmark(kind="reward-bench", path=REWARD_BENCH_FILE), str(SHARED))
    tasks = pl.read_csv(TASKS_FILE).filter(benchmark="reward-bench")
    assert dict(frame.group_by("task").len().rows()) == dict(tasks.select("task", "n_prompts").rows())
    assert frame["comparison_id"].n_unique() == len(frame)


@needs_real_data
def test_real_rm_bench_has_the_papers_counts() -> None:
    frame = read_benchmark("rm", PublishedBenchmark(kind="rm-bench", path=RM_BENCH_FILE), str(SHARED))
    assert dict(frame.group_by("task").len().rows()) == {"Chat": 129, "Safety Refuse": 284, "Safety Response": 157}
    assert set(frame["chosen"].list.len()) == set(frame["rejected"].list.len()) == {3}


@needs_real_data
def test_all_reads_what_the_paper_leaves_out_too() -> None:
    def tasks(kind: str, path: str) -> dict[str, int]:
        settings = PublishedBenchmark.model_validate({"kind": kind, "path": path, "tasks": "all"})
        frame = read_benchmark("b", settings, str(SHARED))
        unoriented = frame.filter(orientation="unoriented")["task"].unique()
        assert set(unoriented) == {task for task in frame["task"] if task == "code" or task.startswith("hep-")}
        return dict(frame.group_by("task").len().rows())

    reward_bench, rm_bench = tasks("reward-bench", REWARD_BENCH_FILE), tasks("rm-bench", RM_BENCH_FILE)
    assert len(reward_bench) == 23 and sum(reward_bench.values()) == 2985 and reward_bench["hep-go"] == 164
    # The file at hand has no math; the whole has 529 such prompts.
    assert sum(rm_bench.values()) == 798 and rm_bench["code"] == 228


@needs_real_data
def test_real_hh_folders_are_read_whole() -> None:
    source = HHPairs(kind="hh-rlhf", path="hh-rlhf-offline", folder="helpful-base")
    assert len(read_hh_pairs(source, "train", str(SHARED))) == 2427
    assert len(read_hh_pairs(source, "test", str(SHARED))) == 425
