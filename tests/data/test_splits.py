import os
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from sample_builders import make_sample

from usrl.data.splits import draw_labelled, folds, read_parts, split_fold, split_samples, write_split
from usrl.errors import UserError


def dataset(count=100, group_size=1, sources=("a", "b")):
    return [
        make_sample(
            f"s{i:03}", group=f"g{i // group_size:03}", source=sources[(i // group_size) % len(sources)]
        )
        for i in range(count)
    ]


def every(split):
    return sorted(index for part in split for index in part)


def test_every_sample_is_in_exactly_one_part_of_the_right_size():
    split = split_samples(dataset())
    assert {part: len(indices) for part, indices in split.items()} == {"train": 70, "val": 10, "test": 20}
    assert every(split.values()) == list(range(100))


def test_groups_stay_together():
    samples = dataset(120, group_size=4)
    split = split_samples(samples, seed=3)
    parts = [{samples[i].group for i in indices} for indices in split.values()]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 30


def test_a_group_over_several_sources_stays_together():
    samples = [make_sample(f"s{i}", group=f"g{i // 2}", source="ab"[i % 2]) for i in range(60)]
    parts = [{samples[i].group for i in indices} for indices in split_samples(samples).values()]
    assert sum(len(part) for part in parts) == 30


def test_each_part_has_its_share_of_every_source():
    samples = dataset(200, sources=("a", "a", "a", "b"))
    for part, indices in split_samples(samples, seed=1).items():
        counts = Counter(samples[i].source for i in indices)
        assert abs(counts["a"] - 3 * counts["b"]) <= 3, part


def test_many_small_sources_do_not_starve_a_part():
    samples = [make_sample(f"s{i:03}", source=f"source{i // 3}") for i in range(90)]
    sizes = {part: len(indices) for part, indices in split_samples(samples).items()}
    assert sizes == pytest.approx({"train": 63, "val": 9, "test": 18}, abs=2)


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_are_dealt_first_so_that_small_ones_even_the_parts_out(seed):
    large = [make_sample(f"l{i}", group="large") for i in range(8)]
    samples = large + [make_sample(f"s{i}") for i in range(8)]
    assert [len(part) for part in folds(samples, 2, seed)] == [8, 8]


def test_the_same_seed_gives_the_same_split_in_any_order():
    samples = dataset(50, group_size=2)
    shuffled = [samples[i] for i in np.random.default_rng(0).permutation(50)]

    def named(dataset_, seed):
        return {p: {dataset_[i].name for i in idx} for p, idx in split_samples(dataset_, seed=seed).items()}

    assert named(samples, 4) == named(shuffled, 4)
    assert named(samples, 4) != named(samples, 5)


def test_a_known_split_does_not_change_between_versions():
    split = split_samples(dataset(10), {"train": 0.8, "test": 0.2}, seed=0)
    assert split == {"train": [0, 1, 3, 4, 5, 6, 8, 9], "test": [2, 7]}


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5, "b": 0.4}, {"a": 1.2, "b": -0.2}, {"a": 1.0, "b": 0.0}])
def test_fractions_that_are_not_shares_are_refused(fractions):
    with pytest.raises(UserError, match="fractions must be positive and sum to 1"):
        split_samples(dataset(10), fractions)


def test_too_few_groups_for_the_parts_are_refused():
    with pytest.raises(UserError, match="2 groups are too few for 3 parts"):
        split_samples(dataset(10, group_size=5))
    with pytest.raises(UserError, match="0 groups are too few"):
        split_samples([])


SHARES = (0.01, 0.1, 0.25, 0.5, 0.9, 1.0)


def groups_of(samples, indices):
    return {samples[i].group for i in indices}


@pytest.mark.parametrize("seed", range(3))
def test_smaller_shares_of_labels_are_part_of_larger_ones(seed):
    samples = dataset(200, group_size=2, sources=("a", "a", "b"))
    part = split_samples(samples, seed=seed)["train"]
    drawn = [set(draw_labelled(samples, part, share, seed)) for share in SHARES]
    assert all(small < large for small, large in pairwise(drawn))
    assert drawn[-1] == set(part)


@pytest.mark.parametrize("share", SHARES)
def test_the_share_of_labels_is_met_within_one_group_in_all_and_in_every_source(share):
    samples = dataset(300, group_size=3, sources=("a", "a", "a", "b"))
    part = split_samples(samples, seed=2)["train"]
    kept = draw_labelled(samples, part, share, 2)
    assert kept == sorted(set(kept) & set(part))
    groups, wanted = groups_of(samples, kept), groups_of(samples, part)
    assert len(groups) >= 1
    assert abs(len(groups) - share * len(wanted)) <= 1
    for source in "ab":
        own = {i for i in part if samples[i].source == source}
        labelled = groups_of(samples, own & set(kept))
        assert abs(len(labelled) - share * len(groups_of(samples, own))) <= 1
    assert kept == [i for i in part if samples[i].group in groups]  # groups are kept whole


def test_the_draw_of_labels_depends_on_the_seed_and_not_on_the_order():
    samples = dataset(60, group_size=2)
    shuffled = [samples[i] for i in np.random.default_rng(0).permutation(60)]

    def named(dataset_, seed):
        return {dataset_[i].name for i in draw_labelled(dataset_, range(60), 0.3, seed)}

    assert named(samples, 4) == named(shuffled, 4)
    assert named(samples, 4) != named(samples, 5)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_labels_that_are_no_share_are_refused(share):
    with pytest.raises(UserError, match=r"labels must be a share in \(0, 1\]"):
        draw_labelled(dataset(10), range(10), share)


def test_folds_hold_out_every_sample_once():
    samples = dataset(103, group_size=2)
    parts = folds(samples, 5)
    assert every(parts) == list(range(103))
    assert max(map(len, parts)) - min(map(len, parts)) <= 3
    groups = [{samples[i].group for i in part} for part in parts]
    assert sum(len(part) for part in groups) == len(set.union(*groups))


def test_each_fold_is_the_test_part_of_a_split_of_whole_groups():
    samples = dataset(100, group_size=2)
    held_out = folds(samples, 5, seed=3)
    for fold in range(1, 6):
        split = split_fold(samples, 5, fold, seed=3)
        assert split["test"] == held_out[fold - 1]
        assert {part: len(indices) for part, indices in split.items()} == {"train": 70, "val": 10, "test": 20}
        assert every(split.values()) == list(range(100))
        groups = [{samples[index].group for index in indices} for indices in split.values()]
        assert not groups[0] & groups[1] | groups[1] & groups[2] | groups[0] & groups[2]


def test_folds_need_two_parts_and_as_many_groups():
    with pytest.raises(UserError, match="at least 2 folds, got 1"):
        folds(dataset(10), 1)
    with pytest.raises(UserError, match="2 groups are too few for 4 parts"):
        folds(dataset(10, group_size=5), 4)


def test_a_split_is_read_back_as_it_was_written(tmp_path):
    samples = dataset(20)
    split = split_samples(samples)
    path = tmp_path / "splits" / "busi.txt"
    write_split(path, samples, split)
    assert path.read_text().splitlines()[0] == f"train\t{samples[split['train'][0]].name}"
    names = {part: {samples[index].name for index in indices} for part, indices in split.items()}
    parts = read_parts(path)
    assert {part: {name for name in parts if parts[name] == part} for part in names} == names


def test_a_split_that_is_cut_off_while_it_is_written_leaves_the_old_one_whole(tmp_path, monkeypatch):
    samples = dataset(20)
    path = tmp_path / "split.tsv"
    write_split(path, samples, split_samples(samples))
    before = path.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_split(path, samples, split_samples(samples, seed=1))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"train s000\n", r"line 1: 'part<TAB>name' is wanted, got 'train s000'; train the run again"),
        (b"train\ts000\n\n", "line 2: 'part<TAB>name' is wanted, got ''"),
        (b"train\ts000\ntest\ts000\n", r"line 2: a sample is named twice in 'test\\ts000'"),
        (b"train\t\xff\n", r"cannot read the split \('utf-8' codec"),
        (None, r"cannot read the split \(\[Errno 2\]"),
    ],
)
def test_a_split_that_cannot_be_read_is_refused(tmp_path, text, message):
    path = tmp_path / "split.tsv"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(UserError, match=rf"split\.tsv: {message}"):
        read_parts(path)


def test_names_of_a_split_are_compared_in_one_unicode_form(tmp_path):
    (tmp_path / "split.tsv").write_text("train\tMu\u0308ller\n")
    assert read_parts(tmp_path / "split.tsv") == {"M\u00fcller": "train"}
