"""One image with its labels. A data set of images is a sequence of these."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from usrl.errors import UserError, suggest

GrayImage = NDArray[np.uint8]
BoolMask = NDArray[np.bool_]
Labels = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
Spacing = tuple[float, float]
"""(row, column) pixel size in millimetres."""
Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the native image."""
Prompt = tuple[Box, ...]
"""Bounding boxes, one per lesion component."""
DEFAULT_JITTER = 0.2
MAX_JITTER = 0.45
"""From half on, the two sides of a box could change places."""
Jitter = Annotated[float, Field(ge=0, le=MAX_JITTER)]
"""Largest move of a box's side, as a share of the box's width or height."""
Track = Literal["prompted", "automatic"]
"""Whether a method needs boxes or ignores them."""
LESION: Mapping[str, int] = MappingProxyType({"lesion": 1})
"""The structures of a plain mask."""


@dataclass(frozen=True)
class Sample:
    """An ultrasound image and its labels at native resolution.

    Attributes:
        image: Gray image, uint8, shape (H, W).
        labels: Number of each pixel's structure, uint8, shape (H, W), 0 on the background. A plain mask,
            bool, is taken as the one structure ``"lesion"``; it is all False if there is no lesion.
        spacing_mm: (row, column) pixel size in millimetres, or None if it is unknown.
        name: Unique within its data set.
        group: Patient, exam or near-duplicate cluster; a group is never divided among splits.
        source: Data set and class, such as ``"busi/benign"``; splits are stratified by it.
        structures: Number of each structure by name.
        measured: What the data set itself states about the target, by name with the unit, such as
            ``circumference_mm`` of HC18.

    Raises:
        UserError: If the arrays differ in shape or have another type, or a number has no name.
    """

    image: GrayImage
    labels: NDArray[Any]
    spacing_mm: tuple[float, float] | None
    name: str
    group: str
    source: str
    structures: Mapping[str, int] = field(default_factory=lambda: LESION)
    measured: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check types and shapes once for all readers."""
        image, labels = self.image, self.labels
        if image.dtype != np.uint8 or image.ndim != 2:
            raise UserError(
                f"{self.name}: image must be uint8 of shape (H, W), got {image.dtype} {image.shape}; "
                "convert it to 8-bit gray"
            )
        if labels.dtype not in (np.bool_, np.uint8) or labels.shape != image.shape:
            raise UserError(
                f"{self.name}: labels must be bool (a mask) or uint8 (numbers of structures) of shape "
                f"{image.shape}, got {labels.dtype} {labels.shape}; pass mask > 127 at the size of its image"
            )
        if labels.dtype == np.uint8:
            known = {0, *self.structures.values()}
            if unknown := [number for number in numbers_in(labels).tolist() if number not in known]:
                raise UserError(
                    f"{self.name}: label {unknown[0]} has no name, as the structures are "
                    f"{dict(self.structures)}; name it, or pass mask > 127"
                )
        object.__setattr__(self, "labels", labels.view(np.uint8))
        object.__setattr__(self, "structures", dict(self.structures))

    @property
    def structure(self) -> str:
        """Name of the only structure; several are an error."""
        return choose_structure(self.structures, None)

    @property
    def target(self) -> BoolMask:
        """Mask of the only structure, bool, (H, W); several are an error."""
        number = self.structures[self.structure]
        return self.labels.view(np.bool_) if number == 1 else np.asarray(self.labels == number, np.bool_)

    def select(self, structure: str | None) -> "Sample":
        """Return the sample with the structure of this name only, numbered 1; None is the only one."""
        name = choose_structure(self.structures, structure)
        if len(self.structures) == 1:
            return self
        return replace(self, labels=self.labels == self.structures[name], structures={name: 1})


def numbers_in(values: NDArray[Any]) -> NDArray[Any]:
    """Return the numbers that occur in an array (H, W), ascending; fast for unsigned numbers of 16 bits."""
    if values.dtype.kind != "u" or values.itemsize > 2:
        # `np.unique` takes a minute for 40 million whole numbers that differ, and this two seconds.
        ordered = np.sort(values, axis=None)
        is_new = np.ones(ordered.shape, np.bool_)
        np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
        return ordered[is_new]
    occurs = np.zeros(1 << 8 * values.itemsize, np.bool_)
    for row in range(0, len(values), 256):  # an index takes eight bytes
        occurs[values[row : row + 256]] = True
    return np.flatnonzero(occurs)


def choose_structure(structures: Mapping[str, int], name: str | None) -> str:
    """Return the structure of this name, or the only one if the name is None."""
    if name is None and len(structures) > 1:
        raise UserError(
            f"there are several structures, {', '.join(structures)}; choose one with data.structure in a "
            "recipe, --structure on the command line or Sample.select"
        )
    if name is not None and name not in structures:
        raise UserError(f"unknown structure {name!r}; {suggest(name, structures)}")
    return next(iter(structures)) if name is None else name
