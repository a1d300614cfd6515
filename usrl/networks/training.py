"""Training a segmentation network on images that change at random."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from usrl.data.bank import Bank
from usrl.data.catalogue import load_train_and_val
from usrl.data.prompts import jittered_boxes
from usrl.data.sample import Sample
from usrl.metrics.overlap import dice
from usrl.networks.clicks import MARKED, draw_marks, score_marks
from usrl.networks.models import autocast, build_network
from usrl.networks.prompted import draw_inputs, predict_native, shrink
from usrl.networks.recipe import AugmentRecipe, NetworkRecipe
from usrl.networks.schedule import descend, epoch_seed, keep_lesions, make_schedule, mean_loss, seeded
from usrl.progress import TrainingBar
from usrl.runs.checkpoints import Parts, Record
from usrl.runs.run import Run
from usrl.runs.starting import load_start, open_start

VALIDATION_SEED = 1
"""Seed of the boxes that epochs are compared by."""


@dataclass(frozen=True)
class Augmentation:
    """One drawn change for each image of a batch. Applying it again gives the same result."""

    flip: Tensor  # (B,), bool: is the image mirrored left to right?
    angle: Tensor  # (B,), radians, from the x towards the y axis
    scale: Tensor  # (B,), factor of magnification
    shift: Tensor  # (B, 2), along (x, y), as a share of the side
    gamma: Tensor  # (B,), exponent of the gray values

    @classmethod
    def draw(cls, recipe: AugmentRecipe, count: int, rng: torch.Generator) -> "Augmentation":
        """Draw the changes of ``count`` images, on the generator's device.

        The recipe gives the half-widths of uniform distributions.
        """

        def around_zero(half_width: float, *shape: int) -> Tensor:
            return (torch.rand(shape, generator=rng, device=rng.device) * 2 - 1) * half_width

        return cls(
            flip=(torch.rand(count, generator=rng, device=rng.device) < 0.5) & recipe.flip,
            angle=around_zero(math.radians(recipe.rotation_deg), count),
            scale=1 + around_zero(recipe.scale, count),
            shift=around_zero(recipe.translation, count, 2),
            gamma=torch.exp(around_zero(recipe.gamma, count)),
        )

    def apply(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Change images, uint8, and masks, bool, alike, by one bilinear resampling; all are (B, S, S).

        The new images are float32 in [0, 1] and black outside the old ones. The new masks are bool: true
        where the resampled mask exceeds one half.
        """
        stack = torch.stack([images.float() / 255, masks.float()], dim=1)  # (B, 2, S, S)
        grid = F.affine_grid(self._inverse(), list(stack.shape), align_corners=False)  # (B, S, S, 2)
        moved = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        gray = moved[:, 0].clamp(0, 1) ** self.gamma.view(-1, 1, 1)
        return gray, moved[:, 1] > 0.5

    def _inverse(self) -> Tensor:
        """Return the map from new to old coordinates in [-1, 1], (B, 2, 3)."""
        cos, sin = torch.cos(self.angle) / self.scale, torch.sin(self.angle) / self.scale
        x, y = (2 * self.shift).unbind(-1)  # the side is 2 long in these coordinates
        sign = 1 - 2 * self.flip.float()
        first = torch.stack([sign * cos, sign * sin, -sign * (cos * x + sin * y)], dim=-1)  # (B, 3)
        second = torch.stack([-sin, cos, sin * x - cos * y], dim=-1)  # (B, 3)
        return torch.stack([first, second], dim=1)


def train_network(run: Run, device: torch.device, *, resume: bool = False) -> None:
    """Train the network of a run's recipe on its data set; see `fit_network`."""
    data = run.recipe_as(NetworkRecipe).data
    fit_network(run, *load_train_and_val(data, run.split_path), device, resume=resume)


def fit_network(
    run: Run, train: Sequence[Sample], val: Sequence[Sample], device: torch.device, *, resume: bool = False
) -> None:
    """Train a network and write weights, checkpoint, log and TensorBoard scalars into its run.

    The weights are those of the epoch with the best mean Dice over the validation images that have a
    lesion, at native resolution. An epoch's randomness depends on seed and epoch alone, so that a resumed
    training repeats what an uninterrupted one does.

    Raises:
        UserError: If no validation image has a lesion, the checkpoint is unusable or training diverges.
    """
    recipe = run.recipe_as(NetworkRecipe)
    shown = [sample for sample in train if recipe.negatives or sample.target.any()]
    is_prompted = recipe.prompt != "none"
    # A box belongs to one lesion.
    bank = Bank.from_samples(shown, recipe.data.size, by_component=is_prompted).to(device)
    validation = _Validation(val, recipe, device)
    state = _start(recipe, device)
    mean = state.average.module
    parts: Parts = {"network/": state.network, "average/": mean, "optimizer.": state.optimizer}
    record = Record(run, mean, parts)
    if not record.begin(resume=resume) and recipe.init_from:
        load_start(run, recipe, state.network)
        mean.load_state_dict(state.network.state_dict())
        # A start that no epoch improves on is what is kept.
        record.log({"val_score": validation.score(mean)})
    steps = math.ceil(len(bank) / recipe.batch_size)
    state.average.n_averaged.fill_(1 + record.step * steps)  # the network before its first step counts as one
    schedule = make_schedule(state.optimizer, recipe.epochs * steps, record.step * steps)
    bar = TrainingBar(record.name, "epochs", recipe.epochs, record.step, ("images", len(bank)))
    with bar, SummaryWriter(str(run.path / "tb"), purge_step=record.step + 1) as board:
        while record.step < recipe.epochs:
            record.step += 1
            loss = _train_epoch(state, record.step, bank, schedule, bar.show)
            figures = {"train_loss": loss, "val_score": validation.score(mean)}
            record.log(figures)
            record.checkpoint()
            bar.evaluated(figures["val_score"], record.best)
            for name, value in figures.items():
                board.add_scalar(name, value, record.step)


def build_untrained_network(recipe: NetworkRecipe) -> nn.Module:
    """Return the network that a recipe trains, before its first step.

    Raises:
        UserError: If it cannot be built, or `usrl.runs.starting.open_start` refuses ``init_from``.
    """
    network = build_network(recipe)
    if recipe.init_from:
        open_start(recipe, network)
    return network


@dataclass(frozen=True)
class _State:
    recipe: NetworkRecipe
    network: nn.Module
    average: AveragedModel  # is validated and kept: it moves less from step to step
    optimizer: AdamW


def _start(recipe: NetworkRecipe, device: torch.device) -> _State:
    with seeded(recipe.seed, 0, device):
        network = build_network(recipe).to(device)
    optimizer = AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    def move(mean: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        """Move a mean a little towards a value: less and less at first, when all is still in motion."""
        share = 1 - torch.as_tensor(count / (9 + count)).clamp(max=recipe.ema_decay)
        return mean.lerp(value, share) if mean.is_floating_point() else value

    average = AveragedModel(network, avg_fn=move, use_buffers=True)
    return _State(recipe, network, average, optimizer)


def _train_epoch(
    state: _State, epoch: int, bank: Bank, schedule: LambdaLR, show: Callable[[float], None]
) -> float:
    """Show the network every image once, changed at random; return the mean loss."""
    recipe, device = state.recipe, bank.device
    rng = torch.Generator(device).manual_seed(epoch_seed(recipe.seed, epoch))
    batches = torch.randperm(len(bank), generator=rng, device=device).split(recipe.batch_size)
    # An image without lesion has no Dice; in the Dice of the batch its false positives count.
    loss_of = DiceCELoss(sigmoid=True, batch=recipe.negatives)
    total = torch.zeros((), device=device)
    state.network.train()
    with seeded(recipe.seed, epoch, device):
        for step, rows in enumerate(batches):
            drawn = Augmentation.draw(recipe.augment, len(rows), rng)
            images, masks = drawn.apply(bank.image(rows), bank.targets[rows])  # (B, S, S)
            inputs, masks = draw_inputs(recipe, images, masks, rng)  # (B, C, s, s), (B, s, s)
            if recipe.prompt in MARKED:
                inputs = draw_marks(recipe, state.network, inputs, masks, rng)
            with autocast(recipe, device):
                logits = state.network(inputs)  # (B, 1, s, s)
            loss = loss_of(logits.float(), masks[:, None].float())
            descend(state.optimizer, loss, schedule)
            state.average.update_parameters(state.network)
            total += loss.detach() * len(rows)
            show(epoch - 1 + (step + 1) / len(batches))
    return mean_loss(total, len(bank), epoch)


class _Validation:
    """Mean Dice at native resolution over the images that have a lesion, from fixed jittered boxes.

    Of a network that takes corrections it is the mean of `usrl.networks.clicks.score_marks`.
    """

    def __init__(self, samples: Sequence[Sample], recipe: NetworkRecipe, device: torch.device) -> None:
        self._samples, self._recipe = keep_lesions(samples), recipe
        self._shrunk = shrink([sample.image for sample in self._samples], recipe.data.size, device)
        is_prompted, jitter = recipe.prompt != "none", recipe.jitter
        self._is_marked = recipe.prompt in MARKED
        boxes = [jittered_boxes(sample, jitter, VALIDATION_SEED) for sample in self._samples]
        self._prompts = boxes if is_prompted else None

    def score(self, network: nn.Module) -> float:
        if self._is_marked and self._prompts is not None:
            return score_marks(network, self._recipe, *self._shrunk, self._prompts, self._samples)
        maps = predict_native(network, self._recipe, *self._shrunk, self._prompts)
        return float(np.mean([dice(m > 0.5, s.target) for m, s in zip(maps, self._samples, strict=True)]))
