"""What a network costs on one image: parameters, arithmetic and memory."""

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from usrl.data.sample import Prompt, Sample
from usrl.networks.segmenter import NetworkSegmenter
from usrl.segmenter import Method, Networked, Segmenter

COSTS = ("parameters", "flops", "peak_bytes")


def list_costs(
    methods: Mapping[str, Method], sample: Sample, prompts: Mapping[str, Prompt]
) -> list[dict[str, Any]]:
    """Return what every method costs on one sample, and the name of its network: rows of ``results.json``."""
    rows = []
    for name, method in methods.items():
        prompt = prompts[sample.name] if method.track == "prompted" else None
        labels = {"method": name, "track": method.track, "network": None}
        if isinstance(method, NetworkSegmenter):
            labels["network"] = method.architecture
        rows.append(labels | measure_cost(method, sample, prompt))
    return rows


def measure_cost(method: Method, sample: Sample, prompt: Prompt | None) -> dict[str, Any]:
    """Return what a method's networks cost as it segments one image, at the size that they work at.

    The keys are ``parameters``; ``flops``, two for each multiplication with addition in the matrix products
    and convolutions of torch, of all steps and networks of a chain; ``peak_bytes``, the weights and the
    largest sum of torch's tensors that exist at once; and ``without``, why these are None, if they are.
    """
    if not isinstance(method, Segmenter):
        return dict.fromkeys(COSTS) | {"without": "a ceiling chooses with the target"}
    if not isinstance(method, Networked) or not (networks := method.networks()):
        return dict.fromkeys(COSTS) | {"without": "has no network"}
    unique = {id(weight): weight for network in networks for weight in network.parameters()}.values()
    kept = {id(each): each for network in networks for each in network.buffers()}.values()
    with FlopCounterMode(display=False) as counter, _Watch() as watch:
        method.segment(sample.image, prompt)
    weights = sum(each.nbytes for each in [*unique, *kept])
    return {
        "parameters": sum(weight.numel() for weight in unique),
        "flops": int(counter.get_total_flops()),
        "peak_bytes": weights + watch.peak,
        "without": None,
    }


class _Watch(TorchDispatchMode):
    """Sums the bytes of the tensors that operations make, as long as each lives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        old = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if _is_tensor(each)}
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if _is_tensor(each):
                self._add(each.untyped_storage(), old)
        return result

    def _add(self, storage: torch.UntypedStorage, old: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in old:  # a view, or a weight
            return
        self._known.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
