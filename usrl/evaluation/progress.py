"""A progress bar on standard error, with rate and time left."""

from collections.abc import Iterator
from contextlib import contextmanager

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
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Rate())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        yield ImageProgress(progress, progress.add_task("", total=total))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} images/s")
