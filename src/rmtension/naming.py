"""Names of ablations, as they stand in every table."""

from __future__ import annotations

from collections.abc import Sequence


def ablation_name(scoring: str, percent: float) -> str:
    """Name of the set of the top `percent` by `scoring`; the whole network is one set whatever the scoring."""
    return "all" if percent == 100 else f"{scoring}-p{percent:g}"


def tension_names(singles: Sequence[str]) -> list[str]:
    """Sets ablated in a mixed reward model: oriented neurons of both its parts, of the first only, the second only."""
    return ["shared", *(f"{regime}-only" for regime in singles)] if singles else []
