import numpy as np
import pytest
from PIL import ExifTags, Image
from sample_builders import disk, inspect, load, noise, truncate, write, write_classes

from usrl.data.catalogue import load_split
from usrl.errors import UserError


def test_images_and_masks_pair_by_stem_whatever_the_extension(folder_root):
    (folder_root / "images" / "b.png").unlink()
    write(folder_root / "images" / "b.tif", noise(5))
    samples = load("folder", folder_root)
    assert [(s.name, s.group, s.source) for s in samples] == [(n, n, "folder") for n in "abc"]
    np.testing.assert_array_equal(samples[1].image, noise(5))
    np.testing.assert_array_equal(samples[1].target, disk())


def test_groups_are_read_from_groups_csv(folder_root):
    (folder_root / "groups.csv").write_text("name,group\na,p1\nb,p2\nc,p1\n")
    assert [sample.group for sample in load("folder", folder_root)] == ["p1", "p2", "p1"]


def test_pixel_sizes_are_read_from_spacing_csv(folder_root):
    (folder_root / "spacing.csv").write_text("name,row_mm,column_mm\nb,0.2,0.1\n")
    spacings = {sample.name: sample.spacing_mm for sample in load("folder", folder_root)}
    assert spacings == {"a": None, "b": (0.2, 0.1), "c": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,row_mm,column_mm\nb,0.2,0.1\nb,0.2,0.1\n", "line 3 must give a new name"),
        ("name,row_mm,column_mm\nb,0.2,0\n", "line 2 must give a new name and two positive sizes"),
        ("name,row_mm,column_mm\nb,0.2\n", "line 2 must give"),
        ("name,row_mm,column_mm\nb,0.2,inf\n", "line 2 must give"),
        ("name,row_mm,column_mm\nz,0.2,0.1\n", "names images that are not there; see z"),
        ("name,spacing\nb,0.2\n", "the header must be name,row_mm,column_mm"),
    ],
)
def test_a_spacing_csv_that_does_not_fit_is_refused(folder_root, text, message):
    (folder_root / "spacing.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        load("folder", folder_root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,group\na,p1\n", "header must be name,group"),
        ("", "header must be name,group"),
        ("name,group\na,p1\nb,p2\na,p3\n", "line 4 must give a new name"),
        ("name,group\na,p1\nb\nc,p1\n", "line 3 must give a new name and its group"),
        ("name,group\na,p1\nb,p2\n", "must name every image once and nothing else; see c"),
        ("name,group\na,p1\nb,p2\nc,p2\nd,p2\n", "must name every image once and nothing else; see d"),
    ],
)
def test_a_groups_csv_that_does_not_fit_is_refused(folder_root, text, message):
    (folder_root / "groups.csv").write_text(text)
    with pytest.raises(UserError, match=rf"groups\.csv: .*{message}"):
        load("folder", folder_root)
    assert any(message in fault for fault in inspect("folder", folder_root).faults)


def test_a_groups_csv_that_is_no_text_is_refused(folder_root):
    (folder_root / "groups.csv").write_bytes(b"name,group\n\xff\xfe,1\n")
    with pytest.raises(UserError, match=r"groups\.csv: cannot be read as CSV .*save it as UTF-8 text"):
        load("folder", folder_root)


def test_unmatched_images_and_masks_are_listed(folder_root):
    (folder_root / "masks" / "a.png").unlink()
    (folder_root / "images" / "c.png").unlink()
    with pytest.raises(UserError, match=r"(?s)images: no mask for a; .*masks: no image for c; "):
        load("folder", folder_root)
    report = inspect("folder", folder_root)
    assert (len(report.faults), report.counts) == (2, {"folder": 1})


def test_a_stem_that_occurs_twice_is_refused(folder_root):
    write(folder_root / "images" / "a.bmp", noise(1))
    with pytest.raises(UserError, match="the name 'a' occurs twice in its folder; rename or remove one"):
        load("folder", folder_root)


def test_a_mask_of_another_size_is_refused(folder_root):
    write(folder_root / "masks" / "b.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(UserError, match=r"b\.png: the mask is 9 x 8 px and its image 50 x 40 px"):
        load("folder", folder_root)


def test_a_mask_that_is_turned_against_its_image_is_refused_with_what_to_do(folder_root):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(noise(0)).save(folder_root / "images" / "b.png", exif=exif)
    with pytest.raises(
        UserError,
        match=r"b\.png: the mask is 50 x 40 .*image 40 x 50 px; one is turned .*save both turned alike",
    ):
        load("folder", folder_root)


def test_a_damaged_file_is_refused(folder_root):
    truncate(folder_root / "images" / "b.png")
    with pytest.raises(UserError, match=r"b\.png: is damaged"):
        load("folder", folder_root)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_an_empty_or_absent_folder_is_refused(folder_root, folder):
    for path in (folder_root / folder).iterdir():
        path.unlink()
    with pytest.raises(UserError, match=rf"{folder}: holds no images; put PNG"):
        load("folder", folder_root)
    (folder_root / folder).rmdir()
    with pytest.raises(
        UserError, match=rf"{folder}: does not exist; a dataset folder holds images/ and masks/"
    ):
        inspect("folder", folder_root)


def test_more_faults_than_a_message_holds_are_counted(tmp_path):
    for index in range(13):
        write(tmp_path / "images" / f"{index:02}.png", noise(index))
        write(tmp_path / "masks" / f"{index:02}.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(UserError, match=r"(?s)00\.png.*09\.png.*and 3 more"):
        load("folder", tmp_path)


def test_a_check_says_which_duplicates_a_split_may_part(folder_root):
    write(folder_root / "images" / "c.png", noise(ord("a")))
    report = inspect("folder", folder_root)
    assert report.duplicate_pairs == report.apart_pairs == (("a", "c"),)
    assert (
        "  near duplicates in different groups, for a split to part; give them one: a = c" in report.lines()
    )
    (folder_root / "groups.csv").write_text("name,group\na,p1\nb,p2\nc,p1\n")
    report = inspect("folder", folder_root)
    assert (report.duplicate_pairs, report.apart_pairs) == ((("a", "c"),), ())
    assert "  near duplicates in one group: a = c" in report.lines()


def test_a_check_counts_lesions_and_images_of_more_than_8_bits(folder_root):
    assert "images of over 8 bits (largest value to 255)" not in inspect("folder", folder_root).facts
    write(folder_root / "images" / "a.png", noise(1).astype(np.uint16) * 7)
    write(folder_root / "masks" / "a.png", np.zeros((40, 50), np.uint8))
    both = disk(centre=(10, 10)) | disk(centre=(30, 40))
    write(folder_root / "masks" / "b.png", both.astype(np.uint8) * 255)
    assert inspect("folder", folder_root).facts == {
        "groups of several images": 0,
        "near-duplicate pairs": 0,
        "images without a lesion": 1,
        "images with several lesions": 1,
        "images of over 8 bits (largest value to 255)": 1,
    }


def test_a_check_spells_out_the_first_pairs_and_counts_the_others(tmp_path):
    for index in range(4):
        write(tmp_path / "images" / f"{index}.png", noise(0))
        write(tmp_path / "masks" / f"{index}.png", disk().astype(np.uint8) * 255)
    text = "\n".join(inspect("folder", tmp_path).lines())
    assert ": 0 = 1, 0 = 2, 0 = 3, 1 = 2 and 2 more\n" in text


@pytest.mark.parametrize("name", ["M\udcfcller", "two\nlines", "a\ttab", "a\u2028b"])
def test_a_name_that_text_files_cannot_hold_is_refused(folder_root, name):
    for part in ("images", "masks"):
        (folder_root / part / "a.png").rename(folder_root / part / f"{name}.png")
    with pytest.raises(
        UserError, match=r"images/.*': this name cannot be written as a line of UTF-8 text; rename the file"
    ):
        load("folder", folder_root)
    assert len(inspect("folder", folder_root).faults) == 1


def test_links_to_what_is_not_there_are_faults(folder_root):
    for part in ("images", "masks"):
        (folder_root / part / "d.png").symlink_to(folder_root / "elsewhere.png")
    with pytest.raises(UserError, match=r"images/d\.png: does not exist"):
        load("folder", folder_root)


@pytest.mark.parametrize(
    "text",
    [
        "name,group\na, p1\nb,p2\nc,p1 \n",
        "\ufeffname,group\r\na,p1\r\nb,p2\r\nc,p1\r\n",
        "name;group\na;p1\nb;p2\nc;p1\n",
        "name\tgroup\na\tp1\nb\tp2\nc\tp1\n",
        'name, "group"\n"a", "p1"\n"b","p2"\nc,"p1 "\n',
        " name , group \n\na\u00a0,\u200bp1\n,\nb,p2\n\nc,p1\n,\n",
        "name,group\na,p1,\nb,p2,\nc,p1,\n",
    ],
)
def test_spaces_marks_separators_and_quotes_do_not_make_groups(folder_root, text):
    (folder_root / "groups.csv").write_bytes(text.encode())
    assert [sample.group for sample in load("folder", folder_root)] == ["p1", "p2", "p1"]
    assert inspect("folder", folder_root).notes == ()


@pytest.mark.parametrize("other", ["Patient-7", "patient- 7", "patient-\uff17", "PATIENT-7"])
def test_a_check_names_groups_that_differ_by_spelling_alone(folder_root, other):
    (folder_root / "groups.csv").write_text(f"name,group\na,patient-7\nb,{other}\nc,patient-8\n")
    report = inspect("folder", folder_root)
    assert report.is_sound
    (note,) = report.notes
    assert "differ by case, spaces or Unicode form alone" in note
    assert "'patient-7'" in note
    assert f"{other!r}" in note
    assert "patient-8" not in note
    assert f"  {note}" in report.lines()


def test_names_match_whatever_their_unicode_form(folder_root):
    composed, split = "M\u00fcller", "Mu\u0308ller"
    (folder_root / "images" / "a.png").rename(folder_root / "images" / f"{split}.png")
    (folder_root / "masks" / "a.png").rename(folder_root / "masks" / f"{composed}.png")
    rows = f"name,group\n{composed},{split}\nb,{composed}\nc,p\n"
    (folder_root / "groups.csv").write_text(rows)
    samples = load("folder", folder_root)
    assert sorted((s.name, s.group) for s in samples) == [(composed, composed), ("b", composed), ("c", "p")]
    assert inspect("folder", folder_root).groups == 2


def test_a_check_says_which_links_lead_out_of_the_folder(folder_root, tmp_path):
    outside = write(tmp_path / "elsewhere" / "a.png", noise(9))
    (folder_root / "images" / "a.png").unlink()
    (folder_root / "images" / "a.png").symlink_to(outside)
    (folder_root / "images" / "b.png").rename(folder_root / "kept.png")
    (folder_root / "images" / "b.png").symlink_to("../kept.png")
    report = inspect("folder", folder_root)
    assert report.is_sound
    assert report.notes == (
        "links lead out of the folder: images/a.png; a copy of the folder would lack these files",
    )
    (tmp_path / "other").symlink_to(folder_root)
    assert len(inspect("folder", tmp_path / "other").notes) == 1  # the folder itself may be a link


def write_labels(root, name, labels, **how):
    """Write class numbers as gray levels, or in a palette whose colours are darker than half."""
    path = root / "masks" / f"{name}.png"
    write_classes(path, labels.astype(np.uint8)) if how.get("palette") else write(
        path, labels.astype(np.uint8)
    )


NERVE, VESSEL = disk(centre=(10, 12), radius=5), disk(centre=(28, 36), radius=8)


@pytest.mark.parametrize("palette", [False, True])
def test_class_numbers_are_structures_named_by_number(folder_root, palette):
    write_labels(folder_root, "a", NERVE + 2 * VESSEL, palette=palette)
    write_labels(folder_root, "b", 2 * VESSEL, palette=palette)
    write_labels(folder_root, "c", 0 * VESSEL)
    samples = load("folder", folder_root)
    assert [sample.structures for sample in samples] == [{"1": 1, "2": 2}] * 3
    np.testing.assert_array_equal(samples[0].select("1").target, NERVE)
    assert [s.select("2").target.sum() for s in samples] == [VESSEL.sum(), VESSEL.sum(), 0]
    with pytest.raises(UserError, match="several structures, 1, 2; choose one"):
        load_split("folder", "all", root=folder_root)
    chosen = load_split("folder", "all", root=folder_root, structure="1")
    assert [sample.target.sum() for sample in chosen] == [NERVE.sum(), 0, 0]
    facts = inspect("folder", folder_root).facts
    assert (facts["images without 1"], facts["images without 2"]) == (2, 1)


def test_masks_of_different_numbers_are_classes_and_those_of_one_number_are_masks(folder_root):
    for name in "abc":
        write_labels(folder_root, name, VESSEL)
    assert load("folder", folder_root)[0].structures == {"lesion": 1}
    write_labels(folder_root, "b", 2 * VESSEL)
    write_labels(folder_root, "c", 1 + NERVE)  # no background
    samples = load("folder", folder_root)
    assert samples[0].structures == {"1": 1, "2": 2}
    assert [int(s.select("1").target.sum()) for s in samples] == [VESSEL.sum(), 0, (~NERVE).sum()]
    assert [int(s.select("2").target.sum()) for s in samples] == [0, VESSEL.sum(), NERVE.sum()]
    write_labels(folder_root, "a", 255 * VESSEL)
    write_labels(folder_root, "c", NERVE)
    with pytest.raises(UserError, match=r"a\.png: holds class 255, and classes are 0, 1, 2"):
        load("folder", folder_root)


def test_structures_csv_names_class_numbers(folder_root):
    (folder_root / "structures.csv").write_text("number;name\n1;nerve\n 7 ; vessel\n")
    write_labels(folder_root, "a", NERVE + 7 * VESSEL)
    write_labels(folder_root, "b", 7 * VESSEL)
    write_labels(folder_root, "c", 7 * VESSEL)
    samples = load("folder", folder_root)
    assert samples[0].structures == {"nerve": 1, "vessel": 7}
    np.testing.assert_array_equal(samples[1].select("vessel").target, VESSEL)
    write_labels(folder_root, "c", 255 * VESSEL)
    with pytest.raises(UserError, match=r"masks/c\.png: holds class 255, and classes are 0, 1, 7"):
        load("folder", folder_root)


def test_structures_csv_of_one_name_names_what_masks_show(folder_root):
    (folder_root / "structures.csv").write_text("number,name\n1,head\n")
    assert [s.structure for s in load_split("folder", "all", root=folder_root)] == ["head"] * 3
    np.testing.assert_array_equal(load("folder", folder_root)[0].target, disk())


def test_a_mask_among_class_numbers_is_refused(folder_root):
    write_labels(folder_root, "a", NERVE + 2 * VESSEL)
    message = r"masks/b\.png: holds class 255, and classes are 0, 1, 2; export the mask with its class"
    with pytest.raises(UserError, match=message):
        load("folder", folder_root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number,name\n0,nerve\n", "line 2 must give a new number from 1 to 255 and a new name"),
        ("number,name\n1,nerve\n1,vessel\n", "line 3 must give"),
        ("number,name\n1,nerve\n2,nerve\n", "line 3 must give"),
        ("number,name\n256,nerve\n", "line 2 must give"),
        ("number,name\n" + "9" * 5000 + ",nerve\n", "line 2: a cell has more than 255"),
        ("number,name\n\u00b2,nerve\n", "line 2 must give"),
        ("number,name\n", "names no structure"),
        ("name,number\nnerve,1\n", "header must be number,name"),
    ],
)
def test_a_structures_csv_that_does_not_fit_is_refused(folder_root, text, message):
    (folder_root / "structures.csv").write_text(text)
    with pytest.raises(UserError, match=rf"structures\.csv: .*{message}"):
        load("folder", folder_root)


def test_a_link_in_a_circle_does_not_end_a_check(folder_root):
    (folder_root / "circle").symlink_to("circle")
    report = inspect("folder", folder_root)
    assert report.is_sound
    assert not report.notes  # it leads nowhere, so not out of the folder
