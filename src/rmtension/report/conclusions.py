"""What a study can and cannot conclude, in plain words made of its settings, its tables and the claims' verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from rmtension.report.causes import why_worse
from rmtension.report.repairs import which_to_take
from rmtension.report.rules import ESTIMATE, PLACE, judged, ruled
from rmtension.study.benchmarks import PUBLISHED
from rmtension.study.measured import own_tests
from rmtension.study.naming import AVERAGE, WORDS
from rmtension.study.study import Study

Tables = Mapping[str, pl.DataFrame]
OF_LENGTH = ["length", "longer", "shorter"]  # controls that ask whether a claim is one about length
WORST_FIRST = ["does not hold", "undecided", "holds"]
SAID = {"holds": ("holds", "hold"), "does not hold": ("does not hold", "do not hold"),
        "undecided": ("is undecided", "are undecided")}  # fmt: skip
REAL_RESULT = "docs/smollm2-135m-hh.md"  # for those whose study has synthetic pairs alone
RULES = {"longer": "the longer response", "shorter": "the shorter response"}


def beside_length(claims: pl.DataFrame) -> dict[str, str]:
    """Claim -> what is left of it beside length: the worst control verdict of its parts that have such a control.

    claims: the ledger (docs/outputs.md, Claims). Claims without such a control are left out.
    """
    controls = claims.filter(pl.col("control").is_in(OF_LENGTH), pl.col("part") != "")
    verdicts = controls.group_by("claim", maintain_order=True).agg("control_verdict").rows()
    return {claim: min(of_parts, key=WORST_FIRST.index) for claim, of_parts in verdicts}


def conclusions(study: Study, tables: Tables, claims: pl.DataFrame) -> dict[str, str]:
    """Subject -> what is said of it, a few sentences; tables: those of the study by name, claims: the ledger."""
    ends = [name for name, regime in study.regimes.items() if regime.is_part]
    repairs = tables["repair"], tables["repair_contrasts"], ends, len(study.seeds)
    said = {
        "Judged.": basis(study, tables),
        "Claims.": verdicts(claims),
        "Is it length?": length(claims),
        "Why is the mixed one worse?": why_worse(study, tables["patching"], claims),
        "Which repair to take?": which_to_take(*repairs),
        "Rules without a model.": rules(tables),
        "Beyond this study.": limits(study, tables),
    }
    texts = {subject: " ".join(sentences) for subject, sentences in said.items()}
    return {subject: text for subject, text in texts.items() if text}


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def basis(study: Study, tables: Tables) -> Iterator[str]:
    tasks = tables["accuracy"].filter(pl.col("task") != AVERAGE).select("orientation", "task").unique()
    numbers = tasks.group_by("orientation").len().sort(pl.col("orientation") != "helpful", "orientation").rows()
    places = [counted(n, f"{orientation} task") for orientation, n in numbers]
    places += ["each regime's own test split"] if own_tests(study) else []
    trained = [name for name, regime in study.regimes.items() if regime.method != "ensemble"]  # which has no model
    of = (study.models, "backbone"), (trained, "regime"), (study.seeds, "seed")
    n = len(study.models) * len(trained) * len(study.seeds)
    elsewhere = sum(len(seeds) for model in study.models.values() for seeds in model.trained.values())
    adopted = f"; {elsewhere} trained elsewhere" if elsewhere else ""
    factors = ", ".join(counted(len(things), noun) for things, noun in of)
    judges = listed(places) or "tasks that are neither regime's"
    yield f"This study judges {counted(n, 'reward model')} ({factors}{adopted}) on {judges}."


def rules(tables: Tables) -> Iterator[str]:
    """How far rules without a model come where reward models are judged: on an orientation's tasks, and own tests."""
    places = ruled(tables["surface"], tables["benchmarks_card"]).drop_nulls("accuracy_mean")
    places = places.filter(pl.col("own") | (pl.col("task") == AVERAGE))
    models = judged(places, tables["accuracy"], tables["benchmark_accuracy"]).drop_nulls("accuracy_mean")
    above, apart = list[str](), list[str]()
    for of in places.partition_by(PLACE, maintain_order=True):
        best = of.row(of["accuracy_mean"].arg_max() or 0, named=True)
        here = models.join(of, on=PLACE, how="semi", maintain_order="left").select("regime", *ESTIMATE, "same").rows()
        where = f"{best['orientation']}'s own test split" if best["own"] else f"the {best['orientation']} tasks"
        above += [f"{regime} on {where}" for regime, _, low, _, same in here
                  if same and low is not None and low > best["accuracy_mean"]]  # fmt: skip
        apart += [f"{regime} on {where}" for regime, *_, same in here if not same]
        if here:
            right = [f"{mean:.1f} % ({regime})" for regime, mean, *_ in here]
            yield (f"On {where}, accuracy is {listed(right)}; without a model the best of {counted(len(of), 'rule')}, "
                   f"{rule(best['rule'])}, reaches {best['accuracy_mean']:.1f} %.")  # fmt: skip
    if len(models):
        yield f"Above the best rule with the whole interval: {listed(above) or 'none'}."
        yield from on_others(apart)


def on_others(places: Sequence[str]) -> Iterator[str]:
    """Where reward models are not held against rules, as they left comparisons unscored that rules score."""
    if places:
        yield f"Not held against rules, which score all comparisons, as some could not be scored: {listed(places)}."


def rule(name: str) -> str:
    return RULES[name] if name in RULES else f"the words that {pairs_of(name.removeprefix(WORDS))} prefer"


def pairs_of(regime: str) -> str:
    """The pairs of a place of the study; `both` is what an x-ray calls the one of both kinds."""
    return "pairs of both kinds" if regime == "both" else f"{regime} pairs"


def verdicts(claims: pl.DataFrame) -> Iterator[str]:
    """How claims are judged as they stand, and beside their controls; and out of how many parts."""
    whole = claims.filter(part="")
    names = {word: whole.filter(verdict=word)["claim"].to_list() for word in ("holds", "does not hold")}
    undecided = len(whole) - sum(map(len, names.values()))
    if whole.is_empty():
        yield "No claim could be tested."
    elif undecided == len(whole):
        yield f"Nothing can be concluded about any of the {undecided} claims: all are undecided."
    else:
        rest = f"; {undecided} {SAID['undecided'][undecided > 1]}" if undecided else ""
        yield f"Of {counted(len(whole), 'claim')}, {sorted_out(names)}{rest}."
        decided = whole.filter(pl.col("verdict") != "undecided")
        beside = {word: decided.filter(control_verdict=word)["claim"].to_list() for word in SAID}
        if any(beside.values()):
            yield f"Beside their controls, {sorted_out(beside)}."
        parts = claims.filter(pl.col("part") != "").unique(["claim", "part"])
        decided_parts = len(parts.filter(pl.col("verdict") != "undecided"))
        yield f"Decided parts of claims: {decided_parts} of {len(parts)}, each by itself, uncorrected for their number."


def length(claims: pl.DataFrame) -> Iterator[str]:
    """What the ledger says of length itself, and beside it of the other claims that hold."""
    whole, beside = claims.filter(part=""), beside_length(claims)
    about = pl.col("claim").str.starts_with("L") | (pl.col("claim") == "R4")  # which is of length-balanced accuracy
    yield from answer(dict(whole.select("claim", "verdict").iter_rows()))
    itself = whole.filter(about).select("statement", "claim", "verdict").rows()
    yield from (f"{statement} ({name}): {verdict}." for statement, name, verdict in itself)
    held = whole.filter(~about, verdict="holds")["claim"].to_list()
    left = {word: [name for name in held if beside.get(name) == word] for word in SAID}
    alone = [name for name in held if name not in beside]
    none = f"{listed(alone)} {'have' if len(alone) > 1 else 'has'} no control for length" if alone else ""
    if held:
        beside_it = f"beside length {sorted_out(left)}" if any(left.values()) else ""
        yield f"Of the other claims that hold, {'; '.join(filter(None, [beside_it, none]))}."


def answer(verdicts: Mapping[str, str]) -> Iterator[str]:
    """Whether the lead on the own orientation (C1) is length: what is left of it in balanced accuracy (L2), and whether
    regimes differ along length (L1)."""
    lead, left, along = (verdicts.get(claim) for claim in ("C1", "L2", "L1"))
    if lead is None or left is None:
        return
    if left == "holds":
        also = "; length plays its part as well" if along == "holds" else ""
        yield f"Not length alone: reward models lead on their own orientation where length decides nothing{also}."
    elif lead == "holds":
        yield "It may be: reward models lead on their own orientation, but not surely where length decides nothing."
    elif lead == "undecided":
        yield "This study cannot tell: it is not certain that all reward models lead on their own orientation."
    else:
        yield "Not all reward models lead on their own orientation: there is no such lead of all to explain."


def sorted_out(by_verdict: Mapping[str, Sequence[str]]) -> str:
    found = [f"{listed(names)} {SAID[word][len(names) > 1]}" for word, names in by_verdict.items() if names]
    return listed(found)


def is_synthetic(study: Study) -> bool:
    return all(source.kind == "synthetic" for source in study.sources.values())


def unmeasured(study: Study) -> list[str]:
    """What neither benchmarks nor pairs of a study can show."""
    kinds = {benchmark.kind for benchmark in study.benchmarks.values()}
    missing = {
        "what the paper's tasks would show (no published benchmark)": not kinds & {*PUBLISHED},
        "what people prefer (all pairs are synthetic)": is_synthetic(study),
    }
    return [what for what, absent in missing.items() if absent]


def limits(study: Study, tables: Tables) -> Iterator[str]:
    missing = {
        "what another training would give (one seed)": len(study.seeds) == 1,
        "how objectives differ (one regime)": len(study.single_regimes()) == 1,
        "what mixing keeps (no regime mixes two others)": not study.mixed_regimes(),
        "why mixing costs what it does (nothing is patched)": bool(study.mixed_regimes()) and study.patching is None,
        "what would help (no regime has another method)": bool(study.mixed_regimes()) and not study.repaired(),
        "how regimes differ on the same comparisons (they share no task)": tables["accuracy"].is_empty(),
    }
    made = all(model.source.kind == "made" for model in study.models.values())
    unknown = [what for what, absent in missing.items() if absent] + unmeasured(study)
    unknown += ["what language models do (all backbones are made for it)"] if made else []
    yield f"This study cannot say {listed([*unknown, 'what other backbones, data or ways of training would give'])}."
    if is_synthetic(study):
        yield f"Reward models that have learned from people's preferences: {REAL_RESULT}."
