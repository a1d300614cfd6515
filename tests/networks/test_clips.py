"""Networks that see frames over time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from usrl.data.clips.clips import Clip, Clips
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError
from usrl.networks.clips import ClipValidation, Windows, list_stretches, predict_clip
from usrl.networks.models import build_network
from usrl.networks.recipe import AugmentRecipe, NetworkRecipe
from usrl.networks.recurrent import ConvGRU, ConvLSTM, show_windows
from usrl.networks.segmenter import NetworkSegmenter
from usrl.networks.training import fit
from usrl.runs.run import Run, create_run, open_run
from usrl.runs.tensors import load_tensors

CPU = torch.device("cpu")
SIDE = 16
STILL = AugmentRecipe(flip=False, rotation_deg=0, scale=0, translation=0, gamma=0)


def recipe(network: str = "unet-convgru", **fields: object) -> NetworkRecipe:
    values: dict[str, object] = {
        "kind": "network",
        "network": network,
        "data": DataRecipe(name="sweeps", size=SIDE),
        "channels": [8, 16],
        "residual_units": 0,
        "dropout": 0.0,
        "window": 5,
        "batch_size": 4,
        "learning_rate": 1e-2,
    }
    return NetworkRecipe.model_validate(values | fields)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def echo_clip(index: int, length: int = 12) -> Clip:
    """Return a clip with a bright square in each frame, whose target is the square of the frame before."""
    rng = np.random.default_rng(index)
    frames = rng.integers(20, 60, (length, SIDE, SIDE)).astype(np.uint8)
    masks = np.zeros((length, SIDE, SIDE), np.bool_)
    for place in range(length):
        row, column = rng.integers(1, SIDE - 6, 2)
        frames[place, row : row + 5, column : column + 5] = 220
        if place + 1 < length:
            masks[place + 1, row : row + 5, column : column + 5] = True
    return Clip(frames, 20.0, None, f"echo-{index}", str(index), "echoes", masks=masks)


@pytest.fixture(scope="module")
def clips() -> Clips:
    return Clips.from_clips([echo_clip(index, 10 + index % 3) for index in range(12)], SIDE)


def centre(convolution: nn.Conv2d) -> Tensor:
    """Return the weights that matter on frames of one pixel, (out, in)."""
    return convolution.weight[:, :, 1, 1]


def test_a_convolutional_lstm_on_one_pixel_is_an_lstm() -> None:
    torch.manual_seed(0)
    layer, known = ConvLSTM(3, 4), nn.LSTM(3, 4, batch_first=True)
    order = torch.cat(
        [torch.arange(8), torch.arange(12, 16), torch.arange(8, 12)]
    )  # torch: in, forget, cell, out
    with torch.no_grad():
        known.weight_ih_l0.copy_(centre(layer.gate.of_input)[order])
        known.weight_hh_l0.copy_(centre(layer.gate.of_state)[order])
        known.bias_ih_l0.copy_(layer.gate.of_input.bias[order])
        known.bias_hh_l0.zero_()
    frames = torch.randn(2, 6, 3)
    wanted = known(frames)[0]
    assert torch.allclose(layer(frames[..., None, None])[..., 0, 0], wanted, atol=1e-6)


def test_a_convolutional_gru_on_one_pixel_with_one_state_is_a_gru() -> None:
    torch.manual_seed(0)
    layer, known = (
        ConvGRU(3, 1),
        nn.GRU(3, 1, batch_first=True),
    )  # of several states they place the reset apart
    with torch.no_grad():  # torch: reset, keep (1 - update), value
        gate, value = layer.gate, layer.value
        known.weight_ih_l0.copy_(
            torch.cat([centre(gate.of_input)[1:], -centre(gate.of_input)[:1], centre(value.of_input)])
        )
        known.weight_hh_l0.copy_(
            torch.cat([centre(gate.of_state)[1:], -centre(gate.of_state)[:1], centre(value.of_state)])
        )
        known.bias_ih_l0.copy_(
            torch.cat([gate.of_input.bias[1:], -gate.of_input.bias[:1], value.of_input.bias])
        )
        known.bias_hh_l0.zero_()
    frames = torch.randn(2, 6, 3)
    assert torch.allclose(layer(frames[..., None, None])[..., 0, 0], known(frames)[0], atol=1e-6)


@pytest.mark.parametrize(("network", "sees_before", "sees_after"), [
    ("unet", False, False), ("unet-convgru", True, False), ("unet-convlstm", True, True)
])  # fmt: skip
def test_what_each_network_sees_of_other_frames(network: str, sees_before: bool, sees_after: bool) -> None:
    torch.manual_seed(0)
    model = build_network(recipe(network)).eval()
    windows = torch.rand(1, 5, SIDE, SIDE)
    before, after = windows.clone(), windows.clone()
    before[:, 0], after[:, 4] = 0, 0
    with torch.no_grad():
        same, moved, turned = (show_windows(model, each)[0][:, 2] for each in (windows, before, after))
    assert torch.equal(same, moved) is not sees_before
    assert torch.equal(same, turned) is not sees_after


def test_images_that_come_alone_do_not_belong_together() -> None:
    model = build_network(recipe("unet-convlstm")).eval()
    windows = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        show_windows(model, windows)
        alone = model(windows[0, :, None])
        each = torch.cat([model(frame[None, None]) for frame in windows[0]])
    assert torch.allclose(alone, each, atol=1e-6)


def test_every_parameter_of_a_recurrent_network_gets_a_gradient() -> None:
    for network in ("unet-convgru", "unet-convlstm"):
        model = build_network(recipe(network))
        show_windows(model, torch.rand(2, 3, SIDE, SIDE))[0].square().mean().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("length", [1, 5, 9, 10, 11, 15, 16, 40])
@pytest.mark.parametrize(("kept", "context"), [(10, 5), (4, 0), (1, 3)])
def test_stretches_count_every_frame_once_with_its_context(length: int, kept: int, context: int) -> None:
    frames = [np.full((1, 1), number, np.uint8) for number in range(length)]
    counted = []
    for stretch in list_stretches(frames, kept, context):
        numbers = [int(frame[0, 0]) for frame in stretch.frames]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        own = numbers[stretch.start : stretch.end]
        counted += own
        assert numbers[0] == max(0, own[0] - context)
        assert numbers[-1] <= min(length - 1, own[-1] + context)
        assert numbers[-1] == min(length - 1, own[-1] + context) or numbers[-1] == length - 1
        assert len(numbers) <= kept + 2 * context
    assert counted == list(range(length))


def test_windows_are_neighbouring_frames_of_one_clip_with_their_masks(clips: Clips) -> None:
    lessons = Windows(clips, recipe(augment=STILL))
    assert len(lessons) == 4 * (2 + 3 + 3)  # clips of 10, 11 and 12 frames in windows of 5
    rng = torch.Generator().manual_seed(0)
    frames, masks = lessons.draw(torch.arange(len(lessons)), nn.Identity(), rng)
    starts = set()
    for row in range(len(lessons)):
        shown = (frames[row] * 255).round().to(torch.uint8)
        place = next(
            first
            for first in range(len(clips.frames) - 4)
            if torch.equal(clips.frames[first : first + 5], shown)
        )
        owner = int(((clips.first <= place) & (place + 5 <= clips.first + clips.lengths)).nonzero())
        starts.add((owner, place - int(clips.first[owner])))
        assert torch.equal(masks[5 * row : 5 * row + 5], clips.masks[place : place + 5])
    assert {owner for owner, _ in starts} == set(range(12))
    assert max(start for _, start in starts) > 5


def test_the_frames_of_a_window_are_moved_alike(clips: Clips) -> None:
    still = Clips.from_clips(
        [
            Clip(
                np.repeat(echo_clip(0).frames[:1], 6, 0),
                1.0,
                None,
                "a",
                "a",
                "a",
                masks=np.ones((6, SIDE, SIDE), np.bool_),
            )
        ],
        SIDE,
    )
    frames, _ = Windows(still, recipe()).draw(
        torch.zeros(3, dtype=torch.int64), nn.Identity(), torch.Generator().manual_seed(1)
    )
    assert torch.equal(frames[:, :1].expand_as(frames), frames)
    assert not torch.equal(frames[0], frames[1])


def train(path: Path, clips: Clips, network: str, epochs: int, *, resume: bool = False) -> Run:
    own = recipe(network, augment=STILL, epochs=epochs, flip_test=False, ema_decay=0.9)
    run = create_run(path, own, resume=resume)
    fit(run, Windows(clips, own), ClipValidation(clips, own), resume=resume)
    return run


@pytest.mark.slow
def test_recurrent_networks_learn_what_only_the_frame_before_tells(tmp_path: Path, clips: Clips) -> None:
    best = {
        network: max(row["val_score"] for row in train(tmp_path / network, clips, network, 40).read_log())
        for network in ("unet", "unet-convgru", "unet-convlstm")
    }
    assert best["unet-convgru"] > 0.8
    assert best["unet-convlstm"] > 0.8
    assert best["unet"] < 0.5


def test_a_resumed_training_on_clips_ends_as_an_uninterrupted_one(
    tmp_path: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", clips, "unet-convgru", 3)
    own = recipe(augment=STILL, epochs=3, flip_test=False, ema_decay=0.9)
    run = create_run(tmp_path / "parts", own)

    class KilledError(Exception):
        pass

    class Until(ClipValidation):
        asked = 0

        def score(self, network: nn.Module) -> float:
            self.asked += 1
            if self.asked == 3:
                raise KilledError
            return super().score(network)

    with pytest.raises(KilledError):
        fit(run, Windows(clips, own), Until(clips, own))
    fit(run, Windows(clips, own), ClipValidation(clips, own), resume=True)
    first, second = (load_tensors(each.weights_path)[0] for each in (whole, run))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_trained_network_segments_a_clip_as_it_is_validated(tmp_path: Path, clips: Clips) -> None:
    run = train(tmp_path / "run", clips, "unet-convlstm", 2)
    segmenter = NetworkSegmenter(open_run(run.path), CPU)
    frames = clips.frames[: int(clips.lengths[0])].numpy()
    masks = np.stack([answer.mask for answer in segmenter.segment_clip(iter(frames))])
    wanted = predict_clip(segmenter._network, torch.from_numpy(frames), segmenter._recipe) > 0.5
    assert np.array_equal(masks, wanted)
    large = np.repeat(np.repeat(frames[:, :12], 3, axis=1), 3, axis=2)  # 36 x 48 px
    assert [answer.mask.shape for answer in segmenter.segment_clip(large)] == [(36, 48)] * len(frames)
    assert list(segmenter.segment_clip([])) == []
    assert segmenter.segment(frames[0]).mask.shape == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("network", "fields", "told"),
    [
        (
            "unet-convlstm",
            {"data": DataRecipe(size=SIDE)},
            "learns from clips, and data.name: phantom gives images",
        ),
        ("unet", {"data": DataRecipe(size=SIDE)}, "with window: 5 learns from clips"),
        ("unet-convgru", {"window": 1}, "needs at least 2 frames, got 1"),
        ("unet", {"prompt": "box"}, "on clips a network sees every frame and no box"),
        ("unet", {"negatives": False}, "on clips a network sees every frame and no box"),
        ("unet-convlstm", {"channels": [8, 15]}, "shared by two directions, so even"),
    ],
)
def test_what_cannot_be_learned_over_time_is_refused(
    network: str, fields: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        build_network(recipe(network, **fields))


def test_clips_that_cannot_teach_are_refused(clips: Clips) -> None:
    bare = Clips.from_clips([Clip(echo_clip(0).frames, 1.0, None, "a", "a", "a")], SIDE)
    with pytest.raises(UserError, match="needs a mask for each frame, and the clips have none"):
        Windows(bare, recipe())
    with pytest.raises(UserError, match="echo-0 has 10 frames, got a window of 11"):
        Windows(clips, recipe(window=11))
    empty = Clip(echo_clip(0).frames, 1.0, None, "a", "a", "a", masks=np.zeros((12, SIDE, SIDE), np.bool_))
    with pytest.raises(UserError, match="no validation clip has a target"):
        ClipValidation(Clips.from_clips([empty], SIDE), recipe())
