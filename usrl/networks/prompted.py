"""Networks that are shown a box: their inputs, and what they predict.

``prompt: box`` paints the box as a second channel. ``prompt: crop`` shows the box with a margin instead,
stretched to a square, so that small lesions get as many pixels as large ones and lie in the same place.
Boxes are jittered anew whenever an image is shown.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from usrl.data.letterbox import Letterbox
from usrl.data.prompts import jittered_boxes
from usrl.data.sample import FloatArray, GrayImage, Prompt, Sample
from usrl.geometry.boxes import boxes_of_masks, grow, move_sides, paint_boxes, return_samples, sample_boxes
from usrl.metrics.overlap import dice
from usrl.networks.models import as_input, infer
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.schedule import keep_lesions

VALIDATION_SEED = 1
"""Seed of the boxes that epochs are compared by."""
_BATCH = 32


def draw_inputs(
    recipe: NetworkRecipe, images: Tensor, masks: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return what a network is shown of images, with boxes drawn anew, and the masks that it must answer.

    Args:
        recipe: The network's recipe.
        images: float32 in [0, 1], (B, S, S).
        masks: bool, (B, S, S).
        rng: Seeded generator on the images' device.

    Returns:
        Inputs float32, (B, C, s, s), and masks bool, (B, s, s); s is S unless the recipe crops.
    """
    if recipe.prompt == "none":
        return as_input(images), masks
    shares = 2 * torch.rand(len(images), 4, generator=rng, device=rng.device) - 1
    boxes = move_sides(boxes_of_masks(masks), recipe.jitter * shares)
    inputs = show_boxes(recipe, images, boxes)
    if recipe.prompt == "crop":
        region = grow(boxes, recipe.crop_margin)
        masks = sample_boxes(masks[:, None].float(), region, recipe.crop_size)[:, 0] > 0.5
    return inputs, masks


def show_boxes(recipe: NetworkRecipe, images: Tensor, boxes: Tensor) -> Tensor:
    """Return the input of a prompted network.

    Args:
        recipe: Its recipe.
        images: float32 in [0, 1], (B, S, S).
        boxes: (B, 4), working pixels.

    Returns:
        float32, (B, 2, S, S) for ``prompt: box``, (B, 1, s, s) for ``prompt: crop``.
    """
    if recipe.prompt == "crop":
        return sample_boxes(images[:, None], grow(boxes, recipe.crop_margin), recipe.crop_size)
    return torch.stack([images, paint_boxes(boxes, images.shape[-1])], dim=1)


def predict_boxes(
    network: nn.Module,
    recipe: NetworkRecipe,
    images: Sequence[GrayImage],
    prompts: Sequence[Prompt],
    device: torch.device,
) -> list[FloatArray]:
    """Return the probability of lesion of images: one pass per box, the largest of an image's boxes.

    Args:
        network: A network of the recipe.
        recipe: A recipe with a prompt.
        images: Native images, uint8, (H, W) each.
        prompts: Boxes of each, native pixels.
        device: Where the network is.

    Returns:
        float32, (H, W) each.
    """
    letterboxes = [Letterbox.fit(image.shape, recipe.data.size) for image in images]
    owner = [number for number, prompt in enumerate(prompts) for _ in prompt]
    shown = [box.image(image) for box, image in zip(letterboxes, images, strict=True)]
    sides = [box.boxes_to_working(prompt) for box, prompt in zip(letterboxes, prompts, strict=True)]
    working = torch.from_numpy(np.stack(shown))[owner].to(device)  # (B, S, S)
    maps = _predict(network, recipe, working, torch.from_numpy(np.concatenate(sides)).to(device))
    united = [np.zeros(image.shape, np.float32) for image in images]
    for number, probability in zip(owner, maps, strict=True):
        united[number] = np.maximum(united[number], letterboxes[number].to_native(probability))
    return united


def _predict(network: nn.Module, recipe: NetworkRecipe, images: Tensor, boxes: Tensor) -> FloatArray:
    """Return the probabilities of working images uint8, (B, S, S), with a box each, float32, (B, S, S)."""
    parts = []
    for image, box in zip(images.split(_BATCH), boxes.split(_BATCH), strict=True):
        shown = infer(network, show_boxes(recipe, image.float() / 255, box), recipe)  # (B, 1, s, s)
        if recipe.prompt == "crop":
            region = grow(box, recipe.crop_margin)
            shown = return_samples(shown, region, image.shape[-2:])
        parts.append(shown[:, 0])
    return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)


class PromptedValidation:
    """Mean Dice at native resolution over the images that have a lesion, from fixed jittered boxes."""

    def __init__(self, samples: Sequence[Sample], recipe: NetworkRecipe, device: torch.device) -> None:
        self._samples = keep_lesions(samples)
        self._recipe, self._device = recipe, device
        self._prompts = [jittered_boxes(sample, recipe.jitter, VALIDATION_SEED) for sample in self._samples]

    def score(self, network: nn.Module) -> float:
        """Return the mean Dice of a network."""
        images = [sample.image for sample in self._samples]
        maps = predict_boxes(network, self._recipe, images, self._prompts, self._device)
        scores = [dice(m > 0.5, sample.target) for m, sample in zip(maps, self._samples, strict=True)]
        return float(np.mean(scores))
