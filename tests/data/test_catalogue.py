import pytest

from usrl.data.catalogue import (
    DATASETS,
    check_dataset,
    has_same_images,
    load_dataset,
    load_split,
    load_train_and_val,
)
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError


def test_the_phantom_needs_no_folder(monkeypatch):
    monkeypatch.delenv("USRL_DATA", raising=False)
    samples = load_dataset("phantom", count=3, seed=2)
    assert [sample.name for sample in samples] == ["phantom-0000", "phantom-0001", "phantom-0002"]


def test_every_dataset_of_files_is_found_by_root_and_through_usrl_data(busi_root, folder_root, monkeypatch):
    assert len(load_dataset("busi", busi_root)) == 5
    assert len(load_dataset("folder", str(folder_root))) == 3
    monkeypatch.setenv("USRL_DATA", str(busi_root.parent))
    assert len(load_dataset("busi")) == 5
    assert len(load_dataset("folder")) == 3


def test_a_misspelt_dataset_gets_a_suggestion():
    with pytest.raises(UserError, match=r"unknown dataset 'bussi': did you mean 'busi'\?"):
        load_dataset("bussi")
    with pytest.raises(UserError, match="unknown dataset 'zzz': known names: busi, folder, hc18, phantom"):
        check_dataset("zzz")


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_root_the_message_says_how_to_give_one(monkeypatch, value):
    monkeypatch.delenv("USRL_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("USRL_DATA", value)
    with pytest.raises(UserError, match="pass --root DIR, or set USRL_DATA to the folder that holds busi/"):
        load_dataset("busi")


def test_an_absent_root_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"gone: no such folder; .* --root DIR, or set USRL_DATA"):
        load_dataset("busi", tmp_path / "gone")
    monkeypatch.setenv("USRL_DATA", str(tmp_path))
    with pytest.raises(UserError, match="busi: no such folder"):
        check_dataset("busi")


def test_the_parts_of_a_split_make_up_the_dataset():
    parts = {part: load_split("phantom", None, part, count=20) for part in ("train", "val", "test", "all")}
    assert {part: len(samples) for part, samples in parts.items()} == {
        "train": 14,
        "val": 2,
        "test": 4,
        "all": 20,
    }
    names = [sample.name for part in ("train", "val", "test") for sample in parts[part]]
    assert sorted(names) == [sample.name for sample in parts["all"]]


def test_another_split_seed_gives_another_split():
    names = [[s.name for s in load_split("phantom", None, "test", seed, count=20)] for seed in (0, 1)]
    assert names[0] != names[1]


def test_a_misspelt_split_gets_a_suggestion():
    with pytest.raises(UserError, match=r"unknown split 'tests': did you mean 'test'\?"):
        load_split("phantom", None, "tests")


def test_nerves_and_vessels_lie_in_one_folder_and_have_the_same_images(usgra_root, monkeypatch):
    monkeypatch.setenv("USRL_DATA", str(usgra_root.parent))
    nerves, vessels = load_dataset("usgra"), load_dataset("usgra-vessels")
    assert [(s.name, s.group) for s in nerves] == [(s.name, s.group) for s in vessels]
    assert has_same_images(DataRecipe(name="usgra"), DataRecipe(name="usgra-vessels"))
    assert not has_same_images(DataRecipe(name="usgra"), DataRecipe(name="hc18"))
    monkeypatch.delenv("USRL_DATA")
    with pytest.raises(UserError, match="set USRL_DATA to the folder that holds usgra/"):
        load_dataset("usgra-vessels")


def test_every_dataset_can_be_checked(busi_root, folder_root, hc18_root, usgra_root):
    roots = {"busi": busi_root, "folder": folder_root, "phantom": None, "hc18": hc18_root}
    roots |= {"usgra": usgra_root, "usgra-vessels": usgra_root}
    assert set(roots) == set(DATASETS)
    for name, root in roots.items():
        report = check_dataset(name, root, count=3)
        assert report.is_sound
        assert report.name == name
        assert report.lines()[0].startswith(f"{name}, simulated" if root is None else f"{name} at {root}")


def test_few_labels_thin_out_the_training_part_alone_and_the_split_says_so(tmp_path):
    data = DataRecipe(count=40, split_seed=3, labels=0.25)
    train, val = load_train_and_val(data, tmp_path / "split.tsv")
    parts = {}
    for line in (tmp_path / "split.tsv").read_text().splitlines():
        part, _, name = line.partition("\t")
        parts.setdefault(part, []).append(name)
    whole = {part: load_split("phantom", None, part, 3, count=40) for part in ("train", "val", "test")}
    names = {part: [sample.name for sample in samples] for part, samples in whole.items()}
    assert [sample.name for sample in train] == parts["train"]
    assert len(train) == 7
    assert sorted(parts["train"] + parts["unused"]) == names["train"]
    assert [sample.name for sample in val] == parts["val"] == names["val"]
    assert parts["test"] == names["test"]
    again = load_split("phantom", None, "train", 3, count=40, labels=0.25)
    assert [sample.name for sample in again] == parts["train"]


def test_all_labels_leave_the_split_as_it_was(tmp_path):
    load_train_and_val(DataRecipe(count=20), tmp_path / "split.tsv")
    assert "unused" not in (tmp_path / "split.tsv").read_text()
