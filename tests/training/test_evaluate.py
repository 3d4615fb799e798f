"""What may be asked of the evaluation is checked before anything is heard."""

import pytest

from tests.few import few
from training.config import compose
from training.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    few(
        [
            "evaluate.threshold_grid=[0.9,0.1,0.1]",
            "evaluate.threshold_grid=[0.1,0.9,0]",
            "evaluate.plain_threshold=1.0",
            "evaluate.threshold_shrinkage=-1",
            "evaluate.calibration_offset_sd=0.0",
            "evaluate.calibration_scale_sd=0.0",
            "evaluate.smoothing_weights=[0.5]",
            "evaluate.confirmation_rules=[[3,2]]",
            "evaluate.confirmation_rules=[[1]]",
            "evaluate.bootstrap_level=95.0",
            "evaluate.bootstrap_resamples=0",
            "evaluate.phase_shift_ms=[-1.0]",
            "evaluate.wheel_precision=int4",
            "evaluate.engine_windows=0",
        ],
        4,
    ),
)
def test_what_cannot_be_is_named(override):
    with pytest.raises(ConfigError, match=override.split("=", maxsplit=1)[0]):
        compose([override])


def test_calibration_noise_and_shifts_can_be_left_out():
    told = compose(
        ["evaluate.calibration_offset_sd=null", "evaluate.noise_snr_db=[]", "evaluate.phase_shift_ms=[]"]
    ).evaluate
    assert told.calibration_offset_sd is None
    assert told.thresholds[0] == pytest.approx(0.05)
    assert told.thresholds[-1] == pytest.approx(0.95)
    assert told.bootstrap.level == 0.95
