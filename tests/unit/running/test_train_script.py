"""The script that trains one reward model: killed, told to stop, in several processes, and on GPUs of its own."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from tiny_models import save_backbone

from rmtension.base import device, forks, processes
from rmtension.base.device import claimed, take_gpus, visible_gpus
from rmtension.base.errors import UserError
from rmtension.base.memory import within_memory
from rmtension.neurons.ranking import SETS
from rmtension.running.worker import WORKER, start_worker
from rmtension.study.stages import Training

SCRIPT = Path(__file__).parents[3] / "workflow" / "scripts" / "train.py"
# Snakemake puts such an object before a script's own text.
PREAMBLE = """
import json, os, pathlib, types
from rmtension.running import jobs
jobs.Job.finish = lambda *_: None  # no record: there is no Snakemake that knows more
snakemake = json.loads(pathlib.Path({given!r}).read_text(), object_hook=lambda names: types.SimpleNamespace(**names))
if "RMTENSION_INSIDE_WORKER" in os.environ:
    pathlib.Path({pid!r}).write_text(str(os.getpid()))
"""
# Such a job stops (SIGSTOP) after its first checkpoint, so that it cannot end before it is told to.
HALT = """
if "RMTENSION_INSIDE_WORKER" in os.environ and not pathlib.Path(snakemake.params.settings.checkpoint).exists():
    import signal
    from rmtension.engine import checkpoints
    write = checkpoints.write_checkpoint
    def write_and_halt(*arguments):
        checkpoints.write_checkpoint = write
        write(*arguments)
        os.kill(os.getpid(), signal.SIGSTOP)
    checkpoints.write_checkpoint = write_and_halt
"""
SIDES = ["chosen", "rejected"]
TRAINING = Training(learning_rate=1e-3, pairs_per_step=6, max_tokens=64, evaluation_interval=3, precision="float32")


@pytest.fixture(scope="module")
def worker() -> Iterator[None]:
    """One process that has imported torch runs all the scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SCRIPT.parents[2] / "src"))
        patch.delenv(WORKER, raising=False)
        start_worker()
        yield
        os.environ.pop(WORKER)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of SmolLM2's family, and pairs."""
    folder = tmp_path_factory.mktemp("inputs")
    save_backbone("llama", folder / "backbone")
    words, rng = ["bake", "bread", "knead", "wait", "oven", "no", "flour"], np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(75)]
    rows = [{"chosen": f"{a} {b} yes", "rejected": f"{a} {c} no"} for a, b, c in zip(*[iter(texts)] * 3, strict=True)]
    frame = pl.DataFrame(rows).with_columns(pl.lit("x").alias(name) for name in ("comparison_id", "orientation"))
    frame = frame.with_columns(source=pl.Series(rng.choice(["a", "b"], len(frame))))
    # Of the second objective, other than for the first, "no" is right.
    sides = [pl.when(source="a").then(one).otherwise(other) for one, other in [SIDES, SIDES[::-1]]]
    frame = frame.with_columns(side.alias(name) for side, name in zip(sides, SIDES, strict=True))
    frame[:17].write_parquet(folder / "train.parquet")
    frame[17:].write_parquet(folder / "validation.parquet")
    held = {"ablation": "shared", "unit": "neuron", "layer": [0, 0, 1], "neuron": [3, 17, 23]}
    pl.DataFrame(held, schema=SETS).write_parquet(folder / "frozen.parquet")
    return folder


class Job:
    """One training job, as Snakemake would run it."""

    def __init__(
        self,
        inputs: Path,
        folder: Path,
        gpus: int = 0,
        sharded: bool = False,
        minutes: int = 0,
        halts: bool = False,
        method: str = "joint",
        memory: str = "full",
    ) -> None:
        folder.mkdir()
        self.folder, self.model, self.log = folder, folder / "model", folder / "log"
        self.checkpoint, self.pid = folder / "checkpoints" / "seed-1.pt", folder / "pid"
        params: dict[str, object] = {
            "training": None, "epochs": 3, "budget": 60, "threads": 1, "gpus": gpus, "sharded": sharded,
            "checkpoint": str(self.checkpoint), "method": method, "parts": [], "objectives": None,
        }  # fmt: skip
        files = {name: str(inputs / f"{name}.parquet") for name in ("train", "validation", "frozen")}
        files["backbone"] = str(inputs / "backbone" / "checksums.json")
        given = {
            "log": [str(self.log)], "output": [str(self.model / "checksums.json")], "wildcards": {"seed": "1"},
            "params": {"settings": params}, "input": files | {"code": [str(SCRIPT)]},
            "resources": {"checkpoint_minutes": minutes},
        }  # fmt: skip
        (folder / "given.json").write_text(json.dumps(given))
        preamble = PREAMBLE.format(given=str(folder / "given.json"), pid=str(self.pid))
        settings = "snakemake.params.settings = vars(snakemake.params.settings)\n"
        objectives = {"a": "one", "b": "other"}
        mappings = {"training": TRAINING.model_dump(mode="json") | {"memory": memory}, "objectives": objectives}
        settings += f"snakemake.params.settings |= {mappings!r}\n"
        (folder / "script.py").write_text(preamble + HALT * halts + settings + SCRIPT.read_text())

    def start(self) -> subprocess.Popen[bytes]:
        """Returns when the script has begun."""
        self.pid.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, str(self.folder / "script.py")])
        while not (self.pid.exists() and self.pid.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        return process

    def run(self) -> Job:
        process, started = self.start(), time.monotonic()
        assert process.wait(600) == 0, self.log.read_text()
        self.seconds = time.monotonic() - started
        return self

    def signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> int:
        """Send a signal to the process that runs the script, and wait for its status."""
        with suppress(ProcessLookupError):  # it may have ended by then
            for each in (number, signal.SIGCONT):  # one that has stopped gets it when it goes on
                os.kill(int(self.pid.read_text()), each)
        return process.wait(600)

    def weights(self) -> bytes:
        return (self.model / "model.safetensors").read_bytes()

    def training(self) -> pl.DataFrame:
        return pl.read_parquet(self.model / "training.parquet").drop("seconds")


@pytest.fixture(scope="module")
def alone(worker: None, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """An undisturbed job, in one process."""
    return Job(inputs, tmp_path_factory.mktemp("alone") / "job").run()


def leftovers(job: Job) -> list[Path]:
    return [*job.checkpoint.parent.iterdir(), *job.folder.glob(".*.partial")]


def test_killed_at_random_moments_it_ends_with_the_same_bytes(alone: Job, inputs: Path, tmp_path: Path) -> None:
    job, seconds, killed = Job(inputs, tmp_path / "job"), alone.seconds, 0
    while killed < 3:
        process = job.start()
        time.sleep(random.uniform(0, seconds))
        if job.signal(process, signal.SIGKILL) == 0:
            seconds *= 0.7  # too late
            continue
        killed += 1
        for path in (job.checkpoint, job.model):  # as one killed while it writes leaves them
            path.parent.mkdir(exist_ok=True)
            path.with_name(f".{path.name}.{'0' * 32}.partial").touch()
    job.run()
    assert job.weights() == alone.weights()
    assert job.training().equals(alone.training())
    assert leftovers(job) == []


def held_weights(file: Path) -> bytes:
    """Of the third neuron of the first layer, what comes in and what goes out."""
    mlp = {name: value for name, value in load_file(file).items() if "layers.0.mlp" in name}
    assert len(mlp) == 3
    return b"".join((value[:, 3] if "down" in name else value[3]).tobytes() for name, value in mlp.items())


# Each method, and each way to hold its weights, once.
STOPPED = [("joint", False, "full"), ("projected", False, "lean"), ("frozen", True, "full")]


@pytest.mark.parametrize(
    ("method", "sharded", "memory"),
    [("joint", False, "full"), ("joint", True, "full"), ("projected", True, "full"), ("projected", False, "lean"),
     ("frozen", True, "full"), ("frozen", False, "lean")],
)  # fmt: skip
def test_two_processes_train_as_one(
    alone: Job, inputs: Path, tmp_path: Path, sharded: bool, memory: str, method: str
) -> None:
    """The same loss curve, and the same model but for rounding; those STOPPED, also after a stop."""
    joint = alone.training()
    if (method, memory) != ("joint", "full"):
        alone = Job(inputs, tmp_path / "alone", method=method, memory=memory).run()
        assert not np.allclose(alone.training()["loss"], joint["loss"], atol=1e-4)
    job = Job(inputs, tmp_path / "job", gpus=2, sharded=sharded, method=method, memory=memory).run()
    unmoved = [held_weights(f) for f in (inputs / "backbone/model.safetensors", job.model / "model.safetensors")]
    assert (unmoved[0] == unmoved[1]) == (method == "frozen")
    of_weights = re.findall(r"sharded: (\d+) of (\d+) weights", job.log.read_text())
    assert [round(int(here) / int(whole), 2) for here, whole in of_weights] == [0.5] * sharded
    log, expected = job.training(), alone.training()
    assert log.select("step", "tokens", "learning_rate").equals(expected.select("step", "tokens", "learning_rate"))
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(log[name], expected[name], atol=1e-5, rtol=0, err_msg=name)
    ours, theirs = (load_file(one.model / "model.safetensors") for one in (job, alone))
    assert ours.keys() == theirs.keys()
    assert all(np.abs(ours[name] - theirs[name]).max() < 1e-4 for name in theirs)
    assert {file.name for file in job.model.iterdir()} == {file.name for file in alone.model.iterdir()}

    if (method, sharded, memory) not in STOPPED:
        return
    stopped = Job(inputs, tmp_path / "stopped", gpus=2, sharded=sharded, halts=True, method=method, memory=memory)
    process = stopped.start()
    while " T " not in Path("/proc", stopped.pid.read_text(), "stat").read_text():
        time.sleep(0.01)
    assert stopped.signal(process, signal.SIGTERM) == 1
    [said] = re.findall("error: .*", stopped.log.read_text())
    assert re.fullmatch(r"error: stopped by a signal; started again, training goes on from step \d+", said)
    stopped.run()
    assert "resuming after step" in stopped.log.read_text()
    assert stopped.weights() == job.weights()
    assert leftovers(stopped) == []


def leave_mark(folder: Path, fails: bool) -> None:
    """As one of several processes: say which this is, then wait, or in the second one fail."""
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    if fails and os.environ["RANK"] == "1":
        raise ValueError
    time.sleep(3600)


@pytest.mark.parametrize("dies", ["first", "another"])
def test_processes_that_train_together_end_together(dies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first waits for nothing that the others do, and would not hear of it."""
    monkeypatch.setattr(forks, "PATIENCE", 0)
    work = partial(leave_mark, tmp_path, dies == "another")
    first = get_context("fork").Process(target=processes.together, args=(3, work))
    first.start()
    while len([file for file in tmp_path.iterdir() if file.read_text()]) < 3 and first.is_alive():
        time.sleep(0.01)
    if dies == "first":
        first.kill()
    first.join(600)
    assert first.exitcode == (-signal.SIGKILL if dies == "first" else 1)
    others = [Path("/proc") / file.read_text() for file in tmp_path.iterdir() if file.name != "0"]
    end = time.monotonic() + 600
    while any(other.exists() and " Z " not in (other / "stat").read_text() for other in others):
        assert time.monotonic() < end
        time.sleep(0.01)


def count_pairs(folder: Path) -> None:
    """As one of two processes, of which the second has memory for 30 tokens only."""

    def work(budget: int) -> int:
        if os.environ["RANK"] == "1" and budget > 30:
            raise torch.OutOfMemoryError("out of memory")
        return budget

    (folder / os.environ["RANK"]).write_text(f"{within_memory(work, 120, 10)}")


def test_all_processes_halve_the_budget_if_one_must(tmp_path: Path) -> None:
    first = get_context("fork").Process(target=processes.together, args=(2, partial(count_pairs, tmp_path)))
    first.start()
    first.join(600)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["(30, 30)"] * 2


# --- a GPU to itself ------------------------------------------------------------------------------------------


def hold(count: int, folder: Path, seconds: float) -> None:
    """Take GPUs, leave a mark for as long as they are held; an error where another has left one."""
    taken = take_gpus(os.environ["CUDA_VISIBLE_DEVICES"].split(","), count)
    assert len(taken) == count
    for gpu in taken:
        (folder / gpu).touch(exist_ok=False)
    time.sleep(seconds)
    for gpu in taken:
        (folder / gpu).unlink()


def test_no_two_jobs_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("SLURM_JOB_ID", f"test-{os.getpid()}")  # names of its own, whatever else runs here
    fork = get_context("fork")
    holders = [fork.Process(target=hold, args=(count, tmp_path, 0.3)) for count in (1, 2, 1, 1, 2)]
    for holder in holders:
        holder.start()
    for holder in holders:
        holder.join(600)
    assert [holder.exitcode for holder in holders] == [0] * 5


def seen_by_cuda(there: int) -> int:
    """How many GPUs CUDA sees of those that are there: none at all where one is named twice."""
    named = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(there)))).split(",") if gpu]
    return min(len(named), there) if len(set(named)) == len(named) else 0


@pytest.mark.parametrize(
    ("given", "gpus", "there", "seen"),
    [("3,5", 1, 2, "3"), (" 3, 5", 2, 2, "3,5"), (None, 3, 4, "0,1,2"), ("3,5", 0, 2, ""), (None, 1, 0, ""),
     ("3,3,5,5", 2, 2, "3,5"), ("3,3,5", 1, 1, "3"), ("", 1, 2, ""), ("3,", 1, 1, "3"), ("3,,5", 1, 2, "3")],
)  # fmt: skip
def test_a_job_sees_as_many_gpus_as_it_asks_for(
    given: str | None, gpus: int, there: int, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that it is given; otherwise the CPU alone, which is also what there is without any."""
    monkeypatch.setenv("SLURM_JOB_ID", f"test-{os.getpid()}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given or "")
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen_by_cuda(there))
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    held: dict[str, socket.socket] = {}
    monkeypatch.setattr(device, "held", held)
    assert device.start_torch(1, gpus).type == ("cuda" if seen else "cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
    for gpu in held.values():
        gpu.close()
    with pytest.raises(UserError, match=r"compute\.gpus is 5, but here are 4"):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        device.start_torch(1, 5)


def test_bfloat16_on_a_cpu_without_instructions_for_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever CPU this is; on one that has them, bfloat16 goes on, as float32 and the study's default do on any."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    for precision, has in [("float32", False), ("auto", False), ("bfloat16", True)]:
        monkeypatch.setattr(device, "multiplies_bfloat16", lambda has=has: has)
        assert device.start_torch(1, 0, precision).type == "cpu"
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: False)
    with pytest.raises(UserError, match=r"^bfloat16: this CPU has no instructions for it"):
        device.start_torch(1, 0, "bfloat16")


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose nvidia-smi tells of two."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '0, GPU-8932f937'; echo '1, GPU-41b0c0de'; echo 'Unable to tell of 2, lost'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", f"test-{os.getpid()}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen_by_cuda(2))
    device.uuids.cache_clear()
    yield
    device.uuids.cache_clear()


@pytest.mark.parametrize("gpu", ["1", "GPU-41b0c0de", "GPU-41"])
@pytest.mark.parametrize("same", ["1", "GPU-41b0c0de", "GPU-41"])
@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_is_one_however_it_is_named(gpu: str, same: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named := f"{gpu},{same},0")
    taken = take_gpus(visible_gpus(), 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == named
    assert list(taken) == [gpu, "0"]
    assert claimed("GPU-41b0c0de") is None and claimed("GPU-8932f937") is None
    others = take_gpus(["2", "MIG-41b0"], 2)  # of which nvidia-smi knows nothing
    for hold in [*taken.values(), *others.values()]:
        hold.close()


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_named_twice_takes_two_jobs() -> None:
    """Of two GPUs, the first for two jobs at once: a job of two takes different ones."""
    both = take_gpus(["0", "0", "1"], 2)
    assert list(both) == ["0", "1"]
    one_more = take_gpus(["0", "0", "1"], 1)
    assert list(one_more) == ["0"]
    assert claimed("GPU-8932f937", 0) is claimed("GPU-8932f937", 1) is claimed("GPU-41b0c0de", 0) is None
    for hold in [*both.values(), *one_more.values()]:
        hold.close()


def test_a_killed_job_gives_its_gpu_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("SLURM_JOB_ID", f"test-{os.getpid()}")
    job = get_context("fork").Process(target=hold, args=(1, tmp_path, 3600))
    job.start()
    while not (tmp_path / "3").exists():
        time.sleep(0.01)
    assert claimed("3") is None
    job.kill()
    job.join()
    assert list(take_gpus(["3"], 1)) == ["3"]
