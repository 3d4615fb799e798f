"""What cannot be made of a power-law bundle yet is refused in a sentence, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from labous import Bundle
from tests.runtime import bundles, law_bundles
from training.aot.__main__ import main
from training.aot.errors import AotError
from training.aot.hearing import WHOLE, build_whole


@pytest.mark.parametrize("target", list(WHOLE))
def test_no_single_file_is_made_of_a_power_law(target: str, tmp_path: Path) -> None:
    bundle = Bundle.read(law_bundles.write_bundle(tmp_path / "bundle"))
    with pytest.raises(AotError, match=r"a front end of the kind power_law, and hear and the programs .* yet"):
        build_whole(bundle, target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_single_file_reports_what_is_no_bird(tmp_path: Path) -> None:
    place, values = bundles.write_bundle(tmp_path / "bundle"), bundles.manifest()
    values["detection"]["not_birds"] = ["hergul"]
    bundles.write_manifest(place, values | {"schema_version": 3})
    with pytest.raises(AotError, match=r"labels that are no birds"):
        build_whole(Bundle.read(place), "hear", tmp_path / "out")


@pytest.mark.parametrize("targets", [[], ["hear"], ["labous-riscv64", "x86_64"]])
def test_the_command_refuses_before_it_builds(
    targets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = law_bundles.write_bundle(tmp_path / "bundle")
    assert main([str(place), "--out", str(tmp_path / "out"), *targets]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "power_law" in said
    assert not (tmp_path / "out").exists()


def test_the_model_alone_need_not_be_of_float32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = law_bundles.write_bundle(tmp_path / "bundle", precisions=("float16",))
    assert main([str(place), "--out", str(tmp_path / "out"), "wasm"]) == 1
    assert "has no float32 model" in capsys.readouterr().err
