"""The networks of papers: their sizes, their answers and what they learn."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from usrl.data.recipe import DataRecipe
from usrl.errors import UserError
from usrl.networks.architectures.fcn import FCN
from usrl.networks.architectures.rfnet import RFNet
from usrl.networks.architectures.rows import ROWS
from usrl.networks.architectures.segnet import SegNet
from usrl.networks.models import _BUILDERS, RECURRENT, build_network
from usrl.networks.recipe import OWN_SHAPES, NetworkRecipe

SMALL = {
    "fcn": [4, 8, 8, 8, 8, 16],
    "segnet": [8, 8, 16, 16, 16],
    "deeplabv3plus": [8, 8, 16, 16, 16],
    "pranet": [16, 16, 16, 16, 8],
    "rfnet": [32, 8, 16, 16],
    "transresunet": [8, 8, 16, 32],
    "unet-lite0": [16, 16, 16, 16],
}
SUPERVISED = {"pranet": 4, "rfnet": 3}
"""Logits in training."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def _recipe(name: str, size: int = 64, **changes: object) -> NetworkRecipe:
    values = {"kind": "network", "network": name, "data": DataRecipe(size=size), "dropout": 0.0}
    return NetworkRecipe.model_validate(values | changes)


def _small(name: str, **changes: object) -> nn.Module:
    return build_network(_recipe(name, channels=SMALL[name], **changes))


def _logits(output: Tensor | list[Tensor]) -> list[Tensor]:
    return output if isinstance(output, list) else [output]


def test_every_network_is_tested() -> None:
    assert SMALL.keys() == ROWS.keys() <= OWN_SHAPES.keys()


@pytest.mark.parametrize("name", ROWS)
def test_docstring_states_the_number_of_parameters(name: str) -> None:
    network = build_network(_recipe(name))
    stated = re.search(r"([\d,]+) parameters with one input channel", type(network).__doc__ or "")
    assert stated is not None
    count = sum(parameter.numel() for parameter in network.parameters())
    assert int(stated[1].replace(",", "")) == count


def _with_own_channels(name: str) -> nn.Module:
    frames = {"data": DataRecipe(name="sweeps", size=128), "window": 2} if name in RECURRENT else {}
    return build_network(_recipe(name, size=128, **frames))


def test_the_page_states_the_number_of_parameters() -> None:
    page = (Path(__file__).parents[2] / "docs/agents.md").read_text(encoding="utf-8")
    stated = {
        name: int(count.replace(",", "")) for name, count in re.findall(r"\| `(.+?)` .* \| ([\d,]+) \|", page)
    }
    counts = {
        name: sum(parameter.numel() for parameter in _with_own_channels(name).parameters())
        for name in _BUILDERS
    }
    assert stated == counts


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("size", [64, 67, 90])
def test_logits_have_the_size_of_the_image(name: str, size: int) -> None:
    network, images = _small(name), torch.rand(2, 1, size, size)
    in_training = network(images)
    assert isinstance(in_training, list) == (name in SUPERVISED)
    assert [tuple(logits.shape) for logits in _logits(in_training)] == [(2, 1, size, size)] * SUPERVISED.get(
        name, 1
    )
    answer = network.eval()(images)
    assert isinstance(answer, Tensor)
    assert answer.shape == (2, 1, size, size)


@pytest.mark.parametrize("name", ROWS)
def test_a_single_image_of_the_least_size_can_be_learned_from(name: str) -> None:
    least = ROWS[name].least
    for logits in _logits(_small(name)(torch.rand(1, 1, least, least))):
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", ROWS)
def test_a_box_may_be_a_second_channel(name: str) -> None:
    network = _small(name, prompt="box")
    image, box = torch.rand(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    without = _logits(network(torch.cat([image, box], dim=1)))[0]
    box[..., 16:48, 16:48] = 1
    assert not torch.equal(_logits(network(torch.cat([image, box], dim=1)))[0], without)


@pytest.mark.parametrize("name", ROWS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = _small(name)
    sum(logits.square().mean() for logits in _logits(network(torch.rand(2, 1, 64, 64)))).backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("name", ROWS)
def test_network_learns_two_images_by_heart(name: str) -> None:
    network = _small(name)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disk = (rows - 24) ** 2 + (columns - 30) ** 2 < 14**2
    square = (rows > 30) & (rows < 54) & (columns > 8) & (columns < 40)
    masks = torch.stack([disk, square])[:, None].float()
    images = torch.rand(masks.shape) * 0.3 + 0.3 * masks
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(45):
        losses = [
            nn.functional.binary_cross_entropy_with_logits(logits, masks)
            for logits in _logits(network(images))
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    found = _logits(network(images))[0] > 0
    overlap = 2 * (found & (masks > 0)).sum((1, 2, 3)) / (found.sum((1, 2, 3)) + masks.sum((1, 2, 3)))
    assert overlap.min() > 0.9


@pytest.mark.parametrize("name", ROWS)
def test_network_answers_in_bfloat16(name: str) -> None:
    network = _small(name)
    with torch.autocast("cpu", torch.bfloat16):
        for logits in _logits(network(torch.rand(2, 1, 64, 64))):
            assert logits.isfinite().all()


@pytest.mark.parametrize("name", ROWS)
def test_dropout_reaches_the_network(name: str) -> None:
    images = torch.rand(2, 1, 64, 64)
    for dropout, differs in [(0.0, False), (0.5, True)]:
        network = _small(name, dropout=dropout)
        first, second = (_logits(network(images))[0] for _ in range(2))
        assert torch.equal(first, second) is not differs


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.has_units])
def test_residual_units_deepen_the_network(name: str) -> None:
    fewer, more = (
        sum(p.numel() for p in _small(name, residual_units=units).parameters()) for units in (1, 3)
    )
    assert more > fewer


def test_a_recipe_that_names_no_channels_gets_those_of_its_network() -> None:
    assert NetworkRecipe(kind="network", network="segnet").channels == [16, 32, 64, 128, 128]
    assert NetworkRecipe(kind="network", network="attention-unet").residual_units == 0
    assert NetworkRecipe(kind="network").channels == [16, 32, 64, 128, 256]


@pytest.mark.parametrize("name", ["unet", *ROWS])
def test_null_stands_for_the_networks_own_channels(name: str) -> None:
    recipe = NetworkRecipe.model_validate({"kind": "network", "network": name})
    tree = recipe.model_dump() | {"channels": None, "residual_units": None}
    assert NetworkRecipe.model_validate(tree) == recipe


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fcn", {"channels": [8, 16]}, "takes 6 numbers, of the five stages and of the last layers, got"),
        ("segnet", {"residual_units": 2}, "segnet has none, got 2"),
        ("rfnet", {"residual_units": 0}, "at least 1 block a stage, got 0"),
        ("transresunet", {"channels": [8, 8, 8, 24]}, "multiple of 16, got 24"),
        ("pranet", {"size": 63}, "data.size: pranet wants 64 px or more, got 63"),
        ("fcn", {"prompt": "crop", "crop_size": 48}, "crop_size: fcn wants 64 px or more, got 48"),
    ],
)
def test_keys_that_do_not_fit_are_explained(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_network(_recipe(name, **changes))  # type: ignore[arg-type]


def test_segnet_puts_values_back_where_pooling_took_them_from() -> None:
    network = SegNet(1, [1, 1, 1, 1, 1], 0.0).eval()
    for stage in (*network.encoder, *network.decoder):
        for index in range(len(stage)):
            stage[index] = nn.Identity()
    images = torch.zeros(1, 1, 65, 65)
    images[0, 0, 3, 60] = 1
    assert torch.equal(network(images), images)


def test_fcn_starts_with_bilinear_doubling() -> None:
    network = FCN(1, [1] * 6, 0.0)
    scores = torch.arange(4.0).repeat(4, 1)[None, None]
    doubled = network.double_last(scores, output_size=(8, 8))[0, 0, 2:-2, 2:-2]
    expected = nn.functional.interpolate(scores, scale_factor=2, mode="bilinear")[0, 0, 2:-2, 2:-2]
    torch.testing.assert_close(doubled, expected)


def test_the_third_output_of_rfnet_learns_where_its_first_mask_is_wrong() -> None:
    network, images = RFNet(1, SMALL["rfnet"], 1, 0.0), torch.rand(2, 1, 64, 64)
    mask = (torch.rand(2, 1, 64, 64) > 0.5).float()
    doubts: list[Tensor] = []
    network.residual.register_forward_hook(lambda _, __, wrong: doubts.append(wrong))
    _, first, changed = network(images)
    wrong = nn.functional.interpolate(doubts[0], size=(64, 64), mode="bilinear")
    difference = (mask - (first > 0).float()).abs()
    loss = nn.functional.binary_cross_entropy_with_logits
    assert loss(changed, mask).item() == pytest.approx(loss(wrong, difference).item(), rel=1e-5)


def test_the_second_run_of_rfnet_depends_on_the_doubt_of_the_first() -> None:
    network, images = RFNet(1, SMALL["rfnet"], 1, 0.0).eval(), torch.rand(1, 1, 64, 64)
    usual = network(images)
    network.residual.register_forward_hook(lambda _, __, wrong: torch.full_like(wrong, -1e9))
    undoubted = network(images)
    torch.testing.assert_close(undoubted, network._segment(images, None)[0])
    assert not torch.allclose(usual, undoubted)
