"""Summaries of clips on disk: the kept frames as a clip and as a sheet, and a score for each frame."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from usrl.agents.players import Player, begin_evaluation, play
from usrl.agents.recipe import AgentRecipe, EnvRecipe
from usrl.compute.devices import one_thread
from usrl.data.clips.clips import Clips
from usrl.data.clips.reading import ClipFile, open_clip, write_clip
from usrl.data.letterbox import Letterbox
from usrl.data.sample import GrayImage
from usrl.envs.summary.drawing import TILE_PX, draw_sheet
from usrl.errors import UserError
from usrl.evaluation.episodes import open_players
from usrl.evaluation.report.sheets import format_csv
from usrl.evaluation.report.summary_plots import score_clip
from usrl.features.networks import SIDE_PX
from usrl.files import make_empty_folder, write_together, writing_to
from usrl.registry import build_task, find_row
from usrl.runs.run import open_run
from usrl.runs.shipped import locate

ENVIRONMENT = "usrl/VideoSummary-v0"
"""Whose agents and players summarise clips."""
SUMMARY_FPS = 5.0
"""Frames a second of the clip of kept frames: at the usual 25 it would be over in less than a second."""
_SHEET_COLUMNS, _SHEET_ROWS = 6, 4


@dataclass(frozen=True)
class Summary:
    """What a player keeps of a clip.

    Attributes:
        scores: Of each frame, float32, (T,); 1 and 0 of a player that only chooses.
        kept: Kept frames, bool, (T,).
    """

    scores: NDArray[np.float32]
    kept: NDArray[np.bool_]


def summarise_file(
    path: Path | str,
    out: Path | str,
    *,
    by: str = "summary-reinforce",
    share: float = 0.15,
    device: torch.device,
) -> Summary:
    """Summarise a clip on disk into a folder.

    Writes ``summary.mp4`` (the kept frames), ``scores.csv`` (frame, score, kept), ``sheet.png`` (up to 24 of
    the kept frames with their numbers) and ``scores.png`` (the scores over time). The clip is read twice, one
    frame at a time: what is held are its frames at 64 px a side.

    Args:
        path: Video, DICOM file or folder of numbered images; see `usrl.data.clips.reading`.
        out: Folder to write: absent or empty.
        by: Run of an agent of `usrl/VideoSummary-v0`, or one of its players, such as ``uniform``.
        share: Share of the frames to keep.
        device: Where the networks compute.

    Raises:
        UserError: If the clip cannot be read, ``by`` is no such run or player, the share is not above 0 and
            at most 1, or the folder holds files or cannot be written.
    """
    clip = open_clip(path)
    stage = _Stage.open(by, share)  # before the clip is read: it may be long
    folder = make_empty_folder(out)
    summary = stage.summarise(read_small(clip), device)
    shown = np.flatnonzero(summary.kept)
    if len(shown) > _SHEET_COLUMNS * _SHEET_ROWS:
        shown = shown[np.linspace(0, len(shown) - 1, _SHEET_COLUMNS * _SHEET_ROWS).round().astype(int)]
    tiles: list[GrayImage] = []
    video = folder / "summary.mp4"
    try:
        write_clip(video, _keep_frames(clip, summary.kept, shown, tiles), SUMMARY_FPS)
        rows = -(-len(shown) // _SHEET_COLUMNS)
        sheet = draw_sheet(np.stack(tiles), shown, min(len(shown), _SHEET_COLUMNS), rows)
        contents = {
            folder / "scores.csv": format_scores(summary),
            folder / "sheet.png": _as_png(sheet),
            folder / "scores.png": plot_summary(summary, clip.fps),
        }
        with writing_to(folder):
            write_together(contents)
    except BaseException:
        video.unlink(missing_ok=True)
        raise
    return summary


def read_small(clip: ClipFile) -> Clips:
    """Return a clip as a case whose frames have the size that the networks of features see."""
    box = Letterbox.fit(clip.shape, SIDE_PX)
    frames = torch.from_numpy(np.stack([box.image(frame) for frame in clip.frames(show_progress=True)]))
    return Clips(
        frames=frames,
        first=torch.zeros(1, dtype=torch.int64),
        lengths=torch.tensor([len(frames)]),
        names=(clip.name,),
        groups=(clip.patient or clip.name,),
        labels=({},),
    )


def format_scores(summary: Summary) -> bytes:
    """Return the rows ``frame,score,kept`` of a summary as CSV."""
    rows = zip(summary.scores.tolist(), summary.kept.tolist(), strict=True)
    return format_csv(
        [
            {"frame": place, "score": f"{score:.6g}", "kept": int(kept)}
            for place, (score, kept) in enumerate(rows)
        ]
    )


def plot_summary(summary: Summary, fps: float) -> bytes:
    """Return a plot of the scores over time, with the kept frames shaded, as PNG."""
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    seconds = np.arange(len(summary.scores)) / fps
    low, high = float(summary.scores.min()), float(summary.scores.max())
    margin = 0.05 * max(high - low, 1e-6)
    axes.fill_between(
        seconds, low - margin, high + margin, where=summary.kept, color="#56B4E9", alpha=0.4, step="mid", lw=0
    )
    axes.plot(seconds, summary.scores, color="#0072B2", linewidth=1.2)
    axes.set(xlabel="time [s]", ylabel="score", ylim=(low - margin, high + margin), xlim=(0, seconds[-1]))
    axes.set_title(f"{int(summary.kept.sum())} of {len(summary.kept)} frames kept (shaded)", fontsize=10)
    return _figure_png(figure)


@dataclass(frozen=True)
class _Stage:
    """The environment and the player that a name asks for."""

    by: str
    env: EnvRecipe

    @classmethod
    def open(cls, by: str, share: float) -> "_Stage":
        if not 0 < share <= 1:
            raise UserError(f"--share must be above 0 and at most 1, got {share:g}")
        if by in find_row(ENVIRONMENT).players:
            return cls(by, EnvRecipe(id=ENVIRONMENT, kwargs={"share": share}))
        env = open_run(locate(by)).recipe_as(AgentRecipe).env
        if env.id != ENVIRONMENT:
            raise UserError(
                f"--by: {by} is an agent of {env.id}, and clips are summarised by those of {ENVIRONMENT}"
            )
        return cls(by, env.model_copy(update={"kwargs": env.kwargs | {"share": share}}))

    def summarise(self, clips: Clips, device: torch.device) -> Summary:
        """Return what the player keeps of the one clip of some cases."""
        length = int(clips.lengths[0])
        kwargs = self.env.kwargs | {"frames": length}
        task: Any = build_task(self.env.id, clips.to(device), kwargs, length)
        runs = {} if self.by in find_row(ENVIRONMENT).players else {self.by: open_run(locate(self.by))}
        (player,) = open_players([self.by], runs, task, self.env, device)
        with one_thread(), torch.no_grad():
            return choose_frames(task, player)


def choose_frames(task: Any, player: Player, row: int = 0) -> Summary:
    """Return what a player keeps of a clip.

    Unlike an episode, this asks for no reward, whose memory grows with the square of the length of a clip.
    """
    length = int(task.cases.lengths[row])
    state = begin_evaluation(task, [row])
    states = [state]
    if task.is_sequential:
        states = play(task, player, state).states
        kept = states[-1].kept[0]
    else:
        player.begin(1)
        kept = player.act(task.observe(state), state)[0] > 0
    mask: NDArray[np.bool_] = kept[:length].cpu().numpy()
    scores = score_clip(task, player, states, row)
    return Summary(mask.astype(np.float32) if scores is None else scores, mask)


def _keep_frames(
    clip: ClipFile, kept: NDArray[np.bool_], shown: NDArray[np.int64], tiles: list[GrayImage]
) -> Iterator[GrayImage]:
    """Yield the kept frames of a clip, and put those of the sheet, square, into ``tiles``."""
    box, wanted = Letterbox.fit(clip.shape, TILE_PX), set(shown.tolist())
    for place, frame in enumerate(clip.frames()):
        if place in wanted:
            tiles.append(box.image(frame))
        if kept[place]:
            yield frame


def _as_png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def _figure_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
