"""Training a segmentation network."""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import nn
from torch.optim import AdamW
from torch.utils.tensorboard import SummaryWriter

from usrl.baselines.networks import build_network
from usrl.baselines.prompted import PromptedValidation, draw_inputs
from usrl.baselines.schedule import epoch_seed, rate_factor, seeded
from usrl.baselines.segmenter import autocast, predict
from usrl.data.augment import Augmentation
from usrl.data.bank import Bank
from usrl.data.catalogue import load_train_and_val
from usrl.data.letterbox import Letterbox
from usrl.data.sample import Sample
from usrl.errors import UserError
from usrl.metrics.overlap import dice
from usrl.recipes import NetworkRecipe
from usrl.runs import Run
from usrl.tensors import (
    load_optimizer,
    load_state,
    load_tensors,
    optimizer_tensors,
    save_tensors,
    unique_state,
)

_PARTS = ("network", "average")


def train_network(run: Run, device: torch.device, *, resume: bool = False) -> None:
    """Train the network of a run's recipe on its data set.

    Args:
        run: Folder to write; see `fit_network` for what.
        device: Where to train.
        resume: Go on from the run's checkpoint where there is one.

    Raises:
        UserError: If the recipe or its data set is unusable.
    """
    data = run.recipe_as(NetworkRecipe).data
    fit_network(run, *load_train_and_val(data, run.split_path), device, resume=resume)


def fit_network(
    run: Run, train: Sequence[Sample], val: Sequence[Sample], device: torch.device, *, resume: bool = False
) -> None:
    """Train a network and write weights, checkpoint, log and TensorBoard scalars into its run.

    The weights are those of the epoch with the best mean Dice over the validation images that have a
    lesion, at native resolution. An epoch's randomness depends on seed and epoch alone, so that a resumed
    training repeats what an uninterrupted one does.

    Args:
        run: A run of a network recipe.
        train: Images to train on, with and without lesion.
        val: Images to choose the epoch by.
        device: Where to train.
        resume: Go on from the run's checkpoint where there is one.

    Raises:
        UserError: If there is nothing to validate on, the checkpoint is unusable or training diverges.
    """
    recipe = run.recipe_as(NetworkRecipe)
    shown = [sample for sample in train if recipe.negatives or sample.target.any()]
    is_prompted = recipe.prompt != "none"
    # A box belongs to one lesion.
    bank = Bank.from_samples(shown, recipe.data.size, by_component=is_prompted).to(device)
    validation = PromptedValidation(val, recipe, device) if is_prompted else _Validation(val, recipe, device)
    state = _resume(run, device) if resume and run.checkpoint_path.exists() else _start(recipe, device)
    run.truncate_log(state.epoch)
    began = time.monotonic() - state.seconds
    with _progress(recipe, bank, state.epoch) as tick, SummaryWriter(str(run.path / "tb")) as board:
        while state.epoch < recipe.epochs:
            state.epoch += 1
            loss = _train_epoch(state, bank, recipe, tick)
            score = validation.score(state.average)
            state.seconds = time.monotonic() - began
            row = {"seconds": round(state.seconds, 1), "train_loss": loss, "val_dice": score}
            for name, value in row.items():
                board.add_scalar(name, value, state.epoch)
            _keep(run, state, {"step": state.epoch} | row)


@dataclass
class _State:
    """What changes while training: the checkpoint holds all of it.

    Attributes:
        network: What the optimiser changes.
        average: Its running average, which is validated and kept: it moves less from step to step.
        optimizer: Of the network.
        epoch: Epochs begun.
        best: Best validation Dice so far.
        seconds: Wall time.
    """

    network: nn.Module
    average: nn.Module
    optimizer: AdamW
    epoch: int = 0
    best: float = -1.0
    seconds: float = 0.0


def _start(recipe: NetworkRecipe, device: torch.device) -> _State:
    with seeded(recipe.seed, 0, device):
        network = build_network(recipe).to(device)
    optimizer = AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return _State(network, copy.deepcopy(network), optimizer)


def _resume(run: Run, device: torch.device) -> _State:
    state = _start(run.recipe_as(NetworkRecipe), device)
    tensors, facts = load_tensors(run.checkpoint_path, device)
    for part in _PARTS:
        own = {name.removeprefix(f"{part}/"): t for name, t in tensors.items() if name.startswith(f"{part}/")}
        load_state(getattr(state, part), own, run.checkpoint_path)
    load_optimizer(state.optimizer, tensors)
    state.epoch, state.best, state.seconds = facts["epoch"], facts["best"], facts["seconds"]
    return state


def _keep(run: Run, state: _State, row: Mapping[str, float]) -> None:
    """Write the weights where they are the best so far, the row of the log, and last the checkpoint."""
    if (score := row["val_dice"]) > state.best:
        state.best = score
        facts = {"epoch": state.epoch, "val_dice": score}
        save_tensors(run.weights_path, unique_state(state.average), facts)
    # Before the checkpoint: what a kill cuts off is done again, and a row beyond the checkpoint dropped.
    run.append_log(row)
    facts = {"epoch": state.epoch, "best": state.best, "seconds": state.seconds}
    tensors = optimizer_tensors(state.optimizer)
    for part in _PARTS:
        tensors |= {f"{part}/{name}": tensor for name, tensor in unique_state(getattr(state, part)).items()}
    save_tensors(run.checkpoint_path, tensors, facts)


def _train_epoch(state: _State, bank: Bank, recipe: NetworkRecipe, tick: "_Tick") -> float:
    """Show the network every image once, changed at random; return the mean loss."""
    device = bank.device
    # An image without lesion has no Dice of its own; in that of the batch its false positives count.
    loss_of = DiceCELoss(sigmoid=True, batch=recipe.negatives)
    rng = torch.Generator(device).manual_seed(epoch_seed(recipe.seed, state.epoch))
    batches = torch.randperm(len(bank), generator=rng, device=device).split(recipe.batch_size)
    total = torch.zeros((), device=device)
    state.network.train()
    with seeded(recipe.seed, state.epoch, device):
        for step, rows in enumerate(batches):
            progress = (state.epoch - 1 + step / len(batches)) / recipe.epochs
            for group in state.optimizer.param_groups:
                group["lr"] = recipe.learning_rate * rate_factor(progress)
            drawn = Augmentation.draw(recipe.augment, len(rows), rng)
            images, masks = drawn.apply(bank.images[rows], bank.targets[rows])  # (B, S, S)
            inputs, masks = draw_inputs(recipe, images, masks, rng)  # (B, C, s, s), (B, s, s)
            with autocast(recipe, device):
                logits = state.network(inputs)  # (B, 1, s, s)
            loss = loss_of(logits.float(), masks[:, None].float())
            state.optimizer.zero_grad()
            loss.backward()
            state.optimizer.step()
            _update_average(state, recipe.ema_decay, (state.epoch - 1) * len(batches) + step)
            total += loss.detach() * len(rows)
            tick(len(rows), state.best)
    mean = float(total) / len(bank)
    if not math.isfinite(mean):
        raise UserError(f"training diverged in epoch {state.epoch}; choose a smaller learning_rate")
    return mean


@torch.no_grad()
def _update_average(state: _State, decay: float, step: int) -> None:
    """Move the average a little towards the network: less and less at first, when all is still in motion."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    pairs = zip(state.average.state_dict().values(), state.network.state_dict().values(), strict=True)
    for mean, value in pairs:
        mean.lerp_(value, share) if mean.is_floating_point() else mean.copy_(value)


class _Validation:
    """Mean Dice at native resolution over the images that have a lesion."""

    def __init__(self, samples: Sequence[Sample], recipe: NetworkRecipe, device: torch.device) -> None:
        self._samples = [sample for sample in samples if sample.target.any()]
        if not self._samples:
            raise UserError("the validation split has no image with a lesion; use more images")
        self._recipe = recipe
        bank = Bank.from_samples(self._samples, recipe.data.size, by_component=False)
        self._images = bank.images.to(device)  # (M, S, S)

    def score(self, network: nn.Module) -> float:
        """Return the mean Dice of a network."""
        scores = []
        probabilities = predict(network, self._images, self._recipe)
        for sample, probability in zip(self._samples, probabilities, strict=True):
            letterbox = Letterbox.fit((sample.image.shape[0], sample.image.shape[1]), self._recipe.data.size)
            scores.append(dice(letterbox.to_native(probability) > 0.5, sample.target))
        return float(np.mean(scores))


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        """Return the text of the column."""
        return Text(f"{task.finished_speed or task.speed or 0:.0f} images/s")


class _Tick:
    """Moves a progress bar by images."""

    def __init__(self, progress: Progress, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=total, completed=done, score="")

    def __call__(self, images: int, best: float) -> None:
        """Count images and show the best validation Dice."""
        text = f"val Dice {best:.3f}" if best >= 0 else ""
        self._progress.update(self._task, advance=images, score=text)


@contextmanager
def _progress(recipe: NetworkRecipe, bank: Bank, epoch: int) -> Iterator[_Tick]:
    text, score = TextColumn("{task.description}"), TextColumn("{task.fields[score]}")
    columns = (text, BarColumn(), _Rate(), TimeRemainingColumn(), score)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Tick(progress, recipe.epochs * len(bank), epoch * len(bank))
