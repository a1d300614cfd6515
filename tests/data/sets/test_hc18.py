import math

import numpy as np
import pytest
from sample_builders import draw_ellipse, inspect, load, noise, truncate, write

from usrl.data.sets.hc18 import Ellipse, fit_ellipse
from usrl.errors import UserError
from usrl.evaluation.compare import score_sample
from usrl.metrics.size import measure_circumference

TABLE = "training_set_pixel_size_and_HC.csv"


def _replace(root, old, new):
    text = (root / TABLE).read_text()
    assert old in text
    (root / TABLE).write_text(text.replace(old, new))


def test_images_are_named_and_grouped_by_exam_with_their_pixel_sizes(hc18_root):
    samples = load("hc18", hc18_root)
    assert [(s.name, s.group, s.source) for s in samples] == [
        ("010_2HC", "010", "hc18"),
        ("010_HC", "010", "hc18"),
        ("011_HC", "011", "hc18"),
    ]
    assert [s.spacing_mm for s in samples] == [(0.2, 0.2), (0.1, 0.1), (0.1, 0.1)]
    np.testing.assert_array_equal(samples[1].image, noise(1, (120, 160)))


def test_the_target_is_the_filled_ellipse_of_the_outline(hc18_root):
    target = load("hc18", hc18_root)[1].target
    drawn = Ellipse((80, 60), (50, 35), math.radians(30)).fill((120, 160))
    assert (target != drawn).mean() < 0.002
    assert target.sum() == pytest.approx(math.pi * 50 * 35, rel=0.01)


def test_samples_know_the_circumference_of_the_table_and_a_mask_is_measured_against_it(hc18_root):
    samples = load("hc18", hc18_root)
    wanted = [sample.measured["circumference_mm"] for sample in samples]
    drawn = Ellipse((80, 60), (50, 35), 0.0).circumference
    assert wanted[1:] == pytest.approx([0.1 * drawn] * 2, rel=0.002)
    for sample in samples:
        scores = score_sample(sample.target, sample, in_mm=True)
        assert scores["target_circumference_mm"] == sample.measured["circumference_mm"]
        assert scores["circumference_error_mm"] < 0.01 * sample.measured["circumference_mm"]
        assert scores["area_mm2"] == pytest.approx(sample.target.sum() * sample.spacing_mm[0] ** 2)
        nothing = score_sample(np.zeros_like(sample.target), sample, in_mm=True)
        assert nothing["circumference_error_mm"] == sample.measured["circumference_mm"]


def test_an_ellipse_that_the_border_cuts_is_filled_up_to_the_border(hc18_root):
    target = load("hc18", hc18_root)[2].target
    drawn = Ellipse((30, 60), (50, 35), math.radians(30)).fill((120, 160))
    assert drawn[:, 0].any()
    assert (target != drawn).mean() < 0.002


def test_a_check_says_how_far_circumferences_are_from_the_table(hc18_root):
    report = inspect("hc18", hc18_root)
    assert report.is_sound
    assert (report.counts, report.groups) == ({"hc18": 3}, 2)
    assert float(report.facts["largest difference of circumference"].rstrip("%")) < 0.2
    _replace(hc18_root, "010_HC.png,0.1,", "010_HC.png,0.104,")
    report = inspect("hc18", hc18_root)
    assert float(report.facts["largest difference of circumference"].rstrip("%")) == pytest.approx(4, abs=0.2)
    assert report.counts == {"hc18": 2}
    assert len(report.faults) == 1


def test_another_circumference_than_the_tables_is_a_fault(hc18_root):
    _replace(hc18_root, "010_HC.png,0.1,", "010_HC.png,0.099,")
    message = r"010_HC\.png: the ellipse .* differs by (0\.9|1\.\d)% from the circumference .* than 0\.5%"
    with pytest.raises(UserError, match=message):
        load("hc18", hc18_root)
    _replace(hc18_root, "010_HC.png,0.099,", "010_HC.png,0.0998,")
    assert len(load("hc18", hc18_root)) == 3


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("010_HC_Annotation.png", r"010_HC\.png: has no annotation 010_HC_Annotation\.png; restore it"),
        ("010_HC.png", r"010_HC_Annotation\.png: has no image; restore the image"),
    ],
)
def test_a_missing_file_is_named(hc18_root, gone, message):
    (hc18_root / "training_set" / gone).unlink()
    with pytest.raises(UserError, match=message):
        load("hc18", hc18_root)
    report = inspect("hc18", hc18_root)
    assert report.counts == {"hc18": 2}
    assert any("no annotated image for 010_HC.png; restore them" in fault for fault in report.faults)


def test_an_image_without_a_row_is_named(hc18_root):
    _replace(hc18_root, "010_HC.png", "999_HC.png")
    with pytest.raises(
        UserError, match=r"(?s)no annotated image for 999_HC\.png.*no sound row for 010_HC\.png; restore it"
    ):
        load("hc18", hc18_root)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("010_HC.png,0.1,", "010_HC.png,-0.1,"),
        ("010_HC.png,0.1,", "010_HC.png,nan,"),
        ("010_HC.png,0.1,", "010_HC.png,0.1 mm,"),
        ("010_HC.png,0.1,", "010_HC.png,"),
        ("010_HC.png,", "011_HC.png,"),
    ],
)
def test_a_row_without_two_positive_sizes_or_a_second_row_of_an_image_is_a_fault(hc18_root, old, new):
    _replace(hc18_root, old, new)
    with pytest.raises(UserError, match=rf"{TABLE}: line \d must give a new file name and two positive"):
        load("hc18", hc18_root)
    assert inspect("hc18", hc18_root).counts == {"hc18": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,mm\n", "the header must be filename,pixel size"),
        (b"", "the header must be filename,pixel size"),
        (b"filename,\xff\xfe\n", "cannot be read as CSV .*save it as UTF-8 text"),
        (None, "cannot be read .*; name a CSV file that is there, or restore it"),
    ],
)
def test_a_table_that_is_absent_or_none_is_refused(hc18_root, content, message):
    (hc18_root / TABLE).unlink()
    if content is not None:
        (hc18_root / TABLE).write_bytes(content)
    with pytest.raises(UserError, match=rf"{TABLE}: {message}"):
        load("hc18", hc18_root)
    assert inspect("hc18", hc18_root).counts == {}


def test_a_damaged_image_and_an_annotation_of_another_size_are_named(hc18_root):
    truncate(hc18_root / "training_set" / "010_2HC.png")
    write(hc18_root / "training_set" / "010_HC_Annotation.png", np.zeros((30, 50), np.uint8))
    message = r"(?s)010_2HC\.png: is damaged.*010_HC_Annotation\.png: the mask is 50 x 30 px and its image"
    with pytest.raises(UserError, match=message):
        load("hc18", hc18_root)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([5, 6], [5, 6], "an ellipse needs an outline of 5 px or more, got 2"),
        ([60] * 50, list(range(20, 70)), "an outline must enclose an area"),
    ],
)
def test_an_annotation_that_is_no_ellipse_is_named(hc18_root, rows, columns, message):
    outline = np.zeros((120, 160), np.uint8)
    outline[rows, columns] = 255
    write(hc18_root / "training_set" / "010_HC_Annotation.png", outline)
    with pytest.raises(UserError, match=rf"010_HC_Annotation\.png: {message}"):
        load("hc18", hc18_root)


def test_a_filled_annotation_is_told_by_its_circumference(hc18_root):
    filled = Ellipse((80, 60), (50, 35), math.radians(30)).fill((120, 160))
    write(hc18_root / "training_set" / "010_HC_Annotation.png", filled.astype(np.uint8) * 255)
    with pytest.raises(UserError, match=r"010_HC\.png: the ellipse fitted to its annotation differs by"):
        load("hc18", hc18_root)


def test_a_file_of_another_name_is_named(hc18_root):
    write(hc18_root / "training_set" / "copy.png", noise(0))
    with pytest.raises(UserError, match=r"copy\.png: is not named like 010_HC\.png"):
        load("hc18", hc18_root)


def test_a_folder_without_hc18_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no HC18 found; wanted training_set/.*unpack training_set\.zip"):
        load("hc18", tmp_path)
    (tmp_path / "training_set").mkdir()
    with pytest.raises(UserError, match="no HC18 found"):
        inspect("hc18", tmp_path)


def test_the_circumference_of_an_ellipse_is_known():
    assert Ellipse((0, 0), (3, 3), 0.0).circumference == pytest.approx(6 * math.pi)
    # 8 E(3/4) by the tables of the complete elliptic integral of the second kind
    assert Ellipse((0, 0), (1, 2), 0.7).circumference == pytest.approx(9.688448, abs=1e-6)


@pytest.mark.parametrize("degrees", [0, 30, 90, 150])
def test_a_fit_finds_the_ellipse_that_was_drawn(degrees):
    outline, circumference = draw_ellipse((78.3, 61.6), (50, 35), degrees)
    ellipse = fit_ellipse(outline)
    assert ellipse.centre == pytest.approx((78.3, 61.6), abs=0.1)
    assert sorted(ellipse.semi_axes) == pytest.approx([35, 50], abs=0.1)
    assert ellipse.circumference == pytest.approx(circumference, rel=0.003)
    drawn = Ellipse((78.3, 61.6), (50, 35), math.radians(degrees)).fill(outline.shape)
    assert (ellipse.fill(outline.shape) != drawn).mean() < 0.002


@pytest.mark.realdata
def test_real_hc18_loads_without_faults_and_fits_its_table(real_hc18):
    report = inspect("hc18", real_hc18)
    assert report.is_sound
    assert report.counts["hc18"] >= 200
    assert report.groups < report.counts["hc18"]
    assert float(report.facts["largest difference of circumference"].rstrip("%")) < 0.1


@pytest.mark.realdata
def test_circumferences_of_real_heads_are_measured_as_the_table_says(real_hc18):
    differences = [
        abs(measure_circumference(sample.target, sample.spacing_mm[0]) - sample.measured["circumference_mm"])
        for sample in load("hc18", real_hc18)
    ]
    assert np.mean(differences) < 0.06
    assert max(differences) < 0.2


@pytest.mark.realdata
def test_real_hc18_has_one_head_an_image_and_cut_ones_reach_the_border(real_hc18):
    samples = {sample.name: sample for sample in load("hc18", real_hc18)}
    for name in samples.keys() & {"186_HC", "346_HC", "628_2HC", "787_HC"}:
        target = samples[name].target
        assert target[[0, -1]].any() or target[:, [0, -1]].any()
    for sample in samples.values():
        assert 0.02 < sample.target.mean() < 0.8
        assert 0.05 < sample.spacing_mm[0] < 0.4
