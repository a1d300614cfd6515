"""How a policy starts from the weights of another run: a clone that reinforcement learning goes on with."""

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import nn

from usrl.errors import UserError
from usrl.recipes import AgentRecipe
from usrl.runs import Run
from usrl.starting import load_start


def start_policy(run: Run, policy: BasePolicy) -> None:
    """Load the weights of the run that a recipe's ``init_from`` names into its policy (`usrl.starting`).

    The standard deviation of the actions starts at ``policy_kwargs.log_std_init`` where the recipe has it:
    cloning leaves it untrained, and what a clone was trained with may be too much noise for it.

    Args:
        run: A run of a recipe with ``init_from``, whose ``split.tsv`` is written.
        policy: The policy built from the recipe.

    Raises:
        UserError: As `usrl.starting.load_start`.
    """
    recipe = run.recipe_as(AgentRecipe)
    load_start(run, recipe, policy)
    initial, log_std = recipe.policy_kwargs.get("log_std_init"), getattr(policy, "log_std", None)
    if isinstance(initial, int | float) and isinstance(log_std, nn.Parameter):
        with torch.no_grad():
            log_std.fill_(initial)


class ValueWarmup(BaseCallback):
    """Lets only the value function learn for a number of steps, then all of the policy.

    A policy that comes from elsewhere would be led astray by advantages from a value function that knows
    nothing yet. Features that actor and critic share stand still with the actor.

    Args:
        policy: The policy in training.
        steps: Environment steps, counted from the start of the training.

    Raises:
        UserError: If the policy has no value function apart from its actor.
    """

    def __init__(self, policy: BasePolicy, steps: int) -> None:
        super().__init__()
        if not isinstance(policy, ActorCriticPolicy):
            raise UserError(
                f"value_warmup_steps: {type(policy).__name__} has no value function of its own; leave it out"
            )
        self._steps = steps
        self._frozen = actor_parameters(policy)

    def _on_rollout_start(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(self.num_timesteps >= self._steps)

    def _on_step(self) -> bool:
        return True


def actor_parameters(policy: ActorCriticPolicy) -> list[nn.Parameter]:
    """Return all parameters that the actions depend on."""
    critic = [policy.value_net, getattr(policy.mlp_extractor, "value_net", nn.Identity())]
    if not policy.share_features_extractor:
        critic.append(policy.vf_features_extractor)
    apart = {id(parameter) for module in critic for parameter in module.parameters()}
    return [parameter for parameter in policy.parameters() if id(parameter) not in apart]
