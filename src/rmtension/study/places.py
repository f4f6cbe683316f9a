"""What a study reads, and where that lies."""

from __future__ import annotations

from pathlib import Path

from rmtension.study.benchmarks import PUBLISHED, Benchmark, OwnBenchmark
from rmtension.study.data import HHPairs, OwnPairs, PairSource
from rmtension.study.inputs import HH_PAIRS, MODEL
from rmtension.study.models import BackboneSource, GgufModel
from rmtension.study.section import Located
from rmtension.study.study import Study

MODELS = ("pretrained", "given")  # kinds that are models on the hub

# Kind -> patterns of the files that it reads, from the root of a repository.
READS = {
    **dict.fromkeys(MODELS, MODEL),
    "hh-rlhf": HH_PAIRS,
    **{kind: upstream.files for kind, upstream in PUBLISHED.items()},
}


def adopted(study: Study) -> dict[tuple[str, str, int], Path]:
    """Model, regime and seed of each reward model that was trained elsewhere -> its folder."""
    return {
        (name, regime, seed): Path(study.data_root) / folder
        for name, model in study.models.items()
        for regime, folders in model.trained.items()
        for seed, folder in folders.items()
    }


def origins(study: Study) -> dict[str, BackboneSource | PairSource | Benchmark]:
    """Key of the study file -> part that says where models and data come from."""
    models = {f"models.{name}.source": model.source for name, model in study.models.items()}
    sources = {f"sources.{name}": source for name, source in study.sources.items()}
    benchmarks = {f"benchmarks.{name}": benchmark for name, benchmark in study.benchmarks.items()}
    return models | sources | benchmarks


def from_hub(study: Study) -> dict[str, Located]:
    """Key of the study file -> part that is read from the hub."""
    return {key: part for key, part in origins(study).items() if isinstance(part, Located) and part.hub}


def fetched(study: Study) -> dict[str, Path]:
    """Key of the study file -> checksums of what it reads from the hub."""
    return {key: part.checksums(study.data_root, study.hub_cache) for key, part in from_hub(study).items()}


def local_paths(study: Study) -> dict[str, tuple[Path, str]]:
    """Key of the study file -> what it names, and whether that is to be a file, a folder, or either."""
    paths = {f"models.{m}.trained.{r}.{seed}": (folder, "folder") for (m, r, seed), folder in adopted(study).items()}
    root = Path(study.data_root)
    for key, section in origins(study).items():
        if isinstance(section, Located | GgufModel) and section.path is not None:
            paths[f"{key}.path"] = root / section.path, NAMES_A.get(section.kind, "file or folder")
            if isinstance(section, HHPairs):
                paths[f"{key}.folder"] = root / section.path / section.folder, "folder"
    return paths | {key: (path, "file or folder") for key, (path, _) in own_data(study).items()}


def own_data(study: Study) -> dict[str, tuple[Path, str]]:
    """Key of the study file -> file or folder of shards of a user's own, and the split that it is, if it is one."""
    root = Path(study.data_root)
    own: dict[str, tuple[Path, str]] = {}
    for key, section in origins(study).items():
        if isinstance(section, OwnPairs):
            places = {"train": section.train, "test": section.test}
            own |= {f"{key}.{split}": (root / place, split) for split, place in places.items() if place}
        elif isinstance(section, OwnBenchmark):
            own[f"{key}.path"] = root / section.path, ""
    return own


NAMES_A = {**dict.fromkeys((*MODELS, "hh-rlhf"), "folder"), "gguf": "file"}  # kind -> what `path` is to be
