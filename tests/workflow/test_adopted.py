"""Reward models that were trained elsewhere take their places in a study."""

from __future__ import annotations

import shutil

import polars as pl
from project import Project
from test_rerun import STUDY

from rmtension.running.lineage import Lineage
from rmtension.running.shown import origins

COMPUTE = "compute: {mem_mb: 1000, runtime: 5}"


def test_one_adopted_reward_model_among_trained_ones(project: Project) -> None:
    """What the study trained under seed 0 comes back from elsewhere as seed 7."""
    reward_models = project.results / "reward_models/tiny/helpful"
    shutil.copytree(reward_models / "seed-0", project.folder / "elsewhere/rm")
    trained = "trained: {helpful: {7: elsewhere/rm}}"
    project.edit("small.yaml", COMPUTE, f"{COMPUTE}\n    {trained}")
    # The mixed reward model of that seed has its sets by it.
    rest = {"activations": 1, "neurons": 1, "select_sets": 2, "select": 2, "set_activations": 2, "evaluate": 6}
    rest |= {"conflict": 1, "patch": 2}
    assert project.planned() == {"adopt": 1} | rest | STUDY
    scores = [f"results/small/scores/tiny/helpful/seed-7/{name}.parquet" for name in ("own", "tasks")]
    project.run(*scores, *(f"results/small/tables/{card}_card.csv" for card in ("data", "training")))
    assert (reward_models / "seed-7/model.safetensors").samefile(project.folder / "elsewhere/rm/model.safetensors")
    links = origins(Lineage(reward_models / "seed-7")).rows()
    assert ("adopt", "tiny, helpful, 7", f"links to {project.folder / 'elsewhere/rm'}") in links
    for benchmark in ("own", "tasks"):
        one, other = (
            pl.read_parquet(project.results / f"scores/tiny/helpful/seed-{seed}/{benchmark}.parquet") for seed in (0, 7)
        )
        whole = [frame.filter(ablation="none").drop("fingerprint") for frame in (one, other)]
        assert whole[0].equals(whole[1])
    card = pl.read_parquet(project.results / "tables/training_card.parquet")
    assert card.select("regime", "seeds", "adopted").rows()[0] == ("helpful", "0, 7", "7")
    assert set(card["adopted"][1:]) == {""}
    assert project.planned().keys().isdisjoint({"adopt", "train", "cards"})

    project.edit("small.yaml", trained, "trained: {}")
    assert project.planned() == {"train": 1} | rest | STUDY


def test_a_reward_model_that_cannot_be_adopted_is_one_line(project: Project) -> None:
    project.edit("small.yaml", COMPUTE, f"{COMPUTE}\n    trained: {{helpful: {{7: results}}}}")
    done = project.snakemake("--cores", "2")
    assert done.returncode == 1
    assert "error: results: no *.safetensors: give it weights" in done.stderr
