"""Fetching from a hub, with a small one on loopback; everything else works without a network."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
from hub_server import LARGE, Hub, commit_of
from project import Project
from running import wait_until

from rmtension.engine.backbones import make_backbone
from rmtension.engine.reward_model import load_tokenizer, new_reward_model, save_reward_model
from rmtension.study.benchmarks import PublishedBenchmark
from rmtension.study.data import HHPairs
from rmtension.study.inputs import INDEX
from rmtension.study.models import FolderModel, GivenModel, MadeModel, Pretraining
from rmtension.study.places import READS

MODEL, PAIRS, BENCHMARK = "tiny/gpt2", "tiny/hh", "tiny/bench"
TINY = MadeModel(
    kind="made", family="gpt2", layers=2, width=16, heads=2, neurons=16, vocabulary=300,
    pretraining=Pretraining(texts=40, epochs=1),
)  # fmt: skip
SHARDED, REWARD_MODEL = "tiny/sharded", "tiny/rm"
SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
IN_SHARDS = [*SHARDS, "config.json", "tokenizer.json"]
BESIDE = [
    "model.fp16.safetensors", "model.fp32-00001-of-00002.safetensors", "model.safetensors.index.fp32.json",
    "model-00001-of-00002.safetensors", "adapter_model.safetensors", "adapter_config.json", "consolidated.safetensors",
    "original/model.safetensors", "onnx/model.safetensors", "generation_config.json", "README.md",
]  # fmt: skip
SCORES = "results/small/scores/tiny/helpful/seed-0/tasks.parquet"

# Fetches what it is told to in one process, as importing the client takes longer than fetching.
FETCHER = """
import json, sys
from pathlib import Path
from rmtension.base.errors import UserError
from rmtension.data.hub import fetch
for line in sys.stdin:
    piece, folder = json.loads(line)
    try:
        answer = fetch(piece, Path(folder))
    except UserError as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""


def parquet(frame: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with a tiny GPT-2, pairs in the layout of HH-RLHF, and a benchmark in RewardBench's."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    made = tmp_path_factory.mktemp("made")
    make_backbone(TINY, made)
    files = {file.name: file.read_bytes() for file in made.iterdir()}
    hub.add("models", MODEL, files | {"pytorch_model.bin": b"pickle", "onnx/config.json": b"{}", "README.md": b"#"})
    scored = tmp_path_factory.mktemp("scored")
    save_reward_model(new_reward_model(made, 0, 0.5), load_tokenizer(made), scored)
    hub.add("models", REWARD_MODEL, {file.name: file.read_bytes() for file in scored.iterdir()})
    hub.add("models", SHARDED, dict.fromkeys(BESIDE, b"beside") | {name: name.encode() for name in IN_SHARDS} | {
        INDEX: json.dumps({"weight_map": dict(zip("abc", SHARDS, strict=True))}).encode(),
    })  # fmt: skip
    hub.add("models", "tiny/pickles", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    split = {
        f"{folder}/{split}.jsonl.gz": f"{folder} {split}".encode() for folder in "ab" for split in ("train", "test")
    }
    hub.add("datasets", PAIRS, split | {"a/other.jsonl.gz": b"", "README.md": b"#"})
    subsets = ["alpacaeval-easy", "refusals-dangerous"]
    rows = pl.DataFrame({"subset": subsets, "prompt": "Hello?", "chosen": "Yes, hello.", "rejected": "No."})
    hub.add("datasets", BENCHMARK, {"data/filtered-00000-of-00001.parquet": parquet(rows), "data/raw-0.parquet": b""})
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def environment(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The ordinary client, pointed at the small hub."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        patch.setenv("HF_ENDPOINT", hub.address)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        yield


class Fetcher:
    """Runs fetch in another process: the client reads HF_ENDPOINT when it is imported."""

    def __init__(self, messages: Path) -> None:
        self.messages = messages  # what it says beside its answers
        command = [sys.executable, "-c", FETCHER]
        with messages.open("w") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
            )

    def __call__(self, piece: str, folder: Path) -> str | None:
        """The error's line, if there is one."""
        self.begin(piece, folder)
        return self.end()

    def begin(self, piece: str, folder: Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([piece, str(folder)]) + "\n")
        self.process.stdin.flush()

    def end(self) -> str | None:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        assert answer is None or "\n" not in answer
        return answer if answer is None else str(answer)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def fetch(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetcher]:
    fetcher = Fetcher(tmp_path_factory.mktemp("fetcher") / "messages")
    yield fetcher
    fetcher.stop()


@pytest.fixture
def another(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetcher]:
    fetcher = Fetcher(tmp_path_factory.mktemp("another") / "messages")
    yield fetcher
    fetcher.stop()


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_model(hub: Hub, fetch: Fetcher, tmp_path: Path) -> None:
    assert fetch(f"pretrained/{MODEL}/{commit_of(MODEL)}", tmp_path / "gpt2") is None
    arrived = files_in(tmp_path / "gpt2/files")
    upstream = files_in(hub.folder / "models" / MODEL)
    left_out = {"pytorch_model.bin", "onnx/config.json", "README.md", "generation_config.json"}
    assert arrived == {name: content for name, content in upstream.items() if name not in left_out}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(arrived)
    checksums = json.loads((tmp_path / "gpt2/checksums.json").read_text())
    assert checksums == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in arrived.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2"]


def test_pairs(hub: Hub, fetch: Fetcher, tmp_path: Path) -> None:
    assert fetch(f"hh-rlhf/{PAIRS}/{commit_of(PAIRS)}", tmp_path / "hh") is None
    expected = {f"{folder}/{split}.jsonl.gz" for folder in "ab" for split in ("train", "test")}
    assert set(files_in(tmp_path / "hh/files")) == expected


def test_every_kind_that_can_come_from_the_hub_says_what_it_reads() -> None:
    kinds = {
        kind
        for section in (FolderModel, GivenModel, HHPairs, PublishedBenchmark)
        for kind in get_args(section.model_fields["kind"].annotation)
    }
    assert kinds == set(READS)


FAULTS = {  # piece, what is wrong with which file, expected in the error
    "unknown repository": (f"pretrained/tiny/nothing/{'0' * 40}", {}, "tiny/nothing at 0000"),
    "unknown revision": (f"pretrained/{MODEL}/{'0' * 40}", {}, "the hub has no such revision"),
    "no commit": (f"pretrained/{MODEL}/unlocked", {}, "run `rmtension lock STUDY`"),
    "only pickles": (f"pretrained/tiny/pickles/{commit_of('tiny/pickles')}", {}, "neither model.safetensors nor"),
    "not the layout": (f"rm-bench/{BENCHMARK}/{commit_of(BENCHMARK)}", {}, "no file total_dataset.json"),
    "another small file": (f"pretrained/{MODEL}/{commit_of(MODEL)}", {"config.json": "flipped"}, "config.json: "),
    "another large file": (
        f"pretrained/{MODEL}/{commit_of(MODEL)}", {"model.safetensors": "flipped"}, "model.safetensors: ",
    ),
    "shorter file": (f"pretrained/{MODEL}/{commit_of(MODEL)}", {"model.safetensors": "cut"}, "model.safetensors: "),
    "file that breaks off": (
        f"pretrained/{MODEL}/{commit_of(MODEL)}", {"model.safetensors": "short"}, "Consistency check failed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_only_whole_files_are_kept(
    hub: Hub, fetch: Fetcher, tmp_path: Path, fault: str
) -> None:
    piece, wrong, expected = FAULTS[fault]
    for name, how in wrong.items():
        content = (hub.folder / "models" / MODEL / name).read_bytes()
        match how:
            case "flipped":
                hub.sent[name] = bytes([content[0] ^ 1]) + content[1:]
            case "cut":
                hub.sent[name] = content[:-1]
            case "short":
                hub.short.add(name)
    try:
        line = fetch(piece, tmp_path / "piece")
    finally:
        hub.sent.clear()
        hub.short.clear()
    assert line is not None and expected in line
    assert not (tmp_path / "piece").exists()
    left = {Path(file).name for file in files_in(tmp_path)}
    assert bool(left) == bool(wrong) and left.isdisjoint({*wrong, "checksums.json"})
    for name in wrong:
        hub.downloads.clear()
        assert fetch(piece, tmp_path / "piece") is None
        large = {file for file in left if file.endswith(LARGE)}  # others cost no more than the question
        assert name in hub.downloads and set(hub.downloads).isdisjoint(large)
        assert files_in(tmp_path / "piece/files")[name] == (hub.folder / "models" / MODEL / name).read_bytes()
        assert [path.name for path in tmp_path.iterdir()] == ["piece"]


# --- what breaks off ----------------------------------------------------------------------------------------------

PIECE = f"pretrained/{SHARDED}/{commit_of(SHARDED)}"


def is_whole(folder: Path) -> bool:
    arrived = files_in(folder / "files")
    return set(arrived) == {*IN_SHARDS, INDEX} and all(arrived[name] == name.encode() for name in IN_SHARDS)


def test_of_weights_in_shards_those_that_the_index_names(fetch: Fetcher, tmp_path: Path) -> None:
    assert fetch(PIECE, tmp_path / "piece") is None
    assert is_whole(tmp_path / "piece")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({"a": SHARDS[0], "b": "model-9.safetensors"}, "names model-9.safetensors: no"),
        ({"a": "a.bin"}, "names nothing: no"),
    ],
)
def test_an_index_of_other_files_is_one_line(
    index: dict[str, str], expected: str, hub: Hub, fetch: Fetcher, tmp_path: Path
) -> None:
    name = f"tiny/index-of-{len(index)}"
    hub.add("models", name, {INDEX: json.dumps({"weight_map": index}).encode(), SHARDS[0]: b"1", "a.bin": b"2"})
    line = fetch(f"pretrained/{name}/{commit_of(name)}", tmp_path / "piece")
    assert line is not None and expected in line


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_killed_fetch_goes_on_with_what_had_come_whole(
    spoilt: bool, hub: Hub, fetch: Fetcher, another: Fetcher, tmp_path: Path
) -> None:
    folder = tmp_path / "piece"
    hub.downloads.clear()
    hub.held[SHARDS[1]] = threading.Event()
    try:
        another.begin(PIECE, folder)
        assert wait_until(lambda: SHARDS[1] in hub.downloads, 60)
        another.process.kill()
        another.process.wait()
    finally:
        hub.held.pop(SHARDS[1]).set()
    assert not folder.exists()
    [first] = tmp_path.rglob(SHARDS[0])
    if spoilt:  # as a power loss can
        first.write_bytes(b"")
    hub.downloads.clear()
    assert fetch(PIECE, folder) is None
    assert sorted(set(hub.downloads) & set(SHARDS)) == SHARDS[0 if spoilt else 1 :]
    assert is_whole(folder) and [path.name for path in tmp_path.iterdir()] == ["piece"]


def test_two_that_fetch_the_same_bring_it_once(hub: Hub, fetch: Fetcher, another: Fetcher, tmp_path: Path) -> None:
    folder = tmp_path / "piece"
    hub.downloads.clear()
    hub.held[SHARDS[1]] = threading.Event()
    try:
        another.begin(PIECE, folder)
        assert wait_until(lambda: SHARDS[1] in hub.downloads, 60)
        fetch.begin(PIECE, folder)
        assert wait_until(
            lambda: f"waiting for another process that holds {tmp_path}" in fetch.messages.read_text(), 60
        )
    finally:
        hub.held.pop(SHARDS[1]).set()
    assert (another.end(), fetch.end()) == (None, None)
    assert sorted(hub.downloads) == sorted([*IN_SHARDS, INDEX])
    assert is_whole(folder) and [path.name for path in tmp_path.iterdir()] == ["piece"]


# --- a study ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(hub: Hub, environment: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The small study with its backbone and a benchmark from the hub, and no revision for either."""
    project = Project(tmp_path_factory.mktemp("study") / "project")
    text = (project.folder / "small.yaml").read_text()
    text = re.sub(r"\{kind: made.*\n.*\}\}", f"{{kind: pretrained, hub: {MODEL}}}", text)
    text = text.replace("{kind: synthetic, per_task: 3}", f"{{kind: reward-bench, hub: {BENCHMARK}, revision: main}}")
    text = text.replace("train: 60, test: 20", "train: 20, test: 4").replace("seeds: [0, 7]", "seeds: [0]")
    cache = project.folder.with_name("cache")
    (project.folder / "small.yaml").write_text(f"{text}hub_cache: {cache}\n")
    return project


def test_from_a_name_on_the_hub_to_scores_without_a_network(hub: Hub, project: Project) -> None:
    """Each step needs the one before it."""
    # Without commits the study can be looked at; what a fetch job then says is tested above.
    assert project.planned()["fetch"] == 2

    # The command writes the lock file, and leaves alone what it finds there.
    (project.folder / "hub.lock").write_text(f"# mine\ntiny/other: {'a' * 40}")
    command = [sys.executable, "-c", "from rmtension.cli import main; main()", "lock", "small.yaml"]
    found = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True)
    added = [f"{MODEL}: {commit_of(MODEL)}", f"{BENCHMARK}@main: {commit_of(BENCHMARK)}"]
    assert found.stdout.splitlines() == added
    lines = (project.folder / "hub.lock").read_text().splitlines()
    assert lines == ["# mine", f"tiny/other: {'a' * 40}", *added]

    # A fault that goes away is tried again.
    hub.failures = 2
    project.run("--until", "fetch")
    assert hub.failures == 0
    pieces = [f"pretrained/{MODEL}/{commit_of(MODEL)}", f"reward-bench/{BENCHMARK}/{commit_of(BENCHMARK)}"]
    assert all((project.folder.with_name("cache") / piece / "checksums.json").exists() for piece in pieces)

    # Nothing else asks the hub, even where it could.
    before = list(hub.requests)
    project.run(SCORES)
    assert hub.requests == before
    tasks = pl.read_parquet(project.folder / SCORES)["task"].unique()
    assert set(tasks) == {"Alpaca Eval (Easy)", "Refusals Dangerous"}

    # Another clone with newer scripts, and the same cache, has nothing to fetch.
    clone = Project(project.folder.with_name("clone"))
    for file in ("small.yaml", "hub.lock"):
        shutil.copy(project.folder / file, clone.folder)
    (clone.folder / "workflow" / "scripts" / "fetch.py").touch()
    assert "fetch" not in clone.planned()


def test_what_another_study_brings_after_this_one_was_planned_stays(hub: Hub, project: Project) -> None:
    """Snakemake removes what a job is to make, which nobody else may miss."""
    cache = project.folder.with_name("cache")
    pieces = sorted(str(file) for file in cache.rglob("checksums.json"))
    brought = cache.rename(cache.with_name("brought"))
    data = "data/filtered-00000-of-00001.parquet"
    hub.downloads.clear()
    hub.held |= {name: threading.Event() for name in (data, "config.json")}
    with ThreadPoolExecutor() as pool:
        done = pool.submit(project.snakemake, "--cores", "1", *pieces)
        try:
            assert wait_until(lambda: bool(hub.downloads), 60)
            other = "pretrained" if hub.downloads == [data] else "reward-bench"
            shutil.copytree(brought / other, cache / other)
        finally:
            for name in (data, "config.json"):
                hub.held.pop(name).set()
    assert done.result().returncode == 0, done.result().stderr
    assert (data in hub.downloads) == (other == "pretrained") and (hub.downloads == [data]) == (data in hub.downloads)
    assert sorted(str(file) for file in cache.rglob("checksums.json")) == pieces


def test_an_xray_of_a_name_on_the_hub(hub: Hub, environment: None, tmp_path: Path) -> None:
    """It is fetched into the cache, at the commit that the study then has, and not again."""
    own = tmp_path / "own.json"
    own.write_text(json.dumps([{"prompt": f"q{i}", "chosen": "yes", "rejected": "no"} for i in range(9)]))
    program = [sys.executable, "-c", "from rmtension.cli import main; main()", "xray"]
    files = ["--helpful", str(own), "--harmless", str(own), "--benchmark", str(own), "--study", "x.yaml"]

    def xray(model: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, model, *files], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = xray(f"{REWARD_MODEL}@main")
    assert done.returncode == 0, done.stderr
    written, commit = (tmp_path / "x.yaml").read_text(), commit_of(REWARD_MODEL)
    assert f"{{kind: given, hub: {REWARD_MODEL}, revision: {commit}}}" in written
    assert (tmp_path / "hub/given" / REWARD_MODEL / commit / "checksums.json").exists()
    before = list(hub.requests)
    assert xray(f"{REWARD_MODEL}@{commit}").returncode == 0
    assert hub.requests == before and (tmp_path / "x.yaml").read_text() == written
    for model, expected in {
        "tiny/pickles": f"error: tiny/pickles at {commit_of('tiny/pickles')}: neither model.safetensors nor ",
        "tiny/none": "error: tiny/none: no such folder here, and the hub has no such repository, or not for you",
    }.items():
        refused = xray(model)
        assert refused.returncode == 1 and expected in refused.stderr.splitlines()[-1]


def test_without_a_network(hub: Hub, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been fetched is enough; what has not is one line with the command that gets it."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    cache = project.folder.with_name("cache")
    backbone, benchmark = project.results / "backbones" / "tiny", project.results / "benchmarks" / "tasks.parquet"
    for made in (backbone, cache / "reward-bench"):
        shutil.rmtree(made)
    benchmark.unlink()
    targets = [str(file.relative_to(project.folder)) for file in (backbone / "checksums.json", benchmark)]
    done = project.snakemake("--cores", "2", "--keep-going", *targets)
    assert done.returncode != 0
    assert (backbone / "model.safetensors").exists()
    (line,) = {line for line in done.stderr.splitlines() if line.startswith("error: ")}
    assert line.startswith(f"error: {BENCHMARK} at {commit_of(BENCHMARK)}: ")
    assert "snakemake --cores 1 --until fetch --configfile STUDY" in line
    assert not [path for path in cache.rglob("*") if "partial" in path.name]
