"""Study files and lock files that are wrong: one line for each mistake, naming the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad import refused
from rmtension.data.hub import lock_file, read_study

GOOD = Path(__file__).with_name("study.yaml").read_text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good study, beside what it names."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    study = tmp_path / "study.yaml"
    study.write_text(GOOD.replace("data_root: .", f"data_root: {tmp_path}"))
    return study


def test_the_study_is_good_before_it_is_spoilt(file: Path) -> None:
    plain = read_study(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_study(file) == plain, "as some editors save it"


# what is wrong -> (what stands in the good study, what in the bad one, what is said of it behind the file's name)
EDITS = {
    "seed that is a word": ("[0, 1]", "[0, one]", r"seeds\.1: .* valid integer.*; got 'one'$"),
    "seed that is no integer": ("[0, 1]", "[0.5]", r"seeds\.0: .* got 0\.5$"),
    "seeds that are one number": ("[0, 1]", "3", r"seeds: .* valid list; got 3$"),
    "seed that is a boolean": ("[0, 1]", "[0, yes]", "'seeds' is neither a number nor a text; .* needs quotes"),
    "seed beyond 64 bits": ("[0, 1]", "[9223372036854775808]", r"seeds\.0: more than 64 bits; give a smaller one"),
    "seed below zero": ("[0, 1]", "[-1]", r"seeds\.0: .* greater than or equal to 0; got -1"),
    "seed twice": ("[0, 1]", "[1, 1]", "seeds: 1 is given more than once"),
    "null for seeds": ("[0, 1]", "", "seeds: .* valid list"),
    "no seed": ("[0, 1]", "[]", "seeds: .* at least 1 item"),
    "boolean for a count": (
        "layers: 2",
        "layers: on",
        r"models\.tiny\.source: 'layers' is neither a number nor a text",
    ),
    "null for a number": ("learning_rate: 1e-3", "learning_rate: null", r"training\.learning_rate: .* valid number"),
    "not a number": ("learning_rate: 1e-3", "learning_rate: .nan", r"training\.learning_rate: .* got nan"),
    "infinity": ("learning_rate: 1e-3", "learning_rate: .inf", r"training\.learning_rate: .* finite number; got inf"),
    "beyond any float": ("learning_rate: 1e-3", "learning_rate: 1e999", r"training\.learning_rate: .* finite"),
    "zero": ("learning_rate: 1e-3", "learning_rate: 0", r"training\.learning_rate: .* greater than 0; got 0"),
    "no tokens": ("max_tokens: 99", "max_tokens: 0", r"training\.max_tokens: .* got 0"),
    "epochs below zero": ("epochs: 1}\nv", "epochs: -3}\nv", r"regimes\.both\.epochs: .* got -3"),
    "all for validation": ("fraction: 0.1", "fraction: 1", r"validation\.fraction: .* less than 1; got 1"),
    "percent of zero": ("percent: 10", "percent: 0", r"ablation\.percent: .* greater than 0; got 0"),
    "percent over 100": (
        "percent: 10",
        "percent: 100.5",
        r"ablation\.percent: .* less than or equal to 100; got 100.5",
    ),
    "percents that would share a name": (
        "percent: 10",
        "percent: 10.00000001",
        r"ablation\.percent: more than six digits; give 10; got",
    ),
    "percent twice": ("[5, 20]", "[5, 20, 5.0]", r"ablation\.sweep: 5\.0 is given more than once"),
    "list for a mapping": ("{fraction: 0.1}", "[fraction, 0.1]", "validation: .* valid dictionary"),
    "null for a section": ("training: {learning_rate: 1e-3, max_tokens: 99}", "training:", "training: .* valid dict"),
    "text for a section": ("{fraction: 0.1}", "much", "validation: .* valid dictionary .*; got 'much'"),
    "unknown section": ("figures:", "figurs:", "unknown key 'figurs'; did you mean 'figures'"),
    "key over two lines": ("figures:", '"a\\nb":', r"unknown key 'a\\nb'; known: "),
    "key that is a number": ("figures:", "7:", "unknown key '7'; known: "),
    "missing key": ("width: 16, ", "", r"models\.tiny\.source\.width: this key is missing"),
    "missing kind": ("kind: made, ", "", r"models\.tiny\.source\.kind: this key is missing"),
    "null for a kind": ("kind: made", "kind: null", r"models\.tiny\.source\.kind: unknown kind 'None'; known: "),
    "list for a kind": ("kind: made", "kind: [made]", r"models\.tiny\.source\.kind: unknown kind"),
    "name that is a path": ("name: good", "name: ../../etc", "name: .* match pattern .* got '../../etc'"),
    "name with a space": ("  tiny:", "  ti ny:", "models.ti ny: .* match pattern"),
    "name with a letter that is not plain": ("  tiny:", "  tïny:", "models.tïny: .* match pattern"),
    "name with a wildcard": ("  tiny:", '  "{tiny}":', r"models.\{tiny\}: .* match pattern"),
    "name that is a pattern": ("  tiny:", '  "tin*":', r"models.tin\*: .* match pattern"),
    "name that is a date": ("name: good", "name: 2024-01-01", "name: .* valid string"),
    "name that is a boolean": ("name: good", "name: no", "'name' is neither a number nor a text; .* needs quotes"),
    "name without a letter": ("name: good", 'name: ""', "name: .* match pattern"),
    "name too long for a file": ("name: good", f"name: {'x' * 101}", "name: .* at most 100 characters"),
    "undefined source": ("train: [mine]", "train: [mien]", r"regimes\.helpful\.train: unknown .*; did you mean 'mine'"),
    "undefined regime": ("[helpful, harmless]", "[helpful, harm]", r"regimes\.both\.mixes: unknown name 'harm'; did "),
    "undefined benchmark": ("[own]", "[won]", r"ablation\.sweep_benchmarks: unknown name 'won'; did you mean 'own'"),
    "benchmark twice": ("[own]", "[own, own]", r"ablation\.sweep_benchmarks: own is given more than once"),
    "mix of a mix": ("[helpful, harmless]", "[helpful, both]", r"regimes\.both\.mixes: 'both' itself is made of two o"),
    "mix of three": ("[helpful, harmless]", "[helpful, harmless, helpful]", r"regimes\.both: 'mixes' names two differ"),
    "mix of one": ("[helpful, harmless]", "[helpful]", r"regimes\.both: 'mixes' names two different regimes"),
    "source twice": ("train: [mine]", "train: [mine, mine]", r"regimes\.helpful\.train: mine is given more than once"),
    "regime without training data": ("train: [mine]", "train: []", r"regimes\.helpful: regime without data: give "),
    "regime that trains and mixes": (
        "epochs: 1}\nv",
        "train: [mine]}\nv",
        r"regimes\.both: 'mixes' names two differen",
    ),
    "no task": ("[chat]", "[]", r"benchmarks\.published\.tasks: .* at least 1 item"),
    "task twice": ("[chat]", "[chat, chat]", r"benchmarks\.published\.tasks: chat is given more than once"),
    "task that is a number": ("[chat]", "[1]", r"benchmarks\.published\.tasks\.0: .* valid string; got 1"),
    "task that is called as its average": (
        "rm-bench, path: file, tasks: [chat]",
        "own, path: file, tasks: {average: helpful}",
        r"benchmarks\.published\.tasks: 'average' has a meaning of its own; give another name",
    ),
    "source that is called as an average of its tasks": (
        "  mine: {kind: own",
        "  average: {kind: own",
        "sources: 'average' has a meaning of its own; give another name",
    ),
    "regime that is called as what is none": (
        "  both: {",
        "  unoriented: {",
        "regimes: 'unoriented' has a meaning of its own; give another name",
    ),
    "benchmark that is called as what is none": (
        "  published: {kind: rm-bench",
        "  validation: {kind: rm-bench",
        "benchmarks: 'validation' has a meaning of its own; give another name",
    ),
    "column that is a number": ("prompt: null", "prompt: 3", r"sources\.mine\.columns\.prompt: .* valid string; got 3"),
    "vocabulary without letters": (
        "layers: 2",
        "layers: 2, vocabulary: 9",
        r"models\.tiny\.source\.vocabulary: .* got 9",
    ),
    "heads that do not divide": (
        "heads: 2",
        "heads: 3",
        r"models\.tiny\.source: width 16 is not a multiple of heads 3",
    ),
    "heads of odd size": ("heads: 2", "heads: 16", r"models\.tiny\.source: .* llama takes heads of an even size"),
    "adopted under a word": ("{0: folder}", "{a: folder}", r"models\.other\.trained\.helpful\.a: .* valid integer"),
    "adopted under another seed": ("{0: folder}", "{5: folder}", r"models\.other\.trained\.helpful: unknown name '5'"),
    "adopted from a file": (
        "{0: folder}",
        "{0: file}",
        r"models\.other\.trained\.helpful\.0: .*file is no folder; name",
    ),
    "file that is missing": ("train: file", "train: fiel", r"sources\.mine\.train: .*/fiel does not exist; see docs"),
    "folder for a file": (
        "train: file",
        "train: folder",
        r"sources\.mine\.train: .*/folder: a folder without the shards",
    ),
    "file for a folder": (
        "pretrained, path: folder",
        "pretrained, path: file",
        r"models\.other\.source\.path: .* no fo",
    ),
    "folder for weights": (
        "gguf, path: file",
        "gguf, path: folder",
        r"models\.third\.source\.path: .*/folder is no fi",
    ),
    "file for a data set": ("folder: folder", "folder: file", r"sources\.theirs\.folder: .*/file is no folder; name a"),
    "link to itself": ("train: file", "train: loop", r"sources\.mine\.train: .*/loop does not exist; see docs"),
    "path without a name": ("train: file", 'train: ""', r"sources\.mine\.train: .* match pattern"),
    "path with a wildcard": ("train: file", 'train: "{file}"', r"sources\.mine\.train: .* match pattern"),
    "path with a zero byte": ("train: file", 'train: "fi\\0le"', r"sources\.mine\.train: .* match pattern"),
    "path longer than any": (
        "train: file",
        f"train: {'x' * 300}",
        r"sources\.mine\.train: .*x does not exist; see docs",
    ),
    "root that is missing": ("data_root: /", "data_root: /none/", ".* does not exist; see docs/data.md for where to"),
    "path with a commit": (
        "pretrained, path",
        "pretrained, revision: v2, path",
        r"models\.other\.source: 'revision'",
    ),
    "path and hub": ("pretrained, path", "pretrained, hub: a/b, path", r"models\.other\.source: give exactly one of"),
    "hub id that is a path": (
        "pretrained, path: folder",
        "pretrained, hub: ../b",
        r"models\.other\.source\.hub: .* patt",
    ),
    "hub id without an owner": (
        "pretrained, path: folder",
        "pretrained, hub: b",
        r"models\.other\.source\.hub: .* patte",
    ),
    "key twice": (
        "    source: {kind: gguf",
        "    source: 1\n    source: {kind: gguf",
        r"cannot be read \(line 14: key 'source' is gi",
    ),
    "section twice": ("figures:", "seeds: [3]\nfigures:", r"cannot be read \(line 27: key 'seeds' is given twice"),
    "key twice in braces": (
        "{fraction: 0.1}",
        "{fraction: 0.1, fraction: 0.2}",
        r"cannot be read \(line 21: key 'fraction' is",
    ),
    "tab": ("  tiny:", "\ttiny:", r"cannot be read \(line \d+: .*'\\t'"),
    "brace that stays open": ("{fraction: 0.1}", "{fraction: 0.1", r"cannot be read \(line 2\d: "),
    "indentation that varies": ("  other:", " other:", r"cannot be read \(line 9: "),
    "colon without a space": ("fraction: 0.1", "fraction:0.1", r"validation: unknown key 'fraction:0.1'"),
    "anchor that is undefined": ("name: good", "name: *good", r"cannot be read \(line \d: found undefined alias"),
    "object of Python": (
        "name: good",
        "name: !!python/object/apply:os.getcwd []",
        r"cannot be read \(line 2: could not",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_a_mistake_in_a_study_is_one_line(case: str, file: Path) -> None:
    good, bad, expected = EDITS[case]
    (file.parent / "loop").symlink_to("loop")
    assert file.read_text().count(good) == 1, "the case spoils one place"
    file.write_text(file.read_text().replace(good, bad))
    with refused(f"^{file}: {expected}", file.parent):
        read_study(file)


@pytest.mark.parametrize(
    ("key", "folder", "name"),
    [
        ("models.other.source", "folder", "tokenizer.json"),
        ("models.other.trained.helpful.0", "trained", "config.json"),
        ("sources.theirs", "data/folder", "test.jsonl.gz"),
        ("benchmarks.published", "benchmark", "total_dataset.json"),
    ],
)
def test_a_link_to_nothing_is_no_missing_file(key: str, folder: str, name: str, file: Path) -> None:
    text = file.read_text().replace("{0: folder}", "{0: trained}").replace("path: ., folder", "path: data, folder")
    file.write_text(text.replace("rm-bench, path: file", "rm-bench, path: benchmark"))
    for place in ("trained", "data/folder", "benchmark"):
        (file.parent / place).mkdir(parents=True)
    read_study(file)
    link = file.parent / folder / name
    link.symlink_to("gone")
    with refused(f"^{file}: {key}: {link}: a link to gone, which is not there; put that back", file.parent):
        read_study(file)


# what is wrong -> (content of the study file, what is said of it)
FILES: dict[str, tuple[bytes | None, str]] = {
    "no file": (None, r"cannot be read \(No such file or directory\)"),
    "empty": (b"", "no study, the file is empty; docs/choosing-a-study.md says what"),
    "nothing but a comment": (b"# name: a\n", "no study, the file is empty"),
    "list": (b"- name: a\n", "no keys with values, but list"),
    "word": (b"study", "no keys with values, but str"),
    "not UTF-8": ("name: café".encode("latin-1"), r"cannot be read \('utf-8' codec can't decode byte 0xe9"),
    "UTF-16": ("name: a".encode("utf-16"), r"cannot be read \('utf-8' codec"),
    "binary": (bytes(99), r"cannot be read \("),
    "two studies": (b"name: a\n---\nname: b\n", r"cannot be read \(line 2: but found another document"),
    "no end of nesting": (b"a: " + b"[" * 5000, r"cannot be read \("),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_study_is_one_line(case: str, file: Path) -> None:
    content, expected = FILES[case]
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with refused(f"^{file}: {expected}", file.parent):
        read_study(file)


def test_a_folder_for_a_study_is_one_line(tmp_path: Path) -> None:
    with refused(rf"^{tmp_path}: cannot be read \(Is a directory\)", tmp_path):
        read_study(tmp_path)


LOCKS = {
    "list": ("- a/b\n", "no keys with values, but list"),
    "branch": ("a/b: main\n", "a/b: 'main' is no commit of 40 hexadecimal digits"),
    "number": ("a/b: 1234\n", "a/b: '1234' is no commit"),
    "id twice": (f"a/b: {'0' * 40}\na/b: {'1' * 40}\n", r"cannot be read \(line 2: key 'a/b' is given twice"),
    "no YAML": ("a/b: {", r"cannot be read \(line 1: "),
}


@pytest.mark.parametrize("case", LOCKS)
def test_a_broken_lock_file_is_one_line(case: str, file: Path) -> None:
    content, expected = LOCKS[case]
    lock_file(file).write_text(content)
    with refused(f"^{lock_file(file)}: {expected}", file.parent):
        read_study(file)
