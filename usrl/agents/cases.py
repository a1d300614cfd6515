"""The cases that a recipe's episodes are about: a bank of images, or what another data set gives."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.data.bank import MIN_AREA_PX, Bank
from usrl.data.catalogue import kind_of, list_parts, load_cases, load_train_and_val
from usrl.data.recipe import DataRecipe
from usrl.data.sample import Sample
from usrl.data.splits import write_parts
from usrl.errors import UserError
from usrl.learners import load_object
from usrl.networks.proposals import check_split, read_proposals, require_proposals
from usrl.networks.recipe import AugmentRecipe
from usrl.registry import IMAGES, find_row, find_sources
from usrl.runs.leaks import check_source
from usrl.runs.run import Run, open_run

_CHUNK = 64
"""Copies that are made at once."""


def check_kind(env_id: str, data_name: str) -> str:
    """Return the kind of cases that an environment is about.

    Raises:
        UserError: If the data set gives cases of another kind; names both.
    """
    wanted, given = find_row(env_id).cases, kind_of(data_name)
    if wanted != given:
        raise UserError(
            f"env.id: {env_id} is about {wanted}, and data.name: {data_name} gives {given}; choose others"
        )
    return wanted


def load_training_cases(recipe: AgentRecipe, run: Run) -> tuple[Any, Any]:
    """Return the cases for training and for validation, and write the run's split.

    Raises:
        UserError: If the data set or its proposals cannot be used, or it gives cases of another kind.
    """
    if check_kind(recipe.env.id, recipe.data.name) != IMAGES:
        train, val = (load_cases(recipe.data, part) for part in ("train", "val"))
        write_parts(run.split_path, list_parts(recipe.data))
        for name, source in find_sources(recipe.env.id, recipe.env.kwargs).items():
            check_source(f"env.kwargs.{name}", open_run(source), run)
        return train, val
    samples = load_train_and_val(recipe.data, run.split_path)
    folder, size = find_proposals(recipe.env), recipe.data.size
    if folder:
        check_split(folder, run)
    starts = (read_proposals(folder, part) if folder else None for part in samples)
    train, val = (Bank.from_samples(part, size, own) for part, own in zip(samples, starts, strict=True))
    return augment(train, recipe.augment, recipe.seed), val


def augment(bank: Bank, copies: int, seed: int) -> Bank:
    """Return a bank with changed copies of each of its rows after them; each copy has an image of its own.

    What is drawn depends on the seed alone. Copies whose target has left the image are not kept.
    """
    if not copies:
        return bank
    from usrl.networks.augmentation import Augmentation  # most agents need no networks

    rng = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for rows in torch.arange(len(bank)).repeat(copies).split(_CHUNK):
        drawn = Augmentation.draw(AugmentRecipe(), len(rows), rng)
        changed, masks = drawn.apply(bank.image(rows), bank.targets[rows])
        images.append((255 * changed).round().to(torch.uint8))
        targets.append(masks)
    added = torch.cat(targets)
    kept = (added.flatten(1).sum(dim=1) >= MIN_AREA_PX).nonzero()[:, 0]
    source = torch.arange(len(bank)).repeat(copies)[kept].tolist()
    places = len(bank.images) + torch.arange(len(kept))
    return Bank(
        images=torch.cat([bank.images, torch.cat(images)[kept]]),
        targets=torch.cat([bank.targets, added[kept]]),
        proposals=None,
        image_of_row=torch.cat([bank.image_of_row, places]),
        names=bank.names + tuple(bank.names[row] for row in source),
        groups=bank.groups + tuple(bank.groups[row] for row in source),
        structures=bank.structures + tuple(bank.structures[row] for row in source),
        dropped=bank.dropped,
        too_small=bank.too_small,
    )


def load_playing_cases(env_id: str, data: DataRecipe, split: str) -> Any:
    """Return the cases of a part of a data set, to play on.

    Raises:
        UserError: If the data set cannot be used, or it gives cases of another kind.
    """
    kind = check_kind(env_id, data.name)
    cases = load_cases(data, split)
    return Bank.from_samples(cases, data.size) if kind == IMAGES else cases


def make_example(recipe: AgentRecipe) -> Any:
    """Return cases to build a recipe's model for: a drawn square, or the environment's default cases.

    So mistakes in a recipe are found before its data set is read.

    Raises:
        UserError: If the data set gives cases of another kind, or there are no proposals.
    """
    _check_augment(recipe)
    if check_kind(recipe.env.id, recipe.data.name) != IMAGES:
        default = find_row(recipe.env.id).default_cases
        return load_object(default)() if default else load_cases(recipe.data, "val")
    target = np.zeros((64, 64), np.bool_)
    target[16:48, 16:48] = True
    sample = Sample(255 * target.astype(np.uint8), target, None, "square", "square", "drawn")
    if folder := find_proposals(recipe.env):
        require_proposals("env.proposals", folder)
    return Bank.from_samples([sample], recipe.data.size, [target])


def _check_augment(recipe: AgentRecipe) -> None:
    if recipe.augment and (recipe.env.proposals or check_kind(recipe.env.id, recipe.data.name) != IMAGES):
        raise UserError(
            f"augment: {recipe.augment} copies are made of images without env.proposals only; set augment: 0"
        )


def find_proposals(env: EnvRecipe) -> Path | None:
    """Return the folder of the masks that episodes start from; refuse one that they do not start from."""
    if not env.proposals:
        return None
    if "network" not in (env.kwargs.get("proposal"), env.kwargs.get("roi")):
        raise UserError(
            "env.proposals is set and episodes do not start from them; set env.kwargs.proposal=network "
            "for contours or env.kwargs.roi=network for thresholds, or leave env.proposals out"
        )
    return Path(env.proposals)
