"""Features of all frames of clips, computed once for each set of clips and weights."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from usrl.compute.devices import one_thread
from usrl.data.clips.clips import Clips
from usrl.errors import UserError
from usrl.features.networks import FeatureNetworks, Latents, as_frames
from usrl.features.recipe import FeatureRecipe
from usrl.runs.run import open_run
from usrl.runs.shipped import locate
from usrl.runs.tensors import load_weights

_PART = 256
"""Frames that are computed at a time, so that memory does not grow with the clip."""


@dataclass(frozen=True)
class FeatureTable:
    """Computes the features of clips with the weights of a run; use it as ``cases.prepare(table)``.

    Two tables of the same weights are equal, so that the features of clips are computed once for all tasks.

    Attributes:
        path: Folder of the run.
        digest: SHA-256 of its weights.
        width: Number D of features of each kind.
    """

    path: Path
    digest: str
    width: int

    @classmethod
    def open(cls, name: str) -> "FeatureTable":
        """Return the table of a run, by its folder or by the name of a shipped one.

        Raises:
            UserError: If it is not a run of kind ``features``.
        """
        try:
            run = open_run(name)
            recipe = run.recipe_as(FeatureRecipe)
        except UserError as error:
            raise UserError(f"features: {error}") from None
        digest = hashlib.sha256(run.weights_path.read_bytes()).hexdigest()
        return cls(locate(name).resolve(), digest, recipe.width)

    def __call__(self, clips: Clips) -> Latents:
        """Return the features of all frames of clips, on their device. Sharpness is ranked, see `rank`."""
        latents = self.compute(clips.frames)
        return replace(latents, sharpness=rank(latents.sharpness, clips.lengths))

    def compute(self, frames: Tensor) -> Latents:
        """Return the features of frames, uint8, (N, S, S), on their device."""
        networks = _load(self, frames.device)
        with torch.inference_mode(), one_thread():
            parts = [networks(as_frames(part)) for part in frames.split(_PART)]
        return join_latents(parts)


def join_latents(parts: Sequence[Latents]) -> Latents:
    """Return the features of several parts of frames as one."""
    names = [field.name for field in fields(Latents)]
    # Copies: tensors of inference mode could not be saved for a gradient.
    return Latents(*(torch.cat([getattr(part, name).clone() for part in parts]) for name in names))


def rank(values: Tensor, lengths: Tensor) -> Tensor:
    """Return the share of the other frames of its clip that have a lower value, from 0 to 1, float32, (N,).

    Args:
        values: Of all frames, clip after clip, (N,).
        lengths: Frames of each clip, int64, (M,), N in all. A clip of one frame has rank 0.
    """
    parts = []
    for part in values.split(lengths.tolist()):
        ordered = part.sort().values.contiguous()
        parts.append(torch.searchsorted(ordered, part.contiguous()) / max(len(part) - 1, 1))
    return torch.cat(parts)


@lru_cache(maxsize=4)
def _load(table: FeatureTable, device: torch.device) -> FeatureNetworks:
    run = open_run(table.path)
    networks = FeatureNetworks(run.recipe_as(FeatureRecipe))
    load_weights(run.weights_path, networks)
    return networks.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
