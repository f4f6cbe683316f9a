"""The report of a finished study as a Markdown page; its figures are bound to their cells (`rmtension check`)."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import polars as pl

from rmtension.base.files import read_table, read_tables, write_text
from rmtension.report.bindings import binding
from rmtension.report.caveats import caveats, unscored
from rmtension.report.conclusions import beside_length, rule
from rmtension.report.exhibits import Exhibit
from rmtension.report.figures import FIGURES, make_figures, write_png
from rmtension.report.given_conclusions import with_parts
from rmtension.report.page import GIVEN, SIGNED, TRAINED, as_compared, decimals
from rmtension.study.naming import AVERAGE, OVERALL, UNORIENTED
from rmtension.study.study import Study

MADE = "\n\nMade by `rmtension report` from the study's results. "  # below the title of each page

Row = Mapping[str, Any]
# What is concluded in sentences without a table's figures; those with them have their tables here instead.
IN_WORDS = {
    "trained": ["Judged.", "Claims.", "Is it length?", "Beyond this study."],
    "given": ["Looked at.", "What does it get right?", "Claims.", "Beyond this study."],
}
# Columns -> decimals.
TRAINING = {"train_pairs": 0, "train_left_out": 0, "steps": 0, "kept_step": 0, "kept_loss": 3, "kept_accuracy": 1}
LIMITS = ("mean", "low", "high")


class Results(dict[str, pl.DataFrame]):
    """A study's tables by name; `claims` is the ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(read_tables(map(str, sorted(folder.glob("tables/*.parquet")))))
        self["claims"] = read_table(self.file("claims"))

    def file(self, name: str) -> Path:
        return self.folder / (f"{name}.parquet" if name == "claims" else f"tables/{name}.parquet")

    def __missing__(self, name: str) -> pl.DataFrame:
        return read_table(self.file(name))  # which says that it is not there


class Source(NamedTuple):
    """A table as bindings name it, and the columns that single out a row of it."""

    place: str
    keys: list[str]

    def number(self, row: Row, column: str, form: str) -> str:
        """A cell; nothing where it is empty."""
        value = row[column]
        is_there = value is not None and math.isfinite(value)
        return f"{shown(value, form)} {binding(self.place, self.of(row), [column])}" if is_there else ""

    def estimate(self, row: Row, columns: Sequence[str], places: int, sign: str = "") -> str:
        """A mean, with its interval where it has one; columns: the three."""
        values = [row.get(column) for column in columns]
        known, form = [value for value in values if value is not None and math.isfinite(value)], f"z,.{places}f"
        if len(known) < len(values):
            return self.number(row, columns[0], sign + form)
        mean, low, high = shown(known[0], sign + form), *(shown(value, form) for value in known[1:])
        return f"{mean} [{low}, {high}] {binding(self.place, self.of(row), columns)}"

    def of(self, row: Row) -> dict[str, Any]:
        return {key: row[key] for key in self.keys}


def shown(value: float, form: str) -> str:
    """A figure; what is rounded to zero from below has no plus."""
    text = f"{value:{form}}"
    return text.removeprefix("+") if value < 0 else text


def write_page(page: Path, study: Study, results: Path) -> None:
    """Write the page and, in the folder `figures` beside it, its figures; results: the study's folder.

    UserError where a table is missing.
    """
    tables, form = Results(results), GIVEN if study.given else TRAINED
    claims = with_parts(tables["claims"]) if study.given else tables["claims"]
    exhibits: dict[str, Exhibit] = {}
    for exhibit in (one for of in [*form.foremost.values(), *form.sections.values()] for one in of):
        exhibits.setdefault(exhibit.table, exhibit)
    parts = Parts(page, study, tables, exhibits)
    said = form.conclusions(study, as_compared(tables, study), tables["claims"])
    kind = "given" if study.given else "trained"
    curve = "ablation_curve_by_model" if study.given else "ablation_curve"
    sections = {
        "What can be concluded": [f"**{name}** {cell(said[name])}\n" for name in IN_WORDS[kind] if name in said],
        "On each test split": parts.tests(),
        "On benchmarks without an orientation": parts.unoriented(),
        "What mixing costs, and what helps": [] if study.given else parts.repairs(),
        "Claims": parts.verdicts(claims),
        "On tasks": [*parts.figure("surface"), *parts.read("surface"), *parts.tasks()],
        "Is it length?": [
            *parts.grid("length"),
            *parts.grid("length_contrasts", across=["orientation"]),
            *parts.grid("set_length"),
        ],
        "Neurons that matter": [
            *parts.figure(curve),
            *parts.grid("ablation_curve", value="accuracy"),
            *parts.grid("control_overlap", across=["set"]),
        ],
        "How far training got": [] if study.given else parts.training(),
        "Parts of the claims": parts.of_claims(claims),
        "What this study did not measure": [f"- {cell(w)}: {cell(y)}" for w, y, _ in tables["holes"].rows()],
        "Caveats": [f"- {caveat}" for caveat in parts.caveats()],
    }
    head = (
        f"# Helpful and harmless in {kind} reward models: {study.name}{MADE}Figures stand as mean [low, high], "
        "accuracies in percent, their differences in points; `rmtension check` holds each against the cell that it is "
        "bound to."
    )
    texts = [head, *(f"## {heading}\n\n" + "\n".join(lines).strip() for heading, lines in sections.items() if lines)]
    write_text("\n\n".join(texts) + "\n", page)


class Parts:
    """The parts of a study's page, each as lines of Markdown; without lines where the study has nothing for it."""

    def __init__(self, page: Path, study: Study, tables: Results, exhibits: Mapping[str, Exhibit]) -> None:
        self.page, self.study, self.tables, self.exhibits = page, study, tables, exhibits

    def source(self, name: str, keys: Sequence[str] = ()) -> Source:
        """keys: those that tell rows apart, by default what stands before a table's figures."""
        table = self.tables[name]
        place = os.path.relpath(self.tables.file(name), self.page.parent)
        return Source(place, fewest(table, keys or keys_of(table)))

    def shown(self, name: str) -> pl.DataFrame:
        """The rows of all models or, as these are the mean of nothing there, of each given one."""
        of_all = pl.col("model") == OVERALL
        return self.tables[name].filter(~of_all if self.study.given else of_all)

    def read(self, name: str) -> list[str]:
        """How to read an exhibit."""
        return [cell(self.exhibits[name].read), ""]

    def figure(self, name: str) -> Iterator[str]:
        """Drawn beside the page."""
        spec, settings = FIGURES[name], self.study.figures
        tables = {table: self.tables[table] for table in [*spec.tables, "models_card"]}
        if len(tables[spec.tables[0]].filter(spec.rows)):
            file = self.page.parent / "figures" / f"{self.page.stem}-{name}.png"
            (pages,) = make_figures(tables, settings, self.study.analysis, [name]).values()
            write_png(pages, file, settings.dpi)
            yield from [f"![Figure: {name}](figures/{quote(file.name)})", ""]

    def verdicts(self, claims: pl.DataFrame) -> list[str]:
        beside = beside_length(claims)
        heads = ["claim", "", "as it stands", "its parts", "with controls", "beside length"]
        rows = [
            [
                row["claim"],
                row["statement"],
                row["verdict"],
                row["note"].removeprefix("parts: "),
                row["control_verdict"],
                beside.get(row["claim"]),
            ]
            for row in claims.filter(part="").rows(named=True)
        ]
        return table_of(heads, [[cell(word or "") for word in row] for row in rows])

    def of_claims(self, claims: pl.DataFrame) -> list[str]:
        """Those that were measured, each with those of its controls that were."""
        source = self.source("claims", ["claim", "part", "control"])
        heads = ["claim", "part", "here", "unit", "holds if", "verdict", "beside its controls"]

        def cells(rows: Sequence[Row]) -> list[str]:
            row, places = rows[0], 1 if rows[0]["unit"] in ("%", "points") else 3
            threshold = "chance" if row["threshold"] is None else source.number(row, "threshold", "g")
            here = source.estimate(row, ["estimate", "low", "high"], places)
            ends = ["control_estimate", "control_low", "control_high"]
            beside = [f"{cell(one['control'])} {source.estimate(one, ends, places)}: {cell(one['control_verdict'])}"
                      for one in rows if one["control"] and one["control_estimate"] is not None]  # fmt: skip
            words = [cell(row[name] or "") for name in ("claim", "part", "unit", "direction", "verdict")]
            claim, part, unit, direction, verdict = words
            return [claim, part, here, unit, f"{direction} {threshold}", verdict, "; ".join(beside)]

        of_parts = claims.filter(pl.col("part") != "").fill_nan(None).partition_by("claim", "part", maintain_order=True)
        measured = [part.rows(named=True) for part in of_parts
                    if any(part[name].count() for name in ("estimate", "control_estimate"))]  # fmt: skip
        return table_of(heads, map(cells, measured))

    def tests(self) -> list[str]:
        """Accuracy on each regime's own test split, beside the best rule on each source of it."""
        card = self.tables["benchmarks_card"].filter(kind="regime-test")
        return self.whole(card, lambda row: {"orientation": row["regime"], "benchmark": row["benchmark"]})

    def unoriented(self) -> list[str]:
        """Accuracy on each benchmark of which no task has an orientation, so that none is in an average over tasks."""
        is_oriented = pl.col("orientation") != UNORIENTED
        card = self.tables["benchmarks_card"].filter(~is_oriented.any().over("benchmark"))
        return self.whole(card, lambda row: {"benchmark": row["benchmark"]})

    def whole(self, card: pl.DataFrame, place: Callable[[Row], dict[str, object]]) -> list[str]:
        """Accuracy on all comparisons of the card's benchmarks, beside the best rule on each task in a row's place."""
        benchmarks, source = card["benchmark"].unique(), self.source("benchmark_accuracy")
        names = ["model", "regime", "benchmark"] if self.study.given else ["regime", "benchmark"]

        def cells(row: Row) -> list[str]:
            accuracy = source.estimate(row, [f"accuracy_{end}" for end in LIMITS], 1)
            counts = [source.number(row, column, ".0f") for column in ("n_comparisons", "n_unscored")]
            return [*(cell(row[name]) for name in names), accuracy, *counts, self.best_rule(**place(row))]

        rows = self.shown("benchmark_accuracy").filter(pl.col("benchmark").is_in(benchmarks.implode())).rows(named=True)
        return table_of(
            [*names, "accuracy", "comparisons", "not scored", "best rule without a model"], map(cells, rows)
        )

    def repairs(self) -> list[str]:
        def of(value: str, sign: str) -> Callable[[Row], str]:
            columns = [f"{value}_{end}" for end in LIMITS]
            return lambda row: self.source("repair").estimate(row, columns, 1, sign)

        read = (
            "Accuracy of the mixed reward model on the pairs and the tasks of either objective, what it falls "
            "short of the single-objective one by, and what other ways of joining the two add to it; balanced: "
            "where length decides nothing."
        )
        exhibit = replace(self.exhibits["repair"], read=read, across=["regime"], beside=())
        beside = {"the mixed one": of("baseline", ""), "falls short by": of("gap", "+")}
        return self.grid_of(exhibit, self.shown("repair").drop("method"), beside)

    def tasks(self) -> list[str]:
        """Accuracy on each task, beside how many comparisons it has and the best rule."""

        def comparisons(row: Row) -> str:
            found = self.of_rules(orientation=row["orientation"], task=row["task"]).head(1).rows(named=True)
            return "".join(self.source("surface").number(one, "n_comparisons", ".0f") for one in found)

        def best(row: Row) -> str:
            return self.best_rule(orientation=row["orientation"], task=row["task"])

        across = ["model"] if self.study.given else ["regime"]
        exhibit = replace(self.exhibits["accuracy"], across=across)
        beside = {"comparisons": comparisons, "best rule without a model": best}
        return self.grid_of(exhibit, self.shown("accuracy"), beside)

    def of_rules(self, **here: object) -> pl.DataFrame:
        """What is known of the rules without a model on the tasks here; nothing where one is of several benchmarks."""
        found = self.tables["surface"].filter(**here).drop_nulls("accuracy_mean")
        return found.clear() if found.select("task", "benchmark").n_unique() > found["task"].n_unique() else found

    def best_rule(self, **here: object) -> str:
        """The best of the rules without a model on each task that is here."""
        ordered = self.of_rules(**here).sort("accuracy_mean", descending=True, maintain_order=True)
        best = ordered.unique("task", keep="first", maintain_order=True)
        source, columns = self.source("surface"), [f"accuracy_{end}" for end in LIMITS]
        return "; ".join(f"{rule(row['rule'])}, {source.estimate(row, columns, 1)}" for row in best.rows(named=True))

    def grid(self, name: str, **changes: Any) -> list[str]:
        """An exhibit, of tasks only their averages; changes: of what it shows."""
        if name not in self.exhibits:
            return []
        exhibit = replace(self.exhibits[name], **changes)
        rows = self.shown(name).filter(exhibit.where)
        return self.grid_of(exhibit, rows.filter(task=AVERAGE) if "task" in rows.columns else rows)

    def grid_of(
        self, exhibit: Exhibit, rows: pl.DataFrame, beside: Mapping[str, Callable[[Row], str]] | None = None
    ) -> list[str]:
        """An exhibit's value with `across` side by side and other keys down, and further cells of each line by head."""
        source, columns = self.source(exhibit.table), [f"{exhibit.value}_{end}" for end in LIMITS]
        rows = rows.drop_nulls(columns[0])
        if rows.is_empty():
            return []
        words = [key for key in keys_of(rows) if rows[key].n_unique() > 1]
        across, down = (
            [key for key in words if key in exhibit.across],
            [key for key in words if key not in exhibit.across],
        )
        heads = rows.select(across).unique(maintain_order=True).rows() if across else [()]
        places, sign = decimals(rows[columns[0]]), "+" if exhibit.value in SIGNED else ""
        lines = []
        for of in rows.partition_by(down, maintain_order=True) if down else [rows]:
            each = {tuple(row[key] for key in across): row for row in of.rows(named=True)}
            cells = [source.estimate(each[head], columns, places, sign) if head in each else "" for head in heads]
            first = of.row(0, named=True)
            further = [add(first) for add in (beside or {}).values()]
            lines.append([*(key_cell(first[key]) for key in down), *cells, *further])
        named = [cell(", ".join(map(str, head))) or exhibit.value for head in heads]
        return [cell(exhibit.read), "", *table_of([*down, *named, *(beside or {})], lines)]

    def training(self) -> list[str]:
        source = self.source("training_card", ["model", "regime", "seeds"])
        heads = ["model", "regime", "method", "training pairs", "too long", "steps", "kept after step",
                 "loss, held out", "accuracy, held out (%)"]  # fmt: skip
        rows = self.tables["training_card"].rows(named=True)
        lines = [
            [*(cell(row[name] or "") for name in heads[:3]),
             *(source.number(row, column, f",.{places}f") for column, places in TRAINING.items())]
            for row in rows
        ]  # fmt: skip
        return [*self.read("training_card"), *table_of(heads, lines)]

    def caveats(self) -> list[str]:
        source, left_out = self.source("benchmark_accuracy"), []
        for row in unscored(self.tables["benchmark_accuracy"]).rows(named=True):
            out, of = (source.number(row, column, "g") for column in ("n_unscored", "n_comparisons"))
            left_out.append(f"{out} of {of} on {row['benchmark']}")
        return caveats(self.study, left_out)


def keys_of(table: pl.DataFrame) -> list[str]:
    """What tells rows of a table apart: words, percents and counts before its figures."""
    figures = [i for i, name in enumerate(table.columns) if name.endswith("_mean")]
    before = table.columns[: figures[0]] if figures else table.columns
    return [name for name in before if name in ("percent", "count") or table[name].dtype == pl.String]


def fewest(table: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    """Those keys without which two rows would be one."""
    kept = list(keys)
    for key in reversed(keys):
        others = [one for one in kept if one != key]
        if others and table.select(others).n_unique() == len(table):
            kept = others
    return kept


def table_of(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *lines, ""] if lines else []


def key_cell(value: object) -> str:
    """What tells rows apart: a word, a number, or nothing."""
    return "" if value is None else cell(f"{value:g}" if isinstance(value, float) else value)


def cell(word: object) -> str:
    """A word as Markdown, in a table too."""
    return html.escape(str(word), quote=False).replace("|", r"\|").replace("`", r"\`")
