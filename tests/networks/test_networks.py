import pytest
import torch
from torch import nn

from usrl.data.recipe import DataRecipe
from usrl.errors import UserError
from usrl.networks.models import build_network
from usrl.networks.recipe import NetworkRecipe

SIZE = 32
FITTING = {
    "unet": {"channels": [4, 8, 16], "residual_units": 2},
    "attention-unet": {"channels": [4, 8, 16], "residual_units": 0},
    "segresnet": {"channels": [8, 16, 32], "residual_units": 1},
    "unet++": {"channels": [4, 4, 8, 8, 16], "residual_units": 0},
}


def _recipe(name: str, **changes: object) -> NetworkRecipe:
    values = {"kind": "network", "network": name, "data": DataRecipe(size=SIZE), "dropout": 0.0}
    return NetworkRecipe.model_validate(values | FITTING.get(name, {}) | changes)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", FITTING)
def test_network_learns_a_bright_square(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(_recipe(name))
    mask = torch.zeros(4, 1, SIZE, SIZE)
    for row in range(4):
        mask[row, 0, 4 + 4 * row : 16 + 4 * row, 8:20] = 1
    image = 0.2 + 0.5 * mask + 0.1 * torch.rand(mask.shape)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(network(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = network.eval()(image)
    assert logits.shape == mask.shape
    assert ((logits > 0) == (mask > 0)).float().mean() > 0.97


@pytest.mark.parametrize("name", FITTING)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = build_network(_recipe(name))
    network(torch.rand(2, 1, SIZE, SIZE)).square().mean().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None]
    # MONAI builds the supervision heads of the shallower outputs, which are not trained here.
    assert all("final_conv_0_" in n for n in idle)


@pytest.mark.parametrize("name", FITTING)
def test_dropout_reaches_the_network(name: str) -> None:
    image = torch.rand(2, 1, SIZE, SIZE)
    for dropout, differs in [(0.0, False), (0.3, True)]:
        network = build_network(_recipe(name, dropout=dropout))
        assert torch.equal(network(image), network(image)) is not differs


@pytest.mark.parametrize("name", FITTING)
def test_channels_widen_the_network(name: str) -> None:
    channels = [2 * c for c in FITTING[name]["channels"]]
    assert _parameters(build_network(_recipe(name, channels=channels))) > 1.5 * _parameters(
        build_network(_recipe(name))
    )


@pytest.mark.parametrize("name", ["unet", "segresnet"])
def test_residual_units_deepen_the_network(name: str) -> None:
    fewer, more = (build_network(_recipe(name, residual_units=n)) for n in (1, 3))
    assert _parameters(more) > _parameters(fewer)


def test_unknown_name_is_explained() -> None:
    with pytest.raises(UserError, match="unknown name 'unett'; did you mean 'unet'"):
        build_network(_recipe("unett"))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("attention-unet", {"residual_units": 2}, "has none, got 2"),
        ("unet++", {"residual_units": 1}, "has none, got 1"),
        ("unet++", {"channels": [4, 8, 16]}, "five levels"),
        ("segresnet", {"channels": [8, 24, 48]}, "multiples of 8 that double"),
        ("segresnet", {"channels": [12, 24]}, "multiples of 8 that double"),
        ("segresnet", {"residual_units": 0}, "at least 1 block"),
        ("unet", {"data": DataRecipe(size=34)}, "multiple of 4 from 8 px on, got 34"),
        ("unet", {"data": DataRecipe(size=4)}, "from 8 px on, got 4"),
    ],
)
def test_keys_that_do_not_fit_are_explained(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_network(_recipe(name, **changes))
