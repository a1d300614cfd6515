"""Networks on clips: what they learn from, how they go through a clip, and how a clip is validated."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from usrl.data.clips.clips import Clips
from usrl.data.sample import FloatArray, GrayImage
from usrl.errors import UserError
from usrl.metrics.clips import clip_dice
from usrl.networks.augmentation import Augmentation
from usrl.networks.models import RECURRENT, autocast
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.recurrent import show_windows

_BATCH = 32
"""Frames that another network sees at once."""


class Windows:
    """Windows of neighbouring frames with their masks, from anywhere in their clips, anew in every epoch.

    A clip of T frames gives one window for each ``window`` frames, rounded up. All frames of a window are
    changed alike.

    Raises:
        UserError: If a clip has no masks, or fewer frames than a window.
    """

    items = "windows"

    def __init__(self, clips: Clips, recipe: NetworkRecipe) -> None:
        self._recipe, self._clips, self._masks = recipe, clips, require_masks(clips)
        self.device = clips.device
        if (shortest := int(clips.lengths.min())) < recipe.window:
            name = clips.names[int(clips.lengths.argmin())]
            raise UserError(
                f"window: {name} has {shortest} frames, got a window of {recipe.window}; lower it"
            )
        counts = -(-clips.lengths // recipe.window)
        self._owner = torch.arange(len(clips), device=self.device).repeat_interleave(counts)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._owner)

    def draw(self, rows: Tensor, network: nn.Module, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return frames, float32, (B, T, S, S), and masks, bool, (B * T, S, S)."""
        window, owner = self._recipe.window, self._owner[rows]
        free = self._clips.lengths[owner] - window + 1
        share = torch.rand(len(rows), generator=rng, device=rng.device)
        start = self._clips.first[owner] + (share * free).long().clamp_max(free - 1)
        places = (start[:, None] + torch.arange(window, device=self.device)).flatten()  # (B * T,)
        drawn = Augmentation.draw(self._recipe.augment, len(rows), rng).repeat(window)
        frames, masks = drawn.apply(self._clips.frames[places], self._masks[places])
        return frames.unflatten(0, (-1, window)), masks

    def logits(self, network: nn.Module, inputs: Tensor) -> list[Tensor]:
        """Return the logits, (B * T, S, S); see `usrl.networks.training.Lessons`."""
        return [logits[:, :, 0].flatten(0, 1) for logits in show_windows(network, inputs)]


class ClipValidation:
    """Mean over clips of the Dice of `usrl.metrics.clips.clip_dice`, at working size.

    Clips without a target in any frame do not count.

    Raises:
        UserError: If a clip has no masks, or none has a target.
    """

    def __init__(self, clips: Clips, recipe: NetworkRecipe) -> None:
        self._recipe, masks = recipe, require_masks(clips)
        parts = clips.lengths.tolist()
        self._clips = [
            (frames, target.cpu().numpy())
            for frames, target in zip(clips.frames.split(parts), masks.split(parts), strict=True)
            if target.any()
        ]
        if not self._clips:
            raise UserError("no validation clip has a target; use more clips")

    def score(self, network: nn.Module) -> float:
        """Return the mean Dice."""
        scores = [
            clip_dice(predict_clip(network, frames, self._recipe) > 0.5, target)
            for frames, target in self._clips
        ]
        return float(np.mean(scores))


def require_masks(clips: Clips) -> Tensor:
    """Return the masks of clips; refuse clips that have none."""
    if clips.masks is None:
        raise UserError(
            "segmentation over time needs a mask for each frame, and the clips have none; name a data set "
            "that has them, such as sweeps, or add masks/"
        )
    return clips.masks


class Stretch(NamedTuple):
    """Part of a clip that a network sees at once, of which the middle counts."""

    frames: list[GrayImage]
    start: int  # of what counts, in these frames
    end: int


def list_stretches(frames: Iterable[GrayImage], kept: int, context: int) -> Iterator[Stretch]:
    """Yield a clip in stretches, each as soon as its frames are there.

    In each stretch ``kept`` frames count, together all of the clip. Up to ``context`` more are around them on
    either side, so that memory is bounded however long the clip is.
    """
    held: list[GrayImage] = []
    start = 0  # of what counts next, in what is held
    for frame in frames:
        held.append(frame)
        if len(held) == start + kept + context:
            end = start + kept
            yield Stretch(held, start, end)
            before = min(context, end)
            held, start = held[end - before :], before
    if len(held) > start:
        yield Stretch(held, start, len(held))


@torch.inference_mode()
def infer_windows(network: nn.Module, windows: Tensor, recipe: NetworkRecipe) -> Tensor:
    """Return probabilities, float32, (B, T, S, S), of windows of frames, uint8, (B, T, S, S).

    They are computed in the recipe's precision, and averaged with the mirrored frames if it asks for that.
    """
    network.eval()
    inputs = windows.float() / 255
    with autocast(recipe, windows.device):
        probability = torch.sigmoid(show_windows(network, inputs)[0][:, :, 0].float())
        if recipe.flip_test:
            mirrored = torch.sigmoid(show_windows(network, inputs.flip(-1))[0][:, :, 0].float()).flip(-1)
            probability = (probability + mirrored) / 2
    return probability


def predict_clip(network: nn.Module, frames: Tensor, recipe: NetworkRecipe) -> FloatArray:
    """Return the probabilities, float32, (T, S, S), of a clip's frames, uint8, (T, S, S)."""
    return np.stack(list(stream_clip(network, frames.cpu().numpy(), recipe, frames.device)))


def stream_clip(
    network: nn.Module, frames: Iterable[GrayImage], recipe: NetworkRecipe, device: torch.device
) -> Iterator[FloatArray]:
    """Yield the probability of each frame, float32, (S, S), of working frames, uint8, (S, S).

    A recurrent network sees ``window`` frames at once, as it has learned, of which the middle half counts. On
    more frames it is worse: its states drift away from those that it knows.
    """
    is_recurrent = recipe.network in RECURRENT
    context = recipe.window // 4 if is_recurrent else 0
    kept = recipe.window - 2 * context if is_recurrent else _BATCH
    for stretch in list_stretches(frames, kept, context):
        shown = torch.from_numpy(np.stack(stretch.frames))[None].to(device)
        found = infer_windows(network, shown, recipe)[0, stretch.start : stretch.end]
        yield from np.asarray(found.cpu().numpy(), np.float32)
