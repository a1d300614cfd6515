"""Mean return of Stable-Baselines3's stock algorithms after a short training with their defaults.

    python benchmarks/stock_ppo.py --json stock_ppo.json

`CnnPolicy` learns in one environment of `gym.make`, with its default images. Nothing is set unless an option
says so. The policy is examined on images, or bodies, of another seed. The return is the environment's own and
not discounted: with the default reward of contours it is the change of Dice over an episode.
"""

import argparse
import time
from typing import Any

import gymnasium as gym
import yaml
from reporting import make_parser, parse, print_machine, write_rows
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from usrl.agents.players import TeacherPlayer, evaluate_player
from usrl.data.bank import Bank
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.volumes import VOLUMES, Volumes
from usrl.data.phantom.dataset import load_phantom
from usrl.envs.sb3 import TaskVecEnv
from usrl.registry import find_row

ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {"ppo": PPO, "a2c": A2C}
IMAGES, EPISODES = 200, 400
HELD_OUT_SEED = 1
"""The default images and bodies have seed 0."""


def make_examination(env_id: str, settings: dict[str, Any], images: int = IMAGES) -> TaskVecEnv:
    """Return environments of cases that no training sees. Their first episodes are always the same."""
    cases: Bank | Volumes
    if find_row(env_id).cases == VOLUMES:
        cases = Volumes.from_bodies([make_body(HELD_OUT_SEED, index) for index in range(images)])
    else:
        cases = Bank.from_samples(load_phantom(images, HELD_OUT_SEED))
    return TaskVecEnv.make(env_id, num_envs=100, cases=cases, **settings)


def mean_return(model: OnPolicyAlgorithm, envs: TaskVecEnv, is_deterministic: bool) -> float:
    """Return the mean return of the likeliest actions of a policy, or of those that it draws."""
    envs.seed(12345)
    mean, _ = evaluate_policy(model, envs, EPISODES, is_deterministic, warn=False)
    assert isinstance(mean, float)
    return mean


def train(options: argparse.Namespace, seed: int, envs: TaskVecEnv) -> dict[str, Any]:
    """Return what a policy of a seed earns: drawn actions before the training, and both kinds after it."""
    chosen: dict[str, Any] = {} if options.gamma is None else {"gamma": options.gamma}
    if options.log_std_init is not None:
        chosen["policy_kwargs"] = {"log_std_init": options.log_std_init}
    env = gym.make(options.env, **options.settings)
    model = ALGORITHMS[options.algorithm]("CnnPolicy", env, seed=seed, device=options.device, **chosen)
    row = {"seed": seed, "untrained": mean_return(model, envs, False)}
    start = time.perf_counter()
    model.learn(options.steps)
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row | {"likeliest": mean_return(model, envs, True), "drawn": mean_return(model, envs, False)}


def read_settings(pairs: list[str]) -> dict[str, Any]:
    """Return settings of an environment from pairs such as ``step_px=2.0``."""
    return {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def read_options() -> argparse.Namespace:
    """Return the options of this process."""
    parser = make_parser(__doc__)
    parser.add_argument("--env", default="usrl/ContourRefine-v1")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="of the environment")
    parser.add_argument("--algorithm", default="ppo", choices=ALGORITHMS)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--gamma", type=float, help="SB3's default if left out")
    parser.add_argument("--log-std-init", type=float, help="SB3's default if left out")
    options = parse(parser)
    options.settings = read_settings(options.set)
    return options


def main() -> None:
    """Train with every seed, print the returns and write JSON."""
    options = read_options()
    print_machine(options)
    envs = make_examination(options.env, options.settings)
    print(f"teacher {evaluate_player(envs.task, TeacherPlayer(envs.task))['return']:+.3f}", flush=True)
    rows = []
    for seed in options.seeds:
        rows.append(train(options, seed, envs))
        returns = (f"{name} {rows[-1][name]:+.3f}" for name in ("untrained", "likeliest", "drawn"))
        print(f"seed {seed}: {'  '.join(returns)}  {rows[-1]['seconds']:.0f} s", flush=True)
    write_rows(rows, options.json)


if __name__ == "__main__":
    main()
