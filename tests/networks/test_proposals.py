from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from usrl.data.catalogue import load_split, load_train_and_val
from usrl.data.recipe import DataRecipe
from usrl.data.sample import GrayImage, Sample
from usrl.errors import UserError
from usrl.files import locked
from usrl.networks import folds
from usrl.networks.folds import write_proposals
from usrl.networks.models import build_network
from usrl.networks.proposals import check_split, read_probabilities, read_proposals
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.run import Run, create_run
from usrl.runs.tensors import save_tensors

CPU = torch.device("cpu")
RECIPE = NetworkRecipe(kind="network", data=DataRecipe(size=32, count=20), channels=[4, 8], epochs=1)


class _Recorder:
    """Stands in for training and network: it answers with a mask that tells which fold's network it is."""

    seen: dict[str, set[str]]

    def __init__(self, run: Run, device: torch.device) -> None:
        self.number = int(run.path.name.split("-")[0]) - 1

    def probability(self, image: GrayImage) -> np.ndarray:
        """Two of three folds say yes everywhere, the third says no; a row of pixels tells who was asked."""
        levels = np.full(image.shape, 0.1 if self.number == 0 else 0.9, np.float32)
        levels[self.number] = 0.6
        return levels


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """Return the names that each fold's training was given."""
    given: dict[int, list[str]] = {}

    def fit(run: Run, train: list[Sample], val: list[Sample], device: object, *, resume: bool) -> None:
        given[int(run.path.name.split("-")[0]) - 1] = [sample.name for sample in train]

    monkeypatch.setattr(folds, "fit_network", fit)
    monkeypatch.setattr(folds, "NetworkSegmenter", _Recorder)
    return given


def test_each_training_image_gets_the_mask_of_the_network_that_did_not_see_it(
    tmp_path: Path, seen: dict[int, list[str]]
) -> None:
    write_proposals(RECIPE, tmp_path / "out", 3, CPU)
    train, val = (load_split("phantom", part, count=20) for part in ("train", "val"))
    for sample, levels in zip(train, read_probabilities(tmp_path / "out", train), strict=True):
        fold = int(np.flatnonzero(np.isclose(levels[:, 0], 0.6))[0])
        assert sample.name not in seen[fold]
        assert all(sample.name in names for other, names in seen.items() if other != fold)
    for levels in read_probabilities(tmp_path / "out", val):
        np.testing.assert_allclose(levels[5], (0.1 + 0.9 + 0.9) / 3, atol=1 / 255)
    assert all(mask.all() for mask in read_proposals(tmp_path / "out", val))
    test = load_split("phantom", "test", count=20)
    with pytest.raises(UserError, match=f"{test[0].name}.png is missing"):
        read_proposals(tmp_path / "out", test)


def test_proposals_are_trained_and_can_be_resumed(tmp_path: Path) -> None:
    write_proposals(RECIPE, tmp_path / "out", 2, CPU)
    train = load_split("phantom", "train", count=20)
    before = read_proposals(tmp_path / "out", train)
    with pytest.raises(UserError, match="already holds something"):
        write_proposals(RECIPE, tmp_path / "out", 2, CPU)
    write_proposals(RECIPE, tmp_path / "out", 2, CPU, resume=True)
    assert all(map(np.array_equal, before, read_proposals(tmp_path / "out", train)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "unett"}, "unknown name 'unett'; did you mean 'unet'"),
        ({"channels": [4, 8, 16, 32, 64, 128]}, "6 levels want a multiple of 32"),
        ({"data": DataRecipe(name="busi", root="nowhere")}, "nowhere: no such folder"),
    ],
)
def test_a_refused_call_leaves_no_folder(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_proposals(RECIPE.model_copy(update=changes), tmp_path / "out", 2, CPU)
    assert not (tmp_path / "out").exists()


def test_networks_may_start_from_what_has_seen_other_images_only(tmp_path: Path) -> None:
    start = create_run(tmp_path / "start", RECIPE)
    load_train_and_val(RECIPE.data, start.split_path)
    save_tensors(start.weights_path, build_network(RECIPE).state_dict())
    started = {"init_from": str(start.path)}
    with pytest.raises(UserError, match=r"init_from: proposals are out of fold, and .*start has learned"):
        write_proposals(RECIPE.model_copy(update=started), tmp_path / "out", 2, CPU)
    assert not (tmp_path / "out").exists()
    runs = write_proposals(of_data(seed=1).model_copy(update=started), tmp_path / "out", 2, CPU)
    assert all(run.source_path.is_dir() for run in runs)


def test_a_call_that_the_data_refuses_can_be_corrected(tmp_path: Path, seen: dict[int, list[str]]) -> None:
    with pytest.raises(UserError, match="14 groups are too few for 99 parts"):
        write_proposals(RECIPE, tmp_path / "out", 99, CPU)
    write_proposals(RECIPE, tmp_path / "out", 3, CPU)
    assert set(seen) == {0, 1, 2}


def test_proposal_of_another_size_is_refused(tmp_path: Path) -> None:
    sample = load_split("phantom", "val", count=20)[0]
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / f"{sample.name}.png")
    with pytest.raises(UserError, match=r"is \(8, 9\) and its image"):
        read_proposals(tmp_path, [sample])


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write here"):
        write_proposals(RECIPE, tmp_path / "file" / "out", 2, CPU)


def test_proposals_of_few_labels_leave_the_unlabelled_images_alone(
    tmp_path: Path, seen: dict[int, list[str]]
) -> None:
    recipe = of_data(labels=0.5)
    write_proposals(recipe, tmp_path / "out", 2, CPU)
    run = create_run(tmp_path / "run", recipe)
    train, val = load_train_and_val(recipe.data, run.split_path)
    assert sorted(seen[0] + seen[1]) == sorted(sample.name for sample in train)
    assert len(list((tmp_path / "out").glob("*.png"))) == len(train) + len(val) == 9
    check_split(tmp_path / "out", run)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"labels": 0.5},
            r"proposals: .*out has seen the labels of 7 others, .* which is unused here",
        ),
        ({"split_seed": 1}, r"proposals: .*out has seen the labels of \d+ others"),
        ({"seed": 1}, "holds proposals for other images or structures than the run's"),
    ],
)
def test_proposals_of_other_labels_or_images_are_refused(
    tmp_path: Path, seen: dict[int, list[str]], other: dict[str, float], message: str
) -> None:
    write_proposals(RECIPE, tmp_path / "out", 2, CPU)
    run = create_run(tmp_path / "run", of_data(**other))
    load_train_and_val(run.recipe.data, run.split_path)
    with pytest.raises(UserError, match=message):
        check_split(tmp_path / "out", run)


def test_proposals_of_other_structures_in_the_same_images_are_refused(tmp_path: Path) -> None:
    paths = {"nerve": tmp_path / "out" / "folds" / "0", "vessel": tmp_path / "run"}
    data = {"name": "usgra", "root": "somewhere"}
    runs = [create_run(path, of_data(**data, structure=structure)) for structure, path in paths.items()]
    for run in runs:
        run.split_path.write_text("train\t0000\n")
    (tmp_path / "out" / "split.tsv").write_text("train\t0000\n")
    check_split(tmp_path / "out", runs[0])
    with pytest.raises(UserError, match="holds proposals for other images or structures than the run's"):
        check_split(tmp_path / "out", runs[1])


def of_data(**changes: float | str) -> NetworkRecipe:
    return RECIPE.model_copy(update={"data": RECIPE.data.model_copy(update=changes)})


def test_a_second_writer_of_proposals_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path / "out"), pytest.raises(UserError, match="out: another process is writing here"):
        write_proposals(RECIPE, tmp_path / "out", 2, CPU)
