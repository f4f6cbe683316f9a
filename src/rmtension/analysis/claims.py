"""Every claim, the paper's (C) and this project's about depth (D), attribution (A), causes (P, G), repairs (R), length
(L) and calibration (K): a function from tables and study to parts, and an entry in CLAIMS, where all thresholds stand
(docs/claims.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import combinations, permutations, product
from math import log, nan

import polars as pl

from rmtension.analysis.calibration import UNABLATED
from rmtension.analysis.evidence import Interval, Tables, look, look_pair
from rmtension.analysis.judgement import Claim, Control, Direction, Part
from rmtension.analysis.sets import mixtures, shared_set
from rmtension.analysis.surface import LONGER, SHORTER
from rmtension.study.data import MATCHED
from rmtension.study.measured import own_tests
from rmtension.study.naming import AVERAGE, BOTH, OVERALL, OWN_TASKS, OWN_TEST, sized
from rmtension.study.study import Study

ADVERSARIAL = [f"LLM Bar (Adver {kind})" for kind in ("Neighbor", "GPTInst", "GPTOut", "Manual")]
AHEAD = {  # the regime that is ahead, and the one whose tasks they are
    ("helpful", "harmless"): ["Safety Response", "XStest Should Respond"],
    ("harmless", "helpful"): [*ADVERSARIAL, "Focus", "Precise IF", "Factuality"],
}
# Orientation, claimed side, and the rule of length that takes that side on those tasks (resources/length.csv).
RETAINED: dict[tuple[str, Direction, str], list[str]] = {
    ("helpful", "above", LONGER): [f"Alpaca Eval ({kind})" for kind in ("Easy", "Length", "Hard")],
    ("harmless", "above", SHORTER): ["Refusals Dangerous", "Refusals Offensive"],
    ("helpful", "below", LONGER): [*ADVERSARIAL, "Focus", "Factuality"],
}
NO_WORSE = -1  # point: the least gain of what is as good
AS_GOOD = 0.02  # nats: the most that probabilities of two reward models that are as good may differ by
PAIR = 50  # percent: a coin's accuracy on pairs


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


def lead(tables: Tables, first: str, second: str, orientation: str, task: str) -> Part:
    contrast = partial(look_pair, tables, value="difference", first=first, second=second)
    found, balanced = (contrast(table=t, orientation=orientation, task=task) for t in ("contrasts", "length_contrasts"))
    return Part(f"{first} over {second}, {orientation}: {task}", found, [Control("length", balanced, 0)])


def own_orientation_wins(tables: Tables, study: Study) -> Iterator[Part]:
    return (lead(tables, own, other, own, AVERAGE) for own, other in permutations(study.single_regimes(), 2))


def mixed_falls_short(tables: Tables, study: Study) -> Iterator[Part]:
    return (lead(tables, mixed, single, single, AVERAGE) for mixed, single in mixtures(study, study.mixed_regimes()))


def exceptions(tables: Tables, study: Study) -> Iterator[Part]:
    return (lead(tables, *regimes, regimes[1], task) for regimes, tasks in AHEAD.items() for task in tasks)


def retention_is_low(tables: Tables, study: Study) -> Iterator[Part]:
    whole = [(orientation, AVERAGE, None, None) for orientation in study.single_regimes()]
    named = [(orientation, task, side, rule) for (orientation, side, rule), tasks in RETAINED.items() for task in tasks]
    for mixed, (orientation, task, side, rule) in product(study.mixed_regimes(), [*whole, *named]):
        figure = partial(look, tables, orientation=orientation, task=task)
        kept = figure(table="retention", value="retention", regime=mixed, ablation="none")
        accuracy = partial(figure, value="accuracy")
        rivals = [Control("independence", accuracy(table="accuracy", regime=mixed).times(0.01))]
        rivals += [Control(rule, accuracy(table="surface", rule=rule).times(0.01))] if rule else []
        yield Part(f"{mixed}, {orientation}: {task}", kept, rivals, direction=side)


def scores_move_to_zero(tables: Tables, study: Study) -> Iterator[Part]:
    for mixed, single in mixtures(study, study.mixed_regimes()):
        for response in ("chosen", "rejected"):
            figure = partial(look, tables, "score_shift", regime=mixed, single=single, response=response)
            spread = Control("spread", figure(value="mixed_spread").minus(figure(value="single_spread")), 0)
            yield Part(f"{mixed} against {single}, {response}", figure(value="closeness"), [spread])


def swept(tables: Tables, study: Study) -> Iterator[tuple[str, Callable[..., Interval]]]:
    """Each swept benchmark, regime and size below 100 %: what it is called, and its contrast of two scorings."""
    sizes = study.ablation.parts_of_all
    for benchmark, regime, size in product(study.ablation.sweep_benchmarks, study.plain_regimes(), sizes):
        percent, count = sized(size)
        contrast = partial(look_pair, tables, "scoring_contrasts", "difference", benchmark=benchmark, regime=regime)
        if percent is None:
            yield f"{regime}, {benchmark}, n = {count}", partial(contrast, count=count)
        else:
            yield f"{regime}, {benchmark}, p = {percent:g} %", partial(contrast, percent=percent)


def magnitude_finds_most(tables: Tables, study: Study) -> Iterator[Part]:
    for name, contrast in swept(tables, study):
        matched = Control("matched-random", contrast("magnitude", "matched-random"), 0)
        yield Part(f"{name}: magnitude over change", contrast("magnitude", "change"), [matched])
        yield Part(f"{name}: change over random", contrast("change", "random"))


def attribution_finds_more(tables: Tables, study: Study) -> Iterator[Part]:
    for name, contrast in swept(tables, study):
        over = partial(contrast, "attribution")
        random = [Control(scoring, over(scoring), 0) for scoring in ("random", "matched-random")]
        yield Part(f"{name}: attribution over magnitude", over("magnitude"), random)


def own_places(study: Study, benchmarks: Iterable[str]) -> list[str]:
    """OWN_TEST, OWN_TASKS or both: where these benchmarks have what is an orientation's own."""
    own = own_tests(study)
    places = {OWN_TEST if name in own else OWN_TASKS for name in benchmarks}
    return [place for place in (OWN_TEST, OWN_TASKS) if place in places]


def neurons_are_late(tables: Tables, study: Study) -> Iterator[Part]:
    for regime in study.plain_regimes():
        share = partial(look, tables, "depth", "share", regime=regime, third="late")
        # The authors' selection has no random set.
        random = Control("random", share(scoring="random", selection="exact"))
        yield Part(regime, share(scoring=study.ablation.scoring, selection=study.analysis.selection), [random])


def late_neurons_matter_more(tables: Tables, study: Study) -> Iterator[Part]:
    for regime, tasks in product(study.plain_regimes(), own_places(study, study.benchmarks)):
        for own in study.regimes[regime].mixes or [regime]:
            late = partial(look, tables, "thirds", regime=regime, orientation=own, tasks=tasks, third="late")
            alone = Control("alone", late(value="delta"), 0)
            yield Part(f"{regime}, {own}, {tasks}: late over early", late(value="difference"), [alone])


def same_neurons_for_both(tables: Tables, study: Study) -> Iterator[Part]:
    return (Part(regime, look(tables, "rmsd", "ratio", regime=regime)) for regime in study.plain_regimes())


def own_neurons_matter(tables: Tables, study: Study) -> Iterator[Part]:
    for regime, orientation in product(study.single_regimes(), repeat=2):
        keys = {"regime": regime, "orientation": orientation, "task": AVERAGE, "percent": study.ablation.percent}
        replaced = partial(look, tables, "own_ablation", "delta", **keys)
        change = partial(replaced, replaced_by="zero")
        random = [Control(scoring, change(scoring=scoring)) for scoring in ("random", "matched-random")]
        balanced = partial(look, tables, "length_change", "difference", regime=regime, against="none", task=AVERAGE)
        length = Control("length", balanced(ablation=study.ablation.main_set, orientation=orientation), 0)
        mean = Control("mean", replaced(scoring=study.ablation.scoring, replaced_by="mean"), 0)
        side: Direction = "below" if orientation == regime else "above"
        found = change(scoring=study.ablation.scoring)
        yield Part(f"{regime}, {orientation}: average", found, [*random, length, mean], direction=side)


def ablation_compresses(tables: Tables, study: Study) -> Iterator[Part]:
    for regime in study.plain_regimes():
        figure = partial(look, tables, "compression", regime=regime)
        random = Control("random", figure(value="ratio", scoring="random", replaced_by="zero"))
        own = partial(figure, scoring=study.ablation.scoring)
        margin = Control("margin", own(value="margin_ratio", replaced_by="zero"), 1)
        mean = Control("mean", own(value="ratio", replaced_by="mean"), 1)
        yield Part(regime, own(value="ratio", replaced_by="zero"), [random, margin, mean])


def neurons_overlap(tables: Tables, study: Study) -> Iterator[Part]:
    main, selection = study.ablation.scoring, study.analysis.selection
    chance = partial(overlap_by_chance, tables, study)
    shared = partial(look_pair, tables, "neuron_overlap", "jaccard", selection=selection)
    for pair in combinations(study.single_regimes(), 2):
        change = Control("change", shared(*pair, scoring="change"), chance(pair, "change")[0])
        controls = [] if study.given else [change]  # which is beside a backbone
        yield Part(" and ".join(pair), shared(*pair, scoring=main), controls, chance(pair, main)[0])
    for mixed in dict(mixtures(study, study.mixed_regimes())):
        retained = partial(look, tables, "neuron_retention", "retained", regime=mixed, selection=selection)
        parts = study.regimes[mixed].mixes
        control = Control("change", retained(scoring="change"), chance(parts, "change")[1])
        yield Part(f"retained in {mixed}", retained(scoring=main), [control], chance(parts, main)[1])


def shared_neurons_matter(tables: Tables, study: Study) -> Iterator[Part]:
    for mixed, orientation in product(study.mixed_regimes(), study.single_regimes()):
        keys = {"regime": mixed, "orientation": orientation, "task": AVERAGE}
        replaced = partial(look, tables, "shared_contrasts", "difference", **keys)
        contrast = partial(replaced, replaced_by="zero")
        shared = partial(look, tables, "shared_ablation", "delta", ablation=shared_set(study), control="whole", **keys)
        balanced = partial(look, tables, "length_change", "difference", ablation=shared_set(study), **keys)
        sized = partial(contrast, control="size-matched")
        others = [Control(against, sized(against=against), 0) for against in ("random", "matched-random")]
        others += [Control("length", balanced(against="none"), 0), Control("mean", shared(replaced_by="mean"), 0)]
        yield Part(f"{mixed}, {orientation}: average, shared", shared(replaced_by="zero"), others)
        for single in study.regimes[mixed].mixes:
            exclusive = f"{single}-only"
            others = [Control("size-matched", sized(against=exclusive), 0)]
            others += [Control("length", balanced(against=exclusive), 0)]
            whole = {"control": "whole", "against": exclusive}
            others += [Control("mean", replaced(**whole, replaced_by="mean"), 0)]
            yield Part(f"{mixed}, {orientation}: average, shared over {exclusive}", contrast(**whole), others)


def patching_recovers(tables: Tables, study: Study) -> Iterator[Part]:
    patched = study.patching.benchmarks if study.patching else []
    for mixed, tasks in product(study.mixed_regimes(), own_places(study, patched) or [OWN_TASKS]):
        for donor in study.regimes[mixed].mixes:
            keys = {"regime": mixed, "donor": donor, "tasks": tasks}
            more = partial(look, tables, "patching_contrasts", "recovery_difference", **keys)
            yield Part(f"{mixed} from {donor}, {tasks}", more(against="matched-random"),
                       [Control("random", more(against="random"), 0)])  # fmt: skip


def gradients_oppose(tables: Tables, study: Study) -> Iterator[Part]:
    """At the parts' reward models: in the mixed one the two cancel where training ends, whatever neurons are for."""
    for mixed in study.mixed_regimes():
        for regime in [mixed] if study.given else study.regimes[mixed].mixes:
            keys, place = {"regime": regime, "mixture": mixed}, mixed if study.given else f"{mixed}, at {regime}"
            yield Part(f"{place}: shared", look(tables, "conflict", "cosine", set="shared", control="whole", **keys))
            more = partial(look, tables, "conflict_contrasts", **keys)
            matched, random = (more(value="cosine_difference", against=word) for word in ("matched-random", "random"))
            share = more(value="opposed_difference", against="matched-random").times(-1)
            yield Part(f"{place}: shared over matched", matched,
                       [Control("random", random, 0), Control("share", share, 0)])  # fmt: skip


# --- repairs --------------------------------------------------------------------------------------------------


def gain(tables: Tables, repair: str, mixed: str, place: tuple[str, str], measure: str = "accuracy") -> Interval:
    """place: an orientation, and OWN_TEST or OWN_TASKS."""
    keys = {"regime": repair, "mixture": mixed, "measure": measure}
    return look(tables, "repair", "gain", orientation=place[0], tasks=place[1], **keys)


def repair_places(study: Study, mixed: str, *more: str) -> list[tuple[str, str]]:
    """Where repairs are judged: on the test split of either part, and on the tasks of its orientation. Never on both
    together: the one is of the pairs that training is about, the other may be of anything."""
    places = own_places(study, study.benchmarks)
    return [(orientation, tasks) for tasks in places for orientation in (*study.regimes[mixed].mixes, *more)]


def repairs(study: Study) -> list[tuple[str, str]]:
    """As study.repaired, but for merged ones that are one of the parts."""
    return [(repair, mixed) for repair, mixed in study.repaired() if not study.regimes[repair].is_part]


def gains(tables: Tables, study: Study, pairs: Iterable[tuple[str, str]], least: float) -> Iterator[Part]:
    """Of each repair over its mixed regime, on either orientation."""
    for repair, mixed in pairs:
        for place in repair_places(study, mixed):
            balanced, found = (gain(tables, repair, mixed, place, of) for of in ("balanced", "accuracy"))
            controls = [Control("length", balanced, least)]
            if place[1] == OWN_TEST:  # of pairs, half of which a coin gets right
                keys = {"regime": repair, "mixture": mixed, "measure": "accuracy", "orientation": place[0]}
                controls += [Control("chance", look(tables, "repair", "repaired", tasks=OWN_TEST, **keys), PAIR)]
            yield Part(f"{repair} over {mixed}, {', '.join(place)}", found, controls)


def merged_is_no_worse(tables: Tables, study: Study) -> Iterator[Part]:
    """Of a curve, that of the most even shares."""
    for mixed in study.mixed_regimes():
        of_mixed = [(repair, study.regimes[repair].weights) for repair, of in repairs(study) if of == mixed]
        uneven = {repair: round(abs(weights[0] - weights[1]), 9) for repair, weights in of_mixed if weights}
        evenest = [(repair, mixed) for repair, distance in uneven.items() if distance == min(uneven.values())]
        yield from gains(tables, study, evenest, NO_WORSE)


def freezing_shared_repairs(tables: Tables, study: Study) -> Iterator[Part]:
    frozen = [(*pair, study.regimes[pair[0]].frozen) for pair in study.repaired()]
    for (repair, mixed, held), (other, against, others) in product(frozen, repeat=2):
        for place in repair_places(study, mixed) if (held, others, against) == ("shared", MATCHED, mixed) else []:
            keys = {"mixture": mixed, "orientation": place[0], "tasks": place[1]}
            over = partial(look_pair, tables, "repair_contrasts", "difference", repair, other, **keys)
            controls = [Control("length", over(measure="balanced"), 0),
                        Control("mixed", gain(tables, repair, mixed, place), 0)]  # fmt: skip
            more = over(measure="accuracy")
            more = more._replace(note="; ".join(filter(None, [more.note, quieter(tables, other, mixed)])))
            yield Part(f"{repair} over {other}, {', '.join(place)}, of {mixed}", more, controls)


def quieter(tables: Tables, matched: str, mixed: str) -> str:
    """How loud the neurons are that are matched to shared ones: these are the loudest there are, so that none match."""
    frame = tables["repair"]
    found: Iterable[float | None]
    found = frame.filter(model=OVERALL, regime=matched, mixture=mixed)["loudness"] if "loudness" in frame else []
    known = [ratio for ratio in found if ratio is not None]
    return f"the matched ones have {known[0]:.2f} of the shared ones' mean |a|" if known else ""


def projection_repairs(tables: Tables, study: Study) -> Iterator[Part]:
    return gains(tables, study, [pair for pair in study.repaired() if study.regimes[pair[0]].method == "projected"], 0)


def repairs_survive_balancing(tables: Tables, study: Study) -> Iterator[Part]:
    for repair, mixed in repairs(study):
        for place in repair_places(study, mixed, BOTH):
            if gain(tables, repair, mixed, place).low > 0:
                balanced = gain(tables, repair, mixed, place, "balanced")
                yield Part(f"{repair} over {mixed}, {', '.join(place)}", balanced)


# --- length ---------------------------------------------------------------------------------------------------


def differ_along_length(tables: Tables, study: Study) -> Iterator[Part]:
    singles = sorted(study.single_regimes(), key=lambda regime: regime != "helpful")  # the one that likes length first
    for first, second in combinations(singles, 2):
        for tasks in ("all", first, second):
            found = look_pair(tables, "length_lead", "correlation", first, second, tasks=tasks)
            yield Part(f"{first} over {second}: {tasks} tasks", found)


def lead_survives_balancing(tables: Tables, study: Study) -> Iterator[Part]:
    for plain in own_orientation_wins(tables, study):
        [balanced] = plain.controls
        controls = [Control("half", plain.found.times(0.5)), Control("lead", plain.found, 0)]
        yield Part(plain.name, balanced.found, controls)


def neurons_follow_length(tables: Tables, study: Study) -> Iterator[Part]:
    for regime in study.plain_regimes():
        follows = partial(look, tables, "set_length", "correlation", regime=regime)
        random = Control("matched-random", follows(set=study.ablation.matched_set))
        yield Part(regime, follows(set=study.ablation.main_set), [random])


# --- calibration ----------------------------------------------------------------------------------------------


def mixed_against_parts(study: Study) -> list[tuple[str, str, str]]:
    """Each mixed regime, each of its parts, and each benchmark that the two share."""
    shared = [name for name in study.benchmarks if name not in own_tests(study)]
    return [(*mixture, benchmark) for mixture, benchmark in product(mixtures(study, study.mixed_regimes()), shared)]


def mixed_is_calibrated_worse(tables: Tables, study: Study) -> Iterator[Part]:
    for mixed, single, benchmark in mixed_against_parts(study):
        keys = {"regime": mixed, "against": single, "benchmark": benchmark}
        worse = look(tables, "calibration_contrasts", "squared_ce_change", **keys)
        yield Part(f"{mixed} against {single}, {benchmark}", worse)


def compression_is_temperature(tables: Tables, study: Study) -> Iterator[Part]:
    own = study.ablation.main_set
    ablated = [(regime, UNABLATED, benchmark) for regime, benchmark in product(study.plain_regimes(), study.benchmarks)]
    for regime, against, benchmark in [*mixed_against_parts(study), *ablated]:
        keys = {"regime": regime, "against": against, "benchmark": benchmark}
        change = partial(look, tables, "calibration_contrasts", **keys)
        before, rescaled = change(value="log_loss_change"), change(value="rescaled_log_loss_change")
        both = [(regime, own), (regime, "none")] if against == UNABLATED else [(regime, "none"), (against, "none")]
        lacking = [without_temperature(tables, study, *one, benchmark) for one in both]
        found = rescaled._replace(note="; ".join(filter(None, [rescaled.note, *lacking])))
        reference = {"regime": both[1][0], "ablation": "none", "benchmark": benchmark}
        learned = Control("learned", look(tables, "calibration", "rescaled_log_loss", **reference), log(2) - AS_GOOD)
        yield Part(f"{regime} against {against}, {benchmark}", found, [Control("before", before), learned])


def without_temperature(tables: Tables, study: Study, regime: str, ablation: str, benchmark: str) -> str:
    """How many of a regime's reward models have none; "" if all have one, or are not known."""
    frame, every = tables["calibration"], len(study.models) * len(study.seeds)
    keys = {"model": OVERALL, "regime": regime, "ablation": ablation, "benchmark": benchmark}
    rows = frame if frame.is_empty() else frame.filter(**keys)
    fitted = every if rows.is_empty() else sum(rows["n_fitted"])
    name = regime if ablation == "none" else f"{regime} without {ablation}"
    return f"{name}: {every - fitted} of {every} without a temperature" if fitted < every else ""


# About what training does, between reward models or beside a backbone: studies of given ones have no part of these.
OF_TRAINING = ["C1", "C2", "C3", "C4", "C5", "C6", "P1", "R1", "R2", "R3", "R4", "L1", "L2", "K1"]
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
    "D1": Claim(late_neurons_matter_more, "Late neurons matter more than early ones", "points", "below", 0),
    "A1": Claim(attribution_finds_more, "Attribution finds neurons that matter more than magnitude, size for size",
                "points", "below", 0),
    "P1": Claim(patching_recovers, "Patching shared neurons recovers more than patching matched ones",
                "of the gap", "above", 0),
    "G1": Claim(gradients_oppose, "The objectives' gradients oppose each other more at shared neurons",
                "cosine", "below", 0),
    "R1": Claim(merged_is_no_worse, "Merged reward models are no worse than the mixed one, on both orientations",
                "points", "above", NO_WORSE),
    "R2": Claim(freezing_shared_repairs, "Freezing shared neurons repairs more than freezing matched ones",
                "points", "above", 0),
    "R3": Claim(projection_repairs, "Projecting gradients that conflict repairs, on both orientations",
                "points", "above", 0),
    "R4": Claim(repairs_survive_balancing, "Whatever repairs does so on length-balanced accuracy, too",
                "points", "above", 0),
    "L1": Claim(differ_along_length, "Where helpful and harmless reward models differ, they differ along length",
                "correlation", "above", 0),
    "L2": Claim(lead_survives_balancing, "The lead on the own orientation survives balancing over length",
                "points", "above", 0),
    "L3": Claim(neurons_follow_length, "Oriented neurons follow length", "correlation", "above", 0),
    "K1": Claim(mixed_is_calibrated_worse, "The mixed reward model is worse calibrated than its parts",
                "fraction", "above", 0),
    "K2": Claim(compression_is_temperature, "Compression is a temperature: rescaled, the probabilities are as good",
                "nats", "below", AS_GOOD),
}  # fmt: skip
