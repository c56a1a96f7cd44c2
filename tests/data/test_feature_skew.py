import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data import IID, FeatureSkew
from umbel.errors import ConfigError

law = settings(derandomize=True, max_examples=40, deadline=None)
IMAGES = np.arange(8 * 5 * 5, dtype=np.uint8).reshape(8, 5, 5)


def seen(skew, data, client):
    return skew.features(skew.split(len(data)), client, data)


def test_it_splits_as_the_inner_partitioner_does():
    inner = IID(3, seed=5)
    assert [p.tolist() for p in FeatureSkew(inner, noise=1).split(10)] == [p.tolist() for p in inner.split(10)]


def test_without_rotation_and_noise_features_are_what_take_gives():
    skew = FeatureSkew(IID(2))
    assert seen(skew, IMAGES, 1).tolist() == skew.split(8).take(1, IMAGES).tolist()
    assert seen(skew, IMAGES, 1).dtype == np.uint8


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_four_turns_are_none_and_images_keep_their_bytes(turns):
    skew = FeatureSkew(IID(1), rotations=(90 * turns,))
    once = seen(skew, IMAGES, 0)
    assert once.dtype == np.uint8
    assert np.sort(once, axis=None).tolist() == np.sort(IMAGES, axis=None).tolist()
    image = IMAGES
    for _ in range(4):
        image = seen(skew, image, 0)
    assert (image == IMAGES).all()
    assert (once != IMAGES).any()


def test_a_quarter_turn_is_counter_clockwise():
    image = np.array([[[1, 2], [3, 4]]])
    assert seen(FeatureSkew(IID(1), rotations=(90,)), image, 0).tolist() == [[[2, 4], [1, 3]]]


def test_clients_take_rotations_in_turn():
    skew = FeatureSkew(IID(4), rotations=(0, 180))
    partition = skew.split(8)
    for client in range(4):
        expected = partition.take(client, IMAGES)[:, ::-1, ::-1] if client % 2 else partition.take(client, IMAGES)
        assert (skew.features(partition, client, IMAGES) == expected).all()


def test_channels_first_and_last_turn_the_same_picture():
    last = np.random.default_rng(0).random((3, 4, 4, 2))
    first = np.moveaxis(last, -1, 1)
    a = seen(FeatureSkew(IID(1), rotations=(90,)), last, 0)
    b = seen(FeatureSkew(IID(1), rotations=(90,), channels="first"), first, 0)
    assert (np.moveaxis(a, -1, 1) == b).all()


@law
@given(st.floats(-720, 720), st.floats(-720, 720))
def test_rotations_of_points_keep_lengths_and_add_up(one, two):
    points = np.random.default_rng(0).normal(size=(5, 2))
    first = seen(FeatureSkew(IID(1), rotations=(one,)), points, 0)
    both = seen(FeatureSkew(IID(1), rotations=(two,)), first, 0)
    assert np.allclose(np.hypot(*first.T), np.hypot(*points.T))
    assert np.allclose(both, seen(FeatureSkew(IID(1), rotations=(one + two,)), points, 0))


def test_quarter_turns_of_points_are_exact():
    points = np.array([[3, 0], [0, 2]])
    assert seen(FeatureSkew(IID(1), rotations=(90,)), points, 0).tolist() == [[0, 3], [-2, 0]]
    assert seen(FeatureSkew(IID(1), rotations=(90,)), points, 0).dtype == points.dtype
    assert seen(FeatureSkew(IID(1), rotations=(45,)), points, 0).dtype == np.float64


def test_noise_grows_with_the_client_and_reaches_its_level_at_the_last():
    zeros = np.zeros((20_000, 3))
    skew = FeatureSkew(IID(4), noise=2.0, seed=1)
    partition = skew.split(20_000)
    levels = [float(np.std(skew.features(partition, client, zeros))) for client in range(4)]
    assert levels == pytest.approx([0.5, 1.0, 1.5, 2.0], rel=0.03)  # 15 000 draws: relative error about 0.6 %


def test_noise_depends_on_seed_client_and_stream_only():
    x = np.zeros((40, 2), dtype=np.float32)
    partition = IID(2).split(40)
    base = FeatureSkew(IID(2), noise=1.0, seed=1)
    drawn = base.features(partition, 1, x)
    assert drawn.dtype == np.float32
    assert (base.features(partition, 1, x) == drawn).all()
    others = [
        FeatureSkew(IID(2), noise=1.0, seed=2).features(partition, 1, x),
        base.features(partition, 1, x, stream="test"),
        base.features(partition, 0, x) * 2,
    ]
    assert all((other != drawn).all() for other in others)
    assert (x == 0).all()


@pytest.mark.parametrize(
    ("shape", "angle", "sentence"),
    [
        ((4, 3), 90, r"features must be points \(n, 2\) or images"),
        ((4,), 90, r"features must be points \(n, 2\) or images"),
        ((4, 5, 5), 45, "rotations must be multiples of 90 for images, got 45"),
        ((4, 5, 6), 90, "need square images, got 5 x 6"),
        ((4, 3, 5, 5), 270, "need square images, got 3 x 5"),
    ],
)
def test_shapes_that_cannot_be_turned_are_refused(shape, angle, sentence):
    with pytest.raises(ConfigError, match=sentence):
        seen(FeatureSkew(IID(1), rotations=(angle,)), np.zeros(shape), 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rotations": ()}, r"rotations must be one or more angles in degrees, got \(\)"),
        ({"rotations": 90}, "rotations must be one or more angles in degrees, got 90"),
        ({"rotations": (90, float("nan"))}, "rotations must be a finite number, got nan"),
        ({"noise": -0.1}, "noise must be at least 0, got -0.1"),
        ({"noise": "much"}, "noise must be a finite number, got 'much'"),
        ({"channels": "middle"}, "channels must be 'first' or 'last', got 'middle'"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FeatureSkew(IID(1), **arguments)
