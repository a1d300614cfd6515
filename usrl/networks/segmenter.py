"""A trained segmentation network as a segmenter: automatic, or prompted by boxes, or by another's masks."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import nn

from usrl.data.components import split_components
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import bounding_box, check_prompt, start_boxes
from usrl.data.sample import FloatArray, GrayImage, Prompt, Track
from usrl.errors import UserError
from usrl.networks.clips import stream_clip
from usrl.networks.models import build_network
from usrl.networks.prompted import predict_native, shrink
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.run import Run
from usrl.runs.tensors import load_weights
from usrl.segmenter import Answer, Segmenter, name_method, networks_of, refine_frames

_LEAST_SHARE = 0.25
"""Share of the largest component that a component needs for a box, chosen on validation images of BUSI."""
_NOT_NUMBERS = "the probabilities are not numbers, as the weights are out of all bounds; train it again"


class NetworkSegmenter:
    """A trained network, with the name of its run's folder.

    A recurrent network sees the frames of a clip together, and another one frame by frame. A prompted network
    sees ``starts`` boxes for each given one, and averages their probabilities.

    Raises:
        UserError: If the weights cannot be used, or belong to another architecture than the recipe's.
    """

    def __init__(self, run: Run, device: torch.device, starts: int = 1) -> None:
        self._recipe, self._device = run.recipe_as(NetworkRecipe), device
        is_prompted = self._recipe.prompt != "none"
        self.track: Track = "prompted" if is_prompted else "automatic"
        self.architecture = self._recipe.network
        self._starts = starts if is_prompted else 1
        self.name = name_method(run.name, self._starts)
        network = build_network(self._recipe)
        load_weights(run.weights_path, network)
        self._network = network.to(device).eval()

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> Answer:
        """Return the probability, the mask where it exceeds one half, and how soft it is."""
        return Answer.cut(self.probability(image, prompt))

    def networks(self) -> list[nn.Module]:
        """Return the network; see `usrl.segmenter.Networked`."""
        return [self._network]

    def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
        """Yield the answer for each frame of a clip; see `usrl.networks.clips.stream_clip`."""
        source = iter(frames)
        if (first := next(source, None)) is None:
            return
        box = Letterbox.fit(first.shape, self._recipe.data.size)
        working = map(box.image, chain([first], source))
        for probability in stream_clip(self._network, working, self._recipe, self._device):
            if not np.isfinite(probability).all():
                raise UserError(f"{self.name}: {_NOT_NUMBERS}")
            yield Answer.cut(box.to_native(probability))

    def probability(self, image: GrayImage, prompt: Prompt | None = None) -> FloatArray:
        """Return the probability of lesion, float32, (H, W); of boxes the largest, averaged over starts."""
        prompts = None
        if self.track == "prompted":
            prompts = start_boxes(check_prompt(prompt, image.shape), self._starts, image.shape)
        shrunk = shrink([image] * len(prompts or (image,)), self._recipe.data.size, self._device)
        maps = list(predict_native(self._network, self._recipe, *shrunk, prompts))
        probability = np.asarray(np.mean(maps, axis=0), np.float32)
        if not np.isfinite(probability).all():
            raise UserError(f"{self.name}: {_NOT_NUMBERS}")
        return probability


class BoxedSegmenter:
    """Shows a prompted network boxes around what an automatic method finds, instead of given ones.

    Each 8-connected component of the method's mask gets its box. Components smaller than a quarter of the
    largest one get none, and are left out.

    Args:
        proposer: The automatic method.
        network: The prompted network.
    """

    track: Track = "automatic"

    def __init__(self, proposer: Segmenter, network: NetworkSegmenter) -> None:
        self._proposer, self._network = proposer, network
        self.name = f"{proposer.name}+{network.name}"

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> Answer:
        """Return the network's answer, with the method's mask as the proposal."""
        return self._show(image, self._proposer.segment(image, None))

    def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
        """Yield the answer for each frame of a clip; see `usrl.segmenter.refine_frames`."""
        return refine_frames(self._proposer, frames, self._show)

    def _show(self, image: GrayImage, proposed: Answer) -> Answer:
        found = proposed.mask
        components = split_components(found)
        if not components:
            return Answer(found, proposal=found, uncertainty=1.0)
        least = _LEAST_SHARE * max(component.sum() for component in components)
        boxes = tuple(bounding_box(component) for component in components if component.sum() >= least)
        return replace(self._network.segment(image, boxes), proposal=found)

    def networks(self) -> list[nn.Module]:
        """Return the network, after the method's networks; see `usrl.segmenter.Networked`."""
        return [*networks_of(self._proposer), *self._network.networks()]


def open_network(
    run: Run, device: torch.device, *, proposer: Segmenter | None = None, starts: int = 1
) -> Segmenter:
    """Return the segmenter of a network's run: see `usrl.learners.open_run_segmenter`.

    Raises:
        UserError: If the network needs no boxes, and there is a proposer all the same.
    """
    network = NetworkSegmenter(run, device, starts)
    if proposer is None:
        return network
    if network.track == "automatic":
        raise UserError(
            f"{run.path} segments whole images and starts from nothing; in FIRST+RUN the second is an agent, "
            "a judge or a network that is shown a box; swap the two"
        )
    return BoxedSegmenter(proposer, network)
