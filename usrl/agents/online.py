"""An agent that learns from what its user accepts, image by image.

After each image the accepted mask is a target. The agent plays contour correction on the accepted images, and
a part of its policy is fitted to what the teacher does there: the last convolution and the head that all
vertices share. The rest stays as it was trained.

Source:
    The idea of learning in place from a user's corrections is that of Wang, Lekadir, Lee, Merrifield, Yang
    (2013), IEEE Trans Med Imaging 32(5):943-956, doi:10.1109/TMI.2013.2252431. Theirs is Q-learning.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usrl.agents.correcting import PolicyMoves
from usrl.agents.policies import ContourPolicy
from usrl.compute.devices import one_thread
from usrl.compute.rng import mix, step_keys, uniform
from usrl.data.bank import Bank
from usrl.data.sample import BoolMask, GrayImage, Sample
from usrl.envs.correct.methods import ContourMethod, Corrected
from usrl.envs.correct.task import CorrectTask
from usrl.errors import UserError
from usrl.segmenter import Answer
from usrl.session import Asks, Marks

EPISODES, STEPS = 16, 24
"""Episodes that are played after an image, and their length in steps."""
BATCH, EPOCHS, RATE = 128, 2, 3e-4
"""Of the fit."""
TEACHER_SHARE = 0.3
"""Probability that a step of these episodes is the teacher's."""
MOST_STATES = 4096
"""States that are kept of earlier images: 18 KiB each."""
States = tuple[Tensor, Tensor]
"""What was seen, uint8 (M, C, N, K), and what the teacher did, float32 (M, A)."""


@dataclass(eq=False)
class LearningAgent:
    """A contour agent that takes corrections and learns from accepted masks; see `usrl.session.Interactive`.

    Within an image it does not change, so that corrections can be undone.

    Attributes:
        method: The agent as it was trained. It is not changed.
        seen: Number of images that it has learned from.
    """

    method: ContourMethod
    seen: int = 0
    _samples: list[Sample] = field(default_factory=list)
    _kept: States | None = None

    def __post_init__(self) -> None:
        """Copy the policy; refuse a method that has none."""
        act = self.method.act
        if not isinstance(act, PolicyMoves) or not self.fits(self.method):
            raise UserError(f"{self.method.name} has no policy that could learn; name an agent's run")
        self._policy: Any = copy.deepcopy(act.policy)
        self.method = replace(self.method, act=replace(act, policy=self._policy))
        self._learned = [part for module in _last_layers(self._policy) for part in module.parameters()]
        self._optimizer = torch.optim.Adam(self._learned, RATE)

    @staticmethod
    def fits(method: ContourMethod) -> bool:
        """Return whether a method has a policy that can learn."""
        return isinstance(method.act, PolicyMoves) and isinstance(method.act.policy, ContourPolicy)

    @property
    def name(self) -> str:
        """Row label in tables."""
        return f"{self.method.name}, learning"

    @property
    def asks(self) -> Asks:
        """What it wants of a user."""
        return self.method.asks

    def begin(self, image: GrayImage, marks: Marks) -> Corrected:
        """Return the contours after their opening."""
        return self.method.begin(image, marks)

    def correct(self, state: Corrected, marks: Marks) -> Corrected:
        """Return the contours after their moves."""
        return self.method.correct(state, marks)

    def answer(self, state: Corrected) -> Answer:
        """Return the union of the contours."""
        return self.method.answer(state)

    def accept(self, image: GrayImage, mask: BoolMask) -> None:
        """Learn from the mask that a user has accepted, bool, (H, W); an empty one teaches nothing."""
        if not mask.any():
            return
        self.seen += 1
        self._samples.append(Sample(image, mask, None, f"accepted-{self.seen}", "", "accepted"))
        with one_thread():
            self._fit(self._task())

    def _task(self) -> CorrectTask:
        """Return the environment over what was accepted."""
        placement = self.method.placement
        bank = Bank.from_samples(self._samples, placement.size).to(placement.device)
        settings = placement.settings.model_copy(update={"user": "centre"})
        return CorrectTask(bank, settings, settings.opening + settings.rounds * settings.moves)

    def _fit(self, task: CorrectTask) -> None:
        """Fit what may learn to the teacher's actions in new states, and in as many of earlier images."""
        new = self._play(task)
        rng = torch.Generator().manual_seed(self.seen)
        old = None if self._kept is None else _draw(self._kept, len(new[0]), rng)
        seen, taught = new if old is None else tuple(map(torch.cat, zip(new, old, strict=True)))
        self._kept = new if self._kept is None else _keep(self._kept, new, rng)
        self._policy.set_training_mode(True)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(seen), generator=rng).split(BATCH):
                features = self._policy.extract_features(seen[rows])
                moves = self._policy.action_net(self._policy.mlp_extractor.forward_actor(features))
                self._optimizer.zero_grad()
                F.huber_loss(moves, taught[rows], delta=0.5).backward()
                nn.utils.clip_grad_norm_(self._learned, 1.0)
                self._optimizer.step()
        self._policy.set_training_mode(False)

    @torch.no_grad()
    def _play(self, task: CorrectTask) -> States:
        """Return what is seen in episodes, (M, C, N, K), and what the teacher does there, (M, A).

        The teacher and the agent take turns by chance: episodes of the agent alone would teach little of the
        states near the border.
        """
        count = len(task.cases)
        # Half of the episodes are on the newest image.
        index = torch.arange(EPISODES) % count
        index[::2] = count - 1
        index = index.to(task.cases.device)
        keys = mix(mix(torch.arange(EPISODES, device=index.device)) + self.seen)
        state = task.reset(index, keys)
        seen, taught = [], []
        for _ in range(STEPS):
            going = ~state.is_done
            wanted = task.oracle_action(state)
            seen.append(task.observe(state)[going])
            taught.append(wanted[going])
            is_taught = uniform(step_keys(keys, state.elapsed), 1) < TEACHER_SHARE  # (B, 1)
            state, _ = task.step(state, torch.where(is_taught, wanted, self.method.act(task, state)))
        return torch.cat(seen), torch.cat(taught)


def _draw(states: States, count: int, rng: torch.Generator) -> States:
    """Return some of the states, at most all."""
    rows = torch.randperm(len(states[0]), generator=rng)[:count].to(states[0].device)
    return states[0][rows], states[1][rows]


def _keep(kept: States, new: States, rng: torch.Generator) -> States:
    """Return all states, or a random choice if they are too many."""
    return _draw((torch.cat([kept[0], new[0]]), torch.cat([kept[1], new[1]])), MOST_STATES, rng)


def _last_layers(policy: Any) -> list[nn.Module]:
    """Return the last convolution and the head of a policy for contours."""
    convolutions = [m for m in policy.features_extractor.modules() if isinstance(m, nn.Conv1d)]
    return [*convolutions[-1:], policy.action_net]
