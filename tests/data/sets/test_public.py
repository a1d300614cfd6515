"""Data sets whose files have not been met: made copies of their published layouts."""

import json

import nibabel
import numpy as np
import pytest
from public_builders import PUBLIC, write_plane
from sample_builders import disk, inspect, load, noise, truncate, write

from usrl.data.catalogue import DATASETS, load_split
from usrl.data.reading.nifti import read_plane
from usrl.data.sets.bus_bra import read_folds
from usrl.errors import UserError

IGNORED = pytest.mark.filterwarnings("ignore:.*(not for commercial use|left out)")
NAMES = sorted(set(PUBLIC) - {"ddti"})
SIZES = {"bus-bra": 3, "stu": 2, "us-simulation": 4, "mus-v": 4, "cva-net": 17, "camus": 8}
pytestmark = IGNORED


@pytest.fixture
def make(tmp_path):
    return lambda name: PUBLIC[name](tmp_path / name)


def samples_of(name, root):
    return {sample.name: sample for sample in load(name, root)}


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_of_the_layout_loads_and_is_sound(make, name):
    root = make(name)
    samples = load(name, root)
    assert len({sample.name for sample in samples}) == len(samples) == SIZES[name]
    assert all(sample.source.partition("/")[0] == name for sample in samples)
    assert all(sample.labels.any() for sample in samples)
    report = inspect(name, root)
    assert report.is_sound
    assert sum(report.counts.values()) == len(samples)
    assert dict(samples[0].structures) == dict(DATASETS[name].structures)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_something_else_is_explained(tmp_path, name):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"no .* found; wanted .* or name the folder that holds"):
        load(name, tmp_path)


@pytest.mark.parametrize("name", ["camus", "cva-net"])
def test_terms_that_forbid_a_use_are_told_before_anything_is_read(tmp_path, name):
    with (
        pytest.warns(UserWarning, match=rf"{name}: is licensed .*not for commercial use"),
        pytest.raises(UserError, match=r"no .* found"),
    ):
        load(name, tmp_path)


def test_bus_bra_groups_by_case_and_counts_categories_and_folds(make):
    root = make("bus-bra")
    found = samples_of("bus-bra", root)
    assert {name: (s.group, s.source) for name, s in found.items()} == {
        "bus_0001-l": ("case 1", "bus-bra/malignant"),
        "bus_0001-r": ("case 1", "bus-bra/malignant"),
        "bus_0002-l": ("case 2", "bus-bra/benign"),
    }
    np.testing.assert_array_equal(found["bus_0001-l"].target, disk())
    facts = inspect("bus-bra", root).facts
    assert facts["images of BI-RADS 2"] == 1
    assert facts["images of BI-RADS 4"] == facts["images of fold 2"] == 2
    assert read_folds(root) == {"bus_0001-l": 2, "bus_0001-r": 2, "bus_0002-l": 1}


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        (
            "bus_data.csv",
            "bus_0001-r,1",
            "bus_0001-l,1",
            "line 3 must give a new image, its case and benign or",
        ),
        ("bus_data.csv", "benign,2", "normal,2", "line 4 must give a new image"),
        ("bus_data.csv", "ID,Case", "ID,Patient", "must name the columns ID, Case, Pathology"),
        ("5-fold-cv.csv", "bus_0001-r,malignant,2", "bus_0001-r,malignant,1", "parts the images of cases 1"),
        ("5-fold-cv.csv", "malignant,2", "malignant,x", "line 2 must give a new image and the number"),
        ("bus_data.csv", "bus_0002-l", "bus_0003-l", "no sound row for bus_0002-l"),
    ],
)
def test_bus_bra_names_what_is_wrong_in_its_tables(make, table, old, new, message):
    root = make("bus-bra")
    text = (root / "BUSBRA" / table).read_text()
    assert old in text
    (root / "BUSBRA" / table).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load("bus-bra", root)


def test_bus_bra_loads_without_folds_and_notes_other_sizes(make):
    root = make("bus-bra")
    (root / "BUSBRA" / "5-fold-cv.csv").unlink()
    text = (root / "BUSBRA" / "bus_data.csv").read_text()
    (root / "BUSBRA" / "bus_data.csv").write_text(text.replace("50,40", "51,40", 1))
    report = inspect("bus-bra", root)
    assert report.is_sound
    assert report.notes == ("width and height differ from those of bus_data.csv: bus_0001-l",)


def test_a_mask_of_stu_is_stretched_to_its_image_and_noted(make):
    root = make("stu")
    found = samples_of("stu", root)
    np.testing.assert_array_equal(found["Test_Image_4"].target, disk())
    np.testing.assert_array_equal(found["Test_Image_10"].target, disk().repeat(2, axis=0).repeat(2, axis=1))
    report = inspect("stu", root)
    assert report.facts["masks stretched"] == 1
    assert report.notes == ("masks of another size, stretched to their images: Test_Image_10",)


def test_stu_names_lonely_files(make):
    root = make("stu")
    (root / "Hospital" / "mask_4.png").unlink()
    (root / "demo" / "Test_Image_10.png").unlink()
    faults = inspect("stu", root).faults
    assert len(faults) == 2
    assert "Test_Image_4.png: has no mask mask_4.png" in faults[0]
    assert "mask_10.png: has no image Test_Image_10.png" in faults[1]


def test_colours_of_us_simulation_are_organs_and_volumes_are_groups(make):
    root = make("us-simulation")
    found = samples_of("us-simulation", root)
    assert {name: sample.group for name, sample in found.items()} == {
        "ct1-1": "ct1",
        "ct1-2": "ct1",
        "ct2-1": "ct2",
        "real1": "real1",
    }
    liver = found["ct1-1"].select("liver").target
    assert liver.sum() == 10 * 15
    assert found["ct1-1"].select("kidney").target.sum() == 10 * 30
    tinted = found["real1"]
    assert tinted.select("liver").target.sum() == 11 * 15  # with the smoothed outline
    assert set(np.unique(tinted.labels)) == {0, 1, 2}
    assert inspect("us-simulation", root).facts["images left out: not annotated"] == 1


def test_an_annotation_in_other_colours_is_refused(make):
    root = make("us-simulation")
    path = root / "abdominal_US" / "abdominal_US" / "AUS" / "annotations" / "train" / "ct1-1.png"
    write(path, np.random.default_rng(0).integers(60, 200, (40, 50, 3), dtype=np.uint8))
    with pytest.raises(
        UserError, match=r"ct1-1.png: \d+% of its pixels have one of the annotation's colours"
    ):
        load("us-simulation", root)


def test_veins_and_arteries_of_mus_v_are_told_apart_and_videos_are_groups(make):
    root = make("mus-v")
    found = samples_of("mus-v", root)
    assert [sample.group for sample in found.values()] == ["a_clip", "a_clip", "b_clip", "b_clip"]
    assert found["a_clip_001"].select("vein").target.sum() == 10 * 15
    assert found["a_clip_001"].select("artery").target.sum() == 10 * 30
    with pytest.raises(UserError, match="vein"):
        load_split("mus-v", "all", root=root)  # which of the two?


def test_frames_of_mus_v_without_annotation_are_left_out_and_named(make):
    root = make("mus-v")
    write(root / "Videos" / "train" / "c_clip_001.png", noise(3), "RGB")
    with pytest.warns(UserWarning, match="mus-v: images left out: frames without an annotation: c_clip_001"):
        assert len(load("mus-v", root)) == 4
    (root / "Videos" / "train" / "a_clip" / "a_clip_001.png").unlink()
    with pytest.raises(UserError, match=r"a_clip_001.png: has no frame; restore the frame"):
        load("mus-v", root)


def test_boxes_of_cva_net_are_filled_and_frames_are_spread_over_a_video(make):
    root = make("cva-net")
    found = samples_of("cva-net", root)
    benign = [name for name in found if name.startswith("benign/va/")]
    assert len(benign) == 15
    assert {"benign/va/000000", "benign/va/000019"} <= set(benign)
    box = np.zeros((40, 50), np.bool_)
    box[5:20, 10:30] = True
    np.testing.assert_array_equal(found["benign/va/000000"].target, box)
    np.testing.assert_array_equal(found["malignant/vb/000001"].target, box)  # drawn to the left
    assert found["malignant/vb/000000"].source == "cva-net/malignant"
    facts = inspect("cva-net", root).facts
    assert facts["videos"] == 2
    assert facts["frames not read"] == 5
    assert facts["boxes turned"] == facts["boxes of no area, not used"] == 2


def test_videos_of_cva_net_that_show_the_same_are_one_group(make):
    root = make("cva-net")
    raw = root / "Miccai 2022 BUV Dataset" / "rawframes"
    write(raw / "malignant" / "vb" / "000001.png", noise(900 + 7), "RGB")
    assert (raw / "benign" / "va" / "000007.png").is_file()
    write(raw / "benign" / "va" / "000007.png", noise(900 + 7), "RGB")
    groups = {sample.group for sample in load("cva-net", root)}
    assert groups == {"benign/va"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("images"), "wanted a list of images, as COCO has it"),
        (lambda tree: tree.update(annotations=[3]), "wanted a list of annotations"),
        (lambda tree: tree["annotations"][0].update(bbox=[1, 2, 3]), r"a box is x, y, width and height, got"),
        (lambda tree: tree["annotations"][0].update(bbox=[1, 2, 3, "4"]), "a box is x, y"),
        (lambda tree: tree["annotations"][0].update(image_id=999), "a box is of image 999, which is not"),
        (lambda tree: tree["images"][0].update(file_name="../../secret.png"), "a frame is benign/VIDEO"),
        (lambda tree: tree["images"][0].update(file_name=7), "wanted a text as file_name, got 7"),
        (lambda tree: tree["images"][0].update(id="1"), "wanted a whole number as id, got '1'"),
    ],
)
def test_a_damaged_list_of_cva_net_is_named(make, change, message):
    root = make("cva-net")
    path = root / "Miccai 2022 BUV Dataset" / "imagenet_vid_val.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=rf"imagenet_vid_val.json: .*{message}"):
        load("cva-net", root)


def test_camus_has_structures_spacing_and_patients(make):
    root = make("camus")
    found = samples_of("camus", root)
    sample = found["patient0001_4CH_ES"]
    assert (sample.group, sample.source) == ("patient0001", "camus/4CH")
    assert sample.spacing_mm == pytest.approx((0.3, 0.15), rel=1e-6)
    assert sample.image.shape == (40, 50)
    np.testing.assert_array_equal(sample.image, noise(3 + ord("1")))
    areas = {name: sample.select(name).target.sum() for name in sample.structures}
    assert areas == {"ventricle": 150, "myocardium": 75, "atrium": 120}
    facts = inspect("camus", root).facts
    assert facts["images of good quality"] == facts["images of poor quality"] == 4


def test_camus_names_what_is_wrong(make):
    root = make("camus")
    folder = root / "database_nifti" / "patient0001"
    (folder / "patient0001_2CH_ED_gt.nii.gz").unlink()
    write_plane(folder / "patient0001_2CH_ES_gt.nii.gz", np.full((40, 50), 9, np.uint8))
    write_plane(folder / "patient0001_4CH_ED.nii.gz", np.full((40, 50), 300, np.int16))
    write_plane(folder / "patient0001_4CH_ES.nii.gz", noise(1, (30, 50)))
    truncate(root / "database_nifti" / "patient0002" / "patient0002_2CH_ED.nii.gz")
    faults = inspect("camus", root).faults
    expected = [
        "patient0001_2CH_ED_gt.nii.gz: is missing; restore it, or remove the patient",
        "patient0001_2CH_ES_gt.nii.gz: holds class 9, and classes are 0, 1, 2, 3",
        "patient0001_4CH_ED.nii.gz: wanted gray levels from 0 to 255",
        "patient0001_4CH_ES_gt.nii.gz: is 50 x 40 px and its image 50 x 30 px; restore the pair",
        "patient0002_2CH_ED.nii.gz: is damaged or cannot be read",
    ]
    assert len(faults) == len(expected)
    for fault, message in zip(faults, expected, strict=True):
        assert message in fault


def test_a_plane_is_scaled_as_its_header_says(tmp_path):
    path = tmp_path / "plane.nii"
    image = nibabel.Nifti1Image(np.arange(6, dtype=np.int16).reshape(3, 2), np.diag([2.0, 0.5, 1, 1]))
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(2.0, 10.0)
    nibabel.save(image, path)
    values, spacing = read_plane(path)
    stored = nibabel.load(path).get_fdata()
    np.testing.assert_allclose(values, stored.T)
    assert spacing == (0.5, 2.0)


@pytest.mark.parametrize(
    ("shape", "zooms", "message"),
    [
        ((4, 5, 6), (1, 1, 1), r"is a volume of 4 x 5 x 6, and an image is wanted; save one slice"),
        ((4, 5), (0.0001, 1), r"its spacing is 0.0001 x 1 mm"),
        ((4, 5), (float("nan"), 1), r"its spacing is nan x 1 mm"),
    ],
)
def test_a_file_that_is_no_plane_is_refused(tmp_path, shape, zooms, message):
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4))
    for place, zoom in enumerate(zooms, start=1):
        image.header["pixdim"][place] = zoom
    image.header.set_xyzt_units("mm")
    path = tmp_path / "plane.nii"
    path.write_bytes(image.to_bytes())
    with pytest.raises(UserError, match=message):
        read_plane(path)


def test_a_single_third_axis_is_a_plane_too(tmp_path):
    image = nibabel.Nifti1Image(np.ones((4, 5, 1), np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "plane.nii.gz")
    assert read_plane(tmp_path / "plane.nii.gz")[0].shape == (5, 4)


def test_a_recipe_chooses_one_structure_of_camus(make):
    root = make("camus")
    for structure in ("ventricle", "atrium"):
        samples = load_split("camus", "all", root=root, structure=structure)
        assert {sample.structure for sample in samples} == {structure}
