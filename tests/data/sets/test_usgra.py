import numpy as np
import pytest
from sample_builders import disk, inspect, load, noise, truncate, write, write_classes

from usrl.data.bank import Bank
from usrl.data.catalogue import load_split
from usrl.errors import UserError


def select(root, structure):
    return load_split("usgra", "all", root=root, structure=structure)


def test_nerves_and_vessels_are_read_by_their_index(usgra_root):
    samples = load("usgra", usgra_root)
    assert [(s.name, s.source) for s in samples] == [(name, "usgra") for name in ("0000", "0001", "0003")]
    assert samples[0].structures == {"nerve": 1, "vessel": 2}
    nerve = np.zeros((40, 50), np.bool_)
    nerve[10:30, 12:22] = True
    vessel = disk(centre=(20, 30)) & ~nerve
    np.testing.assert_array_equal(samples[0].labels, nerve + 2 * vessel)
    np.testing.assert_array_equal(select(usgra_root, "nerve")[0].target, nerve)
    np.testing.assert_array_equal(select(usgra_root, "vessel")[0].target, vessel)
    np.testing.assert_array_equal(samples[0].image, noise(0))


def test_without_a_structure_the_error_names_both(usgra_root):
    message = r"several structures, nerve, vessel; choose one with data\.structure .* --structure"
    with pytest.raises(UserError, match=message):
        load_split("usgra", "all", root=usgra_root)
    with pytest.raises(UserError, match=r"unknown structure 'nerv'; did you mean 'nerve'\?"):
        select(usgra_root, "nerv")
    with pytest.raises(UserError, match="there are several structures, nerve, vessel"):
        _ = load("usgra", usgra_root)[0].target


def test_an_image_without_a_vessel_has_an_empty_target_and_specks_are_removed(usgra_root):
    sample = load("usgra", usgra_root)[1]
    assert sample.select("nerve").target.sum() == 20 * 10
    assert not sample.select("vessel").target.any()


def test_touching_structures_are_rows_of_their_own_that_name_them(usgra_root):
    samples = load("usgra", usgra_root)
    assert len(Bank.from_samples(select(usgra_root, "nerve"))) == 3
    assert Bank.from_samples(select(usgra_root, "vessel")).structures == ("vessel", "vessel")
    both = Bank.from_samples(samples)
    assert len(both.images) == 3
    assert both.image_of_row.tolist() == [0, 0, 1, 2, 2]
    assert both.structures == ("nerve", "vessel", "nerve", "nerve", "vessel")
    assert not (both.targets[0] & both.targets[1]).any()


def test_a_frame_with_other_margins_is_in_the_same_group(usgra_root):
    assert [sample.group for sample in load("usgra", usgra_root)] == ["0000", "0001", "0000"]


def test_margins_alone_do_not_make_a_group(usgra_root):
    write(usgra_root / "dataset" / "images" / "0003.png", np.pad(noise(3), ((0, 30), (20, 5))))
    write(usgra_root / "dataset" / "images" / "0001.png", np.zeros((40, 50), np.uint8))
    assert [sample.group for sample in load("usgra", usgra_root)] == ["0000", "0001", "0003"]


def test_the_folder_itself_may_be_given(usgra_root):
    assert len(load("usgra", str(usgra_root / "dataset"))) == 3


def test_a_check_counts_what_the_folder_holds(usgra_root):
    report = inspect("usgra", usgra_root)
    assert report.is_sound
    assert (report.name, report.counts, report.groups) == ("usgra", {"usgra": 3}, 2)
    assert report.facts == {
        "groups of several images": 1,
        "near-duplicate pairs": 1,
        "images without nerve": 0,
        "images with several parts of nerve": 0,
        "images without vessel": 1,
        "images with several parts of vessel": 0,
        "specks removed (< 10 px)": 1,
    }
    assert report.duplicate_pairs == (("0000", "0003"),)


def test_unmatched_files_are_named(usgra_root):
    (usgra_root / "dataset" / "masks" / "0000.png").unlink()
    (usgra_root / "dataset" / "images" / "0001.png").unlink()
    with pytest.raises(UserError, match=r"(?s)0000\.png: has no mask.*masks/0001\.png: has no image"):
        load("usgra", usgra_root)
    assert inspect("usgra", usgra_root).counts == {"usgra": 1}


def test_an_unknown_class_is_refused(usgra_root):
    write_classes(usgra_root / "dataset" / "masks" / "0001.png", np.full((40, 50), 3, np.uint8))
    with pytest.raises(UserError, match=r"0001\.png: holds class 3, and classes are 0, 1, 2; export"):
        load("usgra", usgra_root)


def test_a_mask_of_colours_is_refused(usgra_root):
    colours = np.zeros((40, 50, 3), np.uint8)
    colours[:20, :, 0] = colours[20:, 9:, 1] = 128
    write(usgra_root / "dataset" / "masks" / "0001.png", colours)
    with pytest.raises(UserError, match=r"0001\.png: has 3 colours, such as .*\(128, 0, 0\)"):
        load("usgra", usgra_root)


def test_a_mask_whose_palette_became_levels_is_refused(usgra_root):
    write(usgra_root / "dataset" / "masks" / "0001.png", disk().astype(np.uint8) * 38)
    with pytest.raises(UserError, match=r"0001\.png: holds class 38"):
        load("usgra", usgra_root)


def test_damaged_files_and_other_sizes_are_all_named(usgra_root):
    truncate(usgra_root / "dataset" / "masks" / "0000.png")
    truncate(usgra_root / "dataset" / "images" / "0001.png")
    write_classes(usgra_root / "dataset" / "masks" / "0003.png", np.zeros((8, 9), np.uint8))
    message = r"(?s)masks/0000\.png: is damaged.*images/0001\.png: is damaged.*0003\.png: the mask is 9 x 8"
    with pytest.raises(UserError, match=message):
        load("usgra", usgra_root)
    report = inspect("usgra", usgra_root)
    assert len(report.faults) == 3
    assert report.groups == 0


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_folder_without_usgra_is_refused(usgra_root, part):
    for path in (usgra_root / "dataset" / part).iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no USGRA found; wanted dataset/images and dataset/masks"):
        load("usgra", usgra_root)
    with pytest.raises(UserError, match="no USGRA found"):
        inspect("usgra", usgra_root)


@pytest.mark.realdata
def test_real_usgra_has_nerves_everywhere_and_its_known_bad_cases(real_usgra):
    report = inspect("usgra", real_usgra)
    assert report.is_sound
    assert report.counts["usgra"] >= 120
    assert report.facts["images without nerve"] == 0
    assert report.facts["images without vessel"] >= 13
    assert report.facts["groups of several images"] >= 5
    assert report.facts["specks removed (< 10 px)"] >= 1
    assert report.apart_pairs == ()


@pytest.mark.realdata
def test_real_usgra_has_the_same_split_for_both_structures(real_usgra):
    nerves, vessels = (
        [s.name for s in load_split("usgra", "test", root=real_usgra, structure=structure)]
        for structure in ("nerve", "vessel")
    )
    assert nerves == vessels
