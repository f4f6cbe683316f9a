"""The claims ledger: every claim of the paper, judged by the intervals of the study's tables (docs/claims.md).

A claim is a function from tables and study to parts, and an entry in CLAIMS, where all thresholds stand. A part is a
figure with an interval; it holds where the whole interval lies on the claimed side of the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, permutations, product
from math import isnan, nan
from typing import Any, Literal, NamedTuple

import polars as pl

from rmtension.analysis.presentation import as_markdown
from rmtension.analysis.published import UNSIGNED, has_paper_sets, is_signed, read, with_like_averages
from rmtension.study.naming import AVERAGE, OVERALL
from rmtension.study.study import Study

Tables = Mapping[str, pl.DataFrame]
Direction = Literal["above", "below"]

ADVERSARIAL = [f"LLM Bar (Adver {kind})" for kind in ("Neighbor", "GPTInst", "GPTOut", "Manual")]
AHEAD = {  # the regime that is ahead, and the one whose tasks they are
    ("helpful", "harmless"): ["Safety Response", "XStest Should Respond"],
    ("harmless", "helpful"): [*ADVERSARIAL, "Focus", "Precise IF", "Factuality"],
}
RETAINED: dict[tuple[str, Direction], list[str]] = {
    ("helpful", "above"): [f"Alpaca Eval ({kind})" for kind in ("Easy", "Length", "Hard")],
    ("harmless", "above"): ["Refusals Dangerous", "Refusals Offensive"],
    ("helpful", "below"): [*ADVERSARIAL, "Focus", "Factuality"],
}


class Interval(NamedTuple):
    """An estimate between low and high, each NaN where the study has none; then `note` says why."""

    estimate: float = nan
    low: float = nan
    high: float = nan
    n_seeds: int | None = None
    note: str = ""

    def times(self, factor: float) -> Interval:
        # A zero is added so that no zero has a sign.
        low, high = sorted([factor * self.low + 0.0, factor * self.high + 0.0])
        return self._replace(estimate=factor * self.estimate + 0.0, low=low, high=high)

    def minus(self, other: Interval) -> Interval:
        """The widest difference of two separate intervals: wider than a paired one, so it errs towards undecided."""
        estimate, low, high = self.estimate - other.estimate, self.low - other.high, self.high - other.low
        return Interval(estimate, low, high, self.n_seeds, self.note or other.note)


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


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


SAME = 1e-9  # figures have twelve decimals, thresholds such as a third have more


def verdict(found: Interval, limit: Interval, direction: str) -> str:
    """Decided where the whole interval lies on one side of the whole limit; NaN lies on neither."""
    above, below = found.low > limit.high + SAME, found.high < limit.low - SAME
    return "undecided" if not (above or below) else "holds" if above == (direction == "above") else "does not hold"


def together(verdicts: Sequence[str]) -> str:
    """All must hold: one that does not refutes, one that is undecided leaves it so; without any, nothing is known."""
    worst = [word for word in ("does not hold", "undecided") if word in verdicts]
    return worst[0] if worst else "holds" if verdicts else "undecided"


# --- looking up ----------------------------------------------------------------------------------------------


def look(tables: Tables, table: str, value: str, **keys: Any) -> Interval:
    """The figure `value` over all models, from the row of a table that has these keys."""
    frame = tables[table]
    rows = frame if frame.is_empty() else frame.filter(model=OVERALL, **keys)
    if rows.is_empty():
        absent = "task" in keys and keys["task"] not in [AVERAGE, *frame["task"]]
        return Interval(note="no such task in this study" if absent else f"no such row in {table}")
    row = rows.row(0, named=True)
    found = (row.get(name) for name in (f"{value}_mean", f"{value}_low", f"{value}_high"))
    estimate, low, high = (nan if figure is None else figure for figure in found)
    unknown = "no interval" if isnan(low) or isnan(high) else ""
    single = "one seed: chance in training is not seen" if row["n_seeds"] == 1 else ""
    return Interval(estimate, low, high, row["n_seeds"], "; ".join(filter(None, [unknown, single])))


def look_pair(tables: Tables, table: str, value: str, first: str, second: str, **keys: Any) -> Interval:
    """`look`, whichever way round a table has the two; a difference changes its sign with the order."""
    direct = look(tables, table, value, first=first, second=second, **keys)
    turned = look(tables, table, value, first=second, second=first, **keys)
    if turned.n_seeds is None:
        return direct
    return turned.times(-1 if value == "difference" else 1)


def mixed_regimes(study: Study) -> list[str]:
    return [name for name, regime in study.regimes.items() if regime.mixes]


def mixtures(study: Study) -> list[tuple[str, str]]:
    """Each mixed regime with each of its parts."""
    return [(mixed, single) for mixed in mixed_regimes(study) for single in study.regimes[mixed].mixes]


def published_figures(tables: Tables, study: Study) -> pl.DataFrame:
    """claim, part, published, sets: the paper's figures that are the same quantities here. An average is one if it is
    over the same tasks, and one about oriented neurons if they are as many, by mean activation; where by another mean
    than the published ones, `sets` says so."""
    same_tasks = with_like_averages(tables["accuracy"]).filter(pl.col("task") == AVERAGE)["orientation"].to_list()
    is_same = pl.col("average_of").is_in(same_tasks).fill_null(True) & (~pl.col("of_sets") | has_paper_sets(study))
    unsigned = pl.col("of_sets") & (not is_signed(study.ablation.scoring, study))
    sets = pl.when(unsigned).then(pl.lit(UNSIGNED))
    return read("claims").filter(is_same).select("claim", "part", "published", sets=sets)


def overlap_by_chance(tables: Tables, study: Study, parts: Sequence[str], scoring: str) -> tuple[float, float]:
    """Expected of random neurons: the Jaccard index of the sets A and B of two regimes, and |(A or B) and M| /
    |A or B or M| of a third set M, as large as A and B are on average."""
    pairs = tables["neuron_overlap"].filter(
        pl.col("first", "second").is_in(parts), model=OVERALL, scoring=scoring, selection=study.analysis.selection
    )
    either, size = pl.col("union_mean"), (pl.col("intersection_mean") + pl.col("union_mean")) / 2
    met = study.ablation.percent / 100 * either
    found = pairs.select("chance", retained=met / (either + size - met)).rows()
    return found[0] if found else (nan, nan)


# --- the claims ----------------------------------------------------------------------------------------------


def lead(tables: Tables, first: str, second: str, orientation: str, task: str) -> Part:
    found = look_pair(tables, "contrasts", "difference", first, second, orientation=orientation, task=task)
    return Part(f"{first} over {second}, {orientation}: {task}", found)


def own_orientation_wins(tables: Tables, study: Study) -> Iterator[Part]:
    return (lead(tables, own, other, own, AVERAGE) for own, other in permutations(study.single_regimes(), 2))


def mixed_falls_short(tables: Tables, study: Study) -> Iterator[Part]:
    return (lead(tables, mixed, single, single, AVERAGE) for mixed, single in mixtures(study))


def exceptions(tables: Tables, study: Study) -> Iterator[Part]:
    return (lead(tables, *regimes, regimes[1], task) for regimes, tasks in AHEAD.items() for task in tasks)


def retention_is_low(tables: Tables, study: Study) -> Iterator[Part]:
    cases = [(orientation, AVERAGE, None) for orientation in study.single_regimes()]
    named = [(orientation, task, side) for (orientation, side), tasks in RETAINED.items() for task in tasks]
    for mixed, (orientation, task, side) in product(mixed_regimes(study), [*cases, *named]):
        figure = partial(look, tables, regime=mixed, orientation=orientation, task=task)
        kept = figure(table="retention", value="retention", ablation="none")
        independent = Control("independence", figure(table="accuracy", value="accuracy").times(0.01))
        yield Part(f"{mixed}, {orientation}: {task}", kept, [independent], direction=side)


def scores_move_to_zero(tables: Tables, study: Study) -> Iterator[Part]:
    for mixed, single in mixtures(study):
        for response in ("chosen", "rejected"):
            figure = partial(look, tables, "score_shift", regime=mixed, single=single, response=response)
            spread = Control("spread", figure(value="mixed_spread").minus(figure(value="single_spread")), 0)
            yield Part(f"{mixed} against {single}, {response}", figure(value="closeness"), [spread])


def magnitude_finds_most(tables: Tables, study: Study) -> Iterator[Part]:
    swept = sorted(percent for percent in study.ablation.sweep if percent < 100)
    for benchmark, regime, percent in product(study.ablation.sweep_benchmarks, study.regimes, swept):
        contrast = partial(look_pair, tables, "scoring_contrasts", "difference")
        contrast = partial(contrast, benchmark=benchmark, regime=regime, percent=percent)
        name = f"{regime}, {benchmark}, p = {percent:g} %"
        matched = Control("matched-random", contrast("magnitude", "matched-random"), 0)
        yield Part(f"{name}: magnitude over change", contrast("magnitude", "change"), [matched])
        yield Part(f"{name}: change over random", contrast("change", "random"))


def neurons_are_late(tables: Tables, study: Study) -> Iterator[Part]:
    for regime in study.regimes:
        share = partial(look, tables, "depth", "share", regime=regime, third="late")
        # The authors' selection has no random set.
        random = Control("random", share(scoring="random", selection="exact"))
        yield Part(regime, share(scoring=study.ablation.scoring, selection=study.analysis.selection), [random])


def same_neurons_for_both(tables: Tables, study: Study) -> Iterator[Part]:
    return (Part(regime, look(tables, "rmsd", "ratio", regime=regime)) for regime in study.regimes)


def own_neurons_matter(tables: Tables, study: Study) -> Iterator[Part]:
    for regime, orientation in product(study.single_regimes(), repeat=2):
        keys = {"regime": regime, "orientation": orientation, "task": AVERAGE, "percent": study.ablation.percent}
        change = partial(look, tables, "own_ablation", "delta", **keys)
        random = [Control(scoring, change(scoring=scoring)) for scoring in ("random", "matched-random")]
        side: Direction = "below" if orientation == regime else "above"
        yield Part(f"{regime}, {orientation}: average", change(scoring=study.ablation.scoring), random, direction=side)


def ablation_compresses(tables: Tables, study: Study) -> Iterator[Part]:
    for regime in study.regimes:
        figure = partial(look, tables, "compression", regime=regime)
        random = Control("random", figure(value="ratio", scoring="random"))
        margin = Control("margin", figure(value="margin_ratio", scoring=study.ablation.scoring), 1)
        yield Part(regime, figure(value="ratio", scoring=study.ablation.scoring), [random, margin])


def neurons_overlap(tables: Tables, study: Study) -> Iterator[Part]:
    main, selection = study.ablation.scoring, study.analysis.selection
    chance = partial(overlap_by_chance, tables, study)
    shared = partial(look_pair, tables, "neuron_overlap", "jaccard", selection=selection)
    for pair in combinations(study.single_regimes(), 2):
        control = Control("change", shared(*pair, scoring="change"), chance(pair, "change")[0])
        yield Part(" and ".join(pair), shared(*pair, scoring=main), [control], chance(pair, main)[0])
    for mixed in mixed_regimes(study):
        retained = partial(look, tables, "neuron_retention", "retained", regime=mixed, selection=selection)
        parts = study.regimes[mixed].mixes
        control = Control("change", retained(scoring="change"), chance(parts, "change")[1])
        yield Part(f"retained in {mixed}", retained(scoring=main), [control], chance(parts, main)[1])


def shared_neurons_matter(tables: Tables, study: Study) -> Iterator[Part]:
    shared = "shared-authors" if study.analysis.shared == "authors" else "shared"
    for mixed, orientation in product(mixed_regimes(study), study.single_regimes()):
        keys = {"regime": mixed, "orientation": orientation, "task": AVERAGE}
        contrast = partial(look, tables, "shared_contrasts", "difference", **keys)
        sized = partial(contrast, control="size-matched")
        random = [Control(against, sized(against=against), 0) for against in ("random", "matched-random")]
        found = look(tables, "shared_ablation", "delta", ablation=shared, control="whole", **keys)
        yield Part(f"{mixed}, {orientation}: average, shared", found, random)
        for single in study.regimes[mixed].mixes:
            control = Control("size-matched", sized(against=f"{single}-only"), 0)
            found = contrast(control="whole", against=f"{single}-only")
            yield Part(f"{mixed}, {orientation}: average, shared over {single}-only", found, [control])


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
        aside = f"{control.name}: {other.note}" if other.note not in ("", found.note) else ""
        return {
            "part": part.name, "unit": self.unit, "threshold": threshold, "direction": direction,
            "estimate": found.estimate, "low": found.low, "high": found.high, "n_seeds": found.n_seeds,
            "verdict": verdict(found, exactly(threshold), direction),
            "control": control.name, "control_verdict": verdict(*beyond, direction) if control.name else "",
            "control_estimate": other.estimate, "control_low": other.low, "control_high": other.high,
            "note": "; ".join(filter(None, [found.note, aside])),
        }  # fmt: skip


# What is claimed, and all thresholds. Each claim is a conjunction of its parts.
CLAIMS: dict[str, Claim] = {
    "C1": Claim(own_orientation_wins, "Single-objective reward models win on their own orientation",
                "points", "above", 0),
    "C2": Claim(mixed_falls_short, "The mixed reward model falls short of the matching single-objective one",
                "points", "below", 0),
    "C3": Claim(exceptions, "On some tasks the other orientation's reward model leads", "points", "above", 0),
    "C4": Claim(retention_is_low, "Retention is low, but high on AlpacaEval and refusals", "fraction", "below", 0.75),
    "C5": Claim(scores_move_to_zero, "The mixed reward model's scores lie closer to zero where it keeps a decision",
                "reward", "below", 0),
    "C6": Claim(magnitude_finds_most, "Magnitude beats change beats random at finding neurons that matter, at every p",
                "points", "below", 0),
    "C7": Claim(neurons_are_late, "Oriented neurons sit in late layers", "%", "above", 100 / 3),
    "C8": Claim(same_neurons_for_both, "Chosen and rejected texts use the same neurons", "ratio", "below", 0.1),
    "C9": Claim(own_neurons_matter, "Ablating oriented neurons costs the own orientation and helps the other",
                "points", "below", 0),
    "C10": Claim(ablation_compresses, "Ablating oriented neurons compresses scores toward zero", "ratio", "below", 1),
    "C11": Claim(neurons_overlap, "Helpful and harmless neurons overlap by 48 %, mixed training retains 55 %",
                 "fraction", "above", nan),
    "C12": Claim(shared_neurons_matter, "Shared neurons matter far more to the mixed reward model than exclusive ones",
                 "points", "below", 0),
}  # fmt: skip


# --- the ledger ----------------------------------------------------------------------------------------------

TEXT, NUMBER = pl.String(), pl.Float64()
SCHEMA = {
    "claim": TEXT, "part": TEXT, "statement": TEXT, "published": NUMBER, "unit": TEXT, "estimate": NUMBER,
    "low": NUMBER, "high": NUMBER, "threshold": NUMBER, "direction": TEXT, "verdict": TEXT, "control": TEXT,
    "control_estimate": NUMBER, "control_low": NUMBER, "control_high": NUMBER, "control_verdict": TEXT,
    "n_seeds": pl.Int64(), "note": TEXT,
}  # fmt: skip


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row of a whole claim: its parts together, and what is left of them beside their controls."""
    verdicts = [row["verdict"] for row in {row["part"]: row for row in rows}.values()]
    controls = {row["control"]: row for row in rows if row["control"]}
    seeds = [row["n_seeds"] for row in rows if row["n_seeds"] is not None]
    counted = [f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts)]
    beside = [row["control_verdict"] for row in rows if row["control"]]
    return {
        "part": "", "unit": "", "direction": "", "verdict": together(verdicts), "control": ", ".join(controls),
        "control_verdict": together(beside) if beside else "", "n_seeds": min(seeds, default=None),
        "note": f"parts: {', '.join(counted) or 'none in this study'}",
    }  # fmt: skip


def ledger(tables: Tables, study: Study) -> pl.DataFrame:
    """Every claim: a row that sums it up, part "", then one for each part and control (docs/outputs.md, Claims)."""
    lines: list[dict[str, Any]] = []
    for name, claim in CLAIMS.items():
        rows = claim(tables, study)
        lines += [row | {"claim": name, "statement": claim.statement} for row in (summary(rows), *rows)]
    frame = pl.DataFrame(lines, schema=SCHEMA).drop("published").fill_nan(None)
    frame = frame.join(published_figures(tables, study), on=["claim", "part"], how="left", maintain_order="left")
    frame = frame.with_columns(pl.when(pl.col("estimate").is_not_null()).then("published").alias("published"))
    inside = pl.col("published").is_between("low", "high")
    place = pl.when(inside).then(pl.lit("inside")).when(~inside).then(pl.lit("outside"))
    notes = [pl.col("note").replace("", None), pl.format("published figure {} the interval", place),
             pl.when(pl.col("published").is_not_null()).then("sets")]  # fmt: skip
    note = pl.concat_str(notes, separator="; ", ignore_nulls=True)
    return frame.with_columns(note=note).select(*SCHEMA)


def ledger_markdown(frame: pl.DataFrame) -> str:
    """The ledger for reading: the claims, then their parts."""
    texts = frame.with_columns(pl.col(pl.Float64).round_sig_figs(3).cast(pl.String))

    def interval(stem: str) -> pl.Expr:
        ends = pl.format(" [{}, {}]", f"{stem}low", f"{stem}high").fill_null("")
        return pl.format("{}{}", f"{stem}estimate", ends).fill_null("")

    whole = texts.filter(part="").select("claim", "statement", "verdict", "control", "control_verdict", "note")
    parts = texts.filter(pl.col("part") != "").select(
        "claim", "part", published=pl.col("published").fill_null(""), ours=pl.format("{} {}", interval(""), "unit"),
        holds_if=pl.format("{} {}", "direction", pl.col("threshold").fill_null("chance")), verdict="verdict",
        control=pl.format("{} {}", "control", interval("control_")).str.strip_chars(),
        control_verdict="control_verdict", note="note",
    )  # fmt: skip
    guide = "Estimates with their intervals; what is tested, and why so, is explained in docs/claims.md."
    return f"# Claims\n\n{guide}\n\n{as_markdown(whole)}\n## Parts\n\n{as_markdown(parts)}"
