"""The agents that come with usrl: folders of ``agents/`` in a checkout, of ``usrl/shipped/`` in a package."""

from pathlib import Path

import usrl
from usrl.errors import suggest
from usrl.files import check_path


def shipped_root() -> Path:
    """Return the folder that holds the shipped agents."""
    package = Path(usrl.__file__).resolve().parent
    inside = package / "shipped"
    return inside if inside.is_dir() else package.parent / "agents"


def list_shipped() -> list[str]:
    """Return the names of the shipped agents, sorted."""
    return sorted(path.parent.name for path in shipped_root().glob("*/recipe.yaml"))


def locate(path: Path | str) -> Path:
    """Return the folder of a shipped agent if its name is given; an existing path comes before a name."""
    path = check_path(Path(path))
    is_name = not path.exists() and str(path) in list_shipped()
    return shipped_root() / path if is_name else path


def is_shipped(path: Path | str) -> bool:
    """Return whether a folder is among the shipped agents, where no command writes."""
    return locate(path).resolve().is_relative_to(shipped_root())


def suggest_shipped(path: Path | str) -> str:
    """Return the end of a message about a path that does not exist: the shipped agent that may be meant."""
    told = suggest(Path(path).name, list_shipped())
    return told if told.startswith("did you mean") else "`usrl agents` lists those that come with usrl"


def describe_shipped() -> list[str]:
    """Return a line for each shipped agent. It ends with the comment in the first line of the recipe."""
    from usrl.runs.recipes import load_recipe

    names, lines = list_shipped(), []
    width = max(map(len, names), default=0)
    for name in names:
        path = shipped_root() / name / "recipe.yaml"
        recipe = load_recipe(path)
        summary = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        weights = "weights" if (path.parent / "weights.safetensors").is_file() else "recipe"
        lines.append(f"{name:<{width}} {recipe.kind:<8} {recipe.subject:<24} {weights:<8} {summary}")
    return lines
