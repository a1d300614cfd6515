import io

import pytest
from rich.console import Console

from usrl.evaluation.compare import compare
from usrl.evaluation.report.columns import find_best, format_cell, list_columns, print_figures, print_results


def print_to_text(results, width: int = 80) -> str:
    stream = io.StringIO()
    print_results(results, Console(file=stream, width=width))
    return stream.getvalue()


def test_both_blocks_are_printed_with_figures_that_fit_a_terminal(methods, samples, tmp_path):
    results = compare(methods, samples, tmp_path / "out", dataset="toy [x]", split="test")
    text = print_to_text(results)
    assert "prompted: toy [x], test" in text
    assert "automatic: toy [x], test" in text
    assert "…" not in text
    for row in results["rows"]:
        assert f"{row['dice']:.3f} [{row['dice_low']:.3f}, {row['dice_high']:.3f}]" in text


def test_a_long_name_keeps_to_one_line_where_no_terminal_is_narrow(toy, samples, tmp_path, capsys):
    name = "a-network-with-a-rather-long-name+an-agent-with-a-long-name"
    print_results(compare([toy.Darkness(name)], samples, tmp_path / "out", dataset="toy", split="test"))
    assert name in capsys.readouterr().out


def test_a_block_without_methods_is_left_out(toy, samples, tmp_path):
    blank = toy.make_sample(9, has_lesion=False)
    results = compare(
        [toy.Darkness("[red]")], [*samples, blank], tmp_path / "out", dataset="toy", split="test"
    )
    text = print_to_text(results)
    assert "prompted" not in text
    assert "[red]: false detections in 0 of 1 images without lesion" in text


def test_the_best_methods_are_marked_and_ceilings_do_not_compete(toy, methods, samples, tmp_path):
    results = compare([toy.TargetItself(), *methods], samples, tmp_path / "out", dataset="toy", split="test")
    prompted = [row for row in results["rows"] if row["track"] == "prompted"]
    columns = {column.key: column for column in list_columns(prompted)}
    assert find_best(prompted, columns["dice"]) == {max(prompted[1:], key=lambda row: row["dice"])["method"]}
    assert find_best(prompted, columns["missed"]) == set()  # all tie
    missing_one = [*prompted, prompted[1] | {"method": "other", "missed": 2}]
    assert find_best(missing_one, columns["missed"]) == {"proposal", "agent"}
    assert find_best(prompted, columns["n"]) == find_best(prompted[:2], columns["dice"]) == set()
    stream = io.StringIO()
    print_results(results, Console(file=stream, width=80, force_terminal=True))
    (line,) = (line for line in stream.getvalue().splitlines() if "target" in line)
    assert "\x1b[1m" not in line
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<td class=text>target</td><td class=number>6</td><td class=number>0</td>" in page


def test_a_cell_that_does_not_apply_is_empty():
    rows = [{"n": 3, "dice": 0.5, "dice_low": 0.4, "dice_high": 0.6}, {"n": 3, "worsened": 0.25}]
    columns = {column.key: column for column in list_columns(rows)}
    assert list(columns) == ["n", "dice", "worsened"]
    assert format_cell(rows[0], columns["worsened"]) == ""
    assert format_cell(rows[1], columns["worsened"]) == "25%"
    assert format_cell(rows[0], columns["dice"]) == "0.500 [0.400, 0.600]"
    assert format_cell(rows[0] | {"dice_low": 0.5, "dice_high": 0.5}, columns["dice"]) == "0.500 [—]"


def test_methods_whose_figures_look_the_same_are_marked_alike():
    rows = [{"method": name, "asd_px": value} for name, value in (("a", 0.221), ("b", 0.219), ("c", 0.3))]
    (column,) = list_columns(rows)
    assert find_best(rows, column) == {"a", "b"}
    assert find_best(rows[:2], column) == set()


def test_every_column_says_what_it_means_and_which_way_is_better():
    columns = {
        column.key: column for column in list_columns([{"n": 1, "dice": 1, "hd_px": 1, "worsened": 1}])
    }
    assert columns["n"].explain() == "images with a lesion"
    assert columns["dice"].explain().endswith("; higher is better")
    assert columns["hd_px"].explain().endswith("; lower is better")
    assert columns["worsened"].explain().endswith("; lower is better")


@pytest.mark.parametrize(
    ("methods", "first"), [(2, ["dice [95%]", "flicker"]), (3, ["unet-0", "unet-1", "unet-2"])]
)
def test_what_there_is_more_of_goes_down_the_page(methods, first):
    figures = {"dice": 0.5, "dice_low": 0.25, "dice_high": 0.75, "flicker": 0.125, "flicker_low": 0.0}
    rows = [{"method": f"unet-{number}", **figures} for number in range(methods)]
    stream = io.StringIO()
    results = {"dataset": "sweeps", "split": "test", "rows": rows}
    print_figures(results, "method", ("dice",), Console(file=stream, width=80))
    text = stream.getvalue()
    assert "…" not in text, "nothing is cut off"
    assert text.count("0.500 [0.250, 0.750]") == methods
    lines = [line.strip() for line in text.splitlines()]
    assert [name for line in lines for name in first if line.startswith(name)] == first
