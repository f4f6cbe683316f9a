"""A change reruns what depends on it and nothing else. The study: 1 model, 3 regimes, 2 seeds, 2 benchmarks."""

from __future__ import annotations

import pytest
from project import Project

ANALYSIS = {"tables": 1, "figures": 1, "report_page": 1}
SCORING = {"activations": 6, "neurons": 6, "select_sets": 6, "select": 6, "evaluate": 12}
ALL = {"backbone": 1, "data": 3, "benchmark_comparisons": 1, "train": 6} | SCORING | ANALYSIS

SETTINGS = {
    "nothing": ("name: small", "name: small", {}),
    "a comment": ("# A whole study", "# The whole study", {}),
    "a figure's style": ("ablation:", "figures: {palette: dark}\nablation:", {"figures": 1, "report_page": 1}),
    "another percentile": ("sweep: [5, 20]", "sweep: [5, 20, 30]", {"select": 6, "evaluate": 6} | ANALYSIS),
    "size of the oriented sets": (
        "percent: 10", "percent: 15", {"select_sets": 6, "select": 6, "evaluate": 12} | ANALYSIS,
    ),
    "another seed": (
        "seeds: [0, 7]", "seeds: [0, 7, 9]",
        {"train": 3, "activations": 3, "neurons": 3, "select_sets": 3, "select": 3, "evaluate": 6} | ANALYSIS,
    ),
    "one seed fewer": ("seeds: [0, 7]", "seeds: [7]", ANALYSIS),
    "epochs of one regime": (
        "{train: [safe], test: [safe], epochs: 1}", "{train: [safe], test: [safe], epochs: 2}",
        # The mixed reward models' sets depend on it, and with them their scores.
        {"train": 2, "activations": 2, "neurons": 2, "select_sets": 4, "select": 4, "evaluate": 8} | ANALYSIS,
    ),
    "learning rate": ("learning_rate: 1e-3", "learning_rate: 2e-3", {"train": 6} | SCORING | ANALYSIS),
    "how magnitude is measured": (
        "ablation:", "neurons: {magnitude: mean}\nablation:",
        {"neurons": 6, "select_sets": 6, "select": 6, "evaluate": 12} | ANALYSIS,
    ),
    "another benchmark": (
        "  own: {kind: regime-test}", "  own: {kind: regime-test}\n  more: {kind: synthetic, per_task: 2}",
        {"benchmark_comparisons": 1, "evaluate": 6} | ANALYSIS,
    ),
    "a benchmark's size": ("per_task: 3", "per_task: 4", {"benchmark_comparisons": 1, "evaluate": 6} | ANALYSIS),
    "memory asked for": ("mem_mb: 1000", "mem_mb: 1100", {}),
}  # fmt: skip

MODULES = {
    "figures": {"figures": 1, "report_page": 1},
    "report": {"report_page": 1},
    "tables": {"tables": 1, "figures": 1, "report_page": 1},
    "neurons": {"neurons": 6, "select_sets": 6, "select": 6, "evaluate": 12} | ANALYSIS,
    "ablation": {"evaluate": 12} | ANALYSIS,
    "activations": SCORING | ANALYSIS,
    "training": {"train": 6} | SCORING | ANALYSIS,
    "backbones": {"backbone": 1, "train": 6} | SCORING | ANALYSIS,
    "synthetic": ALL,
    "packing": {"train": 6} | SCORING | ANALYSIS,
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


def test_a_new_percentile_computes_only_itself(project: Project) -> None:
    """Its scores are appended to the file that is there, and the file equals one made from nothing."""
    scores = project.results / "scores" / "tiny" / "helpful" / "seed-0" / "own.parquet"
    log = project.results / "logs" / "evaluate" / "tiny" / "helpful" / "seed-0" / "own.log"
    project.edit("small.yaml", "sweep: [5, 20]", "sweep: [5, 20, 30]")
    target = str(scores.relative_to(project.folder))
    project.run(target)
    assert "3 of 13 ablations to compute" in log.read_text()
    grown = scores.read_bytes()
    scores.unlink()
    project.run(target)
    assert "13 of 13 ablations to compute" in log.read_text()
    assert scores.read_bytes() == grown
