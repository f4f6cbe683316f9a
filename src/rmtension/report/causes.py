"""What is said in words of why a mixed reward model is worse than its parts."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from rmtension.report.repairs import points
from rmtension.study.naming import OVERALL
from rmtension.study.study import Study

PLACE = ["regime", "donor", "tasks"]
OF_SHARED = ["P1", "G1", "R2"]  # claims about what shared neurons have to do with it
ANSWERS = {  # by the verdict on P1
    "holds": "Its shared neurons are part of why, more than others as loud",
    "does not hold": "By what patching tells, its shared neurons are not everywhere why, more than others as loud",
    "undecided": "Whether its shared neurons are everywhere why, more than others as loud, cannot be told",
}


def less_trained(study: Study, mixed: str) -> Iterator[str]:
    """Where a mixed regime goes over its pairs less often than a part of it over the same ones."""
    epochs = {name: regime.epochs for name, regime in study.regimes.items()}
    more = [f"{part} for {epochs[part]}" for part in study.regimes[mixed].mixes if epochs[part] > epochs[mixed]]
    if more:
        beside = f"{epochs[mixed]}; {' and '.join(more)}"
        yield f"{mixed} was trained for fewer epochs ({beside}): some of its shortfall may be want of training."


def why_worse(study: Study, patching: pl.DataFrame, claims: pl.DataFrame) -> Iterator[str]:
    """Where the mixed reward models surely fall short of a part, and what that part's activations change there: at
    shared neurons, and at as many matched ones; whether they were trained for fewer epochs; then what the claims about
    shared neurons come to."""
    deltas = [f"delta_{end}" for end in ("mean", "low", "high")]
    shared = patching.filter(model=OVERALL, set="shared").drop_nulls(["gap_mean", "gap_low"])
    as_many = shared.filter(control="matched-random").select(*PLACE, pl.col(deltas).name.prefix("matched_"))
    both = shared.filter(control="size-matched").join(as_many, on=PLACE, how="left", maintain_order="left")
    short = both.filter(pl.col("gap_low") > 0).to_dicts()
    for row in short:
        yield f"On the {row['tasks']} of {row['donor']}, {row['regime']} falls short of it by {points(row, 'gap')}."
        if None not in (row["delta_mean"], row["matched_delta_mean"]):
            yield (f"With its activations at shared neurons accuracy changes by {points(row, 'delta')}, at as many "
                   f"matched ones by {points(row, 'matched_delta')}.")  # fmt: skip
    for mixed in dict.fromkeys(row["regime"] for row in short):
        yield from less_trained(study, mixed)
    verdicts = {claim: verdict for claim, verdict in claims.filter(part="").select("claim", "verdict").rows()
                if claim in OF_SHARED}  # fmt: skip
    if short and "P1" in verdicts:
        said = [f"{claim} {'is undecided' if word == 'undecided' else word}" for claim, word in verdicts.items()]
        yield f"{ANSWERS[verdicts['P1']]}: {', '.join(said)}."
    elif len(both) and not short:
        yield "Where it was patched, it does not surely fall short of a part: there is nothing to explain."
