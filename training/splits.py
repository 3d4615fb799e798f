"""Who is trained on, who is validated on, who is tested on: by recordist, and soundscapes by file.

Recordings of one person share birds, places and microphones. Were they on both sides, a test would reward knowing
those. So whole groups are dealt out, as evenly over the labels as that allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.errors import ConfigError

TRAIN, VALID, TEST = "train", "valid", "test"
RESTARTS = 12  # deals, of which the most even one is kept
SWEEPS = 30  # at most, over all groups, for each deal


def split(recordings: pd.DataFrame, seed: int, valid: float, test: float) -> pd.Series:
    """Deal recordings out by recordist: a Series of "train", "valid" and "test" on the index of `recordings`.

    Every label gets a recording to train on; one to test on as well where it has two recordists or more, and one to
    validate on where it has three, unless those same recordists are needed for another label (see `lacking`). The
    shares are reached as closely as whole groups permit. The same recordings and seed give the same split, in whatever
    order the rows come.

    :param recordings: with the columns recording_id, primary_label and author
    :param valid: share of the recordings of each label to validate on, 0 ≤ valid
    :param test: share to test on, 0 ≤ test, valid + test < 1
    :raises ConfigError: for shares outside these bounds, and for no recordings
    """
    if not (valid >= 0.0 and test >= 0.0 and valid + test < 1.0):  # so written, it refuses NaN too
        raise ConfigError(
            f"split.valid is {valid} and split.test {test}: neither may be negative, nor their sum reach 1"
        )
    if recordings.empty:
        raise ConfigError("there is no recording to split: look at the data set")
    labels = [[label] for label in recordings["primary_label"]]
    part = _deal(list(recordings["author"]), labels, (1.0 - valid - test, valid, test), (1e4, 1.0, 1e2), seed)
    return pd.Series(np.array([TRAIN, VALID, TEST], dtype=object)[part], index=recordings.index, name="split")


def split_folds(recordings: pd.DataFrame, seed: int, folds: int, fold: int, valid: float) -> pd.Series:
    """Deal recordings out by recordist for fold `fold` of a k-fold: as :func:`split`, on the index of `recordings`.

    Over all folds, with one seed, everybody is tested on once, except who alone has recordings of some label: these are
    always trained on, as nobody else could stand in for them. Each label is spread over the folds as evenly as whole
    recordists permit. What a fold leaves is split again, with the share `valid`.

    :param folds: how many, at least 2
    :param fold: which one is tested on, from 0
    :param valid: share of the rest to validate on, 0 ≤ valid < 1
    :raises ConfigError: for numbers outside these bounds, and for no recordings
    """
    if not (folds >= 2 and 0 <= fold < folds):
        raise ConfigError(f"split.folds is {folds} and split.fold {fold}: choose one of 2 folds or more, from 0 on")
    people = recordings.groupby("primary_label")["author"]
    indispensable = set(people.first()[people.nunique() == 1])
    shared = recordings[~recordings["author"].isin(indispensable)]
    parts = pd.Series(TRAIN, index=recordings.index, dtype=object, name="split")
    if not shared.empty:
        labels = [[label] for label in shared["primary_label"]]
        dealt = _deal(list(shared["author"]), labels, [1.0 / folds] * folds, [1e2] * folds, seed)
        parts[shared.index[dealt == fold]] = TEST
    rest = recordings[parts != TEST]
    parts[rest.index] = split(rest, seed, valid, 0.0)
    return parts


def split_backgrounds(
    backgrounds: pd.DataFrame, recordings: pd.DataFrame, soundscapes: pd.DataFrame, deal: Callable[..., pd.Series]
) -> pd.Series:
    """Deal sound without birds out by author: a Series of "train", "valid" and "test" on the index of `backgrounds`.

    Who has recordings, and what is a stretch of a soundscape, goes where those went; the others are dealt out as if
    all were of one label.

    :param backgrounds: with the columns recording_id and author
    :param recordings: with the columns author and split
    :param soundscapes: with the columns recording_id and split
    :param deal: :func:`split` or :func:`split_folds` with all but its recordings given
    """
    sides = dict(zip(recordings["author"], recordings["split"], strict=True))
    scenes = dict(zip(soundscapes["recording_id"], soundscapes["split"], strict=True))
    sides |= scenes
    parts = backgrounds["author"].map(sides).astype(object)
    parts = backgrounds["recording_id"].map(scenes).astype(object).fillna(parts)
    others = backgrounds[parts.isna()]
    if not others.empty:
        parts[others.index] = deal(others.assign(primary_label=""))
    return parts.rename("split")


def split_soundscapes(soundscapes: pd.DataFrame, seed: int, valid_share: float) -> pd.Series:
    """Deal soundscapes out by file: a Series of "valid" and "test" on the index of `soundscapes`; never "train".

    :param soundscapes: windows with the columns recording_id and labels (list of codes, empty for none)
    :param valid_share: share of the windows of each label to validate on, from 0 to 1; the rest tests
    :raises ConfigError: for a share outside these bounds
    """
    if not 0.0 <= valid_share <= 1.0:
        raise ConfigError(f"split.soundscapes_valid is {valid_share}: it is a share, from 0 to 1")
    if soundscapes.empty:
        return pd.Series([], index=soundscapes.index, dtype=object, name="split")
    # A window without a bird counts under a label of its own, so that these too are dealt out evenly.
    labels = [list(codes) or [""] for codes in soundscapes["labels"]]
    part = _deal(list(soundscapes["recording_id"]), labels, (1.0 - valid_share, valid_share), (1e2, 1.0), seed)
    return pd.Series(np.array([TEST, VALID], dtype=object)[part], index=soundscapes.index, name="split")


def lacking(recordings: pd.DataFrame, parts: pd.Series) -> dict[str, list[str]]:
    """Labels without a recording in each part, for the report: {"train": [...], "valid": [...], "test": [...]}."""
    every = set(recordings["primary_label"])
    return {part: sorted(every - set(recordings.loc[parts == part, "primary_label"])) for part in (TRAIN, VALID, TEST)}


def _deal(
    groups: Sequence[str],
    labels: Sequence[Sequence[str]],
    part_shares: Sequence[float],
    part_penalties: Sequence[float],
    seed: int,
) -> npt.NDArray[np.intp]:
    """Part (index into `part_shares`) of each row, the same for all rows of a group.

    The cost of a deal is, over labels and parts, the squared difference between the share that a part has of a label
    and the share that it should have, plus the part's penalty where it misses a label altogether.
    Each of a few random deals is improved by moving one group at a time for as long as that helps.
    """
    shares, penalties = np.asarray(part_shares), np.asarray(part_penalties)
    names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    codes = sorted({code for row in labels for code in row})
    column = {code: index for index, code in enumerate(codes)}
    counts = np.zeros((len(names), len(codes)))
    for group, row in zip(group_of, labels, strict=True):
        for code in row:
            counts[group, column[code]] += 1
    unused = shares == 0
    penalties = np.where(unused, 0.0, penalties)

    def cost(held: npt.NDArray[np.float64], which: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Cost [..., n] of `held` [..., parts, n] recordings of labels `which` [n]."""
        share = held / counts[:, which].sum(axis=0)
        off = (share - shares[:, None]) ** 2 + penalties[:, None] * (held == 0)
        return off.sum(axis=-2)

    own = [np.flatnonzero(row) for row in counts]
    every = np.arange(len(codes))
    best, lowest = np.zeros(len(names), dtype=np.intp), np.inf
    rng = np.random.default_rng(seed)
    for _ in range(RESTARTS):
        part = rng.choice(len(shares), size=len(names), p=shares / shares.sum())
        held = np.stack([counts[part == index].sum(axis=0) for index in range(len(shares))])
        for _ in range(SWEEPS):
            moved = False
            for group in rng.permutation(len(names)):
                which = own[group]
                mine = counts[group, which]
                without = held[:, which].copy()
                without[part[group]] -= mine
                options = np.repeat(without[None], len(shares), axis=0)
                options[np.arange(len(shares)), np.arange(len(shares))] += mine
                costs = cost(options, which).sum(axis=-1)
                costs[unused] = np.inf
                target = int(np.argmin(costs))
                if costs[target] < costs[part[group]] - 1e-12:
                    held[part[group], which] -= mine
                    held[target, which] += mine
                    part[group] = target
                    moved = True
            if not moved:
                break
        total = float(cost(held, every).sum())
        if total < lowest:
            best, lowest = part.copy(), total
    return best[group_of]
