"""From simulated images to a comparison report, in minutes and without any file."""

from importlib.resources import as_file, files
from pathlib import Path

import torch
import typer

from usrl.data.catalogue import load_split
from usrl.evaluation.compare import compare
from usrl.evaluation.methods import open_segmenter
from usrl.evaluation.report.columns import print_results
from usrl.files import make_empty_folder
from usrl.learners import train_folder
from usrl.runs.recipe import Recipe
from usrl.runs.recipes import load_recipe


def run_demo(out: Path, device: torch.device) -> None:
    """Train a U-Net and an agent on the phantom, compare them with classical methods and write a report.

    Writes the runs ``unet`` and ``agent``, and ``report``, into a new folder.
    """
    make_empty_folder(out)
    typer.echo("1/3  A U-Net learns to find the lesion in simulated images.")
    network = train_folder(load_demo_recipe("unet"), out / "unet", device)
    typer.echo("2/3  An agent learns to move a contour, from a box around the lesion, until it fits.")
    agent = train_folder(load_demo_recipe("agent"), out / "agent", device)
    typer.echo("3/3  Both, and three classical methods, segment images that neither has seen.")
    methods = ["proposal", "otsu", "chan-vese", str(network.path), str(agent.path)]
    segmenters = [open_segmenter(name, device) for name in [*methods, f"{network.path}+{agent.path}"]]
    data, curves = agent.recipe.data, {run.name: run.read_log() for run in (network, agent)}
    samples, report = load_split(data, "test"), out / "report"
    print_results(compare(segmenters, samples, report, dataset=data.name, split="test", curves=curves))
    typer.echo(f"wrote {report / 'report.html'}; open it in a browser")


def load_demo_recipe(name: str) -> Recipe:
    """Return the demonstration's recipe ``agent`` or ``unet``."""
    with as_file(files("usrl.demo") / f"{name}.yaml") as path:
        return load_recipe(path)
