"""The float32 model ahead of time, on every machine that it is built for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melspec_cpp import boards
from tests.devices import emulation
from tests.training.aot_models import TOLERANCE, reference, sized
from tests.training.export_fixtures import exported
from training.aot.build import HERE, build_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("machine", boards.MACHINES)
def test_machines(machine: str, tmp_path: Path) -> None:
    """A program that loads the library, natively or in qemu, with arenas that begin anywhere and hold NaN."""
    emulation.require(machine, what="the model ahead of time")
    library, driver = tmp_path / "libmodel.so", tmp_path / "driver"
    for tflite, mels in ((exported().float32, exported().mels), sized("small", "mel64", 30)):
        build_model(tflite, machine, library)
        flags = (f"-I{HERE / 'include'}", f"-Wl,-rpath,{tmp_path}")
        boards.compile_c(machine, Path(__file__).with_name("model_driver.c"), library, *flags, out=driver)
        done = emulation.run(machine, driver, mels.tobytes())
        assert (done.returncode, done.stderr) == (0, b"")
        logits = np.frombuffer(done.stdout, np.float32).reshape(len(mels), -1)
        np.testing.assert_allclose(logits, reference(tflite, mels), rtol=0, atol=TOLERANCE)
