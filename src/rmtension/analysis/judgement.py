"""What a claim is, and how it is judged.

A part of a claim is a figure with an interval; it holds where the whole interval lies on the claimed side of the
threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from rmtension.analysis.evidence import Interval, Tables, exactly
from rmtension.study.study import Study

Direction = Literal["above", "below"]


class Control(NamedTuple):
    """Another explanation of a figure. With a threshold, the same test where that explanation is ruled out; without
    one, a rival: the claim's own interval must lie wholly beyond this one."""

    name: str
    found: Interval
    threshold: float | None = None


class Part(NamedTuple):
    """One figure of a claim, and what else could explain it; threshold and direction are the claim's unless given."""

    name: str
    found: Interval
    controls: Sequence[Control] = ()
    threshold: float | None = None
    direction: Direction | None = None


SAME = 1e-9  # figures have twelve decimals, thresholds such as a third have more


def verdict(found: Interval, limit: Interval, direction: str) -> str:
    """Decided where the whole interval lies on one side of the whole limit; NaN lies on neither."""
    above, below = found.low > limit.high + SAME, found.high < limit.low - SAME
    return "undecided" if not (above or below) else "holds" if above == (direction == "above") else "does not hold"


def together(verdicts: Sequence[str]) -> str:
    """All must hold: one that does not refutes, one that is undecided leaves it so; without any, nothing is known."""
    worst = [word for word in ("does not hold", "undecided") if word in verdicts]
    return worst[0] if worst else "holds" if verdicts else "undecided"


class Claim(NamedTuple):
    """Statement, unit, and the test set beforehand, for parts without their own: docs/claims.md gives the reasons."""

    parts: Callable[[Tables, Study], Iterable[Part]]
    statement: str
    unit: str
    direction: Direction
    threshold: float  # NaN: every part has its own

    def __call__(self, tables: Tables, study: Study) -> list[dict[str, Any]]:
        """Rows of the ledger: one for each part and each of its controls."""
        parts, alone = self.parts(tables, study), [Control("", Interval())]
        return [self.judged(part, control) for part in parts for control in (part.controls or alone)]

    def judged(self, part: Part, control: Control) -> dict[str, Any]:
        found, other, direction = part.found, control.found, part.direction or self.direction
        threshold = self.threshold if part.threshold is None else part.threshold
        beyond = (found, other) if control.threshold is None else (other, exactly(control.threshold))
        aside = "" if other.note in found.note else f"{control.name}: {other.note}"
        return {
            "part": part.name, "unit": self.unit, "threshold": threshold, "direction": direction,
            "estimate": found.estimate, "low": found.low, "high": found.high, "n_seeds": found.n_seeds,
            "verdict": verdict(found, exactly(threshold), direction),
            "control": control.name, "control_verdict": verdict(*beyond, direction) if control.name else "",
            "control_estimate": other.estimate, "control_low": other.low, "control_high": other.high,
            "note": "; ".join(filter(None, [found.note, aside])),
        }  # fmt: skip
