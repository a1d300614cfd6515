"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from usrl.data.sample import MAX_JITTER

RecipePath = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, a folder that holds recipe.yaml, or a name that `usrl agents` lists.",
    ),
]
_METHOD = (
    "A run's folder, or a name that `usrl agents` lists, such as contour-ppo; or a classical method: otsu "
    "without boxes, and with boxes otsu-box, multi-otsu, adaptive, chan-vese, geodesic, grabcut, "
    "random-walker, watershed or proposal (the box's ellipse); or RUN+RUN, an agent, a judge or a "
    "prompted network that starts from a network's masks; or RUN:RUN, an ensemble of both."
)
Methods = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN_OR_METHOD", help=f"{_METHOD} RUN,RUN,RUN adds their mean, for runs of several seeds."
    ),
]
Method = Annotated[str, typer.Argument(metavar="RUN_OR_METHOD", help=_METHOD)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, such as data.name=busi; repeatable."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an earlier call stopped, or start if there was none.")
]
Data = Annotated[
    str,
    typer.Option(
        help="Data set: phantom, busi, bus-bra, stu, ddti, hc18, usgra, camus, us-simulation, mus-v, "
        "cva-net, folder or slices; of bodies: bodies or volumes; of clips: lung, sweeps, covid-blues or "
        "clips."
    ),
]
Structure = Annotated[
    str | None, typer.Option(help="What is segmented, such as nerve; needed if there are several structures.")
]
Root = Annotated[Path | None, typer.Option(help="Folder of the data set; $USRL_DATA/NAME if not given.")]
Split = Annotated[
    str,
    typer.Option(
        help="train, val, test or all. Choose methods and settings by val; look at test once, for the "
        "figures to report."
    ),
]
SplitSeed = Annotated[int, typer.Option(min=0, help="Seed of the split; as in the run's recipe.")]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Table of the part of each image, as `usrl splits export` writes it; else parts are drawn.",
    ),
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="LOW,HIGH",
        help="Levels of the files that become black and white; else images of more than 8 bits are scaled by "
        "their own largest level.",
    ),
]
Labels = Annotated[float, typer.Option(help="Share of training images; as data.labels in the run's recipe.")]
Count = Annotated[int, typer.Option(min=1, help="Number of simulated cases; as in the run's recipe.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of simulated cases; as in the run's recipe.")]
Variety = Annotated[float, typer.Option(help="How far simulated cases range, from 0 to 1.")]
Starts = Annotated[
    int, typer.Option(min=1, help="Starts per box of agents and prompted networks; their masks vote.")
]
Jitter = Annotated[
    float,
    typer.Option(
        min=0,
        max=MAX_JITTER,
        help="Largest move of a side of the boxes drawn around targets, as a share of the box.",
    ),
]
User = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Let a simulated user correct the methods: centre, person or careless. Methods are then pull, "
        "snap, random-walker, runs that take corrections, or FIRST+METHOD.",
    ),
]
