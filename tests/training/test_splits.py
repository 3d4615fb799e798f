"""A recordist is on one side only, every label is dealt out, and the deal can be repeated."""

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.datasets.base import one_spelling
from training.errors import ConfigError
from training.splits import lacking, split, split_soundscapes


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
