"""What the parts of a study file have in common: names, numbers and places, and how a part is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)


def six_digits(percent: float) -> float:
    """Names of sets have no more: two sizes must not share one."""
    if float(f"{percent:g}") != percent:
        raise ValueError(f"more than six digits; give {percent:g}")
    return percent


def machine_integer(number: int) -> int:
    if number >= 2**63:
        raise ValueError("more than 64 bits; give a smaller one")
    return number


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Percent = Annotated[float, Field(gt=0, le=100), AfterValidator(six_digits)]
Counted = Annotated[str, Field(pattern="^[1-9][0-9]*n$")]
# How many units a set has: a percent of all, or a count of them such as 10n. The tags are left out of messages.
Size = Annotated[
    Annotated[Percent, Tag("[percent]")] | Annotated[Counted, Tag("[count]")],
    Discriminator(lambda size: "[count]" if isinstance(size, str) and size.endswith("n") else "[percent]"),
]
Count = Annotated[int, Field(ge=1), AfterValidator(machine_integer)]
AtLeastTwo = Annotated[int, Field(ge=2), AfterValidator(machine_integer)]
Seed = Annotated[int, Field(ge=0), AfterValidator(machine_integer)]
# Not in braces, which Snakemake would take for wildcards.
Place = Annotated[str, Field(pattern=r"^[^{}\x00-\x1f]+$", max_length=1000)]
Activation = Literal["gelu", "relu", "silu", "tanh"]  # between the two layers of a head
ACTIVATIONS = get_args(Activation)
COMMIT = re.compile("[0-9a-f]{40}")
UNLOCKED = "unlocked"  # stands for the commit of what is neither pinned nor locked
SHOWN = 40  # words of a list in a message


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word closest to `word`, or all of them where none is close."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {listing(words) or 'none'}"


def listing(words: Sequence[str]) -> str:
    """Words one behind the other; of many the first, and how many more there are."""
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


class Section(BaseModel):
    """A part of the study file: immutable, and an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_keys(cls, data: Any) -> Any:
        unknown = [key for key in data if key not in cls.model_fields] if isinstance(data, Mapping) else []
        if unknown:
            raise ValueError(f"unknown key '{unknown[0]}'; {nearest(str(unknown[0]), cls.model_fields)}")
        return data

    @model_validator(mode="before")
    @classmethod
    def refuse_booleans(cls, data: Any) -> Any:
        """Where a number belongs, one would be taken for 0 or 1."""
        boolean = {key for key, field in cls.model_fields.items() if field.annotation is bool}
        for key, value in data.items() if isinstance(data, Mapping) else []:
            if key not in boolean and any(
                isinstance(one, bool) for one in (value if isinstance(value, list) else [value])
            ):
                raise ValueError(f"'{key}' is neither a number nor a text; a word such as yes or off needs quotes")
        return data

    def files(self, data_root: str) -> list[Path]:
        """The local files that this part of the study reads."""
        return []

    def cached(self, hub_cache: str) -> Self:
        """The same, with a folder of the cache in place of an id on the hub."""
        return self


HUB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"


def lock_key(hub: str | None, revision: str | None) -> str:
    """Name of a branch, by default the main one, in a lock file."""
    return f"{hub}@{revision}" if revision else f"{hub}"


class Located(Section):
    """Something read from a local folder or file (below `data_root`) or from the hub."""

    kind: str
    path: Place | None = Field(None, description="Local folder or file, relative to data_root.")
    hub: Annotated[str, Field(pattern=HUB_ID)] | None = Field(None, description="Id on the hub: owner/name.")
    revision: str | None = Field(
        None,
        validate_default=True,
        description="Commit on the hub, or a branch, by default the main one: its commit is in the lock file.",
    )

    @field_validator("revision")
    @classmethod
    def lock(cls, revision: str | None, info: ValidationInfo) -> str | None:
        """The commit that the lock file, the context of the validation, has for a branch."""
        return (info.context or {}).get(lock_key(info.data.get("hub"), revision), revision)

    def cached(self, hub_cache: str) -> Self:
        if self.hub is None:
            return self
        commit = self.revision if COMMIT.fullmatch(self.revision or "") else UNLOCKED
        place = f"{hub_cache}/{self.kind}/{self.hub}/{commit}/files"
        return self.model_copy(update={"path": place, "hub": None, "revision": None})

    def local(self, data_root: str) -> Path:
        """The local folder or file, as seen from the working folder; only what is `cached` has one for certain."""
        assert self.path is not None
        return Path(data_root) / self.path

    def checksums(self, data_root: str, hub_cache: str) -> Path:
        """The file of the cache that stands for all that this part of the study reads from the hub."""
        return self.cached(hub_cache).local(data_root).with_name("checksums.json")

    @model_validator(mode="after")
    def exactly_one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' and 'hub'")
        if self.path is not None and self.revision is not None:
            raise ValueError("'revision' is of what comes from the hub: leave it out beside 'path'")
        return self


def refuse_repeats(key: str, values: list[Any]) -> None:
    repeated = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if repeated:
        raise ValueError(f"{key}: {repeated[0]} is given more than once")


def refuse_taken(key: str, word: str, names: Iterable[str]) -> None:
    """Where a name would be mistaken for a word that tables have in its place."""
    if word in names:
        raise ValueError(f"{key}: '{word}' has a meaning of its own; give another name")


def require_known(key: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: unknown name '{name}'; {nearest(name, known)}")
