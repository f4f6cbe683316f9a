"""The command that makes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bundle(
    study: Annotated[Path, typer.Argument(help="A study file below the project's folder.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    python: Annotated[str, typer.Option(help="The target's version of Python, such as 3.12.")],
    platform: Annotated[str, typer.Option(help="The target's platform.")] = "x86_64-manylinux_2_28",
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A package that the target has; * as in file names.")
    ] = None,
) -> None:
    """Write a folder with all that a study takes on a machine without a network; `make bundle` calls this.

    Example:

    \b
    rmtension bundle studies/mine.yaml bundles/mine --python 3.12 --without torch --without 'nvidia-*'
    """
    from rmtension.data.hub import read_study
    from rmtension.running.bundle import Target, make_bundle

    make_bundle(study, read_study(study), folder, Target(python, platform, without or []))
    print(f"{folder}: copy it to the target; there, in it: sh bundle/install && make run")
