"""Which images a training uses, as part of a recipe."""

import os.path
from typing import Annotated

from pydantic import AfterValidator, Field

from usrl.strict import PositiveInt, Seed, Strict

Folder = Annotated[str, AfterValidator(os.path.abspath)]
"""Kept absolute, as a run is used from other folders than the one that it was trained in."""


class DataRecipe(Strict):
    """Which images: a dataset by name, where it lies and how it is split.

    ``labels`` is the share of the training part's groups that are trained on; validation and test stay whole.
    ``count``, ``seed`` and ``variety`` are the phantom's (`usrl.data.phantom.dataset.load_phantom`).
    """

    name: str = "phantom"
    root: Folder | None = None
    size: PositiveInt = 128
    split_seed: Seed = 0
    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    count: PositiveInt = 200
    seed: Seed = 0
    variety: Annotated[float, Field(ge=0, le=1)] = 0.0
