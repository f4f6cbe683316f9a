"""What `compatibility: authors` fills in where the study file is silent (docs/methods.md, section 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmtension.study.benchmarks import PUBLISHED

AUTHORS = {
    "neurons": {"magnitude": "mean"},
    "analysis": {"selection": "authors", "shared": "authors", "rm_bench": "same-style"},
    "training": {"select_on": "test"},
}
AUTHORS_BENCHMARK = {"template": "paper"}


def with_authors_choices(data: Any) -> Any:
    """The content of a study file with them. What is malformed is left as it is, for the fields to refuse."""
    if not isinstance(data, Mapping) or data.get("compatibility") != "authors":
        return data
    filled = {key: with_defaults(data.get(key, {}), switches) for key, switches in AUTHORS.items()}
    benchmarks = data.get("benchmarks")
    if isinstance(benchmarks, Mapping):
        filled["benchmarks"] = {
            name: with_defaults(b, AUTHORS_BENCHMARK) if is_published(b) else b for name, b in benchmarks.items()
        }
    return {**data, **filled}


def with_defaults(section: Any, values: Mapping[str, Any]) -> Any:
    return {**values, **section} if isinstance(section, Mapping) else section


def is_published(benchmark: Any) -> bool:
    return isinstance(benchmark, Mapping) and benchmark.get("kind") in list(PUBLISHED)  # which may be anything
