"""Which code, data and libraries a result came from."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from rmtension import __version__
from rmtension.base.environment import environment
from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, fingerprint, sha256, write_text

PACKAGE = Path(__file__).parents[1]
WITHOUT_PART = {"base.errors", "running.jobs", "base.progress"}  # start, log and report jobs: no result depends on them
IMPORTS = re.compile(r"^\s*(from rmtension[\w.]* import (?:\([^)]*\)|.+)|import rmtension.*)$", re.MULTILINE)
RUN = "RMTENSION_RUN"  # environment variable: what is the same for every job of a run, as JSON
CIRCUMSTANCES = ("study", "code", "environment", "device", "slurm_job", "started", "ended")
OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")  # they name the repository of the hook
NO_REPOSITORY = "the project is in no git repository of its own"
KEYS = {"rule", "wildcards", "params", *CIRCUMSTANCES, "inputs", "outputs", "earlier"}  # of a record
LARGE = 100_000_000  # bytes, as in profiles/default; a larger file counts as the same while its size and time stay


def module_file(name: str) -> Path:
    """Where a module of this package lies; name: as in an import, without the package's."""
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py")


@cache  # every rule asks, mostly about the same files
def imported_files(file: Path) -> frozenset[Path]:
    """Modules of this package that a Python file imports, anywhere in it, and that results depend on."""
    names: set[str] = set()
    statements = "\n".join(IMPORTS.findall(file.read_text(encoding="utf-8")))  # a tenth of the time of all of the file
    for node in ast.parse(statements).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    own = {name.removeprefix("rmtension.") for name in names if name.startswith("rmtension.")}
    return frozenset(file for file in map(module_file, own - WITHOUT_PART) if file.exists())


def module_files(script: Path) -> list[Path]:
    """Every module of this package that a script comes to import and its result depends on, itself left out."""
    found: set[Path] = set()
    pending = [script]
    while pending:
        fresh = imported_files(pending.pop()) - found
        found |= fresh
        pending += fresh
    return sorted(found)


def registered(module: str, registry: str) -> list[str]:
    """Keys of a dict that a module of this package defines, read without importing it and what it imports."""
    tree = ast.parse(module_file(module).read_text(encoding="utf-8"))
    plain = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    typed = {ast.unparse(node.target): node.value for node in tree.body if isinstance(node, ast.AnnAssign)}
    found = (plain | typed)[registry]
    assert isinstance(found, ast.Dict)
    return [ast.literal_eval(key) for key in found.keys if key is not None]


def installed_commit() -> str | None:
    """The commit of the repository that this package was installed from, by pip or uv; None where it was not."""
    for installed in importlib.metadata.distributions(name="rmtension"):
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
        if "vcs_info" in origin and PACKAGE.samefile(str(installed.locate_file(PACKAGE.name))):
            return str(origin["vcs_info"]["commit_id"])
    return None


def code_version() -> dict[str, Any]:
    """The package's version and, in a checkout, the commit and the files of the workflow that differ from it.

    no_commit: why there is none.
    """
    root = PACKAGE.parents[1]
    code: dict[str, Any] = {"version": __version__}
    if commit := installed_commit():
        return code | {"commit": commit, "changed": []}
    if not (root / ".git").exists():  # below the root of a repository it is another project's
        return code | {"no_commit": NO_REPOSITORY}
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-c", "status.renames=false", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, check=True, env=environment, text=True, errors="replace")
        return done.stdout

    try:
        inside, commit = git("rev-parse", "--show-prefix", "HEAD").splitlines()
        entries = git("status", "--porcelain", "-z", "--untracked-files=all", "--", "src", "workflow", "resources")
    except OSError as error:
        return code | {"no_commit": f"git cannot be run ({error.strerror})"}
    except subprocess.CalledProcessError as error:
        said = re.search(r"^fatal: (.*)", error.stderr, re.MULTILINE)
        return code | {"no_commit": f"git refused: {said[1] if said else error}"}
    if inside:
        return code | {"no_commit": NO_REPOSITORY}
    return code | {"commit": commit, "changed": [entry[3:] for entry in entries.split("\0") if entry]}


# --- records ----------------------------------------------------------------------------------------------------


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def announce(name: str, study_files: list[str], settings: Mapping[str, Any]) -> None:
    """Tell the jobs of this run, wherever they are started, what their records say of the study and the code."""
    if RUN not in os.environ:
        study = {"name": name, "files": study_files, "sha256": settings_hash(settings), "folder": os.getcwd()}
        code = code_version()
        if code.get("no_commit", NO_REPOSITORY) != NO_REPOSITORY:
            print(f"warning: records of this run will have no commit: {code['no_commit']}", file=sys.stderr)
        os.environ[RUN] = json.dumps({"study": study, "code": code, "since": time.time()})


def files_of(path: Path) -> list[Path]:
    """The files of the folder that its checksums.json stands for; or the file itself."""
    if path.name != CHECKSUMS:
        return [path]
    return [file for file in sorted(path.parent.rglob("*")) if file.is_file()]


def read_record(file: Path) -> dict[str, Any] | None:
    """The record in a file, if there is one."""
    with suppress(FileNotFoundError, ValueError):
        record = json.loads(file.read_bytes())
        if isinstance(record, dict) and record.keys() >= KEYS:
            return record
    return None


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records in a folder by name, in the order in which their jobs ended. Other files do not count."""
    files = filter(Path.is_file, folder.rglob("*.json"))  # a model's name, and so a folder's, may end so, too
    read = {str(file.relative_to(folder).with_suffix("")): read_record(file) for file in files}
    found = {name: record for name, record in read.items() if record}
    return dict(sorted(found.items(), key=lambda item: (item[1]["ended"], item[0])))


def made_files(records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Path -> what the record of the last job that made it says of it."""
    return {path: entry for record in records.values() for path, entry in record["outputs"].items()}


def content(file: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of a file: size, mtime_ns, sha256, and link, its real place if it is a link.

    known: the same as found before. A file beyond LARGE that has kept its size and time is not read again.
    """
    status = file.stat()
    found: dict[str, Any] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if status.st_size > LARGE and found.items() <= known.items():
        found["sha256"] = known["sha256"]
    else:
        found["sha256"] = sha256(file)
    return found | ({"link": str(file.resolve())} if file.is_symlink() else {})


def device_name(device: Any) -> str:
    """cpu, or cuda and the name of the GPU; device: a torch.device or its name."""
    if str(device) == "cpu":
        return "cpu"
    import torch  # only for scripts that compute on a GPU, which have imported it

    return f"{device} {torch.cuda.get_device_name(device)}"


def edited(files: Iterable[Path], since: float) -> list[str]:
    """Those written after a time, in seconds since the epoch; by their paths in the project, where they are in it."""
    root, late = PACKAGE.parents[1], [file.resolve() for file in files if file.stat().st_mtime > since]
    return [str(file.relative_to(root) if file.is_relative_to(root) else file) for file in late]


def circumstances(started: datetime, code: Iterable[Path], device: Any) -> dict[str, Any]:
    """What the run of a job was like that ends now; code: the modules that it came to import."""
    run, ended, files = json.loads(os.environ[RUN]), datetime.now(UTC), [*code]
    found = run["code"] | {"modules": fingerprint(*files)}
    if "changed" in found:  # as it was at the start
        found["changed"] = sorted({*found["changed"], *edited(files, run["since"])})
    return {
        "study": run["study"],
        "code": found,
        "environment": environment(),
        "device": device_name(device),
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
        "started": started.isoformat(timespec="milliseconds"),
        "ended": ended.isoformat(timespec="milliseconds"),
    }


def refuse_altered(read: Iterable[Path], results: Path) -> None:
    """UserError where one of these files is no longer as the job left it that made it, by the records of the study.

    Call it before the first job of a run: later, what it has just made and its record may be seen in any order.
    """
    records = read_records(results / "provenance")
    made, makers = made_files(records), {path: name for name, record in records.items() for path in record["outputs"]}
    for path in sorted(read):
        for file in files_of(path):
            entry = made.get(str(file))
            if entry and content(file, entry)["sha256"] != entry["sha256"]:
                again = f"delete {'it' if file == path else path} and start again"
                raise UserError(f"{file}: changed after {makers[str(file)]} made it: put it back, or {again}")


def write_record(snakemake: Any, started: datetime, grows: bool, device: Any) -> None:
    """Say in provenance/ of the study's results, where logs/ has the job's log, what the job made, from what and how.

    grows: the output may hold what earlier runs of the job computed with the same code; their circumstances are kept.
    """
    results, study, _, *parts = Path(snakemake.log[0]).parts
    folder, name = Path(results, study, "provenance"), str(Path(*parts).with_suffix(""))
    code = list(map(Path, snakemake.input.get("code", [])))
    read = [file for path in map(Path, snakemake.input) if path not in code for file in files_of(path)]
    made = [file for path in map(Path, snakemake.output) for file in files_of(path)]
    run, record_file = circumstances(started, code, device), folder / f"{name}.json"
    before = read_record(record_file) if grows else None
    # Many, which take longer to read than small files to hash.
    hashed = made_files(read_records(folder)) if any(file.stat().st_size > LARGE for file in read) else {}
    earlier = []
    if before and before["code"]["modules"] == run["code"]["modules"]:
        earlier = [*before["earlier"], {key: before[key] for key in CIRCUMSTANCES}]
    record = {
        "rule": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "params": snakemake.params.get("settings", {}),
        **run,
        "inputs": {str(file): content(file, hashed.get(str(file), {})) for file in read},
        "outputs": {str(file): content(file, {}) for file in made},
        "earlier": earlier,
    }
    write_text(json.dumps(record, indent=1) + "\n", record_file)
