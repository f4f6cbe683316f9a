"""rewardbench's own evaluation of a saved reward model. Runs in rewardbench's environment."""

from __future__ import annotations

import runpy
from pathlib import Path
from unittest.mock import patch

import numpy as np
import transformers

from benchmarks.side import Measured, Stopwatch


def measured(folder: str, batch_size: int) -> Measured:
    """folder: of its data set, and of the reward model as `reward-model`."""
    load, work = Stopwatch(), Stopwatch()
    for kind in (transformers.AutoModelForSequenceClassification, transformers.AutoTokenizer):
        # Before rewardbench takes them.
        patch.object(kind, "from_pretrained", load.around(kind.from_pretrained)).start()
    script = Path("tests/interchange/with_rewardbench.py")
    evaluated = runpy.run_path(str(script))["evaluated"]
    with work:
        found = evaluated(folder, "reward-model", batch_size, "float32")
    scores = [[row["scores_chosen"], row["scores_rejected"]] for row in found["rows"]]
    return Measured(work.seconds - load.seconds, load.seconds, 0, {"score": np.array(scores).squeeze().ravel()})
