import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from usrl.errors import UserError
from usrl.evaluation.compare import Additions, compare, format_csv
from usrl.evaluation.foreign import MaskFolder, read_cases
from usrl.metrics.overlap import dice


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def full(samples, value="0.5") -> list[str]:
    return [f"{sample.name},{value}" for sample in samples]


@pytest.fixture
def masks(samples, tmp_path):
    """The darkness of each image, as PNG files."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for sample in samples:
        Image.fromarray(np.where(sample.image < 90, 255, 0).astype(np.uint8)).save(
            folder / f"{sample.name}.png"
        )
    return folder


def test_our_own_cases_come_back_as_the_same_rows(toy, methods, samples, tmp_path):
    first = compare(methods, samples, tmp_path / "first", dataset="toy", split="test")
    tables = [read_cases(tmp_path / "first" / "cases.csv", samples)]
    more = Additions(foreign=tables)
    second = compare(
        [toy.Darkness("new")], samples, tmp_path / "second", dataset="toy", split="test", more=more
    )
    rows = {row["method"]: row for row in second["rows"]}
    assert list(rows) == ["new", "proposal", "agent", "darkness"]
    for row in first["rows"]:
        assert rows[row["method"]] == row | {"foreign": True}
    assert "foreign" not in rows["new"]
    tested = [(test["first"], test["second"]) for test in second["tests"]]
    assert tested == [("proposal", "agent"), ("new", "darkness")]


def test_rows_are_put_into_the_order_of_the_samples_and_get_their_groups(samples, tmp_path):
    lines = [f"{sample.name},{place / 10}" for place, sample in enumerate(samples)]
    cases = read_cases(write(tmp_path / "their net.csv", "case,dice", *lines[::-1]), samples)
    assert [case["case"] for case in cases] == [sample.name for sample in samples]
    assert [case["dice"] for case in cases] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert {(case["method"], case["track"]) for case in cases} == {("their net", "automatic")}
    assert [case["group"] for case in cases] == [sample.group for sample in samples]


def test_a_table_of_dice_alone_is_enough_for_report_and_tests(toy, samples, tmp_path):
    tables = [read_cases(write(tmp_path / "darkness.csv", "case,dice", *full(samples)), samples)]
    more = Additions(foreign=[*tables, *tables])
    results = compare([toy.Darkness()], samples, tmp_path / "out", dataset="toy", split="test", more=more)
    assert [row["method"] for row in results["rows"]] == ["darkness", "darkness (2)", "darkness (3)"]
    assert results["rows"][1]["dice"] == 0.5
    assert not {"hd_px", "missed", "seconds_per_image"} & results["rows"][1].keys()
    assert [test["groups"] for test in results["tests"]] == [3, 3, 3]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td class=text>darkness (3)</td>" in page


def test_names_that_were_kept_from_spreadsheets_are_read_back(toy, tmp_path):
    samples = [toy.make_sample(index, name=name) for index, name in enumerate(("=a", "-b", "'c"))]
    path = tmp_path / "cases.csv"
    path.write_bytes(format_csv([{"case": sample.name, "method": "@m", "dice": 1.0} for sample in samples]))
    cases = read_cases(path, samples)
    assert [case["case"] for case in cases] == ["=a", "-b", "'c"]
    assert {case["method"] for case in cases} == {"@m"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-2], "has no row for case 4, case 5; a method is scored on every image"),
        (lambda lines: [*lines, lines[0]], "has two rows for case 0; keep one of each"),
        (lambda lines: [*lines, "case 9,0.5"], "line 8: 'case 9' is not among the 6 images"),
        (lambda lines: ["case 0,50.5", *lines[1:]], "line 2: dice must be a number from 0 to 1, got '50.5'"),
        (lambda lines: ["case 0,nan", *lines[1:]], "line 2: dice must be a number from 0 to 1, got 'nan'"),
        (lambda lines: ["case 0,good", *lines[1:]], "line 2: dice must be a number from 0 to 1, got 'good'"),
        (lambda lines: ["case 0,", *lines[1:]], "line 2: the Dice of 'case 0' is empty"),
        (lambda lines: [], "has no row; write one for each image"),
    ],
)
def test_a_wrong_table_is_refused_with_the_names_in_it(change, told, samples, tmp_path):
    path = write(tmp_path / "cases.csv", "case,dice", *change(full(samples)))
    with pytest.raises(UserError, match=told):
        read_cases(path, samples)


def test_a_table_without_dice_is_refused(samples, tmp_path):
    with pytest.raises(UserError, match="must name the columns case and dice, and dice is missing"):
        read_cases(write(tmp_path / "cases.csv", "case,iou", *full(samples)), samples)


def test_a_distance_that_is_negative_and_a_column_with_gaps_are_refused(samples, tmp_path):
    lines = [f"{line},1.5" for line in full(samples)]
    path = write(tmp_path / "cases.csv", "case,dice,hd95_mm", *lines[:-1], full(samples)[-1] + ",-1")
    with pytest.raises(UserError, match="line 7: hd95_mm must be a number that is not negative, got '-1'"):
        read_cases(path, samples)
    path = write(tmp_path / "cases.csv", "case,dice,hd95_mm", *lines[:-1], full(samples)[-1] + ",")
    with pytest.raises(UserError, match="hd95_mm is empty for 'case 5' and not for others"):
        read_cases(path, samples)


def test_a_track_that_is_not_ours_is_refused(samples, tmp_path):
    lines = [f"{line},semi" for line in full(samples)]
    with pytest.raises(UserError, match="track must be prompted or automatic, got 'semi'"):
        read_cases(write(tmp_path / "cases.csv", "case,dice,track", *lines), samples)


def test_columns_that_are_not_ours_are_named(samples, tmp_path):
    lines = [f"{line},x" for line in full(samples)]
    with pytest.warns(UserWarning, match="columns that are not ours are left out: remark"):
        read_cases(write(tmp_path / "cases.csv", "case,dice,remark", *lines), samples)


def test_masks_of_a_folder_are_scored_by_us(toy, samples, masks, tmp_path):
    method = MaskFolder("theirs", masks, samples)
    results = compare([toy.Darkness(), method], samples, tmp_path / "out", dataset="toy", split="test")
    ours, theirs = results["rows"]
    assert (
        theirs["dice"]
        == ours["dice"]
        == pytest.approx(np.mean([dice(s.image < 90, s.target) for s in samples]))
    )
    assert theirs["hd95_px"] == ours["hd95_px"]


def test_masks_that_are_missing_are_named_with_names_that_are_there(samples, masks):
    (masks / "case 4.png").rename(masks / "other.png")
    with pytest.raises(
        UserError, match="no mask for 1 of 6 images: case 4; it has masks of other names, such as other"
    ):
        MaskFolder("theirs", masks, samples)


def test_masks_of_another_size_are_named_with_both_sizes(samples, masks):
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(masks / "case 2.png")
    with pytest.raises(UserError, match=r"another size .*: case 2 \(20 x 10 px, image 64 x 48 px\)"):
        MaskFolder("theirs", masks, samples)


def test_two_masks_of_one_image_are_refused(samples, masks):
    shutil.copy(masks / "case 2.png", masks / "case 2.bmp")
    with pytest.raises(UserError, match="are masks of the same image; remove one"):
        MaskFolder("theirs", masks, samples)


def test_masks_of_other_images_are_left_out_with_a_warning(samples, masks):
    with pytest.warns(UserWarning, match="masks that are not of these 3 images are left out: case 3"):
        MaskFolder("theirs", masks, samples[:3])


def test_a_folder_of_masks_that_is_not_there_is_refused_and_segments_no_image(samples, masks, tmp_path):
    with pytest.raises(UserError, match="no such folder; give the folder with the masks of theirs"):
        MaskFolder("theirs", tmp_path / "nowhere", samples)
    with pytest.raises(UserError, match="is a folder of masks and segments no image"):
        MaskFolder("theirs", masks, samples).segment(samples[0].image, None)


def test_the_drop_is_the_difference_of_means_with_an_interval_over_groups_of_both_sets(
    toy, samples, tmp_path
):
    class Part(toy.Darkness):
        """Finds every second row, and on bright images nothing."""

        def segment(self, image, prompt):
            answer = super().segment(image, prompt)
            answer.mask[::2] = False
            return answer

    others = [toy.make_sample(index + 50, name=f"other {index}") for index in range(4)]
    more = Additions(external=others, external_name="elsewhere")
    results = compare(
        [toy.Darkness(), Part("part")], samples, tmp_path / "out", dataset="toy", split="test", more=more
    )
    with (tmp_path / "out" / "external.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in results["rows"]:
        there = np.mean([float(case["dice"]) for case in rows if case["method"] == row["method"]])
        assert row["external_dice"] == pytest.approx(there)
        assert row["drop"] == pytest.approx(row["dice"] - there)
        assert row["drop_low"] <= row["drop"] <= row["drop_high"]
    assert results["external"] == {"dataset": "elsewhere", "images": 4, "groups": 2}
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert f"{results['rows'][1]['drop']:.3f}" in (tmp_path / "out" / "report.html").read_text()


def test_folds_have_rows_of_their_own(toy, samples, tmp_path):
    folds = {sample.name: 1 + place % 2 for place, sample in enumerate(samples)}
    results = compare(
        [toy.Darkness(misses=1)],
        samples,
        tmp_path / "out",
        dataset="toy",
        split="all",
        more=Additions(folds=folds),
    )
    found = results["folds"]["darkness"]
    with (tmp_path / "out" / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    means = [np.mean([float(c["dice"]) for c in cases if c["fold"] == fold]) for fold in "12"]
    assert [row["dice"] for row in found["rows"]] == pytest.approx(means)
    assert [row["n"] for row in found["rows"]] == [3, 3]
    assert found["mean"] == pytest.approx(np.mean(means))
    assert found["sd"] == pytest.approx(abs(means[0] - means[1]) / np.sqrt(2))
    assert found["sd"] > 0.2
