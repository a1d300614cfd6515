"""Segmenters by the names and paths that a command line takes."""

import os.path
from pathlib import Path

import torch

from usrl.classical import CLASSICAL
from usrl.compute.devices import select_device
from usrl.errors import UserError, suggest
from usrl.learners import open_run_segmenter
from usrl.runs.run import open_run
from usrl.runs.shipped import list_shipped, locate
from usrl.segmenter import Method, Segmenter


def open_segmenter(spec: str | Path, device: torch.device | str = "auto", starts: int = 1) -> Method:
    """Return the segmenter, or the ceiling, of a name.

    Args:
        spec: The name of a classical method (`usrl.classical.CLASSICAL`) or of a ceiling
            (`usrl.envs.threshold.placement.ORACLES`), the path of a run, the name of a shipped agent, or
            ``FIRST+RUN``. There RUN is an agent's run that starts from the masks of FIRST instead of boxes,
            or a judge's run that chooses among the candidates of FIRST.
        device: Where networks and policies compute; see `usrl.compute.devices.select_device` for a text.
        starts: How often agents and prompted networks start on an image, from boxes near the given ones.
            Other methods start once, and so does FIRST.

    Raises:
        UserError: If no method and no run has the name, or the parts of a chain do not fit together.
    """
    spec, device = str(spec), select_device(device) if isinstance(device, str) else device
    if spec in CLASSICAL:
        return CLASSICAL[spec]()
    from usrl.envs.threshold.placement import ORACLES  # a classical method need not wait for it

    if spec in ORACLES:
        return ORACLES[spec]
    if chain := split_chain(spec):
        proposer = open_segmenter(chain[0], device)
        if not isinstance(proposer, Segmenter) or proposer.track != "automatic":
            raise UserError(f"{proposer.name} needs boxes itself; put an automatic method first")
        return open_run_segmenter(open_run(chain[1]), device, proposer, starts)
    if not spec or (not locate(spec).exists() and "/" not in spec):  # an empty path is the current folder
        known = [*CLASSICAL, *ORACLES, *list_shipped()]
        raise UserError(f"{spec!r} is neither a method nor a run; {suggest(spec, known)}")
    return open_run_segmenter(open_run(spec), device, None, starts)


def split_chain(spec: str) -> tuple[str, str] | None:
    """Return both parts of ``FIRST+RUN``, else None. The name of a folder may have a plus too."""
    if os.path.exists(spec) or "+" not in spec:
        return None
    pluses = [place for place, letter in enumerate(spec) if letter == "+"]
    pairs = [(spec[:place], spec[place + 1 :]) for place in reversed(pluses)]
    return next((pair for pair in pairs if locate(pair[1]).is_dir()), pairs[0])
