"""An x-ray: the study of reward models that are there, written for whoever has them and asks what they do."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from string import Template
from textwrap import indent
from typing import Any, NamedTuple

import psutil
import yaml
from pydantic import TypeAdapter, ValidationError

from rmtension.base.device import visible_gpus
from rmtension.base.errors import UserError
from rmtension.base.files import RESOURCES, reading, write_text
from rmtension.data import hub
from rmtension.data.benchmarks import layout_of
from rmtension.data.dialogues import CHAT
from rmtension.data.rows import load_rows
from rmtension.data.tasks import known_tasks
from rmtension.engine.given_models import look_at, own_form
from rmtension.engine.heads import Choice
from rmtension.running.amounts import UnknownError
from rmtension.running.plan import ON_CPU, Plan, Planner, make_plan
from rmtension.running.prices import Price
from rmtension.study.benchmarks import PUBLISHED, OwnBenchmark, PublishedBenchmark
from rmtension.study.inputs import data_files
from rmtension.study.loading import load_study
from rmtension.study.models import GivenModel
from rmtension.study.naming import AVERAGE, UNORIENTED
from rmtension.study.section import COMMIT, HUB_ID, Name
from rmtension.study.study import VALIDATION, Study

TEMPLATE = RESOURCES / "xray.yaml"
OWN_TEST = "own-test"  # the benchmark that is in it
MOST = {"max_train": 1000, "max_test": 500}  # pairs of a source
PER_TASK = {"max_per_task": 100}
# What stands for data that nobody names, at the commits of studies/hub.lock.
HH = {"kind": "hh-rlhf", "hub": "Anthropic/hh-rlhf", "revision": "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"}
REWARD_BENCH = {
    "kind": "reward-bench", "hub": "allenai/reward-bench", "revision": "168d848cdbbea9764fae4a544dc9ca1e6cca4931",
}  # fmt: skip
SMALL = 20e6  # parameters up to which a second core gains nothing, and a GPU neither
TASKS_THERE = "where it has tasks, name their column under columns in the study file, and them under tasks"
ELSEWHERE = "name a folder that is here, or run this where the hub can be reached"
LARGE = 1e9  # above which a batch for a backward pass holds no more than one long pair


class Given(NamedTuple):
    """A reward model as the study names it."""

    source: GivenModel
    parameters: int


@dataclass(frozen=True)
class Xray:
    """A study file that is not written yet."""

    file: Path
    text: str
    study: Study
    plan: Plan

    def models(self) -> Iterator[str]:
        """A line for each reward model: where it lies, and the form in which dialogues are read."""
        for name, model in self.study.models.items():
            source = model.source
            assert isinstance(source, GivenModel)
            place = source.path or f"{source.hub}@{source.revision}"
            form = "its own chat template" if source.template == CHAT else "the form of HH-RLHF"
            yield f"{name}: {place}, read in {form}"

    def benchmarks(self) -> Iterator[str]:
        """A line for each file of comparisons that has no field 'task': what is made of it."""
        for benchmark in self.study.benchmarks.values():
            if isinstance(benchmark, PublishedBenchmark) and benchmark.path is not None:
                yield f"{benchmark.path}: read as {benchmark.kind}, by its columns and its tasks"
            elif isinstance(benchmark, OwnBenchmark) and benchmark.columns.task is None:
                [task], most = benchmark.tasks, benchmark.max_per_task
                made = f"one unoriented task, '{task}', of {most} rows at most"
                yield f"{benchmark.path}: neither a field 'task' nor a published benchmark: {made}; {TASKS_THERE}"

    def write(self) -> None:
        """UserError where the file is there and says something else: it may have been changed by hand."""
        with reading(self.file):
            is_other = self.file.exists() and self.file.read_text(encoding="utf-8") != self.text
        if is_other:
            raise UserError(f"{self.file}: there is another study in it; run that, or name another --study or --name")
        write_text(self.text, self.file)


# --- models ---------------------------------------------------------------------------------------------------


def given_models(places: Sequence[str], head: Choice) -> list[Given]:
    """The reward models, as given_model has each; of several the label is that of those alone that need it.

    UserError where none does.
    """
    if head.label is None or len(places) == 1:
        return [given_model(place, head) for place in places]
    found = [given_model(place, head, head._replace(label=None)) for place in places]
    if not any(given.source.label for given in found):
        raise UserError(
            f"--label {head.label}: each of these reward models has one label, of another name: leave it out"
        )
    return found


def given_model(place: str, *heads: Choice) -> Given:
    """The reward model of a folder or, as ORG/NAME@COMMIT, of the hub, from which it is fetched into the cache first.

    heads: what is said of its head, and what else may be where that does not fit. UserError, one line, where it is none
    or cannot be read.
    """
    if Path(place).is_file():
        raise UserError(f"{place}: a file; name the folder of a reward model, with its config.json and tokenizer")
    said = {"path": place} if Path(place).exists() else on_hub(place)
    try:
        source = GivenModel.model_validate({"kind": "given", **heads[0]._asdict(), **said})
    except ValidationError as error:
        raise UserError(f"{place}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    root, cache = (Study.model_fields[name].default for name in ("data_root", "hub_cache"))
    if source.hub is not None and not source.checksums(root, cache).exists():
        print(f"fetching {place}", file=sys.stderr)
        piece = f"{source.kind}/{source.hub}/{source.revision}"
        hub.fetch(piece, source.checksums(root, cache).parent, ELSEWHERE)
    folder = source.cached(cache).local(root)
    head, parameters = fitting(folder, *heads)
    return Given(source.model_copy(update={"template": own_form(folder), "label": head.label}), parameters)


def fitting(folder: Path, head: Choice, *others: Choice) -> tuple[Choice, int]:
    """The first of what may be said of a head that fits, and the reward model's parameters; UserError of the first."""
    try:
        return head, look_at(folder, head)
    except UserError:
        for other in others:
            with suppress(UserError):
                return other, look_at(folder, other)
        raise


def on_hub(place: str) -> dict[str, str]:
    """hub and revision, a commit, of what is named as ORG/NAME, with @ and a commit or branch or without.

    UserError where it is no such name, or the hub does not have it; it may be meant for a folder.
    """
    repository, _, revision = place.partition("@")
    if not re.fullmatch(HUB_ID, repository):
        raise UserError(f"{place}: no such folder here; a reward model of the hub is named as ORG/NAME@COMMIT")
    if not COMMIT.fullmatch(revision):
        with hub.asking_the_hub(f"{place}: no such folder here, and", ELSEWHERE):
            revision = hub.commit_of(repository, "given", revision or None)
    return {"hub": repository, "revision": revision}


def name_of(place: str) -> str:
    """A name for a reward model: its folder's, or of one of a study those of its model and regime."""
    *above, name = Path(place.partition("@")[0] if not Path(place).exists() else os.path.abspath(place)).parts
    if above[-3:-2] == ["reward_models"]:
        name = "-".join([*above[-2:], *([name] if name != "seed-0" else [])])
    return cleaned(name, "model")


def cleaned(name: str, otherwise: str) -> str:
    """What of a name a study can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:80] or otherwise


def refuse_name(name: str) -> None:
    """UserError where no study can have it; a study file that is not written yet would be blamed for it."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        rule = "letters, digits, '.', '_' and '-', of which the first is a letter or a digit, and at most 100 of them"
        raise UserError(f"--name '{name}': a name is {rule}") from None


def unique(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """The same names, numbered where they occur again, or are among those that a study has another use for."""
    found = [*taken]
    for name in names:
        numbered = (f"{name}-{number}" if number > 1 else name for number in count(1))
        found.append(next(one for one in numbered if one not in found))
    return found[len(taken) :]


# --- data -----------------------------------------------------------------------------------------------------


def pairs(file: Path | None, objective: str) -> dict[str, Any]:
    """A source of pairs: of one's own file, divided by opening question, or HH-RLHF's of an objective."""
    if file is None:
        return {**HH, "folder": f"{objective}-base", **MOST}
    has_prompt = "prompt" in fields_of(file)
    columns = {} if has_prompt else {"columns": {"prompt": None}}
    return {"kind": "own", "train": str(file), **columns, **MOST}


def benchmark(file: Path) -> dict[str, Any]:
    """A benchmark of a file: a published one, or one's own, whose tasks nobody says the orientation of.

    Those of one's own are the tasks by name, or all of it as one.
    """
    fields = fields_of(file)
    if file.is_file() and (kind := published_kind(fields)):
        return {"kind": kind, "path": str(file), **PER_TASK}
    columns = {ours: None for ours in ("prompt", "task") if ours not in fields}
    tasks = fields.get("task", unique([cleaned(file.stem, "task")], [AVERAGE]))
    if bad := [number for number, task in enumerate(tasks) if not isinstance(task, str)]:
        raise UserError(f"{file}: row {bad[0]}: field 'task': not the name of a task; give each row one, as a text")
    about: dict[str, Any] = {"columns": columns} if columns else {}
    return {"kind": "own", "path": str(file), **about, "tasks": dict.fromkeys(tasks, UNORIENTED), **PER_TASK}


def published_kind(fields: Mapping[str, Sequence[Any]]) -> str | None:
    """The published benchmark that has these columns, and all of these tasks; none where rows have a field 'task'.

    Columns alone do not tell it: several have the same, and a user's own file may, too.
    """
    for kind in PUBLISHED if "task" not in fields else ():
        layout = layout_of(PublishedBenchmark.model_validate({"kind": kind, "path": "."}))
        if fields.keys() >= set(layout.columns.values()):
            subsets = (re.search(layout.subset, str(name)) for name in fields[layout.columns["subset"]])
            if {subset and subset[1] for subset in subsets} <= {*known_tasks(kind)["subset"]}:
                return kind
    return None


def fields_of(place: Path) -> dict[str, list[Any]]:
    """Fields that all rows of a file or folder of shards have, and of each its values.

    UserError where some rows alone say what all must, or none may: how they are read goes by it.
    """
    if not place.exists():
        raise UserError(f"{place}: no such file here; data of the hub are named in the study file that this writes")
    rows = {f"{file}: row {n}": row for file in data_files(place) for n, row in enumerate(load_rows(file))}
    if not rows:
        raise UserError(f"{place}: no rows")
    for where, row in rows.items():
        if not isinstance(row, dict):
            raise UserError(f"{where}: no mapping of fields to values")
    for name in ("prompt", "task"):
        without = [where for where, row in rows.items() if name not in row]
        if without and len(without) < len(rows):
            fault = f"field '{name}' is missing, which other rows have"
            raise UserError(f"{without[0]}: {fault}: give it to all or to none")
    shared = set.intersection(*map(set, rows.values()))
    return {name: [row[name] for row in rows.values()] for name in next(iter(rows.values())) if name in shared}


# --- the study ------------------------------------------------------------------------------------------------


def make_xray(
    places: Sequence[str],
    head: Choice,
    helpful: Path | None,
    harmless: Path | None,
    benchmarks: Sequence[Path],
    file: Path | None,
    name: str | None,
) -> Xray:
    """The study of these reward models, and what it takes; UserError where one of them or of the files is of no use."""
    if name is not None:
        refuse_name(name)
    models = dict(zip(unique([name_of(place) for place in places]), given_models(places, head), strict=True))
    named = name or f"xray-{next(iter(models))}" + (f"-and-{len(models) - 1}-more" if len(models) > 1 else "")
    file = file or Path("studies", f"{named}.yaml")
    sections = [(one, benchmark(one)) for one in benchmarks]
    called = [about["kind"] if about["kind"] in PUBLISHED else one.stem for one, about in sections]
    names = unique([cleaned(name, "benchmark") for name in called], [OWN_TEST, VALIDATION])
    own = dict(zip(names, (about for _, about in sections), strict=True))
    parts = {
        "name": flow(named),
        "results": f"results/{named}",
        "file": shlex.quote(str(file)),
        "helpful": flow(pairs(helpful, "helpful")),
        "harmless": flow(pairs(harmless, "harmless")),
        "benchmarks": listed(own or {"reward-bench": REWARD_BENCH | PER_TASK}),
    }
    template = Template(TEMPLATE.read_text(encoding="utf-8"))

    def written(jobs: dict[str, dict[str, Any]]) -> tuple[str, Study]:
        about = {
            model: {"source": given.source.model_dump(exclude_defaults=True), "compute": jobs[model]}
            for model, given in models.items()
        }
        text = template.substitute(parts, models=below(about))
        return text, load_study(yaml.safe_load(text), str(file), hub.read_lock(hub.lock_file(file)))

    _, study = written({model: machine(given.parameters) for model, given in models.items()})
    text, study = written({model: asked_for(model, study) for model in models})
    return Xray(file, text, study, make_plan(study))


def flow(value: Any) -> str:
    """On one line, as YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    lines = text.removesuffix("...\n").splitlines()
    return lines[0] if len(lines) == 1 else json.dumps(value)  # words over several lines


def listed(sections: dict[str, Any]) -> str:
    """Named sections, a line each."""
    return "\n".join(f"  {flow(name)}: {flow(section)}" for name, section in sections.items())


def below(models: dict[str, dict[str, Any]]) -> str:
    """Named sections, a line for each of their keys."""
    parts = (f"  {flow(name)}:\n" + indent(listed(about), "  ") for name, about in models.items())
    return "\n".join(parts)


def machine(parameters: int) -> dict[str, Any]:
    """What this machine has for jobs of a model of that size."""
    gpus = {"gpus": 1} if visible_gpus() else {}
    tokens = {"training_tokens": 2048} if parameters > LARGE else {}
    return {"threads": cores(), **gpus, **tokens} if parameters > SMALL else {}


def asked_for(model: str, study: Study) -> dict[str, Any]:
    """`compute` of a model: what this machine has, and what its largest job takes of memory and its longest of time.

    Jobs that cannot be priced, as on a benchmark of unknown lengths, are left out of it; the plan says which.
    """
    asked = study.models[model].compute.model_dump(exclude_defaults=True)
    jobs = Planner(study, None, None).jobs()
    prices = [found for rule, _, of, price in jobs if of == model and rule not in ON_CPU for found in known(price)]
    memory, seconds = max(price[1] for price in prices), max(price[0] for price in prices)
    return asked | {"mem_mb": 500 * math.ceil(1.1 * memory / 500e6), "runtime": max(30, math.ceil(2 * seconds / 60))}


def known(price: Callable[[], Price]) -> list[Price]:
    """What a job takes; nothing where that is not known."""
    with suppress(UnknownError):
        return [price()]
    return []


def cores() -> int:
    return len(os.sched_getaffinity(0))


def command(file: Path) -> list[str]:
    """What runs the study here, in this folder and on this machine: no more jobs at once than its memory holds."""
    memory = int(psutil.virtual_memory().total / 1e6)
    gpus = [f"gpu={jobs}"] if (jobs := len(visible_gpus())) else []  # at once
    resources = ["--resources", f"mem_mb={memory}", *gpus]
    here, of_project = [Path(folder, "Snakefile") for folder in (".", "workflow")], RESOURCES.parent / "Snakefile"
    is_elsewhere = of_project.exists() and not any(snakefile.exists() for snakefile in here)
    workflow = ["--snakefile", str(of_project)] if is_elsewhere else []
    return ["snakemake", "--cores", str(cores()), *resources, *workflow, "--configfile", str(file)]
