import gzip
import os
import pickle
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nifti_builders import ellipsoid, write_nifti

from usrl.data.bodies import folder
from usrl.data.bodies.folder import FACES, load_volumes, place_volume, write_bodies
from usrl.data.bodies.planes import MAX_ROLL, MAX_TILT, MIN_VOXELS
from usrl.data.bodies.poses import DEGREES, angles_deg, distances_mm
from usrl.data.bodies.tissues import TISSUES
from usrl.data.bodies.volumes import LABEL, SHAPE, SPACING_MM, SPECKLE
from usrl.data.catalogue import check_dataset, describe_data, has_same_images, load_cases, load_split
from usrl.data.reading.nifti import MAX_VOXELS, LabelVolume, read_volume
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError

LESION, ORGAN = TISSUES["lesion"].label, TISSUES["organ"].label


def recipe(root, **fields):
    return DataRecipe(name="volumes", root=str(root), **fields)


def refused(root, match):
    """Check that loading raises, and that the check reports the same fault or raises the same."""
    with pytest.raises(UserError, match=match) as error:
        load_volumes(recipe(root), "all")
    try:
        faults = check_dataset(recipe(root)).faults
    except UserError as raised:
        faults = [str(raised)]
    assert "\n".join(faults) == str(error.value)


def damage(path, change):
    """Change the bytes of a compressed file."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(bytes(change(data) or data)))


def put(form, offset, *values):
    """Return a change of a header's field."""
    return lambda data: struct.pack_into(f"<{form}", data, offset, *values)


@pytest.fixture
def quiet(monkeypatch):
    """Leave texture and speckle out, which take most of the time."""
    for draw in ("draw_texture", "draw_speckle"):
        monkeypatch.setattr(folder, draw, lambda _: np.ones(SHAPE, np.float32))


# --- From bodies to files and back ---


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("written") / "bodies"
    assert [path.name for path in write_bodies(out, 4)] == [f"body-000{index}.nii.gz" for index in range(4)]
    return out


@pytest.mark.usefixtures("quiet")
def test_bodies_come_back_from_files_with_their_labels_and_standard_planes(written, bodies):
    volumes = load_volumes(recipe(written), "all")
    assert volumes.names == volumes.groups == tuple(body.name for body in bodies)
    assert volumes.voxels.dtype == torch.uint8
    for index, body in enumerate(bodies):
        labels, found = body.voxels[..., LABEL], volumes.voxels[index, ..., LABEL].numpy()
        centres = [np.argwhere(volume == LESION).mean(axis=0) for volume in (labels, found)]
        assert np.abs(centres[1][:2] - 63.5).max() <= 0.5  # voxels
        shift = np.rint(centres[1] - centres[0]).astype(int)
        assert shift[2] == 0
        inside = found != TISSUES["outside"].label
        assert inside.mean() > 0.85
        np.testing.assert_array_equal(np.roll(labels, shift[:2], axis=(0, 1))[inside], found[inside])
        moved = body.standard.copy()
        moved[:2] += shift[[1, 0]] * SPACING_MM
        pose, wanted = volumes.standard[index][None], torch.from_numpy(moved[None])
        assert distances_mm(pose, wanted).item() < 2
        assert angles_deg(pose, wanted).item() < 5


def test_viewers_get_the_spacing_the_side_and_the_unit_of_a_body(written, bodies):
    labels, echo = (nibabel.load(written / kind / "body-0001.nii.gz") for kind in ("labels", "echo"))
    assert nibabel.aff2axcodes(labels.affine) == ("R", "A", "S")
    assert labels.header.get_zooms() == (1.25, 1.25, 1.25)
    assert labels.header.get_xyzt_units()[0] == "mm"
    assert labels.get_data_dtype() == echo.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(labels.affine, echo.affine)
    values = np.asarray(labels.dataobj)
    assert values.shape == (128, 48, 128)
    assert (values[:, -1] == TISSUES["skin"].label).all()  # the last along A is in front
    # The lesion of a body is at the same place in both, x to the left, y to the feet and z to the back.
    y, x, z = np.argwhere(bodies[1].voxels[..., LABEL] == LESION).mean(axis=0)
    mm = labels.affine @ [*np.argwhere(values == LESION).mean(axis=0), 1]
    np.testing.assert_allclose(mm[:3], [-(x - 63.5) * 1.25, -(z + 0.5) * 1.25, -(y - 63.5) * 1.25], atol=1e-3)
    assert "10: lesion" in (written / "tissues.yaml").read_text()


def test_equal_seeds_write_equal_files(written, tmp_path):
    write_bodies(tmp_path / "again", 1)
    for name in ("labels/body-0000.nii.gz", "echo/body-0000.nii.gz", "tissues.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (written / name).read_bytes()


def test_bodies_are_not_written_over_something_nor_in_absurd_numbers(written):
    with pytest.raises(UserError, match="already holds something; choose another --out"):
        write_bodies(written, 1)
    with pytest.raises(UserError, match="count must be from 1 to 4096, got 0"):
        write_bodies(written, 0)


# --- Users' folders ---


@pytest.mark.usefixtures("quiet")
def test_a_users_target_is_the_lesion_and_nothing_else_is(volumes_root):
    volumes = load_volumes(recipe(volumes_root), "all")
    assert (volumes.names, volumes.kind) == (("a", "b", "c"), "volumes")
    labels = volumes.voxels[..., LABEL]
    assert set(labels.unique().tolist()) == {0, ORGAN, LESION}
    for index in range(3):
        volume = (labels[index] == LESION).sum().item() * SPACING_MM**3
        assert volume == pytest.approx(4 / 3 * np.pi * 9 * 4 * (3 + index), rel=0.08)


def test_a_large_volume_is_cut_and_a_small_one_ends_in_nothing(volumes_root):
    report = check_dataset(recipe(volumes_root))
    text = "\n".join(report.lines())
    assert "volumes, folder 3" in " ".join(text.split())
    # 50 x 40 x 30 voxels of 1.5 mm fill 75 x 60 x 45 of 160 x 60 x 160 mm.
    assert "the volume ends within the body, and nothing echoes beyond: a (87% of it), b (87% of it)" in text
    assert "cut off" not in text
    labels = np.ones((130, 60, 130), np.uint8)
    labels[ellipsoid(labels.shape, (60, 40, 60), (9, 4, 6), 1.5)] = 2
    write_nifti(volumes_root / "labels" / "d.nii", labels, 1.5)
    notes = "\n".join(check_dataset(recipe(volumes_root)).notes)
    # Along z and x voxels from -80 to 80 mm: 107 of 130. In depth 40 of 60.
    assert f"along x or y, is cut off: d ({1 - (107 / 130) ** 2:.1%})" in notes
    assert f"tissue deeper than 60 mm is cut off: d ({(107 / 130) ** 2 / 3:.1%})" in notes
    assert "above the skin" not in notes


@pytest.mark.usefixtures("quiet")
def test_the_skin_is_where_tissue_begins_above_the_target(volumes_root):
    labels = np.full((50, 60, 30), 1, np.uint8)
    labels[ellipsoid(labels.shape, (25, 30, 15), (9, 4, 3), 1.5)] = 2
    labels[:, 52:] = 0  # air in front
    labels[:3, 55:57] = 1  # and something that lies in it
    write_nifti(volumes_root / "labels" / "d.nii.gz", labels, 1.5)
    (volumes_root / "tissues.yaml").write_text("tissues:\n  0: outside\n  1: organ\n  2: lesion\n")
    report, volumes = check_dataset(recipe(volumes_root)), load_volumes(recipe(volumes_root), "all")
    assert any(
        note.startswith("tissue above the skin over the target is cut off: d (") for note in report.notes
    )
    found = volumes.voxels[3, ..., LABEL].numpy()
    assert (found[60:68, 60:68, 0] == ORGAN).all()
    # The target's centre is 21 voxels below the first of tissue, and that is half a voxel below the skin.
    depth = (np.argwhere(found == LESION)[:, 2].mean() + 0.5) * SPACING_MM
    assert depth == pytest.approx(21.5 * 1.5, abs=SPACING_MM / 2)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_axes_of_any_order_give_the_same_volume_and_a_note(volumes_root, codes):
    before = load_volumes(recipe(volumes_root), "all").voxels[0].numpy()
    path = volumes_root / "labels" / "a.nii.gz"
    image = nibabel.load(path)
    write_nifti(path, np.asarray(image.dataobj), 1.5, codes)
    assert nibabel.aff2axcodes(nibabel.load(path).affine) == tuple(codes)
    np.testing.assert_array_equal(load_volumes(recipe(volumes_root), "all").voxels[0].numpy(), before)
    notes = check_dataset(recipe(volumes_root)).notes
    said = f"turned to canonical axes (RAS): a (from {codes})" in notes
    assert said == (codes != "RAS")


@pytest.mark.parametrize("skin", FACES)
def test_no_side_mirrors_the_patient(skin):
    directions = dict(zip("RASLPI", [*np.eye(3), *-np.eye(3)], strict=True))
    x, y, z = (directions[letter] for letter in FACES[skin])
    np.testing.assert_array_equal(np.cross(x, y), z)
    towards = {"anterior": "P", "posterior": "A", "left": "R", "right": "L", "superior": "I", "inferior": "S"}
    assert FACES[skin][2] == towards[skin]


@pytest.mark.parametrize("skin", FACES)
def test_a_target_is_as_deep_as_it_is_far_from_the_side_that_the_probe_touches(skin):
    labels, place = np.full((40, 44, 48), ORGAN, np.uint8), (12, 24, 20)
    axis, is_end = {
        "left": (0, False),
        "right": (0, True),
        "posterior": (1, False),
        "anterior": (1, True),
        "inferior": (2, False),
        "superior": (2, True),
    }[skin]
    half_axes = np.insert([9.0, 6.0], axis, 4.0)  # flat as the probe sees it
    labels[ellipsoid(labels.shape, place, half_axes, 1.25)] = LESION
    wanted = labels.shape[axis] - 1 - place[axis] if is_end else place[axis]
    placed = place_volume(LabelVolume(labels, np.diag([1.25, 1.25, 1.25, 1.0])), skin)
    assert placed.labels.shape == SHAPE
    assert placed.depth_mm == pytest.approx((wanted + 0.5) * SPACING_MM, abs=0.01)
    if skin == "anterior":  # the patient's left is along x, and the feet along y
        x = np.argwhere(placed.labels[63, :, 5] != 0)[:, 0]
        y = np.argwhere(placed.labels[:, 63, 5] != 0)[:, 0]
        assert (63.5 - x.min() > 20, x.max() - 63.5 < 15) == (True, True)
        assert y.max() - y.min() == 47


@pytest.mark.usefixtures("quiet")
def test_the_probe_touches_the_front_unless_the_table_says_otherwise(volumes_root):
    front = load_volumes(recipe(volumes_root), "all")
    table = volumes_root / "tissues.yaml"
    table.write_text("skin: anterior\n" + table.read_text())
    assert torch.equal(load_volumes(recipe(volumes_root), "all").voxels, front.voxels)
    table.write_text(table.read_text().replace("anterior", "superior"))
    assert not torch.equal(load_volumes(recipe(volumes_root), "all").voxels, front.voxels)
    table.write_text(table.read_text().replace("superior", "front"))
    refused(volumes_root, r"tissues.yaml: skin: Input should be 'anterior', .* got 'front'")


def test_texture_and_speckle_follow_from_the_seed_and_the_name(volumes_root):
    first = load_volumes(recipe(volumes_root), "all")
    other = load_volumes(recipe(volumes_root, seed=1), "all")
    assert torch.equal(first.voxels[..., LABEL], other.voxels[..., LABEL])
    assert not torch.equal(first.voxels[..., SPECKLE], other.voxels[..., SPECKLE])
    assert not torch.equal(first.voxels[0, ..., SPECKLE], first.voxels[1, ..., SPECKLE])
    os.rename(volumes_root / "labels" / "a.nii.gz", volumes_root / "labels" / "z.nii.gz")
    moved = load_volumes(recipe(volumes_root), "all")
    assert torch.equal(moved.voxels[0], first.voxels[1])
    # Known from the first version on: names must give the same noise on every machine.
    assert first.voxels[0, 60, 60, 4:8, SPECKLE].tolist() == [182, 150, 153, 188]


@pytest.mark.usefixtures("quiet")
def test_parts_follow_groups_and_hold_their_volumes_alone(volumes_root):
    source = (volumes_root / "labels" / "a.nii.gz").read_bytes()
    rows = ["name,group"]
    for index in range(12):
        (volumes_root / "labels" / f"v{index}.nii.gz").write_bytes(source)
        rows.append(f"v{index},p{index // 2}")
    rows += [f"{name},{name}" for name in "abc"]
    (volumes_root / "groups.csv").write_text("\n".join(rows))
    parts = {part: load_cases(recipe(volumes_root), part) for part in ("train", "val", "test")}
    names = [name for part in parts.values() for name in part.names]
    assert sorted(names) == sorted([*"abc", *(f"v{index}" for index in range(12))])
    groups = [set(part.groups) for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 9
    report = check_dataset(recipe(volumes_root))
    assert (report.groups, report.facts["groups of several volumes"]) == (9, 6)
    with pytest.raises(UserError, match="consists of volumes, and images are wanted here"):
        load_split(recipe(volumes_root))


def test_reports_name_the_folder(volumes_root):
    data = recipe(volumes_root)
    assert describe_data(data) == "volumes mine"
    assert has_same_images(data, recipe(volumes_root))
    assert not has_same_images(data, recipe(volumes_root / "other"))


def test_a_target_of_several_parts_and_a_round_one_are_noted(volumes_root):
    labels = np.ones((40, 40, 40), np.uint8)
    labels[ellipsoid(labels.shape, (15, 20, 20), (8, 8, 8), 1.5)] = 2
    write_nifti(volumes_root / "labels" / "round.nii.gz", labels, 1.5)
    labels[30:33, 18:22, 20:23] = 2
    write_nifti(volumes_root / "labels" / "two.nii.gz", labels, 1.5)
    notes = check_dataset(recipe(volumes_root)).notes
    assert "the target has several parts; its plane is that of all together: two (2 parts)" in notes
    assert any("so that its plane could as well be another: round" in note for note in notes)


def test_oblique_axes_are_noted(volumes_root):
    path = volumes_root / "labels" / "a.nii.gz"
    image = nibabel.load(path)
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine), path)
    assert any(
        "oblique" in note and "a (17 degrees)" in note for note in check_dataset(recipe(volumes_root)).notes
    )


def test_files_of_all_kinds_of_numbers_are_read_alike(tmp_path):
    values = np.random.default_rng(0).integers(0, 4, (20, 30, 10)).astype(np.uint8)
    path, affine = tmp_path / "a.nii.gz", np.diag([1.5, 1.5, 1.5, 1])
    codes = {0: 5, 1: 1, 2: 10, 3: 2}

    def check_read(image):
        nibabel.save(image, path)
        volume = read_volume(path, codes, "the table")
        np.testing.assert_array_equal(volume.labels, np.array([5, 1, 10, 2])[values])
        np.testing.assert_allclose(volume.spacing_mm, 1.5, rtol=1e-6)

    for dtype in (np.int8, np.int16, np.uint16, ">i2", np.int32, np.uint64, np.float32, ">f8"):
        check_read(nibabel.Nifti1Image(values.astype(dtype), affine, dtype=dtype))
    for shape in ((20, 30, 10, 1), (20, 30, 10, 1, 1)):
        check_read(nibabel.Nifti1Image(values.reshape(shape), affine))
    check_read(nibabel.Nifti2Image(values, affine))
    metres = nibabel.Nifti1Image(values, affine / 1000)
    metres.header.set_xyzt_units("meter")
    check_read(metres)
    nibabel.save(nibabel.Nifti1Image(values * np.uint8(4) + np.uint8(1), affine), path)
    damage(path, put("ff", 112, 0.25, -0.25))
    np.testing.assert_array_equal(
        read_volume(path, codes, "the table").labels, np.array([5, 1, 10, 2])[values]
    )
    plain = tmp_path / "b.nii"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(
        read_volume(plain, codes, "the table").labels, read_volume(path, codes, "").labels
    )


def test_labels_may_be_negative_or_large(tmp_path):
    values = np.random.default_rng(0).choice([-7, 1, 2, 3000], (20, 30, 10))
    for dtype in (np.int16, np.int32, np.float32):
        path = write_nifti(tmp_path / "a.nii.gz", values.astype(dtype), 1.5)
        found = read_volume(path, {-7: 5, 1: 5, 2: 10, 3000: 10, 70000: 3}, "the table").labels
        np.testing.assert_array_equal(found, np.where(values > 1, 10, 5))
        with pytest.raises(UserError, match=r"holds the label 3000(\.0)?, which the table does not name"):
            read_volume(path, {-7: 5, 1: 5, 2: 10}, "the table")


def test_the_page_names_all_tissues_and_sides_and_the_limits():
    page = (Path(__file__).parents[3] / "docs" / "your-volumes.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in [*TISSUES, *FACES])
    for limit in (f"{MIN_VOXELS} voxels of {SPACING_MM} mm", f"more than {MAX_TILT / DEGREES:.0f} degrees"):
        assert limit in page
    assert f"steeper than {MAX_ROLL / DEGREES:.0f} degrees" in page
    assert f"{SHAPE[1] * SPACING_MM:.0f} x {SHAPE[0] * SPACING_MM:.0f} mm of skin" in page
    assert f"{SHAPE[2] * SPACING_MM:.0f} mm of depth" in page


# --- What is refused ---


def test_a_volume_without_target_is_refused(volumes_root):
    write_nifti(volumes_root / "labels" / "b.nii.gz", np.ones((20, 20, 20), np.uint8), 1.5)
    refused(
        volumes_root, r"labels/b.nii.gz: holds no target; mark it, correct the table of tissues, or remove"
    )


def test_a_target_that_is_cut_off_is_refused(volumes_root):
    path = volumes_root / "labels" / "b.nii.gz"
    labels = np.ones((40, 70, 40), np.uint8)
    labels[ellipsoid(labels.shape, (20, 20, 20), (8, 6, 4), 1.5)] = 2  # 74 mm deep
    write_nifti(path, labels, 1.5)
    refused(
        volumes_root, r"b.nii.gz: the target is not wholly within 60 mm below the skin; name another side"
    )
    labels = np.ones((140, 40, 40), np.uint8)
    labels[10:130, 18:22, 18:22] = 2  # 180 mm wide
    write_nifti(path, labels, 1.5)
    refused(volumes_root, r"b.nii.gz: the target reaches farther than 80 mm from its middle")
    labels = np.ones((40, 40, 40), np.uint8)
    labels[ellipsoid(labels.shape, (20, 20, 2), (8, 6, 6), 1.5)] = 2
    write_nifti(path, labels, 1.5)
    refused(volumes_root, r"b.nii.gz: the target touches the edge of the volume, which may cut it off")


def test_a_target_that_is_too_small_or_too_steep_is_refused(volumes_root):
    path = volumes_root / "labels" / "b.nii.gz"
    labels = np.ones((40, 40, 40), np.uint8)
    labels[20, 20, 20:25] = 2
    write_nifti(path, labels, 1.25)
    refused(volumes_root, r"b.nii.gz: the target has 5 voxels of 1.25 mm, and at least 8 are wanted")
    labels[ellipsoid(labels.shape, (20, 20, 20), (4, 12, 4), 1.25)] = 2  # along the depth
    write_nifti(path, labels, 1.25)
    refused(volumes_root, r"b.nii.gz: the target's longest axis is .. degrees steep")


HEADERS = {
    "is not a NIfTI file; export it as .nii.gz": put("4s", 344, b"abc\0"),
    r"is half of a pair \(.hdr and .img\)": put("4s", 344, b"ni1\0"),
    "its spacing is 0 x 1.5 x 1.5, and must be positive": put("f", 80, 0.0),
    "its spacing is -1.5 x 1.5 x 1.5, and must be positive": put("f", 80, -1.5),
    "its spacing is nan x 1.5 x 1.5, and must be positive": put("f", 80, float("nan")),
    "its spacing is 1.5 x inf x 1.5, and must be positive": put("f", 84, float("inf")),
    "gives two spacings, 1.5 x 1.5 x 1.5 by its affine and 3 x 1.5": put("f", 80, 3.0),
    "does not say how it lies in the patient": put("hh", 252, 0, 0),
    "its axes are not at right angles": put("8f", 280, 1.36, 0, 0, 0, 0.63, 1.5, 0, 0),
    r"has 4 axes \(50 x 40 x 30 x 2\), and three are wanted": put("5h", 40, 4, 50, 40, 30, 2),
    r"has 2 axes \(50 x 40\), and three are wanted": put("3h", 40, 2, 50, 40),
    "is damaged or cannot be read .*its size is 50 x 0 x 30": put("4h", 40, 3, 50, 0, 30),
    "has 30000 x 30000 x 30000 voxels, and at most 512 x 512 x 1024 are read": put("4h", 40, 3, *[30000] * 3),
    "is damaged or cannot be read .*voxels are missing": put("4h", 40, 3, 50, 40, 31),
    "holds complex64, and integers are wanted": put("hh", 70, 32, 64),
    "is damaged or cannot be read .*no type of number is 77": put("h", 70, 77),
    "its voxels begin at byte 1e[+]30": put("f", 108, 1e30),
    "its voxels begin at byte nan": put("f", 108, float("nan")),
    "is damaged or cannot be read .*intercept": put("ff", 112, 1.0, float("inf")),
    "holds 1.5, and labels are whole numbers; resample label maps by the nearest": put("ff", 112, 1.5, 0.0),
    "holds the label 3, which .*tissues.yaml does not name; add it there": lambda data: put(
        "B", len(data) - 9, 3
    )(data),
}


@pytest.mark.parametrize("message", HEADERS)
def test_a_header_that_is_wrong_is_refused(volumes_root, message):
    damage(volumes_root / "labels" / "b.nii.gz", HEADERS[message])
    refused(volumes_root, rf"(?s)labels/b.nii.gz: .*{message}" if not message.startswith("is ") else message)


@pytest.mark.usefixtures("quiet")
def test_fractions_and_absurd_numbers_are_not_labels(volumes_root):
    path = volumes_root / "labels" / "b.nii.gz"
    for value, told in ((1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf"), (1e300, "1e[+]300")):
        values = np.ones((20, 20, 20))
        values[3, 3, 3] = value
        write_nifti(path, values, 1.5)
        refused(volumes_root, f"b.nii.gz: holds {told}, and labels are whole numbers")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[: len(data) // 2], "Compressed file ended before the end-of-stream marker"),
        (lambda data: data[:-8] + b"\1\2\3\4" + data[-4:], "CRC check failed"),
        (
            lambda data: gzip.compress(gzip.decompress(data)[:200]),
            "is not a NIfTI file|the header is cut off",
        ),
        (lambda data: gzip.decompress(data)[:-1], "voxels are missing"),
        (
            lambda data: gzip.compress(gzip.decompress(data) + bytes(2**24 + 1)),
            "it goes on after its last voxel",
        ),
        (lambda data: b"", "is not a NIfTI file"),
        (lambda data: b"\x1f\x8b" + bytes(50), "is damaged or cannot be read"),
        (lambda data: pickle.dumps({"a": 1}), "is not a NIfTI file"),
    ],
)
def test_a_damaged_file_is_refused(volumes_root, spoil, message):
    path = volumes_root / "labels" / "b.nii.gz"
    path.write_bytes(spoil(path.read_bytes()))
    refused(volumes_root, f"b.nii.gz: .*({message})")


def test_a_claim_of_huge_size_is_refused_before_anything_is_read(volumes_root, monkeypatch):
    path = volumes_root / "labels" / "b.nii.gz"
    assert MAX_VOXELS == 512 * 512 * 1024
    header = nibabel.Nifti2Header()
    header.set_data_dtype(np.uint8)
    header["dim"][:4] = [3, 2**40, 2**40, 2**40]
    header["pixdim"][1:4] = 1
    path.write_bytes(gzip.compress(header.binaryblock))
    monkeypatch.setattr(np, "empty", None)
    with pytest.raises(UserError, match="1099511627776 x 1099511627776 x 1099511627776 voxels, and at most"):
        read_volume(path, {1: 1}, "table")


def test_a_bomb_costs_no_more_than_its_header_allows(volumes_root):
    path = volumes_root / "labels" / "b.nii.gz"
    data = gzip.decompress(path.read_bytes())
    zeros = gzip.compress(bytes(2**22))
    path.write_bytes(gzip.compress(data) + zeros * 64)  # a quarter of a GiB in further members
    assert path.stat().st_size < 2**19
    refused(volumes_root, "b.nii.gz: .*it goes on after its last voxel")


def test_links_that_lead_nowhere_and_names_that_occur_twice_are_refused(volumes_root):
    (volumes_root / "labels" / "d.nii.gz").symlink_to(volumes_root / "gone.nii.gz")
    refused(volumes_root, "d.nii.gz: does not exist; give the path of a NIfTI file")
    (volumes_root / "labels" / "d.nii.gz").unlink()
    (volumes_root / "labels" / "a.nii").write_bytes(b"")
    refused(volumes_root, "the name 'a' occurs twice in its folder; rename or remove one")


def test_a_folder_without_volumes_is_refused(volumes_root, tmp_path):
    refused(tmp_path / "nowhere", "nowhere: no such folder; name the folder of data set 'volumes'")
    (tmp_path / "bare").mkdir()
    refused(
        tmp_path / "bare", "bare/labels: does not exist; a folder of volumes holds labels/ and tissues.yaml"
    )
    for path in (volumes_root / "labels").iterdir():
        path.unlink()
    (volumes_root / "labels" / "notes.txt").write_text("none")
    refused(volumes_root, "labels: holds no volumes; put label maps there as .nii.gz or .nii files")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist; write there what each label is, such as"),
        ("", "should be a valid dictionary"),
        ("tissues: {1: organ, 2: lesion", "not valid YAML"),
        ("tissues: {1: organ, 2: leison}", "tissues.2: unknown tissue 'leison'; did you mean 'lesion'"),
        ("tissues: {1: organ, 2: cyst}", "no label is the target; write `lesion` for the one"),
        ("tissues: {}", "tissues: Dictionary should have at least 1 item"),
        ("tissues: {one: organ, 2: lesion}", "tissues.one"),
        ("tissues: {true: organ, 2: lesion}", "tissues.True|tissues.true|tissues.1"),
        ("tissues: {1: 5, 2: lesion}", "tissues.1: Input should be a valid string"),
        ("tissues: {2: lesion, 99999999999: organ}", "tissues.99999999999"),
        ("tissue: {1: organ, 2: lesion}", "unknown key 'tissue'; did you mean 'tissues'"),
        ("tissues: !!python/object/apply:os.system [ls]", "leave the tag .* out"),
        ("a: &a [1]\ntissues: *a", "write out what \\*a is"),
        (b"\xff\xfe\x00", "cannot be read .*save it as UTF-8 text"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(volumes_root, text, message):
    table = volumes_root / "tissues.yaml"
    table.unlink()
    if text is not None:
        table.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(volumes_root, rf"tissues\.yaml: .*({message})")


def test_groups_that_do_not_fit_are_refused(volumes_root):
    (volumes_root / "groups.csv").write_text("name,group\na,p1\nb,p2\n")
    refused(volumes_root, "groups.csv: must name every volume once and nothing else; see c")


@pytest.mark.usefixtures("quiet")
def test_a_fault_of_any_file_stops_every_part(volumes_root):
    source = (volumes_root / "labels" / "a.nii.gz").read_bytes()
    for index in range(9):
        (volumes_root / "labels" / f"v{index}.nii.gz").write_bytes(source)
    (volumes_root / "labels" / "v4.nii.gz").write_bytes(source[:-20])
    for part in ("train", "val", "test"):
        with pytest.raises(UserError, match=r"v4.nii.gz: is damaged"):
            load_cases(recipe(volumes_root), part)
