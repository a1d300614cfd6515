"""The part of a recipe that says which images a training uses."""

import os.path
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from usrl.data.reading.windows import Window, check_window
from usrl.strict import Seed, Strict

Folder = Annotated[
    str,
    BeforeValidator(lambda folder: str(folder) if isinstance(folder, Path) else folder),
    AfterValidator(os.path.abspath),
]
"""Kept absolute: a run may be used from another working folder than that of its training."""
MAX_SIZE = 1024
"""Ultrasound images are smaller, and at this size an image takes 8 MB of memory while it is played."""
_FIRST_EDITION = {"name", "root", "size", "split_seed", "labels", "count", "seed", "variety"}
"""Keys of every recipe that the first edition saved."""
MAX_COUNT = 100_000
"""Phantoms are held in memory: this many are 13 GB."""


_FIRST_EDITION = {"name", "root", "size", "split_seed", "labels", "count", "seed", "variety"}


def _as_tuple(levels: Any) -> Any:
    """Return the list of YAML as the tuple that a strict field wants, and whole numbers as fractions."""
    return tuple(levels) if isinstance(levels, list) else levels


class DataRecipe(Strict):
    """Which images: a data set by name, where it is and how it is split.

    ``structure`` is segmented; None is the only structure of the data set. ``size`` is the side of
    the working image in px. ``labels`` is the share of the training part's groups that are trained on;
    validation and test stay whole. ``folds`` and ``fold`` make one of so many folds the test part
    (`usrl.data.splits.split_fold`); `usrl crossval` sets them. ``count``, ``seed`` and ``variety`` are the
    phantom's (`usrl.data.phantom.dataset.load_phantom`). ``window`` are the levels of a folder's images that
    become black and white; None scales images of more than 8 bits by their own largest level.
    ``split_file`` is a table that states the part of every image (`usrl.data.split_files`); None draws the
    parts.
    """

    name: str = "phantom"
    root: Folder | None = None
    structure: str | None = None
    size: Annotated[int, Field(gt=0, le=MAX_SIZE)] = 128
    split_seed: Seed = 0
    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=1)] | None = None
    count: Annotated[int, Field(gt=0, le=MAX_COUNT)] = 200
    seed: Seed = 0
    variety: Annotated[float, Field(ge=0, le=1)] = 0.0
    window: Annotated[Window, BeforeValidator(_as_tuple), AfterValidator(check_window)] | None = None
    split_file: Folder | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_first_edition(cls, tree: Any) -> Any:
        """Read recipes of the first edition, which had a data set for each structure of USGRA."""
        if not isinstance(tree, dict):
            return tree
        if tree.get("name") == "usgra-vessels" and tree.get("structure") is None:
            return tree | {"name": "usgra", "structure": "vessel"}
        # The recipe that a run of the first edition saved has all of these keys.
        is_saved = tree.keys() >= _FIRST_EDITION and "structure" not in tree
        return tree | {"structure": "nerve"} if is_saved and tree["name"] == "usgra" else tree

    @model_validator(mode="after")
    def _check_fold(self) -> "DataRecipe":
        if (self.folds is None) != (self.fold is None) or (self.fold or 0) > (self.folds or 0):
            raise ValueError(
                f"folds and fold go together, and fold is from 1 to folds; got {self.folds} and {self.fold}"
            )
        if self.folds is not None and self.split_file is not None:
            raise ValueError("folds divide the images anew, and split_file states their parts; leave one out")
        return self
