"""A trained agent of any environment as a segmenter, prompted by boxes or started from a network's masks.

An agent may start several times on an image, from boxes near the given ones (or near the outlines of the
masks). All starts are one batch, and the masks that they end with vote.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from usrl.agents.algorithms import load_policy
from usrl.agents.players import PolicyPlayer, play
from usrl.agents.recipe import AgentRecipe
from usrl.compute.devices import one_thread, spare_threads_in_workers
from usrl.data.prompts import check_prompt
from usrl.data.sample import BoolMask, GrayImage, Prompt, Track
from usrl.envs.placement import Episodes, Place, Placement
from usrl.errors import UserError
from usrl.learners import load_object
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.registry import drop_training_only, find_row
from usrl.runs.run import Run
from usrl.segmenter import Answer, Segmenter, name_method, networks_of, refine_frames
from usrl.strict import check


@dataclass(frozen=True, eq=False, kw_only=True)
class AgentAnswer(Answer):
    """An answer that keeps the proposer's mask.

    Attributes:
        found: The proposer's mask, bool, (H, W); None if the agent was prompted by boxes.
    """

    found: BoolMask | None


class AgentSegmenter:
    """Plays an agent on native images, where the placement of its environment begins episodes.

    Args:
        run: A run of an agent's recipe with weights.
        device: Where environment and policy compute.
        proposer: An automatic segmenter whose masks are refined. Without one, boxes are needed.
        starts: How often to start on an image. An agent of whole images starts once.

    Raises:
        UserError: If agents of the environment make no masks or take no proposals, or the weights cannot be
            used.
    """

    def __init__(
        self, run: Run, device: torch.device, proposer: Segmenter | None = None, starts: int = 1
    ) -> None:
        recipe = run.recipe_as(AgentRecipe)
        env, row = recipe.env, find_row(recipe.env.id)
        if row.placement is None:
            raise UserError(f"{run.path}: agents of {env.id} make no masks; segment with another run")
        kwargs, horizon = drop_training_only(env.id, env.kwargs), env.max_episode_steps
        settings = check(load_object(row.settings), kwargs, env.id)
        placement = load_object(row.placement)
        self._placement: Placement = placement(settings, horizon, recipe.data.size, device)
        takes_boxes = self._placement.takes_boxes
        if proposer is not None and not takes_boxes:
            raise UserError(f"{run.path} segments whole images and starts from no masks; name it alone")
        self._proposer, self._starts = proposer, starts if takes_boxes else 1
        self.name = name_method(run.name, self._starts, proposer)
        self.track: Track = "prompted" if takes_boxes and proposer is None else "automatic"
        # The spaces depend on the recipe alone, so that any image and any box will do.
        boxes = ((-0.5, -0.5, 7.5, 7.5),) if takes_boxes else None
        task = self._begin(Place(np.zeros((8, 8), np.uint8), boxes)).task
        self._policy = load_policy(run.weights_path, recipe, task, device)

    def segment(self, image: GrayImage, prompt: Prompt | None) -> AgentAnswer:
        """Return the refined mask, its proposal and, with several starts, how far their masks differ."""
        return self._segment(self._place(image, prompt, starts=self._starts))

    def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
        """Yield the answer for each frame of a clip; see `usrl.segmenter.refine_frames`."""
        if self._proposer is None:
            return (self.segment(frame, None) for frame in frames)
        return refine_frames(self._proposer, frames, self._start)

    def _start(self, image: GrayImage, proposed: Answer) -> AgentAnswer:
        return self._segment(Place(image, None, proposed.mask, self._starts))

    def _segment(self, place: Place) -> AgentAnswer:
        episodes = self._begin(place)
        masks = [episodes.kept]
        if episodes.state is not None:
            rows = episodes.masks(self._play(episodes)[-1])
            count = len(rows) // self._starts
            starts = (rows[first : first + count] for first in range(0, len(rows), count))
            masks = [np.logical_or.reduce([episodes.kept, *start]) for start in starts]
        united = vote(masks)
        spread = None if self._starts == 1 else measure_spread(masks, united)
        return AgentAnswer(mask=united, proposal=episodes.proposal, uncertainty=spread, found=place.found)

    def refine(self, image: GrayImage, found: BoolMask) -> AgentAnswer:
        """Return the answer of one start from a mask, bool, (H, W), instead of boxes or a proposer."""
        episodes = self._begin(Place(image, None, found))
        state = None if episodes.state is None else self._play(episodes)[-1]
        masks = [] if state is None else episodes.masks(state)
        mask = np.logical_or.reduce([episodes.kept, *masks])
        return AgentAnswer(mask=mask, proposal=episodes.proposal, found=found)

    def steps(self, image: GrayImage, prompt: Prompt | None, found: BoolMask | None = None) -> list[BoolMask]:
        """Return the masks before and after each step of the first start, bool, (H, W).

        A mask that is found takes the place of boxes and proposer.
        """
        episodes = self._begin(self._place(image, prompt) if found is None else Place(image, None, found))
        played = [] if episodes.state is None else self._play(episodes)
        return [np.logical_or.reduce([episodes.kept, *episodes.masks(state)]) for state in played]

    def segment_each(self, image: GrayImage, boxes: Prompt) -> list[BoolMask]:
        """Return the refined mask of each box, bool, (H, W)."""
        episodes = self._begin(Place(image, check_prompt(boxes, image.shape)))
        return episodes.masks(self._play(episodes)[-1])

    def reach(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask, answer: Answer | None = None
    ) -> BoolMask:
        """Return the best mask that could be made of the proposal, bool, (H, W); see `Ceiling`."""
        return self._begin(self._place(image, prompt, target, answer)).reach()

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None, answer: Answer | None = None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step of the first start; see `Filmed`."""
        episodes = self._begin(self._place(image, prompt, target, answer))
        return [] if episodes.state is None else [episodes.draw(state) for state in self._play(episodes)]

    def networks(self) -> list[nn.Module]:
        """Return the policy, after the proposer's networks; see `usrl.segmenter.Networked`."""
        return [*networks_of(self._proposer), self._policy]

    def _place(
        self,
        image: GrayImage,
        prompt: Prompt | None,
        target: BoolMask | None = None,
        answer: Answer | None = None,
        starts: int = 1,
    ) -> Place:
        """Return where to begin. The proposer is asked only if no answer tells what it found."""
        boxes = found = None
        if self._proposer is not None:
            if isinstance(answer, AgentAnswer):
                found = answer.found
            else:
                found = self._proposer.segment(image, None).mask
        elif self.track == "prompted":
            boxes = check_prompt(prompt, image.shape)
        return Place(image, boxes, found, starts, target)

    def _begin(self, place: Place) -> Episodes:
        spare_threads_in_workers()
        return self._placement.begin(place)

    def _play(self, episodes: Episodes) -> Sequence[Any]:
        with one_thread():
            player = PolicyPlayer(self._policy, episodes.task, self.name)
            return play(episodes.task, player, episodes.state).states
