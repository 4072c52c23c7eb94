"""The procedural source: repeatable, varied, and its anomalies are anomalies."""

import numpy as np
import pytest

from inctrl_core.training.synthetic import SIZE, photographed_class, procedural_class
from inctrl_core.training.synthetic.anomalies import KINDS
from inctrl_core.training.synthetic.fields import mesh_warp, rigid
from inctrl_core.training.synthetic.textures import FAMILIES, random_texture


def pixels(image):
    return np.asarray(image, np.float32) / 255.0


def test_same_numbers_give_the_same_image_in_any_order():
    first = procedural_class(3, 17)
    good, (bad, kind) = first.normal(4), first.anomalous(2)
    again = procedural_class(3, 17)
    assert again.anomalous(2)[1] == kind
    assert np.array_equal(again.anomalous(2)[0], bad)
    assert np.array_equal(again.normal(4), good)


def test_seed_class_and_number_each_change_the_image():
    images = [
        procedural_class(0, 0).normal(0),
        procedural_class(1, 0).normal(0),
        procedural_class(0, 1).normal(0),
        procedural_class(0, 0).normal(1),
    ]
    arrays = [np.asarray(image) for image in images]
    assert all(array.shape == (SIZE, SIZE, 3) and array.dtype == np.uint8 for array in arrays)
    for i, array in enumerate(arrays):
        assert not any(np.array_equal(array, other) for other in arrays[:i])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_changes_what_can_be_seen(kind):
    rng = np.random.default_rng(5)
    image, other = (
        pixels(procedural_class(0, 8).normal(0)),
        pixels(procedural_class(0, 4).normal(0)),
    )
    before = image.copy()
    changes = []
    for _ in range(5):
        changed = KINDS[kind](image, other, rng)
        assert changed.shape == image.shape and np.isfinite(changed).all()
        changes.append(np.abs(np.clip(changed, 0, 1) - image).max())
    assert np.array_equal(image, before), "the good image must not be changed in place"
    assert max(changes) > 0.1


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_render_finite_images_and_their_instances_differ(family):
    rng = np.random.default_rng(1)
    texture = random_texture(rng)
    while texture.family != family:
        texture = random_texture(rng)
    one, two = texture.render(np.random.default_rng(0)), texture.render(np.random.default_rng(1))
    assert one.shape == (SIZE, SIZE, 3)
    assert np.isfinite(one).all() and np.isfinite(two).all()
    assert not np.array_equal(one, two)


def test_good_images_are_closer_to_each_other_than_bad_ones_on_the_whole():
    # By the colours of coarse blocks, without any network: most classes must show it.
    def blocks(image):
        return pixels(image).reshape(12, 20, 12, 20, 3).mean((1, 3))

    closer = []
    for index in range(12):
        made = procedural_class(0, index)
        good = np.stack([blocks(made.normal(i)) for i in range(6)])
        bad = np.stack([blocks(made.anomalous(i)[0]) for i in range(6)])
        reference, held = good[:3], good[3:]

        def distance(queries, reference=reference):
            each = np.abs(queries[:, None] - reference[None]).max(axis=(2, 3, 4))
            return each.min(axis=1).mean()

        closer.append(distance(held) < distance(bad))
    assert sum(closer) >= 10


def test_kinds_that_leave_a_texture_a_texture_are_not_used_on_textures():
    for index in range(60):
        made = procedural_class(2, index)
        if hasattr(made.recipes[0], "family"):
            assert not {"shuffle", "turn", "bite"} & set(made.kinds)
        assert made.kinds


def test_warps_of_nothing_change_nothing():
    image = pixels(procedural_class(0, 8).normal(0))
    assert np.abs(mesh_warp(image, np.zeros((9, 9, 2))) - image).max() < 0.01
    assert np.abs(rigid(image, 0.0, 1.0, (0.0, 0.0)) - image).max() < 0.01


def test_rigid_shifts_by_pixels_down_and_right():
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    image[100:110, 60:70] = 1.0
    moved = rigid(image, 0.0, 1.0, (20.0, 30.0))
    rows, columns = np.nonzero(moved[..., 0] > 0.5)
    assert abs(rows.mean() - 124.5) < 1 and abs(columns.mean() - 94.5) < 1


def test_photographed_classes_repeat_and_differ():
    first, again = photographed_class(3, 4), photographed_class(3, 4)
    assert np.array_equal(first.normal(2), again.normal(2))
    assert np.array_equal(first.anomalous(1)[0], again.anomalous(1)[0])
    assert not np.array_equal(first.normal(2), photographed_class(3, 5).normal(2))
    assert first.normal(2).size == (SIZE, SIZE)


def test_a_window_stays_inside_its_photograph_and_a_wandering_one_shows_a_material():
    wandering = 0
    for index in range(60):
        made = photographed_class(1, index)
        window = made.recipes[0]
        assert made.kinds
        if window.wander > 0.1:
            wandering += 1
            assert not {"shuffle", "turn", "bite"} & set(made.kinds)
        for changed in (window, window.mutate(np.random.default_rng(index))):
            drawn = changed.render(np.random.default_rng(index))
            assert drawn.shape == (SIZE, SIZE, 3) and np.isfinite(drawn).all()
    assert wandering > 5
