import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import usrl
from usrl.agents.recipe import AgentRecipe
from usrl.classical import CLASSICAL
from usrl.cli.reports import _run_folders
from usrl.envs.threshold.placement import ORACLES
from usrl.errors import UserError
from usrl.evaluation.methods import open_segmenter, split_runs
from usrl.judging.recipe import JudgeRecipe
from usrl.networks.recipe import NetworkRecipe
from usrl.registry import REGISTRY
from usrl.runs.recipes import apply_values
from usrl.runs.run import create_run

CPU = torch.device("cpu")


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    """Runs of both kinds, and classes that only record how they were made."""

    class Network:
        track = "automatic"

        def __init__(self, run, device, starts=1):
            self.name, self.device, self.starts = run.path.name, device, starts

        def segment(self, image, prompt): ...

    class Agent:
        def __init__(self, run, device, proposer=None, starts=1):
            self.name, self.device, self.proposer, self.starts = run.path.name, device, proposer, starts
            self.track = "prompted" if proposer is None else "automatic"

        def segment(self, image, prompt): ...

    monkeypatch.setattr("usrl.networks.segmenter.NetworkSegmenter", Network)
    monkeypatch.setattr("usrl.agents.segmenter.AgentSegmenter", Agent)
    for name, recipe in (("net", NetworkRecipe(kind="network")), ("agent", AgentRecipe())):
        create_run(tmp_path / name, recipe).weights_path.write_bytes(b"")
    return Network, Agent


@pytest.mark.parametrize(
    ("spec", "unused"),
    [
        ("otsu", ("monai", "stable_baselines3", "matplotlib.pyplot")),
        ("agents/contour-ppo", ("monai", "torch._dynamo", "matplotlib.pyplot")),
    ],
)
def test_a_method_is_opened_without_the_slow_modules_of_others(spec, unused):
    script = (
        "import sys, torch; from usrl.evaluation import segmentation, methods;"
        f"methods.open_segmenter({spec!r}, torch.device('cpu'));"
        f"assert not {set(unused)} & set(sys.modules), {set(unused)} & set(sys.modules)"
    )
    root = Path(usrl.__file__).parents[1]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_methods_open_by_name(name):
    assert open_segmenter(name, CPU).name == name


def test_runs_open_by_the_kind_of_their_recipe(stand_ins, tmp_path):
    network, agent = (open_segmenter(str(tmp_path / name), CPU) for name in ("net", "agent"))
    assert isinstance(network, stand_ins[0])
    assert isinstance(agent, stand_ins[1])
    assert agent.proposer is None


def test_a_chain_is_split_between_folders_that_have_a_plus_in_their_names(stand_ins, tmp_path):
    for name, like in (("dice+boundary", "agent"), ("u+net", "net")):
        shutil.copytree(tmp_path / like, tmp_path / name)
    paths = [tmp_path / name for name in ("u+net", "dice+boundary")]
    chained = open_segmenter("+".join(map(str, paths)), CPU)
    assert (chained.proposer.name, chained.name) == ("u+net", "dice+boundary")
    assert _run_folders("+".join(map(str, paths))) == paths
    assert _run_folders(f"otsu+{paths[1]}") == [paths[1]]


def test_agents_of_an_environment_without_a_placement_are_refused(monkeypatch, tmp_path):
    row = replace(REGISTRY["usrl/ContourRefine-v0"], placement=None)
    monkeypatch.setitem(REGISTRY, "usrl/ContourRefine-v0", row)
    create_run(tmp_path / "agent", AgentRecipe()).weights_path.write_bytes(b"")
    with pytest.raises(UserError, match="agents of usrl/ContourRefine-v0 make no masks"):
        open_segmenter(str(tmp_path / "agent"), CPU)


@pytest.mark.parametrize("name", ORACLES)
def test_ceilings_open_by_name(name):
    assert open_segmenter(name, CPU).name == name


def test_a_chain_gives_the_agent_a_proposer(stand_ins, tmp_path):
    agent = open_segmenter(f"{tmp_path / 'net'}+{tmp_path / 'agent'}", CPU)
    assert isinstance(agent, stand_ins[1])
    assert isinstance(agent.proposer, stand_ins[0])
    assert agent.track == "automatic"


def test_methods_are_opened_with_the_starts_and_what_proposes_with_one(stand_ins, tmp_path):
    specs = [tmp_path / "agent", f"{tmp_path / 'net'}+{tmp_path / 'agent'}", tmp_path / "net"]
    methods = [open_segmenter(str(spec), CPU, starts=4) for spec in specs]
    assert [method.starts for method in methods] == [4, 4, 4]
    assert methods[1].proposer.starts == 1
    assert open_segmenter("otsu", CPU, starts=4).name == "otsu"


def test_an_automatic_classical_method_can_propose(stand_ins, tmp_path):
    assert open_segmenter(f"otsu+{tmp_path / 'agent'}", CPU).proposer.name == "otsu"


def test_a_folder_with_a_plus_in_its_name_is_a_run(stand_ins, tmp_path):
    (tmp_path / "net").rename(tmp_path / "a+b")
    assert open_segmenter(str(tmp_path / "a+b"), CPU).name == "a+b"


def test_a_misspelt_method_gets_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'chan-vese'"):
        open_segmenter("chan-vse", CPU)


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such run"):
        open_segmenter(str(tmp_path / "nowhere"), CPU)


def test_a_chain_in_the_wrong_order_is_refused(stand_ins, tmp_path):
    with pytest.raises(UserError, match="segments whole images and starts from nothing"):
        open_segmenter(f"{tmp_path / 'net'}+{tmp_path / 'net'}", CPU)


@pytest.mark.parametrize("first", ["agent", "otsu-box"])
def test_a_method_that_needs_boxes_cannot_propose(stand_ins, tmp_path, first):
    spec = first if first in CLASSICAL else str(tmp_path / first)
    with pytest.raises(UserError, match="needs boxes itself"):
        open_segmenter(f"{spec}+{tmp_path / 'agent'}", CPU)


def test_colons_make_an_ensemble_that_a_chain_may_begin_with(stand_ins, tmp_path):
    for name in ("net2", "net:3"):
        shutil.copytree(tmp_path / "net", tmp_path / name)
    first, second, third, agent = (tmp_path / name for name in ("net", "net2", "net:3", "agent"))
    assert open_segmenter(f"{first}:{second}", CPU).name == "net:net2"
    chained = open_segmenter(f"{first}:{second}:otsu+{agent}", CPU)
    assert (chained.proposer.name, chained.name) == ("net:net2:otsu", "agent")
    assert _run_folders(f"{first}:otsu+{agent}") == [first, agent]
    assert open_segmenter(third, CPU).name == "net:3"


def test_masks_that_decide_alone_whatever_a_network_says_are_no_ensemble(stand_ins, tmp_path):
    shutil.copytree(tmp_path / "net", tmp_path / "net2")
    first, second, agent = (tmp_path / name for name in ("net", "net2", "agent"))
    for spec in (f"{first}:otsu", f"otsu:{first}", f"otsu:{first}+{agent}"):
        with pytest.raises(UserError, match=f"only {first} is a network .* the masks of the others decide"):
            open_segmenter(spec, CPU)
    assert open_segmenter(f"{first}:{second}:otsu", CPU).name == "net:net2:otsu"


@pytest.mark.parametrize(
    ("spec", "is_sound"),
    [
        ("otsu-box:chan-vese", True),
        ("unet-prompted:chan-vese", False),
        ("unet-prompted:contour-ppo", False),
        ("unet-prompted:chan-vese:contour-ppo", True),
        ("unet-prompted:chan-vese:contour-ppo:watershed", False),
    ],
)
def test_an_even_number_of_masks_leaves_the_ties_to_a_network(spec, is_sound):
    if is_sound:
        assert open_segmenter(spec, CPU).name == spec
    else:
        with pytest.raises(UserError, match="only unet-prompted is a network"):
            open_segmenter(spec, CPU)


def test_a_member_is_named_twice_by_any_path_of_its_folder(stand_ins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("net")
    for other in ("./net", str(tmp_path / "net"), "link", "net/../net/"):
        with pytest.raises(UserError, match="a member of an ensemble is named twice"):
            open_segmenter(f"net:{other}", CPU)
        for spec in (f"net,{other}", f"net+agent,{other}+./agent", f"otsu:net,{other}:otsu"):
            with pytest.raises(UserError, match="a run is named twice"):
                split_runs(spec)


NETWORK, JUDGE = NetworkRecipe(kind="network"), JudgeRecipe(kind="judge", proposals="p0")
SUMMARY = AgentRecipe().model_copy(
    update={"env": AgentRecipe().env.model_copy(update={"id": "usrl/VideoSummary-v0"})}
)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Make runs by name, with changes of the first recipe."""
    monkeypatch.chdir(tmp_path)

    def make(recipe, *changes):
        for place, values in enumerate(({}, *changes)):
            own = apply_values(recipe, values, "test")
            create_run(tmp_path / f"{recipe.kind}{place}", own).weights_path.write_bytes(b"")
        return ",".join(f"{recipe.kind}{place}" for place in range(len(changes) + 1))

    return make


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        (NETWORK, {"seed": 1}),
        (apply_values(NETWORK, {"init_from": "a0"}, "test"), {"seed": 1, "init_from": "a1"}),
        (apply_values(NETWORK, {"data.folds": 5, "data.fold": 1}, "test"), {"data.fold": 2}),
        (apply_values(NETWORK, {"data.name": "busi"}, "test"), {"data.root": "elsewhere"}),
        (apply_values(JUDGE, {"refiner": "a0"}, "test"), {"proposals": "p1", "refiner": "a1"}),
        (apply_values(SUMMARY, {"env.kwargs.features": "f0"}, "test"), {"env.kwargs.features": "f1"}),
    ],
)
def test_a_comma_joins_trainings_that_differ_in_seed_fold_and_what_they_start_from(runs, recipe, changes):
    joined = runs(recipe, changes)
    assert split_runs(joined) == joined.split(",")


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            NETWORK,
            {"seed": 1, "network": "fcn"},
            r"network0 and network1 differ in network \('unet' and 'fcn'\)",
        ),
        (NETWORK, {"init_from": "a0"}, r"differ in init_from \(None and 'a0'\)"),
        (NETWORK, {"data.name": "busi"}, r"differ in data.name \('phantom' and 'busi'\)"),
        (
            apply_values(NETWORK, {"data.name": "folder", "data.root": "/a"}, "test"),
            {"data.root": "/b"},
            "data.root",
        ),
        (NETWORK, {"data.split_seed": 1}, "differ in data.split_seed"),
        (SUMMARY, {"env.kwargs.features": "f1"}, r"differ in env.kwargs.features \(absent and 'f1'\)"),
    ],
)
def test_a_comma_between_unlike_recipes_is_refused_with_their_keys(runs, recipe, changes, message):
    with pytest.raises(UserError, match=f"{message}.*; put a space between different methods"):
        split_runs(runs(recipe, changes))


@pytest.mark.parametrize("spec", ["unet-phantom,otsu", "runs/a,runs/b"])
def test_a_comma_where_one_method_is_wanted_leads_to_an_ensemble(spec):
    with pytest.raises(UserError, match=f"^{spec}: name one method; .* of an ensemble, as in A:B"):
        open_segmenter(spec, CPU)


def test_every_run_of_a_comma_is_compared(runs):
    with pytest.raises(UserError, match="network0 and network2 differ in dropout"):
        split_runs(runs(NETWORK, {"seed": 1}, {"seed": 2, "dropout": 0.2}))


def test_the_parts_of_chains_and_ensembles_are_compared_in_place(runs):
    runs(NETWORK, {"seed": 1}, {"seed": 2, "network": "fcn"})
    runs(AgentRecipe(), {"seed": 1}, {"seed": 2, "total_steps": 7})
    like = (
        "network0+agent0,network1+agent1",
        "network0:network2,network1:network2",
        "otsu+agent0,otsu+agent1",
    )
    for spec in (
        *like,
        "network0:network2+agent0,network1:network2+agent1",
        "network0+agent0,network0+agent1",
    ):
        assert split_runs(spec) == spec.split(",")
    for spec, told in (
        ("network0+agent0,network2+agent1", "network0 and network2 differ in network"),
        ("network0+agent0,network1+agent2", "agent0 and agent2 differ in total_steps"),
        ("network0+agent0,network1:agent1", "are two methods"),
        ("network0:network1,network0:network1:network2", "are two methods"),
        ("network0,network1+agent1", "are two methods"),
        ("otsu+agent0,chan-vese+agent1", "otsu and chan-vese are two methods"),
        ("otsu,chan-vese", "otsu and chan-vese are two methods"),
        ("pull,snap", "pull and snap are two methods"),
        (
            "contour-ppo,contour-pp0",
            "'contour-pp0' is neither a method nor a run; did you mean 'contour-ppo'",
        ),
        ("network0+pul,network1+pull", "'pul' is neither a method nor a run; did you mean 'pull'"),
        ("network0,otsu", "network0 and otsu are two methods"),
        ("network0,agent0", r"differ in kind \('network' and 'agent'\); put a space"),
        ("network0,", "'network0,' needs a name on both sides of each ','"),
        ("./network0,./nowhere", "nowhere: no such run"),
    ):
        with pytest.raises(UserError, match=told):
            split_runs(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("otsu:otsu", "named twice"),
        ("otsu:otsu-box", "otsu is automatic and otsu-box is prompted"),
        ("otsu-box:threshold-oracle", "sees the target and has no part"),
        ("otsu:", "'otsu:' needs a name on both sides of each ':'"),
        ("otsu+", r"'otsu\+' needs a name on both sides of the '\+'"),
        ("+contour-ppo", "needs a name on both sides"),
        ("otsu+watershed", "watershed is a classical method"),
        ("otsu+unet-prompted:contour-ppo", "only the first part of a chain can be an ensemble"),
    ],
)
def test_methods_that_cannot_be_joined_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        open_segmenter(spec, CPU)
