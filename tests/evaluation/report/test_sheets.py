import csv
import io

from usrl.evaluation.report.sheets import Figure, Sheet, write_csv, write_latex, write_sheets

SHEET = Sheet(
    "scores",
    "Scores of\nall",
    ["method", "Dice", "worse", "note"],
    [
        ["a_b & 50%", Figure(0.81234, 3, (0.7, 0.9), is_best=True), Figure(3, 0), ""],
        ["[x]", Figure(0.5, 3, (0.5, 0.5)), None, "no net"],
    ],
)


def test_csv_has_all_digits_and_the_ends_of_intervals_in_columns_of_their_own():
    rows = list(csv.DictReader(io.StringIO(write_csv(SHEET).decode())))
    assert list(rows[0]) == ["method", "Dice", "Dice low", "Dice high", "worse", "note"]
    assert [rows[0][key] for key in ("Dice", "Dice low", "Dice high", "worse")] == [
        "0.81234",
        "0.7",
        "0.9",
        "3",
    ]
    assert rows[1]["worse"] == ""


def test_latex_escapes_names_and_marks_the_best():
    lines = write_latex(SHEET).decode().splitlines()
    assert lines[0] == "% Scores of all"
    assert r"\begin{tabular}{lrrl}" in lines
    assert r"a\_b \& 50\% & \textbf{0.812} [0.700, 0.900] & 3 &  \\" in lines
    assert r"{}[x] & 0.500 [---] &  & no net \\" in lines  # a bracket after \\ would be its option
    assert lines[-1] == r"\end{tabular}"


def test_a_hostile_name_runs_nothing_in_latex():
    sheet = Sheet("x", "$t$\n\\input{a}", ["m"], [["\\input{/etc/passwd}\n%"]])
    text = write_latex(sheet).decode()
    assert "\n\\input" not in text
    assert r"\textbackslash{}input\{/etc/passwd\} \%" in text


def test_long_tables_may_fill_several_pages():
    sheet = Sheet("x", "t", ["m"], [[f"{row}"] for row in range(60)])
    assert r"\begin{longtable}{l}" in write_latex(sheet).decode()
    assert r"\endhead" in write_latex(sheet).decode()


def test_a_sheet_has_two_files():
    assert list(write_sheets([SHEET])) == ["tables/scores.csv", "tables/scores.tex"]
