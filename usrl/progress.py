"""Progress bars on standard error, with rate and time left.

Bars move on a terminal only. Elsewhere, such as in a file, a finished count leaves one line, and a training
one line for each evaluation.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

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
    """Counts images and names the present step."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def start(self, what: str) -> None:
        """Name the next step."""
        self._progress.update(self._task, description=what)

    def advance(self) -> None:
        """Count one image."""
        self._progress.advance(self._task)


@contextmanager
def show_progress(total: int, items: str = "images") -> Iterator[ImageProgress]:
    """Show a bar over ``total`` images, or other items, until the context ends."""
    with Progress(*_columns("", items, 1), console=Console(stderr=True)) as progress:
        yield ImageProgress(progress, progress.add_task("", total=total))


def track(images: Iterable[T], what: str, total: int | None, items: str = "images") -> Iterator[T]:
    """Yield images, or something for each image, and count them on a bar that says what is done."""
    with Progress(*_columns("", items, 1), console=Console(stderr=True)) as progress:
        yield from progress.track(images, total, description=what)


class TrainingBar(Progress):
    """A context that shows how far a training has come, and its last and its best validation score.

    The length ``total`` is in units such as ``epochs``; ``done`` of them were done before a resume. The rate
    counts things such as ``images``, of which each unit has this many.
    """

    def __init__(self, name: str, unit: str, total: int, done: int, rate: tuple[str, int]) -> None:
        console = Console(stderr=True)
        columns = (*_columns(unit, *rate), TextColumn("{task.fields[score]}"))
        super().__init__(*columns, console=console, disable=not console.is_terminal)
        self._label, self._unit = name, unit
        self._bar = self.add_task(name, total=total, completed=done, score="")

    def stop(self) -> None:
        """Leave the bar as it is, also after an error or an interrupt."""
        if not self.disable:  # or rich leaves an empty line
            super().stop()

    def show(self, done: float) -> None:
        """Move the bar to a number of units, whole or not."""
        self.update(self._bar, completed=done)

    def evaluated(self, score: float, best: float) -> None:
        """Show an evaluation: its validation score and the best so far."""
        text = f"val score {score:.3f}, best {best:.3f}"
        self.update(self._bar, score=text)
        if self.disable:
            task = self.tasks[0]
            line = f"{self._label}: {int(task.completed)} of {task.total} {self._unit}, {text}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def __init__(self, items: str, per_unit: int) -> None:
        super().__init__()
        self._items, self._per_unit = items, per_unit

    def render(self, task: Task) -> Text:
        rate = (task.finished_speed or task.speed or 0) * self._per_unit
        return Text(f"{rate:.{0 if rate >= 10 else 1}f} {self._items}/s" if rate else "")


def _columns(unit: str, items: str, per_unit: int) -> tuple[ProgressColumn, ...]:
    name, done = TextColumn("{task.description}", markup=False), (MofNCompleteColumn(), TextColumn(unit))
    return name, BarColumn(), *done[: 2 if unit else 1], _Rate(items, per_unit), TimeRemainingColumn()
