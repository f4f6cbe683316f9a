"""A rule without a model: which words the candidates have (docs/methods.md, section 10)."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import vstack
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

logger = logging.getLogger(__name__)

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")  # letters, with apostrophes inside
APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]  # C, from the strongest penalty to the weakest
SIDES = ("chosen", "rejected")
SCORES = dict.fromkeys(["chosen_scores", "rejected_scores"], pl.List(pl.Float64()))

Weights = NDArray[np.float64]


def own_words(texts: Sequence[str]) -> list[list[str]]:
    """The words of each candidate of a comparison behind those that all of them begin with."""
    words = [WORD.findall(text.lower().replace(APOSTROPHE, "'")) for text in texts]
    first, last = min(words), max(words)  # in the order of dictionaries, so what they share, all share
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return [of_one[shared:] for of_one in words]


def counts(comparisons: pl.DataFrame) -> Iterator[Counter[str]]:
    """own_words counted, candidate by candidate, chosen before rejected."""
    for chosen, rejected in comparisons.select(SIDES).iter_rows():
        yield from map(Counter, own_words([*chosen, *rejected]))


class WordModel(NamedTuple):
    """A text scores the sum over its words of weight · log(1 + count); words of no training pair count for nothing."""

    words: DictVectorizer
    weights: Weights  # [words]

    @classmethod
    def fitted(cls, train: pl.DataFrame, validation: pl.DataFrame) -> Self:
        """Weights from the pairs of `train`, of the strength under which those of `validation` are likeliest.

        All are zero, with a warning, where no word tells a chosen text of `train` from its rejected one.
        """
        words = DictVectorizer(dtype=np.float64)
        differences = of_pairs(words.fit_transform(counts(train)).log1p())
        model = cls(words, np.zeros(differences.shape[1]))
        if not differences.count_nonzero():
            logger.warning("no word tells chosen texts from rejected ones: all scores are zero")
            return model
        held = of_pairs(model.features(validation))
        with threadpool_limits(1):  # more would change the order of sums, and so their last digits
            path = [(float(np.logaddexp(0, -held @ w).mean()), c, w) for c, w in fits(differences)]
        loss, strength, weights = min(path, key=lambda one: one[0])  # of equals the first, which is the strongest
        logger.info("%d words, C = %g, validation: %.4f nats a pair", len(weights), strength, loss)
        return model._replace(weights=weights)

    def features(self, comparisons: pl.DataFrame) -> Any:
        """log(1 + count) [candidates, words], sparse."""
        return self.words.transform(counts(comparisons)).log1p()

    def scores(self, comparisons: pl.DataFrame) -> pl.DataFrame:
        """What comparisons have beside their texts, and SCORES."""
        values = iter((self.features(comparisons) @ self.weights).tolist())
        sizes = comparisons.select(pl.col(SIDES).list.len()).iter_rows()
        rows = [[list(islice(values, n)) for n in both] for both in sizes]
        return comparisons.drop(SIDES).hstack(pl.DataFrame(rows, SCORES, orient="row"))


def word_scores(train: pl.DataFrame, validation: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """Comparisons scored by the words that other pairs prefer: see WordModel."""
    return WordModel.fitted(train, validation).scores(judged)


def of_pairs(features: Any) -> Any:
    """Features of chosen minus rejected [pairs, words]; features: [texts of pairs, words]."""
    return features[::2] - features[1::2]


def fits(differences: Any) -> Iterator[tuple[float, Weights]]:
    """Each of STRENGTHS, and the weights w of least |w|^2 / 2 + C * sum of log(1 + exp(-w * difference)) over pairs."""
    # The library wants two classes: a row of zeros is as likely in either, whatever the weights.
    rows, labels = vstack([differences, 0 * differences[:1]]), [1] * differences.shape[0] + [0]
    model = LogisticRegression(solver="newton-cg", fit_intercept=False, warm_start=True, tol=1e-6)
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(rows, labels)
        yield strength, model.coef_[0].copy()
