"""Songs of perching birds, each a model of the real one: pitch, tempo, order of the notes, and what a bird varies.

The figures in the docstrings are the field knowledge each model is built on, rounded.
"""

from __future__ import annotations

import numpy as np

from training.datasets.demo.synth import RATE, Bird, Generator, Signal, jitter, join, mix, noise, silence, tone


def common_chiffchaff(bird: Bird, rng: Generator) -> Signal:
    """Two or three kinds of note in irregular order, about three a second, for 3 to 8 s.

    Each note falls steeply from above 6 kHz in its first third and ends on a level tail, the "chiff" near 4.4 kHz, the
    "chaff" near 3.5 kHz; it lasts about 0.12 s.
    """
    habits = bird.dialect()
    tails = np.array([4450.0, 3550.0, 3950.0][: habits.integers(2, 4)]) * bird.pitch
    start = habits.uniform(6200, 7400) * bird.pitch
    rate = habits.uniform(2.7, 3.4) * bird.tempo
    parts = []
    last = 0
    for _ in range(rng.integers(8, 20)):
        kind = int(rng.integers(len(tails))) if rng.random() < 0.3 else (last + 1) % len(tails)
        last = kind
        tail = jitter(rng, tails[kind], 0.01)
        length = 0.11 + 0.03 * (kind == 0)
        note = tone(
            [jitter(rng, start, 0.03), tail * 1.15, tail * 1.02, tail, tail * 0.98], length, (1.0, 0.06), 0.06, 0.25
        )
        parts += [note, silence(max(0.08, jitter(rng, 1 / rate, 0.05) - length))]
    return join(*parts)


def great_tit(bird: Bird, rng: Generator) -> Signal:
    """A see-saw of two (sometimes three) loud pure notes, "tea-cher", said four to ten times, about 2.5 pairs a second.

    The notes lie between 3 and 6.5 kHz, a third to a fifth apart, and each bird owns several versions; the lower one is
    often the longer.
    """
    habits = bird.dialect()
    low = habits.uniform(3200, 4100)
    high = low * habits.uniform(1.22, 1.5)
    phrase = [(high, 0.09), (low, 0.15)] if habits.random() < 0.65 else [(low, 0.12), (high, 0.12)]
    if habits.random() < 0.3:
        phrase.append(phrase[0])
    slope = habits.uniform(-0.06, 0.03)
    rate = habits.uniform(2.2, 3.0) * bird.tempo
    gap = max(0.03, (1 / rate - sum(length for _, length in phrase)) / len(phrase))
    parts = []
    for _ in range(rng.integers(4, 10)):
        for pitch, length in phrase:
            f = jitter(rng, pitch * bird.pitch, 0.006)
            parts += [tone([f * (1 - slope), f, f * (1 + slope)], length, (1.0, 0.1, 0.03), 0.12, 0.2), silence(gap)]
    return join(*parts)


def blue_tit(bird: Bird, rng: Generator) -> Signal:
    """Two or three long notes near 7.5 kHz, then a silvery trill near 5 kHz of 6 to 15 notes, 13 to 17 a second."""
    habits = bird.dialect()
    high = habits.uniform(6800, 8000) * bird.pitch
    low = habits.uniform(4500, 5600) * bird.pitch
    rate = habits.uniform(13, 17) * bird.tempo
    parts = []
    for _ in range(habits.integers(2, 4)):
        f = jitter(rng, high, 0.008)
        parts += [tone([f * 1.03, f, f * 0.97], jitter(rng, 0.13, 0.08), (1.0, 0.02), 0.2, 0.25), silence(0.06)]
    for _ in range(rng.integers(6, 16)):
        f = jitter(rng, low, 0.006)
        length = 0.6 / rate
        parts += [0.85 * tone([f * 1.12, f, f * 0.93], length, (1.0, 0.05), 0.1, 0.4), silence(1 / rate - length)]
    return join(*parts)


def eurasian_wren(bird: Bird, rng: Generator) -> Signal:
    """A very loud torrent of 4 to 6 s: quick motifs of sharp notes between 3.5 and 8.5 kHz, about eight notes a second,
    broken by hard trills of 18 to 25 notes a second near 4.5 kHz, one of them close to the end.
    """
    habits = bird.dialect()
    motifs = [
        [(habits.uniform(3600, 8200), habits.choice([-0.35, -0.2, 0.25])) for _ in range(habits.integers(2, 4))]
        for _ in range(4)
    ]
    trill = habits.uniform(4200, 5200)
    rate = habits.uniform(18, 25) * bird.tempo
    parts: list[Signal] = []
    for index, motif in enumerate(motifs):
        for _ in range(rng.integers(2, 4)):
            for pitch, slope in motif:
                f = jitter(rng, pitch * bird.pitch, 0.01)
                length = jitter(rng, 0.06, 0.1) / bird.tempo
                parts += [
                    tone([f * (1 - slope / 2), f, f * (1 + slope / 2)], length, (1.0, 0.05), 0.1, 0.3),
                    silence(length * 0.8),
                ]
        if index in (1, 3):
            for _ in range(rng.integers(12, 20)):
                f = jitter(rng, trill * bird.pitch, 0.005)
                parts += [tone([f * 1.35, f, f * 0.85], 0.6 / rate, (1.0, 0.08), 0.05, 0.4), silence(0.4 / rate)]
    f = trill * bird.pitch * 1.4
    return join(*parts, tone([f * 1.1, f], 0.12))


def european_robin(bird: Bird, rng: Generator) -> Signal:
    """A silvery phrase of 1.5 to 3 s, new each time: thin notes between 2.5 and 8 kHz that leap between high and low,
    long slides falling an octave, and short shivering runs; motifs alternate between the top and the middle.
    """
    habits = bird.dialect()
    floor, ceiling = habits.uniform(2400, 3000) * bird.pitch, habits.uniform(7000, 8200) * bird.pitch
    high = bool(rng.random() < 0.7)
    parts: list[Signal] = []
    for _ in range(rng.integers(4, 7)):
        f = float(rng.uniform(5200, ceiling) if high else rng.uniform(floor, 4600))
        kind = rng.choice(4, p=[0.3, 0.3, 0.25, 0.15])
        if kind == 0:  # a slide
            end = max(floor, f * rng.uniform(0.45, 0.75))
            part = tone([f, f * 0.97, end], rng.uniform(0.15, 0.35), (1.0, 0.04), 0.15, 0.4)
        elif kind == 1:  # a shivering note
            part = tone(
                [f * 1.05, f, f * 0.9],
                rng.uniform(0.2, 0.4),
                (1.0, 0.03),
                0.1,
                0.4,
                (rng.uniform(18, 35), rng.uniform(0.02, 0.06)),
            )
        elif kind == 2:  # a run of short notes, stepping down
            step = rng.uniform(0.9, 0.97)
            part = join(
                *[
                    join(tone([f * step**k * 1.08, f * step**k], 0.05, (1.0, 0.04)), silence(0.025))
                    for k in range(rng.integers(3, 7))
                ]
            )
        else:  # a thin, level note
            part = tone([f, f * 1.01, f], rng.uniform(0.12, 0.25), (1.0, 0.03), 0.25, 0.4)
        parts += [part * (0.6 if high else 1.0), silence(rng.uniform(0.02, 0.07))]
        high = not high if rng.random() < 0.75 else high
    return join(*parts)


def eurasian_blackbird(bird: Bird, rng: Generator) -> Signal:
    """Three to six mellow, fluty notes between 1.6 and 3 kHz, sliding into each other over about 1.5 s, then a short,
    quieter, squeaky twitter between 4 and 8 kHz.
    """
    habits = bird.dialect()
    motifs = habits.uniform(1650, 2900, size=(4, 6)) * bird.pitch
    notes = motifs[rng.integers(len(motifs))][: rng.integers(3, 7)]
    parts: list[Signal] = []
    for f, target in zip(notes, np.roll(notes, -1), strict=True):
        length = rng.uniform(0.14, 0.36) / bird.tempo
        way = f * (1 + 0.35 * (target / f - 1)) if rng.random() < 0.5 else f * rng.uniform(0.97, 1.03)
        shake = (rng.uniform(22, 32), 0.03) if rng.random() < 0.15 else (0.0, 0.0)
        parts += [
            tone([f, f * 1.01, way], length, (1.0, 0.12, 0.04), 0.15, 0.25, shake),
            silence(rng.uniform(0.015, 0.06)),
        ]
    for _ in range(rng.integers(3, 9)):
        f = rng.uniform(4000, 7800)
        length = rng.uniform(0.03, 0.08)
        parts += [
            0.3 * tone([f, f * rng.uniform(0.7, 1.25)], length, (1.0, 0.3), 0.1, 0.3, (90.0, 0.03)),
            silence(rng.uniform(0.005, 0.04)),
        ]
    return join(*parts)


def common_chaffinch(bird: Bird, rng: Generator) -> Signal:
    """A rattle of 2 to 3 s: two or three sections of repeated notes, each section lower and quicker than the last
    (about 8 to 16 notes a second, from 6 down to 3 kHz), then a flourish, "-wee-oo". A bird sings it always the same.
    """
    habits = bird.dialect()
    top = habits.uniform(4600, 5600) * bird.pitch
    rate = habits.uniform(7.5, 9.5) * bird.tempo
    parts: list[Signal] = []
    gain = 0.5
    for _ in range(habits.integers(2, 4)):
        count = int(habits.integers(5, 8)) + int(rng.integers(0, 2))
        span = habits.uniform(0.25, 0.5)
        rise = habits.random() < 0.35
        for k in range(count):
            f = jitter(rng, top * (0.985**k), 0.006)
            length = 0.62 / rate
            line = [f * (1 - span / 2), f * (1 + span / 2), f] if rise else [f * (1 + span), f, f * (1 - span / 2)]
            parts += [gain * tone(line, length, (1.0, 0.08), 0.1, 0.35), silence(1 / rate - length)]
            gain = min(1.0, gain * 1.06)
        top *= habits.uniform(0.78, 0.86)
        rate *= habits.uniform(1.2, 1.45)
    f = habits.uniform(3000, 3600) * bird.pitch
    parts += [noise_of_wings(rng) * 0.25, tone([f * 0.9, f * 1.7, f * 1.5], 0.14, (1.0, 0.1)), silence(0.02)]
    return join(*parts, tone([f * 1.5, f * 0.95, f * 0.75], 0.2, (1.0, 0.12)))


def noise_of_wings(rng: Generator) -> Signal:
    """The hoarse "ch" that opens a chaffinch's flourish: 60 ms of noise between 3 and 7 kHz."""
    return noise(rng, 0.06, 3000, 7000) * np.hanning(round(0.06 * RATE))


def great_spotted_woodpecker(bird: Bird, rng: Generator) -> Signal:
    """Drumming: 9 to 14 blows in about 0.6 s, speeding up from about 16 to 24 a second while they weaken. The pitch is
    the dead branch's, a few resonances between 0.4 and 2.5 kHz.
    """
    habits = bird.dialect()
    resonances = np.sort(habits.uniform(450, 2400, size=4))
    levels = habits.uniform(0.4, 1.0, size=4)
    decays = habits.uniform(0.003, 0.008, size=4)
    count = int(habits.integers(9, 14)) + int(rng.integers(0, 2))
    time = np.arange(round(0.07 * RATE)) / RATE
    blow = sum(
        a * np.exp(-time / d) * np.sin(2 * np.pi * f * time) for a, d, f in zip(levels, decays, resonances, strict=True)
    )
    starts = np.cumsum(np.linspace(1 / 16, 1 / 24, count)) / bird.tempo
    total = np.zeros(round((starts[-1] + 0.15) * RATE))
    for k, start in enumerate(starts):
        at = round(start * RATE)
        click = 0.4 * noise(rng, 0.004, 800, 9000)
        hit = mix(blow, click * np.hanning(len(click)))
        level = jitter(rng, min(1.0, 0.6 + 0.15 * k) * (1 - 0.6 * k / count), 0.08)
        total[at : at + len(hit)] += level * hit
    return total
