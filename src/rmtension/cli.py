"""The command line. Commands import what they need when they run, so that help appears at once."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmtension.base.errors import UserError
from rmtension.report.commands import check, report
from rmtension.running.commands import bundle

if TYPE_CHECKING:
    import polars as pl

    from rmtension.engine.scoring import Scorer

app = typer.Typer(
    name="rmtension",
    help="How helpfulness and harmlessness pull against each other inside a reward model: questions to a study.",
    epilog="Studies themselves are run with make or snakemake; see README.md. More examples: docs/command-line.md.",
    no_args_is_help=True,
    rich_markup_mode=None,  # examples stay on their lines
    add_completion=False,
    pretty_exceptions_enable=False,
)
neurons = typer.Typer(
    help="What a set of neurons contains, and how far sets overlap.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(neurons, name="neurons")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Scoring = Annotated[str, typer.Option(help="Scoring whose ranking is read.")]
Percent = Annotated[float, typer.Option(min=0, max=100, help="Size of the set: the top of the ranking.")]
Number = Annotated[int | None, typer.Option("--count", min=1, help="So many units instead of a percent.")]
Label = Annotated[str | None, typer.Option(help="Label that is the reward, where a head has several.")]
Activation = Annotated[str | None, typer.Option(help="What is between two layers of a head: relu, for one.")]


def main() -> None:
    """The program; a user's mistake is one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal has no letter for
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")


def read_input(file: str, prompt: str | None, response: list[str] | None) -> Iterator[tuple[str, Any]]:
    """The rows to be scored, each with its place in messages."""
    if prompt is not None:
        return iter([("--prompt", {"prompt": prompt, "responses": response})])
    if file == "-" and sys.stdin.isatty():
        raise UserError("nothing to score: give --prompt and --response, a file, or JSON lines on standard input")
    from rmtension.data.rows import files_of, json_rows, numbered_rows

    def line(number: int) -> str:
        return f"line {number + 1}"

    if file == "-":
        return json_rows(sys.stdin.buffer, "standard input", line)
    return chain.from_iterable(numbered_rows(part, line) for part in files_of(Path(file)))


def show_table(frame: pl.DataFrame, title: str) -> None:
    import polars as pl

    with pl.Config(
        tbl_formatting="MARKDOWN", tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True, tbl_rows=-1,
        tbl_cols=-1, tbl_width_chars=-1, fmt_str_lengths=200, float_precision=3, thousands_separator=",",
        tbl_cell_numeric_alignment="RIGHT",
    ):  # fmt: skip
        print(f"{title}\n\n{frame}\n")


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="A reward model: results/*/reward_models/MODEL/REGIME/seed-SEED.")],
    file: Annotated[str, typer.Argument(help="JSON or parquet; - is JSON on standard input.")] = "-",
    prompt: Annotated[str | None, typer.Option(help="A prompt, instead of a file.")] = None,
    response: Annotated[list[str] | None, typer.Option(help="A response to the prompt; can be repeated.")] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="hh: the form of the training texts, which is the default where no study says otherwise of a model; "
            "chat: the model's own; paper: the authors'; none: texts as they are."
        ),
    ] = None,
    ablate: Annotated[
        str | None, typer.Option(metavar="FILE:NAME", help="Set to zero a set of results/*/selected, by its name.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="The reward at every token of each response, too.")] = False,
    label: Label = None,
    activation: Activation = None,
) -> None:
    """Score texts with a reward model: rows in, JSON lines out, in the same order.

    A row is {"prompt": ..., "responses": [...]}, or {"prompt": ..., "chosen": ..., "rejected": ...}, or
    {"chosen": ..., "rejected": ...} with whole dialogues. A prompt is a text or a list of turns
    {"role": "user" or "assistant", "content": ...}, and so may be a response or a dialogue. A file has JSON lines or
    an array, perhaps gzipped, or is parquet. A text that is longer than the model can take gets null.
    Where there are GPUs, scores are computed on one that no job of yours has.

    Examples:

    \b
    rmtension score RM --prompt "How do I bake bread?" --response "Knead, wait, bake." --response "No."
    zcat helpful-base/test.jsonl.gz | rmtension score RM > scores.jsonl
    rmtension score PUBLIC_RM pairs.jsonl --template chat --tokens
    rmtension score RM pairs.jsonl --ablate results/default/selected/tiny-gpt2/helpful/seed-0.parquet:magnitude-p10
    """
    if (prompt is None) != (not response) or (prompt is not None and file != "-"):
        raise UserError("--prompt and --response go together, without a file")
    rows = read_input(file, prompt, response)
    import polars as pl
    import torch
    from transformers.utils import logging

    from rmtension.base.device import start_torch
    from rmtension.data.dialogues import FORMS
    from rmtension.engine.heads import Choice
    from rmtension.engine.scoring import Scorer
    from rmtension.neurons.ranking import UNIT
    from rmtension.neurons.sets import named_set
    from rmtension.study.section import nearest

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if template is not None and template not in FORMS:
        raise UserError(f"--template: no template '{template}'; {nearest(template, FORMS)}")
    ablation = named_set(ablate) if ablate else pl.DataFrame(schema=UNIT)
    head = Choice(label, activation) if label or activation else None
    scorer = Scorer(folder, template, ablation, start_torch(torch.get_num_threads(), gpus=1), head)
    if scorer.is_form_assumed:
        print("texts are read in the form hh; its tokenizer has another of its own, --template chat", file=sys.stderr)
    for answer in scorer.answers(rows, tokens):
        print(answer, flush=True)
    for remark in remarks(scorer):
        print(remark, file=sys.stderr)
    if not scorer.texts:
        raise UserError(f"{'standard input' if file == '-' else file}: no rows")


def remarks(scorer: Scorer) -> Iterator[str]:
    """On texts that could not be scored, and on those that are odd."""
    if n := scorer.unscored - len(scorer.refused):
        yield f"{n} of {scorer.texts} texts are empty or longer than {scorer.longest} tokens: their scores are null"
    if scorer.refused:
        refused = f"{len(scorer.refused)} of {scorer.texts} texts cannot be read: their scores are null"
        yield f"{refused}; the first is at {scorer.refused[0]}"
    yield from (f"{n} of {scorer.texts} texts {oddity}" for oddity, n in scorer.oddities.items())


def size_of(percent: float, count: int | None) -> float | str:
    """What --percent and --count say, as a study file would."""
    return percent if count is None else f"{count}n"


@neurons.command()
def show(
    place: Annotated[str, typer.Argument(metavar="FILE", help="Rankings of results/*/neurons, or FILE:NAME.")],
    scoring: Scoring = "magnitude",
    percent: Percent = 10,
    count: Number = None,
    top: Annotated[int, typer.Option(min=0, help="Members to list with their statistics.")] = 10,
    as_json: Json = False,
) -> None:
    """What a set contains: counts by layer and by third of the layers, and its first members with their statistics.

    The set is the top of a ranking, or, with FILE:NAME, a set that the study ablates by that name.

    Examples:

    \b
    rmtension neurons show results/default/neurons/tiny-gpt2/helpful/seed-0.parquet --scoring change --percent 5
    rmtension neurons show results/default/selected/tiny-gpt2/helpful-harmless/seed-0.parquet:shared
    """
    from rmtension.neurons.sets import NeuronSet

    one = NeuronSet.read(place, scoring, size_of(percent, count))
    counts, layers, thirds, first = (len(one.members), len(one.units)), one.layers(), one.thirds(), one.top(top)
    if as_json:
        print_json({"set": place, "size": counts[0], "of": counts[1], "layers": layers.to_dicts(),
                    "thirds": thirds.to_dicts(), "top": first.to_dicts()})  # fmt: skip
        return
    show_table(layers, f"{place}: {counts[0]} of {counts[1]} units")
    show_table(thirds, "By third of the layers")
    show_table(first, f"The first {len(first)}")
    if not one.statistics.exists():
        print(f"no statistics: {one.statistics} does not exist", file=sys.stderr)


@neurons.command()
def overlap(
    places: Annotated[list[str], typer.Argument(metavar="FILE...", help="Two or more, each as in `show`.")],
    scoring: Scoring = "magnitude",
    percent: Percent = 10,
    count: Number = None,
    as_json: Json = False,
) -> None:
    """How far sets overlap: the Jaccard index of every two, and in brackets that of random sets of their sizes.

    Examples:

    \b
    rmtension neurons overlap results/default/neurons/tiny-gpt2/*/seed-0.parquet --percent 10
    rmtension neurons overlap results/default/neurons/tiny-gpt2/helpful/seed-*.parquet --scoring change --json
    """
    from rmtension.neurons.sets import NeuronSet, matrix, overlaps

    if len(places) < 2:
        raise UserError(f"{places[0]}: one set overlaps with no other: name two or more")
    pairs = overlaps([NeuronSet.read(place, scoring, size_of(percent, count)) for place in places])
    if as_json:
        print_json(pairs.to_dicts())
    else:
        show_table(matrix(pairs, places), "Jaccard index (that of random sets of the same sizes)")


@app.command()
def plan(
    study: Annotated[Path, typer.Argument(help="A study file, such as config.yaml or studies/*.yaml.")],
    device: Annotated[
        str | None,
        typer.Option(help="Of resources/plan.yaml; by default cpu, and a100 for models whose jobs ask for a GPU."),
    ] = None,
    utilisation: Annotated[
        float | None, typer.Option(min=0.001, max=1, help="Share of the device's rate that is reached.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Jobs, hours, memory and disk of every rule of a study, and the assumptions behind them. Nothing is run.

    Examples:

    \b
    rmtension plan config.yaml
    rmtension plan studies/smollm2-135m-hh.yaml --device h100 --utilisation 0.4
    """
    from rmtension.data.hub import read_study
    from rmtension.running.plan import make_plan

    made = make_plan(read_study(study), device, utilisation)
    if as_json:
        print_json({"rules": made.rules.to_dicts(), "total": made.total.to_dicts()[0],
                    "assumptions": made.assumptions, "problems": made.problems})  # fmt: skip
        return
    show_table(made.rules.vstack(made.total), f"{study}: jobs, hours of all and of the longest job, memory of one job")
    for title, lines in {"Assumptions": made.assumptions, "Not priced, or not possible": made.problems}.items():
        print("\n".join([title, *(f"- {line}" for line in lines)]) if lines else "", end="\n\n" if lines else "")


@app.command()
def xray(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Reward models: folders, such as results/*/reward_models/MODEL/REGIME/seed-SEED, or ORG/NAME@COMMIT.",
        ),
    ],
    helpful: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pairs of your own, instead of HH-RLHF's helpful ones.")
    ] = None,
    harmless: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pairs of your own, instead of HH-RLHF's harmless ones.")
    ] = None,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Comparisons of your own, instead of RewardBench; can be repeated."),
    ] = None,
    label: Label = None,
    activation: Activation = None,
    study: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to; by default studies/NAME.yaml.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; by default xray-MODEL.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Run it, too: on all cores of this machine.")] = False,
) -> None:
    """Write the study of reward models that are there: what they get right, and with which neurons.

    Nothing is trained. Neurons are found on half of the opening questions of a file of pairs, and looked at on the
    other half. What is not named comes from the hub, which needs a network. docs/xray.md: how to read the report.

    Examples:

    \b
    rmtension xray my-reward-model
    rmtension xray my-reward-model ORG/NAME@COMMIT --run
    rmtension xray RM --helpful mine.jsonl --harmless others.parquet --benchmark judged.jsonl
    """
    from transformers.utils import logging

    from rmtension.engine.heads import Choice
    from rmtension.running.xray import command, make_xray

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    made = make_xray(models, Choice(label, activation), helpful, harmless, benchmark or [], study, name)
    made.write()
    models_of_it = "\n  ".join([f"{made.file}: a study of", *made.models()])
    print("\n".join([models_of_it, *made.benchmarks()]), end="\n\n")
    show_table(made.plan.total.drop("rule"), "What it takes: hours of all and of the longest job, memory of one job")
    print("\n".join([*made.plan.problems, f"rmtension plan {made.file}: the same, rule by rule"]), end="\n\n")
    print(f"{shlex.join(command(made.file))}\nresults/{made.study.name}/report.html: then the report", flush=True)
    if run:
        sys.exit(subprocess.run([sys.executable, "-m", *command(made.file)], check=False).returncode)


@app.command()
def convert(
    folder: Annotated[
        Path, typer.Argument(help="A model whose weights are pickled: pytorch_model.bin, or its shards.")
    ],
) -> None:
    """Write pickled weights as safetensors, beside them. Only tensors are read: no code in the files is run.

    Example:

    \b
    rmtension convert my-reward-model
    """
    from rmtension.engine.conversion import convert as written_anew

    for file in written_anew(folder):
        print(f"written: {file}")


@app.command()
def provenance(
    place: Annotated[
        Path, typer.Argument(metavar="FILE", help="Of results/*: a table, figure, report, or a model's folder.")
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only this model, regime, seed or benchmark; can be repeated."),
    ] = None,
    row: Annotated[int | None, typer.Option(help="Only what this row of the table names; rows count from 0.")] = None,
    as_json: Json = False,
) -> None:
    """Where a result came from: code, libraries and times, the jobs behind it, and the models and data they began with.

    What is not as the records tell is said last, a line each.

    Examples:

    \b
    rmtension provenance results/default/report.html
    rmtension provenance results/default/tables/accuracy.csv --row 0
    rmtension provenance results/default/tables/accuracy.csv --where regime=helpful --where seed=0 --json
    """
    from rmtension.running import doubts, shown
    from rmtension.running.lineage import Lineage

    lineage = Lineage(place)
    chosen = lineage.named_in_row(row) if row is not None else {}
    for key, _, value in (one.partition("=") for one in where or []):
        chosen.setdefault(key, set()).add(value)
    lineage.restrict(chosen)
    warnings = doubts.warnings(lineage)
    if as_json:
        print_json({"files": lineage.files, "where": {key: sorted(values) for key, values in chosen.items()},
                    "jobs": lineage.jobs, "warnings": warnings})  # fmt: skip
        return
    print("\n".join([str(place), *(f"{key}: {value}" for key, value in shown.about(lineage).items())]), end="\n\n")
    show_table(shown.rules(lineage), "Jobs behind it")
    show_table(shown.origins(lineage), "Models and data that they start from")
    show_table(shown.roots(lineage), "Their files, and those that no job made")
    print("\n".join(f"warning: {line}" for line in warnings) or "All files are as recorded.")


@app.command()
def lock(
    study: Annotated[Path, typer.Argument(help="A study file; hub.lock beside it is the lock file.")],
) -> None:
    """Look up the commits of what a study reads from the hub without a pinned one, and add them to its lock file.

    Needs a network. What the lock file has stays as it is: to renew a commit, delete its line first.

    Example:

    \b
    rmtension lock studies/paper.yaml
    """
    from rmtension.data import hub
    from rmtension.study.places import from_hub

    added = hub.lock(study)
    for name, commit in added.items():
        print(f"{name}: {commit}")
    if not added:
        known = "nothing to look up: the commits of all that it reads from the hub are known"
        print(f"{study}: {known if from_hub(hub.read_study(study)) else 'it reads nothing from the hub'}")


app.command()(report)
app.command()(check)
app.command()(bundle)


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))
