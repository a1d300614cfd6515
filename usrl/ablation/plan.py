"""A plan of an ablation, as strict YAML, and the trainings that follow from it."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from usrl.agents.recipe import AgentRecipe
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError, suggest
from usrl.files import check_path
from usrl.learners import load_object
from usrl.registry import find_row
from usrl.runs.recipe import Recipe
from usrl.runs.recipes import dump_recipe, load_recipe, parse_recipe, read_mapping, set_key
from usrl.runs.run import Run
from usrl.runs.shipped import locate
from usrl.strict import PositiveInt, Seed, Strict, check

BASE = "base"
"""The variant that changes nothing, first in every table."""
SEED = 0
"""Of the boxes and the bootstrap."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]*$")]
Overrides = dict[str, Any]


class Plan(Strict):
    """What varies, and how often.

    ``recipe`` is the base: a file or a folder relative to the plan, or the name of a shipped agent. Overrides
    are dotted keys of a recipe with their values: ``set`` holds those of all variants and ``groups`` those of
    each, by group and name. A mapping as a value replaces the whole mapping.
    ``init_from: {variant: GROUP/NAME}`` starts from that variant's run of the same seed, and ``starts`` is
    how often a method starts from each box when it is scored, as in ``usrl compare --starts``. ``split``
    names the images to score.
    """

    recipe: str = "."
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1)
    split: Literal["train", "val", "test", "all"] = "val"
    set: Overrides = Field(default={})
    groups: dict[Name, dict[Name, Overrides]] = Field(min_length=1)


class _Start(Strict):
    variant: str


class _Scoring(Strict):
    starts: PositiveInt = 1


@dataclass(frozen=True)
class Training:
    """One run of an ablation, with its resolved recipe."""

    variant: str  # for which it is trained; others with the same recipe share it
    seed: int
    path: Path
    recipe: Recipe
    start: "Training | None" = None  # whose weights it starts from

    @property
    def run(self) -> Run:
        """The run, which the training writes."""
        return Run(self.path, self.recipe)

    def chain(self) -> Iterator["Training"]:
        """Yield what must be trained for it, in order: its starts, then itself."""
        if self.start:
            yield from self.start.chain()
        yield self


@dataclass(frozen=True)
class Variant:
    """A row of the table."""

    name: str  # ``base`` or ``group/name``
    changes: Mapping[str, Any]  # overrides that tell it from the base
    trainings: tuple[Training, ...]  # one per seed, in the order of seeds
    starts: int = 1  # per box, when its runs are scored

    @property
    def scored(self) -> list[tuple[Path, int]]:
        """The keys of its scored cases: the folder of each run and the number of starts."""
        return [(training.path, self.starts) for training in self.trainings]


def plan_path(path: Path | str) -> Path:
    """Return the file of a plan that is given by its file, its folder or the name of a shipped agent.

    Raises:
        UserError: If a folder has no plan.
    """
    path = locate(path)
    if not path.is_dir():
        return path
    if not (path / "ablation.yaml").exists():
        raise UserError(
            f"{path} has no ablation.yaml, which is a plan; write one, or name contour-ppo, which has one"
        )
    return path / "ablation.yaml"


def load_plan(path: Path | str) -> Plan:
    """Read and check a plan; see `plan_path`.

    Raises:
        UserError: If the file is missing or not YAML, or a key or value is wrong; names key and file.
    """
    path = plan_path(path)
    plan = check(Plan, read_mapping(path, "plan"), str(path))
    if len(set(plan.seeds)) < len(plan.seeds):
        raise UserError(f"{path}: seeds: one of {plan.seeds} is given twice; name each once")
    if BASE in plan.groups:
        raise UserError(f"{path}: groups: {BASE!r} is the variant that changes nothing; choose another name")
    return plan


def resolve_plan(plan: Plan, source: Path | str, out: Path) -> list[Variant]:
    """Return all variants of a plan, the base first, with checked recipes.

    Identical recipes share their trainings, in the folder of the variant that comes first. A variant that
    starts from another one names it by the absolute path of ``out``, the folder of the runs.

    Raises:
        UserError: If a recipe is wrong, variants start from each other in a circle, a start does not exist,
            or a variant changes the images; names file and variant.
    """
    resolver = _Resolver(plan, plan_path(source), out.absolute())
    return [resolver.resolve(name) for name in resolver.changes]


def choose_variants(variants: Sequence[Variant], only: Sequence[str]) -> list[Variant]:
    """Return the base and the variants of some names: groups or ``group/name``; all if there are no names.

    Raises:
        UserError: If nothing has a name; suggests one.
    """
    known = {variant.name for variant in variants}
    known |= {name.partition("/")[0] for name in known}
    for name in only:
        if name not in known:
            raise UserError(f"--only {name}: no such group or variant; {suggest(name, known)}")
    wanted = {BASE, *only}
    return [v for v in variants if not only or {v.name, v.name.partition("/")[0]} & wanted]


class _Resolver:
    """Applies overrides, finds starts and shares what is the same."""

    def __init__(self, plan: Plan, source: Path, out: Path) -> None:
        self._plan, self._source, self._out = plan, source, out
        near = source.parent / plan.recipe
        base = load_recipe(near if check_path(near).exists() else plan.recipe).model_dump(exclude={"search"})
        self._tree = self._apply(base, plan.set, f"{source}: set")
        self._data = check(DataRecipe, self._tree["data"], f"{source}: set: data")
        named = {f"{group}/{name}": own for group, each in plan.groups.items() for name, own in each.items()}
        self.changes: dict[str, Overrides] = {BASE: {}} | named
        self._found: dict[str, Variant] = {}
        self._trainings: dict[str, Training] = {}  # by resolved recipe

    def resolve(self, name: str, entered: tuple[str, ...] = ()) -> Variant:
        """Return a variant; those it starts from are resolved before."""
        if name in self._found:
            return self._found[name]
        if name in entered:
            circle = " -> ".join([*entered, name])
            raise UserError(f"{self._source}: variants start from each other: {circle}; end the circle")
        where, changes = f"{self._source}: {name}", dict(self.changes[name])
        starts = check(_Scoring, {"starts": changes.pop("starts", 1)}, where).starts
        tree = self._apply(self._tree, changes, where)
        start: Variant | None = None
        if isinstance(tree.get("init_from"), dict):
            wanted = check(_Start, tree["init_from"], f"{where}: init_from").variant
            if wanted not in self.changes:
                raise UserError(f"{where}: init_from: no variant {wanted!r}; {suggest(wanted, self.changes)}")
            start = self.resolve(wanted, (*entered, name))
        befores = start.trainings if start else (None,) * len(self._plan.seeds)
        pairs = zip(self._plan.seeds, befores, strict=True)
        trainings = tuple(self._train(name, tree | {"seed": seed}, before, where) for seed, before in pairs)
        return self._found.setdefault(name, Variant(name, self.changes[name], trainings, starts))

    def _apply(self, tree: dict[str, Any], changes: Overrides, where: str) -> dict[str, Any]:
        if "seed" in changes:
            raise UserError(f"{where}: the plan's seeds set 'seed'; leave it out")
        changed = deepcopy(tree)
        for key, value in changes.items():
            set_key(changed, key, deepcopy(value), where)
        return changed

    def _train(self, name: str, tree: dict[str, Any], before: Training | None, where: str) -> Training:
        """Return the training of a seed; another variant with the same recipe shares it."""
        recipe = parse_recipe(tree | ({"init_from": str(before.path)} if before else {}), where)
        if recipe.kind == "judge":
            raise UserError(f"{where}: a judge is not a method alone; give an agent's or a network's recipe")
        same = {"size": self._data.size, "labels": self._data.labels}
        if recipe.data.model_copy(update=same) != self._data:
            raise UserError(
                f"{where}: all variants are scored on the same images, so that only data.size and "
                f"data.labels may differ from the base's data; got {recipe.data}, set the others under 'set'"
            )
        training = Training(name, recipe.seed, self._out / name / str(recipe.seed), recipe, before)
        return self._trainings.setdefault(_identify(recipe, where), training)


def _identify(recipe: Recipe, where: str) -> str:
    """Return a text that is the same for recipes that mean the same: with the environment's defaults."""
    if isinstance(recipe, AgentRecipe):
        model = load_object(find_row(recipe.env.id).settings)
        settings = check(model, recipe.env.kwargs, f"{where}: env.kwargs").model_dump()
        recipe = recipe.model_copy(update={"env": recipe.env.model_copy(update={"kwargs": settings})})
    return dump_recipe(recipe)
