import json

import numpy as np
import pytest
from public_builders import OTHER, SHAPE, SQUARE, make_ddti, region, write_case
from sample_builders import inspect, load, noise, truncate, write

from usrl.errors import UserError


@pytest.fixture
def root(tmp_path):
    return make_ddti(tmp_path / "ddti")


def samples_of(root):
    return {sample.name: sample for sample in load("ddti", root)}


def test_images_are_grouped_by_case_and_counted_by_class(root):
    assert [(s.name, s.group, s.source) for s in load("ddti", root)] == [
        ("2_1", "2", "ddti/4a"),
        ("2_2", "2", "ddti/4a"),
        ("10_1", "10", "ddti/2"),
        ("11_1", "11", "ddti/unknown"),
    ]


def test_a_target_is_what_the_outlines_enclose(root):
    found = samples_of(root)
    square = np.zeros(SHAPE, np.bool_)
    square[10:31, 20:41] = True
    other = np.zeros(SHAPE, np.bool_)
    other[50:71, 80:111] = True
    for name, expected in {"2_1": square, "2_2": square | other, "10_1": other, "11_1": square}.items():
        np.testing.assert_array_equal(found[name].target, expected)


def test_an_outline_that_goes_round_twice_or_crosses_itself_leaves_no_hole(root):
    loop = [(20, 10), (40, 10), (40, 30), (20, 30), (20, 8), (22, 8), (22, 10)]
    write_case(root, 2, {1: [region(SQUARE * 2)], 2: [region(loop)]})
    found = samples_of(root)
    square = found["11_1"].target
    np.testing.assert_array_equal(found["2_1"].target, square)
    assert (found["2_2"].target & square).sum() == square.sum()


def test_marks_that_are_cut_off_or_empty_are_left_out_and_named(root):
    whole = json.dumps([region([(20 + k % 30, 10 + k // 30) for k in range(400)])])
    write_case(root, 7, {1: whole[:2500], 2: "", 3: [region(SQUARE)]})
    message = "ddti: images left out: marks cut off after 2500 letters: 7_1"
    with pytest.warns(UserWarning, match="images left out") as told:
        names = [sample.name for sample in load("ddti", root)]
    assert [str(warning.message) for warning in told] == [message, "ddti: images left out: empty marks: 7_2"]
    assert names == ["2_1", "2_2", "7_3", "10_1", "11_1"]
    report = inspect("ddti", root)
    assert report.is_sound
    assert report.facts["images left out: marks cut off"] == 1
    assert report.facts["images left out: empty marks"] == 1
    assert "images left out: empty marks: 7_2" in report.notes


def test_a_whole_mark_of_as_many_letters_is_read(root):
    text = json.dumps([region(SQUARE)])
    write_case(root, 7, {1: text + " " * (2500 - len(text))})
    assert "7_1" in samples_of(root)


def test_arrows_and_regions_outside_the_image_are_not_used_and_named(root):
    arrow, below = region([(5, 5), (60, 60)], "arrow"), region([(10, 80), (30, 80), (30, 100)])
    write_case(root, 7, {1: [region(SQUARE), arrow, arrow], 2: [region(SQUARE), below]})
    found = samples_of(root)
    np.testing.assert_array_equal(found["7_1"].target, found["2_1"].target)
    np.testing.assert_array_equal(found["7_2"].target, found["2_1"].target)
    report = inspect("ddti", root)
    assert report.is_sound
    assert report.notes == (
        "regions not used: arrows: 7_1, 7_1",
        "regions not used: outside the image: 7_2",
    )


def test_near_duplicates_join_cases(root):
    write_case(root, 30, {1: [region(SQUARE)], 2: [region(OTHER)]}, "5")
    write(root / "30_2.jpg", noise(10_001, SHAPE), "RGB")  # that of 10_1
    groups = {name: sample.group for name, sample in samples_of(root).items()}
    assert groups["30_1"] == groups["30_2"] == groups["10_1"] == "10"
    assert groups["2_1"] == "2"
    assert inspect("ddti", root).cross_pairs == (("10_1", "30_2"),)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("[{", "the mark of .*7_1.jpg: not JSON .*; restore its case's XML"),
        ({"points": []}, "wanted a list of regions"),
        ([3], "wanted a list of regions"),
        ([region([(1, 1), (2, 2)])], "three points or more with finite x and y"),
        ([{"points": [{"x": 1}] * 3}], "three points or more"),
        ([{"points": [{"x": "a", "y": 1}] * 3}], "three points or more"),
        ('[{"points": [{"x": 1e999, "y": 1}, {"x": 2, "y": 1}, {"x": 2, "y": 5}]}]', "three points or more"),
        ([region([(5, 5), (60, 60)], "arrow")], "7_1.jpg: its mark outlines nothing inside the image"),
        ([region([(10, 80), (30, 80), (30, 100)])], "7_1.jpg: its mark outlines nothing inside the image"),
    ],
)
def test_a_mark_that_outlines_nothing_is_a_fault(root, mark, message):
    write_case(root, 7, {1: mark})
    with pytest.raises(UserError, match=message):
        load("ddti", root)
    report = inspect("ddti", root)
    assert len(report.faults) == 1
    assert sum(report.counts.values()) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<case><mark>", r"7.xml: is not XML"),
        ("<case><number>7</number></case>", r"7.xml: has no mark"),
        ("<case><mark><image>x</image></mark></case>", r"7.xml: each mark wants a new number .*, got 'x'"),
        (
            "<case><mark><image>1</image></mark><mark><image>1</image></mark></case>",
            r"each mark wants a new number .*, got '1'",
        ),
        ('<!DOCTYPE case [<!ENTITY a "b">]><case>&a;</case>', r"7.xml: holds declarations"),
        ("<case>" + " " * 1_000_000 + "</case>", r"7.xml: has more than 1000000 bytes"),
        ('<?xml version="1.0" encoding="nonsense"?><case/>', r"7.xml: is not XML"),
    ],
)
def test_a_file_that_is_no_case_is_a_fault(root, text, message):
    (root / "7.xml").write_text(text)
    with pytest.raises(UserError, match=message):
        load("ddti", root)


def test_missing_and_damaged_images_are_named(root):
    (root / "2_1.jpg").unlink()
    (root / "10.xml").unlink()
    truncate(root / "11_1.jpg")
    faults = inspect("ddti", root).faults
    assert len(faults) == 3
    assert "2.xml: marks image 1, and 2_1.jpg is missing; restore it" in faults[0]
    assert "10_1.jpg: no mark for this image; restore its case's XML or remove it" in faults[1]
    assert "11_1.jpg" in faults[2]


def test_a_folder_of_something_else_is_explained(tmp_path):
    with pytest.raises(UserError, match=r"no DDTI found; wanted files such as 106.xml and 106_1.jpg"):
        load("ddti", tmp_path)


@pytest.mark.realdata
def test_the_real_cases_are_read_but_for_what_is_known(real_ddti):
    report = inspect("ddti", real_ddti)
    assert report.is_sound
    assert sum(report.counts.values()) == 371
    facts = report.facts
    assert facts["images left out: marks cut off"] == 7
    assert facts["images left out: empty marks"] == 4
    assert facts["regions not used: arrows"] == 8
    assert facts["regions not used: outside the image"] == 1
    assert facts["images without a lesion"] == 0
