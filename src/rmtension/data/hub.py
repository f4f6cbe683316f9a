"""The hub: what a study reads from it goes into a cache, at a pinned commit. Nothing else uses a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from rmtension.base.errors import UserError
from rmtension.base.files import CHECKSUMS, cause_of, read_yaml, remove, replacing, sha256, sole_writer
from rmtension.study.inputs import INDEX, WEIGHTS, matches, shards
from rmtension.study.loading import check_study, load_study
from rmtension.study.places import MODELS, READS, origins
from rmtension.study.section import COMMIT, Located, lock_key
from rmtension.study.study import Study

FETCH = "snakemake --cores 1 --until fetch --configfile STUDY"
LOCK = "rmtension lock STUDY"
FETCHING, LOCKING = (f"run `{command}` where it can" for command in (FETCH, LOCK))
HEADER = f"# Commits of what studies in this folder read from the hub by name or branch; `{LOCK}` adds missing ones.\n"


# --- fetching -------------------------------------------------------------------------------------------------


def fetch(piece: str, folder: Path, advice: str = FETCHING) -> None:
    """Bring kind/owner/name/commit into `folder`: files/, those that the kind reads, as upstream, and checksums.json.

    checksums.json: file -> sha256 and size in bytes. advice: as asking_the_hub has it. Raises UserError where the hub
    cannot be asked, lacks something, or sends something else than it lists; what had come whole until then waits in a
    hidden folder for the next try.
    """
    kind, owner, name, commit = piece.split("/")
    repository = f"{owner}/{name}"
    if not COMMIT.fullmatch(commit):
        raise UserError(f"{repository}: neither the study nor the lock file beside it has its commit; run `{LOCK}`")
    about, arriving = f"{repository} at {commit}", folder.with_name(f".{folder.name}.arriving")
    with asking_the_hub(f"{about}:", advice), sole_writer(folder):
        if (folder / CHECKSUMS).exists():
            return  # another process has brought it meanwhile
        checksums = bring(kind, repository, commit, arriving / "files", about)
        (arriving / CHECKSUMS).write_text(json.dumps(checksums, indent=2, sort_keys=True) + "\n")
        remove(folder)
        arriving.rename(folder)


def bring(kind: str, repository: str, commit: str, folder: Path, about: str) -> dict[str, dict[str, Any]]:
    """Fetch what a kind reads of a repository into `folder`, but for what is there already; file -> sha256 and size."""
    from huggingface_hub import HfApi  # half a second to import, and every start of Snakemake imports this module

    of_type, hub = repository_type(kind), HfApi()
    info: Any = hub.repo_info(repository, repo_type=of_type, revision=commit, files_metadata=True)
    listed = {file.rfilename: file for file in info.siblings}
    notes = folder / ".cache"  # the client's, and what was under way when a process was killed
    remove(notes)
    checksums = {}
    for name in wanted(kind, listed, folder, about):
        # A large file that is there the client compares by its SHA-256, and leaves alone where that is right.
        hub.hf_hub_download(repository, name, repo_type=of_type, revision=commit, local_dir=folder)
        checksums[name] = {"sha256": checked(folder / name, listed[name], about), "size": listed[name].size}
    remove(notes)
    return checksums


def repository_type(kind: str) -> str:
    """What the hub calls the kind of repository that a kind of part of the study comes from."""
    return "model" if kind in MODELS else "dataset"


def wanted(kind: str, listed: Collection[str], files: Path, about: str) -> Iterator[str]:
    """Names of the files that the kind reads, of those that a repository has: all that matters, and nothing beside it.

    files: the folder that they come into: an index must be there before the weights that it names are known.
    """
    names = [name for name in listed if any(matches(name, pattern) for pattern in READS[kind])]
    if kind in MODELS and not {WEIGHTS, INDEX} & set(names):
        other = "weights by other names are not read, and pickles can run code when loaded"
        raise UserError(f"{about}: neither {WEIGHTS} nor {INDEX}; {other}")
    if not names:
        raise UserError(f"{about}: no file {' or '.join(READS[kind])}, which kind {kind} reads")
    yield from names
    if kind in MODELS and WEIGHTS not in names:
        named = shards(files / INDEX)
        if not named or not named <= set(listed):
            strange = ", ".join(sorted(named - set(listed))) or "nothing"
            raise UserError(f"{about}: {INDEX} names {strange}: no safetensors file of this repository")
        yield from sorted(named)


def checked(path: Path, listed: Any, about: str) -> str:
    """SHA-256 of a file that has arrived. If it is not what the hub lists (a RepoSibling), it goes: UserError."""
    arrived = content = sha256(path)
    size, expected = path.stat().st_size, listed.lfs and listed.lfs.sha256
    if expected is None:  # a small file, known by its git object
        arrived = hashlib.sha1(b"blob %d\0" % size + path.read_bytes()).hexdigest()
        expected = listed.blob_id
    if (size, arrived) != (listed.size, expected):
        path.unlink()
        fault = f"{size} bytes with checksum {arrived} arrived, the hub lists {listed.size} with {expected}"
        raise UserError(f"{about}: {listed.rfilename}: {fault}; try again")
    return content


@contextmanager
def asking_the_hub(about: str, advice: str) -> Iterator[None]:
    """Turn what can go wrong between here and the hub into one line.

    about: how it begins. advice: what to do where the hub has what it is asked for, for all one knows.
    """
    import httpx2
    from huggingface_hub.errors import (
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        XetDownloadError,
    )

    try:
        yield
    except RevisionNotFoundError:
        raise UserError(f"{about} the hub has no such revision") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(f"{about} the hub has no such repository, or not for you (HF_TOKEN names you)") from None
    except (httpx2.TransportError, ConnectionError) as error:
        raise UserError(f"{about} the hub cannot be reached ({cause_of(error)}); {advice}") from None
    except (httpx2.HTTPError, OSError, XetDownloadError) as error:
        raise UserError(f"{about} cannot be had from the hub ({cause_of(error)}); {advice}") from None


# --- locking --------------------------------------------------------------------------------------------------


def lock_file(study_file: Path) -> Path:
    """The lock file of a study: one for all studies in a folder."""
    return study_file.with_name("hub.lock")


def read_lock(file: Path) -> dict[str, str]:
    """Id on the hub, or id@branch -> commit; nothing where there is no lock file."""
    locked = read_yaml(file) if file.exists() else {}
    for name, commit in locked.items():
        if not COMMIT.fullmatch(str(commit)):
            raise UserError(f"{file}: {name}: '{commit}' is no commit of 40 hexadecimal digits")
    return dict(locked)


def read_settings(file: Path) -> dict[str, Any]:
    """What a study file says."""
    settings = read_yaml(file)
    if not settings:
        raise UserError(f"{file}: no study, the file is empty; docs/choosing-a-study.md says what belongs into one")
    return settings


def read_study(file: Path) -> Study:
    """The study of a YAML file and its lock file; UserError, one line, where it is wrong."""
    return load_study(read_settings(file), str(file), read_lock(lock_file(file)))


def read_finished(file: Path) -> Study:
    """The study of a YAML file that has run: what it read need not be here any more."""
    return check_study(read_settings(file), str(file), read_lock(lock_file(file)))


def commit_of(repository: str, kind: str, revision: str | None) -> str:
    """The commit that a branch of a repository is at, by default the main one; to be called in asking_the_hub."""
    from huggingface_hub import HfApi

    return str(HfApi().repo_info(repository, repo_type=repository_type(kind), revision=revision).sha)


def lock(study_file: Path) -> dict[str, str]:
    """Look up the commit of all that a study reads from the hub by name or branch, and add it to its lock file.

    What the lock file has stays as it is. Returns what was added.
    """
    added: dict[str, str] = {}
    for part in origins(read_study(study_file)).values():
        if isinstance(part, Located) and part.hub is not None and not COMMIT.fullmatch(part.revision or ""):
            key = lock_key(part.hub, part.revision)
            if key not in added:
                with asking_the_hub(f"{part.hub}:", LOCKING):
                    added[key] = commit_of(part.hub, part.kind, part.revision)
                add_line(lock_file(study_file), {key: added[key]})
    return added


def add_line(file: Path, line: dict[str, str]) -> None:
    """To a lock file as it is then, with the comments that are in it."""
    with replacing(file) as temporary:
        text, locked = file.read_text(encoding="utf-8") if file.exists() else "", read_lock(file)
        whole = line | locked  # another command may have added it
        before = text.rstrip("\n") + "\n" if text.strip() not in ("", "{}") else HEADER
        added = text if whole == locked else before + yaml.safe_dump(line)
        temporary.write_text(added if holds(added, whole) else HEADER + yaml.safe_dump(whole), encoding="utf-8")


def holds(text: str, mapping: Mapping[str, str]) -> bool:
    try:
        return bool(yaml.safe_load(text) == mapping)
    except yaml.YAMLError:
        return False
