"""Progress bars on standard error, with rate and time left.

Bars move on a terminal only. Elsewhere, such as in a file, a finished count leaves one line, and a training
one line for each evaluation.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")


class ImageProgress:
    """Counts images and says what is being done with them."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        """Hold a bar that `show_progress` started."""
        self._progress, self._task = progress, task

    def start(self, what: str) -> None:
        """Say what comes next."""
        self._progress.update(self._task, description=what)

    def advance(self) -> None:
        """Count one image."""
        self._progress.advance(self._task)


@contextmanager
def show_progress(total: int) -> Iterator[ImageProgress]:
    """Show a bar over ``total`` images until the context ends."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    rate = _Rate("images", 1)
    with Progress(*columns, rate, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        yield ImageProgress(progress, progress.add_task("", total=total))


def track(images: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield images, or what stands for them, and count them on a bar.

    Args:
        images: What is yielded.
        what: Is being done with them.
        total: Their number.
    """
    with show_progress(total) as bar:
        bar.start(what)
        for image in images:
            yield image
            bar.advance()


class TrainingBar:
    """How far a training has come, with its last and its best validation Dice; entered around it.

    Args:
        name: Of the run.
        unit: What the training's length is counted in, such as ``epochs``.
        total: Its length.
        done: What of it was done before, as a resumed training has.
        rate: What the rate counts, such as ``images``, and how many of them a unit has.
    """

    def __init__(self, name: str, unit: str, total: int, done: int, rate: tuple[str, int]) -> None:
        console = Console(stderr=True)
        self._name, self._unit = name, unit
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Done(unit))
        more = (_Rate(*rate), TimeRemainingColumn(), TextColumn("{task.fields[score]}"))
        self._progress = Progress(*columns, *more, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(name, total=total, completed=done, score="")

    def __enter__(self) -> Self:
        """Show the bar, on a terminal."""
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it is, after an error or an interrupt too."""
        if not self._progress.disable:  # or some versions of rich leave an empty line
            self._progress.stop()

    def show(self, done: float) -> None:
        """Move the bar to a number of units, whole or not."""
        self._progress.update(self._task, completed=done)

    def evaluated(self, score: float, best: float) -> None:
        """Show an evaluation: its validation Dice and the best so far."""
        text = f"val score {score:.3f}, best {best:.3f}"
        self._progress.update(self._task, score=text)
        if self._progress.disable:
            task = self._progress.tasks[0]
            line = f"{self._name}: {int(task.completed)} of {task.total} {self._unit}, {text}"
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Done(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed)}/{task.total} {self._unit}")


class _Rate(ProgressColumn):
    def __init__(self, items: str, per_unit: int) -> None:
        super().__init__()
        self._items, self._per_unit = items, per_unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        rate = speed * self._per_unit
        return Text(f"{rate:.{0 if rate >= 10 else 1}f} {self._items}/s")
