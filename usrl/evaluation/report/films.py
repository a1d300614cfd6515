"""Films of episodes as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from usrl.agents.players import Player, begin_evaluation, play
from usrl.data.clips.reading import write_clip
from usrl.envs.task import Drawn, Picture, Task
from usrl.errors import UserError, suggest
from usrl.files import check_path, make_folder, writing_to

SUFFIXES = (".mp4", ".gif", ".webp")
FRAMES_PER_SECOND = 4
_HOLD = 6
"""Frames that the last picture of an episode stays."""


def check_film(path: Path) -> None:
    """Raise a `UserError` if a film cannot be written to a path, before an episode is played."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a film is one of {', '.join(SUFFIXES)}; give --out a name with such an end")
    if check_path(path).exists():
        raise UserError(f"{path} is there already; remove it, or give --out another name")


def film_episode(task: Task[Any], player: Player, case: str | None = None) -> list[Picture]:
    """Return the pictures of the episode that evaluation plays on a case; the first case if None.

    Raises:
        UserError: If the task draws no pictures, or there is no such case.
    """
    if not isinstance(task, Drawn):
        raise UserError(f"{type(task).__name__} draws no pictures, so there is no film of it")
    names = list(task.cases.names)
    if case is not None and case not in names:
        raise UserError(f"no case {case!r} in this part; {suggest(case, names)}")
    row = 0 if case is None else names.index(case)
    played = play(task, player, begin_evaluation(task, [row]))
    return [task.render(state, 0) for state in played.states[: int(played.lengths[0]) + 1]]


def write_film(frames: Sequence[Picture], path: Path) -> None:
    """Write pictures, RGB, uint8, (h, w, 3), as a film; the last one stays longer.

    Raises:
        UserError: If the end of the name is not one of `SUFFIXES`, or the file cannot be written.
    """
    check_film(path)
    make_folder(path.parent)
    shown = [*frames, *[frames[-1]] * _HOLD]
    if path.suffix.lower() == ".mp4":
        write_clip(path, shown, FRAMES_PER_SECOND)
        return
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        with writing_to(path.parent):
            first, *others = [Image.fromarray(frame) for frame in shown]
            duration_ms = 1000 // FRAMES_PER_SECOND
            first.save(part, save_all=True, append_images=others, duration=duration_ms, loop=0)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
