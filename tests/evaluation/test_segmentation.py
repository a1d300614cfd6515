import errno
import json

import cv2
import numpy as np
import pytest

from usrl.classical import ProposalEllipse, draw_ellipse
from usrl.data.prompts import jittered_boxes, read_boxes
from usrl.errors import UserError
from usrl.evaluation.segmentation import measure_mask, segment_file, segment_files
from usrl.segmenter import Answer


@pytest.fixture
def image_path(toy, tmp_path):
    path = tmp_path / "scan.png"
    cv2.imwrite(str(path), toy.make_sample(0).image)
    return path


def test_mask_overlay_and_measurements_are_written(toy, image_path, tmp_path):
    result = segment_file(toy.Darkness(), image_path, None, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "scan.json",
        "scan_mask.png",
        "scan_overlay.png",
    ]
    mask = cv2.imread(str(tmp_path / "out" / "scan_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (48, 64)
    assert set(np.unique(mask)) == {0, 255}
    assert json.loads((tmp_path / "out" / "scan.json").read_text()) == result
    assert result["area_px"] == (mask > 0).sum() == (toy.make_sample(0).image < 90).sum()
    assert (result["image"], result["method"], result["boxes"]) == ("scan.png", "darkness", [])
    assert (result["width_px"], result["height_px"]) == (64, 48)
    assert cv2.imread(str(tmp_path / "out" / "scan_overlay.png")).shape == (48, 64, 3)


def test_the_uncertainty_is_recorded_where_it_is_known(toy, doubter, samples, image_path, tmp_path):
    result = segment_file(doubter, image_path, None, tmp_path / "out")
    assert 0 < result["uncertainty"] < 1
    assert json.loads((tmp_path / "out" / "scan.json").read_text())["uncertainty"] == result["uncertainty"]
    assert "uncertainty" not in segment_file(toy.Darkness(), image_path, None, tmp_path / "other")


def test_boxes_of_a_prompted_method_are_recorded(toy, image_path, tmp_path):
    boxes = jittered_boxes(toy.make_sample(0))
    result = segment_file(toy.ShrinkingAgent(), image_path, boxes, tmp_path / "out", spacing_mm=(0.1, 0.1))
    assert result["boxes"] == [list(box) for box in boxes]
    assert result["spacing_mm"] == [0.1, 0.1]
    assert result["area_mm2"] == pytest.approx(result["area_px"] * 0.01)


def test_millimetres_are_left_out_where_the_spacing_is_unknown(toy):
    assert not any("mm" in key for key in measure_mask(toy.make_sample(0).target))


def test_millimetres_follow_the_spacing():
    size = measure_mask(np.ones((10, 20), bool), (0.5, 0.2))
    assert (size["components"], size["area_px"]) == (1, 200)
    assert size["area_mm2"] == pytest.approx(20.0)
    assert 12 < size["perimeter_mm"] < 18


def test_an_empty_mask_has_no_size():
    assert measure_mask(np.zeros((9, 9), bool)) == {"components": 0, "area_px": 0, "perimeter_px": 0.0}


def test_components_are_counted():
    mask = np.zeros((20, 20), bool)
    mask[2:5, 2:5] = mask[10:14, 10:14] = True
    assert measure_mask(mask)["components"] == 2


def test_a_name_that_is_no_text_is_refused_before_any_file_is_written(toy, image_path, tmp_path):
    path = image_path.rename(tmp_path / "M\udcfcller.png")
    with pytest.raises(
        UserError, match=r"M\\udcfcller.png': this name cannot be written .*; rename the file"
    ):
        segment_files(toy.Darkness(), [path], {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_one_stem_are_refused_before_any_is_written(toy, image_path, tmp_path):
    other = tmp_path / "more" / "Scan.bmp"
    other.parent.mkdir()
    cv2.imwrite(str(other), toy.make_sample(1).image)
    with pytest.raises(UserError, match="would be written to the same names"):
        segment_files(toy.Darkness(), [image_path, other], {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_files_are_segmented(toy, image_path, tmp_path):
    cv2.imwrite(str(tmp_path / "b.png"), toy.make_sample(1).image)
    results = segment_files(toy.Darkness(), [image_path, tmp_path / "b.png"], {}, tmp_path / "out")
    assert [result["image"] for result in results] == ["scan.png", "b.png"]


def test_nothing_that_exists_is_overwritten(toy, image_path, tmp_path):
    (tmp_path / "scan_mask.png").write_bytes(b"the reference")
    with pytest.raises(UserError, match=r"scan_mask\.png is there already"):
        segment_file(toy.Darkness(), image_path, None, tmp_path)
    assert (tmp_path / "scan_mask.png").read_bytes() == b"the reference"


def test_a_full_disk_leaves_nothing_that_blocks_repeating(toy, image_path, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def fill(path, content):
        if path.suffix == ".json":
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr("usrl.files.write_atomically", fill)
        with pytest.raises(UserError, match=r"out: cannot write here \(No space left on device\)"):
            segment_file(toy.Darkness(), image_path, None, out)
    assert list(out.iterdir()) == []
    segment_file(toy.Darkness(), image_path, None, out)
    assert len(list(out.iterdir())) == 3


def test_a_file_that_is_no_image_is_named(toy, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(UserError, match=r"notes\.png"):
        segment_file(toy.Darkness(), tmp_path / "notes.png", None, tmp_path / "out")


def test_a_prompted_method_without_box_says_how_to_give_one(toy, image_path, tmp_path):
    with pytest.raises(UserError, match="give --box"):
        segment_file(toy.ShrinkingAgent(), image_path, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_spacing_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="two positive sizes"):
        measure_mask(np.ones((3, 3), bool), (0.0, 1.0))


def test_every_box_is_measured_alone_and_what_boxes_share_counts_once_in_the_whole(image_path, tmp_path):
    boxes = ((9.5, 9.5, 29.5, 29.5), (19.5, 9.5, 39.5, 29.5))
    result = segment_file(ProposalEllipse(), image_path, boxes, tmp_path / "out", spacing_mm=(0.1, 0.2))
    first, second = result["lesions"]
    assert (first["box"], second["box"]) == (list(boxes[0]), list(boxes[1]))
    one, other = (draw_ellipse(box, (48, 64)) for box in boxes)
    assert (first["area_px"], second["area_px"]) == (one.sum(), other.sum())
    assert result["area_px"] == (one | other).sum() < one.sum() + other.sum()
    assert first["area_mm2"] == pytest.approx(0.02 * one.sum())
    assert {"perimeter_px", "perimeter_mm", "components"} < set(first)


def test_the_uncertainty_of_a_box_is_its_own(image_path, tmp_path):
    class Sure(ProposalEllipse):
        def segment(self, image, prompt):
            return Answer(super().segment(image, prompt).mask, uncertainty=0.1 * len(prompt))

    boxes = ((10.0, 10.0, 20.0, 20.0), (30.0, 30.0, 40.0, 40.0))
    result = segment_file(Sure(), image_path, boxes, tmp_path / "out")
    assert result["uncertainty"] == 0.2
    assert [lesion["uncertainty"] for lesion in result["lesions"]] == [0.1, 0.1]


def test_components_are_the_lesions_of_an_automatic_method(toy, image_path, tmp_path):
    class Found(toy.Darkness):
        def segment(self, image, prompt):
            mask = np.zeros(image.shape, bool)
            mask[2:5, 3:8] = mask[20:30, 40:50] = True
            return Answer(mask)

    lesions = segment_file(Found(), image_path, None, tmp_path / "out")["lesions"]
    assert [(lesion["box"], lesion["area_px"]) for lesion in lesions] == [
        ([2.5, 1.5, 7.5, 4.5], 15),
        ([39.5, 19.5, 49.5, 29.5], 100),
    ]
    assert segment_file(toy.Darkness(misses=1), image_path, None, tmp_path / "none")["lesions"] == []


def test_every_image_gets_the_boxes_of_its_name(toy, image_path, tmp_path):
    cv2.imwrite(str(tmp_path / "b.png"), toy.make_sample(1).image)
    prompts = {"b.png": ((10.0, 10.0, 20.0, 20.0),), "scan.png": ((30.0, 30.0, 40.0, 42.0),)}
    results = segment_files(ProposalEllipse(), [image_path, tmp_path / "b.png"], prompts, tmp_path / "out")
    assert [result["boxes"] for result in results] == [[[30.0, 30.0, 40.0, 42.0]], [[10.0, 10.0, 20.0, 20.0]]]


@pytest.mark.parametrize(("file", "row"), [("Mu\u0308ller", "M\u00fcller"), ("M\u00fcller", "Mu\u0308ller")])
def test_boxes_match_names_whatever_their_unicode_form(image_path, tmp_path, file, row):
    path = image_path.rename(tmp_path / f"{file}.png")
    table = tmp_path / "boxes.csv"
    table.write_text(f"image;x0;y0;x1;y1\n {row}.png ;30;30;40;42\n")
    for number, prompts in enumerate([read_boxes(table), {f"{row}.png": ((30.0, 30.0, 40.0, 42.0),)}]):
        (result,) = segment_files(ProposalEllipse(), [path], prompts, tmp_path / f"out{number}")
        assert result["boxes"] == [[30.0, 30.0, 40.0, 42.0]]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"scan.png": ((1.0, 1.0, 9.0, 9.0),)}, r"b\.png: a prompted method needs a box"),
        (
            {"x/b.png": ((1.0, 1.0, 9.0, 9.0),)},
            "boxes are given for 'x/b.png', which is not among the 2 images",
        ),
        (dict.fromkeys(("scan.png", "b.png"), ((1.0, 1.0, 64.0, 99.0),)), r"scan\.png: box 1,1,64,99 leaves"),
    ],
)
def test_boxes_that_do_not_go_with_the_images_are_refused_before_any_is_written(
    toy, image_path, tmp_path, prompts, message
):
    cv2.imwrite(str(tmp_path / "b.png"), toy.make_sample(1).image)
    with pytest.raises(UserError, match=message):
        segment_files(ProposalEllipse(), [image_path, tmp_path / "b.png"], prompts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_image_is_refused_before_any_is_written(toy, image_path, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(UserError, match=r"notes\.png"):
        segment_files(toy.Darkness(), [image_path, tmp_path / "notes.png"], {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
