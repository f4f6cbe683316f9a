"""Numbers in texts against the cells that they are bound to; every table here is made by hand."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from rmtension.cli import app
from rmtension.report.bindings import binding
from rmtension.report.markdown import shown

ROWS = [
    ("all models", "helpful", "average", 0, 48.25, 40.0, 52.449),
    ("all models", "harmless", "average", 0, -0.04, -1.5, 12345.6),
    ("a|b", "it's", "focus_50%", 7, 0.15, 0.00004127, None),
]
COLUMNS = ["model", "regime", "task", "seed", "accuracy_mean", "accuracy_low", "accuracy_high"]
HELPFUL = 'tables/a.parquet model="all models" regime=helpful'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tables").mkdir()
    pl.DataFrame(ROWS, schema=COLUMNS, orient="row").write_parquet(tmp_path / "tables/a.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(text: str, *options: str, name: str = "page.md") -> tuple[int, list[str]]:
    """Exit status, and the lines that are printed."""
    Path(name).write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["check", name, *options], catch_exceptions=False)
    return result.exit_code, result.stdout.splitlines()


@pytest.mark.parametrize(
    ("shown", "column", "is_right"),
    [
        ("48.25", "mean", True),
        ("48.2", "mean", True),  # halves are rounded to even by some, up by others
        ("48.3", "accuracy_mean", True),
        ("48", "mean", True),
        ("48.4", "mean", False),
        ("48.24", "mean", False),
        ("40.0", "low", True),
        ("40.1", "low", False),
        ("-40.0", "low", False),
        ("**48.3 %**", "mean", True),
        ("<b>48.3</b>", "mean", True),
        ("of 9 it is _48.3_", "mean", True),
        ("48.2 [40.0, 52.4]", "mean low high", True),
        ("48.2 [40.0, 52.5]", "mean low high", False),
        ("52.4\n", "high", True),
        ("40.0--52.4", "low high", True),
        ("40.0\N{EN DASH}52.4", "low high", True),
        ("40.0\N{EN DASH}52.5", "low high", False),
    ],
)
def test_the_digits_of_a_number_say_how_its_cell_is_rounded(shown: str, column: str, is_right: bool) -> None:
    status, said = checked(f"It is {shown} <!-- rmtension: {HELPFUL} {column} -->.")
    wrong = 0 if is_right else 1
    assert (status, said[-1]) == (
        wrong,
        f"numbers checked: {len(column.split())}; wrong: {wrong}; bindings that name no cell: 0",
    )


@pytest.mark.parametrize(
    ("shown", "cell"),
    [
        ("-0.0", "regime=harmless mean"),
        ("\N{MINUS SIGN}1.5", "regime=harmless low"),
        ("12,346", "regime=harmless high"),
        ("+0.1", "seed=7 mean"),
        ("4.13e-05", "seed=7.0 low"),
        ("4.13E-05", "seed=7.0 low"),
        ("5 of 48.3", "regime=helpful mean"),
        ("0.2", 'regime="it\'s" mean'),
        ("0.2", "model=a\\|b task=focus_50% mean"),
    ],
)
def test_numbers_and_cells_are_written_in_many_ways(shown: str, cell: str) -> None:
    assert checked(f"|a|{shown} <!-- rmtension: tables/a.parquet {cell} --> |") == (
        0, ["numbers checked: 1; wrong: 0; bindings that name no cell: 0"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 <!-- rmtension: tables/b.parquet x=1 mean -->", "page.md:2: tables/b.parquet: no such table in ."),
        (
            "1 <!-- rmtension: tables/a.parquet regime=helpfull mean -->",
            "no row with regime=helpfull; did you mean 'hel",
        ),
        ("1 <!-- rmtension: tables/a.parquet regime=helpful seed=7 mean -->", "no row with seed=7; known: 0"),
        ("1 <!-- rmtension: tables/a.parquet task=average mean -->", "2 rows, not one; they differ in regime"),
        ("1 <!-- rmtension: tables/a.parquet regime=helpful maen -->", "no column 'maen'; known: accuracy_high"),
        ("1 <!-- rmtension: tables/a.parquet regime=helpful accuracy_men -->", "did you mean 'accuracy_mean'?"),
        ("1 <!-- rmtension: tables/a.parquet seed=7 high -->", "column 'accuracy_high' holds no number but None"),
        ("1 <!-- rmtension: tables/a.parquet seed=7 regime -->", "holds no number but"),
        ("1 <!-- rmtension: tables/a.parquet seed=7 -->", "names no column"),
        ("1 <!-- rmtension: tables/a.parquet 'seed -->", "cannot be read: No closing quotation"),
        ("1 <!-- rmtension: -->", "a binding that is empty"),
        ("1 <!-- rmtension: tables/a.parquet seed=7 low", "not closed"),
        ("1 is it <!-- rmtension: tables/a.parquet seed=7 low -->", "not 1 number(s) directly before"),
        ("1 <!-- rmtension: tables/a.parquet seed=7 mean low -->", "not 2 number(s) directly before"),
        ("1 <!-- rmtension: page.md seed=7 mean -->", "page.md:2: page.md: cannot be read"),
        ("&minus;1.5 <!-- rmtension: tables/a.parquet regime=harmless low -->", "the sign of 1.5 is not read: write -"),
        ("(\N{EN DASH}1.5) <!-- rmtension: tables/a.parquet regime=harmless low -->", "the sign of 1.5 is not read"),
    ],
)
def test_a_binding_that_names_no_cell_is_one_line(text: str, fault: str) -> None:
    status, said = checked(f"# Title\n{text}\n")
    assert status == 1 and len(said) == 2 and said[0].startswith("page.md:2: ") and fault in said[0]
    assert said[1] == "numbers checked: 0; wrong: 0; bindings that name no cell: 1"


@pytest.mark.parametrize(
    "before",
    [
        "&#x2212;", "&ndash;", "&#8211;", "\u2011", "\u2010", "\uff0d", "\ufe63", "\N{MINUS SIGN} ",
        "\N{MINUS SIGN}\u2009", "-\u00a0", "**-**", "-**", "- ", "<b>-</b>",
    ],
)  # fmt: skip
def test_a_minus_that_is_not_read_is_not_passed(before: str) -> None:
    """The cell holds 0.146: a reader sees a minus."""
    bound = "<!-- rmtension: tables/a.parquet seed=7 mean -->"
    status, said = checked(f"It is {before}0.1 {bound}", "--write")
    assert status == 1 and "the sign of 0.1 is not read" in said[0]
    assert Path("page.md").read_text(encoding="utf-8") == f"It is {before}0.1 {bound}"


@pytest.mark.parametrize("before", ["$- ", "$-$", "$-$\\,", "$-$~", "\\textminus ", "\\textminus{}"])
def test_nor_in_latex(before: str) -> None:
    status, said = checked(f"\\rmt{{{before}0.1$}}{{tables/a.parquet seed=7 mean}}".replace("{}", ""), name="p.tex")
    assert status == 1 and "is not read" in said[0]


@pytest.mark.parametrize("before", ["- ", "text\n\n  - ", "> - "])
def test_the_dash_of_a_list_is_no_minus(before: str) -> None:
    assert checked(f"{before}48.3 <!-- rmtension: {HELPFUL} mean -->")[0] == 0


@pytest.mark.parametrize(
    "shown", ["12\u2009346", "12\u00a0346", "12'346", "12 346", "9,346", "12&thinsp;346"]
)  # fmt: skip
def test_a_number_that_may_be_the_end_of_a_longer_one_is_not_passed(shown: str) -> None:
    pl.DataFrame({"mean": [346]}).write_parquet("tables/z.parquet")
    text = f"It is {shown} <!-- rmtension: tables/z.parquet mean -->"
    status, said = checked(text, "--write")
    if "," in shown:
        assert (status, said[0].split(": ")[1]) == (0, "9,346 stands here, 346 in tables/z.parquet mean")
    else:
        assert status == 1 and "346 may be the end of a longer number" in said[0]
        assert Path("page.md").read_text(encoding="utf-8") == text


def test_of_a_decimal_comma_and_of_latex_spaces_too() -> None:
    pl.DataFrame({"mean": [0]}).write_parquet("tables/z.parquet")
    assert "0 may be the end" in checked("1234,0 <!-- rmtension: tables/z.parquet mean -->")[1][0]
    assert "234 may be the end" in checked("\\rmt{1\\,234}{tables/z.parquet mean}", name="p.tex")[1][0]


@pytest.mark.parametrize(
    "text",
    [
        "<td>48.2</td><td>40.0</td><td>52.4{}</td>", "48.2<br>40.0&plusmn;52.4{}",
        "<td>-</td>\n<td>48.2</td>[40.0, 52.4]{}",
        "- **48.2** [40.0, 52.4]{}", "1. - _48.2_ 40.0 52.4{}", "---\n\n48.2 40.0 52.4{}",
        "Title\n-----\n48.2 40.0 52.4{}",
        "48.2 **40.0**-**52.4**{}", "48.2 40.0&nbsp;&ndash;&nbsp;52.4{}", "48.2 <b>40.0</b>\N{EN DASH}<b>52.4</b>{}",
        "It begins with `<!--`. It is 48.2 40.0 52.4{}", "&#1; 48.2 40.0 52.4{}", "9&nbsp;of 48.2 40.0 52.4{}",
    ],
)  # fmt: skip
def test_right_texts_are_passed(text: str) -> None:
    bound = f" <!-- rmtension: {HELPFUL} mean low high -->"
    end = "numbers checked: 3; wrong: 0; bindings that name no cell: 0"
    assert checked(text.format(bound)) == (0, [end])


@pytest.mark.parametrize("shown", ["48.2~40.0~52.4", "48.2 40.0--52.4", "$48.2$ [$40.0$--$52.4$]"])
def test_right_texts_of_latex_are_passed(shown: str) -> None:
    assert checked(f"\\rmt{{{shown}}}{{{HELPFUL} mean low high}}", name="p.tex")[0] == 0
    ends = [f"\\rmt{{{value}}}{{{HELPFUL} {end}}}" for value, end in (("40.0", "low"), ("52.4", "high"))]
    assert checked("--".join(ends), name="p.tex")[0] == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("$\\rmt{- 0.1}{tables/a.parquet seed=7 mean}$", "p.tex"),
        ("$-\\rmt{0.1}{tables/a.parquet seed=7 mean}$", "p.tex"),
        ("<td>\n - 0.1 <!-- rmtension: tables/a.parquet seed=7 mean -->", "p.html"),
        (f"48.3 <!-- rmtension: {HELPFUL} mean --> - 0.1 <!-- rmtension: tables/a.parquet seed=7 mean -->", "p.md"),
    ],
)
def test_nor_is_a_dash_that_begins_no_item_of_a_list(text: str, name: str) -> None:
    status, said = checked(text, name=name)
    assert status == 1 and "the sign of 0.1 is not read" in said[0]


def test_code_over_two_lines_hides_nothing() -> None:
    text = f"Run `rmtension check page.md\n--write`; it is 9.9 <!-- rmtension: {HELPFUL} mean -->, of `mixed`; {{}}"
    assert checked(text.format(f"48.3 <!-- rmtension: {HELPFUL} mean -->"))[1][-1].startswith(
        "numbers checked: 2; wrong: 1"
    )


@pytest.mark.parametrize("shown", ["0.1&#160;%", "<b style='width:80%'>0.1</b>", "0.1 <!-- 3 -->"])
def test_digits_of_markup_are_no_numbers(shown: str) -> None:
    text = f"{shown} <!-- rmtension: tables/a.parquet seed=7 mean -->"
    assert checked(text)[0] == 0
    assert checked(text.replace("0.1", "0.9"), "--write")[0] == 0
    assert Path("page.md").read_text(encoding="utf-8") == text.replace("0.1", "0.2")


def test_words_of_any_kind_are_bound() -> None:
    """What a user's own task can be called."""
    names = ["a  b", "x --> y", "`code", "a|b", "it's", "<b>", "a=b"]
    pl.DataFrame({"task": names, "mean": [*range(7)]}).write_parquet("tables/z.parquet")
    lines = [
        f"| `{name} | {i} {binding('tables/z.parquet', {'task': name}, ['mean'])} |" for i, name in enumerate(names)
    ]
    assert checked("\n".join(lines))[1] == ["numbers checked: 7; wrong: 0; bindings that name no cell: 0"]


def test_code_binds_nothing_and_hides_nothing() -> None:
    bound = f"9.9 <!-- rmtension: {HELPFUL} mean -->"
    text = f"```html\n{bound}\n```\n`{bound}` a ` tick\n\n{bound} ` and <!-- a ` in it --> `x` {bound}\n~~~\n{bound}\n"
    assert [line.partition(": ")[0] for line in checked(text)[1][:-1]] == ["page.md:6", "page.md:6"]


@pytest.mark.parametrize(
    "before", ["```\r\ncode\r\n```\r\n", "```code``` first\n", r"a \` and \` "], ids=["crlf", "span", "escaped"]
)
def test_what_only_looks_like_code_hides_nothing(before: str) -> None:
    status, said = checked(f"{before}9.9 <!-- rmtension: {HELPFUL} mean --> {before}")
    assert status == 1 and said[-1] == "numbers checked: 1; wrong: 1; bindings that name no cell: 0"


def test_in_html_a_backtick_is_no_code() -> None:
    assert checked(f"<p>` 9.9 <!-- rmtension: {HELPFUL} mean --> `</p>", name="page.html")[0] == 1


def test_a_zero_from_below_is_put_right_without_a_plus() -> None:
    pl.DataFrame({"mean": [-0.03]}).write_parquet("tables/z.parquet")
    bound = "<!-- rmtension: tables/z.parquet mean -->"
    checked(f"+0.4 {bound}", "--write")
    assert Path("page.md").read_text(encoding="utf-8") == f"0.0 {bound}"
    assert CliRunner().invoke(app, ["check", "page.md"]).exit_code == 0
    assert shown(-0.03, "+z,.1f") == "0.0" and shown(0.03, "+z,.1f") == "+0.0" and shown(-0.3, "+z,.1f") == "-0.3"


@pytest.mark.parametrize(("shown", "status"), [("0.0", 0), ("-0.0", 1), ("\N{MINUS SIGN}0.0", 1), ("+0.0", 0)])
def test_a_zero_of_the_other_sign_is_wrong(shown: str, status: int) -> None:
    pl.DataFrame({"mean": [0.04]}).write_parquet("tables/z.parquet")
    assert checked(f"{shown} <!-- rmtension: tables/z.parquet mean -->")[0] == status


def test_a_text_that_binds_nothing_is_not_passed() -> None:
    (line,) = checked_error("48.3 <!-- a comment -->")
    assert line.startswith("no number is bound in page.md")


def checked_error(text: str) -> list[str]:
    Path("page.md").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["check", "page.md"])
    assert result.exit_code == 1
    return str(result.exception).splitlines()


def test_latex(folder: Path) -> None:
    (folder / "paper").mkdir()
    text = (
        "\\newcommand{\\rmt}[2]{#1}\\\\% \\rmt{9.9}{tables/none.parquet x}\n% \\rmt{9.9}{tables/none.parquet x}\n"
        f"It is \\rmt{{48.2\\,\\%}}{{{HELPFUL} mean}} and \\rmt{{$-1.6$}}{{tables/a.parquet regime=harmless low}},\n"
        "\\rmt{0.1}{tables/a.parquet task=focus\\_50\\%\n seed=7 mean} or \\rmt{\\textbf{1}}{tables/a.parquet mean}.\n"
    )
    assert checked(text, "--results", ".", name="paper/p.tex") == (1, [
        "paper/p.tex:3: -1.6 stands here, -1.5 in tables/a.parquet regime=harmless low",
        "paper/p.tex:5: a binding that is empty, not closed, or has braces inside",
        "numbers checked: 3; wrong: 1; bindings that name no cell: 1",
    ])  # fmt: skip


def test_of_a_minus_and_an_exponent_only_the_minus_is_written_as_it_was() -> None:
    pl.DataFrame({"mean": [-4.127e-5]}).write_parquet("tables/z.parquet")
    for _ in range(2):  # and can be read again
        checked("\N{MINUS SIGN}4.0e-05 <!-- rmtension: tables/z.parquet mean -->", "--write")
        assert Path("page.md").read_text(encoding="utf-8").startswith("\N{MINUS SIGN}4.1e-5 <!--")
        assert CliRunner().invoke(app, ["check", "page.md"]).exit_code == 0


def test_right_numbers_are_written_as_the_wrong_ones_were(folder: Path) -> None:
    bindings = [f"{HELPFUL} mean low high", "tables/a.parquet regime=harmless high", "tables/a.parquet seed=7 mean low",
                "tables/a.parquet regime=harmless mean low"]  # fmt: skip
    shown = ["7.0 % [40, 52.41]", "1,000", "+7.00 4e-3", "-7.0 \N{MINUS SIGN}7.00"]
    right = ["48.2 % [40, 52.45]", "12,346", "+0.15 0e-3", "0.0 \N{MINUS SIGN}1.50"]
    texts = [
        "".join(f"{n} <!-- rmtension: {b} -->\r\n" for n, b in zip(of, bindings, strict=True)) for of in (shown, right)
    ]
    page = folder / "there.md"
    page.write_bytes(texts[0].encode())
    page.chmod(0o640)
    os.symlink(page, "page.md")
    run = ["check", "page.md", "--write"]
    result = CliRunner().invoke(app, run, catch_exceptions=False)
    assert (
        result.exit_code == 0
        and "numbers checked: 8; wrong: 7, put right; bindings that name no cell: 0" in result.stdout
    )
    assert page.read_bytes().decode() == texts[1] and page.stat().st_mode & 0o777 == 0o640
    assert Path("page.md").is_symlink()
    assert CliRunner().invoke(app, run).stdout == "numbers checked: 8; wrong: 0; bindings that name no cell: 0\n"
