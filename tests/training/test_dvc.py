"""dvc.yaml says the same as the table of stages."""

from pathlib import Path

import pytest
import yaml

from training.stages import ROOT, STAGES

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def deps(name: str) -> set[str]:
    return set(DVC[name]["deps"])


def outs(name: str) -> set[str]:
    listed = [entry for kind in ("outs", "metrics", "plots") for entry in DVC[name].get(kind, [])]
    return {path for entry in listed for path in (entry if isinstance(entry, dict) else [entry])}


def is_named(path: str, names: set[str]) -> bool:
    return any(str(parent) in names for parent in (Path(path), *Path(path).parents))


def test_dvc_has_the_stages_of_a_run():
    assert list(DVC) == ["data", *STAGES]


@pytest.mark.parametrize("name", STAGES)
def test_conf_files_and_code_are_named_as_deps(name):
    stage = STAGES[name]
    assert {"conf/config.yaml", "conf/experiment"} <= deps(name)
    for group in {group.split(".")[0] for group in stage.groups}:
        if (ROOT / "conf" / group).is_dir():
            assert f"conf/{group}" in deps(name), f"{name} reads conf/{group}"
    for path in stage.code:
        assert is_named(path, deps(name)), f"{name} runs {path}"


@pytest.mark.parametrize("name", STAGES)
def test_what_comes_before_is_named(name):
    for before in STAGES[name].after:
        assert outs(before) & set(deps(name)) or any(is_named(out, deps(name)) for out in outs(before)), (
            f"{name} reads what {before} leaves"
        )


@pytest.mark.parametrize("name", DVC)
def test_every_dep_of_the_repository_exists(name):
    made = {out for stage in DVC for out in outs(stage)}
    for dep in deps(name):
        assert is_named(dep, made) or (ROOT / dep).exists(), f"{name} names {dep}, which is not there"


@pytest.mark.parametrize("name", DVC)
def test_dvc_calls_the_stage_itself(name):
    module = {"data": "download"}.get(name, name)
    assert DVC[name]["cmd"] == f"python -m training.{module}"
