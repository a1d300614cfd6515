"""Warming up the value function of a policy that starts from other weights."""

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import nn

from usrl.errors import UserError


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
