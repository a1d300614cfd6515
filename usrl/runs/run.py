"""The run folder, which training writes and everything else opens.

A run holds ``recipe.yaml`` (resolved), ``weights.safetensors`` (best by validation),
``checkpoint.safetensors`` (the latest state of training), ``log.jsonl`` (one row per evaluation),
``split.tsv`` (the part of each image; ``unused`` are training images beyond ``data.labels``) and
``versions.json``. A run that started from another has that one's recipe and split in ``source/``. A judge has
a copy of its refiner in ``refiner/``. Every file is replaced atomically, so that the run of a killed training
opens. No file is ever unpickled, so that the run of a stranger cannot run code.
"""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from usrl.errors import UserError, brief
from usrl.files import list_names, write_atomically, writing_to
from usrl.runs.recipe import Recipe
from usrl.runs.recipes import describe_differences, dump_recipe, load_recipe
from usrl.runs.shipped import locate, suggest_shipped
from usrl.strict import read_json, rename_first_edition

OneRecipe = TypeVar("OneRecipe", bound=Recipe)

RECIPE, VERSIONS = "recipe.yaml", "versions.json"
_RECORDED_PACKAGES = (
    *("usrl", "torch", "stable-baselines3", "gymnasium", "monai", "numpy", "numba", "scipy", "scikit-image"),
    *("opencv-python-headless", "optuna"),
)


@dataclass(frozen=True)
class Run:
    """A folder with a resolved recipe and the weights that training found.

    Attributes:
        path: The folder.
        recipe: The resolved recipe.
    """

    path: Path
    recipe: Recipe

    @property
    def name(self) -> str:
        """The name in tables: that of the folder, and of its parent too if the folder has only a number."""
        path = self.path.resolve()
        return f"{path.parent.name}/{path.name}" if path.name.isdecimal() else path.name

    @property
    def weights_path(self) -> Path:
        """The best weights by validation."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """The latest state of training."""
        return self.path / "checkpoint.safetensors"

    @property
    def log_path(self) -> Path:
        """One JSON row per evaluation: step, seconds and validation figures."""
        return self.path / "log.jsonl"

    @property
    def split_path(self) -> Path:
        """The split that the run was trained on."""
        return self.path / "split.tsv"

    @property
    def source_path(self) -> Path:
        """Recipe and split of the run that this one started from (`usrl.runs.leaks`)."""
        return self.path / "source"

    @property
    def refiner_path(self) -> Path:
        """A judge's copy of its refiner, so that it works without the original."""
        return self.path / "refiner"

    def recipe_as(self, model: type[OneRecipe]) -> OneRecipe:
        """Return the recipe if it is of this kind; refuse another."""
        if not isinstance(self.recipe, model):
            (kind,) = get_args(model.model_fields["kind"].annotation)
            raise UserError(f"{self.path}: wanted a recipe of kind {kind!r}, got {self.recipe.kind!r}")
        return self.recipe

    def is_finished(self) -> bool:
        """Return whether training has reached the recipe's length and left weights."""
        rows = self.read_log()
        return self.weights_path.is_file() and bool(rows) and rows[-1]["step"] >= self.recipe.length

    def append_log(self, row: Mapping[str, float]) -> None:
        """Add one row of figures to the log."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")

    def read_log(self) -> list[dict[str, float]]:
        """Return the rows of the log, without a last line that a kill has cut.

        Raises:
            UserError: If a line is not figures with ``step`` and ``val_score``; names the line.
        """
        if not self.log_path.exists():
            return []
        *lines, _cut = self.log_path.read_bytes().split(b"\n")
        return [_read_row(line, f"{self.log_path}: line {place}") for place, line in enumerate(lines, 1)]

    def read_versions(self) -> dict[str, str]:
        """Return the versions of the packages that the run was trained with."""
        path, remedy = self.path / VERSIONS, "remove it and train the run with --resume"
        if not path.is_file():
            raise UserError(f"{path} is missing; train the run with --resume")
        tree = read_json(path.read_bytes(), str(path), remedy)
        if not isinstance(tree, dict) or not all(isinstance(value, str) for value in tree.values()):
            raise UserError(f"{path}: wanted a version for each name; {remedy}")
        return tree

    def truncate_log(self, step: float) -> None:
        """Drop rows after ``step``, so that a resumed training writes each of them once."""
        if not self.log_path.exists():
            return
        kept = [row for row in self.read_log() if row["step"] <= step]
        write_atomically(self.log_path, "".join(json.dumps(row) + "\n" for row in kept).encode())


def _read_row(line: bytes, source: str) -> dict[str, float]:
    row = read_json(line, source, "remove the line")
    if isinstance(row, dict):
        row = rename_first_edition(row)
        is_sound = all(type(v) is float or (type(v) is int and abs(v) < 2**63) for v in row.values())
        if is_sound and row.keys() >= {"step", "val_score"} and row["step"] >= 0:
            return row
    raise UserError(f"{source}: wanted figures with step and val_score, got {brief(row)}; remove the line")


def create_run(path: Path | str, recipe: Recipe, *, resume: bool = False) -> Run:
    """Make the folder of a new run, or open that of a run of an equal recipe to resume it.

    Args:
        path: Folder to write; made if absent.
        recipe: The resolved recipe.
        resume: Whether to continue the run in the folder, if there is one.

    Raises:
        UserError: If the folder cannot be written, or holds anything else.
    """
    path = Path(path)
    is_begun = resume and (path / RECIPE).exists()
    if is_begun and (before := load_recipe(path)) != recipe:
        raise UserError(
            f"{path} was trained from another recipe: {describe_differences(before, recipe)}; "
            "resume it with that one, or choose another --out"
        )
    with writing_to(path):
        if not is_begun and path.exists() and not _is_unused(path):
            raise UserError(f"{path} already holds something; choose another --out, or give --resume")
        path.mkdir(parents=True, exist_ok=True)
        # Before the recipe: a kill between the two leaves a folder that may be used.
        if not is_begun or not (path / VERSIONS).exists():
            write_atomically(path / VERSIONS, json.dumps(find_versions(), indent=2).encode())
        if not is_begun:
            write_atomically(path / RECIPE, dump_recipe(recipe).encode())
    return Run(path, recipe)


def _is_unused(path: Path) -> bool:
    """Return whether a folder is empty, or holds only what a training leaves that is refused at its start."""
    names = list_names(path) if path.is_dir() else {"a file"}
    # Without versions.json, the recipe there is somebody's own.
    return not names or (VERSIONS in names and names <= {RECIPE, VERSIONS, "split.tsv", "source"})


def open_run(path: Path | str) -> Run:
    """Open a run for use, by its folder or by the name of a shipped agent.

    Raises:
        UserError: If the folder, its recipe or its weights are missing; says if it is a recipe to train.
    """
    path = locate(path)
    if not path.is_dir():
        raise UserError(
            f"{path}: no such run; train one with `usrl train RECIPE --out {path}`, or give a name; "
            f"{suggest_shipped(path)}"
        )
    if not (path / RECIPE).exists():
        raise UserError(
            f"{path}: no recipe.yaml is here, so this is not a run; name a folder that `usrl train` wrote"
        )
    run = Run(path, load_recipe(path))
    if not run.weights_path.is_file():
        if not (path / VERSIONS).exists():  # which every training writes
            raise UserError(
                f"{path} holds a recipe to train and no weights; train it with `usrl train {path} --out RUN` "
                "and name that RUN"
            )
        raise UserError(f"{run.weights_path} is missing; train the run again or resume it with `--resume`")
    return run


def find_versions() -> dict[str, str]:
    """Return versions of interpreter, platform and packages, and the commit if the sources are a checkout."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    versions |= {name: _version(name) for name in _RECORDED_PACKAGES}
    # Not of an installed wheel, even if its environment is inside somebody's repository.
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return versions
    lines = found.stdout.split("\n")
    is_checkout = found.returncode == 0 and Path(lines[0]) == root
    return versions | ({"commit": lines[1]} if is_checkout else {})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
