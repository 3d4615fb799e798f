"""A stage is done again when, and only when, something that decides its result has changed."""

import ast
import dataclasses

import pytest

from tests.few import few
from training import stages
from training.config import compose
from training.errors import StageError
from training.files import code_digest
from training.stages import EXPORT, FIT, PREPARE, STAGES, TEACH, run_stage, stage_key


@pytest.fixture
def settings(tmp_path):
    def made(*overrides):
        places = [f"paths.{name}={tmp_path / name}" for name in ("prepared", "taught", "fit", "export", "validate")]
        return compose([*places, f"bundle.dir={tmp_path / 'bundle'}", *overrides])

    return made


class Work:
    """Counts how often it was done; leaves one file."""

    def __init__(self, name, text="result"):
        self.name, self.text, self.done = name, text, 0

    def __call__(self, settings):
        place = STAGES[self.name].place(settings)
        place.mkdir(parents=True, exist_ok=True)
        (place / "result.txt").write_text(self.text)
        self.done += 1


def test_what_is_up_to_date_is_skipped(settings):
    work = Work("prepare")
    assert run_stage(PREPARE, settings(), work)
    assert not run_stage(PREPARE, settings(), work)
    assert work.done == 1
    assert run_stage(PREPARE, settings("force=true"), work)


@pytest.mark.parametrize(
    ("override", "again"),
    few(
        [
            ("frontend.n_mels=40", True),
            ("fit.epochs=7", False),
            ("features.backend=wasm", True),
            ("split.seed=5", True),
            ("dataset.seed=5", True),
            ("features.workers=7", False),
            ("bundle.version=9.0.1", False),
        ],
        2,
    ),
)
def test_only_what_decides_the_result_counts(settings, override, again):
    work = Work("prepare")
    run_stage(PREPARE, settings(), work)
    assert run_stage(PREPARE, settings(override), work) is again


def test_a_result_that_was_changed_or_removed_is_made_again(settings):
    work = Work("prepare")
    run_stage(PREPARE, settings(), work)
    result = settings().paths.prepared / "result.txt"
    result.write_text("tampered")
    assert run_stage(PREPARE, settings(), work)
    result.unlink()
    assert run_stage(PREPARE, settings(), work)


def test_changed_code_is_run_again(settings, tmp_path, monkeypatch):
    (tmp_path / "code.py").write_text("1")
    monkeypatch.setattr(stages, "ROOT", tmp_path)
    stage = dataclasses.replace(PREPARE, code=("code.py",))
    work = Work("prepare")
    run_stage(stage, settings(), work)
    assert not run_stage(stage, settings(), work)
    (tmp_path / "code.py").write_text("2")
    assert run_stage(stage, settings(), work)


def test_a_stage_follows_the_one_before(settings):
    run_stage(PREPARE, settings(), Work("prepare"))
    run_stage(TEACH, settings(), Work("teach"))
    work = Work("fit")
    assert run_stage(FIT, settings(), work)
    assert not run_stage(FIT, settings(), work)
    run_stage(PREPARE, settings("force=true"), Work("prepare", "the same again"))
    run_stage(TEACH, settings("force=true"), Work("teach", "the same again"))
    assert run_stage(FIT, settings(), work)


def test_a_stage_that_fails_is_not_up_to_date(settings):
    run_stage(PREPARE, settings(), Work("prepare"))

    def fails(_):
        raise StageError("no")

    with pytest.raises(StageError):
        run_stage(PREPARE, settings("force=true"), fails)
    assert run_stage(PREPARE, settings(), Work("prepare"))


def test_a_stage_out_of_turn_names_the_one_to_run(settings):
    with pytest.raises(StageError, match=r"training\.prepare"):
        stage_key(EXPORT, settings())


# what only starts stages, tells of them or moves files about, and decides no result
PLUMBING = {"config", "console", "errors", "files", "interrupts", "stages"}


def imports(path):
    """Modules of training that a source file imports, anywhere in it, as paths."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "training":
                file = stages.ROOT.joinpath(*name.split(".")).with_suffix(".py")
                found |= {file} if file.is_file() else set()
    return {file for file in found if file.stem not in PLUMBING}


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_the_code_of_a_stage_is_all_that_it_imports(stage):
    named = [stages.ROOT / name for name in stage.code]
    waiting, seen = {stages.ROOT / f"training/{stage.name}.py"}, set()
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imports(file) - seen
    missing = [str(file.relative_to(stages.ROOT)) for file in seen if not {file, *file.parents} & set(named)]
    assert missing == []


def test_every_source_file_named_is_there():
    for stage in STAGES.values():
        code_digest(*(stages.ROOT / name for name in stage.code))
