"""Calls and simple songs of larger birds, each a model of the real one.

The figures in the docstrings are the field knowledge each model is built on, rounded.
"""

from __future__ import annotations

import numpy as np

from training.datasets.demo.synth import (
    RATE,
    Bird,
    Generator,
    Signal,
    band,
    curve,
    envelope,
    jitter,
    join,
    mix,
    noise,
    peaks,
    samples,
    silence,
    tone,
)


def common_cuckoo(bird: Bird, rng: Generator) -> Signal:
    """Two almost pure notes, the second about a major third below the first (near 660 and 530 Hz), said 3 to 8 times,
    one pair every 1.2 s. The first note arches up and is clipped, the second is longer and level.
    """
    habits = bird.dialect()
    upper = habits.uniform(640, 710) * bird.pitch
    lower = upper / habits.uniform(1.2, 1.32)
    period = habits.uniform(1.1, 1.3) / bird.tempo
    parts = []
    for _ in range(rng.integers(3, 8)):
        f, g = jitter(rng, upper, 0.006), jitter(rng, lower, 0.006)
        first = tone([f * 0.9, f * 1.04, f, f * 0.93], 0.17, (1.0, 0.09, 0.02), 0.25, 0.35)
        second = tone([g * 1.0, g * 1.02, g, g * 0.97], 0.28, (1.0, 0.06, 0.02), 0.2, 0.35)
        pair = join(first, silence(0.17), 0.9 * second)
        parts += [pair, silence(max(0.2, period - len(pair) / RATE))]
    return join(*parts)


def common_wood_pigeon(bird: Bird, rng: Generator) -> Signal:
    """A hoarse phrase of five coos between 380 and 550 Hz, the second the longest and loudest, then a pause before the
    last two ("coo COOO coo, coo-coo"), 2.6 s in all, said two to four times and often broken off after a single coo.
    """
    habits = bird.dialect()
    base = habits.uniform(430, 510) * bird.pitch
    breath = habits.uniform(0.12, 0.25)
    phrase = [
        (0.95, 0.3, 0.7, 0.06),
        (1.06, 0.6, 1.0, 0.08),
        (1.0, 0.38, 0.85, 0.3),
        (0.93, 0.26, 0.7, 0.07),
        (0.97, 0.36, 0.75, 0.25),
    ]
    parts: list[Signal] = []
    for _ in range(rng.integers(2, 4)):
        for ratio, length, level, gap in phrase:
            f = jitter(rng, base * ratio, 0.008)
            seconds = length / bird.tempo
            voice = tone([f * 0.9, f * 1.02, f, f * 0.93], seconds, (1.0, 0.1, 0.04, 0.01), 0.2, 0.35)
            air = noise(rng, seconds, 0.8 * f, 2.6 * f) * envelope(samples(seconds), 0.25, 0.4)
            parts += [level * mix(voice, breath * air), silence(gap / bird.tempo)]
    if rng.random() < 0.6:
        parts.append(0.6 * tone([base * 0.92, base, base * 0.92], 0.22, (1.0, 0.1)))
    return join(*parts)


def herring_gull(bird: Bird, rng: Generator) -> Signal:
    """The long call: one or two drawn-out, muffled notes, then 5 to 10 loud, laughing ones about three a second, each
    arching up to near 1 kHz and falling, with strong harmonics up to 6 kHz; the series slows down and sinks.
    """
    habits = bird.dialect()
    base = habits.uniform(720, 950) * bird.pitch
    rich = (0.55, 1.0, 0.8, 0.5, 0.35, 0.2, 0.12)
    parts: list[Signal] = []
    for _ in range(rng.integers(1, 3)):
        f = jitter(rng, base * 0.8, 0.03)
        parts += [0.6 * tone([f * 0.75, f, f * 1.02, f * 0.8], jitter(rng, 0.5, 0.15), rich, 0.2, 0.25), silence(0.12)]
    count = int(rng.integers(5, 11))
    for k in range(count):
        f = jitter(rng, base * (1.15 - 0.3 * k / count), 0.02)
        length = (0.2 + 0.08 * k / count) / bird.tempo
        note = tone([f * 0.72, f * 1.06, f * 1.04, f * 0.98, f * 0.75], length, rich, 0.12, 0.3)
        hoarse = 0.25 * noise(rng, length, 900, 4500) * envelope(samples(length), 0.2, 0.4)
        parts += [mix(note, hoarse), silence((0.09 + 0.05 * k / count) / bird.tempo)]
    return join(*parts)


def tawny_owl(bird: Bird, rng: Generator) -> Signal:
    """A pair on its territory. The male hoots near 800 Hz: one long "hooo" of 0.9 s that sinks at its end, 2 to 3 s of
    silence, a short "hu", then a hoot of 1.5 s that trembles about 14 times a second. Every third time it is the female
    who calls: a sharp, rising "ke-wick" from 1 to 2.4 kHz, two to four times.
    """
    habits = bird.dialect()
    hoot, call = habits.uniform(740, 880) * bird.pitch, habits.uniform(950, 1150) * bird.pitch
    if rng.random() < 1 / 3:
        return join(*[join(_kewick(rng, call), silence(rng.uniform(0.7, 1.5))) for _ in range(rng.integers(2, 5))])
    clear = (1.0, 0.05, 0.05, 0.01)
    long = tone(hoot * np.array([0.97, 1.03, 1.0, 0.93, 0.86]), jitter(rng, 0.9, 0.08), clear, 0.2, 0.3)
    short = tone(hoot * np.array([0.92, 0.97, 0.9]), 0.13, clear, 0.3, 0.4)
    line, seconds = hoot * np.array([0.93, 0.98, 1.03, 1.02, 0.88]), jitter(rng, 1.5, 0.1)
    steady = tone(line, seconds, clear, 0.25, 0.3)
    tremor = (14 * bird.tempo, 0.75)
    shaken = tone(line, seconds, clear, 0.25, 0.3, (tremor[0], 0.012), tremor)
    clearing = np.clip(np.linspace(-1.2, 2.2, len(steady)), 0.0, 1.0)  # the tremor dies away into a clear hoot
    last = shaken * (1 - clearing) + steady * clearing
    return join(long, silence(rng.uniform(1.5, 2.6)), 0.7 * short, silence(0.35), last)


def _kewick(rng: Generator, pitch: float) -> Signal:
    f = jitter(rng, pitch, 0.02)
    ke = tone([f, f * 1.35, f * 1.15], 0.1, (1.0, 0.4, 0.2, 0.08), 0.2, 0.3)
    wick = tone([f * 1.1, f * 1.8, f * 2.25, f * 1.7], 0.24, (1.0, 0.4, 0.25, 0.08), 0.15, 0.3)
    return join(ke, silence(0.05), wick)


def eurasian_magpie(bird: Bird, rng: Generator) -> Signal:
    """A hard rattle: 4 to 14 bursts, 8 to 11 a second, each 50 to 70 ms of harsh noise over a weak voice near 1.1 kHz,
    strongest between 2 and 3.5 kHz.
    """
    habits = bird.dialect()
    rate = habits.uniform(8.0, 11.0) * bird.tempo
    voice = habits.uniform(1000, 1300) * bird.pitch
    gain = peaks((2.4 * voice, 700, 1.0), (4.6 * voice, 1500, 0.35))
    parts: list[Signal] = []
    count = int(rng.integers(4, 15))
    for k in range(count):
        length = jitter(rng, 0.058, 0.1)
        rough = noise(rng, length, 900, 10_000)
        stack = tone([voice * 1.05, voice, voice * 0.92], length, (1.0, 1.2, 1.2, 0.8, 0.5), 0.1, 0.2)
        burst = band(mix(0.9 * rough, 0.35 * stack), gain) * envelope(samples(length), 0.2, 0.5)
        parts += [burst * (0.7 + 0.3 * np.sin(np.pi * (k + 1) / (count + 1))), silence(max(0.01, 1 / rate - length))]
    return join(*parts)


def carrion_crow(bird: Bird, rng: Generator) -> Signal:
    """A hoarse "kraa" of 0.25 to 0.4 s, two to five in a row, two a second: harmonics of a voice near 500 Hz that
    arches and falls, roughened about 60 times a second, strongest between 1 and 2.2 kHz.
    """
    habits = bird.dialect()
    voice = habits.uniform(430, 560) * bird.pitch
    center = habits.uniform(1250, 1650) * bird.pitch
    roughness = habits.uniform(45, 80)
    length = habits.uniform(0.25, 0.4) / bird.tempo
    gain = peaks((center, 380, 1.0), (center * 1.9, 500, 0.3), (5500, 2500, 0.08))
    parts: list[Signal] = []
    for _ in range(rng.integers(2, 6)):
        f, seconds = jitter(rng, voice, 0.02), jitter(rng, length, 0.06)
        stack = tone(
            [f * 0.85, f * 1.05, f * 1.02, f * 0.85],
            seconds,
            (0.9,) * 10,
            0.12,
            0.25,
            (roughness, 0.03),
            (roughness, 0.5),
        )
        air = 1.8 * noise(rng, seconds, 500, 9000) * envelope(samples(seconds), 0.15, 0.3)
        parts += [band(mix(stack, air), gain), silence(jitter(rng, 0.26, 0.15))]
    return join(*parts)


def common_buzzard(bird: Bird, rng: Generator) -> Signal:
    """A mewing "peee-ow" of about a second that leaps up to near 2.8 kHz and sinks to near 2 kHz, with one to three
    harmonics, some seconds apart.
    """
    habits = bird.dialect()
    top = habits.uniform(2450, 2950) * bird.pitch
    length = habits.uniform(0.75, 1.15) / bird.tempo
    parts: list[Signal] = []
    for _ in range(rng.integers(1, 4)):
        f, seconds = jitter(rng, top, 0.02), jitter(rng, length, 0.08)
        line = curve(
            [f * 0.75, f, f * 0.97, f * 0.92, f * 0.85, f * 0.7], samples(seconds), (0, 0.12, 0.25, 0.5, 0.8, 1)
        )
        voice = tone(line, seconds, (1.0, 0.25, 0.1, 0.03), 0.08, 0.4, (35.0, 0.008), (35.0, 0.2))
        air = 0.06 * noise(rng, seconds, 1500, 6000) * envelope(samples(seconds), 0.1, 0.4)
        parts += [mix(voice, air), silence(rng.uniform(0.8, 2.0))]
    return join(*parts)
