"""Simulated bodies: a data set of volumes.

Origin: simulated here. Skin, fat and muscle with uneven surfaces, ribs that cast shadows, an organ with
vessels and cysts, and one lesion whose two longest axes define the standard plane.

Licence: that of this package. Citation: none. Count: as many as asked for; body ``index`` of a seed is the
same whatever the count. Spacing: 1.25 mm.
"""

from functools import lru_cache

import numpy as np

from usrl.data.bodies.anatomy import draw_body, draw_speckle, draw_texture
from usrl.data.bodies.volumes import SHAPE, Body, Volumes, encode_voxels
from usrl.data.dataset import DataReport
from usrl.data.phantom.anatomy import Draws
from usrl.data.recipe import DataRecipe
from usrl.data.splits import Member, split_samples
from usrl.errors import UserError
from usrl.progress import track

_STREAM = 0xB0D1
"""Keeps the draws of a body apart from those of the phantom's image of the same seed and index."""
MAX_BODIES = 4096
"""Bodies are held in memory: this many are 12 GiB."""


def load_bodies(data: DataRecipe, split: str) -> Volumes:
    """Simulate the bodies of a part of a recipe's data set; the other parts cost nothing.

    Raises:
        UserError: If the recipe asks for more bodies than memory holds.
    """
    names = list_bodies(data)
    part = range(data.count) if split == "all" else split_samples(names, seed=data.split_seed)[split]
    bodies = (make_body(data.seed, index, data.variety) for index in part)
    return Volumes.from_bodies(list(track(bodies, "Simulating bodies", len(part), "bodies")))


def list_bodies(data: DataRecipe) -> list[Member]:
    """Return the bodies of a recipe's data set before they are made; see `load_bodies`."""
    check_count(data)
    return [Member(_name(index), _name(index), "bodies") for index in range(data.count)]


def check_bodies(data: DataRecipe) -> DataReport:
    """Return how many bodies there are, and what they take; they have no faults."""
    check_count(data)
    size = f"{data.count * np.prod(SHAPE) * 4 / 2**20:.0f} MiB"
    counts = {"simulated": data.count}
    return DataReport(data.name, None, counts, data.count, {"memory, all parts": size}, unit="bodies")


def make_body(seed: int, index: int, variety: float = 0.0) -> Body:
    """Simulate ``body-<index>``; equal arguments give equal bytes.

    Raises:
        UserError: If the seed or the index is negative, or the variety is not from 0 to 1.
    """
    if min(seed, index) < 0 or not 0 <= variety <= 1:
        raise UserError(
            "a body needs seed >= 0, index >= 0 and a variety from 0 to 1, got "
            f"seed {seed}, index {index} and variety {variety}; fix the wrong one"
        )
    rng = Draws([seed, index, _STREAM], variety)
    labels, standard = draw_body(rng)
    voxels = encode_voxels(labels, draw_texture(rng), draw_speckle(rng))
    return Body(voxels, standard, _name(index), _name(index))


def check_count(data: DataRecipe) -> None:
    """Refuse more bodies than memory holds."""
    if data.count > MAX_BODIES:
        raise UserError(
            f"data.count: bodies take 3 MiB each, so at most {MAX_BODIES} are allowed, got {data.count}; "
            "set it lower"
        )


def _name(index: int) -> str:
    return f"body-{index:04d}"


@lru_cache(maxsize=1)
def default_volumes() -> Volumes:
    """Return 16 bodies for environments that are made without cases."""
    return Volumes.from_bodies([make_body(0, index) for index in range(16)])
