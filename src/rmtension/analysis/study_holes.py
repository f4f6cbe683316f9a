"""What a study file leaves unmeasured, and the settings that would measure it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from rmtension.analysis.claims import OF_TRAINING
from rmtension.analysis.evidence import ONE_SET, Tables
from rmtension.analysis.official import EARNED, sections
from rmtension.analysis.published import BACKBONES
from rmtension.data.tasks import known_tasks, wanted_tasks
from rmtension.study.benchmarks import ALL, PUBLISHED, OwnBenchmark, PublishedBenchmark
from rmtension.study.data import EPOCHS, MATCHED
from rmtension.study.given import NEED_BASE
from rmtension.study.measured import own_tests
from rmtension.study.models import Shortened, made_neurons
from rmtension.study.naming import OVERALL, UNORIENTED, misfit
from rmtension.study.scorings import SCORINGS
from rmtension.study.section import Section
from rmtension.study.study import Study

Settings = Mapping[str, Any]
Search = Callable[[Study, Tables], Iterator["Hole"]]

# Tables that need two regimes, a mixed one, a task, a sweep, ...
OF_TWO = "contrasts, length_contrasts, length_lead, neuron_overlap"
OF_MIXED = "retention, agreement, score_shift, shared_ablation, shared_contrasts, neuron_retention"
OF_MIXED += (
    ", tension, patching, patching_contrasts, conflict, conflict_contrasts, conflict_layers, repair, repair_contrasts"
)
# Of given reward models: what a mixed regime makes known of them, and what is of training alone.
OF_PARTS = "tension, shared_ablation, shared_contrasts, conflict, conflict_contrasts, conflict_layers"
OF_TRAINED = "contrasts, length_contrasts, length_lead, retention, agreement, score_shift, neuron_retention, patching"
OF_TRAINED += ", patching_contrasts, repair, repair_contrasts, published"
OF_TASKS = "accuracy, contrasts, retention, agreement, own_ablation, shared_ablation, shared_contrasts, length"
OF_TASKS += ", length_contrasts, length_change, length_lead, thirds, tension, model_contrasts, repair, repair_contrasts"
OF_SCORES = "score_shift, score_histogram, compression"
OF_SWEEP = "ablation_curve, scoring_contrasts, set_size"
OF_SEEDS = "depth, rmsd, neuron_overlap, neuron_retention, control_overlap, official"  # their intervals


class Hole(NamedTuple):
    """What was not measured, why, and the settings that would, to be merged into the study's; empty where none can."""

    what: str
    why: str
    settings: Settings


def merged(*parts: Settings) -> dict[str, Any]:
    """All of them: of mappings each key, of lists each item, of other values the last."""
    both: dict[str, Any] = {}
    for part in parts:
        for key, other in part.items():
            one = both.get(key)
            if isinstance(one, Mapping) and isinstance(other, Mapping):
                both[key] = merged(one, other)
            elif isinstance(one, list) and isinstance(other, list):
                both[key] = list(dict.fromkeys([*one, *other]))
            else:
                both[key] = other
    return both


def abridged(words: list[str]) -> str:
    """Words one behind the other; of many the first few, and how many more there are."""
    return ", ".join(words if len(words) <= 8 else [*words[:6], f"and {len(words) - 6} more"])


def backbone(name: str) -> Settings:
    """The entry of one of the paper's backbones in `models`."""
    return {"source": {"kind": "pretrained", "hub": BACKBONES[name]}}


def unused(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else unused(f"{name}-more", taken)


def seeds(study: Study, _tables: Tables) -> Iterator[Hole]:
    if len(study.seeds) == 1 and not study.given:
        more = [seed for seed in range(4) if seed not in study.seeds][:2]
        what = f"differences between trainings (stability; intervals of {OF_SEEDS})"
        yield Hole(what, "one seed", {"seeds": [*study.seeds, *more]})


def one_set(study: Study, _tables: Tables) -> Iterator[Hole]:
    if study.analysis.selection == "authors":
        what = "intervals of the claims' figures of oriented neurons (depth, neuron_overlap, neuron_retention)"
        yield Hole(what, ONE_SET, {"analysis": {"selection": "exact"}})


def one_backbone(study: Study, _tables: Tables) -> Iterator[Hole]:
    if len(study.models) == 1:
        known = {unused("gpt2", study.models): backbone("gpt2-small")}
        other = {unused("other", study.models): {"source": {"kind": "given", "path": "FOLDER"}}}
        what = f"whether other {'reward models' if study.given else 'backbones'} agree (model_contrasts"
        what += ")" if study.given else f"; rows of {OVERALL})"
        yield Hole(what, "one model", {"models": other if study.given else known})


def shortened(study: Study, _tables: Tables) -> Iterator[Hole]:
    """Backbones that are not there whole."""
    for name, model in study.models.items():
        if isinstance(model.source, Shortened) and model.source.layers:
            what = f"layers of the backbone of {name} beyond its first {model.source.layers}"
            why = f"models.{name}.source.layers: these alone are kept"
            yield Hole(what, why, {"models": {name: {"source": {"layers": None}}}})


def regimes(study: Study, _tables: Tables) -> Iterator[Hole]:
    singles = study.single_regimes()
    if study.mixed_regimes():
        return
    added: dict[str, Any] = {}
    if len(singles) == 1:
        name = "helpful" if singles == ["harmless"] else "harmless"
        source = unused(f"{name}-base", study.sources)
        pairs = {source: {"kind": "hh-rlhf", "hub": "Anthropic/hh-rlhf", "folder": f"{name}-base"}}
        added = {"sources": pairs, "regimes": {name: {"train": [source], "test": [source]}}}
        singles = [*singles, name]
        what, why = f"what regimes differ in, and what mixing them keeps ({OF_TWO}, {OF_MIXED})", "one regime"
    else:
        what, why = f"what mixing two regimes keeps ({OF_MIXED})", "no regime mixes two others"
    if study.given:
        of_two = "neuron_overlap, " if added else ""
        what = f"which neurons are of both objectives, and which of one alone ({of_two}{OF_PARTS})"
    mixed = {unused("-".join(singles[:2])[:80], study.regimes): {"mixes": singles[:2]}}
    yield Hole(what, why, merged(added, {"regimes": mixed}))


def benchmarks(study: Study, _tables: Tables, kinds: Sequence[str] = tuple(PUBLISHED)) -> Iterator[Hole]:
    """Published ones that the study has not."""
    present = {benchmark.kind for benchmark in study.benchmarks.values()}
    for kind in (kind for kind in kinds if kind not in present):
        tasks = known_tasks(kind).filter(pl.col("orientation") != UNORIENTED)["task"].unique(maintain_order=True)
        what = f"{len(tasks)} tasks of {kind}: {abridged(tasks.to_list())}"
        what += "; its official metrics (official)" if kind in EARNED else ""
        entry = {unused(kind, study.benchmarks): {"kind": kind, **PUBLISHED[kind].place}}
        yield Hole(what, f"no benchmark of kind {kind}", {"benchmarks": entry})


def own_test(study: Study, _tables: Tables) -> Iterator[Hole]:
    if not own_tests(study):
        entry = {unused("own-test", study.benchmarks): {"kind": "regime-test"}}
        what = "accuracy on each regime's own test split (benchmark_accuracy)"
        yield Hole(what, "no benchmark of kind regime-test", {"benchmarks": entry})


def subsets_left_out(name: str, benchmark: PublishedBenchmark) -> list[str]:
    wanted = wanted_tasks(name, benchmark)["subset"].to_list()
    return [subset for subset in known_tasks(benchmark.kind)["subset"] if subset not in wanted]


def metrics_without(kind: str, subsets: list[str]) -> list[str]:
    """Sections whose official metrics, all beginning with that name, take one of the subsets; with them the overall."""
    parts = sections(kind).filter(pl.col("subset").is_in(subsets))["section"].unique(maintain_order=True).to_list()
    return [*parts, "overall"] if parts else []


def left_out(study: Study, _tables: Tables) -> Iterator[Hole]:
    """Subsets of published benchmarks that the study has, and the official metrics that are empty for it."""
    for name, benchmark in study.benchmarks.items():
        if isinstance(benchmark, PublishedBenchmark) and (subsets := subsets_left_out(name, benchmark)):
            metrics = metrics_without(benchmark.kind, subsets)
            what = f"subsets of {name}: {abridged(subsets)}"
            what += f"; so its official metrics {abridged(metrics)} are empty (official)" if metrics else ""
            why = "`tasks` names others" if benchmark.tasks else "tasks without an orientation are taken only if named"
            yield Hole(what, why, {"benchmarks": {name: {"tasks": ALL}}})


# Section of a study and key that says how many are drawn -> of what.
DRAWN = {
    ("sources", "max_train"): "train pairs",
    ("sources", "max_test"): "test pairs",
    ("benchmarks", "max_per_task"): "comparisons of a task",
    ("training", "evaluation_pairs"): "held-out pairs that training looks at",
    ("activations", "max_pairs"): "pairs behind activation statistics",
    ("conflict", "max_pairs"): "test pairs of an objective whose gradients are compared",
}


def drawn(study: Study, _tables: Tables) -> Iterator[Hole]:
    parts: dict[tuple[str, str], Section] = {("sources", name): source for name, source in study.sources.items()}
    parts |= {("benchmarks", name): benchmark for name, benchmark in study.benchmarks.items()}
    parts |= {("training", ""): study.training, ("activations", ""): study.activations}
    parts |= {("conflict", ""): study.conflict} if study.conflict else {}
    for (section, name), part in parts.items():
        limits = part.model_dump(include={key for of, key in DRAWN if of == section}, exclude_none=True)
        for key, limit in limits.items():
            place, lifted = f"{section}.{name}.{key}" if name else f"{section}.{key}", {key: None}
            settings = {section: {name: lifted} if name else lifted}
            what = f"{DRAWN[section, key]} beyond {limit:,}" + (f", in {name}" if name else "")
            yield Hole(what, f"{place}: so many are drawn", settings)


def scorings(study: Study, _tables: Tables, among: Sequence[str] = tuple(SCORINGS)) -> Iterator[Hole]:
    present, twins = [*study.neurons.scorings], {"magnitude", study.neurons.magnitude}  # two names of one scoring
    known = {*present, *twins} if twins & {*present} else {*present}
    known |= NEED_BASE if study.given else set()
    for scoring in (scoring for scoring in among if scoring not in known):
        settings = {"neurons": {"scorings": [*present, scoring]}}
        yield Hole(SCORINGS[scoring], f"neurons.scorings has no {scoring}", settings)


def sweep(study: Study, _tables: Tables) -> Iterator[Hole]:
    settings: dict[str, list[Any]] = {}
    reasons = []
    if not study.ablation.sweep_benchmarks:
        own = own_tests(study)
        settings = {"sweep_benchmarks": [*own, *study.benchmarks][:1]}
        reasons = ["no benchmark to sweep on"]
    if not study.ablation.parts_of_all:
        sizes = [percent for percent in (2, 5, 10, 20, 30) if percent not in study.ablation.sweep]
        settings |= {"sweep": [*sizes, *study.ablation.sweep]}
        reasons += ["no sizes below 100 % to sweep over"]
    wanted = settings.get("sweep", study.ablation.sweep)
    made = made_neurons(study.models).items()
    if len(fitting := [size for size in wanted if not any(misfit(*of, 100, [size]) for of in made)]) < len(wanted):
        settings |= {"sweep": fitting}
    if reasons:
        what = f"how effects grow with the size of a set ({OF_SWEEP})"
        yield Hole(what, ", ".join(reasons), {"ablation": settings})


def patching(study: Study, _tables: Tables) -> Iterator[Hole]:
    if study.mixed_regimes() and study.patching is None and not study.given:
        what = "how much of the gap comes back with activations of the parts' (patching, patching_contrasts)"
        yield Hole(what, "no section patching", {"patching": {"benchmarks": [*study.benchmarks]}})


def conflict(study: Study, _tables: Tables) -> Iterator[Hole]:
    if study.mixed_regimes() and study.conflict is None:
        what = "where the objectives' gradients oppose each other (conflict, conflict_contrasts, conflict_layers)"
        yield Hole(what, "no section conflict", {"conflict": {}})


def mean_values(study: Study, _tables: Tables) -> Iterator[Hole]:
    if "mean" not in study.ablation.values:
        what = "what ablation does where neurons keep their means: the control mean of C9, C10 and C12"
        yield Hole(what, "ablation.values has no mean", {"ablation": {"values": ["zero", "mean"]}})


# Claim -> regimes that it takes, beside `mixes`.
REPAIRS: dict[str, dict[str, dict[str, Any]]] = {
    "R1": {"merged": {"method": "merged", "weights": [0.5, 0.5]}},
    "R2": {f"frozen-{held}": {"method": "frozen", "frozen": held} for held in ("shared", MATCHED)},
    "R3": {"projected": {"method": "projected"}},
}
EVERY_REPAIR = {name: how for of_claim in REPAIRS.values() for name, how in of_claim.items()}
EVERY_REPAIR |= {"ensemble": {"method": "ensemble"}}


def repairs(study: Study, _tables: Tables, wanted: Mapping[str, dict[str, Any]] = EVERY_REPAIR) -> Iterator[Hole]:
    """Ways in which a mixed regime's parts do not come together in this study."""
    for mixed in [] if study.given else study.mixed_regimes():
        present = [study.regimes[repair] for repair, of in study.repaired() if of == mixed]
        known = [(regime.method, regime.frozen) for regime in present]
        lacking = {n: how for n, how in wanted.items() if (how["method"], how.get("frozen")) not in known}
        if lacking:
            mixes, epochs = study.regimes[mixed].mixes, study.regimes[mixed].epochs
            names = {unused(f"{mixed[:60]}-{name}", study.regimes): how for name, how in lacking.items()}
            # What is trained sees the same pairs as the mixed one.
            same = {method: {"epochs": epochs} for method in ("projected", "frozen") if epochs != EPOCHS}
            added = {name: {"mixes": mixes, **how, **same.get(how["method"], {})} for name, how in names.items()}
            named = abridged([*lacking])
            what = f"how much of what {mixed} falls short by other ways close (repair, repair_contrasts): {named}"
            yield Hole(what, f"no such regime beside {mixed}", {"regimes": added})


def choices(study: Study, _tables: Tables) -> Iterator[Hole]:
    """What one run has under one of two ways (docs/methods.md, section 9)."""
    if study.given:
        return
    other = {"validation": "test", "test": "validation"}[study.training.select_on]
    what = f"accuracy with weights chosen on the {other} split (R6 in compatibility)"
    yield Hole(what, "one run has one of the two: a study of its own", {"training": {"select_on": other}})
    chosen = {name: b for name, b in study.benchmarks.items() if isinstance(b, PublishedBenchmark | OwnBenchmark)}
    forms = {(benchmark.kind, benchmark.template) for benchmark in chosen.values()}
    for name, benchmark in chosen.items():
        form = {"hh": "paper", "paper": "hh"}[benchmark.template]
        if (benchmark.kind, form) not in forms:
            entry = benchmark.model_dump(mode="json", exclude_defaults=True) | {"template": form}
            settings = {"benchmarks": {unused(f"{name}-{form}", study.benchmarks): entry}}
            what = f"accuracy on {name} with texts in the form {form} (R7 in compatibility)"
            yield Hole(what, f"no benchmark of kind {benchmark.kind} has that template", settings)


def given(study: Study, _tables: Tables) -> Iterator[Hole]:
    """What no line can measure of reward models that are there."""
    if study.given:
        why = "the reward models are given: a regime says which pairs to look at, and nothing is trained"
        yield Hole(f"what objectives, mixing and repairs do to a reward model ({OF_TRAINED})", why, {})
        yield Hole(f"claims about training: {', '.join(OF_TRAINING)}", why, {})
        yield Hole("what training has changed (the scoring change)", "no backbone beside a given reward model", {})
        what = f"differences between trainings (stability; intervals of {OF_SEEDS})"
        yield Hole(what, "the reward models are given: there is one of each", {})


def adopted(study: Study, _tables: Tables) -> Iterator[Hole]:
    for name, model in study.models.items():
        if model.trained:
            n = sum(len(folders) for folders in model.trained.values())
            what = f"how {n} reward models of {name} were trained (training_card, compute_card)"
            yield Hole(what, "trained elsewhere", {"models": {name: {"trained": {}}}})
