import pytest

from usrl.data.catalogue import DATASETS, check_dataset, load_dataset, load_split
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
    with pytest.raises(UserError, match="unknown dataset 'zzz': known names: busi, folder, phantom"):
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


def test_every_dataset_can_be_checked(busi_root, folder_root):
    roots = {"busi": busi_root, "folder": folder_root, "phantom": None}
    assert set(roots) == set(DATASETS)
    for name, root in roots.items():
        report = check_dataset(name, root, count=3)
        assert report.is_sound
        assert report.name == name
        assert report.lines()[0].startswith(f"{name} at ")
