"""Training a segmentation network on images that change at random."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from usrl.data.bank import Bank
from usrl.data.catalogue import kind_of, list_parts, load_cases, load_train_and_val
from usrl.data.clips.clips import CLIPS
from usrl.data.prompts import jittered_boxes
from usrl.data.sample import Sample
from usrl.data.splits import write_parts
from usrl.metrics.overlap import dice
from usrl.networks.augmentation import Augmentation
from usrl.networks.clicks import MARKED, draw_marks, score_marks
from usrl.networks.clips import ClipValidation, Windows
from usrl.networks.models import autocast, build_network
from usrl.networks.presence import REJECTS_NOTHING, choose_least, rate_images
from usrl.networks.pretrained import load_encoder
from usrl.networks.prompted import draw_inputs, predict_native, shrink
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.schedule import (
    descend,
    epoch_seed,
    keep_lesions,
    list_answers,
    make_schedule,
    mean_loss,
    seeded,
)
from usrl.progress import TrainingBar
from usrl.runs.checkpoints import Parts, Record
from usrl.runs.run import Run
from usrl.runs.starting import load_start, open_start

VALIDATION_SEED = 1
"""Seed of the boxes that epochs are compared by."""


class Lessons(Protocol):
    """What a network learns from: examples, each of which it sees once an epoch.

    Attributes:
        items: What the examples are, such as ``"images"``.
        device: Where they are.
    """

    items: str
    device: torch.device

    def __len__(self) -> int:
        """Return the number of examples."""

    def draw(self, rows: Tensor, network: nn.Module, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return what a network sees of examples, changed at random, and the masks that it must answer.

        Inputs are float32, masks bool; the network answers with logits of the masks' shape.
        """

    def logits(self, network: nn.Module, inputs: Tensor) -> list[Tensor]:
        """Return a network's logits of such inputs, in the shape of the masks.

        There are several if the network has several answers that learn the same masks. A network that
        rates presence answers with one and with ratings, (N,).
        """


class Validation(Protocol):
    """Scores a network on cases that it does not learn from."""

    def score(self, network: nn.Module) -> float:
        """Return the score, which is larger for a better network."""


def train_network(run: Run, device: torch.device, *, resume: bool = False) -> None:
    """Train the network of a run's recipe on its data set of images or clips; see `fit`.

    The weights are those of the epoch with the best mean Dice over the validation images that have a
    lesion, at native resolution; or over the frames of validation clips (`usrl.networks.clips`).
    """
    recipe = run.recipe_as(NetworkRecipe)
    if kind_of(recipe.data.name) == CLIPS:
        train, val = (load_cases(recipe.data, part) for part in ("train", "val"))
        write_parts(run.split_path, list_parts(recipe.data))
        fit(run, Windows(train.to(device), recipe), ClipValidation(val.to(device), recipe), resume=resume)
        return
    fit_network(run, *load_train_and_val(recipe.data, run.split_path), device, resume=resume)


def fit_network(
    run: Run, train: Sequence[Sample], val: Sequence[Sample], device: torch.device, *, resume: bool = False
) -> None:
    """Train a network on images; see `fit`.

    Raises:
        UserError: If no validation image has a lesion, or as `fit`.
    """
    recipe = run.recipe_as(NetworkRecipe)
    fit(run, _Images(train, recipe, device), _Validation(val, recipe, device), resume=resume)


def fit(run: Run, lessons: Lessons, validation: Validation, *, resume: bool = False) -> None:
    """Train a network and write weights, checkpoint, log and TensorBoard scalars into its run.

    The weights are those of the epoch with the best validation score. An epoch's randomness depends on seed
    and epoch alone, so that a resumed training repeats what an uninterrupted one does.

    Raises:
        UserError: If the checkpoint is unusable or training diverges.
    """
    recipe, device = run.recipe_as(NetworkRecipe), lessons.device
    state = _start(recipe, device)
    mean = state.average.module
    parts: Parts = {"network/": state.network, "average/": mean, "optimizer.": state.optimizer}
    record = Record(run, mean, parts)
    if not record.begin(resume=resume):
        if recipe.encoder_weights:
            load_encoder(recipe, state.network)
        if recipe.init_from:
            load_start(run, recipe, state.network)
        mean.load_state_dict(state.network.state_dict())
        if recipe.init_from:  # a start that no epoch improves on is what is kept
            record.log({"val_score": validation.score(mean)})
    steps = math.ceil(len(lessons) / recipe.batch_size)
    state.average.n_averaged.fill_(1 + record.step * steps)  # the network before its first step counts as one
    schedule = make_schedule(state.optimizer, recipe.epochs * steps, record.step * steps)
    bar = TrainingBar(record.name, "epochs", recipe.epochs, record.step, (lessons.items, len(lessons)))
    with bar, SummaryWriter(str(run.path / "tb"), purge_step=record.step + 1) as board:
        while record.step < recipe.epochs:
            record.step += 1
            loss = _train_epoch(state, record.step, lessons, schedule, bar.show)
            figures = {"train_loss": loss, "val_score": validation.score(mean)}
            record.log(figures)
            record.checkpoint()
            bar.evaluated(figures["val_score"], record.best)
            for name, value in figures.items():
                board.add_scalar(name, value, record.step)


def build_untrained_network(recipe: NetworkRecipe) -> nn.Module:
    """Return the network that a recipe trains, before its first step.

    Raises:
        UserError: If it cannot be built, `usrl.runs.starting.open_start` refuses ``init_from``, or
            `usrl.networks.pretrained.load_encoder` refuses ``encoder_weights``.
    """
    network = build_network(recipe)
    if recipe.encoder_weights:
        load_encoder(recipe, network)
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
    state: _State, epoch: int, lessons: Lessons, schedule: LambdaLR, show: Callable[[float], None]
) -> float:
    """Show the network every example once, changed at random; return the mean loss."""
    recipe, device = state.recipe, lessons.device
    rng = torch.Generator(device).manual_seed(epoch_seed(recipe.seed, epoch))
    batches = torch.randperm(len(lessons), generator=rng, device=device).split(recipe.batch_size)
    total = torch.zeros((), device=device)
    state.network.train()
    with seeded(recipe.seed, epoch, device):
        for step, rows in enumerate(batches):
            inputs, masks = lessons.draw(rows, state.network, rng)
            with autocast(recipe, device):
                answers = lessons.logits(state.network, inputs)  # (N, s, s) each
            loss = _measure_loss(recipe, answers, masks)
            descend(state.optimizer, loss, schedule)
            state.average.update_parameters(state.network)
            total += loss.detach() * len(rows)
            show(epoch - 1 + (step + 1) / len(batches))
    return mean_loss(total, len(lessons), epoch)


def _measure_loss(recipe: NetworkRecipe, answers: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Return the loss of answers to masks, bool, (N, s, s)."""
    # An image without lesion has no Dice; in the Dice of the batch its false positives count.
    loss_of = DiceCELoss(sigmoid=True, batch=recipe.negatives)
    if not recipe.presence:
        wanted = masks[:, None].float()
        return torch.stack([loss_of(logits[:, None].float(), wanted) for logits in answers]).sum()
    logits, ratings = answers  # (N, s, s), (N,)
    has_lesion = masks.flatten(1).any(dim=1)
    loss: Tensor = binary_cross_entropy_with_logits(ratings.float(), has_lesion.float())
    taught = has_lesion | recipe.negatives
    if taught.any():
        loss = loss + loss_of(logits[taught, None].float(), masks[taught, None].float())
    return loss


class _Images:
    """Images with their masks, and with jittered boxes for a prompted network."""

    items = "images"

    def __init__(self, samples: Sequence[Sample], recipe: NetworkRecipe, device: torch.device) -> None:
        self._recipe, self.device = recipe, device
        with_negatives = recipe.negatives or recipe.presence
        shown = [sample for sample in samples if with_negatives or sample.target.any()]
        # A box belongs to one lesion.
        is_prompted = recipe.prompt != "none"
        self._bank = Bank.from_samples(shown, recipe.data.size, by_component=is_prompted).to(device)

    def __len__(self) -> int:
        return len(self._bank)

    def draw(self, rows: Tensor, network: nn.Module, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs (B, C, s, s) and masks (B, s, s)."""
        drawn = Augmentation.draw(self._recipe.augment, len(rows), rng)
        images, masks = drawn.apply(self._bank.image(rows), self._bank.targets[rows])  # (B, S, S)
        inputs, masks = draw_inputs(self._recipe, images, masks, rng)  # (B, C, s, s), (B, s, s)
        if self._recipe.prompt in MARKED:
            inputs = draw_marks(self._recipe, network, inputs, masks, rng)
        return inputs, masks

    def logits(self, network: nn.Module, inputs: Tensor) -> list[Tensor]:
        """Return the logits (B, s, s); see `Lessons`."""
        return [logits[:, 0] for logits in list_answers(network(inputs))]


class _Validation:
    """Mean Dice at native resolution over the images that have a lesion, from fixed jittered boxes.

    Of a network that takes corrections it is the mean of `usrl.networks.clicks.score_marks`. One that rates
    presence is given the rating that it asks for, and loses the Dice of the images that it rejects.
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
        if not self._recipe.presence:
            return float(np.mean(self._score_masks(network)))
        rating: Any = network
        rating.presence.least.fill_(REJECTS_NOTHING)
        scores, ratings = self._score_masks(network), rate_images(rating, self._shrunk[1], self._recipe)
        rating.presence.least.fill_(choose_least(ratings, scores))
        return float(np.mean(self._score_masks(network)))

    def _score_masks(self, network: nn.Module) -> NDArray[np.float64]:
        maps = predict_native(network, self._recipe, *self._shrunk, self._prompts)
        return np.array([dice(m > 0.5, s.target) for m, s in zip(maps, self._samples, strict=True)])
