"""A folder with all that a study takes on a machine without a network: wheels, code, data and models."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from rmtension.base.errors import UserError
from rmtension.base.files import replacing
from rmtension.data.hub import lock_file
from rmtension.study.inputs import model_files
from rmtension.study.places import adopted, fetched, origins
from rmtension.study.section import Located
from rmtension.study.study import Study

UV = Path(".uv/bin/uv")
PLATFORM = re.compile(r"(\w+)-manylinux_2_(\d+)")
INSTALL = Path("envs/install_bundle.sh")


class Target(NamedTuple):
    """The machine that a bundle is for: its Python, such as 3.12, its platform, and packages that it has, with `*`."""

    python: str
    platform: str
    has: Sequence[str]


def make_bundle(study_file: Path, study: Study, folder: Path, target: Target) -> None:
    """Write the bundle of a study; the working folder is the project's. UserError where something is missing, or lies
    where it cannot lie in the bundle."""
    if not (INSTALL.is_file() and UV.is_file()):
        raise UserError("a bundle is made in the project's own folder, after `make setup`")
    if folder.exists():
        raise UserError(f"{folder}: is there already; delete it or name another folder")
    if re.search(r"[\s$#]", str(study_file)):
        raise UserError(f"{study_file}: make takes no blank, $ or # in a name; give the file another one")
    if not re.fullmatch(r"3\.\d+", target.python):
        raise UserError(f"Python '{target.python}': give the version of the target, such as 3.12")
    if not PLATFORM.fullmatch(target.platform):
        raise UserError(f"platform '{target.platform}': not of the form x86_64-manylinux_2_28")
    locks = [file for file in (lock_file(study_file),) if file.is_file()]  # git may not list it, as where it is ignored
    files = [study_file, *locks, *project_files(), *read_files(study)]
    for file in files:
        if file.is_absolute() or ".." in file.parts:
            raise UserError(f"{file}: is not below the project's folder; name it, or link it, there")
        if not file.is_file():
            raise UserError(f"{file}: no such file; `snakemake --until fetch` brings what comes from the hub")
    with replacing(folder) as temporary:
        for file in files:
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, temporary / file)
        made = temporary / "bundle"
        made.mkdir()
        shutil.copy2(INSTALL, made / "install")
        (made / "study.mk").write_text(f"STUDY ?= {study_file}\n")
        write_wheels(made, target)


def project_files() -> list[Path]:
    """The project's own files, as they lie here."""
    listing = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    return [file for file in map(Path, listing.split("\0")[:-1]) if file.is_file()]


def read_files(study: Study) -> list[Path]:
    """The files of data and models that a study reads, those of the hub in its cache."""
    files: list[Path] = []
    for key, part in origins(study).items():
        found = part.cached(study.hub_cache).files(study.data_root)
        if isinstance(part, Located) and not found:
            raise UserError(f"{key}: nothing that a study reads is at {part.path or part.hub}")
        files += found
    for (model, regime, seed), folder in adopted(study).items():
        if not (found := model_files(folder)):
            raise UserError(f"models.{model}.trained.{regime}.{seed}: nothing that a study reads is at {folder}")
        files += found
    return [*files, *fetched(study).values()]


def write_wheels(made: Path, target: Target) -> None:
    """The wheels that the target has not, what they are, and what the target must be."""
    build = tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"]
    tools = [f"uv=={run([UV, '--version']).split()[1]}", *build, "editables"]
    of_target = ["--python-version", target.python, "--python-platform", target.platform]
    plain = ["--quiet", "--no-header", "--no-annotate", *of_target]
    # To run and to be tested there; not what checks code, nor a browser.
    runs = ["--extra", "test", "--constraints", "requirements.lock", "pyproject.toml"]
    every, needed = (
        run([UV, "pip", "compile", *plain, *sources, "-"], "\n".join(tools)).splitlines() for sources in (runs, [])
    )
    building = {name_of(line) for line in needed}
    left_out = [line for line in every if name_of(line) not in building and is_any_of(name_of(line), target.has)]
    requirements = made / "requirements.txt"
    requirements.write_text("".join(f"{line}\n" for line in every if line not in left_out))
    download(requirements, made / "wheels", target)
    names = [name_of(line) for line in left_out if name_of(line) in target.has]
    said = {"VERSION": target.python, "WITHOUT": " ".join(target.has), "LEFT_OUT": " ".join(names)}
    (made / "target.sh").write_text("".join(f"{key}={shlex.quote(value)}\n" for key, value in said.items()))


def download(requirements: Path, wheels: Path, target: Target) -> None:
    """A wheel of each; one is made here of what is published as source alone, if it fits every machine."""
    found = PLATFORM.fullmatch(target.platform)
    assert found is not None
    machine, newest = found[1], int(found[2])
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
    platforms += [f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    of_target = [word for platform in platforms for word in ("--platform", platform)]
    pip: list[str | Path] = [UV, "tool", "run", "--quiet", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "download", "--no-deps", "--python-version", target.python, *of_target,
         "--dest", wheels, "--requirement", requirements])  # fmt: skip
    for source in sorted(file for file in wheels.iterdir() if file.suffix != ".whl"):
        run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, source])
        source.unlink()
        name = source.name.partition(".tar")[0].rpartition("-")[0].replace("-", "_").lower()
        if not any(file.name.lower().startswith(f"{name}-") for file in wheels.glob("*-none-any.whl")):
            raise UserError(f"{source.name}: has no wheel for {target.platform}; leave it out if the target has it")


def name_of(requirement: str) -> str:
    return requirement.partition("==")[0].strip()


def is_any_of(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def run(command: Sequence[str | Path], given: str = "") -> str:
    """What a command prints; UserError with the last line of what it says where it fails."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror})") from None
    if done.returncode:
        said = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise UserError(f"{Path(command[0]).name} {' '.join(map(str, command[1:3]))} failed: {said}")
    return done.stdout
