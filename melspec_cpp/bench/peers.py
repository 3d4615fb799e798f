"""Other people's log-mel features, asked for the same thing in the fastest way that their documentation shows.

The same frames (n_fft // 2 zeros before and after), periodic Hann window, power spectrum, band edges and area norm.
What a peer lets us make once is made once, outside the timed call; what it wants anew for every array is made in it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from candidates import AbsentError, Candidate

from labous.frontend import Frontend


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:
            raise AbsentError(f"not installed: {error}") from error
        raise AbsentError(f"does not import with numpy {np.__version__}: {error}") from error
    except (ImportError, OSError, AttributeError) as error:
        raise AbsentError(f"does not import with numpy {np.__version__}: {error}") from error


class _Padded:
    """The samples between n_fft // 2 zeros, in a buffer that is kept."""

    def __init__(self, frontend: Frontend) -> None:
        self._side = frontend.n_fft // 2
        self._buffer = np.zeros(0, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        if self._buffer.size != samples.size + 2 * self._side:
            self._buffer = np.zeros(samples.size + 2 * self._side, np.float32)
        self._buffer[self._side : -self._side] = samples
        return self._buffer


def kaldi_native_fbank(frontend: Frontend) -> Candidate:
    """OnlineFbank in its librosa mode, float32, natural logarithm.

    An OnlineFbank takes one signal and cannot be reset, so that each call makes its own (a hundredth of its time).
    A list is what it converts fastest, faster than the array itself.
    """
    fbank = _imported("kaldi_native_fbank")
    options = fbank.FbankOptions()
    frames, bands = options.frame_opts, options.mel_opts
    frames.samp_freq = frontend.sample_rate
    frames.frame_length_ms = 1e3 * frontend.n_fft / frontend.sample_rate
    frames.frame_shift_ms = 1e3 * frontend.hop_length / frontend.sample_rate
    frames.window_type = "hann"
    frames.snip_edges = True  # whole frames only; the zeros at the edges are ours
    frames.dither = 0.0
    frames.preemph_coeff = 0.0
    frames.remove_dc_offset = False
    bands.num_bins = frontend.n_mels
    bands.low_freq, bands.high_freq = frontend.f_min, frontend.f_max
    bands.is_librosa = True
    bands.use_slaney_mel_scale = True
    bands.norm = "slaney"
    options.use_power = True
    options.use_energy = False
    options.use_log_fbank = True
    options.eps = frontend.amin  # the floor under the logarithm
    padded = _Padded(frontend)

    def log_mel(samples: np.ndarray) -> np.ndarray:
        extractor = fbank.OnlineFbank(options)
        extractor.accept_waveform(frontend.sample_rate, padded(samples).tolist())
        return np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)]).T

    return Candidate(log_mel, decibels_per_unit=10 / math.log(10))


def audioflux(frontend: Frontend) -> Candidate:
    """BFT and power_to_abs_db, float32 (MKL on x86-64). Its mel scale is HTK's; it has no other.

    Asked for real results: the complex ones, its default, take ten times as long.
    """
    library = _imported("audioflux")
    kinds = _imported("audioflux.type")
    transform = library.BFT(
        num=frontend.n_mels,
        radix2_exp=frontend.n_fft.bit_length() - 1,
        samplate=frontend.sample_rate,
        low_fre=frontend.f_min,
        high_fre=frontend.f_max,
        window_type=kinds.WindowType.HANN,
        slide_length=frontend.hop_length,
        scale_type=kinds.SpectralFilterBankScaleType.MEL,
        style_type=kinds.SpectralFilterBankStyleType.SLANEY,
        normal_type=kinds.SpectralFilterBankNormalType.BAND_WIDTH,
        data_type=kinds.SpectralDataType.POWER,
    )
    padded, floor = _Padded(frontend), 10 * math.log10(frontend.amin)

    def log_mel(samples: np.ndarray) -> np.ndarray:
        power = transform.bft(padded(samples), result_type=1)
        # it divides by fft_length squared: 1 is dB against 1
        return library.utils.power_to_abs_db(power, fft_length=1, min_db=floor)

    return Candidate(log_mel, mel_scale="htk")


def essentia(frontend: Frontend) -> Candidate:
    """Windowing, PowerSpectrum and MelBands of its standard mode, float32, frame by frame.

    Its streaming mode, whose VectorInput converts sample by sample, takes twenty times as long for one array.
    """
    _imported("essentia").log.infoActive = False  # or its import greets
    algorithms = _imported("essentia.standard")
    window = algorithms.Windowing(type="hann", size=frontend.n_fft, symmetric=False, normalized=False, zeroPhase=False)
    spectrum = algorithms.PowerSpectrum(size=frontend.n_fft)
    bands = algorithms.MelBands(
        inputSize=frontend.n_fft // 2 + 1,
        sampleRate=frontend.sample_rate,
        numberBands=frontend.n_mels,
        lowFrequencyBound=frontend.f_min,
        highFrequencyBound=frontend.f_max,
        warpingFormula="slaneyMel",
        weighting="linear",
        normalize="unit_tri",
        type="magnitude",  # leaves the power spectrum as it is
        log=False,
    )
    decibels = algorithms.UnaryOperator(type="lin2db")
    padded, n_fft, hop = _Padded(frontend), frontend.n_fft, frontend.hop_length

    def log_mel(samples: np.ndarray) -> np.ndarray:
        signal = padded(samples)
        power = np.stack([
            bands(spectrum(window(signal[start : start + n_fft]))) for start in range(0, samples.size + 1, hop)
        ])  # fmt: skip
        return decibels(power.ravel()).reshape(power.shape).T

    return Candidate(log_mel)


PEERS: dict[str, Callable[[Frontend], Candidate]] = {
    "kaldi-native-fbank": kaldi_native_fbank,
    "audioflux": audioflux,
    "essentia": essentia,
}
"""Makers of the peers' candidates by the name of their distribution; each raises AbsentError where it cannot be had."""
