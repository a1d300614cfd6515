"""Pictures of summaries."""

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.envs.rendering import CONTOUR_COLOR, PROPOSAL_COLOR, TARGET_COLOR, Frame, write

_COLUMNS, _ROWS = 6, 2
TILE_PX = 160
"""Side of a frame in the sheet."""
_WIDTH = _COLUMNS * TILE_PX
_DARK = 24


def draw_summary(
    frames: NDArray[np.uint8],
    kept: NDArray[np.bool_],
    known: NDArray[np.bool_] | None,
    elapsed: int | None,
    caption: str,
) -> Frame:
    """Return the kept frames over a line of time, RGB, uint8, (2 TILE_PX + 84, 6 TILE_PX, 3).

    Of more than twelve kept frames, twelve are shown, evenly spaced. If none is kept, the present frame is.

    Args:
        frames: Of one clip, uint8, (T, S, S).
        kept: bool, (T,).
        known: Frames that a summary should keep, bool, (T,), or None.
        elapsed: Place of the present frame, or None if all frames are decided at once.
        caption: Text above.
    """
    above, below = np.full((28, _WIDTH, 3), _DARK, np.uint8), np.full((28, _WIDTH, 3), _DARK, np.uint8)
    write(above, caption, (10, 19))
    names = (("known", TARGET_COLOR), ("kept", CONTOUR_COLOR), ("present", PROPOSAL_COLOR))
    shown = [(known is not None, names[0]), (True, names[1]), (elapsed is not None, names[2])]
    for column, (is_shown, (name, color)) in enumerate(shown):
        if is_shown:
            write(below, name, (10 + 120 * column, 19), color)
    places = np.flatnonzero(kept)
    if not len(places):
        places = np.array([min(elapsed or 0, len(frames) - 1)])
    if len(places) > _COLUMNS * _ROWS:
        places = places[np.linspace(0, len(places) - 1, _COLUMNS * _ROWS).round().astype(int)]
    sheet = draw_sheet(frames[places], places, _COLUMNS, _ROWS)
    return np.concatenate([above, sheet, _draw_time(kept, known, elapsed), below])


def draw_sheet(frames: NDArray[np.uint8], places: NDArray[np.integer], columns: int, rows: int) -> Frame:
    """Return frames (N, S, S) as a sheet with the number of each, (rows TILE_PX, columns TILE_PX, 3)."""
    sheet = np.full((rows * TILE_PX, columns * TILE_PX, 3), _DARK, np.uint8)
    for number, (frame, place) in enumerate(zip(frames, places.tolist(), strict=True)):
        row, column = divmod(number, columns)
        tile = cv2.cvtColor(cv2.resize(frame, (TILE_PX, TILE_PX)), cv2.COLOR_GRAY2RGB)
        write(tile, str(place), (6, TILE_PX - 8))
        top, left = row * TILE_PX, column * TILE_PX
        sheet[top : top + TILE_PX, left : left + TILE_PX] = tile
    return sheet


def _draw_time(kept: NDArray[np.bool_], known: NDArray[np.bool_] | None, elapsed: int | None) -> Frame:
    """Return two bars over time: the known frames above the kept ones."""
    strip = np.full((28, len(kept), 3), 60, np.uint8)
    if known is not None:
        strip[:12, known] = TARGET_COLOR
    strip[14:26, kept] = CONTOUR_COLOR
    strip[12:14] = strip[26:] = _DARK
    if elapsed is not None:
        strip[:, min(elapsed, len(kept) - 1)] = PROPOSAL_COLOR
    wide = cv2.resize(strip, (_WIDTH, 28), interpolation=cv2.INTER_NEAREST)
    return np.asarray(wide, np.uint8)
