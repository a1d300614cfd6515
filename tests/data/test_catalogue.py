import pytest
from public_builders import PUBLIC

from usrl.data.catalogue import (
    DATASETS,
    check_dataset,
    describe_data,
    has_same_images,
    kind_of,
    load_cases,
    load_split,
    load_train_and_val,
    register_dataset,
    require_dataset,
)
from usrl.data.phantom.dataset import load_phantom
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError


def test_the_phantom_needs_no_folder(monkeypatch):
    monkeypatch.delenv("USRL_DATA", raising=False)
    samples = load_split("phantom", "all", count=3, seed=2)
    assert [sample.name for sample in samples] == ["phantom-0000", "phantom-0001", "phantom-0002"]


def test_every_dataset_of_files_is_found_by_root_and_through_usrl_data(busi_root, folder_root, monkeypatch):
    assert len(load_split("busi", "all", root=busi_root)) == 5
    assert len(load_split("folder", "all", root=str(folder_root))) == 3
    monkeypatch.setenv("USRL_DATA", str(busi_root.parent))
    assert len(load_split("busi", "all")) == 5
    assert len(load_split("folder", "all")) == 3


def test_a_misspelt_dataset_gets_a_suggestion():
    with pytest.raises(UserError, match=r"unknown data set 'bussi': did you mean 'busi'\?"):
        load_split("bussi", "all")
    with pytest.raises(
        UserError, match=r"unknown data set 'zzz': known names: bodies, .*busi, .*folder, hc18, .*phantom"
    ):
        check_dataset(DataRecipe(name="zzz"))


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_root_the_message_says_how_to_give_one(monkeypatch, value):
    monkeypatch.delenv("USRL_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("USRL_DATA", value)
    with pytest.raises(
        UserError, match="name it with --root DIR, or set USRL_DATA to the folder that holds busi/"
    ):
        load_split("busi", "all")


def test_an_absent_root_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"gone: no such folder; .* --root DIR, or set USRL_DATA"):
        load_split("busi", root=tmp_path / "gone")
    monkeypatch.setenv("USRL_DATA", str(tmp_path))
    with pytest.raises(UserError, match="busi: no such folder"):
        check_dataset(DataRecipe(name="busi"))


def test_the_parts_of_a_split_make_up_the_dataset():
    parts = {part: load_split("phantom", part, count=20) for part in ("train", "val", "test", "all")}
    assert {part: len(samples) for part, samples in parts.items()} == {
        "train": 14,
        "val": 2,
        "test": 4,
        "all": 20,
    }
    names = [sample.name for part in ("train", "val", "test") for sample in parts[part]]
    assert sorted(names) == [sample.name for sample in parts["all"]]


def test_another_split_seed_gives_another_split():
    names = [[s.name for s in load_split("phantom", "test", split_seed=seed, count=20)] for seed in (0, 1)]
    assert names[0] != names[1]


def test_a_misspelt_split_gets_a_suggestion():
    with pytest.raises(UserError, match=r"unknown split 'tests': did you mean 'test'\?"):
        load_split("phantom", "tests")


def test_nerves_and_vessels_have_the_same_images_and_split(usgra_root, monkeypatch):
    monkeypatch.setenv("USRL_DATA", str(usgra_root.parent))
    nerves, vessels = (load_split("usgra", "all", structure=structure) for structure in ("nerve", "vessel"))
    assert [(s.name, s.group) for s in nerves] == [(s.name, s.group) for s in vessels]
    nerve, vessel = (DataRecipe(name="usgra", structure=structure) for structure in ("nerve", "vessel"))
    assert has_same_images(nerve, vessel)
    assert not has_same_images(nerve, DataRecipe(name="hc18"))
    assert (describe_data(nerve), describe_data(DataRecipe())) == ("usgra, nerve", "phantom")


def test_recipes_of_the_first_edition_choose_the_structure_that_their_data_set_was(usgra_root):
    old = DataRecipe(name="usgra-vessels", root=str(usgra_root))
    assert (old.name, old.structure) == ("usgra", "vessel")
    assert not load_split(old, "all")[1].target.any()
    assert DataRecipe(name="usgra-vessels", structure=None) == DataRecipe(name="usgra", structure="vessel")
    with pytest.raises(ValueError, match="structure"):
        DataRecipe.model_validate({"name": "usgra", "structure": 1})
    # A run saves every key of its recipe; those of the first edition had no structure.
    saved = DataRecipe(name="usgra", structure="vessel", root=str(usgra_root)).model_dump()
    assert DataRecipe.model_validate(saved).structure == "vessel"
    del saved["structure"]
    assert DataRecipe.model_validate(saved).structure == "nerve"
    assert DataRecipe(name="usgra").structure is None


def test_a_data_set_of_one_structure_knows_its_name():
    assert len(load_split("phantom", "all", count=3, structure="lesion")) == 3
    with pytest.raises(UserError, match="unknown structure 'nerve'; known names: lesion"):
        load_split("phantom", "all", count=3, structure="nerve")


def test_a_structure_is_asked_for_before_any_image_is_read(tmp_path):
    for name, message in (
        ("usgra", "several structures, nerve, vessel"),
        ("busi", "unknown structure 'nerve'"),
    ):
        structure = "nerve" if name == "busi" else None
        with pytest.raises(UserError, match=message):  # the folder holds no images
            require_dataset(DataRecipe(name=name, root=tmp_path, structure=structure))


def test_fields_of_a_recipe_are_checked():
    with pytest.raises(UserError, match=r"load_split: unknown key 'conut'; did you mean 'count'\?"):
        load_split("phantom", conut=3)
    with pytest.raises(UserError, match="load_split: size: Input should be less than or equal to 1024"):
        load_split("phantom", size=1025)


@pytest.fixture
def registered():
    known = dict(DATASETS)
    yield
    DATASETS.clear()
    DATASETS.update(known)


@pytest.mark.usefixtures("registered")
def test_a_foreign_data_set_of_images_is_split_like_ours():
    register_dataset("mine", lambda data, split: load_phantom(data.count), kind="images")
    assert kind_of("mine") == kind_of("busi") == "images"
    for part in ("train", "val", "test", "all"):
        mine, ours = load_split("mine", part, count=20), load_split("phantom", part, count=20)
        assert [sample.name for sample in mine] == [sample.name for sample in ours]
    with pytest.raises(UserError, match="'mine' has no check"):
        check_dataset(DataRecipe(name="mine"))
    with pytest.raises(UserError, match="'mine' is registered already"):
        register_dataset("mine", load_cases, kind="images")


@pytest.mark.usefixtures("registered")
def test_a_foreign_data_set_of_another_kind_makes_its_own_parts():
    register_dataset("films", lambda data, split: f"{data.count} films for {split}", kind="films")
    assert load_cases(DataRecipe(name="films", count=7), "val") == "7 films for val"
    assert len(load_cases(DataRecipe(count=20), "val")) == 2
    with pytest.raises(UserError, match="data set 'films' consists of films, and images are wanted here"):
        load_split("films")


@pytest.mark.filterwarnings("ignore:.*not for commercial use")
def test_every_dataset_can_be_checked(
    busi_root, folder_root, hc18_root, usgra_root, volumes_root, covid_root, clips_root, tmp_path
):
    roots = {"busi": busi_root, "folder": folder_root, "phantom": None, "hc18": hc18_root}
    roots |= {"usgra": usgra_root, "bodies": None, "slices": None, "volumes": volumes_root, "lung": None}
    roots |= {"sweeps": None, "covid-blues": covid_root, "clips": clips_root}
    roots |= {name: make(tmp_path / name) for name, make in PUBLIC.items()}
    assert set(roots) == set(DATASETS)
    for name, root in roots.items():
        report = check_dataset(DataRecipe(name=name, root=root, count=3))
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
    whole = {part: load_split("phantom", part, split_seed=3, count=40) for part in ("train", "val", "test")}
    names = {part: [sample.name for sample in samples] for part, samples in whole.items()}
    assert [sample.name for sample in train] == parts["train"]
    assert len(train) == 7
    assert sorted(parts["train"] + parts["unused"]) == names["train"]
    assert [sample.name for sample in val] == parts["val"] == names["val"]
    assert parts["test"] == names["test"]
    again = load_split("phantom", "train", split_seed=3, count=40, labels=0.25)
    assert [sample.name for sample in again] == parts["train"]


def test_all_labels_leave_the_split_as_it_was(tmp_path):
    load_train_and_val(DataRecipe(count=20), tmp_path / "split.tsv")
    assert "unused" not in (tmp_path / "split.tsv").read_text()
