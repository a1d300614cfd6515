import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from usrl.networks.augmentation import Augmentation
from usrl.networks.recipe import AugmentRecipe

SIDE = 64
NOTHING = AugmentRecipe(flip=False, rotation_deg=0.0, scale=0.0, translation=0.0, gamma=0.0)


def _still(count: int = 1) -> Augmentation:
    return Augmentation.draw(NOTHING, count, torch.Generator().manual_seed(0))


def _noise(count: int = 3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, SIDE, SIDE), generator=rng, dtype=torch.uint8)
    return images, images > 127


def _square(row: int, column: int, half: int = 4) -> Tensor:
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[0, row - half : row + half, column - half : column + half] = True
    return mask


def _centre(mask: Tensor) -> list[float]:
    """Return (x, y) relative to the centre of the image."""
    return (torch.nonzero(mask[0]).float().mean(0) - (SIDE - 1) / 2).flip(0).tolist()


def _apply_to_mask(augmentation: Augmentation, mask: Tensor) -> Tensor:
    return augmentation.apply(mask.to(torch.uint8) * 255, mask)[1]


def test_nothing_to_change_is_the_identity() -> None:
    images, masks = _noise()
    new_images, new_masks = _still(3).apply(images, masks)
    torch.testing.assert_close(new_images, images / 255, atol=1e-4, rtol=0)
    assert torch.equal(new_masks, masks)


def test_flip_mirrors_image_and_mask_left_to_right() -> None:
    images, masks = _noise(2)
    flip = replace(_still(2), flip=torch.tensor([True, False]))
    new_images, new_masks = flip.apply(images, masks)
    torch.testing.assert_close(new_images[0], images[0].flip(1) / 255, atol=1e-4, rtol=0)
    assert torch.equal(new_masks[0], masks[0].flip(1))
    assert torch.equal(new_masks[1], masks[1])


def test_quarter_turn_takes_x_to_y() -> None:
    turned = _apply_to_mask(replace(_still(), angle=torch.tensor([math.pi / 2])), _square(32, 48))
    assert _centre(turned) == pytest.approx([0, 16], abs=0.51)


def test_scale_magnifies_about_the_centre() -> None:
    mask = _square(32, 42)
    scaled = _apply_to_mask(replace(_still(), scale=torch.tensor([1.5])), mask)
    assert scaled.sum() / mask.sum() == pytest.approx(1.5**2, rel=0.05)
    assert _centre(scaled) == pytest.approx([1.5 * v for v in _centre(mask)], abs=0.3)


def test_shift_moves_by_a_fraction_of_the_side() -> None:
    shift = replace(_still(), shift=torch.tensor([[0.25, -0.125]]))
    assert torch.equal(_apply_to_mask(shift, _square(32, 32)), _square(24, 48))


def test_shift_after_rotation_and_flip_keeps_its_direction() -> None:
    both = replace(
        _still(),
        flip=torch.tensor([True]),
        angle=torch.tensor([math.pi / 2]),
        shift=torch.tensor([[0.25, 0.0]]),
    )
    assert _centre(_apply_to_mask(both, _square(32, 32))) == pytest.approx([16, 0], abs=0.51)


def test_gamma_changes_gray_values_and_no_mask() -> None:
    images, masks = _noise()
    gamma = torch.tensor([0.5, 1.0, 2.0])
    new_images, new_masks = replace(_still(3), gamma=gamma).apply(images, masks)
    torch.testing.assert_close(new_images, (images / 255) ** gamma.view(3, 1, 1), atol=2e-3, rtol=0)
    assert torch.equal(new_masks, masks)


def test_image_and_mask_move_together() -> None:
    masks = torch.cat([_square(20 + 3 * i, 40 - 2 * i, half=8) for i in range(8)])
    strong = AugmentRecipe(rotation_deg=90.0, scale=0.3, translation=0.1, gamma=0.0)
    drawn = Augmentation.draw(strong, 8, torch.Generator().manual_seed(3))
    new_images, new_masks = drawn.apply(masks.to(torch.uint8) * 255, masks)
    assert torch.equal(new_images > 0.5, new_masks)
    assert not torch.equal(new_masks, masks)


def test_draws_stay_within_the_recipe_and_fill_it() -> None:
    recipe = AugmentRecipe()
    drawn = Augmentation.draw(recipe, 4000, torch.Generator().manual_seed(0))
    for values, half_width in [
        (torch.rad2deg(drawn.angle), recipe.rotation_deg),
        (drawn.scale - 1, recipe.scale),
        (drawn.shift, recipe.translation),
        (drawn.gamma.log(), recipe.gamma),
    ]:
        assert values.abs().max() <= half_width * 1.0001
        assert values.min() < -0.95 * half_width
        assert values.max() > 0.95 * half_width
    assert drawn.flip.float().mean() == pytest.approx(0.5, abs=0.05)


def test_one_seed_draws_one_augmentation() -> None:
    first, second = (
        Augmentation.draw(AugmentRecipe(), 4, torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))
