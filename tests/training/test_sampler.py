"""Batches: reproducible by number, whole or in parts, mixed and labelled as told."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from training.augment import Augment
from training.config import compose
from training.sampler import Sampler
from training.sources import Backgrounds, Example, Parts

SETTINGS = compose()
FRONTEND, AUGMENT = SETTINGS.frontend, SETTINGS.augment
OFF = {field.name: 0.0 for field in dataclasses.fields(Augment) if field.name.endswith("_probability")}
SHAPE = (FRONTEND.n_mels, FRONTEND.n_frames)


def altered(**values):
    return dataclasses.replace(AUGMENT, **OFF | values)


class Level:
    """A source whose windows are all of one level, with a little noise that tells them apart."""

    def __init__(self, level, targets, weight=1.0, parts=None, mixes=True):
        self.level, self.targets = level, np.array(targets, np.float32)
        self.weight, self.parts, self.mixes = weight, parts, mixes

    def draw(self, rng):
        mel = (self.level + 0.01 * rng.standard_normal(SHAPE)).astype(np.float32)
        return Example(mel, self.targets, self.weight, self.parts, self.mixes)


def sampler(*sources, augment=AUGMENT, backgrounds=None, batch_size=8, **told):
    sources = sources or (Level(0.0, [1, 0, 0]), Level(1.0, [0, 1, 0]))
    shares = told.pop("shares", [1.0] * len(sources))
    given = list(zip(sources, shares, strict=True))
    return Sampler(given, backgrounds, augment, FRONTEND, seed=3, batch_size=batch_size, n_labels=3, **told)


@pytest.fixture
def backgrounds(tmp_path):
    names = []
    for i, level in enumerate((-1.0, -1.2)):
        np.save(tmp_path / f"{i}.npy", np.full((1, SHAPE[0], SHAPE[1] + 50), level, np.float16))
        names.append(f"{i}.npy")
    return Backgrounds(pd.DataFrame({"author": ["a", "b"], "feature": names}), tmp_path, SHAPE[1])


def test_a_batch_depends_on_its_number_alone(backgrounds):
    first, second = (sampler(backgrounds=backgrounds) for _ in range(2))
    first.batch(0, 0)
    for a, b in zip(first.batch(4, 2), second.batch(4, 2), strict=True):
        np.testing.assert_array_equal(a, b)
    for other in ((4, 3), (3, 2)):
        assert not np.array_equal(first.batch(4, 2).inputs, first.batch(*other).inputs)


def test_workers_that_make_parts_make_one_batch(backgrounds):
    made = sampler(backgrounds=backgrounds)
    parts = [made.batch(1, 2, range(0, 3)), made.batch(1, 2, range(3, 8))]
    for whole, *of in zip(made.batch(1, 2), *parts, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(of))


def test_shapes_are_what_the_model_takes():
    batch = sampler().batch(0, 0)
    assert [array.shape for array in batch] == [
        (8, *SHAPE, 1), (8, 3), (8,), (8, 0, 3), (8,), (8, 0, 0), (8,),
    ]  # fmt: skip
    assert {array.dtype for array in batch} == {np.dtype(np.float32)}
    assert np.isfinite(batch.inputs).all()


def test_sources_give_their_shares():
    made = sampler(Level(0.0, [1, 0, 0]), Level(0.0, [0, 1, 0]), shares=[3.0, 1.0], augment=altered(), batch_size=400)
    assert made.batch(0, 0).targets.mean(axis=0) == pytest.approx([0.75, 0.25, 0], abs=0.06)


def test_a_mixture_has_the_union_of_labels_and_the_mean_of_weights():
    augment = altered(mixup_probability=1.0, mixup_sources=3)
    made = sampler(Level(0.0, [1, 0, 0.25], 1.0), Level(0.5, [0, 0.5, 0.5], 0.5), augment=augment, batch_size=200)
    batch = made.batch(0, 0)
    found = {(*map(float, t), round(float(w), 3)) for t, w in zip(batch.targets, batch.weights, strict=True)}
    assert found == {
        (1.0, 0.0, 0.25, 1.0),  # with itself
        (0.0, 0.5, 0.5, 0.5),
        (1.0, 0.5, 0.5, 0.75),
        (1.0, 0.5, 0.5, 0.667),
        (1.0, 0.5, 0.5, 0.833),
    }


HALVES = ((0.0, 0.5), (0.5, 1.0))
OPINION = Parts(np.array([[0, 0.3, 0], [0, 0.1, 0.6]], np.float32), np.array([[1, 2], [3, 4]], np.float32))


def test_what_is_a_mixture_already_is_not_mixed_again_and_keeps_what_a_teacher_said():
    plain = Level(0.0, [1, 0, 0])
    taught = Level(1.0, [0, 0.3, 0.6], parts=OPINION, mixes=False)
    augment = altered(mixup_probability=1.0, noise_probability=1.0, noise_snr_db=[0.0, 0.0])
    batch = sampler(plain, taught, augment=augment, batch_size=100, parts=HALVES, embedding_size=2).batch(0, 0)
    alone = batch.embedded == 1
    assert 20 < alone.sum() < 80 and np.array_equal(batch.heard, batch.embedded)
    np.testing.assert_allclose(batch.targets[alone], np.tile([0, 0.3, 0.6], (alone.sum(), 1)), rtol=1e-6)
    for found, said in ((batch.part_targets, OPINION.targets), (batch.embeddings, OPINION.embeddings)):
        np.testing.assert_array_equal(found[alone], np.tile(said, (alone.sum(), 1, 1)))
        assert not found[~alone].any()
    np.testing.assert_array_equal(batch.targets[~alone], np.tile([1, 0, 0], ((~alone).sum(), 1)))


def test_an_opinion_may_lack_its_embedding():
    taught = Level(1.0, [0, 0.3, 0.6], parts=OPINION._replace(embeddings=None), mixes=False)
    batch = sampler(taught, parts=HALVES, embedding_size=2).batch(0, 0)
    assert batch.heard.all() and batch.part_targets.any() and not batch.embedded.any()


def test_parts_stay_where_they_are():
    class Click:
        def draw(self, rng):
            mel = np.full(SHAPE, -1.0, np.float32)
            mel[:, 7] = 1.0
            return Example(mel, np.zeros(3, np.float32), parts=OPINION, mixes=False)

    batch = sampler(Click(), augment=altered(time_roll_probability=1.0), parts=HALVES, embedding_size=2).batch(0, 0)
    assert (batch.inputs[..., 0].max(axis=1).argmax(axis=1) == 7).all()


def test_of_a_mixture_no_teacher_has_said_anything():
    source = Level(0.0, [1, 0, 0], parts=OPINION)
    batch = sampler(source, augment=altered(mixup_probability=1.0), parts=HALVES, embedding_size=2).batch(0, 0)
    assert not (batch.heard.any() or batch.part_targets.any() or batch.embedded.any() or batch.embeddings.any())


def test_background_alone_has_no_label_at_all(backgrounds):
    smoothed = Level(0.0, [0.95, 0.05, 0.05])
    batch = sampler(smoothed, augment=altered(nocall_probability=0.5), backgrounds=backgrounds, batch_size=200).batch(
        0, 0
    )
    alone = (batch.targets == 0).all(axis=1)
    assert alone.mean() == pytest.approx(0.5, abs=0.12)
    levels = batch.inputs[..., 0].mean(axis=(1, 2))
    assert levels[alone].max() < -0.9
    assert levels[~alone].min() > -0.1


def test_backgrounds_are_added_as_often_as_told(backgrounds):
    augment = altered(background_probability=0.5, background_snr_db=[-20.0, -20.0])
    batch = sampler(Level(0.0, [1, 0, 0]), augment=augment, backgrounds=backgrounds, batch_size=200).batch(0, 0)
    assert (batch.inputs.mean(axis=(1, 2, 3)) > 0.1).mean() == pytest.approx(0.5, abs=0.12)
    assert (batch.targets == [1, 0, 0]).all()


def test_without_backgrounds_there_are_none():
    batch = sampler(augment=altered(nocall_probability=1.0, background_probability=1.0)).batch(0, 0)
    assert (batch.targets.sum(axis=1) == 1).all()
