"""Which files each kind of model and data reads, of a folder or of the hub.

These are linked, fetched and compared, and make jobs run again; nothing else that lies beside them counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Of a model: no code, no pickles, no weights in a second precision, no adapter. Shards go by the names that INDEX has.
MODEL = (
    WEIGHTS, INDEX, "config.json", "config.*.json", "tokenizer.json", "tokenizer.*.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.model",
    "chat_template.jinja",
)  # fmt: skip
SPLITS = {split: (f"{split}.jsonl", f"{split}.jsonl.gz") for split in ("train", "test")}  # of one folder of HH-RLHF
# Kind -> patterns of its files, from the root of the repository; of a user's own, the study names the files.
READS = {
    "pretrained": MODEL,
    "hh-rlhf": tuple(f"*/{name}" for names in SPLITS.values() for name in names),
    "reward-bench": ("data/filtered-*.parquet",),
    "reward-bench-2": ("data/test-*.parquet",),
    "rm-bench": ("total_dataset.json",),
    "rmb-pairwise": ("**/Pairwise_set/**/*.json",),
    "rmb-best-of-n": ("**/BoN_set/**/*.json",),
    "own": (),
}
HIDDEN = re.compile(r"(^|/)\.")  # such as .git, or what a Mac writes beside each file


def matches(file: str, pattern: str) -> bool:
    """Whether a path matches a pattern: `*` is all but a slash, `**/` any folders or none. Nothing hidden matches."""
    regex = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(regex, file) is not None and not HIDDEN.search(file)


def found(place: Path, patterns: Iterable[str]) -> list[Path]:
    """The files of a folder that match one of the patterns; a file stands for itself."""
    if not place.is_dir():
        return [place]
    files = {file for pattern in patterns for file in place.glob(pattern) if file.is_file()}
    return sorted(file for file in files if not HIDDEN.search(str(file.relative_to(place))))


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
    """Configuration, tokenizer and weights in a model's folder; of several weights those that are loaded."""
    files = found(folder, MODEL)
    names = set() if folder / WEIGHTS in files else shards(folder / INDEX)
    return sorted({*files, *(folder / name for name in names if (folder / name).is_file())})
