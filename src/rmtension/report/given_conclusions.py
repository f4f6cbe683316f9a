"""What the report of given reward models says at its head: a few sentences a subject, each with its numbers.

Where an interval does not decide, the sentence says so. With several reward models, each is named before what is its.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl

from rmtension.report.conclusions import Tables, counted, listed, on_others, pairs_of, unmeasured, verdicts
from rmtension.report.glance import PAIR, interval, judged_in, on_one_kind, side
from rmtension.study.measured import own_tests
from rmtension.study.naming import AVERAGE, OWN_TASKS, OWN_TEST
from rmtension.study.study import Study


def given_conclusions(study: Study, tables: Tables, claims: pl.DataFrame) -> dict[str, str]:
    """Subject -> what is said of it; tables: those of the study by name, claims: the ledger."""
    said = {
        "Looked at.": basis(study, tables),
        "What does it get right?": right(study, tables),
        "Side by side.": side_by_side(tables),
        **each(study, tables, "Is it length?", length),
        **each(study, tables, "Where do helpful and harmless pull?", tension),
        **each(study, tables, "Do their gradients conflict?", conflict),
        **each(study, tables, "Which neurons?", neurons),
        **each(study, tables, "Can its probabilities be believed?", calibration),
        "Claims.": verdicts(with_parts(claims)),
        "Beyond this study.": limits(study),
    }
    texts = {subject: " ".join(sentences) for subject, sentences in said.items()}
    return {subject: text for subject, text in texts.items() if text}


def with_parts(claims: pl.DataFrame) -> pl.DataFrame:
    """The ledger's claims that have something to do with given reward models."""
    return claims.filter(pl.col("claim").is_in(claims.filter(pl.col("part") != "")["claim"].implode()))


def each(
    study: Study, tables: Tables, question: str, say: Callable[[Study, Tables], Iterator[str]]
) -> dict[str, Iterator[str]]:
    """What is said of each reward model by itself, from tables that have its rows alone; with several, under its
    name; nothing of those to which all is a tie."""
    said, same = {}, flat(tables)
    for model in study.models:
        if model in same:
            continue
        alone = {name: of.filter(model=model) if "model" in of.columns else of for name, of in tables.items()}
        said[f"{question} {model}:" if len(study.models) > 1 else question] = say(study, alone)
    return said


def basis(study: Study, tables: Tables) -> Iterator[str]:
    names, tests = listed(list(study.models)), tables["data_card"].filter(split="test")
    of_tests = tests.filter(pl.col("regime").is_in(study.single_regimes())).group_by("regime", maintain_order=True)
    places = [f"{n:,} {regime} test pairs" for regime, n in of_tests.agg(pl.col("pairs").sum()).rows()]
    tasks = (
        tables["accuracy"].filter(pl.col("task") != AVERAGE).select("orientation", "task").unique(maintain_order=True)
    )
    places = places if own_tests(study) else []
    places += [counted(n, f"{o} task") for o, n in tasks.group_by("orientation", maintain_order=True).len().rows()]
    judges = listed(places) or "tasks that are neither objective's"
    yield f"This study looks into {counted(len(study.models), 'given reward model')}, {names}, on {judges}."
    kinds = listed(study.single_regimes())
    yield f"Neurons are ranked on {kinds} pairs apart; sets are the top {study.ablation.percent:g} % by {main(study)}."
    yield f"What is said to be surely so is so of the whole {100 * study.analysis.confidence:g} % interval."


KINDS = {OWN_TEST: "test pairs", OWN_TASKS: "tasks"}


def main(study: Study) -> str:
    return study.ablation.scoring


# --- what it does -------------------------------------------------------------------------------------------------


def flat(tables: Tables) -> set[str]:
    """The reward models to which every comparison is a tie: no confidence is less than the half of a tie, so that a
    mean of one half is of ties alone."""
    known = tables["reliability"].filter(ablation="none").drop_nulls("confidence_mean")
    most = known.group_by("model").agg(pl.col("confidence_mean").max()).rows()
    return {model for model, confidence in most if confidence == 0.5}


def on_ties(models: Sequence[str], *, is_one: bool) -> Iterator[str]:
    """models: those to which all is a tie; is_one: whether the study has no other."""
    if models:
        give, them = ("give", "them") if len(models) > 1 else ("gives", "it")
        yield (f"{'It' if is_one else listed(models)} {give} all texts of a comparison the same reward, whichever it "
               f"is: all are ties, which count as wrong, and nothing on this page says more of {them}.")  # fmt: skip


def right(study: Study, tables: Tables) -> Iterator[str]:
    """Where accuracy is surely above the best rule without a model, and where below chance; of reward models to which
    all is a tie, only that."""
    same = flat(tables)
    yield from on_ties([model for model in study.models if model in same], is_one=len(study.models) == 1)
    places = list(judged_in(tables))
    is_one = len({model for place in places for model in place.models}) == 1
    of = [(place.where if is_one else f"{model} on {place.where}", row, place)
          for place in places for model, row in place.models.items() if model not in same]  # fmt: skip
    above = [name for name, row, place in of if row["same"] and side(row, "accuracy", place.best) > 0]
    apart = [name for name, row, _ in of if not row["same"]]
    below = [name for name, row, place in of if side(row, "accuracy", place.chance) < 0]
    if of:
        yield f"Surely more than the best rule without a model: {listed(above) or 'nowhere'}."
        yield from on_others(apart)
        yield f"Surely less than chance: {listed(below) or 'nowhere'}."


TASTES = {1: "longer responses get the higher reward", -1: "shorter responses get the higher reward",
          0: "there is no sure taste for length"}  # fmt: skip


def length(study: Study, tables: Tables) -> Iterator[str]:
    """A taste for length on own tests, and what is right on tasks where length decides nothing."""
    tests = tables["length_correlation"].filter(pl.col("benchmark").is_in(own_tests(study)))
    rows = tests.drop_nulls("correlation_mean").rows(named=True)
    for way, words in TASTES.items():
        of = [f"{row['task']} {interval(row, 'correlation', 2)}" for row in rows if side(row, "correlation") == way]
        if of:
            yield f"Among test pairs, {words} (rank correlation: {listed(of)})."
    sure = {1: "surely above 50", -1: "surely below 50", 0: "not surely off 50"}
    averages = tables["length"].filter(task=AVERAGE, ablation="none").drop_nulls("balanced_mean").rows(named=True)
    of = [f"{interval(row, 'balanced')} % of {row['orientation']} tasks ({sure[side(row, 'balanced', PAIR)]})"
          for row in averages]  # fmt: skip
    if of:
        yield f"Where length decides nothing (balanced accuracy), it is right on {listed(of)}."


UNSURE = "neither surely too sure nor surely not sure enough"


def calibration(_study: Study, tables: Tables) -> Iterator[str]:
    """Whether it is too sure, by the temperature that fits each regime's held-out pairs, one for all benchmarks."""
    said: dict[str, list[str]] = {}
    rows = tables["calibration"].filter(ablation="none").unique("regime", maintain_order=True)
    for row in rows.rows(named=True):
        where = pairs_of(row["regime"])
        if row["temperature_mean"] is None:
            words = "without a temperature, as none fits its scores,"
        else:
            words = {1: "too sure", -1: "not sure enough", 0: UNSURE}[side(row, "temperature", 1)]
            where += f" ({interval(row, 'temperature')})"
        said.setdefault(words, []).append(where)
    if said:
        found = "; ".join(f"{words} on {listed(of)}" for words, of in said.items())
        yield f"By its temperature on held-out pairs (above 1: too sure) it is {found}."


def side_by_side(tables: Tables) -> Iterator[str]:
    """Of each two models, where one is surely better on the same comparisons: on own tests, and over tasks. Of more
    than two models, what is not sure is counted alone."""
    tests = tables["benchmarks_card"].filter(kind="regime-test")["task"].implode()
    table = tables["model_contrasts"].filter(pl.col("task").is_in(tests) | (pl.col("task") == AVERAGE))
    table = table.filter(~pl.any_horizontal(pl.col("first", "second").is_in(flat(tables))))
    pairs = table.drop_nulls("difference_mean").partition_by("first", "second", as_dict=True, maintain_order=True)
    alike = 0
    for (first, second), of in pairs.items():
        said: dict[bool, list[str]] = {True: [], False: []}
        for row in of.rows(named=True):
            where = f"{row['orientation']} tasks" if row["task"] == AVERAGE else f"test pairs of {row['task']}"
            said[side(row, "difference") != 0].append(f"{interval(row, 'difference', sign='+')} on {where}")
        if len(pairs) > 1 and not said[True]:
            alike += 1
            continue
        sure = f"surely {listed(said[True])}" if said[True] else "no sure difference"
        rest = f"; not surely different: {listed(said[False])}" if said[False] and len(pairs) == 1 else ""
        yield f"{first} minus {second}, points of accuracy on the same comparisons: {sure}{rest}."
    if alike:
        yield f"Without a sure difference anywhere: {alike} of {len(pairs)} pairs of reward models."


# --- where in it that comes from ----------------------------------------------------------------------------------


def tension(study: Study, tables: Tables) -> Iterator[str]:
    """What the sets of each mixture do for its objectives, and beside matched neurons."""
    for regime in study.mixed_regimes():
        table = tables["tension"].filter(regime=regime)
        whole = table.filter(pl.col("set") != "shared-authors", control="whole").drop_nulls("delta_mean")
        if len(whole):
            yield from pulling(whole)
            beyond = on_one_kind(table).filter(control="size-matched").drop_nulls("difference_mean").rows(named=True)
            sure = [f"{row['set']} for {row['orientation']} ({interval(row, 'difference', sign='+')} points)"
                    for row in beyond if side(row, "difference") < 0]  # fmt: skip
            yield f"Missed more than random neurons, as many, as deep and as loud: {listed(sure) or 'none surely'}."
        yield from overlap(study, tables, regime)


def overlap(study: Study, tables: Tables, regime: str) -> Iterator[str]:
    """How far the top neurons of a mixture's two parts are the same."""
    mixes, tied = study.regimes[regime].mixes, unranked(tables)
    if where := [one for one in mixes if one in tied]:
        yield (f"What top neurons have in common says nothing: on {listed(where)} pairs the first by {main(study)} all "
               "score 0.")  # fmt: skip
        return
    both = pl.col("first").is_in(mixes) & pl.col("second").is_in(mixes)
    found = tables["neuron_overlap"].filter(both, scoring=main(study), selection=study.analysis.selection)
    for row in found.rows(named=True):
        than = "more" if row["jaccard_mean"] > row["chance"] else "no more"
        yield (f"The top neurons of {listed(mixes)} pairs have {than} in common than random ones: Jaccard "
               f"{interval(row, 'jaccard', 2)}, chance {row['chance']:.2f}.")  # fmt: skip


def unranked(tables: Tables) -> set[str]:
    """The kinds of pairs on which the first neurons all score 0: one comes before another by its place alone."""
    greatest = tables["top_neurons"].group_by("regime").agg(pl.col("score").abs().max()).rows()
    return {regime for regime, score in greatest if score == 0}


def pulling(whole: pl.DataFrame) -> Iterator[str]:
    """Sets whose loss surely costs one objective and surely helps the other, and whether by zeros, means or both."""
    found: dict[str, list[str]] = {}
    by = ["set", "tasks", "replaced_by"]
    for (name, tasks, value), of in whole.partition_by(by, as_dict=True, maintain_order=True).items():
        sides = {side(row, "delta"): row["orientation"] for row in of.rows(named=True)}
        if {1, -1} <= sides.keys():
            words = f"{name}, whose loss costs {sides[-1]} and helps {sides[1]} on {KINDS[tasks]}"
            found.setdefault(words, []).append({"zero": "zeros", "mean": "means"}[value])
    texts = [f"{words} (by {' and '.join(values)})" for words, values in found.items()]
    yield (f"The two surely pull against each other at {'; '.join(texts)}." if texts else
           "At no set do the two surely pull against each other: none costs one and helps the other.")  # fmt: skip


def conflict(_study: Study, tables: Tables) -> Iterator[str]:
    """The cosine of the objectives' gradients over all neurons, and in the layer where it is least; they have no
    interval."""
    for row in tables["conflict"].filter(set="all").rows(named=True):
        layers = tables["conflict_layers"].filter(mixture=row["mixture"]).drop_nulls("cosine_mean")
        if row["cosine_mean"] is None:
            yield "Over all neurons, the objectives' gradients are not beyond sampling noise."
            continue
        words = "oppose each other" if row["cosine_mean"] < 0 else "do not oppose each other"
        aside = " (beyond 1 is sampling noise)" if abs(row["cosine_mean"]) > 1 else ""
        least = layers.sort("cosine_mean", maintain_order=True).head(1).rows(named=True)
        where = [f"; least in layer {one['layer']}, {one['cosine_mean']:z.2f}" for one in least]
        yield (f"Over all neurons the two {words}: cosine {row['cosine_mean']:z.2f}{aside}{''.join(where)} (without "
               f"intervals). {100 * row['opposed_mean']:.0f} % of their squares lie at weights that they would move in "
               "opposite ways; half would by chance.")  # fmt: skip


def neurons(study: Study, tables: Tables) -> Iterator[str]:
    """Whether the main scoring finds neurons that matter, where they lie, and which is the first."""
    tied = unranked(tables)
    if where := [pairs_of(regime) for regime in study.regimes if regime in tied]:
        yield f"On {listed(where)} its first neurons by {main(study)} all score 0: which come first says nothing."
    of = {
        control: list(against(study, tables["scoring_contrasts"], control)) for control in ("matched-random", "random")
    }
    names = {"matched-random": "random ones as deep and as loud", "random": "any random ones"}
    found = [f"than {names[control]} in {sides.count(-1)} of {counted(len(sides), 'case')} (surely less in "
             f"{sides.count(1)})" for control, sides in of.items() if sides]  # fmt: skip
    if found and not tied:
        yield f"Size for size, its top neurons by {main(study)} surely cost more {listed(found)}."
    late = tables["depth"].filter(scoring=main(study), third="late", selection=study.analysis.selection)
    late = late.filter(~pl.col("regime").is_in(tied))
    shares = [f"{row['share_mean']:.0f} % ({row['regime']})" for row in late.rows(named=True)]
    if shares:
        yield f"Of its top neurons, {listed(shares)} lie in the last third of the layers."
    ranked = pl.col("regime").is_in([regime for regime in study.single_regimes() if regime not in tied])
    first = tables["top_neurons"].filter(ranked, rank=1).rows(named=True)
    places = [f"neuron {row['neuron']} of layer {row['layer']} on {row['regime']} pairs" for row in first]
    if places:
        yield f"The first is {listed(places)}."


def against(study: Study, contrasts: pl.DataFrame, control: str) -> Iterator[int]:
    """Of each contrast of the main scoring with another one: -1 where it surely costs more, 1 where surely less."""
    for first, second, sign in ((main(study), control, 1), (control, main(study), -1)):
        rows = contrasts.filter(first=first, second=second).drop_nulls("difference_mean").rows(named=True)
        yield from (sign * side(row, "difference") for row in rows)


def limits(study: Study) -> Iterator[str]:
    what = ["what training made of them" if len(study.models) > 1 else "what training made of it", *unmeasured(study)]
    yield f"This study cannot say {listed([*what, 'what other pairs or tasks would show'])}."
