"""Which code, data and libraries a result came from."""

from __future__ import annotations

import ast
import platform
import re
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

PACKAGE = Path(__file__).parent
WITHOUT_PART = {"errors", "jobs", "progress"}  # start, log and report jobs: no result depends on them
IMPORTS = re.compile(r"^\s*(from rmtension[\w.]* import (?:\([^)]*\)|.+)|import rmtension.*)$", re.MULTILINE)
LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "polars", "numpy", "snakemake")


@cache  # every rule asks, mostly about the same files
def imported_modules(file: Path) -> set[str]:
    """Modules of this package that a Python file imports, anywhere in it."""
    names: set[str] = set()
    statements = "\n".join(IMPORTS.findall(file.read_text(encoding="utf-8")))  # a tenth of the time of all of the file
    for node in ast.parse(statements).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.removeprefix("rmtension.") for n in names if n.startswith("rmtension.")}


def module_files(script: Path) -> list[Path]:
    """Every module of this package that a script comes to import and its result depends on, itself left out."""
    found: set[Path] = set()
    pending = [script]
    while pending:
        modules = {PACKAGE / f"{name}.py" for name in imported_modules(pending.pop()) - WITHOUT_PART}
        fresh = {file for file in modules if file.exists()} - found
        found |= fresh
        pending += fresh
    return sorted(found)


def registered(module: str, registry: str) -> list[str]:
    """Keys of a dict that a module of this package defines, read without importing it and what it imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    plain = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    typed = {ast.unparse(node.target): node.value for node in tree.body if isinstance(node, ast.AnnAssign)}
    found = (plain | typed)[registry]
    assert isinstance(found, ast.Dict)
    return [ast.literal_eval(key) for key in found.keys if key is not None]


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on, and the machine's kind."""
    installed = {library.name: library.version for library in distributions() if library.name in LIBRARIES}
    versions = {name: installed[name] for name in LIBRARIES if name in installed}
    return {"python": platform.python_version(), "machine": platform.machine()} | versions
