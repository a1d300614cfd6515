"""The command line. Heavy modules are imported inside the commands, so that help comes at once."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from usrl.errors import UserError

if TYPE_CHECKING:
    from usrl.data.sample import Sample
    from usrl.recipes import DataRecipe


class _Group(TyperGroup):
    """Says in words what a user can mend, and ends with status 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.echo(f"usrl: {error}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"usrl: {where}{error.strerror or error}; check path, permissions and space", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("usrl: interrupted; train and proposals go on with --resume", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reinforcement-learning environments for ultrasound segmentation.",
)
data_app = typer.Typer(no_args_is_help=True, help="Check a data set, or write a synthetic one.")
app.add_typer(data_app, name="data")

RecipePath = Annotated[Path, typer.Argument(help="A recipe file, or a folder that holds recipe.yaml.")]
Methods = Annotated[
    list[str], typer.Argument(metavar="RUN_OR_METHOD", help="Runs, classical methods, or RUN+RUN.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier call stopped.")]
Data = Annotated[str, typer.Option(help="Name of the data set: phantom, busi, folder, ...")]
Root = Annotated[Path | None, typer.Option(help="Folder of the data set; $USRL_DATA/NAME if not given.")]
Split = Annotated[str, typer.Option(help="train, val, test or all.")]
SplitSeed = Annotated[int, typer.Option(min=0, help="Seed of the split, as in the recipe.")]
Count = Annotated[int, typer.Option(min=1, help="Number of phantom images.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the phantom.")]
Jitter = Annotated[float, typer.Option(help="Largest move of a box's side, as a share of the box.")]


@app.command()
def envs() -> None:
    """List the registered environments."""
    from usrl.registry import REGISTRY

    for env_id, row in REGISTRY.items():
        typer.echo(f"{env_id:<24} {row.max_episode_steps:>4} steps  {row.summary}")


@data_app.command("check")
def check_data(name: Annotated[str, typer.Argument(help="Name of the data set.")], root: Root = None) -> None:
    """Count images, groups and duplicates, and name faults; status 1 where there are faults."""
    from usrl.data.catalogue import check_dataset

    report = check_dataset(name, root, show_progress=True)
    typer.echo("\n".join(report.lines()))
    if not report.is_sound:
        raise typer.Exit(1)


@data_app.command("phantom")
def write_phantom_data(
    out: Annotated[Path, typer.Option(help="New folder to write.")], count: Count = 200, seed: Seed = 0
) -> None:
    """Write a synthetic data set as PNG."""
    from usrl.data.phantom import write_phantom

    paths = write_phantom(out, count, seed)
    typer.echo(f"wrote {len(paths)} images with masks to {out}; use them with --data folder --root {out}")


@app.command()
def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/NAME of the recipe if not given.")
    ] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train the agent or the network of a recipe."""
    from usrl.recipes import load_recipe

    loaded = load_recipe(recipe, overrides or ())  # a slip in the recipe is told before torch is imported
    from usrl.data.catalogue import require_dataset
    from usrl.runs import create_run, select_device

    where = select_device(device)
    require_dataset(loaded.data)  # before there is a folder that a second call would find taken
    run = create_run(out or Path("runs") / _name_of(recipe), loaded, resume=resume)
    if loaded.kind == "network":
        from usrl.baselines.training import train_network

        train_network(run, where, resume=resume)
    else:
        from usrl.agents.training import train_agent

        train_agent(run, where, resume=resume)
    typer.echo(f"wrote {run.weights_path}")


@app.command()
def proposals(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    folds: Annotated[int, typer.Option(min=2, help="Number of networks to train.")] = 5,
    overrides: Overrides = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Write a network's masks of training images that it did not see, for agents to start from."""
    from usrl.baselines.proposals import write_proposals
    from usrl.recipes import NetworkRecipe, load_recipe
    from usrl.runs import select_device

    loaded = load_recipe(recipe, overrides or ())
    if not isinstance(loaded, NetworkRecipe):
        raise UserError(f"{recipe}: proposals want a recipe of kind 'network', got {loaded.kind!r}")
    write_proposals(loaded, out, folds, select_device(device), resume=resume)
    typer.echo(f"wrote {out}; train on it with --set env.proposals={out} --set env.kwargs.proposal=network")


@app.command()
def ablate(
    plan: Annotated[Path, typer.Argument(help="A plan's file, or a folder that holds ablation.yaml.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write or go on with; runs/FOLDER-PLAN if not given.")
    ] = None,
    device: Device = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once, each with one thread.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A group or GROUP/VARIANT; repeatable.")
    ] = None,
) -> None:
    """Train the variants of a plan over several seeds and write the table of their differences."""
    from usrl.ablation.pipeline import AblationCall, run_ablation

    table = run_ablation(AblationCall(plan, out, device, jobs, tuple(only or ())))
    typer.echo(table.read_text(encoding="utf-8"))
    typer.echo(f"wrote {table}, with ablation.csv, cases.csv and ablation.json beside it")


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run, a classical method, or RUN+RUN.")],
    data: Data,
    root: Root = None,
    split: Split = "test",
    out: Annotated[Path | None, typer.Option(help="Report folder; inside the run if not given.")] = None,
    device: Device = "auto",
    split_seed: SplitSeed = 0,
    count: Count = 200,
    seed: Seed = 0,
    jitter: Jitter = 0.2,
) -> None:
    """Score one run on a split and write a report."""
    if out is None and not Path(run).is_dir():
        raise UserError(f"{run} is no folder to write into; give the report's folder with --out DIR")
    chosen = _data(data, root, split_seed, count, seed)
    _report([run], chosen, split, out or Path(run) / f"evaluation-{data}-{split}", device, jitter)


@app.command()
def compare(
    methods: Methods,
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder for the report.")],
    root: Root = None,
    split: Split = "test",
    device: Device = "auto",
    split_seed: SplitSeed = 0,
    count: Count = 200,
    seed: Seed = 0,
    jitter: Jitter = 0.2,
) -> None:
    """Score several methods on the same images and write a report."""
    _report(methods, _data(data, root, split_seed, count, seed), split, out, device, jitter)


@app.command()
def segment(
    run: Annotated[str, typer.Argument(help="A run, a classical method, or RUN+RUN.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlays and JSON.")],
    box: Annotated[
        list[str] | None, typer.Option(metavar="X0,Y0,X1,Y1", help="A lesion's box in pixels; repeatable.")
    ] = None,
    spacing_mm: Annotated[
        str | None, typer.Option(metavar="ROW,COLUMN", help="Pixel size in mm; areas are in px without.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Segment images: a mask, an overlay and a JSON with area and perimeter for each."""
    from usrl.data.prompts import parse_box
    from usrl.evaluation.segmentation import segment_files
    from usrl.evaluation.segmenter import open_segmenter
    from usrl.runs import select_device

    prompt = tuple(parse_box(text) for text in box or ()) or None
    spacing = _parse_spacing(spacing_mm) if spacing_mm else None
    segmenter = open_segmenter(run, select_device(device))
    for row in segment_files(segmenter, images, prompt, out, spacing):
        figures = [f"{key} {value:g}" for key, value in row.items() if key.startswith(("area", "perimeter"))]
        typer.echo(f"{row['image']}: {', '.join(figures)}")
    typer.echo(f"wrote mask, overlay and JSON of {len(images)} images to {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="New folder to write.")] = Path("demo"), device: Device = "auto"
) -> None:
    """Train a U-Net and an agent on the phantom and compare them: minutes on two cores."""
    from usrl.demo.pipeline import run_demo
    from usrl.runs import select_device

    run_demo(out, select_device(device))


def _report(
    methods: Sequence[str], data: "DataRecipe", split: str, out: Path, device: str, jitter: float
) -> None:
    from usrl.data.catalogue import load_split
    from usrl.evaluation.compare import compare as compare_segmenters
    from usrl.evaluation.segmenter import open_segmenter
    from usrl.evaluation.tables import print_results
    from usrl.runs import select_device

    where = select_device(device)
    segmenters = [open_segmenter(method, where) for method in methods]
    samples = load_split(data.name, data.root, split, data.split_seed, count=data.count, seed=data.seed)
    runs = [path for method in methods for path in _run_folders(method)]
    if split == "test":
        for path in runs:
            _refuse_seen(path, data, samples)
    curves = _read_curves(runs)
    results = compare_segmenters(
        segmenters, samples, out, dataset=data.name, split=split, jitter=jitter, curves=curves
    )
    print_results(results)
    typer.echo(f"wrote {out / 'report.html'}, with cases.csv and results.json beside it")


def _data(name: str, root: Path | None, split_seed: int, count: int, seed: int) -> "DataRecipe":
    from usrl.recipes import DataRecipe

    text = None if root is None else str(root)
    return DataRecipe(name=name, root=text, split_seed=split_seed, count=count, seed=seed)


def _run_folders(method: str) -> list[Path]:
    """Return the run folders that a method's text names: none, one, or those of a chain."""
    from usrl.agents.threshold_segmenter import ORACLES
    from usrl.baselines.classical import CLASSICAL

    parts = [method] if Path(method).exists() else method.split("+")
    # A folder may have the name of a method, such as the one that its masks were written to.
    return [Path(part) for part in parts if Path(part).is_dir() and part not in CLASSICAL | ORACLES]


def _read_curves(runs: Sequence[Path]) -> dict[str, list[dict[str, float]]]:
    """Return the logs of runs; those of one folder name are told apart as methods of one name are."""
    from usrl.runs import open_run

    names: Counter[str] = Counter()
    curves = {}
    for path in dict.fromkeys(runs):
        names[path.name] += 1
        count = names[path.name]
        curves[path.name if count == 1 else f"{path.name} ({count})"] = open_run(path).read_log()
    return curves


def _refuse_seen(path: Path, data: "DataRecipe", samples: "Sequence[Sample]") -> None:
    """Raise where test images are among those that a run was trained on, by its split.tsv."""
    from usrl.data.catalogue import resolve_root
    from usrl.runs import open_run

    run = open_run(path)
    own = run.recipe.data
    is_same = own.name == data.name and (own.name != "phantom" or own.seed == data.seed)
    # Folders of different places may use the same file names.
    is_same &= own.name != "folder" or resolve_root(own) == resolve_root(data)
    if not is_same or not run.split_path.is_file():
        return
    lines = [line.split("\t") for line in run.split_path.read_text(encoding="utf-8").splitlines()]
    seen = {line[-1] for line in lines if line[0] in ("train", "val")}
    both = [sample.name for sample in samples if sample.name in seen]
    if both:
        raise UserError(
            f"{path} was trained on {len(both)} of these {len(samples)} test images, such as {both[0]!r}; "
            f"give --split-seed {own.split_seed} --count {own.count}, as in its recipe"
        )


def _name_of(recipe: Path) -> str:
    """Return the name of a recipe: its folder's, or its own where it is not called recipe.yaml."""
    path = recipe.resolve()
    return path.parent.name if path.name == "recipe.yaml" else path.stem


def _parse_spacing(text: str) -> tuple[float, float]:
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--spacing-mm wants ROW,COLUMN in mm, got {text!r}; such as 0.1,0.1") from None
    return row, column
