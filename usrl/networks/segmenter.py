"""Using a trained segmentation network."""

import numpy as np
import torch
from torch import Tensor, nn

from usrl.compute.devices import has_bfloat16
from usrl.data.letterbox import Letterbox
from usrl.data.sample import FloatArray, GrayImage, Prompt, Track
from usrl.errors import UserError
from usrl.metrics.uncertainty import measure_softness
from usrl.networks.models import build_network
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.run import Run
from usrl.runs.tensors import load_weights
from usrl.segmenter import Answer, Segmenter


class NetworkSegmenter:
    """A trained network as a segmenter; its name is the run folder's."""

    track: Track = "automatic"

    def __init__(self, run: Run, device: torch.device) -> None:
        """Load a network.

        Args:
            run: A run of a network recipe with weights.
            device: Where the network computes.

        Raises:
            UserError: If the weights are unusable or of another architecture than the recipe's.
        """
        self._recipe = run.recipe_as(NetworkRecipe)
        self.name = run.name
        self._device = device
        network = build_network(self._recipe)
        load_weights(run.weights_path, network)
        self._network = network.to(device).eval()

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> Answer:
        """Return the probability, its mask and how soft it is; the prompt is ignored."""
        return cut_probability(self.probability(image))

    def probability(self, image: GrayImage) -> FloatArray:
        """Return the probability of lesion, float32, shape (H, W), of an image uint8, shape (H, W)."""
        letterbox = Letterbox.fit(image.shape, self._recipe.data.size)
        working = torch.from_numpy(letterbox.image(image))[None].to(self._device)  # (1, S, S)
        return letterbox.to_native(predict(self._network, working, self._recipe)[0])


def cut_probability(probability: FloatArray) -> Answer:
    """Return where a probability, float32, (H, W), exceeds one half, and how soft it is."""
    mask = probability > 0.5
    return Answer(mask, probability=probability, uncertainty=measure_softness(probability, mask))


def predict(network: nn.Module, images: Tensor, recipe: NetworkRecipe) -> FloatArray:
    """Return the probabilities that an automatic network gives.

    Args:
        network: As `usrl.networks.models.build_network` returns it.
        images: Working images, uint8, shape (M, S, S).
        recipe: The network's.

    Returns:
        float32 in [0, 1], shape (M, S, S).
    """
    parts = [infer(network, as_input(part.float() / 255), recipe)[:, 0] for part in images.split(32)]
    return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)


@torch.inference_mode()
def infer(network: nn.Module, inputs: Tensor, recipe: NetworkRecipe) -> Tensor:
    """Return probabilities in the recipe's precision, averaged with the mirrored image if it asks for it.

    Args:
        network: Of the recipe.
        inputs: What the network takes, float32, shape (B, C, S, S).
        recipe: Its recipe.

    Returns:
        float32 in [0, 1], shape (B, 1, S, S).
    """
    network.eval()
    with autocast(recipe, inputs.device):
        probability = torch.sigmoid(network(inputs).float())
        if recipe.flip_test:
            mirrored = torch.sigmoid(network(inputs.flip(-1)).float()).flip(-1)
            probability = (probability + mirrored) / 2
    return probability


def as_input(images: Tensor) -> Tensor:
    """Return images, float32, (B, S, S), as a network takes them: (B, 1, S, S) with channels innermost."""
    return images[:, None].contiguous(memory_format=torch.channels_last)


def autocast(recipe: NetworkRecipe, device: torch.device) -> torch.autocast:
    """Return the context in which a recipe's network computes."""
    is_fast = has_bfloat16(device) if recipe.precision == "auto" else recipe.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast)


def open_network(
    run: Run, device: torch.device, *, proposer: Segmenter | None = None, starts: int = 1
) -> Segmenter:
    """Return the segmenter of a network's run: see `usrl.learners.open_run_segmenter`."""
    if proposer is not None:
        raise UserError(
            f"{run.path} is a network's run; in FIRST+RUN the second must be an agent's or a judge's; "
            "swap the two"
        )
    if run.recipe_as(NetworkRecipe).prompt == "none":
        return NetworkSegmenter(run, device)
    from usrl.networks.prompted import PromptedNetworkSegmenter

    return PromptedNetworkSegmenter(run, device, starts)
