"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.data.sample import MAX_JITTER

RecipePath = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", help="A recipe file, or a folder that holds recipe.yaml, such as agents/unet."
    ),
]
Methods = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN_OR_METHOD",
        help="Runs, classical methods, or RUN+RUN. RUN,RUN,RUN adds their mean, for runs of several seeds.",
    ),
]
Method = Annotated[str, typer.Argument(metavar="RUN", help="A run, a classical method, or RUN+RUN.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, such as data.name=busi; repeatable."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an earlier call stopped, or start where there was none.")
]
Data = Annotated[str, typer.Option(help="Name of the data set: phantom, busi, folder, ...")]
Root = Annotated[Path | None, typer.Option(help="Folder of the data set; $USRL_DATA/NAME if not given.")]
Split = Annotated[str, typer.Option(help="train, val, test or all.")]
SplitSeed = Annotated[int, typer.Option(min=0, help="Seed of the split, as in the recipe.")]
Labels = Annotated[float, typer.Option(help="Share of the training images, as data.labels in the recipe.")]
Count = Annotated[int, typer.Option(min=1, help="Number of phantom images.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the phantom.")]
Variety = Annotated[float, typer.Option(help="How far the phantom's looks range, from 0 to 1.")]
Starts = Annotated[
    int, typer.Option(min=1, help="Starts per box of agents and prompted networks; their masks vote.")
]
Jitter = Annotated[
    float, typer.Option(min=0, max=MAX_JITTER, help="Largest move of a box's side, as a share of the box.")
]
