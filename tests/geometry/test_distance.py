"""Signed distances from the boundaries of masks."""

import torch

from usrl.geometry.area import read_distances, signed_distances


def test_distances_are_negative_inside_and_count_from_between_the_two_sides() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, :, :4] = True
    # The boundary is at x = 3.5, and where the target leaves the image, at x = -0.5.
    assert signed_distances(mask)[0, 4].tolist() == [-0.5, -1.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5]


def test_the_border_of_the_image_is_no_boundary_for_the_background() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 4, 4] = True
    distances = signed_distances(mask)[0]
    assert (distances[4, 4], distances[4, 8]) == (-0.5, 3.5)


def test_vertices_read_their_own_map_between_pixel_centres_and_at_the_border() -> None:
    ramp = torch.arange(5.0).expand(5, 5)
    maps = torch.stack([ramp, 10 * ramp.T]).contiguous()  # x, and ten times y
    places = torch.tensor([[[1.25, 3.0], [2.5, 0.5]], [[1.25, 3.0], [-3.0, 2.5]]])
    read = read_distances(maps, torch.tensor([0, 1]), places)
    torch.testing.assert_close(read, torch.tensor([[1.25, 2.5], [30.0, 25.0]]))
    beyond = read_distances(maps, torch.tensor([0]), torch.tensor([[[9.0, 9.0]]]))
    torch.testing.assert_close(beyond, torch.tensor([[4.0]]), atol=2e-3, rtol=0)
