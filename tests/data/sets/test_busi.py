import re
import time

import numpy as np
import pytest
from PIL import Image
from sample_builders import disk, inspect, load, noise, truncate, write

from usrl.data.bank import Bank
from usrl.data.duplicates import average_hash, cluster_names, duplicate_pairs
from usrl.errors import UserError

FOLDER = "Dataset_BUSI_with_GT"


def test_images_are_named_sourced_and_ordered_by_class_and_number(busi_root):
    samples = load("busi", busi_root)
    names = ["benign (1)", "benign (2)", "benign (10)", "malignant (1)", "normal (1)"]
    assert [sample.name for sample in samples] == names
    assert [sample.source.split("/") for sample in samples] == [["busi", name.split()[0]] for name in names]
    assert {sample.spacing_mm for sample in samples} == {None}
    np.testing.assert_array_equal(samples[0].image, noise(1))


def test_the_folder_itself_may_be_given(busi_root):
    assert len(load("busi", busi_root / FOLDER)) == len(load("busi", str(busi_root))) == 5


def test_masks_of_every_mode_are_read_united_and_freed_of_specks(busi_root):
    first, second, third, malignant, normal = load("busi", busi_root)
    np.testing.assert_array_equal(first.target, disk() | disk(centre=(6, 6), radius=3))
    for sample in (second, third, malignant):
        np.testing.assert_array_equal(sample.target, disk())
    assert not normal.target.any()


def test_a_duplicate_in_another_class_is_in_the_same_group(busi_root):
    groups = {sample.name: sample.group for sample in load("busi", busi_root)}
    assert groups["malignant (1)"] == groups["benign (2)"]
    assert len(set(groups.values())) == 4


def test_a_check_counts_what_the_folder_holds(busi_root):
    report = inspect("busi", busi_root)
    assert report.is_sound
    assert report.counts == {"busi/benign": 3, "busi/malignant": 1, "busi/normal": 1}
    assert report.groups == 4
    assert report.cross_pairs == report.duplicate_pairs == (("benign (2)", "malignant (1)"),)
    assert report.apart_pairs == ()
    assert report.facts == {
        "groups of several images": 1,
        "near-duplicate pairs": 1,
        "images without a lesion": 1,
        "images with several lesions": 1,
        "specks removed (< 10 px)": 2,
    }
    text = "\n".join(report.lines())
    assert "near duplicates in one group: benign (2) = malignant (1)" in text
    assert "near duplicates of different sources: benign (2) = malignant (1)" in text
    assert re.search("images, all +5\n", text)
    assert "different groups" not in text
    assert text.endswith("no faults")


def test_a_missing_mask_is_named(busi_root):
    (busi_root / FOLDER / "benign" / "benign (2)_mask.png").unlink()
    with pytest.raises(UserError, match=r"benign \(2\)\.png: has no mask benign \(2\)_mask\.png; restore it"):
        load("busi", busi_root)


def test_a_mask_without_an_image_is_named(busi_root):
    (busi_root / FOLDER / "benign" / "benign (2).png").unlink()
    with pytest.raises(UserError, match=r"benign \(2\)_mask\.png: has no image; restore the image"):
        load("busi", busi_root)


def test_a_mask_of_another_size_is_named_with_both_sizes(busi_root):
    write(busi_root / FOLDER / "benign" / "benign (2)_mask.png", np.zeros((30, 50), np.uint8), "1")
    with pytest.raises(
        UserError, match=r"\(2\)_mask\.png: the mask is 50 x 30 px and its image 50 x 40 px; restore"
    ):
        load("busi", busi_root)


def test_a_truncated_image_is_named(busi_root):
    truncate(busi_root / FOLDER / "malignant" / "malignant (1).png")
    with pytest.raises(UserError, match=r"malignant \(1\)\.png: is damaged or cannot be read"):
        load("busi", busi_root)


def test_several_faults_are_all_reported_and_the_check_goes_on(busi_root):
    truncate(busi_root / FOLDER / "malignant" / "malignant (1).png")
    (busi_root / FOLDER / "benign" / "benign (2)_mask.png").unlink()
    with pytest.raises(UserError, match=r"(?s)\(2\)\.png: has no mask.*malignant \(1\)\.png: is damaged"):
        load("busi", busi_root)
    report = inspect("busi", busi_root)
    assert len(report.faults) == 2
    assert not report.is_sound
    assert report.counts == {"busi/benign": 2, "busi/malignant": 0, "busi/normal": 1}
    assert report.lines()[-1].strip() == "2 faults"


def test_a_folder_without_busi_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no BUSI found; wanted Dataset_BUSI_with_GT/.*unpack"):
        load("busi", tmp_path)
    with pytest.raises(UserError, match="no BUSI found"):
        inspect("busi", tmp_path)


def test_an_empty_class_is_a_fault(busi_root):
    for path in (busi_root / FOLDER / "normal").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"normal: holds no images; unpack Dataset_BUSI_with_GT\.zip again"):
        load("busi", busi_root)


def test_an_rgba_image_is_read(busi_root):
    write(busi_root / FOLDER / "benign" / "benign (1).png", noise(1), "RGBA")
    np.testing.assert_array_equal(load("busi", busi_root)[0].image, noise(1))


def test_images_smaller_than_the_working_size_fill_a_bank(busi_root):
    assert len(Bank.from_samples(load("busi", busi_root), size=128)) == 5


def test_a_hash_does_not_change_with_size_or_brightness():
    y, x = np.mgrid[:256, :256]
    image = ((x * y) % 251 * 0.5 + 60 * (x > y)).astype(np.uint8)
    small = np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.BOX))
    distance = [(average_hash(image) != average_hash(other)).sum() for other in (image // 2 + 20, small)]
    assert max(distance) <= 4


def test_pairs_are_those_within_the_hamming_distance():
    base = np.zeros((16, 16), np.uint8)
    base[:8] = 200

    def flipped(count):
        image = base.copy()
        image[0, :count] = 0
        return image

    images = [flipped(0), flipped(4), flipped(5), flipped(16)]
    assert duplicate_pairs(images).tolist() == [[0, 1], [1, 2]]
    assert duplicate_pairs(images, max_distance=0).tolist() == []
    assert duplicate_pairs([]).tolist() == []


def test_more_images_than_one_chunk_give_the_pairs_of_a_plain_double_loop():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 2, (16, 16)).astype(np.uint8) * 255 for _ in range(600)]
    images[550] = images[3].copy()
    images[599] = images[520].copy()
    images[599][0, 0] ^= 255
    assert duplicate_pairs(images).tolist() == [[3, 550], [520, 599]]


def test_chains_of_pairs_form_one_cluster():
    pairs = np.array([[0, 2], [2, 4]])
    assert cluster_names(["a", "b", "c", "d", "e"], pairs) == ["a", "b", "a", "d", "a"]


@pytest.mark.realdata
def test_real_busi_loads_in_seconds_without_faults(real_busi):
    start = time.perf_counter()
    samples = load("busi", real_busi)
    assert time.perf_counter() - start < 20
    assert len({sample.name for sample in samples}) == len(samples) >= 600
    for sample in samples:
        assert sample.target.any() == (sample.source != "busi/normal")


@pytest.mark.realdata
def test_real_busi_has_its_known_bad_cases(real_busi):
    report = inspect("busi", real_busi)
    assert report.is_sound
    assert report.facts["images with several lesions"] >= 14
    assert len(report.cross_pairs) >= 3
    assert any("benign (4) = benign (321), " in line and " and 89 more" in line for line in report.lines())
    assert report.facts["specks removed (< 10 px)"] >= 7
    assert report.groups < sum(report.counts.values())


@pytest.mark.realdata
def test_real_busi_gives_a_bank_of_every_lesion(real_busi):
    samples = load("busi", real_busi)
    bank = Bank.from_samples(samples)
    assert {name.split()[0] for name in bank.names} == {"benign", "malignant"}
    assert len(set(bank.names)) == sum(sample.target.any() for sample in samples)
