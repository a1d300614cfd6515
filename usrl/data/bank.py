"""The images and targets of a split at working size, on one device."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from usrl.data.cases import Cases
from usrl.data.components import best_overlap, split_components
from usrl.data.letterbox import Letterbox
from usrl.data.sample import BoolMask, GrayImage, Sample
from usrl.errors import UserError

MIN_AREA_PX = 4
"""Target components of fewer working px than this hold no contour and give no row."""
_REMEDY = "Bank.from_arrays(images, targets) or Bank.from_samples(samples) makes a bank that fits"


@dataclass(frozen=True)
class Bank(Cases):
    """Letterboxed images, and rows that point at them: the cases of a task's episodes.

    Each row has one target. An image with several lesions has several rows and is held once.

    Attributes:
        images: Gray images, uint8, shape (P, S, S).
        targets: The target of each row, bool, shape (M, S, S).
        proposals: Masks that episodes start from, bool, shape (M, S, S), or None.
        names: Name of the sample of each row, length M.
        groups: Group of the sample of each row, length M; the names if none are given.
        structures: Structure of each row's target, length M; ``"lesion"`` by default.
        image_of_row: Position of each row's image, int64, shape (M,). Without it, row i has image i.
        dropped: Names of the samples of lesions that were left out because no proposal overlaps them.
        too_small: Names of the samples of lesions that were left out because they have fewer than
            ``MIN_AREA_PX`` pixels at working size.

    Raises:
        UserError: If the tensors have other types or shapes than stated, or there is no row.
    """

    kind: ClassVar[str] = "images"
    images: torch.Tensor
    targets: torch.Tensor
    proposals: torch.Tensor | None
    names: tuple[str, ...]
    image_of_row: torch.Tensor = None  # type: ignore[assignment]
    groups: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    too_small: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in defaults, and check types and shapes without waiting for the device."""
        given: Any = self.image_of_row
        if given is None and isinstance(self.images, torch.Tensor):
            rows = torch.arange(len(self.names), device=self.images.device)
            object.__setattr__(self, "image_of_row", rows)
        object.__setattr__(self, "groups", self.groups or self.names)
        object.__setattr__(self, "structures", self.structures or ("lesion",) * len(self.names))
        _check_fields(self)

    def __repr__(self) -> str:
        """Return rows, size and device: every pixel would fill a screen."""
        return f"Bank({len(self)} rows of {len(self.images)} images of {self.size} px on {self.device})"

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[Sample],
        size: int = 128,
        proposals: Sequence[BoolMask] | None = None,
        by_component: bool = True,
    ) -> "Bank":
        """Letterbox samples into a bank on the CPU.

        With ``by_component``, each 8-connected component of a native target gives a row, so that a sample
        with an empty target gives no row. Otherwise each sample gives one row, even if its target is empty. A
        sample of several structures gives the rows of each.

        A row by component gets the component of the proposal that overlaps its target most; a row by sample
        gets the whole proposal. Rows without a proposal are left out, listed in ``dropped`` and counted in a
        warning.

        Args:
            samples: Images with targets, native resolution.
            size: Side S of the working images, px.
            proposals: Network masks at native resolution, bool, one per sample, or None.
            by_component: One row per target component, else one row per sample.

        Raises:
            UserError: If the proposals do not fit the samples, or no row remains.
        """
        _check_proposals(samples, proposals)
        images: list[GrayImage] = []
        rows: list[tuple[int, BoolMask, str, str, str]] = []  # image, target, name, group, structure
        starts: list[BoolMask] = []
        dropped: list[str] = []
        too_small: list[str] = []
        for number, sample in enumerate(samples):
            letterbox, known = Letterbox.fit(sample.image.shape, size), len(rows)
            for structure, native in _list_targets(sample, by_component):
                target = letterbox.target(native)
                if by_component and target.sum() < MIN_AREA_PX:
                    too_small.append(sample.name)
                    continue
                if proposals is not None:
                    chosen = best_overlap(proposals[number], native) if by_component else proposals[number]
                    start = None if chosen is None else letterbox.target(chosen)
                    if start is None or start.sum() < MIN_AREA_PX:
                        dropped.append(sample.name)
                        continue
                    starts.append(start)
                rows.append((len(images), target, sample.name, sample.group, structure))
            if len(rows) > known:
                images.append(letterbox.image(sample.image))
        _warn(dropped, "no proposal component overlaps them")
        _warn(too_small, f"they are smaller than {MIN_AREA_PX} px at size {size}")
        if not (rows or dropped or too_small):
            raise UserError("the bank has no rows: no target has a pixel; pass samples with a non-empty one")
        if not rows:
            raise UserError(
                f"the bank has no rows: {len(dropped)} lesions have no overlapping proposal and "
                f"{len(too_small)} are smaller than {MIN_AREA_PX} px at size {size}; "
                "pass better proposals or a larger size"
            )
        places, targets, names, groups, structures = zip(*rows, strict=True)
        return cls(
            images=torch.from_numpy(np.stack(images)),  # (P, S, S)
            targets=torch.from_numpy(np.stack(targets)),  # (M, S, S)
            image_of_row=torch.tensor(places),  # (M,)
            proposals=None if proposals is None else torch.from_numpy(np.stack(starts)),
            names=names,
            groups=groups,
            structures=structures,
            dropped=tuple(dropped),
            too_small=tuple(too_small),
        )

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[NDArray[np.uint8]],
        targets: Sequence[NDArray[np.bool_]],
        size: int = 128,
        names: Sequence[str] | None = None,
    ) -> "Bank":
        """Letterbox arrays into a bank on the CPU, one row for each component of a target.

        Args:
            images: Gray images, uint8, each of any shape (H, W).
            targets: Their masks, bool, each of its image's shape.
            size: Side S of the working images, px.
            names: One per image; ``"0"``, ``"1"``, ... if None.

        Raises:
            UserError: As `from_samples`, and if an array has another type or shape.
        """
        names = [str(number) for number in range(len(images))] if names is None else names
        if not len(images) == len(targets) == len(names):
            raise UserError(
                f"one target and one name per image are needed, got {len(images)} images, "
                f"{len(targets)} targets and {len(names)} names; pass them in the same order"
            )
        triples = zip(images, targets, names, strict=True)
        return cls.from_samples(
            [Sample(np.asarray(i), np.asarray(t), None, name, name, "arrays") for i, t, name in triples], size
        )

    def image(self, row: torch.Tensor) -> torch.Tensor:
        """Return the images of rows, uint8, (..., S, S), for rows of any shape, int64."""
        return self.images[self.image_of_row[row]]

    @property
    def size(self) -> int:
        """Side S of the working images, px."""
        return int(self.images.shape[-1])

    def check(self) -> None:
        """Refuse a bank with an empty target: an episode needs a pixel. This is computed once."""
        self.prepare(_require_targets)

    def require_proposals(self, setting: str) -> None:
        """Refuse a bank without proposals, which a setting such as ``roi='network'`` needs."""
        if self.proposals is None:
            raise UserError(
                f"{setting} needs a bank with proposals, got one without; name their folder in the recipe's "
                "env.proposals (`usrl proposals` writes it), or build the bank with "
                "Bank.from_samples(samples, proposals=masks)"
            )


def _require_targets(bank: Bank) -> None:
    empty = ~bank.targets.flatten(1).any(dim=1)  # (M,)
    if empty.any():
        row = int(empty.nonzero()[0])
        raise UserError(
            f"an episode needs a target with a pixel, and {int(empty.sum())} of the bank's {len(bank)} rows "
            f"have none, the first is row {row} ({bank.names[row]}); leave them out, as "
            "Bank.from_samples does by component"
        )


def _list_targets(sample: Sample, by_component: bool) -> Iterator[tuple[str, BoolMask]]:
    """Yield the structure and the native target of each row of a sample."""
    for structure in sample.structures:
        mask = sample.select(structure).target
        for target in split_components(mask) if by_component else [mask]:
            yield structure, target


def _warn(names: Sequence[str], reason: str) -> None:
    if names:
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        warnings.warn(f"{len(names)} lesions left out: {reason} ({listed})", stacklevel=3)


def _check_fields(bank: Bank) -> None:
    """Refuse fields that are not as `Bank` says, without waiting for the device."""
    sizes: dict[str, int] = {}
    _check_tensor("images", bank.images, torch.uint8, "PSS", sizes)
    _check_tensor("targets", bank.targets, torch.bool, "MSS", sizes)
    if bank.proposals is not None:
        _check_tensor("proposals", bank.proposals, torch.bool, "MSS", sizes)
    _check_tensor("image_of_row", bank.image_of_row, torch.int64, "M", sizes)
    rows, last, places = sizes["M"], sizes["P"] - 1, bank.image_of_row
    if not rows or len(bank.names) != rows:
        raise UserError(
            f"a bank needs at least one row, and a name for each, got {rows} rows and {len(bank.names)} "
            f"names; {_REMEDY}"
        )
    if places.device.type == "cpu" and not 0 <= int(places.min()) <= int(places.max()) <= last:
        raise UserError(
            f"a bank's image_of_row must be from 0 to {last}, the last of its images, got "
            f"{int(places.min())} to {int(places.max())}; {_REMEDY}"
        )


def _check_tensor(name: str, tensor: Any, dtype: torch.dtype, letters: str, sizes: dict[str, int]) -> None:
    """Refuse a field that is not a tensor of this type and shape; add the sizes of new letters."""
    is_tensor = isinstance(tensor, torch.Tensor) and tensor.dtype == dtype and tensor.ndim == len(letters)
    known = dict(sizes)
    pairs = zip(letters, tensor.shape, strict=True) if is_tensor else ()
    if not is_tensor or any(known.setdefault(letter, length) != length for letter, length in pairs):
        wanted = ", ".join(str(sizes.get(letter, letter)) for letter in letters)
        got = f"a {type(tensor).__name__}"
        if isinstance(tensor, torch.Tensor):
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
        raise UserError(f"a bank's {name} must be a tensor of {dtype} ({wanted}), got {got}; {_REMEDY}")
    sizes |= known


def _check_proposals(samples: Sequence[Sample], proposals: Sequence[BoolMask] | None) -> None:
    if proposals is None:
        return
    if len(proposals) != len(samples):
        raise UserError(
            f"one proposal per sample is needed, got {len(proposals)} for {len(samples)} samples; "
            "pass the proposals of exactly these samples"
        )
    for sample, proposal in zip(samples, proposals, strict=True):
        if proposal.dtype != np.bool_ or proposal.shape != sample.image.shape:
            raise UserError(
                f"{sample.name}: its proposal must be bool of shape {sample.image.shape}, "
                f"got {proposal.dtype} {proposal.shape}; resample it to the native image"
            )
