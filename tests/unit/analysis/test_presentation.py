from __future__ import annotations

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.ft2font import FT2Font

from rmtension.analysis.latex import as_latex
from rmtension.analysis.presentation import as_markdown, readable, write_table
from rmtension.study.naming import OVERALL

SMALL = {"aim": "helpful", "focus_50%": "helpful", "Tact & <tone>": "harmless"}
PUBLISHED = pl.read_csv(Path(__file__).parents[3] / "resources" / "paper" / "tasks.csv")
PAPER = dict(PUBLISHED.unique("task", maintain_order=True).select("task", "orientation").iter_rows())


def long(keys: dict[str, list[Any]], values: str, tasks: dict[str, str] | None = None, test: str = "") -> pl.DataFrame:
    """A long table: a row for all combinations of `keys` (and tasks), values and p or q drawn from a fixed seed."""
    rows = [dict(zip(keys, row, strict=True)) for row in product(*keys.values())]
    if tasks:
        names = [(o, t) for o in dict.fromkeys(tasks.values())
                 for t in [*(t for t in tasks if tasks[t] == o), "average"]]  # fmt: skip
        rows = [row | {"orientation": o, "task": t} for row in rows for o, t in names]
    generator = np.random.default_rng(len(rows))
    table = pl.DataFrame(rows)
    for value in values.split():
        mean = generator.normal(0, 9, len(rows)) + (55 if value in ("accuracy", "ablated") else 0)
        spread = {"sd": generator.gamma(2, 1, len(rows)), "low": mean - 3, "high": mean + 3}
        table = table.with_columns(pl.Series(f"{value}_{part}", v) for part, v in ({"mean": mean} | spread).items())
    for column in test.split():
        table = table.with_columns(pl.Series(column, generator.random(len(rows)) ** 4))
    if "task" in table.columns and "q" in table.columns:
        table = table.with_columns(q=pl.when(pl.col("task") != "average").then("q"))
    return table.with_columns(n_seeds=pl.lit(3, pl.UInt32))


def forms(models: list[str], tasks: dict[str, str]) -> dict[str, pl.DataFrame]:
    """A table of every form that a study has."""
    rows = {"model": [*models, OVERALL]}
    scored = rows | {
        "regime": ["helpful", "harmless", "helpful-harmless"],
        "scoring": ["magnitude", "change", "mean_abs"],
    }
    trained = rows | {"regime": scored["regime"]}
    mixed = rows | {"regime": ["helpful-harmless"]}
    sweep = {"percent": [0.0, *range(2, 31, 2), 100.0]}
    ablated = {"ablation": ["shared", "helpful-only", "harmless-only"]}
    controls = ablated | {"control": ["whole", "size-matched", "matched-random"]}
    zeros = {"replaced_by": ["zero"]}
    metrics = {"benchmark": ["reward-bench", "rm-bench"], "metric": ["easy", "hard", "overall"]}
    contrast = {"first": ["helpful"], "second": ["harmless", "helpful-harmless"]}
    effect = "baseline ablated delta"
    return {
        "accuracy": long(trained, "accuracy", tasks),
        "contrasts": long(rows | contrast, "difference", tasks, "p q"),
        "retention": long(mixed | ablated, "retention", tasks),
        "own_ablation": long(scored | {"percent": [10.0]} | zeros, effect, tasks, "p q"),
        "shared_ablation": long(mixed | controls | zeros, effect, tasks, "p q").with_columns(n_neurons=1843.0),
        "benchmark_accuracy": long(trained | {"benchmark": ["hh-test", "rm-bench"]}, "accuracy"),
        "ablation_curve": long(scored | {"benchmark": ["hh-test"]} | sweep, "accuracy delta"),
        "scoring_contrasts": long(trained | contrast | sweep, "difference", test="p"),
        "set_size": long(mixed | {"benchmark": ["hh-test"]} | controls, "delta").with_columns(percent=pl.lit(None)),
        "depth": long(scored | {"third": ["early", "middle", "late"]}, "share"),
        "score_shift": long(mixed | {"single": ["helpful", "harmless"]}, "single mixed closeness").with_columns(n=12),
        "rmsd": long(trained, "rmsd level ratio").insert_column(2, pl.lit(0.0035).alias("rmsd")),
        "stability": long(scored, "jaccard").drop("jaccard_sd", "n_seeds").with_columns(chance=0.05),
        "official": long(trained | {"ablation": ["none", "magnitude-p10"]} | metrics, "value"),
        "models_card": pl.DataFrame({"model": models, "family": "gpt2", "tied": True, "neurons": 36_864, "rate": 1e-4}),
        "published": pl.DataFrame({"table": ["1"] * 120, "ours": np.linspace(-1, 1, 120), "inside": [True, None] * 60}),
        "empty": long(mixed, "retention", tasks).clear(),
    }  # fmt: skip


SMALL_FORMS = forms(["zebra"], SMALL)
PAPER_FORMS = forms(["gpt2", "gpt2-medium", "gpt2-large", "smollm2-135m", "smollm2-360m", "smollm2-1.7b"], PAPER)


def tabulars(tex: str) -> list[str]:
    return re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", tex, re.DOTALL)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("accuracy", ["model", "regime", "helpful: aim", "helpful: focus_50%", "helpful: average",
                      "harmless: Tact & <tone>", "harmless: average"]),
        ("official", ["model", "regime", "ablation", "reward-bench: easy", "reward-bench: hard",
                      "reward-bench: overall", "rm-bench: easy", "rm-bench: hard", "rm-bench: overall"]),
        ("depth", ["model", "regime", "scoring", "early", "middle", "late"]),
        ("ablation_curve", ["model", "regime", "scoring", "benchmark", *(f"{p} %" for p in [*range(0, 31, 2), 100])]),
        ("benchmark_accuracy", ["model", "regime", "hh-test", "rm-bench"]),
        ("set_size", ["model", "regime", "ablation", "control", "percent", "hh-test"]),  # percents that make no grid
        ("score_shift", ["model", "regime", "single", "mean single", "mixed", "closeness", "n"]),
        ("rmsd", ["model", "regime", "rmsd", "mean rmsd", "level", "ratio"]),
        ("models_card", ["model", "family", "tied", "neurons", "rate"]),
    ],
)  # fmt: skip
def test_form_follows_from_the_columns(name: str, columns: list[str]) -> None:
    assert readable(SMALL_FORMS[name]).columns == columns


EFFECT = pl.DataFrame({
    "model": "ape", "percent": 10.0, "orientation": "helpful", "task": ["lost", "won", "average", "noise"],
    "delta_mean": [-7.34, 12.0, -40.0, -0.04], "delta_sd": 1.0, "delta_low": [-9.0, -1.25, None, -0.01],
    "delta_high": [-5.0, 14.0, None, 0.02], "ablated_mean": [53.0, 70.0, 10.25, 50.0],
    "p": [0.01, 0.01, 0.01, 0.9], "q": [0.02, 0.06, None, 0.9], "n_seeds": 3,
})  # fmt: skip


def test_cells_say_how_sure_a_difference_is_and_averages_stand_last() -> None:
    assert readable(EFFECT).row(0, named=True) == {
        "model": "ape", "percent": "10 %",
        "helpful: lost": "-7.3* [-9.0, -5.0] → 53.0",
        "helpful: won": "+12.0 [-1.2, 14.0] → 70.0",  # p is small, q is not
        "helpful: noise": "+0.0 [0.0, 0.0] → 50.0",
        "helpful: average": "-40.0* ± 1.0 → 10.2",  # no q; no interval either
    }  # fmt: skip


def test_a_mean_that_rounds_to_zero_has_no_sign() -> None:
    shift = {"model": "ape", "mixed_mean": -0.003, "mixed_low": -0.015, "mixed_high": -0.001}
    assert readable(pl.DataFrame(shift)).row(0) == ("ape", "0.00 [-0.01, 0.00]")


def test_latex_tints_by_size_and_keeps_the_sign() -> None:
    [row] = [line for line in as_latex(EFFECT).splitlines() if line.startswith("ape")]
    assert row.split(" & ") == [
        "ape", r"10 \%",
        r"\cellcolor{red!15}$-$7.3*$\to$53.0",
        r"\cellcolor{blue!25}+12.0\phantom{*}$\to$70.0",
        r"\cellcolor{red!0}+0.0\phantom{*}$\to$50.0",
        r"\cellcolor{red!45}$-$40.0*$\to$10.2 \\",
    ]  # fmt: skip


def test_one_seed_shows_the_interval_if_there_is_one_and_nulls_are_blank() -> None:
    table = pl.DataFrame({
        "model": ["a", "b", "c"], "retention_mean": [0.5, 0.25, None], "retention_sd": [0.0, 0.125, None],
        "retention_low": [0.4, 0.2, None], "retention_high": [0.6, 0.3, None], "n_seeds": [1, 3, None],
    })  # fmt: skip
    assert readable(table)["retention"].to_list() == ["0.50 [0.40, 0.60]", "0.25 ± 0.12", ""]
    assert readable(table.drop("retention_low"))["retention"].to_list() == ["0.50", "0.25 ± 0.12", ""]
    assert "0.50\\,[0.40, 0.60] \\\\\nb & 0.25\\,$\\pm$\\,0.12" in as_latex(table)


def test_a_task_missing_from_the_first_row_keeps_its_place() -> None:
    table = SMALL_FORMS["accuracy"]
    missing = table.filter((pl.col("task") != "aim") | (pl.col("regime") != "helpful"))
    grid, whole = readable(missing), readable(table)
    assert {*grid.columns} == {*whole.columns}
    assert grid.columns[4] == "helpful: average"
    assert grid["helpful: aim"][0] == "" and grid["helpful: aim"][1] == whole["helpful: aim"][1]


@pytest.mark.parametrize("table", [*SMALL_FORMS.values(), *PAPER_FORMS.values()], ids=[*SMALL_FORMS, *PAPER_FORMS])
def test_latex_is_whole(table: pl.DataFrame) -> None:
    tex = as_latex(table)
    assert tex.startswith(r"% Needs \usepackage{booktabs,graphicx} and \usepackage[table]{xcolor}.")
    for tabular in tabulars(tex):
        [kinds] = re.findall(r"\\begin\{tabular\}\{(.*)\}", tabular)
        width = len(re.findall("[lr]", kinds.replace(r">{\bfseries}", "")))
        lines = [line for line in tabular.splitlines() if line.endswith(r"\\")]
        # A span of n columns stands for n - 1 signs between columns.
        between = [len(re.findall(r"(?<!\\)&", line)) + sum(int(n) - 1 for n in re.findall(r"multicolumn\{(\d+)", line))
                   for line in lines]  # fmt: skip
        assert {*between} == {width - 1}
        assert len(lines) <= 50
    bare = re.sub(r"\\[&%$#_{}]", "", tex)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0


def test_wide_tables_are_cut_by_orientation_and_long_ones_show_the_means_over_models() -> None:
    tex = as_latex(PAPER_FORMS["accuracy"])
    parts = tabulars(tex)
    assert [t.count(r"\rotatebox") for t in parts] == [6, 6, 6, 4, 5]
    assert ["helpful tasks" in t for t in parts] == [True] * 3 + [False] * 2
    assert [r"\bfseries average" in t for t in parts] == [False, False, True, False, True]
    for part in parts:
        rows = [line.split(" & ")[0] for line in part.split(r"\midrule")[1].strip().splitlines()[:3]]
        assert rows == ["helpful", "harmless", "helpful-harmless"]
    assert "Model: all models; " in tex and "each model's own rows: in the csv file" in tex
    assert len(tabulars(as_latex(SMALL_FORMS["accuracy"]))) == 1
    assert "csv file" not in as_latex(SMALL_FORMS["accuracy"])


def test_a_model_is_said_once_and_tables_are_cut_between_models() -> None:
    short = PAPER_FORMS["rmsd"]
    [whole] = tabulars(as_latex(short))
    block = whole.split(r"\midrule")[1].strip().splitlines()
    assert [line.split(" & ")[:2] for line in block] == [
        ["gpt2", "helpful"],
        ["", "harmless"],
        ["", "helpful-harmless"],
    ]
    without_means = PAPER_FORMS["depth"].filter(pl.col("model") != OVERALL)
    parts = tabulars(as_latex(without_means))
    assert [re.findall(r"^[\w.-]+(?= & helpful &)", part, re.MULTILINE) for part in parts] == [
        ["gpt2", "gpt2-medium", "gpt2-large", "smollm2-135m", "smollm2-360m"],
        ["smollm2-1.7b"],
    ]


def test_a_table_without_end_is_printed_in_part_with_all_its_columns() -> None:
    rows = {"name": [f"name {i}" for i in range(900)]}
    endless = pl.DataFrame(rows | {f"a column of numbers {i}": range(900) for i in range(9)})
    tex = as_latex(endless)
    heads = {head for part in tabulars(tex) for head in part.split("\n")[2].removesuffix(r" \\").split(" & ")}
    assert heads == {*endless.columns}
    shown = [len(re.findall(r"^name \d+ &", part, re.MULTILINE)) for part in tabulars(tex)]
    assert 200 < sum(shown) <= 6 * 48 and max(shown) <= 48
    assert "Further rows: in the csv file" in tex


CMR = FT2Font(str(mpl.get_data_path()) + "/fonts/ttf/cmr10.ttf")
CMB = FT2Font(str(mpl.get_data_path()) + "/fonts/ttf/cmb10.ttf")


def measured(text: str) -> float:
    """Points in Computer Modern of 7 points, whose letters are 14 % wider than those of 10 points made smaller."""
    font = CMB if r"\bfseries" in text else CMR
    text = re.sub(r"\\cellcolor\{[^}]*\}|\\(?:phantom|bfseries|multicolumn\{\d+\}\{\w\})", "", text)
    text = re.sub(r"\$\\(?:pm|to)\$", "m", text.replace(r"\,", "."))
    font.set_size(700, 72)  # the grid of pixels is fine then
    font.set_text(re.sub(r"\\text\w+|[\\{}$]", "", text).strip())
    return 1.14 * font.get_width_height()[0] / 64 / 100


@pytest.mark.parametrize("forms", [SMALL_FORMS, PAPER_FORMS], ids=["small", "paper"])
def test_no_table_is_wider_than_the_line_or_smaller_than_seven_points(forms: dict[str, pl.DataFrame]) -> None:
    """What is wider would be shrunk to fit. \\scriptsize is 7 points, smaller are \\tiny and indices."""
    for name, table in forms.items():
        tex = as_latex(table)
        assert r"\scriptsize" in tex and not re.search(r"\\tiny|[_^]\{", tex), name
        for part in tabulars(tex):
            [kinds] = re.findall(r"\\begin\{tabular\}\{(.*)\}", part)
            kinds = re.findall(r"(?:>\{[^ ]*?\})?(p\{\d+pt\}|[lr])", kinds.replace(r">{\bfseries}r", "r"))
            lines = [line.removesuffix(r" \\").split(" & ") for line in part.splitlines() if line.endswith(r" \\")]
            lines = [line for line in lines if len(line) == len(kinds)]
            width = 0.0
            for i, kind in enumerate(kinds):
                cells = [line[i] for line in lines]
                fixed = re.findall(r"p\{(\d+)", kind)
                upright = [cell for cell in cells if "rotatebox" not in cell]
                width += 6 + max(float(fixed[0]) if fixed else 8, *(0 if fixed else measured(cell) for cell in upright))
            assert width <= 345, (name, part.splitlines()[:6])


def test_what_all_rows_share_stands_below() -> None:
    tex = as_latex(SMALL_FORMS["shared_ablation"])
    assert r"Regime: helpful-harmless; replaced by: zero; neurons: 1,843; *: $q<0.05$" in tex
    assert "helpful-harmless" not in tabulars(tex)[0]


def test_special_characters() -> None:
    odd = pl.DataFrame({"name": [r"a_b&50% #1 {x} ~^ \ $5 <|> é 漢", "[- x]*"], "size": [1234567, -2]})
    assert as_latex(odd).split(r"\midrule")[1].split(r"\bottomrule")[0].split("\n")[1:-1] == [
        r"a\_b\&50\% \#1 \{x\} \textasciitilde{}\textasciicircum{} \textbackslash{} \$5 $<$$|$$>$ é ? & 1,234,567 \\",
        r"{[}- x]{*} & $-$2 \\",
    ]
    assert as_markdown(odd).splitlines()[1:3] == ["| --- | ---: |", r"| a_b&50% #1 {x} ~^ \ $5 <\|> é 漢 | 1,234,567 |"]


def test_twins_show_the_same_numbers(tmp_path: Path) -> None:
    table = SMALL_FORMS["own_ablation"]
    write_table(table, tmp_path / "own_ablation.parquet")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".md", ".parquet", ".tex"]
    assert pl.read_parquet(tmp_path / "own_ablation.parquet").equals(table)
    assert pl.read_csv(tmp_path / "own_ablation.csv", schema=table.schema).equals(table)
    delta = f"{table['delta_mean'][0]:+.1f}"
    assert delta in (tmp_path / "own_ablation.md").read_text().splitlines()[2]
    assert delta.replace("-", "$-$") in (tmp_path / "own_ablation.tex").read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_every_form_compiles(tmp_path: Path) -> None:
    """In one document, in the text and in a float; no table is wider than the line or higher than the page."""
    tables = [*SMALL_FORMS.values(), *PAPER_FORMS.values()]
    for number, table in enumerate(tables):
        write_table(table, tmp_path / f"{number}.parquet")
    body = "".join(rf"\input{{{number}}}\clearpage " for number in range(len(tables)))
    floating = r"\begin{table}\centering\input{0}\caption{Accuracy}\end{table}"
    (tmp_path / "all.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\usepackage[table]{xcolor}"
        rf"\begin{{document}}{body}{floating}\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Overfull" not in run.stdout


def test_a_zero_has_no_sign_in_any_form(tmp_path: Path) -> None:
    table = pl.DataFrame({"task": ["a", "b", "c"], "value_mean": [-0.0, 0.0, None], "n": [1, 0, 2]})
    write_table(table, tmp_path / "t.parquet")
    written = pl.read_parquet(tmp_path / "t.parquet")
    assert written.equals(table) and not np.signbit(written["value_mean"].drop_nulls().to_numpy()).any()
    assert all("-0" not in (tmp_path / f"t.{form}").read_text() for form in ("csv", "md", "tex"))
