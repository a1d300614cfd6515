"""Networks that see a box: their inputs, and what they predict.

``prompt: box`` paints the box as a second channel. ``prompt: crop`` shows the box with a margin instead,
stretched to a square, so that small lesions get as many pixels as large ones and lie in the same place;
so do ``clicks`` and ``landmarks`` (`usrl.networks.clicks`).
Training jitters the boxes anew each time.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usrl.data.letterbox import Letterbox
from usrl.data.sample import FloatArray, GrayImage, Prompt
from usrl.geometry.boxes import boxes_of_masks, grow, move_sides, paint_boxes, return_samples, sample_boxes
from usrl.networks.models import CHANNELS, CROPS, as_input, infer, predict
from usrl.networks.recipe import NetworkRecipe

_BATCH = 32


def draw_inputs(
    recipe: NetworkRecipe, images: Tensor, masks: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return what a network sees of images, with boxes drawn anew, and the masks that it must answer.

    Images, float32 in [0, 1], and masks, bool, are (B, S, S). They become inputs, float32, (B, C, s, s), and
    masks, bool, (B, s, s). The side s is S unless the recipe crops.
    """
    if recipe.prompt == "none":
        return as_input(images), masks
    shares = 2 * torch.rand(len(images), 4, generator=rng, device=rng.device) - 1
    boxes = move_sides(boxes_of_masks(masks), recipe.jitter * shares)
    inputs = show_boxes(recipe, images, boxes)
    return inputs, cut_masks(recipe, masks, boxes) if recipe.prompt in CROPS else masks


def cut_masks(recipe: NetworkRecipe, masks: Tensor, boxes: Tensor) -> Tensor:
    """Return what a crop shows of masks, bool, (B, S, S), to boxes in working pixels, bool, (B, s, s)."""
    region = grow(boxes, recipe.crop_margin)
    return sample_boxes(masks[:, None].float(), region, recipe.crop_size)[:, 0] > 0.5


def show_boxes(recipe: NetworkRecipe, images: Tensor, boxes: Tensor) -> Tensor:
    """Return the input of a prompted network: (B, 2, S, S) for ``prompt: box``, (B, C, s, s) for crops.

    Images are float32 in [0, 1], (B, S, S), and boxes in working pixels, (B, 4). Channels of a user's marks
    and of a former prediction are empty.
    """
    if recipe.prompt in CROPS:
        crops = sample_boxes(images[:, None], grow(boxes, recipe.crop_margin), recipe.crop_size)
        return F.pad(crops, (0, 0, 0, 0, 0, CHANNELS[recipe.prompt] - 1))
    return torch.stack([images, paint_boxes(boxes, images.shape[-1])], dim=1)


def shrink(images: Sequence[GrayImage], size: int, device: torch.device) -> tuple[list[Letterbox], Tensor]:
    """Return the letterboxes of native images, and the working images, uint8, (M, S, S), on a device."""
    letterboxes = [Letterbox.fit(image.shape, size) for image in images]
    shown = [box.image(image) for box, image in zip(letterboxes, images, strict=True)]
    return letterboxes, torch.from_numpy(np.stack(shown)).to(device)


def predict_native(
    network: nn.Module,
    recipe: NetworkRecipe,
    letterboxes: Sequence[Letterbox],
    working: Tensor,
    prompts: Sequence[Prompt] | None,
) -> Iterator[FloatArray]:
    """Yield the probability of lesion of images at native resolution, float32, (H, W); see `shrink`.

    A prompted network sees one box at a time, native pixels; the largest probability of an image's boxes
    counts. An automatic network takes no prompts.
    """
    if prompts is None:
        maps = predict(network, working, recipe)
        yield from (box.to_native(found) for box, found in zip(letterboxes, maps, strict=True))
        return
    owner = [number for number, prompt in enumerate(prompts) for _ in prompt]
    sides = [box.boxes_to_working(prompt) for box, prompt in zip(letterboxes, prompts, strict=True)]
    boxes = torch.from_numpy(np.concatenate(sides)).to(working.device)  # (B, 4)
    rest = iter(_predict(network, recipe, working[owner], boxes))
    for letterbox, prompt in zip(letterboxes, prompts, strict=True):
        yield np.maximum.reduce([letterbox.to_native(next(rest)) for _ in prompt])


def _predict(network: nn.Module, recipe: NetworkRecipe, images: Tensor, boxes: Tensor) -> FloatArray:
    """Return the probabilities of working images uint8, (B, S, S), with a box each, float32, (B, S, S)."""
    parts = []
    for image, box in zip(images.split(_BATCH), boxes.split(_BATCH), strict=True):
        shown = infer(network, show_boxes(recipe, image.float() / 255, box), recipe)  # (B, 1, s, s)
        if recipe.prompt in CROPS:
            shown = return_samples(shown, grow(box, recipe.crop_margin), image.shape[-2:])
        parts.append(shown[:, 0])
    return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)
