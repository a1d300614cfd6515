"""The command that scores methods. `usrl evaluate` is `usrl compare` of one run."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from usrl.cli import options
from usrl.data.sample import DEFAULT_JITTER
from usrl.errors import UserError

if TYPE_CHECKING:
    import torch

    from usrl.agents.players import Player
    from usrl.agents.recipe import EnvRecipe
    from usrl.data.recipe import DataRecipe
    from usrl.data.sample import Sample
    from usrl.envs.task import Task
    from usrl.evaluation.compare import Additions
    from usrl.runs.run import Run
    from usrl.segmenter import Method


def compare(
    methods: options.Methods,
    data: options.Data,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder for the report; for a single run evaluation-DATA-SPLIT inside it, if not given."
        ),
    ] = None,
    root: options.Root = None,
    structure: options.Structure = None,
    split: options.Split = "test",
    device: options.Device = "auto",
    split_seed: options.SplitSeed = 0,
    split_file: options.SplitFile = None,
    window: options.WindowOption = None,
    labels: options.Labels = 1.0,
    count: options.Count = 200,
    seed: options.Seed = 0,
    variety: options.Variety = 0.0,
    jitter: options.Jitter = DEFAULT_JITTER,
    starts: options.Starts = 1,
    env: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Let agents, random and teacher play episodes of an environment."),
    ] = None,
    user: options.User = None,
    learn: Annotated[
        bool,
        typer.Option("--learn", help="Add to each corrected agent one that learns from accepted masks."),
    ] = False,
    most: Annotated[
        int | None, typer.Option("--images", min=1, help="With a user: only the first images of the split.")
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option("--cases", help="New CSV for the scores of every image, without times, to be shared."),
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="CSV", help="Add methods by their cases.csv; repeatable."),
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Add an automatic method by its masks; repeatable."),
    ] = None,
    prompted_masks: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="The same for a method that had boxes; repeatable."),
    ] = None,
    external: Annotated[
        str | None,
        typer.Option(
            metavar="DATA[:STRUCTURE][=ROOT]",
            help="Score the methods on all images of another data set too, and report the drop.",
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="With --fold: folds of a cross-validation.")
    ] = None,
    fold: Annotated[int | None, typer.Option(min=1, help="The fold that is the test part.")] = None,
) -> None:
    """Score methods on the same images and write a report.

    The report is report.html, next to cases.csv and results.json. On clips, every frame is segmented.

    Prompted methods get the same jittered box around every lesion. Agents whose environment makes no masks,
    random and teacher play the same episodes instead: one for each case. With a user, methods are corrected
    up to 20 times on each image, and the table says how their Dice grows.
    """
    from usrl.compute.devices import select_device
    from usrl.data.catalogue import describe_data, kind_of, load_split
    from usrl.data.clips.clips import CLIPS
    from usrl.data.reading.windows import parse_window
    from usrl.data.recipe import DataRecipe
    from usrl.evaluation.compare import check_claim
    from usrl.evaluation.compare import compare as score
    from usrl.evaluation.methods import open_segmenter, split_runs
    from usrl.evaluation.report.case_files import check_free, publish_cases
    from usrl.evaluation.report.columns import print_results
    from usrl.registry import IMAGES
    from usrl.strict import check

    if out is not None:
        check_claim(out)
    where = {"name": data, "root": None if root is None else str(root), "split_seed": split_seed}
    which = {"structure": structure, "labels": labels, "count": count, "seed": seed, "variety": variety}
    which |= {"folds": folds, "fold": fold}
    files = {"window": None if window is None else parse_window(window), "split_file": split_file}
    recipe = check(DataRecipe, where | which | files, "options of the data set")
    groups = [split_runs(method) for method in methods]
    chosen = select_device(device)
    if published is not None:
        check_free(published)
        if user is not None or env is not None or kind_of(data) != IMAGES:
            raise UserError("--cases is for methods that segment images; leave it out")
    added = Added(tuple(tables or ()), tuple(masks or ()), tuple(prompted_masks or ()), external)
    if user is not None:
        added.refuse("with a user")
        correcting = Correcting(user, jitter, learn, most)
        _correct(groups, recipe, split, out, chosen, correcting)
        return
    if learn or most is not None:
        raise UserError("--learn and --images are for methods that a user corrects; give --user centre")
    if published is None and _play(groups, recipe, split, out, chosen, env, added):
        return
    segmenters = [[open_segmenter(run, chosen, starts) for run in runs] for runs in groups]
    if kind_of(data) == CLIPS:
        added.refuse("on clips")
        _compare_on_clips(groups, segmenters, recipe, split, out)
        return
    of = f"{data}-{structure}" if structure else data
    name = f"evaluation-{of}-{split}" + (f"-x{starts}" if starts > 1 else "")
    folder = out or _report_folder(methods, name)
    samples = load_split(recipe, split)
    paths = [path for runs in groups for run in runs for path in _run_folders(run)]
    _check_runs(paths, recipe, split, [sample.name for sample in samples])
    told, curves = describe_data(recipe), _read_curves(paths)
    results = score(
        [*segmenters, *([method] for method in added.open_masks(samples))],
        samples,
        folder,
        dataset=told,
        split=split,
        jitter=jitter,
        curves=curves,
        more=added.read(recipe, samples, paths),
    )
    print_results(results)
    if published is not None:
        publish_cases(folder, published)
        typer.echo(f"wrote {published}")
    typer.echo(f"wrote {folder / 'report.html'}, with cases.csv and results.json next to it")


class Added(NamedTuple):
    """Options of a comparison of masks: results from elsewhere, and another data set."""

    tables: tuple[Path, ...]
    masks: tuple[str, ...]
    prompted_masks: tuple[str, ...]
    external: str | None

    def refuse(self, where: str) -> None:
        """Raise if any of these options is given to a comparison that has no use for them."""
        if any(self):
            raise UserError(
                f"--with, --masks, --prompted-masks and --external are for masks of images, not {where}; "
                "leave them out"
            )

    def open_masks(self, samples: "Sequence[Sample]") -> "list[Method]":
        """Return the folders of masks as methods."""
        from usrl.evaluation.foreign import MaskFolder

        methods: list[Method] = []
        lesions = [sample for sample in samples if sample.target.any()]
        for text in self.masks:
            methods.append(MaskFolder(*_parse_masks(text), samples))
        for text in self.prompted_masks:  # an image without a lesion has no box
            methods.append(MaskFolder(*_parse_masks(text), lesions, "prompted"))
        return methods

    def read(self, data: "DataRecipe", samples: "Sequence[Sample]", runs: Sequence[Path]) -> "Additions":
        """Return tables and external images, from which no run has learned."""
        from usrl.data.catalogue import describe_data, has_same_images, load_split
        from usrl.evaluation.compare import Additions
        from usrl.evaluation.foreign import read_cases

        lesions = [sample for sample in samples if sample.target.any()]
        tables = [read_cases(path, lesions) for path in self.tables]
        if self.external is None:
            return Additions(tables)
        other = _parse_external(self.external)
        if has_same_images(other, data):
            raise UserError(f"--external {self.external}: is the data set of --data; name another")
        for link in _trace_all(runs):
            if has_same_images(link.recipe.data, other):
                raise UserError(
                    f"--external {self.external}: {link.path} was trained on this data set; an external test "
                    "is on images of a set from which nothing was learned"
                )
        found = [sample for sample in load_split(other, "all") if sample.target.any()]
        return Additions(tables, found, describe_data(other))


def _parse_masks(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UserError(f"--masks wants NAME=FOLDER, such as mine=results/masks, got {text!r}")
    return name, Path(folder)


def _parse_external(text: str) -> "DataRecipe":
    """Return the data of ``DATA``, ``DATA:STRUCTURE``, ``DATA=ROOT`` or ``DATA:STRUCTURE=ROOT``."""
    from usrl.data.recipe import DataRecipe
    from usrl.strict import check

    data, _, root = text.partition("=")
    name, _, structure = data.partition(":")
    where = {"name": name, "structure": structure or None, "root": root or None}
    return check(DataRecipe, where, f"--external {text}")


def _compare_on_clips(
    groups: Sequence[Sequence[str]],
    segmenters: "Sequence[Sequence[Method]]",
    data: "DataRecipe",
    split: str,
    out: Path | None,
) -> None:
    """Compare automatic methods on the masks of clips, at the size that the first run has learned from."""
    from usrl.data.catalogue import describe_data, load_cases
    from usrl.evaluation.clips import compare_clips, print_clips
    from usrl.runs.run import open_run

    specs = [spec for group in groups for spec in group]
    folder = out or _report_folder(specs, f"evaluation-{data.name}-{split}")
    paths = [path for spec in specs for path in _run_folders(spec)]
    if paths:
        data = data.model_copy(update={"size": open_run(paths[0]).recipe.data.size})
    clips = load_cases(data, split)
    _check_runs(paths, data, split, list(clips.names))
    told, curves = describe_data(data), _read_curves(paths)
    print_clips(compare_clips(segmenters, clips, folder, dataset=told, split=split, curves=curves))
    typer.echo(f"wrote {folder / 'report.html'}, with cases.csv and results.json next to it")


class Correcting(NamedTuple):
    """Options of a comparison with a user."""

    user: str
    jitter: float
    learn: bool
    images: int | None


def _correct(
    groups: Sequence[Sequence[str]],
    data: "DataRecipe",
    split: str,
    out: Path | None,
    device: "torch.device",
    correcting: "Correcting",
) -> None:
    """Compare methods that a simulated user corrects."""
    from usrl.data.catalogue import describe_data, load_split
    from usrl.evaluation.corrections import Meeting, compare_corrections, print_corrections
    from usrl.evaluation.methods import let_learn, open_interactive
    from usrl.users.users import find_user

    user = correcting.user
    meeting = Meeting(find_user(user), jitter=correcting.jitter)
    specs = [spec for group in groups for spec in group]
    methods = [[open_interactive(spec, device) for spec in group] for group in groups]
    if correcting.learn:
        learning = [[own for each in group if (own := let_learn(each))] for group in methods]
        if not any(learning):
            raise UserError("--learn: none of these methods can learn; name an agent of contour correction")
        methods += [group for group in learning if group]
    folder = out or _report_folder(specs, f"evaluation-{data.name}-{split}-{user}")
    samples = [sample for sample in load_split(data, split) if sample.target.any()][: correcting.images]
    paths = [path for spec in specs for path in _run_folders(spec)]
    _check_runs(paths, data, split, [sample.name for sample in samples])
    results = compare_corrections(methods, samples, folder, meeting, dataset=describe_data(data), split=split)
    print_corrections(results)
    typer.echo(f"wrote {folder / 'report.html'}, with cases.csv and results.json next to it")


def _play(
    groups: Sequence[Sequence[str]],
    data: "DataRecipe",
    split: str,
    out: Path | None,
    device: "torch.device",
    env_id: str | None,
    added: "Added",
) -> bool:
    """Compare players if that is asked for; return whether it was."""
    from usrl.data.catalogue import describe_data, kind_of
    from usrl.data.clips.clips import CLIPS
    from usrl.evaluation.episodes import compare_players, find_environment, print_players

    specs = [spec for group in groups for spec in group]
    runs = open_runs(specs)
    env = find_environment(specs, list(runs.values()), env_id)
    if env is None:
        return False
    added.refuse("in episodes")
    folder = out or _report_folder(specs, f"evaluation-{data.name}-{split}")
    if runs and kind_of(data.name) == CLIPS:  # at the size that the agent has learned
        data = data.model_copy(update={"size": next(iter(runs.values())).recipe.data.size})
    task, opened = open_stage(specs, runs, env, data, split, device)
    each = iter(opened)
    players = [[next(each) for _ in group] for group in groups]
    curves = _read_curves([run.path for run in runs.values()])
    results = compare_players(
        task, players, folder, env.id, dataset=describe_data(data), split=split, curves=curves
    )
    print_players(results)
    typer.echo(f"wrote {folder / 'report.html'}, with cases.csv and results.json next to it")
    return True


def open_runs(specs: Sequence[str]) -> "dict[str, Run]":
    """Return the runs among the texts of a command line."""
    from usrl.runs.run import open_run

    return {spec: open_run(path) for spec in specs for path in _run_folders(spec)[:1]}


def open_stage(
    specs: Sequence[str],
    runs: "Mapping[str, Run]",
    env: "EnvRecipe",
    data: "DataRecipe",
    split: str,
    device: "torch.device",
) -> "tuple[Task[Any], list[Player]]":
    """Return the task over a part of a data set, and the players that a command line names."""
    from usrl.agents.cases import load_playing_cases
    from usrl.evaluation.episodes import open_players
    from usrl.registry import build_task, drop_training_only, find_sources
    from usrl.runs.shipped import locate

    cases = load_playing_cases(env.id, data, split)
    paths = [run.path for run in runs.values()]
    paths += [locate(source) for source in find_sources(env.id, env.kwargs).values()]
    _check_runs(paths, data, split, list(dict.fromkeys(cases.names)))
    kwargs = drop_training_only(env.id, env.kwargs)
    task = build_task(env.id, cases.to(device), kwargs, env.max_episode_steps)
    return task, open_players(specs, runs, task, env, device)


def _report_folder(methods: Sequence[str], name: str) -> Path:
    """Return the folder of a single run's report: inside the run, or in runs/ if usrl ships the run."""
    from usrl.runs.shipped import is_shipped, locate

    folder = locate(methods[0])
    if len(methods) > 1 or not folder.is_dir():
        what = "several methods have no folder" if len(methods) > 1 else f"{methods[0]} is not a folder"
        raise UserError(f"{what} to write into; give the report's folder with --out DIR")
    return Path("runs") / f"{folder.name}-{name}" if is_shipped(folder) else folder / name


def _check_runs(paths: Sequence[Path], data: "DataRecipe", split: str, names: Sequence[str]) -> None:
    """Raise if a run, or what it started from, has learned from images that it must not be scored on."""
    # What a run started from may have learned from fewer training images.
    for link in _open_all(paths) if split == "train" else _trace_all(paths):
        _check_images(link, data, split, names)


def _open_all(paths: Sequence[Path]) -> "list[Run]":
    """Return runs and their refiners."""
    from usrl.runs.run import open_run

    opened = [open_run(path) for path in paths]
    return opened + [open_run(run.refiner_path) for run in opened if run.refiner_path.is_dir()]


def _trace_all(paths: Sequence[Path]) -> "list[Run]":
    """Return runs, their refiners and all that these have started from."""
    from usrl.runs.leaks import trace

    return [link for run in _open_all(paths) for link in trace(run)]


def _run_folders(method: str) -> list[Path]:
    """Return the run folders that a method's text names: none, one, or those of the methods that it joins."""
    from usrl.evaluation.methods import find_run, split_method

    if joined := split_method(method):
        return [path for part in joined for path in _run_folders(part)]
    folder = find_run(method)
    return [] if folder is None else [folder]


def _read_curves(runs: Sequence[Path]) -> dict[str, list[dict[str, float]]]:
    """Return the logs of runs; equal names get the numbers of `usrl.evaluation.compare.free_name`."""
    from usrl.evaluation.compare import free_name
    from usrl.runs.run import open_run

    curves: dict[str, list[dict[str, float]]] = {}
    for run in map(open_run, dict.fromkeys(runs)):
        curves[free_name(run.name, curves)] = run.read_log()
    return curves


def _check_images(run: "Run", data: "DataRecipe", split: str, names: Sequence[str]) -> None:
    """Raise if a run's split.tsv contradicts the part that it is scored on, or is missing; for all, warn."""
    from usrl.data.catalogue import SIMULATED
    from usrl.runs.leaks import FORBIDDEN, find_parts

    wrong = ("unused",) if split == "train" else FORBIDDEN["val" if split == "val" else "test"]
    try:
        parts = find_parts(run, data, list(names))
    except UserError as error:
        if split != "all":
            raise
        warnings.warn(f"{error}", stacklevel=2)
        return
    found = [name for name in names if parts.get(name) in wrong]
    if not found:
        return
    if split == "all":
        seen = f"{len(found)} of these {len(names)} images"
        warnings.warn(f"{run.path} has learned from {seen} and is better on them", stacklevel=2)
        return
    own = run.recipe.data
    was = "was not trained on" if split == "train" else "was trained on"
    count = f" --count {own.count}" if own.name in SIMULATED else ""
    labels = f" --labels {own.labels:g}" if split == "train" else ""
    labels += "" if own.folds is None else f" --folds {own.folds} --fold {own.fold}"
    how = f"seed {own.split_seed}" if own.split_file is None else f"file {own.split_file}"
    raise UserError(
        f"{run.path} {was} {len(found)} of these {len(names)} {split} images, such as {found[0]!r}; "
        f"give --split-{how}{count}{labels}, as in its recipe"
    )
