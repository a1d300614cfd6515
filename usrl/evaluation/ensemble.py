"""Several segmenters as one, whose probabilities are averaged."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import tee

import numpy as np
from torch import nn

from usrl.data.sample import GrayImage, Prompt, Track
from usrl.errors import UserError
from usrl.segmenter import Answer, Segmenter, answer_frames, networks_of


class Ensemble:
    """Averages what its members say of each pixel.

    A member says its probability, or 0 and 1 if it has only a mask. The mask is where the mean exceeds one
    half: members that have only masks vote. An odd number of them, joined with one network, decides whatever
    that says, which `usrl.evaluation.methods.open_segmenter` refuses.

    Args:
        members: At least two segmenters, all prompted or all automatic.

    Raises:
        UserError: If some need boxes and others do not.

    Source:
        Lakshminarayanan, Pritzel and Blundell (2017), Simple and scalable predictive uncertainty estimation
        using deep ensembles.
    """

    def __init__(self, members: Sequence[Segmenter]) -> None:
        self._members = members
        self.name = ":".join(member.name for member in members)
        self.track: Track = members[0].track
        for member in members:
            if member.track != self.track:
                raise UserError(
                    f"{members[0].name} is {self.track} and {member.name} is {member.track}; the members of "
                    "an ensemble all need boxes, or none does"
                )

    def segment(self, image: GrayImage, prompt: Prompt | None = None) -> Answer:
        """Return the mean of the probabilities, the mask where it exceeds one half, and how soft it is."""
        return _average([member.segment(image, prompt) for member in self._members])

    def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
        """Yield the answer for each frame of a clip, whose frames a member sees together if it can."""
        copies = tee(frames, len(self._members))
        yield from map(_average, zip(*map(answer_frames, self._members, copies), strict=True))

    def networks(self) -> list[nn.Module]:
        """Return the networks of all members; see `usrl.segmenter.Networked`."""
        return [network for member in self._members for network in networks_of(member)]


def _average(answers: Sequence[Answer]) -> Answer:
    said = [each.mask if each.probability is None else each.probability for each in answers]
    return Answer.cut(np.asarray(np.mean(said, axis=0), np.float32))
