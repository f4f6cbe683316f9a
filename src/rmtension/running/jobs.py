"""What every workflow script does first: run warm where a worker waits, log to the rule's log, report mistakes; and
last: leave a record of what it did.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rmtension.base.errors import UserError
from rmtension.running.worker import OFFLINE, run_in_worker


@dataclass(frozen=True)
class Job:
    """A script under way."""

    snakemake: Any  # what Snakemake tells its scripts
    started: datetime
    grows: bool  # its output was there before it, and it keeps what still holds

    def finish(self, device: Any = "cpu") -> None:
        """Call last: leaves the record of provenance; `device`: where the script's results were computed."""
        # Heavy, and not for a script that is handed to the worker.
        from rmtension.running.provenance import write_record

        write_record(self.snakemake, self.started, self.grows, device)


def start(snakemake: Any, network: bool = False) -> Job:
    """Call before any heavy import: hands the script to the worker if there is one, and sends output to its log.

    The hub is switched off unless the script asks for `network`, which no worker has.
    """
    log = snakemake.log[0]
    if not network:
        status = run_in_worker(sys.argv[0])
        if status is not None:
            sys.exit(status)
    terminal = os.dup(2)
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # bars do not belong in a file
    os.environ |= {} if network else OFFLINE
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, UserError):
            print(f"error: {error}", file=sys.stderr)
            os.write(terminal, f"error: {error}\n".encode())
        else:
            traceback.print_exception(kind, error, trace)
            please = f"please report it with {log}, as README.md says under 'When something goes wrong'"
            said = f"error: a fault of rmtension, and no reason to delete anything; {please}"
            print(said, file=sys.stderr)
            os.write(terminal, f"{said}\n".encode())

    sys.excepthook = report
    return Job(snakemake, datetime.now(UTC), any(Path(output).exists() for output in snakemake.output))


def share_package() -> None:
    """Let scripts find this very package, in whatever environment Snakemake starts them."""
    package = Path(__file__).parents[1]
    folder = package.parent
    if folder.name == "site-packages":  # all that is installed beside it is not for another environment
        folder = Path(".snakemake/rmtension/package").absolute()
        link_to(package, folder / package.name)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def link_to(package: Path, link: Path) -> None:
    """Make a link to the package unless there is one."""
    if not (link.exists() and link.samefile(package)):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        with suppress(FileExistsError):  # another start was faster
            link.symlink_to(package)
