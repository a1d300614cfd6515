"""What trainings of epochs share: validation images, learning rates, seeds, steps and the mean loss."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from usrl.data.sample import Sample
from usrl.errors import UserError

_WARM_UP = 0.1


def keep_lesions(val: Sequence[Sample]) -> list[Sample]:
    """Return the validation images that have a lesion: they compare epochs. Raise if there are no such."""
    kept = [sample for sample in val if sample.target.any()]
    if not kept:
        raise UserError("the validation split has no image with a lesion; use more images")
    return kept


def rate_factor(progress: float) -> float:
    """Return the factor of the learning rate after a share of the training, in [0, 1].

    It rises linearly, then falls to zero along half a cosine.
    """
    if progress < _WARM_UP:
        return 0.01 + 0.99 * progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def list_answers(answer: Tensor | list[Tensor]) -> list[Tensor]:
    """Return what a network answers as a list: in training it may have several maps, which learn the same."""
    return answer if isinstance(answer, list) else [answer]


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch: a resumed training draws the same as an uninterrupted one."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, which initialise layers and drop units; restore them afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(epoch_seed(seed, epoch))
        yield


def make_schedule(optimizer: Optimizer, steps: int, done: int) -> LambdaLR:
    """Return the schedule of a training of ``steps`` steps, of which ``done`` are done; see `rate_factor`."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # a schedule that goes on looks for it
    return LambdaLR(optimizer, lambda step: rate_factor(step / steps), last_epoch=done - 1)


def descend(optimizer: Optimizer, loss: Tensor, schedule: LambdaLR) -> None:
    """Make one step down the gradient of a loss, and one of the learning rate."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def mean_loss(total: Tensor, count: int, epoch: int) -> float:
    """Return the mean loss of an epoch from the sum over its examples. Raise if it is not finite."""
    mean = float(total) / count
    if not math.isfinite(mean):
        raise UserError(f"training diverged in epoch {epoch}; choose a smaller learning_rate")
    return mean
