"""Pickled weights as safetensors: read as tensors alone, so that no code in them is run, and written beside them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rmtension.base.errors import UserError
from rmtension.base.files import cause_of, refuse_pointer, replacing, write_text
from rmtension.engine.kinds import settings_of
from rmtension.study.inputs import INDEX, WEIGHTS

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def pickles(folder: Path) -> dict[str, Path]:
    """The name that each file of pickled weights gets -> that file; UserError where none is there, or not all."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if (folder / PICKLE).exists():
        return {WEIGHTS: folder / PICKLE}
    shards = settings_of(folder / PICKLE_INDEX).get("weight_map", {})
    files = [folder / name for name in sorted({*shards.values()})]
    if not files:
        raise UserError(f"{folder}: neither {PICKLE} nor {PICKLE_INDEX}: nothing to convert")
    for file in files:
        if not file.exists():
            raise UserError(f"{folder}: {file.name}, which {PICKLE_INDEX} names, is missing")
    return {file.name.replace("pytorch_model", "model", 1).replace(".bin", ".safetensors"): file for file in files}


def read_pickle(file: Path) -> dict[str, Tensor]:
    """The tensors of one file, each with memory of its own; UserError where it holds anything else."""
    refuse_pointer(file)
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError:
        raise UserError(f"{file}: more than tensors is pickled in it, which could run code: it is not read") from None
    except Exception as error:
        raise UserError(f"{file}: it cannot be read ({cause_of(error)}); give it whole") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{file}: not a mapping of names to tensors, which the weights of a model are")
    return {name: tensor.contiguous().clone() for name, tensor in content.items()}


def convert(folder: Path) -> list[Path]:
    """Write the pickled weights of a model's folder beside them as safetensors: the same tensors under the same names.

    The files that are written, the index of several among them, last. UserError where there are safetensors already.
    """
    if present := sorted(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: {present[0].name} is there already: remove it if it is not meant")
    written: list[Path] = []
    weight_map: dict[str, str] = {}
    size = 0
    try:
        for name, file in pickles(folder).items():
            tensors = read_pickle(file)
            with replacing(folder / name) as temporary:
                save_file(tensors, temporary, metadata={"format": "pt"})
            written.append(folder / name)
            weight_map |= dict.fromkeys(tensors, name)
            size += sum(tensor.nbytes for tensor in tensors.values())
    except BaseException:
        for file in written:  # a part of a model is none
            file.unlink()
        raise
    if [file.name for file in written] != [WEIGHTS]:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        write_text(json.dumps(index, indent=2) + "\n", folder / INDEX)
        written.append(folder / INDEX)
    return written
