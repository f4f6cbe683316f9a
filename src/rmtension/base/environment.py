"""Versions that results depend on."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = (
    "torch", "transformers", "accelerate", "datasets", "tokenizers", "gguf", "polars", "numpy", "scipy",
    "scikit-learn", "snakemake",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on, and the machine's kind."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # a rule's conda environment has what the rule needs
            found[name] = version(name)
    return found
