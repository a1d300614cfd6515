import pickle
import warnings

import numpy as np
import pytest
import torch
from sample_builders import disk, make_sample, noise

from usrl.data.bank import Bank
from usrl.data.letterbox import Letterbox
from usrl.errors import UserError
from usrl.geometry.sampling import ProfileAtlas
from usrl.registry import build_task


def two_lesions(name="two"):
    return make_sample(name, disk(centre=(10, 10), radius=6) | disk(centre=(28, 38), radius=7))


def test_every_component_of_a_target_gives_a_row():
    samples = [make_sample("one"), two_lesions()]
    bank = Bank.from_samples(samples, size=64)
    assert len(bank) == 3
    assert bank.names == ("one", "two", "two")
    assert bank.images.dtype == torch.uint8
    assert bank.targets.dtype == torch.bool
    assert (bank.images.shape, bank.targets.shape) == ((2, 64, 64), (3, 64, 64))
    assert bank.image_of_row.tolist() == [0, 1, 1]
    assert (bank.size, bank.device.type, bank.proposals) == (64, "cpu", None)
    whole = Letterbox.fit((40, 50), 64).target(samples[1].target)
    np.testing.assert_array_equal((bank.targets[1] | bank.targets[2]).numpy(), whole)
    assert not (bank.targets[1] & bank.targets[2]).any()
    box = Letterbox.fit((40, 50), 64)
    for row, sample in enumerate([samples[0], samples[1], samples[1]]):
        np.testing.assert_array_equal(bank.image(torch.tensor(row)).numpy(), box.image(sample.image))
    assert torch.equal(bank.image(torch.tensor([[2], [0]])), bank.images[[1, 0]][:, None])


def test_an_image_with_eight_lesions_is_held_once_and_prepared_once():
    target = np.zeros((40, 50), np.bool_)
    for place in range(8):
        target[5 + 20 * (place // 4) :][:8, 3 + 12 * (place % 4) :][:, :8] = True
    bank = Bank.from_samples([make_sample(target=target)], size=64)
    assert (len(bank), len(bank.images), bank.names) == (8, 1, ("one",) * 8)
    task = build_task("usrl/ContourRefine-v0", bank, {})
    task.observe(task.reset(torch.arange(8), torch.arange(8)))
    (atlas,) = [made for made in bank._prepared.values() if isinstance(made, ProfileAtlas)]
    assert atlas.cells.shape == (1, 256, 256)


def test_an_image_whose_lesions_are_all_left_out_is_not_held():
    samples = [make_sample("none", np.zeros((40, 50), np.bool_)), two_lesions()]
    bank = Bank.from_samples(samples, size=64)
    assert (len(bank.images), bank.image_of_row.tolist()) == (1, [0, 0])


def test_a_bank_is_shown_in_one_line():
    assert repr(Bank.from_samples([two_lesions()], size=64)) == "Bank(2 rows of 1 images of 64 px on cpu)"


def test_pixels_that_touch_at_a_corner_are_one_component():
    target = np.zeros((40, 50), np.bool_)
    target[5:10, 5:10] = target[10:15, 10:15] = True
    assert len(Bank.from_samples([make_sample(target=target)], size=64)) == 1


def test_a_sample_without_a_lesion_gives_a_row_only_by_sample():
    samples = [make_sample("none", np.zeros((40, 50), np.bool_)), two_lesions()]
    assert Bank.from_samples(samples, size=64).names == ("two", "two")
    bank = Bank.from_samples(samples, size=64, by_component=False)
    assert bank.names == ("none", "two")
    assert not bank.targets[0].any()


def test_components_too_small_for_the_working_image_are_left_out_with_a_warning():
    target = disk()
    target[2, 2] = True
    with pytest.warns(
        UserWarning, match=r"1 lesions left out: they are smaller than 4 px at size 50 \(one\)"
    ):
        bank = Bank.from_samples([make_sample(target=target)], size=50)
    assert len(bank) == 1
    assert bank.too_small == ("one",)


def test_a_proposal_gives_the_component_that_overlaps_most():
    proposal = disk(radius=6) | disk(centre=(20, 36), radius=3) | disk(centre=(5, 45), radius=4)
    bank = Bank.from_samples([make_sample(target=disk(radius=12))], size=50, proposals=[proposal])
    expected = Letterbox.fit((40, 50), 50).target(disk(radius=6))
    np.testing.assert_array_equal(bank.proposals[0].numpy(), expected)


def test_lesions_that_no_proposal_overlaps_are_dropped_and_named():
    samples = [make_sample("one"), two_lesions()]
    proposals = [np.zeros((40, 50), np.bool_), disk(centre=(28, 38), radius=5)]
    with pytest.warns(
        UserWarning, match=r"2 lesions left out: no proposal component overlaps them \(one, two\)"
    ):
        bank = Bank.from_samples(samples, size=64, proposals=proposals)
    assert bank.names == ("two",)
    assert bank.dropped == ("one", "two")
    assert bank.proposals.shape == (1, 64, 64)
    assert (bank.proposals[0] & bank.targets[0]).any()


def test_by_sample_a_row_gets_the_whole_proposal():
    proposal = disk(centre=(10, 10), radius=4) | disk(centre=(28, 38), radius=5)
    bank = Bank.from_samples([two_lesions()], size=50, proposals=[proposal], by_component=False)
    np.testing.assert_array_equal(bank.proposals[0].numpy(), Letterbox.fit((40, 50), 50).target(proposal))


def test_nothing_is_warned_of_when_nothing_is_left_out():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Bank.from_samples([make_sample()], size=64, proposals=[disk()])


@pytest.mark.parametrize("samples", [[], [make_sample("none", np.zeros((40, 50), np.bool_))]])
def test_an_empty_bank_is_an_error_with_a_remedy(samples):
    with pytest.raises(
        UserError, match="the bank has no rows: no target has a pixel; pass samples with a non"
    ):
        Bank.from_samples(samples)


def test_proposals_must_be_one_per_sample():
    with pytest.raises(UserError, match="one proposal per sample is needed, got 2 for 1 samples"):
        Bank.from_samples([make_sample()], proposals=[disk(), disk()])


@pytest.mark.parametrize("proposal", [disk((50, 40)), disk().astype(np.float32)])
def test_proposals_must_have_their_images_shape_and_be_bool(proposal):
    with pytest.raises(UserError, match=r"one: its proposal must be bool of shape \(40, 50\)"):
        Bank.from_samples([make_sample()], proposals=[proposal])


def test_images_of_different_sizes_share_a_bank():
    samples = [
        make_sample("s", disk((20, 20), (10, 10), 5)),
        make_sample("l", disk((300, 200), (150, 90), 50)),
    ]
    assert Bank.from_samples(samples, size=64).images.shape == (2, 64, 64)


ROWS = (
    torch.zeros(2, 40, 40, dtype=torch.uint8),
    torch.ones(2, 40, 40, dtype=torch.bool),
    None,
    ("a", "b"),
    torch.tensor([0, 1]),
)


@pytest.mark.parametrize(
    ("place", "field", "message"),
    [
        (
            0,
            torch.zeros(2, 40, 40),
            r"images must be a tensor of torch\.uint8 \(P, S, S\), got torch\.float32",
        ),
        (0, ROWS[0].numpy(), "images must be a tensor of .*, got a ndarray; Bank.from_arrays"),
        (0, ROWS[0][:, :30], r"images must be .* \(P, S, S\), got torch\.uint8 \(2, 30, 40\)"),
        (1, ROWS[0], r"targets must be a tensor of torch\.bool \(M, 40, 40\), got torch\.uint8"),
        (1, ROWS[1][:, :20, :20], r"targets must be .* \(M, 40, 40\), got torch\.bool \(2, 20, 20\)"),
        (2, ROWS[1][:1], r"proposals must be .* \(2, 40, 40\), got torch\.bool \(1, 40, 40\)"),
        (3, ("a",), "at least one row, and a name for each, got 2 rows and 1 names"),
        (
            4,
            torch.zeros(2),
            r"image_of_row must be a tensor of torch\.int64 \(2\), got torch\.float32 \(2,\)",
        ),
        (4, torch.tensor([0, 2]), "image_of_row must be from 0 to 1, the last of its images, got 0 to 2"),
        (4, torch.tensor([-1, 0]), "image_of_row must be from 0 to 1, the last of its images, got -1 to 0"),
    ],
)
def test_fields_that_make_no_bank_are_refused(place, field, message):
    fields = list(ROWS)
    Bank(*fields)
    fields[place] = field
    with pytest.raises(UserError, match=message):
        Bank(*fields)


def test_a_bank_without_rows_is_refused():
    with pytest.raises(UserError, match=r"at least one row, .* got 0 rows"):
        Bank(ROWS[0][:0], ROWS[1][:0], None, ())


def test_arrays_give_the_bank_of_their_samples():
    samples = [make_sample("0"), two_lesions("1")]
    images, targets = [s.image for s in samples], [s.target for s in samples]
    bank, wanted = Bank.from_arrays(images, targets, size=64), Bank.from_samples(samples, size=64)
    assert torch.equal(bank.images, wanted.images)
    assert torch.equal(bank.targets, wanted.targets)
    assert bank.names == wanted.names == ("0", "1", "1")
    assert Bank.from_arrays(np.stack(images), np.stack(targets), 64, ["a", "b"]).names == ("a", "b", "b")


@pytest.mark.parametrize(
    ("images", "targets", "names", "message"),
    [
        ([noise(0)], [], None, "got 1 images, 0 targets and 1 names; pass them in the same order"),
        ([noise(0)], [disk()], ["a", "b"], "got 1 images, 1 targets and 2 names"),
        (
            [noise(0) / 255],
            [disk()],
            None,
            r"0: image must be uint8 of shape \(H, W\), got float64 \(40, 50\)",
        ),
        ([noise(0)], [disk() * 255], None, r"0: labels must be bool .* got int64 .*mask > 127"),
    ],
)
def test_arrays_that_make_no_bank_are_refused(images, targets, names, message):
    with pytest.raises(UserError, match=message):
        Bank.from_arrays(images, targets, names=names)


def test_to_moves_every_tensor():
    bank = Bank.from_samples([make_sample()], size=64, proposals=[disk()]).to("meta")
    tensors = (bank.images, bank.targets, bank.proposals, bank.image_of_row)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert bank.names == ("one",)


def test_what_a_bank_prepares_is_made_once_and_not_pickled():
    bank = Bank.from_samples([make_sample("a")], 32)
    made = bank.prepare(_double)
    assert bank.prepare(_double) is made
    assert bank.to("cpu").prepare(_double) is made
    copied = pickle.loads(pickle.dumps(bank))
    assert copied.prepare(_double) is not made
    assert torch.equal(copied.prepare(_double), made)


def _double(bank):
    return bank.images * 2
