"""A change reruns what depends on it and nothing else. The study: 1 model, 3 regimes, 2 seeds, 2 benchmarks."""

from __future__ import annotations

import polars as pl
import pytest
from project import Project

ANALYSIS = {"tables": 1, "claims": 1, "figures": 1, "report_page": 1}
STUDY = {"cards": 1} | ANALYSIS  # what says what the study was
SCORING = {"activations": 6, "neurons": 6, "select_sets": 6, "select": 6, "evaluate": 12}
ALL = {"backbone": 1, "data": 3, "benchmark_comparisons": 1, "train": 6} | SCORING | STUDY

SETTINGS = {
    "nothing": ("name: small", "name: small", {}),
    "a comment": ("# A whole study", "# The whole study", {}),
    "a figure's style": ("ablation:", "figures: {palette: dark}\nablation:", {"figures": 1, "report_page": 1}),
    "another percentile": ("sweep: [5, 20]", "sweep: [5, 20, 30]", {"select": 6, "evaluate": 6} | STUDY),
    "size of the oriented sets": (
        "percent: 10", "percent: 15", {"select_sets": 6, "select": 6, "evaluate": 12} | STUDY,
    ),
    "another seed": (
        "seeds: [0, 7]", "seeds: [0, 7, 9]",
        {"train": 3, "activations": 3, "neurons": 3, "select_sets": 3, "select": 3, "evaluate": 6} | STUDY,
    ),
    "one seed fewer": ("seeds: [0, 7]", "seeds: [7]", STUDY),
    "epochs of one regime": (
        "{train: [safe], test: [safe], epochs: 1}", "{train: [safe], test: [safe], epochs: 2}",
        # The mixed reward models' sets depend on it, and with them their scores.
        {"train": 2, "activations": 2, "neurons": 2, "select_sets": 4, "select": 4, "evaluate": 8} | STUDY,
    ),
    "learning rate": ("learning_rate: 1e-3", "learning_rate: 2e-3", {"train": 6} | SCORING | STUDY),
    "which split chooses the checkpoint": (
        "max_tokens: 256", "max_tokens: 256, select_on: test", {"train": 6} | SCORING | STUDY,
    ),
    "more draws of the controls": (
        "control_draws: 1", "control_draws: 2", {"select_sets": 2, "select": 2, "evaluate": 4} | STUDY,
    ),
    "how tables are made": ("ablation:", "analysis: {draws: 99}\nablation:", STUDY),
    "how magnitude is measured": (
        "neurons: {", "neurons: {magnitude: mean, ",
        {"neurons": 6, "select_sets": 6, "select": 6, "evaluate": 12} | STUDY,
    ),
    "another benchmark": (
        "  own: {kind: regime-test}", "  own: {kind: regime-test}\n  more: {kind: synthetic, per_task: 2}",
        {"benchmark_comparisons": 1, "evaluate": 6} | STUDY,
    ),
    "a benchmark's size": ("per_task: 3", "per_task: 4", {"benchmark_comparisons": 1, "evaluate": 6} | STUDY),
    "memory asked for": ("mem_mb: 1000", "mem_mb: 1100", {}),
    "time between checkpoints": ("runtime: 5", "runtime: 5, checkpoint_minutes: 5", {}),
}  # fmt: skip

MODULES = {
    "figures": {"figures": 1, "report_page": 1},
    "report": {"report_page": 1},
    "tables": ANALYSIS,
    "neurons": {"neurons": 6, "select_sets": 6, "select": 6, "evaluate": 12} | ANALYSIS,
    "ablation": {"evaluate": 12} | ANALYSIS,
    "activations": SCORING | ANALYSIS,
    "training": {"train": 6} | SCORING | STUDY,
    "backbones": {"backbone": 1, "train": 6} | SCORING | STUDY,
    "synthetic": ALL,
    "packing": {"train": 6} | SCORING | STUDY,
}


@pytest.mark.parametrize("change", SETTINGS)
def test_a_changed_setting(project: Project, change: str) -> None:
    old, new, expected = SETTINGS[change]
    project.edit("small.yaml", old, new)
    assert project.planned() == expected


@pytest.mark.parametrize("module", MODULES)
def test_a_changed_module(project: Project, module: str) -> None:
    file = project.folder / "src" / "rmtension" / f"{module}.py"
    file.write_text(file.read_text() + "\n# changed\n")
    assert project.planned() == MODULES[module]


def test_a_touched_or_reverted_file_reruns_nothing(project: Project) -> None:
    for file in (project.folder / "src" / "rmtension").glob("*.py"):
        file.touch()
    assert project.planned() == {}


def test_another_number_of_cores_reruns_nothing(project: Project) -> None:
    assert project.planned("--cores", "1") == {}


@pytest.mark.parametrize(
    ("old", "new", "scores"),
    [
        ("sweep: [5, 20]", "sweep: [5, 20, 30]", "helpful/seed-0/own"),
        ("control_draws: 1", "control_draws: 2", "helpful-harmless/seed-7/tasks"),
    ],
)
def test_new_sets_compute_only_themselves(project: Project, old: str, new: str, scores: str) -> None:
    """Their scores are appended to the file that is there, and the file equals one made from nothing."""
    file = project.results / "scores" / "tiny" / f"{scores}.parquet"
    log = project.results / "logs" / "evaluate" / "tiny" / f"{scores}.log"
    target = str(file.relative_to(project.folder))

    def different() -> int:
        return pl.read_parquet(file)["fingerprint"].n_unique()

    before = different()
    project.edit("small.yaml", old, new)
    project.run(target)
    assert before < different()
    assert f"{different() - before} of {different()} different ablations to compute" in log.read_text()
    grown = file.read_bytes()
    file.unlink()
    project.run(target)
    assert f"{different()} of {different()} different ablations to compute" in log.read_text()
    assert file.read_bytes() == grown
