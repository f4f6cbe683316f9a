"""Which files each kind of model and data reads, of a folder or of the hub.

These are linked, fetched and compared, and make jobs run again; nothing else that lies beside them counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from rmtension.base.errors import UserError
from rmtension.base.files import is_there

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Of a model: no code, no pickles, no weights in a second precision, no adapter. Shards go by the names that INDEX has.
MODEL = (
    WEIGHTS, INDEX, "config.json", "config.*.json", "tokenizer.json", "tokenizer.*.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.model",
    "chat_template.jinja",
)  # fmt: skip
GIVEN = "given.json"  # beside these, of a given reward model: how its study says that it is to be read
SPLITS = {split: (f"{split}.jsonl", f"{split}.jsonl.gz") for split in ("train", "test")}  # of one folder of HH-RLHF
HH_PAIRS = tuple(f"*/{name}" for names in SPLITS.values() for name in names)  # of the whole data set
HIDDEN = re.compile(r"(^|/)\.")  # such as .git, or what a Mac writes beside each file


def matches(file: str, pattern: str) -> bool:
    """Whether a path matches a pattern: `*` is all but a slash, `**/` any folders or none. Nothing hidden matches."""
    regex = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(regex, file) is not None and not HIDDEN.search(file)


def found(place: Path, patterns: Iterable[str]) -> list[Path]:
    """The files of a folder that match one of the patterns; a file stands for itself.

    UserError where one is a link to nothing.
    """
    if not place.is_dir():
        return [place]
    # A plain name is looked for by itself, as globbing passes over one that is a link to nothing.
    paths = {path for name in patterns for path in (place.glob(name) if "*" in name else [place / name])}
    return sorted(path for path in paths if not HIDDEN.search(str(path.relative_to(place))) and is_there(path))


# --- data in shards -------------------------------------------------------------------------------------------

SHARD = re.compile(r"([^.].*)-(\d{5})-of-(\d{5})(\.(?:parquet|pq|jsonl?(?:\.gz)?))", re.IGNORECASE)
OTHER_SPLIT = {"train": "test", "test": "train"}


def data_files(path: Path, split: str = "") -> list[Path]:
    """The file itself; of a folder, the shards of its one data set, or of that whose name begins with the split's.

    Raises UserError where it is not clear which those are, or one is missing.
    """
    if not path.is_dir():
        return [path]
    sets = by_set(path.iterdir())
    names = [name for name in sets if name.name.startswith(split)] if len(sets) > 1 else list(sets)
    if len(names) != 1 or names[0].name.startswith(OTHER_SPLIT.get(split, "/")):
        wanted = f"{split or 'NAME'}-00000-of-00002.parquet"
        there = ", ".join(sorted(name.name for name in sets)) or "none"
        raise UserError(f"{path}: a folder without the shards of just one data set, such as {wanted}; found {there}")
    return whole_sets(sets[names[0]])


def by_set(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Those files that are shards NAME-00000-of-00002.FORM, in order, by their NAME."""
    sets: dict[Path, list[Path]] = {}
    for file in sorted(files):
        if shard := SHARD.fullmatch(file.name):
            sets.setdefault(file.parent / shard[1], []).append(file)
    return sets


def whole_sets(files: Iterable[Path]) -> list[Path]:
    """The files in order; UserError where some are shards, and not just all those of one division."""
    in_order = sorted(files)
    for name, given in by_set(in_order).items():
        first = SHARD.fullmatch(given[0].name)
        assert first is not None
        whole = [Path(f"{name}-{number:05d}-of-{first[3]}{first[4]}") for number in range(int(first[3]))]
        for file in [*given, *whole]:
            if file not in whole:
                raise UserError(f"{file}: not of the same division as {given[0].name}; keep the shards of one")
            if file not in given:
                raise UserError(f"{file}: this shard is missing; the others of its folder are there")
    return in_order


# --- models ---------------------------------------------------------------------------------------------------


class Index(BaseModel):
    """Of weights in several files."""

    weight_map: dict[str, Annotated[str, Field(pattern=r"^[^/]+\.safetensors$")]]  # tensor -> file


def shards(index: Path) -> set[str]:
    """Names of the files that an index tells of; none where it is no index, which loading the weights then says."""
    try:
        return set(Index.model_validate_json(index.read_bytes()).weight_map.values())
    except (OSError, ValueError):
        return set()


def model_files(folder: Path) -> list[Path]:
    """Configuration, tokenizer and weights in a model's folder; of several weights those that are loaded.

    UserError where one is a link to nothing.
    """
    return sorted({*found(folder, MODEL), *weight_files(folder)})


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that transformers reads of a model's folder, in its order: of equal names the last counts.

    UserError where one is a link to nothing.
    """
    whole = folder / WEIGHTS
    if is_there(whole):
        return [whole]
    return [*filter(is_there, (folder / name for name in sorted(shards(folder / INDEX))))]
