"""Segmenters by the names and paths that a command line takes."""

import os.path
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch

from usrl.classical import CLASSICAL
from usrl.compute.devices import select_device
from usrl.errors import UserError, suggest
from usrl.evaluation.ensemble import Ensemble
from usrl.learners import load_object, open_run_interactive, open_run_segmenter
from usrl.runs.recipes import describe_unlike
from usrl.runs.run import open_run
from usrl.runs.shipped import list_shipped, locate
from usrl.segmenter import Method, Segmenter
from usrl.session import Interactive, Proposed

INTERACTIVE = {
    "pull": "usrl.envs.correct.methods:pull",
    "snap": "usrl.envs.correct.methods:snap",
    "random-walker": "usrl.classical.clicks:walk",
}
"""Methods that take corrections and learn nothing, by name."""


def open_segmenter(spec: str | Path, device: torch.device | str = "auto", starts: int = 1) -> Method:
    """Return the segmenter, or the ceiling, of a name.

    Args:
        spec: The name of a classical method (`usrl.classical.CLASSICAL`) or of a ceiling
            (`usrl.envs.threshold.placement.ORACLES`), the path of a run, the name of a shipped agent,
            ``FIRST+RUN`` or ``A:B:C``. In the chain RUN is an agent's run that starts from the masks of FIRST
            instead of boxes, a prompted network's run that is shown boxes around them, or a judge's run that
            chooses among the candidates of FIRST. With colons (`os.pathsep`) it is the `Ensemble` of all.
        device: Where networks and policies compute; see `usrl.compute.devices.select_device` for a text.
        starts: How often agents and prompted networks start on an image, from boxes near the given ones.
            Other methods start once, and so does FIRST.

    Raises:
        UserError: If no method and no run has the name, the parts of a chain do not fit together, or members
            of an ensemble that have only masks decide whatever its one network says.
    """
    spec, device = str(spec), select_device(device) if isinstance(device, str) else device
    if spec in CLASSICAL:
        return CLASSICAL[spec]()
    from usrl.envs.threshold.placement import ORACLES  # a classical method need not wait for it

    if spec in ORACLES:
        return ORACLES[spec]
    if chain := split_chain(spec):
        if chain[1] in CLASSICAL:
            raise UserError(
                f"{chain[1]} is a classical method; in FIRST+RUN the second is the run of an agent, "
                "a judge or a network that is shown a box"
            )
        proposer = open_segmenter(chain[0], device)
        if not isinstance(proposer, Segmenter) or proposer.track != "automatic":
            raise UserError(f"{proposer.name} needs boxes itself; put an automatic method first")
        return open_run_segmenter(open_run(chain[1]), device, proposer, starts)
    if members := split_members(spec):
        ensemble = Ensemble([_open_member(member, device, starts) for member in members])
        _check_votes(spec, members)
        return ensemble
    if "," in spec and not locate(spec).exists():
        raise UserError(
            f"{spec}: name one method; commas ask `usrl compare` for the mean of several trainings. One mask "
            f"of several networks is that of an ensemble, as in A{os.pathsep}B"
        )
    if _is_no_run(spec):
        if spec in INTERACTIVE:
            raise UserError(
                f"{spec} does not segment: it takes the corrections of a user, in `usrl annotate` and `usrl "
                "compare --user`. It is in no ensemble, and nothing starts from it; name another"
            )
        raise _unknown(spec, [*CLASSICAL, *ORACLES, *list_shipped()])
    return open_run_segmenter(open_run(spec), device, None, starts)


def open_interactive(spec: str | Path, device: torch.device | str = "auto") -> Interactive[Any]:
    """Return the method of a name that takes corrections; `usrl.session.Session` makes a session of it.

    Args:
        spec: A name of `INTERACTIVE`, the path of a run or the name of a shipped one, of an agent of
            `usrl/ContourCorrect-v0` or of a network with ``prompt: clicks`` or ``landmarks``; or
            ``FIRST+NAME``, which starts from the masks of a segmenter, prompted by the boxes or automatic.
        device: Where networks and policies compute.

    Raises:
        UserError: If no method and no run has the name, or it takes no corrections.
    """
    spec, device = str(spec), select_device(device) if isinstance(device, str) else device
    if chain := split_chain(spec):
        first = open_segmenter(chain[0], device)
        if not isinstance(first, Segmenter):
            raise UserError(f"{first.name} sees the target, and nobody can start from it; put a method first")
        return Proposed(first, open_interactive(chain[1], device))
    if split_members(spec):
        raise UserError(f"{spec}: an ensemble takes no corrections; start from it, as in {spec}+pull")
    if spec in INTERACTIVE:
        method: Interactive[Any] = load_object(INTERACTIVE[spec])(device)
        return method
    if _is_no_run(spec):
        raise _unknown(spec, [*INTERACTIVE, *list_shipped()], "a method that takes corrections")
    return open_run_interactive(open_run(spec), device)


def let_learn(method: Interactive[Any]) -> Interactive[Any] | None:
    """Return a method that learns from what its user accepts, or None if it cannot.

    The given one is not changed.
    """
    from usrl.agents.online import LearningAgent  # other methods need not wait for it
    from usrl.envs.correct.methods import ContourMethod

    if isinstance(method, Proposed):
        learning = let_learn(method.method)
        return None if learning is None else Proposed(method.proposer, learning)
    return LearningAgent(method) if isinstance(method, ContourMethod) and LearningAgent.fits(method) else None


def _open_member(spec: str, device: torch.device, starts: int) -> Segmenter:
    method = open_segmenter(spec, device, starts)
    if not isinstance(method, Segmenter):
        raise UserError(f"{method.name} sees the target and has no part in an ensemble; leave it out")
    return method


def _check_votes(spec: str, members: list[str]) -> None:
    """Refuse an ensemble in which one network's probabilities never count against an odd number of masks."""
    folders = {member: find_run(member) for member in members}
    networks = [name for name, run in folders.items() if run and open_run(run).recipe.kind == "network"]
    if len(networks) == 1 and len(members) % 2 == 0:
        raise UserError(
            f"{spec}: only {networks[0]} is a network and has probabilities; whatever it says, the masks of "
            "the others decide. Join it with another network, or leave it out"
        )


def _is_no_run(spec: str) -> bool:
    """Return whether a text is the path of nothing and does not look like one."""
    return not spec or (not locate(spec).exists() and "/" not in spec)  # an empty path is the current folder


def _unknown(spec: str, known: list[str], wanted: str = "a method") -> UserError:
    return UserError(f"{spec!r} is neither {wanted} nor a run; {suggest(spec, known)}")


def find_run(name: str) -> Path | None:
    """Return the folder of a run that a text without ``+`` and ``:`` names; None if it names something else.

    A folder may have the name of a method, such as the one that its masks were written to.
    """
    from usrl.envs.threshold.placement import ORACLES

    is_run = name and name not in CLASSICAL | ORACLES and locate(name).is_dir()
    return locate(name) if is_run else None


def split_runs(method: str) -> list[str]:
    """Return the runs whose mean a text asks for, between commas; most texts name one.

    Raises:
        UserError: If a run is named twice or unknown, or they are not trainings of one recipe, part by part.
    """
    runs = [method] if os.path.exists(method) else method.split(",")  # a folder may have a comma in its name
    if len(runs) > 1 and not all(runs):
        raise UserError(f"{method!r} needs a name on both sides of each ','")
    if len(set(map(_identify, runs))) < len(runs):
        raise UserError(f"{method}: a run is named twice; name each run of a mean once")
    if told := next(filter(None, (_tell_unlike(runs[0], other) for other in runs[1:])), ""):
        raise UserError(
            f"{method}: commas join trainings of one recipe, which differ in seed, but {told}; put a space "
            "between different methods"
        )
    return runs


def _tell_unlike(first: str, second: str) -> str:
    """Return in words how two methods are not trainings of one recipe, part by part; nothing if they are."""
    if _identify(first) == _identify(second):
        return ""
    parts, others = split_method(first), split_method(second)
    is_same_kind = (split_chain(first) is None) == (split_chain(second) is None)
    if parts and len(parts) == len(others) and is_same_kind:
        return next(filter(None, map(_tell_unlike, parts, others)), "")
    if not parts and not others:
        from usrl.envs.threshold.placement import ORACLES

        known = [*CLASSICAL, *ORACLES, *INTERACTIVE, *list_shipped()]
        for spec in (first, second):
            if _is_no_run(spec) and spec not in known:
                raise _unknown(spec, known)
        runs = [open_run(spec) for spec in (first, second) if find_run(spec) or "/" in spec]
        if len(runs) == 2:
            keys = describe_unlike(runs[0].recipe, runs[1].recipe)
            return keys and f"{first} and {second} differ in {keys}"
    return f"{first} and {second} are two methods"


def _identify(spec: str) -> Hashable:
    """Return what is equal for two texts of one method."""
    if chain := split_chain(spec):
        return tuple(map(_identify, chain))
    if members := split_members(spec):
        return frozenset(map(_identify, members))
    folder = find_run(spec)
    return spec if folder is None else folder.resolve()


def split_method(spec: str) -> list[str]:
    """Return the methods that a text joins: both of a chain, or the members of an ensemble; else none."""
    return list(split_chain(spec) or split_members(spec))


def split_members(spec: str) -> list[str]:
    """Return the members of ``A:B:C``, else none. The name of a folder may have a colon too.

    Raises:
        UserError: If a member has no name, or is named twice.
    """
    if os.path.exists(spec) or os.pathsep not in spec:
        return []
    members = spec.split(os.pathsep)
    if not all(members):
        raise UserError(f"{spec!r} needs a name on both sides of each {os.pathsep!r}")
    if len(set(map(_identify, members))) < len(members):
        raise UserError(f"{spec}: a member of an ensemble is named twice; name each once")
    return members


def split_chain(spec: str) -> tuple[str, str] | None:
    """Return both parts of ``FIRST+RUN``, else None. The name of a folder may have a plus too.

    Raises:
        UserError: If a part has no name, or the second is an ensemble.
    """
    if os.path.exists(spec) or "+" not in spec:
        return None
    pluses = [place for place, letter in enumerate(spec) if letter == "+"]
    pairs = [(spec[:place], spec[place + 1 :]) for place in reversed(pluses)]
    first, second = next((pair for pair in pairs if locate(pair[1]).is_dir()), pairs[0])
    if not first or not second:
        raise UserError(f"{spec!r} needs a name on both sides of the '+'")
    if split_members(second):
        raise UserError(
            f"{second}: only the first part of a chain can be an ensemble, as in A{os.pathsep}B+RUN; "
            "an ensemble has no chains as members"
        )
    return first, second
