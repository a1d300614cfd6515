"""From a plan to its table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usrl.ablation.plan import Plan, Training, Variant, choose_variants, load_plan, plan_path, resolve_plan
from usrl.ablation.running import score_all, train_all
from usrl.ablation.table import Cases, Facts, summarise, write_table
from usrl.compute.devices import select_device
from usrl.data.catalogue import load_split
from usrl.data.prompts import jittered_boxes
from usrl.data.sample import DEFAULT_JITTER, Sample
from usrl.errors import UserError
from usrl.evaluation.summary import Case
from usrl.files import locked, make_empty_folder, write_atomically, writing_to
from usrl.learners import check_recipe
from usrl.runs.run import create_run
from usrl.runs.tensors import unique_state

SEED = 0
"""Of boxes and bootstrap."""
_COPY = "plan.yaml"
_Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class AblationCall:
    """How an ablation was asked for.

    Attributes:
        plan: The plan's file, or its folder.
        out: Folder to write; ``runs/FOLDER-NAME`` of the plan's file if None.
        device: auto, cpu, cuda or cuda:N.
        jobs: Trainings at once.
        only: Groups and variants to take; all if empty.
    """

    plan: Path
    out: Path | None = None
    device: str = "auto"
    jobs: int = 1
    only: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder to write."""
        file = plan_path(self.plan)
        return self.out or Path("runs") / f"{file.resolve().parent.name}-{file.stem}"

    @property
    def command(self) -> str:
        """The command line, without the device."""
        words = ["usrl ablate", str(self.plan)]
        words += [] if self.out is None else [f"--out {self.out}"]
        words += [f"--only {name}" for name in self.only]
        return " ".join(words if self.jobs == 1 else [*words, f"--jobs {self.jobs}"])


def run_ablation(call: AblationCall) -> Path:
    """Train the variants of a plan, score them and write the table; goes on where an earlier call stopped.

    Writes a run per variant and seed, ``ablation.md``, ``ablation.csv`` (a row per variant),
    ``cases.csv`` (a row per variant, seed and case) and ``ablation.json``.

    Returns:
        The path of ``ablation.md``.

    Raises:
        UserError: If plan or recipes are wrong, before anything is written; if the folder holds something
            else; or if a training fails.
    """
    plan = load_plan(call.plan)
    variants = choose_variants(resolve_plan(plan, call.plan, call.folder), call.only)
    trainings = _list_trainings(variants)
    select_device(call.device)
    check_trainings(trainings)
    samples = _load_samples(plan, variants[0])
    folder = call.folder
    if not (folder / _COPY).is_file():
        make_empty_folder(folder)
    with locked(folder), writing_to(folder):
        write_atomically(folder / _COPY, plan_path(call.plan).read_bytes())
        train_all(trainings, call.device, call.jobs)
        cases = _score(variants, samples, call)
        facts = Facts(call.command, plan, variants[0].trainings[0].recipe.data, DEFAULT_JITTER, SEED)
        write_table(folder, facts, summarise(variants, cases, SEED), variants, cases)
    return folder / "ablation.md"


def check_trainings(trainings: Sequence[Training]) -> None:
    """Build the model of every variant once, and compare those that start from each other.

    Args:
        trainings: In order, so that a start comes before what starts from it.

    Raises:
        UserError: If a recipe is unusable (`usrl.learners.check_recipe`), a start has other weights or learns
            from more labels, or the folder of a training holds the run of another recipe; names the variant.
    """
    shapes: dict[str, _Shapes] = {}
    for training in trainings:
        try:
            if (training.path / "recipe.yaml").exists():
                create_run(training.path, training.recipe, resume=True)
            if training.variant not in shapes:
                shapes[training.variant] = _shapes(training)
                _check_start(training, shapes)
        except UserError as error:
            raise UserError(f"{training.variant}: {error}") from None


def _shapes(training: Training) -> _Shapes:
    recipe = training.recipe
    if training.start:  # which is not trained yet
        recipe = recipe.model_copy(update={"init_from": None})
    return {name: tuple(tensor.shape) for name, tensor in unique_state(check_recipe(recipe)).items()}


def _check_start(training: Training, shapes: dict[str, _Shapes]) -> None:
    start = training.start
    if not start:
        return
    # Variants share their split: of what `usrl.runs.leaks.check_source` refuses only this is left.
    own, before = training.recipe.data.labels, start.recipe.data.labels
    if before > own:
        raise UserError(
            f"init_from: {start.variant} learns from data.labels={before:g}, more than the {own:g} here; "
            "give it as few"
        )
    if shapes[training.variant] != shapes[start.variant]:
        raise UserError(
            f"init_from: {start.variant} has other weights; both want the same policy and env, or "
            "the same network: give them the same overrides of these"
        )


def _list_trainings(variants: Sequence[Variant]) -> list[Training]:
    """Return every training once, a start before what starts from it."""
    links = (link for variant in variants for training in variant.trainings for link in training.chain())
    return list({link.path: link for link in links}.values())


def _score(variants: Sequence[Variant], samples: Sequence[Sample], call: AblationCall) -> Cases:
    """Return the cases of every run, once for each number of starts that it is scored with."""
    prompts = {sample.name: jittered_boxes(sample, DEFAULT_JITTER, SEED) for sample in samples}
    cases: dict[tuple[Path, int], list[Case]] = {}
    for starts in dict.fromkeys(variant.starts for variant in variants):
        own = [variant for variant in variants if variant.starts == starts]
        runs = {training.path: training for variant in own for training in variant.trainings}
        found = score_all(list(runs.values()), samples, prompts, call.device, call.jobs, starts=starts)
        cases |= {(path, starts): rows for path, rows in found.items()}
    return cases


def _load_samples(plan: Plan, base: Variant) -> list[Sample]:
    data = base.trainings[0].recipe.data
    samples = load_split(data, plan.split)
    lesions = [sample for sample in samples if sample.target.any()]
    if not lesions:
        raise UserError(f"split: no image of {plan.split!r} has a lesion; choose another, or set data.count")
    return lesions
