"""Contours on native images that a user corrects."""

from dataclasses import dataclass, replace

from usrl.data.bank import Bank
from usrl.envs.contour.placement import ContourEpisodes, ContourPlacement
from usrl.envs.contour.settings import ContourSettings
from usrl.envs.correct.settings import CorrectSettings
from usrl.envs.correct.task import CorrectState, CorrectTask
from usrl.envs.placement import Place


class GuidedTask(CorrectTask):
    """Contours without a simulated user: whoever holds the task places the points."""

    def _ask(self, state: CorrectState, *, is_first: bool = False) -> CorrectState:
        return state


@dataclass(frozen=True)
class CorrectPlacement(ContourPlacement):
    """Begins contours as contour refinement does; see `usrl.envs.placement.Placement`.

    Their episodes are the opening, which has no moves for a mask. So an agent without a user answers what it
    has before the first correction. `usrl.envs.correct.methods` goes on from there.
    """

    settings: CorrectSettings

    def begin(self, place: Place) -> ContourEpisodes:
        """Return the contours of an image; see `usrl.envs.placement.Placement`."""
        opening = self.settings.opening if place.found is None else 0
        return ContourPlacement.begin(replace(self, horizon=opening), place)

    def _over(self, bank: Bank, settings: ContourSettings) -> GuidedTask:
        assert isinstance(settings, CorrectSettings)
        return GuidedTask(bank, settings, self.horizon)
