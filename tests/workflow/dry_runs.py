"""Dry runs, one for each line of standard input: a folder and arguments as JSON.

The answer is a line of JSON too: exit status and output. Snakemake is imported once and each dry run is a fork, as the
imports take longer than a dry run of a small study.
"""

from __future__ import annotations

import json
import os
import sys

import smart_open  # noqa: F401  Snakemake imports it late
from snakemake import cli

import rmtension.data.hub  # noqa: F401  for the libraries that come with it

cli.get_argument_parser()  # imports the plugins


def dry_run(folder: str, arguments: list[str], output: int) -> None:
    """In the forked child; never returns."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    # The modules of that folder's project, read again.
    sys.path.insert(0, f"{folder}/src")
    for module in [name for name in sys.modules if name.partition(".")[0] == "rmtension"]:
        del sys.modules[module]
    status: str | int | None = 1
    try:
        cli.main(["--dry-run", *arguments])
    except SystemExit as leave:
        status = leave.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    for line in sys.stdin:
        output, child_output = os.pipe()
        if (child := os.fork()) == 0:
            folder, arguments = json.loads(line)
            dry_run(folder, arguments, child_output)
        os.close(child_output)
        with os.fdopen(output) as stream:
            said = stream.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), said]), flush=True)
