from contextlib import nullcontext

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from clip_builders import region, write_dicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from sample_builders import disk, inspect, load, noise, write

from usrl.data.catalogue import load_cases, load_split
from usrl.data.reading.files import read_classes, read_labels
from usrl.data.reading.images import list_readable, open_image, read_image
from usrl.data.reading.windows import apply_window, parse_window
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError
from usrl.evaluation.clips import segment_clip
from usrl.evaluation.segmentation import segment_file, segment_files
from usrl.segmenter import Answer


class Bright:
    """Finds what is brighter than 150, and remembers what it was shown."""

    name, track = "bright", "automatic"

    def __init__(self):
        self.seen = []

    def segment(self, image, prompt=None):
        self.seen.append((image, prompt))
        return Answer(image > 150)


class BrightInBoxes(Bright):
    track = "prompted"

    def segment(self, image, prompt=None):
        mask = np.zeros(image.shape, bool)
        for x0, y0, x1, y1 in prompt:
            rows, columns = slice(round(y0), round(y1)), slice(round(x0), round(x1))
            mask[rows, columns] = image[rows, columns] > 150
        self.seen.append((image, prompt))
        return Answer(mask)


def scan(count=1):
    """Return frames, (T, 60, 80), with a name burned in at the top and a block of 10 x 20 px below it."""
    frames = np.full((count, 60, 80), 30, np.uint8)
    frames[:, :8, :40] = 255
    frames[:, 30:40, 25:45] = 200
    return frames


REGION = region(10, 12, 60, 40, (0.02, 0.05))
"""Columns 10 to 69, rows 12 to 51; pixels of 0.2 mm by 0.5 mm."""


def write_scan(path, count=1, **elements):
    elements = {"SequenceOfUltrasoundRegions": Sequence([REGION]), "PatientName": "DOE^JANE"} | elements
    return write_dicom(path, scan(count), PatientID="4711", **elements)


def write_itk(path, values, spacing=None, **options):
    image = sitk.GetImageFromArray(values, isVector=values.ndim == 3 and values.shape[-1] == 3)
    if spacing:
        image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), **options)
    return path


def write_plane(path, values, spacing=(1.0, 1.0), unit="mm"):
    """Write values, (H, W), as NIfTI, whose first axis is the columns."""
    image = nibabel.Nifti1Image(values.T, np.diag([*spacing, 1.0, 1.0]))
    image.header.set_xyzt_units(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def test_a_dicom_image_is_cut_to_its_region_and_its_sizes_are_in_millimetres(tmp_path):
    method, path = Bright(), write_scan(tmp_path / "scan.dcm")
    result = segment_file(method, path, None, tmp_path / "out")
    assert np.array_equal(method.seen[0][0], scan()[0, 12:52, 10:70])
    assert (result["area_px"], result["area_mm2"]) == (200, pytest.approx(200 * 0.2 * 0.5))
    assert result["spacing_mm"] == pytest.approx([0.5, 0.2])
    assert (result["width_px"], result["height_px"], result["region_px"]) == (80, 60, [10, 12, 70, 52])
    mask = np.asarray(Image.open(tmp_path / "out" / "scan_mask.png"))
    assert mask.shape == (60, 80)
    assert np.argwhere(mask).min(axis=0).tolist() == [30, 25]
    assert result["lesions"][0]["box"] == [24.5, 29.5, 44.5, 39.5]
    assert (
        Image.open(tmp_path / "out" / "scan_overlay.png").size[0] * 40
        == 60 * Image.open(tmp_path / "out" / "scan_overlay.png").size[1]
    )


def test_boxes_of_a_dicom_image_are_in_pixels_of_its_frame(tmp_path):
    method, path = BrightInBoxes(), write_scan(tmp_path / "scan.dcm")
    box = (24.0, 29.0, 46.0, 41.0)
    (result,) = segment_files(method, [path], {"scan.dcm": (box,)}, tmp_path / "out")
    assert method.seen[0][1] == ((14.0, 17.0, 36.0, 29.0),)
    assert result["boxes"] == [list(box)] == [result["lesions"][0]["box"]]
    assert result["area_mm2"] == pytest.approx(20.0)
    with pytest.raises(UserError, match=r"scan\.dcm: counted from the region .* at 10,12: box -10,-12"):
        segment_files(method, [path], {"scan.dcm": ((0, 0, 9, 9),)}, tmp_path / "other")


def test_nothing_of_the_patient_is_written_or_printed(tmp_path, capsys):
    segment_file(Bright(), write_scan(tmp_path / "scan.dcm"), None, tmp_path / "out")
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert all(word not in written for word in (b"DOE", b"JANE", b"4711"))
    assert "DOE" not in "".join(capsys.readouterr())


def test_a_clip_is_cut_to_its_region_and_its_areas_are_in_millimetres(tmp_path):
    from usrl.data.clips.reading import open_clip

    method = Bright()
    clip = open_clip(write_scan(tmp_path / "clip.dcm", count=3))
    result = segment_clip(method, clip, tmp_path / "out")
    assert [image.shape for image, _ in method.seen] == [(40, 60)] * 3
    rows = (tmp_path / "out" / "clip.csv").read_text().splitlines()
    assert rows[0] == "frame,area_px,area_mm2"
    assert [float(cell) for cell in rows[1].split(",")] == pytest.approx([0, 200, 20])
    assert (result["width_px"], result["region_px"]) == (80, [10, 12, 70, 52])
    mask = np.asarray(Image.open(tmp_path / "out" / "clip_masks" / "0002.png"))
    assert np.argwhere(mask).min(axis=0).tolist() == [30, 25]


def test_masks_of_a_clip_have_the_size_of_its_frames_or_of_its_region(tmp_path):
    for name, masks in (("frame", scan(3) == 200), ("region", scan(3)[:, 12:52, 10:70] == 200)):
        write_scan(tmp_path / name / "clips" / "a.dcm", count=3)
        for number, mask in enumerate(masks):
            write(tmp_path / name / "masks" / "a" / f"{number:04d}.png", mask.astype(np.uint8) * 255)
    whole, cut = (
        load_cases(DataRecipe(name="clips", root=tmp_path / name, size=60), "all")
        for name in ("frame", "region")
    )
    assert torch.equal(whole.masks, cut.masks)
    assert int(whole.masks.sum()) == 3 * 200


@pytest.mark.parametrize(
    ("name", "shape", "side_mm", "note"),
    [
        ("examples_palette.dcm", (290, 680), 0.2622878766196998, "ends beyond the frame, at 800, 518"),
        ("CT_small.dcm", (128, 128), 0.661468, None),
        ("SC_ybr_full_422_uncompressed.dcm", (100, 100), 1.0, None),
        ("SC_rgb_small_odd.dcm", (3, 3), 33.333333, None),
    ],
)
def test_files_of_pydicom_give_areas_that_agree_with_their_headers(tmp_path, name, shape, side_mm, note):
    path = get_testdata_file(name)
    with pytest.warns(UserWarning, match=note) if note else nullcontext():
        result = segment_file(Bright(), path, None, tmp_path / "out")
    image = read_image(path)[0]
    assert image.shape == shape
    header = pydicom.dcmread(path)
    assert (result["height_px"], result["width_px"]) == (header.Rows, header.Columns)
    assert result["area_px"] == (image > 150).sum() > 0
    assert result["area_mm2"] == pytest.approx(result["area_px"] * side_mm**2, rel=1e-6)


def test_the_largest_calibrated_region_of_tissue_is_the_image(tmp_path):
    regions = [
        region(0, 0, 80, 60, (0.01, 0.01), PhysicalUnitsXDirection=0),  # not calibrated
        region(0, 0, 79, 60, (0.01, 0.01), RegionDataType=2),  # colour flow
        region(2, 12, 20, 30, (0.03, 0.03)),
        region(30, 12, 30, 30, (0.04, 0.04)),
        region(0, 0, 80, 60, (0.05, 0.05), RegionSpatialFormat=3),  # spectral
    ]
    file = open_image(write_scan(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=Sequence(regions)))
    assert (file.frame.region, file.spacing_mm) == ((30, 12, 60, 42), pytest.approx((0.4, 0.4)))
    bare = open_image(
        write_scan(tmp_path / "b.dcm", SequenceOfUltrasoundRegions=Sequence(regions[:1]), PixelSpacing=[1, 2])
    )
    assert (bare.frame.region, bare.spacing_mm) == ((0, 0, 80, 60), (1.0, 2.0))
    odd = [region(90, 90, 5, 5, (0.1, 0.1)), region(20, 20, -3, 5, (0.1, 0.1))]
    beside = open_image(write_scan(tmp_path / "c.dcm", SequenceOfUltrasoundRegions=Sequence(odd)))
    assert (beside.frame.region, beside.shape) == (None, (60, 80))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nrrd_and_metaimage_are_read_with_their_spacing(tmp_path, suffix):
    gray = noise(1)
    path = write_itk(tmp_path / f"a{suffix}", gray, (0.2, 0.3), useCompression=suffix == ".mha")
    image, file = read_image(path)
    assert np.array_equal(image, gray)
    assert (file.shape, file.spacing_mm) == ((40, 50), (0.3, 0.2))
    slice_of_one = write_itk(tmp_path / f"b{suffix}", gray[:, None, :], (0.2, 9.0, 0.4))
    image, file = read_image(slice_of_one)
    assert np.array_equal(image, gray)
    assert file.spacing_mm == (0.4, 0.2)
    colour = np.stack([gray, gray // 2, gray // 4], axis=-1)
    luminance = np.rint(colour @ [0.299, 0.587, 0.114])
    assert np.abs(read_image(write_itk(tmp_path / f"c{suffix}", colour))[0] - luminance).max() <= 1


def test_a_spacing_that_a_file_does_not_state_is_unknown(tmp_path):
    path = write_itk(tmp_path / "a.nrrd", noise(1))
    lines = [line for line in path.read_bytes().split(b"\n", 12) if not line.startswith(b"space")]
    path.write_bytes(b"\n".join(lines))
    assert open_image(path).spacing_mm is None
    meta = write_itk(tmp_path / "a.mha", noise(1))
    meta.write_bytes(meta.read_bytes().replace(b"ElementSpacing = 1 1\n", b""))
    assert open_image(meta).spacing_mm is None
    assert open_image(write_plane(tmp_path / "a.nii", noise(1), unit="unknown")).spacing_mm is None
    assert open_image(write_plane(tmp_path / "b.nii", noise(1), unit="mm")).spacing_mm == (1.0, 1.0)


def test_nifti_is_read_with_its_spacing_whichever_axis_is_a_single_slice(tmp_path):
    path = write_plane(tmp_path / "a.nii.gz", noise(1), (0.2, 0.3))
    image, file = read_image(path)
    assert np.array_equal(image, noise(1))
    assert file.spacing_mm == pytest.approx((0.3, 0.2))
    for axis in range(3):
        values = np.expand_dims(noise(1).T, axis)
        spacing = np.insert([0.2, 0.3], axis, 7.0)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), tmp_path / "b.nii")
        image, file = read_image(tmp_path / "b.nii")
        assert np.array_equal(image, noise(1))
        assert file.spacing_mm == pytest.approx((0.3, 0.2))


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_a_volume_is_refused_and_the_message_says_what_to_do(tmp_path, name):
    values = np.zeros((4, 5, 6), np.uint8)
    path = tmp_path / name
    if name == "a.nii":
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    else:
        write_itk(path, values)
    with pytest.raises(UserError, match=rf"{name}: is a volume of .*save one slice .* --data volumes"):
        read_image(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\ndata file: /etc/passwd\n\n",
            "another",
        ),
        (b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 90000 90000\nencoding: raw\n\n", "at most"),
        (b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 9 9\nencoding: raw\n\nabc", "is damaged"),
        (b"NRRD0004\ntype: block\nencoding: raw\nsizes: 2 2\ndimension: 2\n\n", "pixels of type 'block'"),
        (b"NRRD0004\ntype: uchar\nencoding: hex\n\n", "raw and gzip are read"),
        (b"NRRD0004\ntype: uchar\nencoding: gzip\nsizes: 2 2\ndimension: 2\n\nabc", "is damaged"),
        (b"hello", "is not an NRRD file"),
    ],
)
def test_an_nrrd_file_that_is_damaged_or_hostile_is_refused_by_name(tmp_path, header, message):
    path = tmp_path / "odd.nrrd"
    path.write_bytes(header)
    with pytest.raises(UserError, match=rf"odd\.nrrd: .*{message}"):
        read_image(path)


def test_a_metaimage_that_names_another_file_is_refused(tmp_path):
    path = write_itk(tmp_path / "a.mha", noise(1))
    path.write_bytes(path.read_bytes().replace(b"= LOCAL", b"= secret.raw"))
    with pytest.raises(UserError, match=r"a\.mha: its pixels are in another file"):
        read_image(path)


def test_a_window_turns_its_two_levels_into_black_and_white(tmp_path):
    levels = np.array([[0, 100, 150, 300, 4000]], np.uint16)
    assert apply_window(levels, (100, 300)).tolist() == [[0, 0, 64, 255, 255]]
    for name in ("a.png", "a.tif"):
        assert read_image(write(tmp_path / name, levels), (100, 300))[0].tolist() == [[0, 0, 64, 255, 255]]
        assert read_image(tmp_path / name)[0].tolist() == [[0, 6, 10, 19, 255]]
    dicom = write_dicom(tmp_path / "a.dcm", levels[None])
    assert read_image(dicom, (100, 300))[0].tolist() == [[0, 0, 64, 255, 255]]
    eight = write(tmp_path / "b.png", np.array([[50, 100]], np.uint8))
    assert read_image(eight, (50, 100))[0].tolist() == [[0, 255]]
    signed = write_itk(tmp_path / "a.nrrd", np.array([[-100, 1, 100]], np.int16))
    assert read_image(signed, (-100, 100))[0].tolist() == [[0, 129, 255]]
    with pytest.raises(UserError, match=r"a\.nrrd: has negative values down to -100; state a window"):
        read_image(signed)


@pytest.mark.parametrize("text", ["1", "2,1", "1,1", "a,b", "nan,3", "1,inf", "1,2,3"])
def test_a_window_that_does_not_rise_is_refused(text):
    with pytest.raises(UserError, match="a window is LOW,HIGH"):
        parse_window(text)


def test_a_folder_of_every_kind_of_file_is_a_data_set_with_pixel_sizes(tmp_path):
    write_scan(tmp_path / "images" / "a.dcm")
    write(tmp_path / "masks" / "a.png", (scan()[0] == 200).astype(np.uint8) * 255)  # of the frame
    write_scan(tmp_path / "images" / "b.dcm")
    write(
        tmp_path / "masks" / "b.png", (scan()[0, 12:52, 10:70] == 200).astype(np.uint8) * 255
    )  # of the region
    write_plane(tmp_path / "images" / "c.nii.gz", noise(3), (0.2, 0.3))
    write_itk(tmp_path / "masks" / "c.nrrd", disk().astype(np.uint8) * 255)
    write(tmp_path / "images" / "d.png", noise(4))
    write_plane(tmp_path / "masks" / "d.nii", disk().astype(np.int16))
    samples = load("folder", tmp_path)
    assert [sample.name for sample in samples] == list("abcd")
    spacings = [pytest.approx((0.5, 0.2))] * 2 + [pytest.approx((0.3, 0.2)), None]
    assert [sample.spacing_mm for sample in samples] == spacings
    assert [int(sample.target.sum()) for sample in samples[:2]] == [200, 200]
    assert all(np.array_equal(sample.target, disk()) for sample in samples[2:])
    assert samples[0].group == samples[1].group != "a"
    assert "4711" not in samples[0].group
    report = inspect("folder", tmp_path)
    assert report.facts["images of known pixel size"] == 3
    assert "2 images are grouped by the patient of their DICOM file" in report.notes
    assert len(list_readable(tmp_path / "images")) == 4


def test_label_maps_have_the_structures_that_the_table_names(tmp_path):
    classes = disk() * 7 + (np.arange(50) < 5) * np.uint16(200)
    for name in ("a", "b"):
        write_plane(tmp_path / "images" / f"{name}.nii", noise(1), (0.2, 0.3))
    write_plane(tmp_path / "masks" / "a.nii.gz", classes.astype(np.float32))
    write_itk(tmp_path / "masks" / "b.nrrd", classes.astype(np.int16))
    (tmp_path / "structures.csv").write_text("number,name\n7,nerve\n200,vessel\n")
    for sample in load("folder", tmp_path):
        assert sample.structures == {"nerve": 7, "vessel": 200}
        assert np.array_equal(sample.labels == 7, disk())
    (vessel, _) = load_split("folder", "all", root=str(tmp_path), structure="vessel")
    assert np.array_equal(vessel.target.any(axis=0), np.arange(50) < 5)


def test_a_label_map_with_other_numbers_is_refused(tmp_path):
    below = write_itk(tmp_path / "a.nrrd", disk().astype(np.int16) * -1)
    with pytest.raises(UserError, match=r"a\.nrrd: holds -1, and class numbers begin at 0"):
        read_labels(below)
    unknown = write_itk(tmp_path / "b.nrrd", disk().astype(np.int16) * 3 + 4)
    with pytest.raises(UserError, match=r"b\.nrrd: holds class 4, and classes are 0, 1, 2"):
        read_classes(unknown, (1, 2))
    with pytest.raises(UserError, match=r"c\.dcm: masks are not read from DICOM"):
        read_labels(write_scan(tmp_path / "c.dcm"))
    colours = write_itk(tmp_path / "d.mha", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"d\.mha: has colours"):
        read_labels(colours)
    fractions = write_plane(tmp_path / "e.nii", np.where(disk(), np.nan, 0).astype(np.float32))
    with pytest.raises(UserError, match=r"e\.nii: has values that are not finite"):
        read_labels(fractions)


def test_a_recipe_states_the_window_of_a_folder_and_of_no_other_set(tmp_path):
    write(tmp_path / "images" / "a.png", np.array([[0, 100, 150, 300, 4000]], np.uint16))
    write(tmp_path / "masks" / "a.png", np.array([[0, 0, 0, 0, 255]], np.uint8))
    (sample,) = load_split("folder", "all", root=str(tmp_path), window=[100, 300])
    assert sample.image.tolist() == [[0, 0, 64, 255, 255]]
    assert DataRecipe(window=(1, 2)).model_dump()["window"] == (1.0, 2.0)
    with pytest.raises(UserError, match=r"window: .*LOW,HIGH"):
        load_split("folder", "all", root=str(tmp_path), window=[3, 1])
    with pytest.raises(UserError, match="of the data set 'folder', got it with 'phantom'"):
        load_split("phantom", "all", count=2, window=[1, 3])
