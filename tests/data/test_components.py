import numpy as np

from usrl.data.components import best_overlap, label_components, remove_specks, split_components

MASK = np.array(
    [
        [1, 0, 0, 0, 1],
        [0, 1, 0, 0, 1],
        [0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0],
    ],
    np.bool_,
)


def test_diagonal_neighbours_are_one_component():
    labels, areas = label_components(MASK)
    assert labels[0, 0] == labels[1, 1]
    assert areas.tolist() == [14, 2, 3, 1]


def test_components_add_up_to_the_mask():
    parts = split_components(MASK)
    assert [int(part.sum()) for part in parts] == [2, 3, 1]
    np.testing.assert_array_equal(np.sum(parts, axis=0) == 1, MASK)


def test_an_empty_mask_has_no_components():
    assert split_components(np.zeros((3, 4), np.bool_)) == []


def test_specks_are_removed_and_counted():
    clean, removed = remove_specks(MASK, 3)
    assert removed == 2
    np.testing.assert_array_equal(clean, np.where(np.arange(5) == 4, MASK, False))


def test_a_mask_without_specks_is_unchanged():
    clean, removed = remove_specks(MASK, 1)
    assert removed == 0
    np.testing.assert_array_equal(clean, MASK)


def test_a_full_mask_is_one_component_and_no_speck():
    full = np.ones((3, 4), np.bool_)
    assert remove_specks(full, 5)[0].all()


def test_the_component_of_most_shared_pixels_is_chosen():
    target = np.zeros_like(MASK)
    target[0] = target[1, 4] = True
    np.testing.assert_array_equal(best_overlap(MASK, target), split_components(MASK)[1])


def test_nothing_is_chosen_where_nothing_overlaps():
    assert best_overlap(MASK, ~MASK) is None
    assert best_overlap(MASK, np.zeros_like(MASK)) is None
