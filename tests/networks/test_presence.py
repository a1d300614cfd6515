"""Whether an image shows a lesion at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from usrl.data.phantom.dataset import load_phantom
from usrl.errors import UserError
from usrl.networks.models import build_network
from usrl.networks.presence import PresenceHead, choose_least, rate_images
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.segmenter import NetworkSegmenter
from usrl.networks.training import _measure_loss, fit_network
from usrl.runs.run import create_run
from usrl.strict import check

VALUES = {
    "kind": "network",
    "network": "unet-lite0",
    "channels": [16, 16, 8, 8],
    "presence": True,
    "negatives": False,
    "data": {"size": 64},
    "epochs": 2,
}
CPU = torch.device("cpu")


def make(**changes: object) -> NetworkRecipe:
    return check(NetworkRecipe, VALUES | changes, "recipe")


def test_a_rating_below_the_least_empties_the_mask_and_others_change_nothing_that_counts() -> None:
    head = PresenceHead(4, 0.0)
    scores = torch.tensor([-3.0, 0.5, 6.0]).view(1, 1, 1, 3).expand(2, -1, -1, -1)
    ratings = torch.tensor([[1.0], [4.0]])
    assert (head.limit(scores, ratings) == scores).all()  # rejects nothing before it is told to
    head.least.fill_(2.0)
    limited = head.limit(scores, ratings)
    assert limited[0].flatten().tolist() == [-3.0, -1.0, -1.0]
    assert limited[1].flatten().tolist() == [-3.0, 0.5, 2.0]


def test_the_least_rating_gives_up_no_more_dice_than_is_allowed() -> None:
    ratings = np.array([3.0, -2.0, 0.0, 1.0, 5.0] + [6.0] * 95, np.float32)
    scores = np.array([0.9, 0.0, 0.4, 0.8, 0.9] + [0.9] * 95)
    # 0.0 and 0.4 of 100 images are 0.004; 0.8 more would be 0.012.
    assert choose_least(ratings, scores) == pytest.approx(0.9)
    assert choose_least(ratings[:1], scores[:1]) == pytest.approx(2.9)
    assert choose_least(ratings[:1], np.zeros(1)) == pytest.approx(2.9)


def test_masks_learn_from_lesions_only_and_ratings_from_all_images() -> None:
    logits = torch.zeros(2, 4, 4, requires_grad=True)
    ratings = torch.zeros(2, requires_grad=True)
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 1:3, 1:3] = True
    _measure_loss(make(), [logits, ratings], masks).backward()
    assert logits.grad is not None
    assert ratings.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0
    assert ratings.grad[0] == -ratings.grad[1] == pytest.approx(-0.25)
    only = _measure_loss(make(), [logits[1:], ratings[1:]], masks[1:]).detach()
    assert float(only) == pytest.approx(np.log(2))


def test_a_training_keeps_the_least_rating_and_the_run_rejects_by_it(tmp_path: Path) -> None:
    samples = load_phantom(12, seed=3)
    empty = [
        replace(one, labels=np.zeros_like(one.target), name=f"none-{number}")
        for number, one in enumerate(samples[:4])
    ]
    run = create_run(tmp_path / "run", make())
    fit_network(run, [*samples[:8], *empty], samples[8:], CPU)
    segmenter = NetworkSegmenter(run, CPU)
    network = segmenter._network
    assert isinstance(network.presence, PresenceHead)
    assert network.presence.least > -100
    network.presence.least.fill_(1000.0)
    assert not segmenter.segment(samples[0].image).mask.any()


def test_the_image_whose_rating_is_just_enough_keeps_its_mask() -> None:
    head = PresenceHead(4, 0.0)
    ratings = np.array([1.0, 2.0], np.float32)
    head.least.fill_(choose_least(ratings, np.array([0.9, 0.9])))
    limited = head.limit(torch.full((2, 1, 1, 1), 8.0), torch.from_numpy(ratings)[:, None])
    assert (torch.sigmoid(limited) > 0.5).all()


def test_ratings_of_a_mirrored_image_are_the_same() -> None:
    recipe = make()
    network = build_network(recipe).eval()
    images = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    ratings = rate_images(network, images, recipe)  # type: ignore[arg-type]
    assert ratings.shape == (3,)
    mirrored = rate_images(network, images.flip(-1), recipe)  # type: ignore[arg-type]
    assert np.allclose(ratings, mirrored, atol=1e-5)


@pytest.mark.parametrize("changes", [{"network": "unet", "channels": None}, {"prompt": "crop"}])
def test_other_networks_cannot_rate(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match="presence: unet-lite0 without a prompt rates it"):
        build_network(make(**changes))
