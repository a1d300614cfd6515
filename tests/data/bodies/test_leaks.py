"""Bodies that a run has learned from are told from others by their numbers."""

import pytest

from usrl.data.bodies import dataset
from usrl.data.catalogue import list_parts, load_cases
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError
from usrl.runs.leaks import find_parts
from usrl.runs.run import open_run
from usrl.runs.shipped import locate


def test_slices_beyond_the_count_of_a_run_were_not_seen():
    run = open_run(locate("unet-slices"))
    data = run.recipe.data.model_copy(update={"count": 601})
    assert set(find_parts(run, data, ["body-0003-2"]).values()) <= {"train", "val", "test"}
    find_parts(run, data, ["body-0600-3"])  # names nothing that is missing
    with pytest.raises(UserError, match="does not name 1 of the images, such as 'body-0599-9'"):
        find_parts(run, data, ["body-0599-9"])


def test_bodies_of_other_seeds_are_other_bodies_and_those_of_other_varieties_are_not():
    run = open_run(locate("probe-bc"))
    own = run.recipe.data
    assert find_parts(run, DataRecipe(name="bodies", seed=1), ["body-0000"]) == {}
    for variety in (0.0, 0.5):
        parts = find_parts(run, own.model_copy(update={"variety": variety}), ["body-0000"])
        assert parts["body-0000"] in ("train", "val", "test")


def test_the_split_of_a_run_is_listed_without_making_the_bodies_of_the_test(monkeypatch):
    made = []
    monkeypatch.setattr(dataset, "make_body", lambda seed, index, variety: made.append(index))
    data = DataRecipe(name="bodies", count=1000)
    parts = list_parts(data)
    assert not made
    assert [len(parts[part]) for part in ("train", "val", "test")] == [700, 100, 200]
    monkeypatch.undo()
    small = data.model_copy(update={"count": 10})
    assert list(load_cases(small, "test").names) == list_parts(small)["test"]
