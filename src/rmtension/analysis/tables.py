"""The study's tables: long frames, one function each, from what its jobs have left.

`{x}_mean` and `{x}_sd` are mean and population standard deviation over seeds, `{x}_low` and `{x}_high` the limits of a
hierarchical bootstrap interval, `n_seeds` the seeds with a value; rows of the model "all models" are plain means over
models. Accuracies are in percent, their differences (delta, difference) in points; p is a two-sided bootstrap p-value
and q the same adjusted over the tasks of a row group. Task tables leave the regimes' own test splits out, as no two
regimes share them, and have for each orientation a row of task "average". Each is made by a function in the module of
its subject, and has a line in TABLES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from rmtension.analysis.ablation_tables import (
    ablation_curve_table,
    control_overlap_table,
    own_ablation_table,
    scoring_contrasts_table,
    set_size_table,
    shared_ablation_table,
    shared_contrasts_table,
)
from rmtension.analysis.accuracy_tables import (
    accuracy_table,
    benchmark_accuracy_table,
    contrasts_table,
    model_contrasts_table,
    official_table,
)
from rmtension.analysis.calibration_tables import calibration_contrasts_table, calibration_table, reliability_table
from rmtension.analysis.compatibility import compatibility_table
from rmtension.analysis.conflict_tables import (
    conflict_contrasts_table,
    conflict_layers_table,
    conflict_table,
)
from rmtension.analysis.length_tables import (
    length_change_table,
    length_contrasts_table,
    length_correlation_table,
    length_lead_table,
    length_table,
    set_length_table,
    surface_table,
)
from rmtension.analysis.mixed_tables import agreement_table, retention_table
from rmtension.analysis.neuron_tables import (
    depth_table,
    neuron_overlap_table,
    neuron_retention_table,
    rmsd_table,
    stability_table,
    top_neurons_table,
)
from rmtension.analysis.patching_tables import patching_contrasts_table, patching_table
from rmtension.analysis.published import twin
from rmtension.analysis.repair_tables import repair_contrasts_table, repair_table
from rmtension.analysis.results import Results
from rmtension.analysis.score_tables import compression_table, score_histogram_table, score_shift_table
from rmtension.analysis.tension_tables import tension_table
from rmtension.analysis.thirds_tables import thirds_table


def published_table(tables: Mapping[str, pl.DataFrame], results: Results) -> pl.DataFrame:
    """table (of this study), model, regime, ablation, single, orientation, task, quantity; the paper's figure of the
    same cell (published), ours with the limits of our interval (low, high), their difference, whether the published one
    lies inside ours, and note, what keeps the two from being of one thing: the published sets are made by signed mean
    activations, and stand beside our scoring `mean` where the study has it. Retention under ablation is not as printed
    but un-mixed (docs/replication-audit.md). Only models, regimes, sets and tasks that are the paper's: empty in other
    studies."""
    return twin(tables, results.study)


TABLES: dict[str, Callable[[Results], pl.DataFrame]] = {
    "benchmark_accuracy": benchmark_accuracy_table,
    "accuracy": accuracy_table,
    "contrasts": contrasts_table,
    "model_contrasts": model_contrasts_table,
    "retention": retention_table,
    "agreement": agreement_table,
    "score_shift": score_shift_table,
    "ablation_curve": ablation_curve_table,
    "scoring_contrasts": scoring_contrasts_table,
    "depth": depth_table,
    "top_neurons": top_neurons_table,
    "rmsd": rmsd_table,
    "neuron_overlap": neuron_overlap_table,
    "neuron_retention": neuron_retention_table,
    "stability": stability_table,
    "own_ablation": own_ablation_table,
    "compression": compression_table,
    "score_histogram": score_histogram_table,
    "shared_ablation": shared_ablation_table,
    "shared_contrasts": shared_contrasts_table,
    "tension": tension_table,
    "control_overlap": control_overlap_table,
    "set_size": set_size_table,
    "thirds": thirds_table,
    "patching": patching_table,
    "patching_contrasts": patching_contrasts_table,
    "conflict": conflict_table,
    "conflict_contrasts": conflict_contrasts_table,
    "conflict_layers": conflict_layers_table,
    "repair": repair_table,
    "repair_contrasts": repair_contrasts_table,
    "official": official_table,
    "surface": surface_table,
    "length": length_table,
    "length_contrasts": length_contrasts_table,
    "length_change": length_change_table,
    "length_correlation": length_correlation_table,
    "length_lead": length_lead_table,
    "set_length": set_length_table,
    "calibration": calibration_table,
    "calibration_contrasts": calibration_contrasts_table,
    "reliability": reliability_table,
}
# Made from other tables.
DERIVED: dict[str, Callable[[Mapping[str, pl.DataFrame], Results], pl.DataFrame]] = {
    "compatibility": compatibility_table,
    "published": published_table,
}


def make_tables(results: Results) -> dict[str, pl.DataFrame]:
    """Every table of the study but its cards, by name."""
    tables = {name: table(results) for name, table in TABLES.items()}
    return tables | {name: table(tables, results) for name, table in DERIVED.items()}
