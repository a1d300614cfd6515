import numpy as np
import pytest
from sample_builders import disk, noise, truncate, write, write_classes

from usrl.data.bank import Bank
from usrl.data.splits import split_samples
from usrl.data.usgra import check_usgra, load_usgra
from usrl.errors import UserError


def test_nerves_and_vessels_are_read_by_their_index(usgra_root):
    nerves, vessels = load_usgra(usgra_root), load_usgra(usgra_root, structure="vessel")
    assert [(s.name, s.source) for s in nerves] == [(n, "usgra/nerve") for n in ("0000", "0001", "0003")]
    assert {s.source for s in vessels} == {"usgra/vessel"}
    nerve = np.zeros((40, 50), np.bool_)
    nerve[10:30, 12:22] = True
    np.testing.assert_array_equal(nerves[0].target, nerve)
    np.testing.assert_array_equal(vessels[0].target, disk(centre=(20, 30)) & ~nerve)
    np.testing.assert_array_equal(nerves[0].image, noise(0))


def test_an_image_without_a_vessel_has_an_empty_target_and_specks_are_removed(usgra_root):
    nerve, vessel = load_usgra(usgra_root)[1], load_usgra(usgra_root, structure="vessel")[1]
    assert nerve.target.sum() == 20 * 10
    assert not vessel.target.any()


def test_touching_structures_are_lesions_of_their_own(usgra_root):
    nerves, vessels = load_usgra(usgra_root), load_usgra(usgra_root, structure="vessel")
    assert len(Bank.from_samples(nerves)) == 3
    assert len(Bank.from_samples(vessels)) == 2


def test_a_frame_with_other_margins_is_in_the_same_group(usgra_root):
    assert [sample.group for sample in load_usgra(usgra_root)] == ["0000", "0001", "0000"]


def test_margins_alone_do_not_make_a_group(usgra_root):
    write(usgra_root / "dataset" / "images" / "0003.png", np.pad(noise(3), ((0, 30), (20, 5))))
    write(usgra_root / "dataset" / "images" / "0001.png", np.zeros((40, 50), np.uint8))
    assert [sample.group for sample in load_usgra(usgra_root)] == ["0000", "0001", "0003"]


def test_the_folder_itself_may_be_given(usgra_root):
    assert len(load_usgra(str(usgra_root / "dataset"))) == 3


def test_a_check_counts_what_the_folder_holds(usgra_root):
    report = check_usgra(usgra_root)
    assert report.is_sound
    assert (report.name, report.counts, report.groups) == ("usgra", {"usgra/nerve": 3}, 2)
    assert report.facts == {
        "groups of several images": 1,
        "near-duplicate pairs": 1,
        "images without a lesion": 0,
        "images with several lesions": 0,
        "specks removed (< 10 px)": 1,
    }
    assert report.duplicate_pairs == (("0000", "0003"),)
    vessels = check_usgra(usgra_root, structure="vessel")
    assert (vessels.name, vessels.counts) == ("usgra-vessels", {"usgra/vessel": 3})
    assert vessels.facts["images without a lesion"] == 1
    assert vessels.facts["specks removed (< 10 px)"] == 0


def test_unmatched_files_are_named(usgra_root):
    (usgra_root / "dataset" / "masks" / "0000.png").unlink()
    (usgra_root / "dataset" / "images" / "0001.png").unlink()
    with pytest.raises(UserError, match=r"(?s)0000\.png: has no mask.*masks/0001\.png: has no image"):
        load_usgra(usgra_root)
    assert check_usgra(usgra_root).counts == {"usgra/nerve": 1}


def test_an_unknown_class_is_refused_for_every_structure(usgra_root):
    write_classes(usgra_root / "dataset" / "masks" / "0001.png", np.full((40, 50), 3, np.uint8))
    for structure in ("nerve", "vessel"):
        with pytest.raises(UserError, match=r"0001\.png: holds class 3, and classes are 0 to 2; export"):
            load_usgra(usgra_root, structure=structure)


def test_a_mask_of_colours_is_refused(usgra_root):
    write(usgra_root / "dataset" / "masks" / "0001.png", disk().astype(np.uint8) * 128, "RGB")
    with pytest.raises(UserError, match=r"0001\.png: holds no class numbers"):
        load_usgra(usgra_root)


def test_a_mask_whose_palette_became_levels_is_refused(usgra_root):
    write(usgra_root / "dataset" / "masks" / "0001.png", disk().astype(np.uint8) * 38)
    with pytest.raises(UserError, match=r"0001\.png: holds class 38"):
        load_usgra(usgra_root)


def test_damaged_files_and_other_sizes_are_all_named(usgra_root):
    truncate(usgra_root / "dataset" / "masks" / "0000.png")
    truncate(usgra_root / "dataset" / "images" / "0001.png")
    write_classes(usgra_root / "dataset" / "masks" / "0003.png", np.zeros((8, 9), np.uint8))
    message = r"(?s)masks/0000\.png: is damaged.*images/0001\.png: is damaged.*0003\.png: the mask is 9 x 8"
    with pytest.raises(UserError, match=message):
        load_usgra(usgra_root)
    report = check_usgra(usgra_root)
    assert len(report.faults) == 3
    assert report.groups == 0


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_folder_without_usgra_is_refused(usgra_root, part):
    for path in (usgra_root / "dataset" / part).iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no USGRA found; wanted dataset/images and dataset/masks"):
        load_usgra(usgra_root)
    with pytest.raises(UserError, match="no USGRA found"):
        check_usgra(usgra_root / "gone")


@pytest.mark.realdata
def test_real_usgra_has_nerves_everywhere_and_its_known_bad_cases(real_usgra):
    nerves, vessels = check_usgra(real_usgra), check_usgra(real_usgra, structure="vessel")
    assert nerves.is_sound
    assert vessels.is_sound
    assert nerves.counts["usgra/nerve"] == vessels.counts["usgra/vessel"] >= 120
    assert nerves.facts["images without a lesion"] == 0
    assert vessels.facts["images without a lesion"] >= 13
    assert nerves.facts["groups of several images"] >= 5
    assert nerves.facts["specks removed (< 10 px)"] >= 1
    assert nerves.apart_pairs == ()


@pytest.mark.realdata
def test_real_usgra_has_the_same_split_for_both_structures(real_usgra):
    splits = [split_samples(load_usgra(real_usgra, structure=s)) for s in ("nerve", "vessel")]
    assert splits[0] == splits[1]
