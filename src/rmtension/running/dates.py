"""Dates of files: one in the future is found before the first job, and not by Snakemake after each that reads it."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from rmtension.base.errors import UserError
from rmtension.base.files import writing

SKEW = 60  # seconds that the clocks of two disks may differ by: that long is waited for


def refuse_future(files: Iterable[Path], results: Path, compared: int) -> None:
    """UserError, one line, where one of the files that jobs read is dated later than what they will write in `results`.

    Snakemake discards what a job has made of such a file, as the output seems older than it. It takes a link by the
    link's own date, and by its file's too if that has more than `compared` bytes: such a job would run at every start.
    """
    read = set(files)
    read |= {file.resolve() for file in read if file.is_symlink() and file.stat().st_size > compared}
    now = date_of_new(results)
    ahead = {file: seconds for file in sorted(read) if (seconds := file.lstat().st_mtime - now) > 0}
    future = [file for file, seconds in ahead.items() if seconds > SKEW]
    if future:
        date = datetime.fromtimestamp(future[0].lstat().st_mtime).isoformat(" ", "minutes")
        touch = ["touch", *(["-h"] if any(file.is_symlink() for file in future) else []), *map(str, future)]
        fault = f"dated {date}, in the future: Snakemake would discard what is made of it"
        raise UserError(f"{future[0]}: {fault}; `{shlex.join(touch)}` and start again")
    if ahead:
        time.sleep(max(ahead.values()))


def date_of_new(folder: Path) -> float:
    """The date of a file that is written to a folder now: by its disk's clock, which need not be this machine's."""
    with writing(folder / "report.html"), tempfile.TemporaryFile(dir=folder) as file:  # by no name
        return os.fstat(file.fileno()).st_mtime
