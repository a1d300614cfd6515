"""Which runs another may start from, by the images that they have learned from."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from usrl.agents.recipe import AgentRecipe
from usrl.data.catalogue import load_train_and_val
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.leaks import check_source, find_parts, keep_source, trace
from usrl.runs.recipes import load_recipe
from usrl.runs.run import Run, create_run, open_run

PHANTOM = DataRecipe()


@pytest.fixture(scope="module")
def write_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Makes a run as far as a leak is concerned, its recipe and its split of 20 phantoms; equal ones once."""

    @cache
    def write(**data: object) -> Run:
        chosen = DataRecipe.model_validate({"count": 20} | data)
        run = split_by_hand(tmp_path_factory.mktemp("run") / "run", "", chosen)
        load_train_and_val(chosen, run.split_path)
        return run

    return write


def split_by_hand(path: Path, split: str, data: DataRecipe = PHANTOM) -> Run:
    run = create_run(path, NetworkRecipe(kind="network", data=data))
    run.split_path.write_text(split)
    return run


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ({}, {}),  # the same split
        ({"labels": 0.3}, {}),  # fewer of our training images
        ({"labels": 0.3}, {"labels": 0.5}),
        ({"seed": 1, "split_seed": 1}, {}),  # other images of the same names
    ],
)
def test_what_learned_from_our_training_images_or_from_other_images_is_allowed(
    write_run: Callable[..., Run], source: dict[str, object], own: dict[str, object]
) -> None:
    check_source("init_from", write_run(**source), write_run(**own))


@pytest.mark.parametrize(
    ("source", "own", "part"),
    [
        ({}, {"labels": 0.5}, "unused"),
        ({"labels": 0.5}, {"labels": 0.3}, "unused"),
        ({"split_seed": 1}, {}, "val|test"),
    ],
)
def test_what_learned_from_images_that_are_not_for_our_training_is_refused(
    write_run: Callable[..., Run], source: dict[str, object], own: dict[str, object], part: str
) -> None:
    message = rf"init_from: .*run has seen the labels of \d+ others, such as 'phantom-\d+', which is ({part})"
    with pytest.raises(UserError, match=message + r" here; train it with data.split_seed=0 and data.labels="):
        check_source("init_from", write_run(**source), write_run(**own))


@pytest.mark.parametrize(
    ("had", "is_now", "is_leak"),
    [
        ("train", "train", False),
        ("train", "val", True),
        ("train", "test", True),
        ("train", "unused", True),
        ("val", "train", False),
        ("val", "val", False),
        ("val", "test", True),
        ("val", "unused", True),
        ("test", "val", False),
        ("unused", "test", False),
    ],
)
def test_an_image_leaks_where_its_label_was_used_and_must_not_be(
    tmp_path: Path, had: str, is_now: str, is_leak: bool
) -> None:
    source = split_by_hand(tmp_path / "source", f"{had}\tphantom-0000\ntrain\tanother\n")
    own = split_by_hand(tmp_path / "own", f"{is_now}\tphantom-0000\n")
    if is_leak:
        with pytest.raises(UserError, match=f"of 1 others, such as 'phantom-0000', which is {is_now} here"):
            check_source("refiner", source, own)
    else:
        check_source("refiner", source, own)


def test_weights_of_the_same_images_without_a_split_are_refused(tmp_path: Path) -> None:
    source, own = (
        split_by_hand(tmp_path / "source", ""),
        split_by_hand(tmp_path / "own", "test\tphantom-0000\n"),
    )
    source.split_path.unlink()
    with pytest.raises(UserError, match=r"same data set 'phantom' and has no split.tsv that tells on which"):
        check_source("init_from", source, own)
    check_source("init_from", source, split_by_hand(tmp_path / "others", "", DataRecipe(seed=7)))


def continue_from(source: Run, path: Path, split: str, data: DataRecipe) -> Run:
    """A run that started from another, as far as a leak is concerned."""
    run = create_run(path, AgentRecipe(data=data, init_from=str(source.path)))
    run.split_path.write_text(split)
    keep_source(source, run)
    return run


def test_labels_leak_through_a_training_on_other_images(tmp_path: Path) -> None:
    others = DataRecipe(seed=7)
    both = "train\tphantom-0000\ntrain\tphantom-0001\n"
    first = split_by_hand(tmp_path / "first", both)
    second = continue_from(first, tmp_path / "second", "train\tphantom-0005\n", others)
    third = continue_from(second, tmp_path / "third", "train\tphantom-0006\n", others)
    shutil.rmtree(first.path)
    shutil.rmtree(second.path)
    kept = third.path / "source" / "source"
    assert [link.path for link in trace(third)] == [third.path, third.path / "source", kept]
    own = split_by_hand(tmp_path / "own", "train\tphantom-0000\nunused\tphantom-0001\n")
    message = f"init_from: .*{kept} has seen the labels of 1 others, such as 'phantom-0001', which is unused"
    with pytest.raises(UserError, match=message):
        check_source("init_from", third, own)
    check_source("init_from", third, split_by_hand(tmp_path / "same", both))


def test_a_run_without_its_sources_record_is_followed_to_the_source_or_refused(tmp_path: Path) -> None:
    first = split_by_hand(tmp_path / "first", "train\tphantom-0000\n")
    second = continue_from(first, tmp_path / "second", "", DataRecipe(seed=7))
    shutil.rmtree(second.source_path)
    assert [link.path for link in trace(second)] == [second.path, first.path]
    shutil.rmtree(first.path)
    own = split_by_hand(tmp_path / "own", "train\tphantom-0000\n")
    with pytest.raises(UserError, match=r"init_from: .*second started from weights of which nothing tells"):
        check_source("init_from", second, own)


def test_a_run_that_says_it_started_from_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    run = create_run(path, AgentRecipe(data=DataRecipe(), init_from=str(path)))
    with pytest.raises(UserError, match="started from itself; correct init_from"):
        list(trace(run))


def test_a_shipped_agent_may_be_used_for_other_images_and_not_for_another_split(tmp_path: Path) -> None:
    shipped = open_run(Path(__file__).parents[2] / "agents" / "contour-ppo")
    check_source("init_from", shipped, Run(tmp_path, AgentRecipe(data=DataRecipe(name="busi"))))
    text = "".join(f"test\tphantom-{i:04d}\n" for i in range(3000))
    own = split_by_hand(tmp_path / "own", text, shipped.recipe.data)
    # Four fifths of them are for training and validation.
    with pytest.raises(UserError, match="contour-ppo has seen the labels of 2400 others"):
        check_source("init_from", shipped, own)


def test_parts_are_those_of_the_same_images_only(tmp_path: Path) -> None:
    run = split_by_hand(tmp_path / "run", "val\tphantom-0000\n")
    asked = ["phantom-0000"]
    assert find_parts(run, DataRecipe(count=20), asked) == {"phantom-0000": "val"}
    assert find_parts(run, DataRecipe(seed=1), asked) == {}
    assert find_parts(run, DataRecipe(name="busi"), asked) == {}


@pytest.mark.parametrize("split", ["", "train\tphantom-0001\n"])
def test_a_split_must_name_all_images_that_a_run_may_have_seen(tmp_path: Path, split: str) -> None:
    """The phantom's images beyond the run's count did not exist for it."""
    source = split_by_hand(tmp_path / "source", split, DataRecipe(count=3))
    own = split_by_hand(tmp_path / "own", "".join(f"train\tphantom-{i:04d}\n" for i in range(5)))
    with pytest.raises(UserError, match=r"init_from: .*source/split\.tsv does not name \d of the images"):
        check_source("init_from", source, own)
    source.split_path.write_text("".join(f"train\tphantom-{i:04d}\n" for i in range(3)))
    check_source("init_from", source, own)


def test_a_folder_is_the_same_one_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run = split_by_hand(tmp_path / "run", "train\tcase-01\n", DataRecipe(name="folder", root="mine"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = Run(run.path, load_recipe(run.path))
    assert find_parts(again, DataRecipe(name="folder", root="../mine"), ["case-01"]) == {"case-01": "train"}
