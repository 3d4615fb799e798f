"""The training loop: it learns, stops, continues as if it had not been interrupted, and keeps what it says it keeps."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
from fit_fixtures import CODES, FRONTEND, NETWORK, PARTS, SHAPE, TAUGHT, TOLD, recordings, training
from lazily import keras, tf

from training.checkpoints import best_model, read_checkpoint, write_checkpoint, write_model
from training.errors import ConfigError, StageError
from training.feeding import Feed
from training.fitting import Validation
from training.models import of_parts
from training.optimizers import make_optimizer
from training.strategies import Team

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module", autouse=True)
def deterministic():
    tf.config.experimental.enable_op_determinism()


@pytest.fixture
def team():
    return Team("none")


STATE = [np.arange(600, dtype=np.float32), np.array(3)]
HISTORY = [{"epoch": 1, "loss": 0.7, "cmap": 0.5}, {"epoch": 2, "loss": 0.6, "cmap": 0.6}]


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The checkpoint of a run with the key "one"."""
    place = tmp_path_factory.mktemp("run") / "checkpoint"
    write_checkpoint(place, STATE, HISTORY, "one", NETWORK.build(SHAPE, len(CODES)))
    return place


def weights(model):
    return model.get_weights()


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_learns_and_keeps_the_best_epoch(tmp_path, team):
    whole = training(tmp_path, team, epochs=8, learning_rate=0.01)
    history = whole.train(tmp_path / "checkpoint")
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    best = max(history, key=lambda row: row["cmap"])
    assert best["cmap"] > 0.95
    kept = keras.saving.load_model(best_model(tmp_path / "checkpoint"))
    assert whole.valid.scores(kept) == {name: best[name] for name in ("cmap", "macro_roc_auc", "top1")}


def test_a_species_heard_in_the_background_is_no_mistake(tmp_path):
    """A network that names it first is as right as one that names the primary label."""
    table = recordings(tmp_path).head(2)

    class Second:
        """Says that every window has the second species."""

        def predict_on_batch(self, windows):
            return np.tile(np.array([0, 1, 0], np.float32), (len(windows), 1))

    table["secondary_labels"] = [["low"], []]  # of "high", and of "low" itself
    valid = Validation(table, tmp_path, CODES, FRONTEND.n_frames, 2)
    assert valid.scores(Second())["top1"] == 1.0
    table["secondary_labels"] = [[], []]
    assert Validation(table, tmp_path, CODES, FRONTEND.n_frames, 2).scores(Second())["top1"] == 0.5


@pytest.mark.slow
def test_with_nothing_to_validate_on_the_last_epoch_is_kept(tmp_path, team):
    whole = dataclasses.replace(training(tmp_path, team, epochs=3, steps_per_epoch=1, patience=1), valid=None)
    history = whole.train(tmp_path / "checkpoint")
    assert [set(row) for row in history] == [{"epoch", "loss"}] * 3
    assert_same(
        keras.saving.load_model(best_model(tmp_path / "checkpoint")).get_weights(), weights(whole.trainee.kept())
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "told",
    [
        {"ema": 0.9},
        {},
        {"precision": "mixed_float16"},
        {"taught": True, "optimizer": "muon"},
        {"precision": "mixed_float16", "optimizer": "muon"},
    ],
    ids=str,
)
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, team, told):
    first = training(tmp_path, team, **told)
    wanted = first.train(tmp_path / "one")
    second = training(tmp_path, team, **told)
    measured = second.valid.scores

    def interrupts(model):
        second.valid.scores = measured
        if (tmp_path / "two").exists():
            raise KeyboardInterrupt
        second.valid.scores = interrupts
        return measured(model)

    second.valid.scores = interrupts
    with pytest.raises(KeyboardInterrupt):
        second.train(tmp_path / "two")
    third = training(tmp_path, team, **told)
    assert third.train(tmp_path / "two") == wanted
    assert_same(third.trainee.state(), first.trainee.state())
    assert_same(weights(third.trainee.kept()), weights(first.trainee.kept()))
    assert best_model(tmp_path / "two").read_bytes() == best_model(tmp_path / "one").read_bytes()


def test_another_run_does_not_continue_from_it(left):
    assert read_checkpoint(left, "other") is None
    state, history = read_checkpoint(left, "one")
    assert_same(state, STATE)
    assert history == HISTORY


@pytest.mark.parametrize(
    ("name", "kept"), [("last.npz", -40), ("last.npz", 0), ("state.json", -40), ("state.json", 0), ("best.keras", None)]
)
def test_a_damaged_checkpoint_is_none(tmp_path, left, name, kept):
    place = shutil.copytree(left, tmp_path / "checkpoint")
    path = place / name
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    assert read_checkpoint(place, "one") is None


@pytest.mark.slow
def test_it_stops_when_nothing_gets_better(tmp_path, team):
    whole = training(tmp_path, team, epochs=20, steps_per_epoch=1, patience=2, learning_rate=1e-9)
    whole.valid.scores = lambda model: {"cmap": 0.5, "macro_roc_auc": 0.5, "top1": 0.5}
    assert len(whole.train(tmp_path / "checkpoint")) == 3


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_told(tmp_path, team):
    whole = training(tmp_path, team)
    broken = whole.trainee.state()
    whole.trainee.set_state([np.full_like(broken[0], np.nan), *broken[1:]])
    with pytest.raises(StageError, match=r"lower fit\.learning_rate"):
        whole.train(tmp_path / "checkpoint")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_what_is_kept_is_float32_whatever_it_was_trained_in(tmp_path, team, precision):
    whole = training(tmp_path, team, precision=precision)
    history = whole.train(tmp_path / "checkpoint")
    assert np.isfinite([row["loss"] for row in history]).all()
    kept = keras.saving.load_model(best_model(tmp_path / "checkpoint"))
    assert {layer.dtype_policy.name for layer in kept.layers} == {"float32"}
    assert kept(np.zeros((1, *SHAPE), np.float32)).dtype == tf.float32
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_precision_is_what_the_network_is_trained_in(tmp_path, team):
    plain = dataclasses.replace(NETWORK, dropout=0.0)  # which other numbers would draw otherwise
    first, second = (training(tmp_path, team, precision=p, network=plain) for p in ("float32", "mixed_bfloat16"))
    assert_same(first.trainee.state(), second.trainee.state())
    batch = first.sampler.batch(0, 0)
    one, other = first.trainee.step(batch), second.trainee.step(batch)
    assert one != other
    assert one == pytest.approx(other, rel=0.02)


@pytest.mark.slow
def test_a_step_is_that_of_keras(tmp_path, team):
    whole = training(tmp_path, team, learning_rate=1e-2, warmup_epochs=0)
    twin = keras.models.clone_model(whole.trainee.kept())
    twin.set_weights(weights(whole.trainee.kept()))
    rate = 1e-2
    twin.compile(
        keras.optimizers.AdamW(rate, weight_decay=TOLD.weight_decay),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=False,
    )
    for model in (whole.trainee, twin):
        layers = (model._model if model is whole.trainee else model).layers
        next(layer for layer in layers if layer.name == "dropout").rate = 0.0
    batch = whole.sampler.batch(0, 0)
    heavy = batch._replace(weights=np.linspace(0, 2, TOLD.batch_size).astype(np.float32))
    wanted = float(twin.train_on_batch(batch.inputs, batch.targets, sample_weight=heavy.weights))
    assert whole.trainee.step(heavy) == pytest.approx(wanted, rel=1e-5)
    for a, b in zip(weights(whole.trainee.kept()), weights(twin), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.slow
def test_averaged_weights_are_validated_and_kept(tmp_path, team):
    whole = training(tmp_path, team, ema=0.5, learning_rate=0.01, warmup_epochs=0)
    wanted = [weight.astype(np.float64) for weight in weights(whole.trainee.kept())]
    for n in range(1, 6):
        whole.trainee.step(whole.sampler.batch(0, n))
        stays = min(0.5, (1 + n) / (10 + n))
        now = whole.trainee._model.get_weights()
        wanted = [stays * old + (1 - stays) * new for old, new in zip(wanted, now, strict=True)]
    for a, b in zip(weights(whole.trainee.kept()), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(weights(whole.trainee.kept())[0], now[0])


@pytest.mark.parametrize("pool_mel", [False, True])
def test_parts_are_heard_as_a_window_of_their_own_is(team, pool_mel):
    """Pooling in time is the network's last step but one: a part's frames give what they give in the whole."""
    model = dataclasses.replace(NETWORK, pool_mel=pool_mel).build(SHAPE, len(CODES))
    frames = model.get_layer("head_relu6").output
    whole = keras.Model(model.input, [model.output, frames, *of_parts(model, [(0.0, 1.0), (0.25, 0.75)])])
    window = np.random.default_rng(0).standard_normal((2, *SHAPE, 1)).astype(np.float32)
    said, frames, logits, features = (np.asarray(array) for array in whole(window, training=False))
    np.testing.assert_allclose(logits[:, 0], said, rtol=1e-5, atol=1e-6)
    columns = frames.shape[2]
    assert (frames.shape[1] > 1) == pool_mel
    part = frames[:, :, round(columns / 4) : round(columns * 3 / 4)]
    pooled = np.concatenate([part.mean(axis=(1, 2)), part.max(axis=(1, 2))], axis=-1)
    np.testing.assert_allclose(features[:, 1], pooled, rtol=1e-5, atol=1e-6)
    assert not np.allclose(logits[:, 1], said, rtol=1e-3)


def test_the_loss_is_the_mean_over_the_whole_and_the_parts(tmp_path, team):
    network = dataclasses.replace(NETWORK, dropout=0.0)
    whole = training(tmp_path, team, taught=True, network=network)
    batch, trainee = whole.sampler.batch(0, 0), whole.trainee
    heard, embedded = batch.heard == 1, batch.embedded == 1
    found = {name: np.asarray(array) for name, array in trainee._trained(batch.inputs, training=True).items()}

    def cross_entropy(targets, logits):
        return (np.logaddexp(0, logits) - targets * logits).mean(axis=-1)

    each = cross_entropy(batch.targets, found["logits"])
    of_parts = cross_entropy(batch.part_targets, found["part_logits"])
    each = np.where(heard, (each + of_parts.sum(axis=1)) / (1 + len(PARTS)), each)
    squared = ((found["embeddings"] - batch.embeddings) ** 2).mean(axis=(1, 2))
    each += np.where(embedded, TAUGHT.teacher.embedding_weight * squared, 0)
    assert trainee.step(batch) == pytest.approx(float((each * batch.weights).mean()), rel=1e-4)


@pytest.mark.slow
def test_an_embedding_is_learnt_beside_the_labels_and_not_kept(tmp_path, team):
    whole = training(tmp_path, team, taught=True, epochs=6, steps_per_epoch=16, patience=6, learning_rate=0.01)
    history = whole.train(tmp_path / "checkpoint")
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    kept = keras.saving.load_model(best_model(tmp_path / "checkpoint"))
    assert kept.output_shape == (None, len(CODES))
    assert "embedding" not in {layer.name for layer in kept.layers}
    guessed, wanted = [], []
    for number in range(6):
        batch = whole.sampler.batch(99, number)
        assert 0 < batch.embedded.sum() < TOLD.batch_size
        guessed.append(
            np.asarray(whole.trainee._trained(batch.inputs, training=False)["embeddings"])[batch.embedded == 1]
        )
        wanted.append(batch.embeddings[batch.embedded == 1])
    truth = np.concatenate(wanted)
    # better than to say the mean of each part, whatever the window
    assert ((np.concatenate(guessed) - truth) ** 2).mean() < 0.6 * truth.var(axis=0).mean()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_both_optimizers_learn(tmp_path, team, optimizer):
    whole = training(tmp_path, team, optimizer=optimizer, epochs=6, steps_per_epoch=16, patience=6, learning_rate=0.01)
    history = whole.train(tmp_path / "checkpoint")
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def test_muon_turns_convolutions_by_orthogonal_steps():
    """From zero weights the first step is the nearest orthogonal matrix of the gradient, but for Muon's tolerance."""
    optimizer = make_optimizer("muon", learning_rate=1.0, weight_decay=0.0, steps=10, warmup=0)
    kernel = keras.Variable(np.zeros((1, 1, 6, 4), np.float32), name="kernel")
    depthwise = keras.Variable(np.zeros((3, 3, 5, 1), np.float32), name="kernel")
    optimizer.build([kernel, depthwise])
    gradients = [np.random.default_rng(0).standard_normal(v.shape).astype(np.float32) for v in (kernel, depthwise)]
    optimizer.apply(gradients, [kernel, depthwise])
    step = -np.asarray(kernel)[0, 0] / (0.2 * np.sqrt(6))
    values = np.linalg.svd(step, compute_uv=False)
    assert (values > 0.6).all() and (values < 1.3).all()
    u, _, v = np.linalg.svd(gradients[0][0, 0], full_matrices=False)
    assert np.sum(step * (u @ v)) / np.linalg.norm(step) / np.linalg.norm(u @ v) > 0.95
    np.testing.assert_allclose(np.asarray(depthwise), -np.sign(gradients[1]), rtol=1e-3)  # AdamW's first step


def test_the_same_network_gives_the_same_file(tmp_path, team):
    kept = training(tmp_path, team).trainee.kept()
    digests = set()
    for name in ("a", "b"):
        write_model(tmp_path / f"{name}.keras", kept)
        digests.add(hashlib.sha256((tmp_path / f"{name}.keras").read_bytes()).hexdigest())
    assert len(digests) == 1
    again = keras.saving.load_model(tmp_path / "a.keras")
    assert_same(weights(again), weights(kept))


@pytest.mark.slow
def test_time_is_told_beside_the_results(tmp_path, team):
    training(tmp_path, team, epochs=2, steps_per_epoch=1).train(tmp_path / "fit" / "checkpoint")
    told = json.loads((tmp_path / "fit" / "timing.json").read_text())
    assert [row["epoch"] for row in told["epochs"]] == [1, 2]
    assert 0 <= told["wait_share"] <= 1
    assert told["seconds"] == pytest.approx(sum(row["seconds"] for row in told["epochs"]), abs=0.01)


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_come_in_order_and_run_on_into_the_next_epoch(threads):
    feed = Feed(lambda epoch, number: (epoch, number), range(2, 4), 5, threads)
    assert [list(feed.epoch()), list(feed.epoch())] == [[(epoch, n) for n in range(5)] for epoch in (2, 3)]
    feed.close()


def test_what_makes_a_batch_fail_is_heard():
    def make(epoch, number):
        raise StageError("no")

    feed = Feed(make, range(1), 1, 1)
    with pytest.raises(StageError):
        list(feed.epoch())
    feed.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ema": 1.0}, "fit.ema is 1.0"),
        ({"precision": "float64"}, "fit.precision is 'float64'; choose one of float32"),
        ({"strategy": "all"}, "fit.strategy is 'all'; choose one of none"),
        ({"optimizer": "sgd"}, "fit.optimizer is 'sgd'; choose one of adamw, muon"),
        ({"rating_weight": [[4, 1], [2, 0.5]]}, "let ratings rise"),
        ({"rating_weight": [[4, -1]]}, "not be negative"),
        ({"rating_weight": [4, 1]}, r"write points \[\[rating, weight\]"),
        ({"label_smoothing": 1.0}, "fit.label_smoothing is 1.0"),
        ({"loader_threads": 0}, "fit.loader_threads is 0"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, told):
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(TOLD, **change)
