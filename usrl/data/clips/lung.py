"""Simulated lung clips: a data set of clips whose informative frames are known.

Origin: simulated here. A linear probe sweeps along the chest, stops here and there, loses contact and tilts.
It shows the chest wall with ribs and their shadows, the pleural line, and below it the artefacts of the lung,
which slides as it breathes. Severity is that of Soldati et al. (2020): 0 is a smooth pleural line with
A-lines, 1 has single B-lines below an uneven one, 2 has B-lines that flow together and small consolidations,
3 a large consolidation.

Licence: that of this package. Citation: none. Count: as many as asked for; clip ``index`` of a seed is the
same whatever the count. Each has 60 to 150 frames of 128 x 128 px, 48 mm wide and deep, and masks of its
B-lines and consolidations.

Source:
    Soldati et al. (2020), Proposal for international standardization of the use of lung ultrasound for
    patients with COVID-19, Journal of Ultrasound in Medicine 39(7):1413-1419, doi:10.1002/jum.15285.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.clips.clips import Clip, Clips
from usrl.data.dataset import DataReport
from usrl.data.phantom.anatomy import Draws
from usrl.data.phantom.speckle import PointSpread, speckle
from usrl.data.recipe import DataRecipe
from usrl.data.sample import FloatArray
from usrl.data.splits import Member, split_samples
from usrl.errors import UserError
from usrl.progress import track

SIDE_PX, WIDTH_MM = 128, 48.0
"""Side of a frame, px, and its width and depth, mm."""
MM_PER_PX = WIDTH_MM / SIDE_PX
MIN_FRAMES, MAX_FRAMES = 60, 150
SEEN_WELL = 0.85
"""A frame shows a finding well if it shows it by this share of how the best frame shows it."""
MAX_CLIPS = 1024
"""Clips are held in memory: this many are 3.5 GiB at 128 px, and half of that are masks."""
_STREAM = 0x1006
"""Keeps the draws of a clip apart from those of other simulated sets of the same seed and index."""
_MARGIN_MM = 12.0
"""The lung slides by less than this, so that its map never ends inside a frame."""
_DARK_DB, _RANGE_DB = -70.0, 60.0
_POINTS = 9
"""A finding is looked for at this many points along its extent."""


def load_lung(data: DataRecipe, split: str) -> Clips:
    """Simulate the clips of a part of a recipe's data set; the other parts cost nothing.

    Raises:
        UserError: If the recipe asks for more clips than memory holds.
    """
    members = list_lung(data)
    part = range(data.count) if split == "all" else split_samples(members, seed=data.split_seed)[split]
    clips = (make_lung(data.seed, index, data.variety) for index in part)
    return Clips.from_clips(list(track(clips, "Simulating clips", len(part), "clips")), data.size)


def list_lung(data: DataRecipe) -> list[Member]:
    """Return the clips of a recipe's data set before they are made; see `load_lung`."""
    if data.count > MAX_CLIPS:
        raise UserError(
            f"data.count: clips are held in memory, so at most {MAX_CLIPS} are allowed, got {data.count}; "
            "set it lower"
        )
    return [_name(data.seed, index) for index in range(data.count)]


def check_lung(data: DataRecipe) -> DataReport:
    """Return counts of the clips, their frames and the informative ones; they have no faults."""
    members = list_lung(data)
    clips = (make_lung(data.seed, index, data.variety) for index in range(data.count))
    frames = known = 0
    for clip in track(clips, "Simulating clips", data.count, "clips"):
        frames += len(clip.frames)
        known += int(clip.informative.sum())  # type: ignore[union-attr]
    counts = {
        source: sum(m.source == source for m in members) for source in sorted({m.source for m in members})
    }
    facts: dict[str, int | str] = {"frames": frames, "informative frames": f"{known / frames:.1%}"}
    return DataReport(data.name, None, counts, data.count, facts, unit="clips")


@lru_cache(maxsize=2)
def default_clips(size: int = SIDE_PX) -> Clips:
    """Return 8 clips for environments that are made without cases."""
    return Clips.from_clips([make_lung(0, index) for index in range(8)], size)


def make_lung(seed: int, index: int, variety: float = 0.0) -> Clip:
    """Simulate ``lung-<index>``; equal arguments give equal bytes.

    A clip's findings are its B-lines, those that flow together, and its consolidations; if there are none,
    the stretches of normal lung between two ribs. A frame shows a finding as well as it has the finding's
    extent in view, outside of shadows, in contact and sharp. The informative frames are those that show some
    finding by at least `SEEN_WELL` of how its best frame shows it. Findings whose best frame is less than
    half as good as the clip's best do not count.

    Masks show B-lines and consolidations where the beam reaches them; in a clip without findings they are
    empty. Labels are ``severity`` (0 to 3), and ``a_lines`` and ``b_lines`` (1 if there are any).

    Raises:
        UserError: If the seed or the index is negative, or the variety is not from 0 to 1.
    """
    if min(seed, index) < 0 or not 0 <= variety <= 1:
        raise UserError(
            "a clip needs seed >= 0, index >= 0 and a variety from 0 to 1, got "
            f"seed {seed}, index {index} and variety {variety}; fix the wrong one"
        )
    member = _name(seed, index)
    severity = _severity(seed, index)
    rng = Draws([seed, index, _STREAM], variety)
    fps = float(rng.integers(15, 31))
    chest = _draw_chest(rng)
    findings = _draw_findings(rng, severity, chest)
    sweep = _draw_sweep(rng, findings, chest, fps)
    a_lines = severity <= 1 or (severity == 2 and bool(rng.random() < 0.5))
    quality = _quality(findings, chest, sweep)
    frames, masks = _acquire(rng, chest, findings, sweep, a_lines, severity)
    labels = {
        "severity": severity,
        "a_lines": int(a_lines),
        "b_lines": int(any(finding.lines for finding in findings)),
    }
    spacing_mm = (MM_PER_PX, MM_PER_PX)
    return Clip(
        frames,
        fps,
        spacing_mm,
        member.name,
        member.group,
        member.source,
        masks=masks,
        informative=find_informative(quality),
        labels=labels,
    )


def find_informative(quality: FloatArray) -> NDArray[np.bool_]:
    """Return the informative frames, bool, (T,), from how well each shows each finding, 0 to 1, (F, T)."""
    best = quality.max(axis=1)
    counts = best >= best.max() / 2
    return np.asarray((quality[counts] >= SEEN_WELL * best[counts, None]).any(axis=0))


def _severity(seed: int, index: int) -> int:
    """Return the severity of a clip, without making it."""
    return int(np.random.default_rng([seed, index, _STREAM, 1]).integers(0, 4))


def _name(seed: int, index: int) -> Member:
    name = f"lung-{index:04d}"
    return Member(name, name, f"lung/severity {_severity(seed, index)}")


@dataclass(frozen=True)
class _Finding:
    """Something to see below the pleural line, tied to the lung.

    Attributes:
        start: Where it begins, mm.
        end: Where it ends, mm.
        lines: Place (mm), half width (mm) and strength of each of its B-lines.
        depth: How deep a consolidation reaches below the pleural line, mm; 0 if it is none.
    """

    start: float
    end: float
    lines: tuple[tuple[float, float, float], ...] = ()
    depth: float = 0.0


@dataclass(frozen=True)
class _Chest:
    """The chest wall, mm along the skin."""

    length: float  # that the middle of the probe sweeps over
    pleura: int  # depth of the pleural line, px
    ribs: tuple[float, ...]  # middles
    rib_width: float


@dataclass(frozen=True)
class _Sweep:
    """What the probe and the lung do, by frame, (T,) each."""

    place: FloatArray  # of the probe's middle on the chest, mm
    slide: FloatArray  # of the lung against the chest, mm
    sharpness: FloatArray  # from 0 to 1
    left: FloatArray  # share of the view, from the left, that has no contact
    right: FloatArray
    upright: FloatArray  # how square to the pleural line the beam is, from 0 to 1


def _draw_chest(rng: Draws) -> _Chest:
    length = rng.uniform(70, 140)
    spacing, phase = rng.uniform(30, 42), rng.uniform(0, 30)
    ribs = np.arange(phase - WIDTH_MM, length + WIDTH_MM, spacing)
    ribs = ribs + rng.uniform(-2, 2, len(ribs))
    pleura = round(rng.within((9, 13), (7, 16)) / MM_PER_PX)
    return _Chest(length, pleura, tuple(ribs.tolist()), rng.uniform(6, 9))


def _draw_findings(rng: Draws, severity: int, chest: _Chest) -> list[_Finding]:
    """Return the findings from left to right, each where the probe can see it between ribs."""
    gaps = [
        (a + chest.rib_width / 2 + 2, b - chest.rib_width / 2 - 2)
        for a, b in pairwise(chest.ribs)
        if a + b > 0 and a + b < 2 * chest.length
    ]
    if not severity:
        return [_Finding(*gap) for gap in gaps]
    most = min(len(gaps), 1 + int(rng.integers(1, 4)))
    chosen = sorted(rng.permutation(len(gaps))[:most].tolist())
    large = int(rng.integers(0, len(chosen)))  # the one that gives a clip of severity 3 its name
    findings = []
    for number, gap in enumerate(chosen):
        low, high = gaps[gap]
        if severity == 1:
            findings.append(_draw_lines(rng, low, high, int(rng.integers(1, 4)), (0.5, 1.1)))
        elif severity == 3 and number == large:
            findings.append(_draw_consolidation(rng, low, high, rng.uniform(10, 20)))
        elif rng.random() < 0.3:
            findings.append(_draw_consolidation(rng, low, high, rng.uniform(3, 6)))
        else:
            findings.append(_draw_lines(rng, low, high, int(rng.integers(4, 8)), (1.0, 2.4)))
    return findings


def _draw_lines(
    rng: Draws, low: float, high: float, count: int, half_widths: tuple[float, float]
) -> _Finding:
    width = min(high - low, rng.uniform(6, 16))
    start = rng.uniform(low, high - width + 1e-3)
    places = start + width * (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
    lines = [(float(place), rng.uniform(*half_widths), rng.uniform(0.75, 1.0)) for place in places]
    return _Finding(start, start + width, tuple(lines))


def _draw_consolidation(rng: Draws, low: float, high: float, depth: float) -> _Finding:
    width = min(high - low, depth * rng.uniform(0.9, 1.5))
    start = rng.uniform(low, high - width + 1e-3)
    tails = [(start + width * rng.uniform(0.1, 0.9), rng.uniform(0.6, 1.2), rng.uniform(0.6, 0.9))]
    return _Finding(start, start + width, tuple(tails), depth)


def _smooth(rng: Draws, count: int, period: float) -> FloatArray:
    """Return slow noise from 0 to 1 over frames, (T,)."""
    knots = rng.random(int(count / period) + 3)
    at = np.arange(count) / period + rng.random()
    return np.asarray(np.interp(at, np.arange(len(knots)), knots), np.float32)


def _draw_sweep(rng: Draws, findings: Sequence[_Finding], chest: _Chest, fps: float) -> _Sweep:
    """Return a sweep that stops near most findings, near some other places, and sometimes turns back."""
    count = int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))
    stops = [(f.start + f.end) / 2 + rng.uniform(-5, 5) for f in findings]
    stops += rng.uniform(0, chest.length, int(rng.integers(1, 3))).tolist()
    stops = np.clip([0, *sorted(stops), chest.length], 0, chest.length).tolist()
    if rng.random() < 0.5:
        stops = stops[::-1]
    if rng.random() < 0.3:  # back to where something was
        stops.append(stops[int(rng.integers(1, len(stops) - 1))])
    moments, places = [0.0], [stops[0]]
    for last, stop in pairwise(stops):
        moments.append(moments[-1] + 2 + abs(stop - last) / rng.uniform(8, 30))
        places.append(stop)
        moments.append(moments[-1] + (rng.uniform(1, 5) if rng.random() < 0.7 else 0.01))
        places.append(stop)
    at = np.linspace(0, moments[-1], count)
    place = np.interp(at, moments, places)
    place = cv2.GaussianBlur(place[:, None], (1, 7), 0, sigmaY=2)[:, 0] + _smooth(rng, count, 5) * 0.6
    speed = np.abs(np.gradient(place))  # mm per frame
    breath = 2 * np.pi * (np.arange(count) / fps * rng.within((0.2, 0.4), (0.1, 0.7)) + rng.random())
    slide = rng.within((2, 4), (0.5, 7)) * np.sin(breath)
    sharpness = (0.35 + 0.65 * _smooth(rng, count, 6)) * np.exp(-0.35 * speed)
    left, right = (_draw_contact(rng, count) for _ in range(2))
    if rng.random() < 0.6:  # the probe is put down, or lifted off
        lift = np.clip(1 - np.arange(count) / rng.uniform(4, 12), 0, 1)
        lift = lift[::-1] if rng.random() < 0.5 else lift
        left = np.maximum(left, lift)
    upright = 0.3 + 0.7 * _smooth(rng, count, 9)
    parts = (place, slide, sharpness, left, right, upright)
    return _Sweep(*(np.asarray(part, np.float32) for part in parts))


def _draw_contact(rng: Draws, count: int) -> FloatArray:
    """Return the share of the view without contact on one side: mostly none."""
    lost = np.clip((_smooth(rng, count, 10) - np.float32(0.75)) * 2, 0, 1)
    return np.asarray(lost * rng.within((0.3, 0.9), (0.2, 1.2)), np.float32)


def _lit(chest: _Chest, sweep: _Sweep, chest_mm: FloatArray) -> FloatArray:
    """Return how lit places on the chest, (T, N) mm, are in each frame, from 0 to 1, below the ribs."""
    across = (chest_mm - sweep.place[:, None]) / np.float32(WIDTH_MM) + np.float32(0.5)  # 0 to 1 in view
    edge = np.float32(0.02)
    contact = np.clip((across - sweep.left[:, None]) / edge, 0, 1)
    contact *= np.clip((1 - sweep.right[:, None] - across) / edge, 0, 1)
    ribs = np.array(chest.ribs, np.float32)
    away = np.abs(chest_mm[..., None] - ribs).min(axis=-1)
    free = np.clip((away - np.float32(chest.rib_width / 2)) / np.float32(1.0) + np.float32(0.5), 0, 1)
    return np.asarray(contact * free, np.float32)


def _quality(findings: Sequence[_Finding], chest: _Chest, sweep: _Sweep) -> FloatArray:
    """Return how well each frame shows each finding, (F, T)."""
    rows = []
    for finding in findings:
        points = np.linspace(finding.start, finding.end, _POINTS, dtype=np.float32)
        seen = _lit(chest, sweep, points[None] + sweep.slide[:, None]).mean(axis=1)
        rows.append(seen * sweep.sharpness)
    return np.stack(rows)


def _acquire(
    rng: Draws, chest: _Chest, findings: Sequence[_Finding], sweep: _Sweep, a_lines: bool, severity: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the frames, uint8, and the masks of what is found, bool, (T, S, S) each."""
    count, deep = len(sweep.place), SIDE_PX - chest.pleura
    view = (np.arange(SIDE_PX, dtype=np.float32) - (SIDE_PX - 1) / 2) * np.float32(MM_PER_PX)
    chest_mm = sweep.place[:, None] + view  # (T, S)
    lung_mm = chest_mm - sweep.slide[:, None]
    wall = _shift(_draw_wall(rng, chest), chest_mm)  # (T, pleura, S) dB
    level, tissue = _draw_lung(rng, chest, findings, severity)
    lung, found = _shift(level, lung_mm), _shift(tissue, lung_mm)  # (T, deep, S)
    depth = np.arange(deep, dtype=np.float32) * np.float32(MM_PER_PX)
    cover = _cover(rng, findings, lung_mm)  # (T, S): how much B-lines cover
    streaks = _shift(_draw_streaks(rng, chest, deep), lung_mm)
    fade = np.float32(rng.within((0.15, 0.3), (0.05, 0.5))) * depth
    beams = np.float32(-14) + np.float32(26) * (cover[:, None] - 1) - fade[:, None] + streaks
    if a_lines:
        echo = _a_line_echo(rng, chest, deep)  # (deep,)
        lost = 14 * cover + 16 * (1 - sweep.upright[:, None])  # (T, S) dB
        lung = np.maximum(lung, echo[:, None] - lost[:, None] + np.float32(0.3) * streaks)
    np.maximum(lung, beams, out=lung)
    level = np.ascontiguousarray(np.concatenate([wall, lung], axis=1))  # (T, S, S)
    lit = _lit(chest, sweep, chest_mm)
    level[:, chest.pleura - round(2.5 / MM_PER_PX) :] -= 45 * (1 - lit[:, None])
    touched = _lit(_Chest(chest.length, chest.pleura, (1e6,), 1.0), sweep, chest_mm)
    level -= 55 * (1 - touched[:, None])
    level += np.float32(rng.uniform(-4, 4)) + np.float32(4) * (_smooth(rng, count, 12)[:, None, None] - 0.5)
    found = np.maximum(found, cover[:, None]) * lit[:, None]
    masks = np.concatenate([np.zeros_like(wall), found], axis=1)
    rows = _bend_rows(rng, chest, chest_mm)
    level, masks = _remap(level, rows), _remap(masks, rows)
    sigma = np.float32(0.3) + np.float32(2.6) * np.square(1 - sweep.sharpness)
    for frame, blur in zip(level, sigma.tolist(), strict=True):
        cv2.GaussianBlur(frame, (0, 0), sigmaX=1.4 * blur, sigmaY=blur, dst=frame)
    level += np.float32(rng.within((1.0, 2.0), (0.5, 3.5))) * rng.standard_normal(level.shape, np.float32)
    gray = np.clip(1 + level / np.float32(rng.within((52, 62), (44, 74))), 0, 1)
    frames = np.asarray(255 * gray ** np.float32(rng.within((1.1, 1.6), (0.8, 2.2))), np.uint8)
    return frames, masks > 0.5


def _shift(table: FloatArray, place_mm: FloatArray) -> FloatArray:
    """Return the columns of a map, (rows, N), at places in mm, (T, S): (T, rows, S)."""
    at = (place_mm + np.float32(WIDTH_MM / 2 + _MARGIN_MM)) / np.float32(MM_PER_PX)
    at = np.clip(at, 0, table.shape[1] - 2)
    left = at.astype(np.int64)
    share = (at - left).astype(np.float32)[:, None]
    columns = np.ascontiguousarray(table.T)
    low = columns[left].transpose(0, 2, 1)
    high = columns[left + 1].transpose(0, 2, 1)
    return np.asarray(low + share * (high - low), np.float32)


def _map_mm(chest: _Chest) -> FloatArray:
    """Return the place of each column of a map, mm."""
    total = chest.length + WIDTH_MM + 2 * _MARGIN_MM
    return np.arange(int(total / MM_PER_PX) + 2, dtype=np.float32) * np.float32(MM_PER_PX) - np.float32(
        WIDTH_MM / 2 + _MARGIN_MM
    )


def _to_db(envelope: FloatArray) -> FloatArray:
    return np.asarray(20 * np.log10(envelope + np.float32(10 ** (_DARK_DB / 20))), np.float32)


def _spread(rng: Draws) -> PointSpread:
    return PointSpread(rng.within((0.7, 1.0), (0.5, 1.6)), rng.within((0.9, 1.5), (0.7, 2.5)), divergence=1.5)


def _draw_wall(rng: Draws, chest: _Chest) -> FloatArray:
    """Return the level of skin, fat, muscle and ribs above the pleural line, dB, (pleura, N)."""
    mm = _map_mm(chest)
    rows = np.arange(chest.pleura, dtype=np.float32)[:, None]
    share = rows / chest.pleura
    fat = rng.uniform(0.3, 0.55)
    layers = np.where(share < 0.1, -12, np.where(share < fat, -30, -22)).astype(np.float32)
    layers = np.broadcast_to(layers, (chest.pleura, len(mm))).copy()
    for edge in (0.1, fat):
        layers += 12 * np.exp(-np.square((share - np.float32(edge)) / np.float32(0.04)))
    coarse = rng.standard_normal((4, len(mm) // 24 + 2), np.float32)
    layers += 3 * cv2.resize(coarse, (len(mm), chest.pleura), interpolation=cv2.INTER_CUBIC)
    top = chest.pleura - 4.5 / MM_PER_PX
    for rib in chest.ribs:
        across = (mm - np.float32(rib)) / np.float32(chest.rib_width / 2)
        inside = np.abs(across) < 1
        surface = np.float32(top) + np.float32(2 / MM_PER_PX) * np.square(across)
        below = np.clip((rows - surface) / 2, 0, 1) * inside
        layers += below * -35
        shine = np.where(inside, -4 - 3 * np.square(rows - surface), _DARK_DB).astype(np.float32)
        layers = np.maximum(layers, shine)
    return layers + _to_db(speckle(rng, layers.shape, None, _spread(rng), looks=2))


def _draw_lung(
    rng: Draws, chest: _Chest, findings: Sequence[_Finding], severity: int
) -> tuple[FloatArray, FloatArray]:
    """Return the level of pleural line, the little below it, and consolidations, dB; and where these are.

    The second map is from 0 to 1; both are (deep, N).
    """
    mm, deep = _map_mm(chest), SIDE_PX - chest.pleura
    depth = (np.arange(deep, dtype=np.float32) * np.float32(MM_PER_PX))[:, None]
    level = np.broadcast_to(-34 - np.float32(0.45) * depth, (deep, len(mm))).copy()
    uneven = _along(rng, mm, 2.5)
    thickness = np.float32(0.7) + np.float32(0.35) * np.clip(_along(rng, mm, 6), 0, 2) * min(severity, 2)
    ragged = np.float32(0.25 * severity) * np.abs(uneven)
    line = np.exp(-np.square((depth - ragged - np.float32(0.5)) / thickness))
    grains = np.float32(3) * _along(rng, mm, 0.8)  # they show that the lung slides
    tissue = np.zeros_like(level)
    for finding in findings:
        if finding.depth:
            np.maximum(tissue, _put_consolidation(rng, level, line, mm, depth, finding), out=tissue)
    level = np.maximum(level, -40 + 38 * line + grains * line)
    return level + np.float32(0.8) * _to_db(speckle(rng, level.shape, None, _spread(rng), looks=2)), tissue


def _put_consolidation(
    rng: Draws, level: FloatArray, line: FloatArray, mm: FloatArray, depth: FloatArray, finding: _Finding
) -> FloatArray:
    """Draw tissue with a shredded lower border and bright air in its bronchi; the line above it is broken.

    Returns:
        Where the tissue is, from 0 to 1, (deep, N).
    """
    half = np.float32((finding.end - finding.start) / 2)
    across = (mm - np.float32(finding.start) - half) / half
    arch = np.sqrt(np.clip(1 - np.square(across), 0, 1)) * np.float32(finding.depth)
    border = arch * (1 + np.float32(0.22) * _along(rng, mm, 1.6))
    inside = np.clip((border - depth) / np.float32(0.6), 0, 1) * (np.abs(across) < 1)
    level += inside * (np.float32(rng.uniform(-24, -19)) - level)
    rim = np.exp(-np.square((depth - border) / np.float32(0.8))) * (np.abs(across) < 1)
    level += rim * 0.8 * (-10 - level)
    below = np.clip((depth - border) / 2, 0, 1) * (np.abs(across) < 0.95)
    level += below * np.float32(rng.uniform(4, 10))
    for _ in range(int(finding.depth / 3)):
        x, y = rng.uniform(-0.6, 0.6), rng.uniform(0.2, 0.75)
        spot = np.square((mm - (finding.start + half * (1 + x))) / rng.uniform(0.6, 1.6))
        spot = spot + np.square((depth - y * finding.depth) / rng.uniform(0.4, 0.8))
        level += np.exp(-spot) * inside * np.float32(rng.uniform(8, 14))
    line *= 1 - np.float32(0.75) * np.clip((border - 1) / 2, 0, 1)
    return np.asarray(inside, np.float32)


def _along(rng: Draws, mm: FloatArray, cell_mm: float) -> FloatArray:
    """Return noise of unit variance along a map, whose cells have this length, (N,)."""
    cells = int((mm[-1] - mm[0]) / cell_mm) + 3
    coarse = rng.standard_normal((1, cells), np.float32)
    return np.asarray(cv2.resize(coarse, (len(mm), 1), interpolation=cv2.INTER_CUBIC)[0], np.float32)


def _draw_streaks(rng: Draws, chest: _Chest, deep: int) -> FloatArray:
    """Return what makes beams uneven: grains that are long along the beam, dB, (deep, N)."""
    mm = _map_mm(chest)
    coarse = rng.standard_normal((deep // 6, len(mm)), np.float32)
    return np.float32(3) * cv2.resize(coarse, (len(mm), deep), interpolation=cv2.INTER_LINEAR)


def _cover(rng: Draws, findings: Sequence[_Finding], lung_mm: FloatArray) -> FloatArray:
    """Return how much B-lines, which come and go a little, cover each column, from 0 to 1, (T, S)."""
    cover = np.zeros_like(lung_mm)
    for finding in findings:
        for place, half_width, strength in finding.lines:
            twinkle = np.float32(strength) * (np.float32(0.8) + np.float32(0.2) * _smooth(rng, len(cover), 5))
            beam = np.exp(-np.square((lung_mm - np.float32(place)) / np.float32(half_width)))
            np.maximum(cover, twinkle[:, None] * beam, out=cover)
    return cover


def _a_line_echo(rng: Draws, chest: _Chest, deep: int) -> FloatArray:
    """Return the level of A-lines, dB, (deep,): echoes of the pleural line at multiples of its depth."""
    row = np.arange(deep, dtype=np.float32)
    echo = np.full(deep, np.float32(-70))
    loss = rng.within((5, 8), (3, 11))
    for times in range(1, deep // chest.pleura + 1):
        shape = np.exp(-np.square((row - np.float32(times * chest.pleura)) / np.float32(1.4)))
        echo = np.maximum(echo, -70 + (64 - np.float32(times * loss)) * shape)
    return echo


def _bend_rows(rng: Draws, chest: _Chest, chest_mm: FloatArray) -> FloatArray:
    """Return the row that each pixel shows, (T, S, S), as the chest wall is bent, and pressed by the hand."""
    bend = np.float32(rng.within((1.0, 2.5), (0.5, 4.0))) * _along(rng, _map_mm(chest), 22)
    press = _smooth(rng, len(chest_mm), 15)[:, None] - np.float32(0.5)
    offset = _shift(bend[None], chest_mm)[:, 0] + 3 * press
    rows = np.arange(SIDE_PX, dtype=np.float32)
    near = np.clip(rows / np.float32(chest.pleura), 0, 1)  # the skin stays where it is
    return np.asarray(rows[:, None] + near[:, None] * offset[:, None], np.float32)


def _remap(level: FloatArray, rows: FloatArray) -> FloatArray:
    """Return levels whose pixels are those of other rows, (T, S, S)."""
    x = np.ascontiguousarray(np.broadcast_to(np.arange(SIDE_PX, dtype=np.float32), (SIDE_PX, SIDE_PX)))
    level = np.ascontiguousarray(level, np.float32)
    moved = np.empty_like(level)
    for frame, y, out in zip(level, rows, moved, strict=True):
        cv2.remap(frame, x, y, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)
    return moved
