"""The best thresholds and openings of a region, from its tables."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from usrl.envs.threshold.tables import Tables


def dice_of_counts(counts: Tensor, target_area: Tensor) -> Tensor:
    """Return the Dice (...) of counts (..., 2): pixels taken and target pixels among them; 1 if empty."""
    total = counts[..., 0] + target_area
    return torch.where(total > 0, 2 * counts[..., 1] / total.clamp_min(1), 1.0)


def best_tiles(tables: Tables) -> Tensor:
    """Return the setting of every tile that together gives the highest Dice, int64, (C, T, 2).

    Dice is a ratio of sums over tiles, whose global maximum Dinkelbach's method finds. For a guess d of the
    best Dice, each tile takes the setting that maximises 2 overlap - d size. The Dice of these settings is
    the next guess. The guesses rise to the maximum within a few rounds.

    Source:
        Dinkelbach (1967), On nonlinear fractional programming, Management Science 13(7):492-498,
        doi:10.1287/mnsc.13.7.492.
    """
    flat = tables.counts.flatten(2, 3).to(torch.float64)  # (C, T, Z K, 2)
    guess = torch.zeros(len(tables), dtype=torch.float64, device=flat.device)
    while True:
        gain = 2 * flat[..., 1] - guess[:, None, None] * flat[..., 0]  # (C, T, Z K)
        best = gain.argmax(dim=2)  # (C, T)
        chosen = flat.gather(2, best[:, :, None, None].expand(-1, -1, 1, 2))[:, :, 0]  # (C, T, 2)
        reached = dice_of_counts(chosen.sum(dim=1), tables.target_area.double())
        if not bool((reached > guess + 1e-12).any()):
            count = tables.levels.shape[1]
            return torch.stack([best // count, best % count], dim=2)
        guess = torch.maximum(guess, reached)


def ascend_tiles(start: Tensor, counts: tuple[int, int], score: Callable[[Tensor], Tensor]) -> Tensor:
    """Return settings that no change of a single tile improves, by coordinate ascent from a start.

    This serves scores that are not a sum over tiles, as when the whole mask is cleaned. Settings are openings
    and thresholds, int64 (C, T, 2), of which there are ``counts``. The score of settings is (C,).
    """
    best, reached = start.clone(), score(start)
    improved = True
    while improved:
        improved = False
        for tile, size, level in product(range(start.shape[1]), range(counts[0]), range(counts[1])):
            tried = best.clone()
            tried[:, tile] = tried.new_tensor([size, level])
            found = score(tried)
            better = found > reached + 1e-6  # (C,)
            improved |= bool(better.any())
            best[better], reached = tried[better], torch.maximum(found, reached)
    return best
