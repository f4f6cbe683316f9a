"""Files are read whole or named in one line; outputs appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import polars as pl
import yaml

from rmtension.base.errors import UserError

logger = logging.getLogger(__name__)

INSTALLED = Path(__file__).parents[1] / "resources"  # where the package is installed without its project
RESOURCES = INSTALLED if INSTALLED.exists() else Path(__file__).parents[3] / "resources"  # what comes with the project
CHECKSUMS = "checksums.json"
UNWRITABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EIO, errno.ENXIO,
}  # fmt: skip
IMPOSSIBLE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}  # of the path itself
FULL = 2**16  # bytes that are free on a disk that counts as full


def existing(path: Path) -> Path:
    """The path itself; UserError where an earlier stage has not made it."""
    if not path.exists():
        raise UserError(f"{path}: no such file; run the stage that makes it first")
    return path


def from_here(place: Path) -> Path:
    """A path from the root, by the links that it is named by: the shell may have come to its folder through some."""
    shell = os.environ.get("PWD", "")
    with suppress(OSError):
        if os.path.isabs(shell) and os.path.samefile(shell, os.curdir):
            return Path(os.path.normpath(Path(shell, place)))
    return Path(os.path.abspath(place))


# --- reading --------------------------------------------------------------------------------------------------

ANEW = ": delete it and start again"
Columns = Mapping[str, pl.DataType]
ANY: Columns = {}


UNREADABLE = (OSError, EOFError, ValueError, RecursionError, zlib.error, yaml.YAMLError, pl.exceptions.PolarsError)


def cause_of(error: BaseException) -> str:
    """What a library says is wrong, on one line."""
    match error:
        case OSError(strerror=str(words)):
            return words
        case yaml.MarkedYAMLError(problem_mark=yaml.Mark(line=line)):
            return f"line {line + 1}: {error.problem}"
        case KeyError(args=(name,)) if " " not in str(name):
            return f"'{name}' is missing or not known"
    said: list[str] = []
    for words in str(error).splitlines():
        said += words.split()
        if said and not said[-1].endswith(":"):  # what is announced comes on the next line
            break
    return " ".join(said) or type(error).__name__


@contextmanager
def reading(place: Path | str, advice: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while `place` is read into one line that names it."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(f"{place}: cannot be read ({cause_of(error)}){advice}") from error


@contextmanager
def made_here(place: Path | str) -> Iterator[None]:
    """What an earlier stage left at `place` is used: UserError where it holds something else than it should."""
    try:
        yield
    except (KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{place}: not as this version of the project makes it ({cause_of(error)}){ANEW}") from error


POINTER = b"version https://git-lfs.github.com/spec/"


@contextmanager
def fetched(file: Path) -> Iterator[BufferedReader]:
    """The file, opened once as it may be a pipe; UserError where git-lfs has only put lines there that stand for it."""
    with file.open("rb") as content:
        if content.peek(len(POINTER)).startswith(POINTER):
            raise UserError(f"{file}: a git-lfs pointer, not the file itself; run `git lfs pull` in its folder")
        yield content


def refuse_pointer(file: Path) -> None:
    with reading(file), fetched(file):
        pass


def require_columns(place: Path, found: Columns, columns: Columns, advice: str) -> None:
    """UserError where one of `columns` is missing or of another type."""
    for name, kind in columns.items():
        if name not in found or not alike(found[name], kind):
            fault = f"is {found[name]}, not {kind}" if name in found else f"is missing; found {', '.join(found)}"
            raise UserError(f"{place}: column '{name}' {fault}{advice}")


def scan_table(path: Path, columns: Columns) -> pl.LazyFrame:
    """A parquet file that an earlier stage made; UserError where it is damaged or has not these columns."""
    with reading(existing(path), ANEW):
        frame = pl.scan_parquet(path, glob=False)
        found = frame.collect_schema()
    require_columns(path, found, columns, f"; made by another version of the project?{ANEW[1:]}")
    if columns and frame.head(1).collect().is_empty():
        raise UserError(f"{path}: no rows{ANEW}")
    return frame


def alike(one: pl.DataType, other: pl.DataType) -> bool:
    """The same type, whatever the size of its numbers."""
    return one == other or (one.is_integer() and other.is_integer()) or (one.is_float() and other.is_float())


def read_table(path: Path | str, columns: Columns = ANY) -> pl.DataFrame:
    """scan_table, collected."""
    frame = scan_table(Path(path), columns)
    with reading(path, ANEW):
        return frame.collect()


def read_tables(paths: Iterable[str]) -> dict[str, pl.DataFrame]:
    """Parquet files by their names."""
    return {Path(path).stem: read_table(path) for path in paths}


def read_json(path: Path) -> Any:
    with reading(existing(path)):
        return json.loads(path.read_text(encoding="utf-8"))


class OnceEachKey(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error; otherwise the last would silently count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in keys and key_node.tag != "tag:yaml.org,2002:merge":
                raise ValueError(f"line {key_node.start_mark.line + 1}: key '{key}' is given twice")
            keys.append(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; UserError where it holds anything else."""
    with reading(path):
        content = yaml.load(path.read_text(encoding="utf-8"), OnceEachKey) or {}  # a safe loader
    if not isinstance(content, dict):
        raise UserError(f"{path}: no keys with values, but {type(content).__name__}")
    return content


# --- writing --------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place when the block succeeds.

    Another process that replaces the same path waits. Raises UserError where the disk is full or may not be written,
    and where a file would take the place of a folder.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with sole_writer(path):
        try:
            yield temporary
            if path.is_dir() and not temporary.is_dir():
                raise UserError(f"{path}: a folder; name a file to write")
            if temporary.is_dir() and path.is_symlink():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            remove(temporary)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` left beside it when they were killed."""
    if path.parent.exists():
        with sole_writer(path):
            pass


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Within the context no other process replaces `path`, and what killed ones left beside it is gone.

    UserError where the disk is full or may not be written.
    """
    with writing(path), locked(path.with_name(f".{path.name}.partial.lock")) as is_locked:
        if is_locked:
            for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.partial"):
                remove(leftover)
        yield


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the context the folder of `path` is there; UserError where it cannot be, or the disk is full."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except Exception as error:
        if fault := what_is_denied(path, error):
            raise UserError(f"{fault}; mend that and start again") from error
        raise


@contextmanager
def locked(file: Path) -> Iterator[bool]:
    """Within the context no other process has the file locked; False where the file system has no locks.

    The kernel knows who lives, in whatever container, and where the file system passes it on, on whatever machine.
    """
    while True:
        with file.open("a") as content:
            is_locked = lock(content)
            if is_locked and not is_at(content, file):
                continue  # the one waited for has removed it
            try:
                yield is_locked
            finally:
                file.unlink(missing_ok=True)
            return


def lock(content: IO[str]) -> bool:
    """Lock an open file, waiting for its holder if need be; whether the file system has locks."""
    try:
        fcntl.flock(content, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.warning("waiting for another process that holds %s", content.name)
        fcntl.flock(content, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def is_at(content: IO[str], file: Path) -> bool:
    """Whether an open file is what now stands at a path."""
    try:
        return os.path.samestat(os.fstat(content.fileno()), file.stat())
    except FileNotFoundError:
        return False


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def what_is_denied(path: Path, error: Exception) -> str | None:
    """What the system has against writing `path`, or against another file that was wanted for it.

    Libraries raise errors of their own where a disk is full.
    """
    unwritable = f"{path}: cannot be written"
    if isinstance(error, OSError) and error.errno in UNWRITABLE | IMPOSSIBLE:
        # Where a file is copied, they are that and its copy.
        named = [Path(str(name)) for name in (error.filename, error.filename2) if name is not None]
        if not named or any(is_of(path, file) for file in named):
            return f"{unwritable}: {os.strerror(error.errno)}"
        if error.errno in UNWRITABLE:
            return f"{named[0]}: {os.strerror(error.errno)}"
    place = next(folder for folder in path.parents if folder.exists())
    return f"{unwritable}: {os.strerror(errno.ENOSPC)}" if shutil.disk_usage(place).free < FULL else None


def is_of(path: Path, file: Path) -> bool:
    """Whether a file is a path, lies beside or below it or what stands for it meanwhile, or is a folder above it."""
    place, found = Path(os.path.abspath(path)), Path(os.path.abspath(file))
    if found in place.parents or place.parent not in found.parents:
        return found in place.parents
    beside, *below = found.relative_to(place.parent).parts
    return not below or beside == place.name or beside.startswith(f".{place.name}.")


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        frame.write_parquet(temporary)


def write_text(text: str, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fingerprint(*parts: str | bytes | Path) -> str:
    """SHA-256 over the parts in order; a Path stands for the content of that file."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            content = bytes.fromhex(sha256(part))
        else:
            content = hashlib.sha256(part.encode() if isinstance(part, str) else part).digest()
        digest.update(content)
    return digest.hexdigest()


def link_files(files: Iterable[Path], folder: Path) -> None:
    """Make the folder, of links to these files, whichever links they may be themselves.

    Within the working folder links are relative, so that it may be moved as a whole.
    """
    folder.mkdir(parents=True)
    place, project = folder.resolve(), Path.cwd().resolve()
    for file in files:
        target = file.resolve()
        is_inside = place.is_relative_to(project) and target.is_relative_to(project)
        (folder / file.name).symlink_to(os.path.relpath(target, place) if is_inside else target)


def is_there(file: Path) -> bool:
    """Whether there is such a file; UserError where there is but a link to nothing, or what it says went unseen."""
    if file.is_symlink() and not file.exists():
        raise UserError(f"{file}: a link to {file.readlink()}, which is not there; put that back, or link it anew")
    return file.is_file()


def write_checksums(folder: Path) -> None:
    """Write a model's checksums.json, file -> SHA-256: it stands for the folder, and changes with its content alone."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != CHECKSUMS]
    write_text(json.dumps({file.name: sha256(file) for file in files}, indent=1) + "\n", folder / CHECKSUMS)


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
