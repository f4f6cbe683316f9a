"""A bundle is unpacked where no registry can be reached: what it takes is in it, and what is not is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
from project import FEWER, ROOT, STUDY

from rmtension.base.errors import UserError
from rmtension.data.hub import read_study
from rmtension.running.bundle import Target, is_any_of, make_bundle, project_files, read_files

VERSION = "{}.{}".format(*sys.version_info)
SOURCES = "data_root: here\nsources:\n  good: {kind: hh-rlhf, path: hh, folder: base}\n"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own files in a repository of their own, with a study that reads two files of three."""
    monkeypatch.chdir(ROOT)
    if not (ROOT / ".git").exists() or not (ROOT / ".uv").exists():
        pytest.skip("needs a clone of the project after make setup")
    folder = tmp_path / "clone"
    for file in project_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, folder / file)
    planted = folder / "resources/planted.yaml"
    planted.write_text(reduce(lambda text, change: text.replace(*change), FEWER.items(), planted.read_text()))
    (folder / ".uv").symlink_to(ROOT / ".uv")
    (folder / "mine.yaml").write_text(STUDY.read_text())
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return folder


def test_the_bundle_of_a_study_runs_without_a_network(clone: Path) -> None:
    """Its libraries are those of the interpreter, but for what builds this package: the others would take long."""
    shutil.copy(ROOT / "tests/studies/bare.yaml", ".")
    if not any(Path(folder, "make").exists() for folder in os.environ["PATH"].split(":")):
        pytest.skip("needs make")
    try:
        make_bundle(
            Path("bare.yaml"),
            read_study(Path("bare.yaml")),
            Path("made/bare"),
            Target(VERSION, "x86_64-manylinux_2_28", ["*"]),
        )
    except UserError as error:
        if "failed" in str(error):
            pytest.skip(f"no registry: {error}")
        raise
    target = clone.parent / "target"
    shutil.move("made/bare", target)
    nowhere = dict.fromkeys(
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"], "http://127.0.0.1:9"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "PYTHONPATH"))}
    environment = kept | nowhere | {"PYTHON": sys.executable, "UV_CACHE_DIR": str(clone.parent / "cache")}

    def done(*command: str) -> str:
        ended = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
        return ended.stdout + ended.stderr

    assert done("sh", "bundle/install") == ""
    where = done(
        ".venv/bin/python", "-c", "import rmtension, polars; print(rmtension.__file__, polars.__file__)"
    ).split()
    assert [Path(file).is_relative_to(target) for file in where] == [True, False]
    done("make", "run", "CORES=2")
    assert (target / "results/bare/report.html").stat().st_size > 100_000


def test_what_a_study_reads_is_in_it_and_nothing_else(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmtension.running.bundle.write_wheels", lambda made, target: None)
    text = Path("mine.yaml").read_text()
    start, end = text.index("sources:\n"), text.index("  safe:")
    Path("mine.yaml").write_text(text[:start] + SOURCES + text[end:])
    Path("hub.lock").write_text("x/y: " + "a" * 40)
    Path(".git/info/exclude").write_text("*.lock\n")  # so that git does not list it
    base = clone.parent / "elsewhere/hh/base"
    base.mkdir(parents=True)
    for name in ("train.jsonl", "test.jsonl.gz", "notes.txt"):
        (base / name).write_text(name)
    Path("here").symlink_to(clone.parent / "elsewhere")
    study, target = read_study(Path("mine.yaml")), Target("3.12", "x86_64-manylinux_2_28", [])
    assert [str(file) for file in read_files(study)] == ["here/hh/base/train.jsonl", "here/hh/base/test.jsonl.gz"]
    make_bundle(Path("mine.yaml"), study, Path("made"), target)
    made = {str(file.relative_to("made")) for file in Path("made").rglob("*") if file.is_file()}
    own = {str(file) for file in project_files() if file.parts[0] != "made"}
    beside = {"here/hh/base/train.jsonl", "here/hh/base/test.jsonl.gz", "bundle/install", "bundle/study.mk", "hub.lock"}
    assert made == (own - {"here"}) | beside and not Path("made/here").is_symlink()
    with pytest.raises(UserError, match=r"^made: is there already"):
        make_bundle(Path("mine.yaml"), study, Path("made"), target)
    (base / "train.jsonl").unlink()
    (base / "test.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"^sources\.good: nothing that a study reads is at hh$"):
        make_bundle(Path("mine.yaml"), study, Path("again"), target)


def test_of_an_adopted_reward_model_come_the_files_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models = "models:\n  tiny:\n    trained: {helpful: {0: elsewhere/rm}}\n"
    Path("mine.yaml").write_text(STUDY.read_text().replace("models:\n  tiny:\n", models))
    read = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in (*read, "optimizer.pt", "checkpoint-9/model.safetensors", ".git/config"):
        (tmp_path / "elsewhere/rm" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "elsewhere/rm" / name).write_text("{}")
    study = read_study(Path("mine.yaml"))
    assert {str(file) for file in read_files(study)} == {f"elsewhere/rm/{name}" for name in read}
    for name in read:
        (tmp_path / "elsewhere/rm" / name).unlink()
    with pytest.raises(UserError, match=r"^models\.tiny\.trained\.helpful\.0: nothing .* is at elsewhere/rm$"):
        read_files(study)


@pytest.mark.parametrize(
    ("study", "target", "fault"),
    [
        (Path("mine.yaml"), Target("python3", "x86_64-manylinux_2_28", []), "^Python 'python3': give the version"),
        (Path("mine.yaml"), Target("3.12", "linux", []), "^platform 'linux': not of the form"),
        (Path("/mine.yaml"), Target("3.12", "x86_64-manylinux_2_28", []), "^/mine.yaml: is not below the project"),
        (Path("none.yaml"), Target("3.12", "x86_64-manylinux_2_28", []), "^none.yaml: no such file"),
        (Path("my study.yaml"), Target("3.12", "x86_64-manylinux_2_28", []), "^my study.yaml: make takes no blank"),
    ],
)
def test_a_bundle_that_cannot_be_is_one_line(clone: Path, study: Path, target: Target, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        make_bundle(study, read_study(Path("mine.yaml")), Path("made"), target)
    assert not Path("made").exists()


def test_outside_of_the_project_is_one_line(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(Path("mine.yaml"))
    monkeypatch.chdir(clone.parent)
    with pytest.raises(UserError, match=r"^a bundle is made in the project's own folder, after `make setup`$"):
        make_bundle(Path("mine.yaml"), study, Path("made"), Target("3.12", "x86_64-manylinux_2_28", []))


def test_patterns_of_packages() -> None:
    assert is_any_of("nvidia-cublas", ["torch", "nvidia-*"]) and not is_any_of("torchvision", ["torch", "nvidia-*"])
