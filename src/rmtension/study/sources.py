"""Which sources of pairs make up the data of a regime."""

from __future__ import annotations

from typing import Literal

from rmtension.study.data import RegimeData
from rmtension.study.study import Study


def regime_sources(study: Study, regime: str, split: Literal["train", "test"]) -> list[str]:
    """Names of the sources that make up a split; a mixed regime's are those of both its parts."""
    mixes = study.regimes[regime].mixes
    parts = [name for part in mixes for name in regime_sources(study, part, split)]
    return list(dict.fromkeys(parts)) if mixes else list(getattr(study.regimes[regime], split))


def objectives_of_sources(study: Study, regime: str) -> dict[str, str]:
    """Of a mixed regime, each source to train on -> the part that it is of, the first one if both have it."""
    parts = reversed(study.regimes[regime].mixes)
    return {source: part for part in parts for source in regime_sources(study, part, "train")}


def regime_data(study: Study, regime: str) -> RegimeData:
    train, test = regime_sources(study, regime, "train"), regime_sources(study, regime, "test")
    names = list(dict.fromkeys(train + test))
    users = {r: study.regimes[r].train + study.regimes[r].test for r in study.single_regimes()}
    return RegimeData(
        sources={name: study.sources[name].cached(study.hub_cache) for name in names},
        orientations={name: next(r for r, used in users.items() if name in used) for name in names},
        train=train,
        test=test,
        validation=study.validation,
        data_root=study.data_root,
    )
