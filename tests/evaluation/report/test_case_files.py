import csv

import pytest

from usrl.classical import ProposalEllipse
from usrl.errors import UserError
from usrl.evaluation.compare import compare
from usrl.evaluation.report.case_files import check_free, publish_cases


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_published_cases_are_those_of_the_report_with_four_digits_and_without_times(samples, tmp_path):
    compare([ProposalEllipse()], samples, tmp_path / "out", dataset="toy", split="test")
    publish_cases(tmp_path / "out", tmp_path / "new" / "cases.csv")
    own, published = read(tmp_path / "out" / "cases.csv"), read(tmp_path / "new" / "cases.csv")
    assert list(published[0]) == [key for key in own[0] if key != "seconds"]
    for row, other in zip(own, published, strict=True):
        assert (other["case"], other["group"], other["method"]) == (row["case"], row["group"], "proposal")
        assert float(other["dice"]) == pytest.approx(float(row["dice"]), abs=6e-5)
        assert len(other["dice"]) <= 6
        assert other["missed"] == "0"
        assert other["area_px2"] == row["area_px2"].removesuffix(".0")


def test_the_same_cases_are_published_to_the_byte(samples, tmp_path):
    for name in ("a", "b"):
        compare([ProposalEllipse()], samples, tmp_path / name, dataset="toy", split="test")
        publish_cases(tmp_path / name, tmp_path / f"{name}.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_file_that_is_there_or_is_no_csv_is_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.csv is there already; choose another --cases"):
        check_free(tmp_path / "mine.csv")
    with pytest.raises(UserError, match=r"wants a file that ends in \.csv, got .*cases\.txt"):
        check_free(tmp_path / "cases.txt")
