"""What is reckoned of single pairs of responses, once for all tables that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import polars.selectors as cs

from rmtension.analysis.calibration import calibrated, curves, fitted
from rmtension.analysis.length import COUNTED, by_length, length_correlations, set_correlations
from rmtension.analysis.loading import as_compared
from rmtension.analysis.pairs import PairBlock, pair_blocks
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Bootstrap, Draws, concat
from rmtension.analysis.surface import ruled
from rmtension.study.measured import own_tests
from rmtension.study.naming import AVERAGE, UNORIENTED
from rmtension.study.study import Study


@dataclass(frozen=True)
class PairFigures:
    """lists: see load_scores; lengths, words, validation, texts: see the function load_NAME."""

    study: Study
    bootstrap: Bootstrap
    lists: pl.DataFrame
    lengths: pl.DataFrame
    words: pl.DataFrame
    validation: pl.DataFrame
    texts: pl.DataFrame

    @cached_property
    def blocks(self) -> list[PairBlock]:
        return pair_blocks(self.lists)

    @cached_property
    def main_blocks(self) -> list[PairBlock]:
        """Of reward models unablated, and without their own main set."""
        return self.blocks_of("none", self.study.ablation.main_set)

    def blocks_of(self, *ablations: str) -> list[PairBlock]:
        return [block.of_units(pl.col("ablation").is_in(ablations)) for block in self.blocks]

    @cached_property
    def length(self) -> Mapping[str, Draws]:
        """Balanced accuracy and COUNTED."""
        return self.by_length("balanced", *COUNTED)

    def by_length(self, *names: str) -> Mapping[str, Draws]:
        """Some of length.by_length: of all ablations, on the oriented tasks that regimes share, and over an
        orientation's tasks the averages of accuracies and the sums of numbers. Empty where a study has none."""
        own = own_tests(self.study)
        shared = [b for b in self.blocks if b.benchmark not in own and b.orientation != UNORIENTED]
        found = by_length(self.bootstrap, shared or [self.blocks[0].of_units(pl.lit(False))], self.lengths)
        by = [*REWARD_MODEL, "ablation"]
        kept = {name: found[name] for name in names}
        return {name: with_sums(of, by) if name in COUNTED else of.with_averages(by) for name, of in kept.items()}

    @cached_property
    def own_balanced(self) -> Draws:
        """Balanced accuracy (see length.by_length) of reward models unablated on each source of the test splits."""
        own = [block for block in self.blocks_of("none") if block.benchmark in own_tests(self.study)]
        none = [self.blocks[0].of_units(pl.lit(False))]
        return by_length(self.bootstrap, own or none, self.lengths)["balanced"]

    @cached_property
    def length_correlations(self) -> Draws:
        """See length.length_correlations: of reward models unablated, each on the tasks that it is judged on."""
        on = [*REWARD_MODEL, "benchmark", *TASK]
        judged = self.lists.filter(ablation="none").select(on).unique(maintain_order=True)
        found = length_correlations(self.bootstrap, self.blocks_of("none"), self.lengths)
        return found.joined(judged.cast({cs.categorical(): pl.String}), on)

    @cached_property
    def rules(self) -> pl.DataFrame:
        """Scores of the rules (see surface.ruled) on the comparisons that reward models are judged on."""
        tokens, scores = ["chosen_tokens", "rejected_tokens"], ["chosen_scores", "rejected_scores"]
        read = (self.lengths, tokens), (self.words, scores)
        return ruled(*(as_compared(frame.lazy(), self.study, sides).collect() for frame, sides in read))

    @cached_property
    def calibration(self) -> Mapping[str, Draws]:
        blocks = pair_blocks(self.validation) or [self.main_blocks[0].without_pairs()]
        temperature = fitted(self.bootstrap, blocks)
        return calibrated(self.bootstrap, self.main_blocks, temperature)

    def curves(self) -> Mapping[str, Draws]:
        return curves(self.bootstrap, self.main_blocks)

    @cached_property
    def set_correlations(self) -> Draws:
        return set_correlations(self.bootstrap, self.texts, next(iter(own_tests(self.study)), "own test"))


def with_sums(counts: Draws, by: list[str]) -> Draws:
    """Numbers of each task, over the benchmarks that it is in, and of all tasks of an orientation together."""
    tasks, _ = counts.summed([*by, *TASK])
    averages, _ = counts.summed([*by, "orientation"])
    return concat([tasks, averages.with_columns(pl.lit(AVERAGE).alias("task"))])
