"""What the page reads and writes."""

import json

import cv2
import nibabel
import numpy as np
import pytest
from clip_builders import moving_bar, region, write_dicom
from PIL import Image
from pydicom.sequence import Sequence as Items
from sample_builders import load

from usrl.errors import UserError
from usrl.page import storage
from usrl.page.storage import Draft, ImageFolder, LabelFolder, decode_mask, encode_mask

BOX = (29.5, 19.5, 49.5, 39.5)


def fill(rows, columns, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


def read_gray(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_accepted_masks_are_a_folder_data_set_at_once(toy, make_images, open_desk, tmp_path):
    desk = open_desk(make_images(3))
    for name in ("scan 0", "scan 2"):
        person = toy.Person(desk, name)
        person.box(*BOX)
        person.accept()
        samples = load("folder", tmp_path / "labels")
        assert samples[-1].name == name
    assert len(samples) == 2
    np.testing.assert_array_equal(samples[1].image, toy.make_image(2))
    np.testing.assert_array_equal(samples[1].target, fill(slice(20, 40), slice(30, 50)))


def test_an_image_with_nothing_on_it_has_a_black_mask(toy, make_images, open_desk, tmp_path):
    desk = open_desk(make_images(1))
    toy.Person(desk, "scan 0").accept(is_empty=True)
    assert not load("folder", tmp_path / "labels")[0].target.any()


def test_several_structures_are_class_numbers_with_names_and_colours(toy, make_images, open_desk, tmp_path):
    desk = open_desk(make_images(1), structures=("nerve", "vessel"))
    toy.Person(desk, "scan 0", "nerve").box(9.5, 9.5, 19.5, 19.5)
    person = toy.Person(desk, "scan 0", "vessel")
    person.box(15.5, 9.5, 29.5, 19.5)
    assert person.accept()["overlap_px"] == 4 * 10
    sample = load("folder", tmp_path / "labels")[0]
    assert sample.structures == {"nerve": 1, "vessel": 2}
    np.testing.assert_array_equal(sample.labels == 1, fill(slice(10, 20), slice(10, 16)))
    np.testing.assert_array_equal(sample.labels == 2, fill(slice(10, 20), slice(16, 30)))
    shown = cv2.imread(str(tmp_path / "labels" / "masks" / "scan 0.png"))  # as a viewer shows it, BGR
    assert shown[12, 12].tolist() == [233, 180, 86]


def test_one_structure_keeps_its_name(toy, make_images, open_desk, tmp_path):
    person = toy.Person(open_desk(make_images(1), structures=("nerve",)), "scan 0", "nerve")
    person.box(*BOX)
    person.accept()
    sample = load("folder", tmp_path / "labels")[0]
    assert sample.structure == "nerve"
    assert sample.target.sum() == 400


def test_patients_are_those_of_the_folder_for_the_accepted_images(toy, make_images, open_desk, tmp_path):
    images = make_images(3)
    (images / "groups.csv").write_text("name,group\nscan 0,ann\nscan 1,bob\nscan 2,ann\n")
    desk = open_desk(images)
    for name in ("scan 2", "scan 1"):
        toy.Person(desk, name).accept(is_empty=True)
    assert [sample.group for sample in load("folder", tmp_path / "labels")] == ["bob", "ann"]


def test_a_data_set_is_annotated_by_its_own_folder(toy, make_images, open_desk, tmp_path):
    make_images(2, "set/images")
    (tmp_path / "set" / "masks").mkdir()
    existing = fill(slice(5, 25), slice(5, 25))
    cv2.imwrite(str(tmp_path / "set" / "masks" / "scan 1.png"), existing * np.uint8(255))
    desk = open_desk(tmp_path / "set")
    assert desk.view("scan 0")["origins"] == []
    person = toy.Person(desk, "scan 1")
    shown = person.act("mask", origin="existing")["mask"]
    np.testing.assert_array_equal(decode_mask(shown, toy.shape), existing)


def test_nothing_of_a_dicom_file_but_its_pixels_and_their_size_is_written(toy, open_desk, tmp_path):
    folder = tmp_path / "dicom"
    folder.mkdir()
    for number in range(2):
        write_dicom(
            folder / f"us{number}.dcm",
            moving_bar(1),
            PatientName="Doe^Jane",
            PatientID="1234567",
            PatientBirthDate="19700101",
            PixelSpacing=[0.2, 0.1],
        )
    desk = open_desk(folder)
    for name in ("us0", "us1"):
        person = toy.Person(desk, name)
        size = person.box(9.5, 9.5, 19.5, 29.5)["size"]
        person.accept()
    assert size["area_mm2"] == pytest.approx(10 * 20 * 0.02)
    written = b"".join(path.read_bytes() for path in (tmp_path / "labels").rglob("*") if path.is_file())
    assert not any(tag in written for tag in (b"Doe", b"Jane", b"1234567", b"19700101"))
    samples = load("folder", tmp_path / "labels")
    assert [sample.group for sample in samples] == ["patient-1", "patient-1"]
    assert [sample.spacing_mm for sample in samples] == [(0.2, 0.1), (0.2, 0.1)]
    np.testing.assert_array_equal(samples[0].image, moving_bar(1)[0])


def test_the_page_reads_every_kind_of_image_and_masks_of_a_frame_are_cut_as_the_frame(tmp_path):
    gray = moving_bar(1)[0]
    images, masks = tmp_path / "images", tmp_path / "masks"
    regions = Items([region(8, 4, 30, 20, (0.02, 0.05))])
    write_dicom(images / "a.dcm", gray[None], SequenceOfUltrasoundRegions=regions)
    nibabel.save(nibabel.Nifti1Image(gray.T, np.diag([0.2, 0.3, 1, 1])), images / "b.nii.gz")
    Image.fromarray(gray.astype(np.uint16) * 10).save(images / "c.png")
    masks.mkdir()
    Image.fromarray((gray > 100).astype(np.uint8) * 255).save(masks / "a.png")
    nibabel.save(nibabel.Nifti1Image((gray.T > 100).astype(np.uint8), np.eye(4)), masks / "b.nii")
    folder = ImageFolder(images, masks, spacing_mm=(1.0, 1.0), window=(0, 2000))
    assert list(folder.sources) == ["a", "b", "c"]
    spacings = [source.spacing_mm for source in folder.sources.values()]
    assert spacings == [pytest.approx((0.5, 0.2)), pytest.approx((0.3, 0.2)), (1.0, 1.0)]
    assert folder.read("a").shape == (20, 30)
    np.testing.assert_array_equal(folder.read("c"), np.rint(gray * (2550 / 2000)))
    np.testing.assert_array_equal(folder.read_mask("a", 1, 1, (20, 30)), gray[4:24, 8:38] > 100)
    np.testing.assert_array_equal(folder.read_mask("b", 1, 1, gray.shape), gray > 100)
    again = ImageFolder(images, masks, window=(0, 255))
    np.testing.assert_array_equal(again.read("b"), gray)
    np.testing.assert_array_equal(again.read("a"), gray[4:24, 8:38])


def test_a_clip_and_a_link_out_of_the_folder_are_named_and_not_read(make_images, open_desk, tmp_path):
    images = make_images(1)
    write_dicom(images / "clip.dcm", moving_bar(3))
    secret = tmp_path / "secret.png"
    secret.write_bytes((images / "scan 0.png").read_bytes())
    (images / "link.png").symlink_to(secret)
    desk = open_desk(images)
    faults = {each["name"]: each["fault"] for each in desk.describe()["images"]}
    assert "clip of 3 frames" in faults["clip"]
    assert "link that leads out of the folder" in faults["link"]
    with pytest.raises(UserError, match="leads out of the folder"):
        desk.view("link")
    assert not faults["scan 0"]


def test_a_file_that_becomes_a_link_later_is_not_read_either(make_images, tmp_path):
    folder = ImageFolder(make_images(1))
    path = folder.sources["scan 0"].path
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(UserError, match="leads out of the folder"):
        folder.read("scan 0")


def test_new_images_are_found_while_the_page_is_open(toy, make_images, open_desk):
    images = make_images(1)
    desk = open_desk(images)
    cv2.imwrite(str(images / "later.png"), toy.make_image(7))
    assert [each["name"] for each in desk.describe()["images"]] == ["later", "scan 0"]


@pytest.mark.parametrize("left", range(1, 5))
def test_what_a_killed_process_was_accepting_is_complete_after_the_next_start(
    toy, make_images, open_desk, tmp_path, monkeypatch, left
):
    images = make_images(1)
    person = toy.Person(open_desk(images), "scan 0")
    person.box(*BOX)
    write, calls = storage.write_atomically, []

    def die(path, content):
        calls.append(path)
        if len(calls) > left:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(storage, "write_atomically", die)
    with pytest.raises(KeyboardInterrupt):
        person.accept()
    monkeypatch.undo()
    view = toy.Person(open_desk(images), "scan 0").view
    assert view["state"] == "accepted"
    assert load("folder", tmp_path / "labels")[0].target.sum() == 400


def test_a_journal_that_names_other_files_is_refused(make_images, open_desk, tmp_path):
    (tmp_path / "labels").mkdir()
    for name in ("../x.png", "masks/../../x.png", "/etc/x", "notes.txt", "masks/.x.png", "images/a/b.png"):
        (tmp_path / "labels" / ".accepting.json").write_text(json.dumps({name: ""}))
        with pytest.raises(UserError, match="which the page does not write"):
            open_desk(make_images(1, folder=f"for {hash(name)}"))
    assert not (tmp_path / "x.png").exists()


def test_masks_that_were_not_made_here_are_never_overwritten(make_images, open_desk, tmp_path):
    (tmp_path / "labels" / "masks").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "labels" / "masks" / "scan 0.png"), np.zeros((60, 80), np.uint8))
    with pytest.raises(UserError, match="was not made here; choose another --out"):
        open_desk(make_images(1))


def test_masks_of_other_structures_are_not_mixed(toy, make_images, open_desk):
    images = make_images(2)
    toy.Person(open_desk(images, structures=("nerve",)), "scan 0", "nerve").accept(is_empty=True)
    with pytest.raises(UserError, match="give --structure nerve, or another --out"):
        open_desk(images)
    assert open_desk(images, structures=("nerve",)).view("scan 0")["state"] == "accepted"


def test_a_second_page_over_the_same_labels_is_refused(make_images, open_desk, tmp_path):
    open_desk(make_images(1))
    with (
        pytest.raises(UserError, match="another process is writing here"),
        LabelFolder(tmp_path / "labels").open(),
    ):
        pass


@pytest.mark.parametrize("content", [b"{", b'{"works": 3}', b'{"revision": -1}', b"[]", b"\xff", b'{"x": 1}'])
def test_a_damaged_draft_is_named_with_what_to_do(toy, make_images, open_desk, tmp_path, content):
    desk = open_desk(make_images(1))
    path = tmp_path / "labels" / "drafts" / "scan 0.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"drafts/scan 0\.json.*move the file away"):
        desk.view("scan 0")


def test_a_mask_survives_as_text_and_one_of_another_size_is_refused():
    mask = np.random.default_rng(0).random((33, 47)) < 0.5
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), mask.shape), mask)
    for text in (encode_mask(mask[:-1]), "AAAA", "not base64!"):
        with pytest.raises(UserError, match="remove"):
            decode_mask(text, mask.shape)


def test_names_that_would_share_a_mask_are_refused(toy, tmp_path):
    for name in ("a.png", "A.bmp"):
        cv2.imwrite(str(tmp_path / name), toy.make_image(0))
    with pytest.raises(UserError, match="would have the same mask; rename one"):
        ImageFolder(tmp_path)


def test_a_folder_without_images_and_structures_alike_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        ImageFolder(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        ImageFolder(tmp_path / "absent")
    with pytest.raises(UserError, match="names that differ"):
        LabelFolder(tmp_path, ("nerve", "nerve"))


def test_an_empty_draft_is_what_was_never_begun(tmp_path):
    labels = LabelFolder(tmp_path)
    with labels.open():
        assert labels.read_draft("anything") == Draft()
        assert labels.begun() == {}
