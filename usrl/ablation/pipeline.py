"""From a plan to its table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usrl.ablation.plan import Training, choose_variants, load_plan, plan_path, resolve_plan
from usrl.ablation.running import score_all, train_all
from usrl.ablation.table import write_table
from usrl.compute.devices import select_device
from usrl.data.catalogue import load_split
from usrl.errors import UserError
from usrl.files import locked, make_empty_folder, write_atomically, writing_to
from usrl.learners import check_recipe
from usrl.runs.run import create_run
from usrl.runs.tensors import unique_state

_COPY = "plan.yaml"
_Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class AblationCall:
    """What the command line asks for."""

    plan: Path  # its file, its folder, or the name of a shipped agent
    out: Path | None = None
    device: str = "auto"
    jobs: int = 1  # trainings at once
    only: tuple[str, ...] = ()  # groups and variants; all if empty

    @property
    def folder(self) -> Path:
        """The folder to write; ``runs/FOLDER-NAME`` of the plan's file if none is given."""
        file = plan_path(self.plan)
        return self.out or Path("runs") / f"{file.resolve().parent.name}-{file.stem}"

    @property
    def command(self) -> str:
        """The command line, without the device."""
        words = ["usrl ablate", str(self.plan), *([] if self.out is None else [f"--out {self.out}"])]
        words += [f"--only {name}" for name in self.only]
        return " ".join(words if self.jobs == 1 else [*words, f"--jobs {self.jobs}"])


def run_ablation(call: AblationCall) -> Path:
    """Train the variants of a plan, score them and write the table; goes on where an earlier call stopped.

    Writes a run per variant and seed, ``ablation.md``, ``ablation.csv`` (a row per variant),
    ``cases.csv`` (a row per variant, seed and case) and ``ablation.json``. Returns the path of
    ``ablation.md``.

    Raises:
        UserError: If plan or recipes are wrong, before anything is written; if the folder holds something
            else or another process writes into it; or if a training fails.
    """
    plan, folder = load_plan(call.plan), call.folder
    variants = choose_variants(resolve_plan(plan, call.plan, folder), call.only)
    links = (link for variant in variants for training in variant.trainings for link in training.chain())
    trainings = list({link.path: link for link in links}.values())  # a start before what starts from it
    select_device(call.device)
    _check_trainings(trainings)
    samples = load_split(variants[0].trainings[0].recipe.data, plan.split)
    lesions = [sample for sample in samples if sample.target.any()]
    if not lesions:
        raise UserError(f"split: no image of {plan.split!r} has a lesion; choose another, or set data.count")
    if not (folder / _COPY).is_file():
        make_empty_folder(folder)
    with locked(folder), writing_to(folder):
        write_atomically(folder / _COPY, plan_path(call.plan).read_bytes())
        train_all(trainings, call.device, call.jobs)
        cases = score_all(variants, lesions, call.device, call.jobs)
        return write_table(folder, call.command, plan, variants, cases)


def _check_trainings(trainings: Sequence[Training]) -> None:
    """Build the model of every variant once, and compare those that start from each other."""
    shapes: dict[str, _Shapes] = {}
    for training in trainings:
        try:
            if (training.path / "recipe.yaml").exists():
                create_run(training.path, training.recipe, resume=True)
            if training.variant not in shapes:
                recipe = training.recipe
                if training.start:  # its weights do not exist yet
                    recipe = recipe.model_copy(update={"init_from": None})
                state = unique_state(check_recipe(recipe))
                shapes[training.variant] = {name: tuple(tensor.shape) for name, tensor in state.items()}
                _check_start(training, shapes)
        except UserError as error:
            raise UserError(f"{training.variant}: {error}") from None


def _check_start(training: Training, shapes: dict[str, _Shapes]) -> None:
    if not (start := training.start):
        return
    # Variants share their split: of what `usrl.runs.leaks.check_source` refuses, only this can happen.
    own, before = training.recipe.data.labels, start.recipe.data.labels
    if before > own:
        told = f"learns from data.labels={before:g}, more than the {own:g} here; give it as few"
        raise UserError(f"init_from: {start.variant} {told}")
    if shapes[training.variant] != shapes[start.variant]:
        told = "has other weights; give both the same overrides of policy and env, or of the network"
        raise UserError(f"init_from: {start.variant} {told}")
