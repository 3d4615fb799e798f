"""Batches for training: drawn from sources, mixed, disturbed, and reproducible by number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.augment import Augment, disturb
from training.sources import Backgrounds, Example, Source

Array = NDArray[np.float32]


class Batch(NamedTuple):
    """Part of a batch, or all of it; every array float32.

    Attributes:
        inputs: [n, n_mels, n_frames, 1], what the model takes.
        targets: [n, n_labels], in [0, 1].
        weights: [n], of each example's loss.
        part_targets: [n, n_parts, n_labels], of a teacher; zeros where there are none. No part where no source has any.
        heard: [n], 1 where there are part_targets, else 0.
        embeddings: [n, n_parts, d], of a teacher; zeros where there are none. d is 0 where no source has any.
        embedded: [n], 1 where there are embeddings, else 0.
    """

    inputs: Array
    targets: Array
    weights: Array
    part_targets: Array
    heard: Array
    embeddings: Array
    embedded: Array


class Sampler:
    """Draws training batches from sources.

    Example ``i`` of batch ``n`` of epoch ``e`` depends on (seed, e, n, i) alone. So a run that was interrupted
    continues as if it had not been, and workers that make a part of each batch make one batch together.

    Args:
        sources: each with the share of the examples that it gives; shares need not sum to 1.
        backgrounds: None: no background is added, and no example is background alone.
        parts: ends of the parts of a window, in shares of it, of which a source tells a teacher's opinion.
        embedding_size: d, where a source tells embeddings.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        backgrounds: Backgrounds | None,
        augment: Augment,
        frontend: Frontend,
        *,
        seed: int,
        batch_size: int,
        n_labels: int,
        parts: Sequence[tuple[float, float]] = (),
        embedding_size: int = 0,
    ) -> None:
        self._sources = [source for source, _ in sources]
        self._until = np.cumsum([share for _, share in sources]) / sum(share for _, share in sources)
        self._backgrounds, self._augment, self._frontend = backgrounds, augment, frontend
        # what is said of a part is not true of what else comes to lie there
        self._unrolled = dataclasses.replace(augment, time_roll_probability=0.0)
        self._seed, self._n_labels = seed, n_labels
        self.batch_size, self.parts, self.embedding_size = batch_size, tuple(parts), embedding_size

    def batch(self, epoch: int, number: int, rows: range | None = None) -> Batch:
        """Batch ``number`` of ``epoch``, or these rows of it."""
        rows = range(self.batch_size) if rows is None else rows
        examples = [self._example(np.random.default_rng([self._seed, epoch, number, row])) for row in rows]
        part_targets = np.zeros((len(rows), len(self.parts), self._n_labels), np.float32)
        embeddings = np.zeros((len(rows), len(self.parts), self.embedding_size), np.float32)
        heard, embedded = np.zeros((2, len(rows)), np.float32)
        for row, example in enumerate(examples):
            if example.parts is None:
                continue
            part_targets[row], heard[row] = example.parts.targets, 1
            if example.parts.embeddings is not None:
                embeddings[row], embedded[row] = example.parts.embeddings, 1
        return Batch(
            np.stack([example.mel for example in examples])[..., None],
            np.stack([example.targets for example in examples]),
            np.array([example.weight for example in examples], np.float32),
            part_targets,
            heard,
            embeddings,
            embedded,
        )

    def _example(self, rng: np.random.Generator) -> Example:
        augment, background = self._augment, None
        if self._backgrounds is not None and rng.random() < augment.nocall_probability:
            alone = self._backgrounds.window(rng)
            return Example(self._disturbed(alone, [], None, augment, rng), np.zeros(self._n_labels, np.float32))
        first = self._draw(rng)
        if self._backgrounds is not None and first.mixes and rng.random() < augment.background_probability:
            background = self._backgrounds.window(rng)
        others = [self._draw(rng) for _ in range(augment.draw_others(rng))] if first.mixes else []
        others = [other for other in others if other.mixes]
        augment = augment if first.parts is None or others else self._unrolled
        mel = self._disturbed(first.mel, [other.mel for other in others], background, augment, rng)
        if not others:
            return first._replace(mel=mel)
        heard = [first, *others]
        return Example(
            mel,
            np.maximum.reduce([example.targets for example in heard]),
            float(np.mean([example.weight for example in heard])),
        )  # what a teacher would make of the mixture is not known

    def _draw(self, rng: np.random.Generator) -> Example:
        chosen = int(np.searchsorted(self._until, rng.random(), side="right")) if len(self._sources) > 1 else 0
        return self._sources[chosen].draw(rng)

    def _disturbed(
        self, mel: Array, others: list[Array], background: Array | None, augment: Augment, rng: np.random.Generator
    ) -> Array:
        return disturb(mel, others, background, augment, self._frontend, rng)
