"""What the pages say is true of the tree, the command line and the code."""

import ast
import importlib
import json
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from PIL import Image
from typer.main import get_command

import usrl
from usrl.agents.players import PLAYERS, RandomPlayer, TeacherPlayer, evaluate_player
from usrl.classical import CLASSICAL
from usrl.cli import app
from usrl.evaluation.methods import INTERACTIVE
from usrl.registry import REGISTRY, describe_arguments
from usrl.runs.recipes import load_recipe
from usrl.runs.shipped import list_shipped, locate

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "agents/*/*.md", "envs/*/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
LIVE = [path for path in PAGES if path.name != "CHANGELOG.md"]  # which says what was
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_PATH = re.compile(r"`((?:usrl|tests|benchmarks|agents|envs|docs)/(?!\w+-v\d)[\w./-]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ROOMS = sorted(
    path.parent.relative_to(ROOT / "usrl").as_posix() for path in ROOT.glob("usrl/**/*/__init__.py")
)
CEILINGS = ("threshold-oracle", "threshold-oracle-tiles")
TRAINED = ("train", "tune", "proposals")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let pages import their examples, and forget afterwards what these registered."""
    monkeypatch.syspath_prepend(ROOT / "docs/examples")
    known = set(REGISTRY)
    yield
    for env_id in set(REGISTRY) - known:
        del REGISTRY[env_id], gym.registry[env_id]
    sys.modules.pop("own_environment", None)


SCRIPTED = {name for row in REGISTRY.values() for name in row.players}
KNOWN = {*CLASSICAL, *CEILINGS, *PLAYERS, *SCRIPTED, *INTERACTIVE, *list_shipped()}
"""What `usrl compare` takes by name."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Any]:
    """Return (page, code) of every block of a language, named by page and line."""
    found = []
    for page in LIVE:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            if block[1] == language:
                line = text.count("\n", 0, block.start()) + 1
                found.append(pytest.param(block[2], id=f"{name_of(page)}:{line}"))
    return found


def run_shell(code: str, folder: Path) -> list[list[str]]:
    """Return the arguments of each call of usrl that a block makes; nothing else in it is run."""
    calls = folder / "calls"
    prelude = (
        f"exec 3>{calls}\n"
        'usrl() { printf "%s\\0" "$@" >&3; printf "\\n" >&3; }\n'
        "command_not_found_handle() { :; }\nPATH=/nonexistent\n"
    )
    shell = ["/bin/bash", "--norc", "-u", "-c", prelude + code]
    subprocess.run(shell, cwd=folder, check=True, capture_output=True, timeout=60)
    return [line.split("\0")[:-1] for line in calls.read_text().splitlines()]


def parse(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the command and the parameters that the command line makes of arguments; raise as it would."""
    command: Any = get_command(app)
    context, names = command.make_context("usrl", list(arguments)), []
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        names.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(names), context.params


@pytest.mark.parametrize(
    ("page", "most"), [("README.md", 600), ("docs/architecture.md", 1200), ("docs/results.md", 1300)]
)
def test_a_page_stays_short(page: str, most: int) -> None:
    assert len((ROOT / page).read_text(encoding="utf-8").split()) <= most


@pytest.mark.parametrize(
    ("page", "begins", "ends"),
    [("README.md", "\n## Results\n", "\n## More\n"), ("docs/results.md", "# Results\n", "\n## How to read")],
)
def test_leading_figures_are_those_of_the_tables_behind_them(page: str, begins: str, ends: str) -> None:
    leading = (ROOT / page).read_text(encoding="utf-8").partition(begins)[2].partition(ends)[0]
    tables = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/results/*.md"))
    figures = re.findall(r"\d+\.\d+(?: \[\d+\.\d+, \d+\.\d+\])?", leading)
    assert len(figures) > 6
    assert [figure for figure in figures if figure not in tables] == []


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of usrl that are imported with a module: not in functions, nor for types alone."""
    for node in ast.iter_child_nodes(tree):
        is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_later or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            continue
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("usrl."):
            yield str(node.module)
        yield from imports_of(node)


def test_imports_run_as_the_page_of_the_architecture_says() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    order = re.findall(r"\w+", page.partition("```\ncli -> ")[2].partition("```")[0])
    places = {room: place for place, room in enumerate(["cli", *order])}
    wrong = []
    for path in (ROOT / "usrl").rglob("*.py"):
        room = path.relative_to(ROOT / "usrl").parts[0].removesuffix(".py")
        for module in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            other = module.split(".")[1]
            if room in places and other != room and module.split(".")[-1] != "recipe":
                if places[room] >= places[other]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong
    assert {
        path.name.removesuffix(".py") for path in (ROOT / "usrl").iterdir() if path.suffix in ("", ".py")
    } - {
        *places,
        "__init__",
        "__main__",
        "__pycache__",
    } == set()


@pytest.mark.parametrize("room", ROOMS)
def test_imports_of_the_parts_of_a_room_form_no_circle(room: str) -> None:
    folder, inside = ROOT / "usrl" / room, ".".join(["usrl", *Path(room).parts, ""])
    needs: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        part = path.relative_to(folder).parts[0].removesuffix(".py")
        for module in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            if module.startswith(inside):
                needs.setdefault(part, set()).add(module.removeprefix(inside).split(".")[0])
    TopologicalSorter({part: others - {part} for part, others in needs.items()}).prepare()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_paths_of_a_page_lead_to_files(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    folder = posixpath.dirname(name_of(page))
    links = [link for link in LINK.findall(text) if ":" not in link]
    wanted = [posixpath.normpath(posixpath.join(folder, link)) for link in links]
    if page in LIVE:
        wanted += CODE_PATH.findall(text)
    assert [path for path in wanted if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("code", blocks("sh"))
def test_commands_of_a_page_are_those_of_the_command_line(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for call in run_shell(code, tmp_path):
        command, params = parse(call)
        if command in TRAINED and locate(params["recipe"]).exists():  # not one that a reader writes
            load_recipe(params["recipe"], params["overrides"] or ())
        methods = re.split(r"[,+]", ",".join(params.get("methods", [params.get("run", "otsu")])))
        assert {name for name in methods if "/" not in name} <= KNOWN


def test_the_page_of_agents_lists_all_that_come_with_usrl() -> None:
    page = (ROOT / "docs/agents.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[([\w-]+)\]\(\.\./agents/\1/README\.md\) \| .+ \| (yes)? ?\|$", page, re.MULTILINE
    )
    weights = {name: (locate(name) / "weights.safetensors").is_file() for name in list_shipped()}
    assert {name: has == "yes" for name, has in rows} == weights


@pytest.mark.parametrize("code", blocks("python"))
def test_imports_of_a_page_exist(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.fixture
def point() -> str:
    """Return the id of the page's environment."""
    importlib.import_module("own_environment")
    return "mine/PointToLesion-v0"


def test_the_own_environment_of_the_page_is_the_file_that_it_includes() -> None:
    page = (ROOT / "docs/own-environment.md").read_text(encoding="utf-8")
    assert '\n--8<-- "examples/own_environment.py"\n' in page
    lines = (ROOT / "docs/examples/own_environment.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 45


def test_the_own_environment_of_the_page_plays_the_same_through_every_adapter(point: str) -> None:
    check_env(gym.make(point).unwrapped)
    single = gym.make(point)
    vector = gym.make_vec(point, num_envs=3)
    for_sb3 = usrl.TaskVecEnv.make(point, num_envs=3, seed=5)
    seen = [vector.reset(seed=5)[0], for_sb3.reset()]
    np.testing.assert_array_equal(*seen)
    np.testing.assert_array_equal(seen[0][2], single.reset(seed=7)[0])
    actions = np.full((3, 2), 0.5, np.float32)
    np.testing.assert_array_equal(vector.step(actions)[1], for_sb3.step(actions)[1])


def test_an_environment_without_arguments_says_so(point: str) -> None:
    assert describe_arguments(point) == f"{point} has no arguments"


def test_the_teacher_of_the_own_environment_finds_every_lesion_and_chance_does_not(point: str) -> None:
    task = usrl.TaskVecEnv.make(point, num_envs=1).task
    assert evaluate_player(task, TeacherPlayer(task))["score"] == 1
    assert evaluate_player(task, RandomPlayer(task))["score"] < 0.2


@pytest.mark.slow
def test_the_own_environment_of_the_page_is_trained_by_its_command(tmp_path: Path) -> None:
    page = (ROOT / "docs/own-environment.md").read_text(encoding="utf-8")
    recipe, command = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("yaml", "sh"))
    assert recipe is not None
    assert command is not None
    (tmp_path / "point.yaml").write_text(recipe[1])
    shutil.copy(ROOT / "docs/examples/own_environment.py", tmp_path)
    train, compare = (line.split()[1:] for line in command[1].splitlines())
    train += ["--set", "total_steps=512", "--set", "evaluate_every=512"]
    for words in (train, compare):
        usrl_in = [sys.executable, "-m", "usrl", *words, "--device", "cpu"]
        done = subprocess.run(usrl_in, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "runs/point-report/results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["point", "random", "teacher"]


RUN = ("README.md", "docs/environments/", "docs/data.md", "docs/libraries.md", "docs/troubleshooting.md")
LONG = pytest.mark.slow


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(*block.values, id=block.id, marks=LONG if ".learn(" in block.values[0] else ())
        for block in blocks("python")
        if str(block.id).startswith(RUN)
    ],
)
def test_examples_of_a_page_run_as_they_are(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


def test_the_check_of_commands_sees_a_wrong_option(tmp_path: Path) -> None:
    good, bad = run_shell("for n in 1 2; do usrl segment otsu a.png --o$n=x; done\n", tmp_path)
    assert good == ["segment", "otsu", "a.png", "--o1=x"]
    with pytest.raises(Exception, match="--o2"):
        parse(bad)


def test_the_film_of_the_readme_is_a_small_animation() -> None:
    path = ROOT / "docs/film.webp"
    assert "docs/film.webp" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert path.stat().st_size < 1_000_000
    with Image.open(path) as film:
        assert film.n_frames == 11  # the start and ten steps


@pytest.mark.slow
def test_the_film_of_the_readme_is_made_by_the_script_that_it_names(tmp_path: Path) -> None:
    script = [sys.executable, ROOT / "docs/examples/film.py", tmp_path / "film.webp"]
    printed = subprocess.run(script, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    told = re.search(r"Dice\s+([\d.]+);", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert told is not None
    assert f"Dice {told[1]}," in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["contour-refine", "contour-refine-v1", "contour-correct", "threshold-select"]
)
def test_the_picture_of_a_card_is_made_by_the_code_under_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envs" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "envs" / name / "README.md").read_text(encoding="utf-8")
    code = next(block[2] for block in BLOCK.finditer(page) if block[1] == "python")
    exec(compile(code, name, "exec"), {})
    with (
        Image.open(f"envs/{name}/episode.png") as made,
        Image.open(ROOT / f"envs/{name}/episode.png") as kept,
    ):
        assert made.size == kept.size
        differences = np.abs(np.asarray(made.convert("L"), int) - np.asarray(kept.convert("L"), int))
    assert differences.mean() < 2  # gray levels: fonts and rounding may differ
