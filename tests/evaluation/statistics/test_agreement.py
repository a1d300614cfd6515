import numpy as np
import pytest

from usrl.data.sample import Sample
from usrl.evaluation.compare import score_sample
from usrl.evaluation.statistics.agreement import (
    list_agreements,
    list_strata,
    measure_agreement,
    split_source,
)


def make_case(number: int, **values) -> dict:
    labels = {"case": f"case {number}", "group": f"{number}", "source": "toy/benign", "method": "a"}
    return labels | {"track": "automatic", "dice": 0.5} | values


def test_agreement_of_hand_computed_differences():
    found = measure_agreement([12, 18, 33], [10, 20, 30])  # differences 2, -2, 3
    assert found.n == 3
    assert found.bias == pytest.approx(1)
    spread = np.sqrt((1 + 9 + 4) / 2)
    assert (found.low, found.high) == pytest.approx((1 - 1.96 * spread, 1 + 1.96 * spread))


def test_a_measurement_agrees_with_itself_and_one_case_has_no_spread():
    assert measure_agreement([1.0, 5.0], [1.0, 5.0]) == (2, 0, 0, 0)
    assert measure_agreement([7.0], [5.0]) == (1, 2, 2, 2)


def test_sizes_are_in_mm_where_the_spacing_is_known():
    pred, target = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    target[2:6, 2:6] = True
    sample = Sample(np.zeros((8, 8), np.uint8), target, (0.5, 0.25), "a", "a", "toy")
    sizes = score_sample(pred, sample, in_mm=True)
    assert sizes["target_area_mm2"] == pytest.approx(16 * 0.125)
    assert sizes["area_mm2"] == sizes["perimeter_mm"] == 0
    assert sizes["target_perimeter_mm"] > 0
    sizes = score_sample(pred, sample, in_mm=False)
    assert (sizes["area_px2"], sizes["target_area_px2"]) == (0, 16)
    assert "perimeter_mm" not in sizes


def test_agreement_is_listed_for_methods_that_have_sizes():
    cases = [make_case(number, area_px2=8 + number, target_area_px2=10) for number in range(3)]
    cases += [make_case(number, method="foreign") for number in range(3)]
    (row,) = list_agreements(cases)
    assert (row["method"], row["measure"], row["unit"], row["n"]) == ("a", "area_px2", "px", 3)
    assert row["bias"] == pytest.approx(-1)


def test_dice_is_averaged_by_thirds_of_the_area_and_by_class():
    cases = [
        make_case(
            number,
            area_px2=0,
            target_area_px2=10 * (number + 1),
            dice=number / 10,
            source="toy/benign" if number < 4 else "toy/malignant",
        )
        for number in range(6)
    ]
    rows = list_strata(cases, seed=0)
    sizes = [row for row in rows if row["sort"] == "size"]
    assert [row["n"] for row in sizes] == [2, 2, 2]
    assert [row["dice"] for row in sizes] == pytest.approx([0.05, 0.25, 0.45])
    assert [row["kind"].split(":")[0] for row in sizes] == ["1", "2", "3"]
    classes = {row["kind"]: row["dice"] for row in rows if row["sort"] == "class"}
    assert classes == pytest.approx({"benign": 0.15, "malignant": 0.45})
    assert all(row["dice_low"] <= row["dice"] <= row["dice_high"] for row in rows)
    assert not [row for row in rows if row["sort"] == "source"]  # there is one
    foreign = [make_case(number, method="foreign", source="toy/benign") for number in range(6)]
    thirds = [row for row in list_strata([*cases, *foreign], seed=0) if row["sort"] == "size"]
    assert [row["n"] for row in thirds if row["method"] == "foreign"] == [2, 2, 2]


def test_equal_areas_have_no_thirds():
    cases = [make_case(number, area_px2=0, target_area_px2=10) for number in range(6)]
    assert list_strata(cases, seed=0) == []


def test_a_source_has_a_data_set_and_sometimes_a_class():
    assert split_source("busi/benign") == ("busi", "benign")
    assert split_source("hc18") == ("hc18", "")
