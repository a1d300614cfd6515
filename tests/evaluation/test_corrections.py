"""Methods that a simulated user corrects, compared."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from usrl.data.sample import Sample
from usrl.errors import UserError
from usrl.evaluation.corrections import COUNTS, MOST, Meeting, compare_corrections, measure_area
from usrl.metrics.overlap import dice
from usrl.segmenter import Answer
from usrl.session import Asks, Marks
from usrl.users.users import USERS, User


def make_sample(index: int) -> Sample:
    rows, columns = np.mgrid[:48, :64]
    target = (columns - 24 - 2 * index) ** 2 + (rows - 24) ** 2 <= (7 + index / 2) ** 2
    image = np.where(target, 40, 140).astype(np.uint8)
    return Sample(image, target, None, f"case {index}", f"patient {index // 2}", "toy")


SAMPLES = [make_sample(index) for index in range(6)]
FIXED = User("fixed")


@dataclass
class Growing:
    """Knows the targets, and shows one more part of them with each correction."""

    parts: Sequence[float]
    name: str = "growing"
    asks: Asks = "border"
    asked: list[Marks] = field(default_factory=list)

    def begin(self, image: np.ndarray, marks: Marks) -> tuple[np.ndarray, int]:
        return next(sample.target for sample in SAMPLES if sample.image is image), 0

    def correct(self, state: tuple[np.ndarray, int], marks: Marks) -> tuple[np.ndarray, int]:
        self.asked.append(marks)
        return state[0], state[1] + 1

    def answer(self, state: tuple[np.ndarray, int]) -> Answer:
        target, count = state
        share = self.parts[min(count, len(self.parts) - 1)]
        order = np.flatnonzero(target)
        mask = np.zeros(target.size, bool)
        mask[order[: round(share * len(order))]] = True
        return Answer(mask.reshape(target.shape))


def compare(tmp_path: Path, *methods: Growing | list[Growing], user: User = FIXED) -> dict:
    return compare_corrections(methods, SAMPLES, tmp_path / "out", Meeting(user), dataset="toy", split="test")


def test_figures_are_those_of_a_method_that_is_known(tmp_path: Path) -> None:
    method = Growing([0.5, 0.7, 0.8, 0.88, 0.92, 1.0])
    results = compare(tmp_path, method)
    row = results["rows"][0]
    shares = [0.5, 0.7, 0.8, 0.88, 0.92, 1.0]
    wanted = [2 * share / (1 + share) for share in shares]  # of a part of the target
    assert [row["dice_after"][str(count)] for count in (0, 1, 2, 3, 5)] == pytest.approx(
        [wanted[count] for count in (0, 1, 2, 3, 5)], abs=0.01
    )
    assert row["dice_after"]["20"] == 1
    assert list(row["dice_after"]) == list(row["nsd_after"]) == [str(count) for count in COUNTS]
    assert row["dice_auc"] == pytest.approx(measure_area([*wanted, *[1.0] * 5]), abs=0.005)
    assert (row["noc85"], row["noc90"]) == pytest.approx((3, 4), abs=0.2)
    assert (row["nof85"], row["nof90"], row["n"]) == (0, 0, 6)
    assert (row["user"], results["user"], row["corrections"]) == ("fixed", "fixed", 5)
    assert row["dice_auc_low"] <= row["dice_auc"] <= row["dice_auc_high"]


def test_a_user_is_patient_up_to_a_limit_and_failures_count_as_it(tmp_path: Path) -> None:
    row = compare(tmp_path, Growing([0.6, 0.86]))["rows"][0]
    assert row["corrections"] == MOST
    assert (row["noc85"], row["noc90"]) == pytest.approx((1, MOST), abs=0.01)
    assert (row["nof85"], row["nof90"]) == (0, 6)


def test_a_content_user_stops_and_the_image_stays_as_it_is(tmp_path: Path) -> None:
    method = Growing([0.5, 0.97, 0.1])
    row = compare(tmp_path, method)["rows"][0]
    assert row["corrections"] == 1
    assert row["dice_after"]["1"] == row["dice_after"]["20"] > 0.98
    assert len(method.asked) == 6 + 3  # once an image, and again for the films of three


def test_every_method_meets_the_same_user(tmp_path: Path) -> None:
    first, second = Growing([0.5, 0.7]), Growing([0.5, 0.7], name="other")
    compare(tmp_path, first, second, user=USERS["person"])
    assert [marks.border for marks in first.asked] == [marks.border for marks in second.asked]


def test_methods_get_the_marks_that_they_ask_for(tmp_path: Path) -> None:
    method = Growing([0.5, 0.97], asks="clicks")
    compare(tmp_path, method)
    assert all(len(marks.inside) == 1 and not marks.border for marks in method.asked)


def test_better_methods_need_fewer_corrections_and_tests_say_so(tmp_path: Path) -> None:
    fast, slow = Growing([0.5, 0.95, 1.0], name="fast"), Growing([0.5, 0.6, 0.7, 0.8, 1.0], name="slow")
    results = compare(tmp_path, fast, slow)
    by_figure = {test["figure"]: test for test in results["tests"]}
    assert set(by_figure) == {"dice_auc", "noc85", "noc90"}
    assert by_figure["dice_auc"]["difference"] > 0.04
    assert by_figure["noc90"]["difference"] < -1


def test_runs_of_a_mean_are_averaged_image_by_image(tmp_path: Path) -> None:
    results = compare(tmp_path, [Growing([0.5, 1.0]), Growing([0.5, 0.5, 1.0])], Growing([1.0], name="best"))
    rows = {row["method"]: row for row in results["rows"]}
    mean = rows["growing, mean of 2 runs"]
    assert mean["noc90"] == pytest.approx(1.5)
    assert mean["dice_after"]["1"] == pytest.approx((1 + 2 / 3) / 2, abs=0.01)
    tested = {test[side] for test in results["tests"] for side in ("first", "second")}
    assert tested == {"growing, mean of 2 runs", "best"}


def test_files_hold_the_cases_and_the_report(tmp_path: Path) -> None:
    results = compare(tmp_path, Growing([0.5, 0.8, 1.0]))
    folder = tmp_path / "out"
    assert json.loads((folder / "results.json").read_text())["rows"] == results["rows"]
    with (folder / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert len(cases) == 6
    assert {f"dice_{count}" for count in range(MOST + 1)} < set(cases[0])
    page = (folder / "report.html").read_text()
    assert "corrected" in page or "corrects" in page
    assert page.count("data:image/webp") >= 3


def test_the_area_is_a_mean_between_neighbours() -> None:
    assert measure_area([1.0] * 21) == 1
    assert measure_area([0.0, *[1.0] * 20]) == pytest.approx(0.95)
    assert measure_area(np.linspace(0, 2, 21).tolist()) == pytest.approx(0.5)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got 0 methods and 6 such images"):
        compare(tmp_path)


def test_a_meeting_is_the_same_each_time() -> None:
    method, meeting = Growing([0.5, 0.7, 0.9]), Meeting(USERS["careless"])
    first, second = (meeting.correct(method, SAMPLES[0]) for _ in range(2))
    assert len(first) == len(second)
    assert dice(first[-1], second[-1]) == 1
