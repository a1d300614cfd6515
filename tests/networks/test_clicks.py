"""Networks that a user corrects."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from usrl.data.phantom.dataset import load_phantom
from usrl.errors import UserError
from usrl.evaluation.methods import open_interactive
from usrl.learners import check_recipe
from usrl.networks.clicks import ClickedNetwork, draw_marks, paint_discs
from usrl.networks.models import build_network, infer
from usrl.networks.prompted import cut_masks, show_boxes
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.training import fit_network
from usrl.runs.recipes import dump_recipe
from usrl.runs.run import Run, open_run
from usrl.runs.tensors import save_tensors
from usrl.session import Marks, Session
from usrl.strict import check

BASE = {
    "kind": "network",
    "prompt": "clicks",
    "channels": [4, 8],
    "residual_units": 1,
    "crop_size": 32,
    "data": {"size": 64},
    "flip_test": False,
}


def recipe(**changes: object) -> NetworkRecipe:
    return check(NetworkRecipe, BASE | changes, "recipe")


class Memory(nn.Module):
    """Says what it said before, and yes in clicks inside and no in clicks outside."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        before = torch.logit(inputs[:, -1:], eps=1e-3)
        return before + 20 * inputs[:, 1:2] - 60 * inputs[:, 2:3]


def crops(prompt: str = "clicks") -> tuple[NetworkRecipe, torch.Tensor, torch.Tensor]:
    own = recipe(prompt=prompt)
    images = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[:, 20:44, 16:40] = True
    boxes = torch.tensor([[15.5, 19.5, 39.5, 43.5]]).expand(3, 4)
    return own, show_boxes(own, images, boxes), cut_masks(own, masks, boxes)


@pytest.mark.parametrize(("prompt", "channels"), [("clicks", 4), ("landmarks", 3)])
def test_an_input_has_a_crop_marks_and_a_former_prediction(prompt: str, channels: int) -> None:
    own, inputs, masks = crops(prompt)
    assert inputs.shape == (3, channels, 32, 32)
    assert (inputs[:, 1:] == 0).all()
    assert inputs[:, 0].std() > 0.05
    assert masks.float().mean() == pytest.approx((1 / 1.8) ** 2, abs=0.05)
    assert infer(build_network(own), inputs, own).shape == (3, 1, 32, 32)


def test_in_training_a_user_marks_the_largest_errors() -> None:
    own, inputs, masks = crops()
    rng = torch.Generator()
    seeds = [s for s in range(40) if int(torch.randint(4, (1,), generator=rng.manual_seed(s))) == 3]
    marked = draw_marks(own, Memory(), inputs, masks, rng.manual_seed(seeds[0]))
    inside, outside = marked[:, 1] > 0, marked[:, 2] > 0
    assert (inside.flatten(1).sum(dim=1) > 25).all()  # three discs of radius 3
    assert (inside & ~masks).float().sum() < 0.2 * inside.float().sum()
    assert not (outside & masks).float().sum() > 0.2 * outside.float().sum().clamp_min(1)
    assert (marked[:, -1] > 0).any()
    assert torch.equal(marked[:, 0], inputs[:, 0])


def test_without_a_round_nothing_is_marked() -> None:
    own, inputs, masks = crops()
    unmarked = own.model_copy(update={"mark_rounds": 0})
    assert torch.equal(draw_marks(unmarked, Memory(), inputs, masks, torch.Generator()), inputs)


def test_feedback_shows_the_prediction_again() -> None:
    own, inputs, _ = crops()
    inputs[:, 1, 4:9, 4:9] = 0.05

    def logit(passes: int) -> float:
        again = own.model_copy(update={"feedback": passes})
        return float(torch.logit(infer(Memory(), inputs, again))[0, 0, 6, 6])

    start = -np.log(999)
    assert [logit(passes) for passes in (0, 1, 2)] == pytest.approx(
        [start + 1, start + 2, start + 3], abs=0.01
    )


def test_discs_are_discs() -> None:
    discs = paint_discs(torch.tensor([[5.0, 9.0], [-50.0, 0.0]]), 16, 2.0)
    rows, columns = discs[0].nonzero(as_tuple=True)
    assert len(rows) == 13
    assert (float(rows.float().mean()), float(columns.float().mean())) == (9, 5)
    assert not discs[1].any()


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClickedNetwork:
    """Return a method whose network is `Memory`."""
    run = Run(tmp_path / "clicked", recipe())
    run.path.mkdir()
    (run.path / "recipe.yaml").write_text(dump_recipe(run.recipe))
    save_tensors(run.weights_path, {})
    monkeypatch.setattr("usrl.networks.clicks.build_network", lambda recipe: Memory())
    method = open_interactive(run.path)
    assert isinstance(method, ClickedNetwork)
    return method


def test_clicks_add_and_take_away_where_they_are(method: ClickedNetwork) -> None:
    session = Session(method)
    image = np.full((90, 120), 100, np.uint8)
    assert not session.start(image, Marks(boxes=((30.0, 30.0, 70.0, 70.0),))).mask.any()
    added = session.correct(Marks(inside=((50.0, 40.0),)))
    rows, columns = added.mask.nonzero()
    assert (columns.mean(), rows.mean()) == pytest.approx((50, 40), abs=1.5)
    assert session.correct(Marks(outside=((50.0, 40.0),))).mask.sum() < added.mask.sum()
    assert (session.undo().mask == added.mask).all()
    assert session.correct(Marks(inside=((110.0, 80.0),))).mask[80, 110] == 0  # outside the crop


def test_a_mask_to_start_from_is_the_first_answer_and_is_remembered(method: ClickedNetwork) -> None:
    session, mask = Session(method), np.zeros((90, 120), bool)
    mask[20:50, 30:70] = mask[60:80, 90:110] = True
    assert (session.start(np.full(mask.shape, 100, np.uint8), Marks(mask=mask)).mask == mask).all()
    after = session.correct(Marks(inside=((74.0, 35.0),))).mask
    assert after[35, 74]
    assert (after & mask).sum() / mask.sum() > 0.95


def test_a_network_learns_to_follow_clicks(tmp_path: Path) -> None:
    # Noise has no borders: what the network knows comes from the crop and the clicks.
    own = recipe(epochs=6, batch_size=4, learning_rate=1e-2, channels=[8, 16, 32], data={"size": 64})
    samples = load_phantom(12, seed=1, shape=(64, 64))
    run = Run(tmp_path / "run", own)
    run.path.mkdir()
    (run.path / "recipe.yaml").write_text(dump_recipe(own))
    fit_network(run, samples[:8], samples[8:], torch.device("cpu"))
    scores = [row["val_score"] for row in open_run(run.path).read_log()]
    assert max(scores) > scores[0] + 0.1


def test_wrong_recipes_and_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"feedback: a network with prompt: crop sees no former .* got 2; set"
    ):
        check_recipe(recipe(prompt="crop", feedback=2))
    with pytest.raises(
        UserError, match="prompt: crop takes no corrections; train one with prompt: clicks or"
    ):
        open_interactive("unet-prompted")
    with pytest.raises(UserError, match="agents of usrl/ContourRefine-v0 take no corrections"):
        open_interactive("contour-ppo")
    with pytest.raises(UserError, match="a run of kind 'judge' takes no corrections"):
        open_interactive("judge-phantom")
    with pytest.raises(UserError, match=r"'pul' is neither a method that takes corrections .* 'pull'"):
        open_interactive("pul")
