"""A recordist is on one side only, every label is dealt out, and the deal can be repeated."""

from functools import partial

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.datasets.base import one_spelling
from training.errors import ConfigError
from training.splits import lacking, split, split_backgrounds, split_folds, split_soundscapes


def table(pairs):
    """Recordings from (label, author) pairs."""
    rows = [
        {"recording_id": f"r{i}", "primary_label": label, "author": author} for i, (label, author) in enumerate(pairs)
    ]
    return pd.DataFrame(rows)


def test_spellings_of_a_recordist_end_on_one_side():
    given = [(f"s{k % 3}", f"{name}{tail}") for k, name in enumerate("ABCDEF") for tail in ("x y", "x  y", "X Y ") * 3]
    recordings = table(given)
    recordings["author"] = one_spelling(recordings["author"])
    person = pd.Series([author[0] for _, author in given])
    for seed in range(20):
        assert (split(recordings, seed, 0.3, 0.3).groupby(person).nunique() == 1).all()


pairs = st.lists(
    st.tuples(st.sampled_from("abcde"), st.integers(0, 12).map("person {}".format)), min_size=1, max_size=60
)


@settings(max_examples=40, deadline=None)
@given(pairs, st.integers(0, 100))
def test_recordists_stay_together_and_every_label_is_trained_on(pairs, seed):
    recordings = table(pairs)
    parts = split(recordings, seed, 0.2, 0.2)
    assert (parts.groupby(recordings["author"]).nunique() == 1).all()
    assert lacking(recordings, parts)["train"] == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=6), st.integers(0, 100))
def test_a_label_with_two_recordists_of_its_own_is_tested_too(people_per_label, seed):
    recordings = table([(f"s{k}", f"p{k}-{n}") for k, people in enumerate(people_per_label) for n in range(people)])
    without = lacking(recordings, split(recordings, seed, 0.2, 0.2))
    assert without["train"] == without["test"] == []
    assert without["valid"] == [f"s{k}" for k, people in enumerate(people_per_label) if people == 2]


@settings(max_examples=20, deadline=None)
@given(pairs, st.randoms())
def test_the_order_of_the_rows_does_not_matter(pairs, random):
    recordings = table(pairs)
    assume(len(recordings) > 1)
    order = list(recordings.index)
    random.shuffle(order)
    assert split(recordings.loc[order], 3, 0.2, 0.2).sort_index().equals(split(recordings, 3, 0.2, 0.2))


def test_shares_are_near_what_was_asked_and_seeds_differ():
    recordings = table([(f"s{k % 5}", f"p{k // 3}") for k in range(300)])
    one, same, other = (split(recordings, seed, 0.15, 0.25) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)
    by_label = pd.crosstab(recordings["primary_label"], one, normalize="index")
    assert by_label["test"].between(0.2, 0.3).all()
    assert by_label["valid"].between(0.1, 0.2).all()


def test_no_share_means_no_recording():
    recordings = table([(f"s{k % 3}", f"p{k}") for k in range(30)])
    assert set(split(recordings, 0, 0.0, 0.3)) == {"train", "test"}
    assert set(split(recordings, 0, 0.0, 0.0)) == {"train"}


@pytest.mark.parametrize(("valid", "test"), [(-0.1, 0.2), (0.2, -0.1), (0.5, 0.5), (0.9, 0.4), (float("nan"), 0.2)])
def test_impossible_shares_are_refused(valid, test):
    with pytest.raises(ConfigError, match=r"split\.valid is .* split\.test"):
        split(table([("a", "p")]), 0, valid, test)


def test_nothing_to_split_is_refused():
    with pytest.raises(ConfigError, match="no recording"):
        split(table([("a", "p")]).iloc[:0], 0, 0.2, 0.2)


def soundscapes(files=10, windows=12):
    rows = [
        {"recording_id": f"f{file}", "labels": [f"s{(file + w) % 4}"] if w % 2 else []}
        for file in range(files)
        for w in range(windows)
    ]
    return pd.DataFrame(rows)


def test_soundscapes_are_dealt_out_by_file():
    table = soundscapes()
    parts = split_soundscapes(table, 0, 0.3)
    assert (parts.groupby(table["recording_id"]).nunique() == 1).all()
    assert parts.value_counts(normalize=True)["valid"] == pytest.approx(0.3)
    assert set(parts) == {"valid", "test"}


def test_soundscapes_all_to_one_side_or_none_at_all():
    table = soundscapes(3)
    assert set(split_soundscapes(table, 0, 0.0)) == {"test"}
    assert set(split_soundscapes(table, 0, 1.0)) == {"valid"}
    assert split_soundscapes(table.iloc[:0], 0, 0.5).empty
    with pytest.raises(ConfigError, match=r"soundscapes_valid is 1\.5"):
        split_soundscapes(table, 0, 1.5)


def fold_sides(recordings, folds, seed=0, valid=0.2):
    return [split_folds(recordings, seed, folds, fold, valid) for fold in range(folds)]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(pairs, st.integers(2, 5), st.integers(0, 100))
def test_folds_keep_recordists_together_and_test_everybody_who_can_be_spared_once(pairs, folds, seed):
    recordings = table(pairs)
    people = recordings.groupby("primary_label")["author"].unique()
    needed = {names[0] for names in people if len(names) == 1}
    assume(set(recordings["author"]) - needed)
    sides = fold_sides(recordings, folds, seed)
    for side in sides:
        assert (side.groupby(recordings["author"]).nunique() == 1).all()
        assert set(side) <= {"train", "valid", "test"}
    tested = sum((side == "test").astype(int) for side in sides)
    assert (tested[recordings["author"].isin(needed)] == 0).all()
    assert (tested[~recordings["author"].isin(needed)] == 1).all()


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(2, 5), st.integers(0, 100))
def test_every_label_keeps_recordings_to_train_on_in_every_fold(people_per_label, folds, seed):
    recordings = table([(f"s{k}", f"p{k}-{n}") for k, people in enumerate(people_per_label) for n in range(people)])
    assume(max(people_per_label) > 1)
    for side in fold_sides(recordings, folds, seed):
        assert lacking(recordings, side)["train"] == []


def test_folds_are_even_over_labels_and_valid_is_cut_from_the_rest():
    recordings = table([(f"s{k % 5}", f"p{k // 3}") for k in range(300)])
    for side in fold_sides(recordings, 5):
        by_label = pd.crosstab(recordings["primary_label"], side, normalize="index")
        assert by_label["test"].between(0.15, 0.25).all()
        assert by_label["valid"].between(0.1, 0.22).all()
    assert set(split_folds(recordings, 0, 5, 1, 0.0)) == {"train", "test"}


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (5, 5), (5, -1)])
def test_impossible_folds_are_refused(folds, fold):
    with pytest.raises(ConfigError, match=r"split\.folds is"):
        split_folds(table([("a", "p")]), 0, folds, fold, 0.2)


def test_backgrounds_go_where_their_authors_and_soundscapes_went():
    recordings = table([(f"s{k % 3}", f"p{k % 12}") for k in range(60)])
    deal = partial(split, seed=0, valid=0.2, test=0.2)
    recordings["split"] = deal(recordings)
    scenes = pd.DataFrame({"recording_id": ["x", "x", "y"], "split": ["valid", "valid", "test"]})
    authors = [*[f"p{k}" for k in range(12)], "x", "y", "somebody", *[f"w{k // 2}" for k in range(40)]]
    backgrounds = pd.DataFrame({"recording_id": [f"b{k}" for k in range(14)] + ["y"] + [f"c{k}" for k in range(40)]})
    backgrounds["author"] = authors
    parts = split_backgrounds(backgrounds, recordings, scenes, deal)
    sides = dict(zip(recordings["author"], recordings["split"], strict=True))
    assert parts[:12].tolist() == [sides[f"p{k}"] for k in range(12)]
    assert parts[12:15].tolist() == ["valid", "test", "test"]
    assert (parts.groupby(backgrounds["author"]).nunique() == 1).all()
    assert parts[15:].value_counts(normalize=True)["train"] == pytest.approx(0.6, abs=0.1)
    assert set(parts[15:]) == {"train", "valid", "test"}
    assert split_backgrounds(backgrounds.iloc[:0], recordings, scenes, deal).empty
