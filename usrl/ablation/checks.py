"""What would end an ablation half-way, found before its first training."""

from collections.abc import Iterable

from usrl.ablation.plan import Training
from usrl.errors import UserError
from usrl.learners import check_recipe
from usrl.runs.run import create_run
from usrl.runs.tensors import unique_state

Shapes = dict[str, tuple[int, ...]]


def check_trainings(trainings: Iterable[Training]) -> None:
    """Build the model of every variant once, and compare those that start from each other.

    Args:
        trainings: In order, so that a start comes before what starts from it.

    Raises:
        UserError: If a recipe is unusable (`usrl.learners.check_recipe`), a start has other weights or learns
            from more labels, or the folder of a training holds the run of another recipe; names the variant.
    """
    shapes: dict[str, Shapes] = {}
    for training in trainings:
        try:
            if (training.path / "recipe.yaml").exists():
                create_run(training.path, training.recipe, resume=True)
            if training.variant not in shapes:
                shapes[training.variant] = _shapes(training)
                _check_start(training, shapes)
        except UserError as error:
            raise UserError(f"{training.variant}: {error}") from None


def _shapes(training: Training) -> Shapes:
    recipe = training.recipe
    if training.start:  # which is not trained yet
        recipe = recipe.model_copy(update={"init_from": None})
    return {name: tuple(tensor.shape) for name, tensor in unique_state(check_recipe(recipe)).items()}


def _check_start(training: Training, shapes: dict[str, Shapes]) -> None:
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
