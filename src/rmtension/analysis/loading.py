"""What a study's jobs have left in its folder, read into frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs

from rmtension.analysis.sets import compared, listed
from rmtension.analysis.statistics import REWARD_MODEL, TASK, membership
from rmtension.base.files import Columns, made_here, read_json, scan_table
from rmtension.base.sums import summable
from rmtension.neurons.ranking import NEURON, RANKINGS, SETS, STATISTICS, of_both_responses
from rmtension.study.data import MATCHED
from rmtension.study.measured import compared_in, matched_frozen, patched_on
from rmtension.study.naming import tension_sets_index
from rmtension.study.study import VALIDATION, Study

KEYS = [*REWARD_MODEL, "benchmark", "ablation", "comparison_id", *TASK]
# What is read of a scores file.
SCORES = {
    **dict.fromkeys(["ablation", "comparison_id", *TASK], pl.String()),
    **dict.fromkeys(["chosen_scores", "rejected_scores"], pl.List(pl.Float32())),
}
SIDES = ["chosen_scores", "rejected_scores"]
STYLES = 3  # of the responses on each side of RM-Bench
# Many rows repeat few words: as categories they take four bytes each.
CATEGORIES = cs.string().cast(pl.Categorical)
Frames = Iterable[pl.DataFrame]  # what belongs together, a part at a time
PATCHED = {"donor": pl.String(), **SCORES}
PRODUCTS = ["first_first", "second_second", "first_second", "square", "opposed"]
CONFLICTS = {
    **dict.fromkeys(["first", "second"], pl.String()),
    **dict.fromkeys(NEURON, pl.Int32()),
    **dict.fromkeys(PRODUCTS, pl.Float64()),
}
PAIRS_SEEN: Columns = dict.fromkeys(["model", "regime"], pl.String()) | {"seed": pl.Int64(), "pairs_seen": pl.Int64()}
LOUDNESS: Columns = dict.fromkeys(["model", "regime"], pl.String()) | {
    "seed": pl.Int64(),
    **dict.fromkeys([MATCHED, "shared"], pl.Float64()),
}
PLACE = dict.fromkeys(["benchmark", "comparison_id", *TASK], pl.String())
LENGTHS = PLACE | dict.fromkeys(["chosen_tokens", "rejected_tokens"], pl.List(pl.Int32()))
WORDS = PLACE | dict.fromkeys(["chosen_scores", "rejected_scores"], pl.List(pl.Float64()))
TEXTS = dict.fromkeys(["ablation", "comparison_id", *TASK], pl.String()) | {
    "n_tokens": pl.Int32(),
    "mean": pl.Float64(),
}


@dataclass(frozen=True)
class Files:
    """Frames of one file each, read when it is come to: all of them together would be gigabytes."""

    scans: Sequence[pl.LazyFrame]

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return (scan.collect() for scan in self.scans)


def same_style(comparisons: pl.LazyFrame, sides: Sequence[str]) -> pl.LazyFrame:
    """Response i against response i only, each a comparison of its own: how the authors read RM-Bench."""
    # Of what could not be scored there are no lists, and still as many comparisons.
    none = pl.concat_list([pl.lit(None)] * STYLES)
    comparisons = comparisons.with_columns(pl.col(sides).fill_null(none))
    style = pl.int_ranges(pl.col(sides[0]).list.len()).alias("style")
    lists = [pl.concat_list(side).alias(side) for side in sides]
    exploded = comparisons.with_columns(style).explode("style", *sides)
    return exploded.with_columns(*lists, comparison_id=pl.format("{}/{}", "comparison_id", "style")).drop("style")


def as_compared(comparisons: pl.LazyFrame, study: Study, sides: Sequence[str]) -> pl.LazyFrame:
    """Comparisons, of `benchmark`, in the form in which who judges them must be right: see analysis.rm_bench.

    sides: the columns of lists, of chosen and of rejected responses.
    """
    named = [name for name, benchmark in study.benchmarks.items() if benchmark.kind == "rm-bench"]
    if study.analysis.rm_bench == "strict" or not named:
        return comparisons
    is_paired = pl.col("benchmark").is_in(named)
    return pl.concat([comparisons.filter(~is_paired), same_style(comparisons.filter(is_paired), sides)])


def load_scores(folder: Path, study: Study) -> Frames:
    """Every score file of a study: model, regime, seed, benchmark, ablation, comparison_id, orientation, task; chosen,
    the lowest score of the chosen responses, and rejected, the highest of the rejected ones."""
    return Files([extremes(frame, study) for _, frame in scan_scores(folder, study, study.benchmarks)])


def load_lists(folder: Path, study: Study) -> pl.DataFrame:
    """What load_scores has, but chosen_scores and rejected_scores, of each reward model unablated, without its own top
    neurons, and without what a mixed one's parts share or have alone."""
    frames = []
    for regime, frame in scan_scores(folder, study, study.benchmarks):
        of = frame.filter(pl.col("ablation").is_in(listed(study, regime))).select(*KEYS, *SIDES)
        frames.append(of.with_columns(CATEGORIES))
    return pl.concat(frames).collect()


def scan_scores(folder: Path, study: Study, benchmarks: Iterable[str]) -> Iterator[tuple[str, pl.LazyFrame]]:
    """The regime of every score file of these benchmarks, and its rows."""
    for (model, regime, seed), benchmark in product(reward_models(study, study.regimes), benchmarks):
        path = folder / "scores" / model / regime / f"seed-{seed}" / f"{benchmark}.parquet"
        yield regime, scan(path, SCORES, model=model, regime=regime, seed=seed, benchmark=benchmark)


def extremes(scores: pl.LazyFrame, study: Study) -> pl.LazyFrame:
    """KEYS, chosen and rejected: the lowest score of chosen responses, and the highest of rejected ones."""
    lowest, highest = pl.col("chosen_scores").list.min(), pl.col("rejected_scores").list.max()
    found = as_compared(scores, study, SIDES).select(*KEYS, chosen=lowest, rejected=highest)
    return found.with_columns(CATEGORIES)


def load_patched(folder: Path, study: Study) -> Frames:
    """What load_scores has, of the mixed reward models that were patched: `ablation` is the donor's regime and the
    set's name, with a slash between them."""
    frames = []
    for (regime, benchmark), model, seed in product(patched_on(study), study.models, study.seeds):
        path = folder / "patched" / model / regime / f"seed-{seed}" / f"{benchmark}.parquet"
        frame = scan(path, PATCHED, model=model, regime=regime, seed=seed, benchmark=benchmark)
        named = frame.with_columns(ablation=pl.concat_str("donor", "ablation", separator="/"))
        frames.append(extremes(named, study))
    return Files(frames)


def load_conflicts(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seed, mixture (the mixed regime whose objectives and sets they are), set, control, layer;
    n_neurons and the sums of PRODUCTS over the set's neurons: of all layers (layer null), and under the set `all` of
    each.

    Draws of a control are taken together. Without rows where no gradients were compared.
    """
    keys = [*REWARD_MODEL, "mixture", "set", "control", "layer"]
    numbers = dict.fromkeys(["n_neurons", *PRODUCTS], pl.Float64())
    schema = dict.fromkeys(keys, pl.String()) | {"seed": pl.Int32(), "layer": pl.Int32()} | numbers
    frames = [pl.DataFrame(schema=schema)]
    for mixture in study.mixed_regimes() if study.conflict else []:
        mixes, sets = study.regimes[mixture].mixes, compared(study, mixture)
        for regime, model, seed in product(compared_in(study, mixture), study.models, study.seeds):
            path = folder / "conflicts" / model / regime / f"seed-{seed}.parquet"
            neurons = scan_table(path, CONFLICTS).filter(first=mixes[0], second=mixes[1]).collect()
            of_sets = folder / "selected" / model / mixture / f"seed-{seed}" / "sets.parquet"
            members = scan_table(of_sets, SETS).select("ablation", *NEURON).collect().join(sets, on="ablation")
            every = neurons.select(*NEURON, ablation=pl.lit("all"), set=pl.lit("all"), control=pl.lit("whole"))
            layers = summed(neurons, every, "layer")
            whole = summed(neurons, pl.concat([every, members.select(every.columns)]))
            both = pl.concat([whole, layers], how="diagonal")
            place = {"model": model, "regime": regime, "seed": seed, "mixture": mixture}
            named = both.with_columns(pl.lit(value).alias(name) for name, value in place.items())
            frames.append(named.select(pl.col(name).cast(kind) for name, kind in schema.items()))
    return pl.concat(frames)


def summed(neurons: pl.DataFrame, members: pl.DataFrame, *by: str) -> pl.DataFrame:
    """set, control, `by`; n_neurons, of one draw, and the sums of PRODUCTS over the members in all draws."""
    joined = members.join(neurons, on=NEURON, how="left", maintain_order="left")
    keys, group = membership(joined, ["set", "control", *by])
    draws = joined.group_by("set", "control", *by, maintain_order=True).agg(pl.col("ablation").n_unique())["ablation"]
    sums = {name: np.bincount(group, joined[name].to_numpy(), len(keys)) for name in PRODUCTS}  # in the order of rows
    return keys.with_columns(n_neurons=np.bincount(group, minlength=len(keys)) / draws, **sums)


def load_loudness(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seed, loudness: mean |a| of the neurons that a training held fixed as matched to shared ones, over
    that of the shared ones, by the statistics of both parts."""
    rows = []
    for model, regime, seed in matched_frozen(study):
        mixture = next(mixed for repair, mixed in study.repaired() if repair == regime)
        files = [folder / f"activations/{model}/{part}/seed-{seed}.parquet" for part in study.regimes[regime].mixes]
        both = pl.concat(scan_table(file, STATISTICS).select(*NEURON, "mean_abs") for file in files).collect()
        loud = of_both_responses(both, "neuron", "mean_abs")
        place = folder / f"selected/{model}"
        sets = {
            "shared": place / f"{mixture}/seed-{seed}/sets.parquet",
            MATCHED: place / f"{regime}/seed-{seed}/frozen.parquet",
        }
        held = {name: scan_table(file, SETS).filter(ablation=name).collect() for name, file in sets.items()}
        means = {name: loud.join(of, on=NEURON, how="semi")["mean_abs"].mean() for name, of in held.items()}
        rows.append((model, regime, seed, means[MATCHED], means["shared"]))
    frame = pl.DataFrame(rows, LOUDNESS, orient="row")
    return frame.select(*REWARD_MODEL, loudness=pl.col(MATCHED) / pl.col("shared"))


def load_pairs_seen(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seed, pairs_seen: in its training, once for each epoch; 0 where there was none, null where it was
    elsewhere. Without rows where nothing is repaired."""
    rows = []
    for model, regime, seed in reward_models(study, study.regimes if study.repaired() else []):
        place = folder / f"reward_models/{model}/{regime}/seed-{seed}/provenance.json"
        said, seen = read_json(place), None
        if "adopted" not in said:
            with made_here(place):
                seen = said["settings"]["epochs"] * said["pairs"]["train"] if "pairs" in said else 0
        rows.append((model, regime, seed, seen))
    return pl.DataFrame(rows, schema=PAIRS_SEEN, orient="row")


def reward_models(study: Study, regimes: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """model, regime, seed of every reward model of these regimes, in the study's order."""
    return product(study.models, regimes, study.seeds)


def scan(path: Path, columns: Columns, **keys: str | int) -> pl.LazyFrame:
    """A stage's parquet file with what it stands for as columns."""
    named = {name: pl.lit(value) for name, value in keys.items()}
    return scan_table(path, columns).select(*columns).with_columns(**named)


def load_stage(folder: Path, study: Study, stage: str, columns: Columns) -> list[pl.LazyFrame]:
    """The files of a stage that writes one for each reward model, with model, regime and seed as columns."""
    return [
        scan(folder / stage / model / regime / f"seed-{seed}.parquet", columns, model=model, regime=regime, seed=seed)
        for model, regime, seed in reward_models(study, study.with_neurons())
    ]


def load_validation(folder: Path, study: Study) -> pl.DataFrame:
    """What load_scores has with lists, of the regimes' validation splits under the name VALIDATION."""
    return pl.concat(of.with_columns(CATEGORIES) for _, of in scan_scores(folder, study, [VALIDATION])).collect()


def load_lengths(folder: Path, study: Study) -> pl.DataFrame:
    """model, benchmark, comparison_id, orientation, task, chosen_tokens, rejected_tokens (lists): how many tokens of
    its own each candidate has by each backbone's tokenizer."""
    frames = [scan(folder / "lengths" / f"{m}.parquet", LENGTHS, model=m) for m in study.models]
    return pl.concat(frames).collect()


def load_words(folder: Path, study: Study) -> pl.DataFrame:
    """regime, benchmark, comparison_id, orientation, task, chosen_scores, rejected_scores (lists): by the words that
    each regime's train pairs prefer; repairs have the pairs of what they repair."""
    frames = [scan(folder / "words" / f"{r}.parquet", WORDS, regime=r) for r in study.plain_regimes()]
    return pl.concat(frames).collect()


def load_texts(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seed, ablation (a set), comparison_id, orientation, task, n_tokens, mean: of each text of the own
    test split, its own tokens and the mean activation of the set's neurons on them."""
    return pl.concat(load_stage(folder, study, "set_activations", TEXTS)).collect()


def load_sizes(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seed, ablation, n_neurons: of every set that was selected; empty ones have no row."""
    by = [*REWARD_MODEL, "ablation"]
    sets = load_stage(folder, study, "selected", SETS)
    return pl.concat(Files([of.group_by(by, maintain_order=True).agg(n_neurons=pl.len()) for of in sets]))


def load_rankings(folder: Path, study: Study) -> Frames:
    """model, regime, seed, scoring, layer, neuron, score, rank: of every neuron or head under every scoring."""
    columns = [*REWARD_MODEL, "scoring", *NEURON, "score", "rank"]
    return Files([ranked.select(columns) for ranked in load_stage(folder, study, "neurons", RANKINGS)])


def load_activations(folder: Path, study: Study) -> Frames:
    """model, regime, seed, layer, neuron, response, mean."""
    columns = [*REWARD_MODEL, *NEURON, "response", "mean"]
    return Files([of.select(columns) for of in load_stage(folder, study, "activations", STATISTICS)])


def load_control_overlaps(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seed, set, share: how much of each matched control lies in the very set it is a control of."""
    scoring = study.ablation.scoring
    frames = []
    for model, regime, seed in reward_models(study, study.with_neurons()):
        index = tension_sets_index(study.regimes[regime].mixes, study.ablation.control_draws)
        matched = [
            (s.name, s.name.replace("-matched-", "-sized-"), s.set) for s in index if s.control == "matched-random"
        ]
        own = (study.ablation.matched_set, study.ablation.main_set, scoring)
        named = pl.LazyFrame([own, *matched], schema=["ablation", "target", "set"], orient="row")
        path = folder / "selected" / model / regime / f"seed-{seed}" / "sets.parquet"
        sets = scan(path, SETS, model=model, regime=regime, seed=seed)
        place = [*REWARD_MODEL, "layer", "neuron"]
        targets = sets.select(*place, target="ablation").with_columns(met=True)
        both = sets.join(named, on="ablation").join(targets, on=[*place, "target"], how="left")
        by_control = both.group_by(*REWARD_MODEL, "set", "ablation", maintain_order=True)
        frames.append(by_control.agg(share=100 * pl.col("met").is_not_null().mean()))
    by_set = pl.concat(frames).group_by(*REWARD_MODEL, "set", maintain_order=True)
    return by_set.agg(summable(pl.col("share")).mean()).collect()
