"""Front ends for hypothesis: the whole grid that the mel stage promises, and samples for them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from labous.frontend import Frontend

PLAIN = Frontend(
    sample_rate=32000,
    window_seconds=1.0,
    n_fft=1024,
    win_length=1024,
    hop_length=500,
    window="hann",
    center=False,
    pad_mode="constant",
    power=2.0,
    n_mels=64,
    f_min=150.0,
    f_max=15000.0,
    mel_scale="slaney",
    mel_norm="slaney",
    amin=1e-8,
    ref=1.0,
    top_db=None,
    db_offset=40.0,
    db_scale=0.05,
)


@st.composite
def front_ends(draw: st.DrawFn) -> Frontend:
    """Any front end: every rate, size, scale, padding and reference; 1 s long."""
    rate = draw(st.sampled_from([8000, 16000, 22050, 32000, 44100, 48000, 96000]))
    n_fft = draw(st.sampled_from([256, 512, 1024, 2048, 4096]))
    nyquist = rate / 2
    f_min = draw(st.one_of(st.just(0.0), st.floats(0.0, 0.8 * nyquist)))
    f_max = draw(st.one_of(st.just(nyquist), st.floats(f_min + 0.1 * nyquist, nyquist)))
    return Frontend(
        sample_rate=rate,
        window_seconds=1.0,
        n_fft=n_fft,
        win_length=draw(st.one_of(st.just(n_fft), st.integers(1, n_fft))),
        hop_length=draw(st.one_of(st.just(n_fft // 4), st.integers(max(1, n_fft // 16), 3 * n_fft))),
        window="hann",
        center=draw(st.booleans()),
        pad_mode=draw(st.sampled_from(["constant", "reflect"])),
        power=draw(st.sampled_from([1.0, 2.0])),
        n_mels=draw(st.integers(16, 256)),
        f_min=f_min,
        f_max=f_max,
        mel_scale=draw(st.sampled_from(["slaney", "htk"])),
        mel_norm=draw(st.sampled_from(["slaney", None])),
        amin=draw(st.sampled_from([1e-10, 1e-8, 1e-5])),
        ref=draw(st.sampled_from([1.0, 0.37, "max"])),
        top_db=draw(st.sampled_from([None, 80.0, 20.0])),
        db_offset=40.0,
        db_scale=0.05,
    )


@st.composite
def front_ends_and_samples(draw: st.DrawFn) -> tuple[Frontend, np.ndarray]:
    """A front end and float32 samples that give it at least one frame, often only just."""
    frontend = draw(front_ends())
    least = 1 if frontend.center else frontend.n_fft
    count = draw(
        st.one_of(
            st.integers(least, 4 * frontend.n_fft),
            st.integers(1, 4).map(lambda k: max(least, k * frontend.hop_length)),  # where a frame ends with the samples
        )
    )
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(count)
    tone = np.sin(draw(st.floats(0.01, 3.0)) * np.arange(count))
    level = draw(st.sampled_from([1.0, 1e-3, 1e-6]))
    return frontend, (level * (tone + draw(st.sampled_from([0.0, 0.1])) * noise)).astype(np.float32)
