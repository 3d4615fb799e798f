"""The power law of the spectrum's real part: values, bits, codes, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from front_ends import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import BIRDNET, BIRDNET_BANKS, BIRDNET_WINDOWS, SHORT, filters, hann, laws, mels, window
from wat import functions

from labous.errors import EngineError, FrontendError, SamplesError
from labous.mel import MelSpectrogram, MelWindows, NativeEngine, WasmEngine, abi
from labous.power_law import PowerLawChannel, PowerLawFrontend, read_frontend
from tests.counts import Counted

Engine = WasmEngine | NativeEngine
NAN, INF = float("nan"), float("inf")
ONE = dataclasses.replace(SHORT, channels=BIRDNET.channels[:1])


@pytest.fixture(params=["wasm", "native"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(request.param)


def off(frontend: PowerLawFrontend, samples: np.ndarray, given: np.ndarray, weights: list[np.ndarray]) -> float:
    """The largest distance from the reference, in units of float32's last place.

    Where positive and negative parts of the spectrum cancel, the reference's own mel values have but few digits: what
    its rounding may amount to is let pass.
    """
    reference = mels(frontend, samples, weights)
    exponents = np.array([2 * channel.exponent for channel in frontend.channels])
    reach = abs(frontend.peak_scale) * (1 + abs(frontend.peak_offset))
    rounding = (
        1e-14 * reach * np.array([w.sum(1).max() * c.n_fft for w, c in zip(weights, frontend.channels, strict=True)])
    )
    # the power is monotonic: between these two every value is as good
    low = np.maximum(np.abs(reference) - rounding, 0) ** exponents
    high = (np.abs(reference) + rounding) ** exponents
    given = given.reshape(low.shape).astype(np.float64)
    outside = np.maximum(np.maximum(low - given, given - high), 0)
    return float((outside / np.spacing(np.maximum(high, 1e-30).astype(np.float32))).max())


@pytest.mark.fault(
    "any power-law front end", "as numpy computes it with a float64 spectrum, to one unit in the last place"
)
@settings(max_examples=150, deadline=None)
@given(frontend=laws(), seed=st.integers(0, 1000), level=st.sampled_from([1.0, 1e-3, 1e-30, 3e38]))
def test_it_is_what_numpy_computes(frontend: PowerLawFrontend, seed: int, level: float, wasm: WasmEngine) -> None:
    samples = window(frontend, seed, level)
    mel = MelSpectrogram(frontend, wasm)
    given = mel(samples)
    assert given.dtype == np.float32 and given.shape == frontend.mel_shape and given.flags.c_contiguous
    assert np.isfinite(given).all()
    weights = [mel.filters(i) for i in range(len(frontend.channels))]
    for channel, weight in zip(frontend.channels, weights, strict=True):
        assert np.array_equal(weight, filters(frontend, channel))
    assert off(frontend, samples, given, weights) <= 1


def test_birdnets_to_the_last_bit(engine: Engine, counted: Counted) -> None:
    samples = window(BIRDNET, 1)
    given = MelSpectrogram(BIRDNET, engine)(samples)
    weights = [filters(BIRDNET, channel) for channel in BIRDNET.channels]
    exponents = np.array([2 * channel.exponent for channel in BIRDNET.channels])
    reference = np.abs(mels(BIRDNET, samples, weights)[0]) ** exponents
    ulps = np.abs(given - reference) / np.spacing(reference.astype(np.float32))
    counted("BirdNET's front end against numpy with a float64 spectrum", f"{ulps.max():.4f} units in the last place")
    assert given.shape == (96, 511, 2) and ulps.max() < 0.51


def test_the_constants_are_those_in_birdnets_graph(engine: Engine, fast: NativeEngine) -> None:
    for made in (engine, fast):
        mel = MelSpectrogram(BIRDNET, made)
        assert [hashlib.sha256(mel.filters(i).tobytes()).hexdigest() for i in range(2)] == list(BIRDNET_BANKS)
    windows = [hashlib.sha256(hann(channel.n_fft).tobytes()).hexdigest() for channel in BIRDNET.channels]
    assert windows == list(BIRDNET_WINDOWS)


def test_the_window_has_tensorflows_bits(engine: Engine) -> None:
    """An impulse in frame after frame shows one sample of it after the other."""
    for n_fft in (256, 2048):
        channel = PowerLawChannel(n_fft=n_fft, hop_length=1, f_min=0.0, f_max=24000.0, exponent=1.0)
        frontend = dataclasses.replace(
            BIRDNET, window_seconds=2 * n_fft / 48000, n_mels=1, peak_offset=0.0, peak_scale=1.0, channels=(channel,)
        )
        impulse = np.zeros(2 * n_fft, np.float32)
        impulse[n_fft] = 1
        given = MelSpectrogram(frontend, engine)(impulse)[0, :, 0].astype(np.float64)
        # frame t has the impulse at n_fft - t
        reference = mels(frontend, impulse, [filters(frontend, channel)])[0, 0, :, 0] ** 2
        assert given[n_fft // 2] > 0 and given[0] == 0
        np.testing.assert_allclose(given, reference, rtol=6e-8, atol=1e-30)


@settings(max_examples=60, deadline=None)
@given(frontend=laws(), seed=st.integers(0, 1000))
def test_the_same_bits_in_every_build(
    frontend: PowerLawFrontend, seed: int, wasm: WasmEngine, scalar: WasmEngine, native: NativeEngine
) -> None:
    samples = window(frontend, seed)
    given = [MelSpectrogram(frontend, engine)(samples) for engine in (wasm, scalar, native)]
    assert np.array_equal(given[0], given[1]) and np.array_equal(given[0], given[2])


def test_fused_is_close(fast: NativeEngine, wasm: WasmEngine) -> None:
    samples = window(BIRDNET, 2)
    given, exact = (MelSpectrogram(BIRDNET, engine)(samples) for engine in (fast, wasm))
    np.testing.assert_allclose(given, exact, rtol=2e-6)


def test_shifts_are_windows_of_their_own(engine: Engine) -> None:
    shifted = dataclasses.replace(SHORT, shifts=(0, 1, 60))
    samples = window(SHORT, 3)
    given = MelSpectrogram(shifted, engine)(samples)
    assert given.shape == (3, *SHORT.mel_shape) == shifted.mel_shape
    assert np.array_equal(given[0], MelSpectrogram(SHORT, engine)(samples))
    for i, shift in enumerate(shifted.shifts):
        one = MelSpectrogram(dataclasses.replace(SHORT, shifts=(shift,)), engine)(samples)
        assert np.array_equal(given[i], one)
    assert not np.array_equal(given[0], given[1])


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-45, 3.4e38, -0.0])
def test_silence_is_the_constant_that_it_is_scaled_to(engine: Engine, value: float) -> None:
    """0 / (0 + 1e-6), less one half, times two: bin 1 has most of it, and rounding of the window the rest."""
    samples = np.full(SHORT.window_samples, value, np.float32)
    mel = MelSpectrogram(SHORT, engine)
    given = mel(samples)
    weights = [mel.filters(i) for i in range(2)]
    assert off(SHORT, samples, given, weights) <= 1
    assert (given == given[:, :1]).all(), "every frame alike"
    bin_1 = weights[0][::-1, 1].astype(np.float64)
    column = (bin_1 * 512) ** (2 * SHORT.channels[0].exponent)
    np.testing.assert_allclose(given[bin_1 > 0, 0, 0], column[bin_1 > 0], rtol=1e-4)
    assert 0 < given[..., 1].max() < 0.02


@pytest.mark.parametrize("exponent", [1e-6, 1e-3, 0.19, 0.5, 1.0])
def test_nothing_stays_nothing(engine: Engine, exponent: float) -> None:
    channel = dataclasses.replace(BIRDNET.channels[1], exponent=exponent)
    frontend = dataclasses.replace(SHORT, peak_offset=0.0, channels=(channel,))
    given = MelSpectrogram(frontend, engine)(np.full(SHORT.window_samples, 0.25, np.float32))
    assert not given.any()


def test_what_is_faint_counts_as_nothing(engine: Engine) -> None:
    """As vectors of floats on some boards take what is below 2^-126."""
    frontend = dataclasses.replace(ONE, peak_offset=0.0)
    samples = np.zeros(frontend.window_samples, np.float32)
    samples[0] = 1  # which the window takes for nothing
    samples[5:] = 1e-40
    assert not MelSpectrogram(frontend, engine)(samples).any()
    samples[5:] = 1e-14
    assert MelSpectrogram(frontend, engine)(samples).any()


@pytest.mark.fault("samples of ±3.4e38", "the same maps as of the same sound at full scale")
def test_huge_samples_do_not_overflow(engine: Engine) -> None:
    most = float(np.finfo(np.float32).max)
    frontend = dataclasses.replace(ONE, peak_epsilon=1e-15)
    samples = np.sign(window(frontend, 4)).astype(np.float32)
    mel = MelSpectrogram(frontend, engine)
    given = mel((most * samples).astype(np.float32))
    assert np.isfinite(given).all()
    np.testing.assert_allclose(given, mel(samples), rtol=1e-6)


@pytest.mark.parametrize("scale", [2.0**38, -(2.0**38)])
def test_the_largest_scale_does_not_overflow(engine: Engine, scale: float) -> None:
    channel = PowerLawChannel(n_fft=4096, hop_length=100, f_min=0.0, f_max=24000.0, exponent=1.0)
    frontend = dataclasses.replace(SHORT, channels=(channel,), n_mels=1, peak_scale=scale)
    impulse = np.zeros(frontend.window_samples, np.float32)
    impulse[2048] = 1
    given = MelSpectrogram(frontend, engine)(impulse)
    assert np.isfinite(given).all() and given.max() > 1e23


@pytest.mark.fault("NaN and infinity in a power law's window", "refused by position")
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("position", [0, 1, 1234, 4799])
def test_what_is_not_finite_is_refused_by_position(engine: Engine, value: float, position: int) -> None:
    samples = window(SHORT, 5)
    samples[position] = value
    mel = MelSpectrogram(SHORT, engine)
    with pytest.raises(SamplesError, match=rf"Sample {position} \(at .* s\) is .*repair the recording"):
        mel(samples)
    samples[position] = 0
    assert np.isfinite(mel(samples)).all()


def test_only_whole_windows(engine: Engine) -> None:
    mel = MelSpectrogram(SHORT, engine)
    for wrong in (SHORT.window_samples - 1, SHORT.window_samples + 1, 0):
        with pytest.raises(SamplesError, match=rf"{wrong} samples are not a window; pass 4800"):
            mel(np.zeros(wrong, np.float32))
    with pytest.raises(SamplesError, match="one channel"):
        mel(np.zeros((2, SHORT.window_samples), np.float32))
    with pytest.raises(SamplesError, match="int16"):
        mel(np.zeros(SHORT.window_samples, np.int16))
    for other in (mel.power, mel.decibels):
        with pytest.raises(FrontendError, match=r"a power law has no .*; call the spectrogram itself"):
            other(window(SHORT, 0))
    with pytest.raises(FrontendError, match="a power law has no analysis window"):
        mel.window()


def test_windows_one_after_another(engine: Engine) -> None:
    mel = MelSpectrogram(SHORT, engine)
    windows = MelWindows(mel, engine, step=1000)
    sound = np.random.default_rng(6).standard_normal(13_000).astype(np.float32)
    for i in range(8):
        part = sound[1000 * i : 1000 * i + SHORT.window_samples]
        assert np.array_equal(windows(part, 1000 if i else part.size), mel(part))
    windows.close()


def test_closed_is_closed(wasm: WasmEngine) -> None:
    mel = MelSpectrogram(SHORT, wasm)
    mel.close()
    with pytest.raises(EngineError, match="closed"):
        mel(window(SHORT, 0))
    with pytest.raises(EngineError, match="closed"):
        mel.filters()


def test_what_is_left_is_freed(wasm: WasmEngine) -> None:
    def leave(times: int) -> None:
        for _ in range(times):
            used = MelSpectrogram(SHORT, wasm)
            used(window(SHORT, 0))
            used.filters(1)
            del used

    leave(5)  # what one of them needs, this test may be the first to ask for
    before = wasm.memory_bytes
    leave(50)
    assert wasm.memory_bytes == before


@pytest.mark.fault("a module without power laws", "refused when one is asked for")
def test_older_modules_say_so() -> None:
    import wasmtime

    bodies = {
        "melspec_abi_version": abi.ABI_VERSION,
        "melspec_config_size": abi.CONFIG_SIZE,
    }
    old = {name: f'(func (export "{name}") (result i32) i32.const {value})' for name, value in bodies.items()}
    module = bytes(wasmtime.wat2wasm(f'(module {functions(**old)} (memory (export "memory") 1))'))
    engine = WasmEngine(module)
    with pytest.raises(EngineError, match="cannot compute power-law front ends, it is too old"):
        MelSpectrogram(SHORT, engine)


def test_front_ends_are_read_by_their_kind() -> None:
    assert read_frontend(PLAIN.to_dict()) == PLAIN
    assert read_frontend(BIRDNET.to_dict()) == BIRDNET
    with pytest.raises(FrontendError, match=r"kind is .mfcc.; it must be power_law, or be left out"):
        read_frontend({**PLAIN.to_dict(), "kind": "mfcc"})
