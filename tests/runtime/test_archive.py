"""A bundle's files are proved before they are used."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from labous import archive
from labous.errors import BundleError

FILES = (
    "MODEL_CARD.md",
    "golden/golden.npz",
    "labels.csv",
    "manifest.json",
    "melspec.wasm",
    "metrics.json",
    "model.onnx",
    "model.tflite",
    "model_int8.tflite",
)


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        archive.read_files(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def zipped(directory: Path, into: Path) -> Path:
    return Path(shutil.make_archive(str(into), "zip", directory))


def test_all_listed_files_are_read(bundle_path: Path, zip_path: Path) -> None:
    files = archive.read_files(bundle_path)
    assert tuple(files) == FILES
    assert all(files[name] == (bundle_path / name).read_bytes() for name in FILES)
    assert archive.read_files(zip_path) == files


def test_a_zip_with_its_folder_inside_is_read(bundle_path: Path, tmp_path: Path) -> None:
    nested = shutil.make_archive(str(tmp_path / "nested"), "zip", bundle_path.parent, bundle_path.name)
    assert archive.read_files(Path(nested)) == archive.read_files(bundle_path)


@pytest.mark.fault("12 flipped bytes of a bundle's file", "refused by its name")
@pytest.mark.parametrize("form", ["directory", "zip"])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_by_name(name: str, form: str, bundle_path: Path, tmp_path: Path) -> None:
    file = bundle_path / name
    whole = file.read_bytes()
    for position in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
        for mask in (0x01, 0x20, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= mask
            file.write_bytes(damaged)
            path = bundle_path if form == "directory" else zipped(bundle_path, tmp_path / "damaged")
            assert f" {name} " in refusal(path)


def test_any_flipped_byte_of_the_checksums_is_refused(bundle_path: Path) -> None:
    file = bundle_path / archive.CHECKSUMS
    whole = file.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= (0x01, 0x20, 0x80)[position % 3]
        file.write_bytes(damaged)
        assert archive.CHECKSUMS in refusal(bundle_path)


@pytest.mark.fault("a bundle's file cut short or missing", "refused by its name")
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_missing_file_is_refused_by_name(name: str, bundle_path: Path) -> None:
    file = bundle_path / name
    file.write_bytes(file.read_bytes()[:-1])
    assert name in refusal(bundle_path)
    file.unlink()
    assert name in refusal(bundle_path)
    assert "missing" in refusal(bundle_path)


def test_missing_checksums_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    (bundle_path / archive.CHECKSUMS).unlink()
    assert "has no SHA256SUMS" in refusal(bundle_path)
    assert "has no SHA256SUMS" in refusal(zipped(bundle_path, tmp_path / "z"))


@pytest.mark.fault("damaged tables of files", "refused")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "cut short"),
        ("no newline at the end", "cut short"),
        (f"{'a' * 64}  x\n\n", "line 2"),
        (f"{'A' * 64}  x\n", "line 1"),
        (f"{'a' * 64} *x\n", "line 1"),
        (f"{'a' * 63}  x\n", "line 1"),
        (f"{'a' * 64}  x\r\n", "refused"),
        (f"{'a' * 64}  b\n{'a' * 64}  a\n", "out of order"),
        (f"{'a' * 64}  a\n{'a' * 64}  a\n", "out of order"),
        ("\udcff", "UTF-8"),
    ],
)
def test_badly_written_checksums_are_refused(content: str, why: str, bundle_path: Path) -> None:
    (bundle_path / archive.CHECKSUMS).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert why in refusal(bundle_path)


@pytest.mark.fault("bundles with paths that climb out", "refused")
@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/hostname", "a/../b", "./a", "a//b", "a\\b", "C:a", "a/", "x" * 201, "a\x1b[1m", "SHA256SUMS"],
)
def test_paths_that_leave_the_bundle_are_refused(name: str, bundle_path: Path) -> None:
    (bundle_path / archive.CHECKSUMS).write_text(f"{'a' * 64}  {name}\n", encoding="utf-8")
    assert "stay in the bundle" in refusal(bundle_path)


@pytest.mark.fault("bundles with links", "refused")
def test_links_are_refused_even_where_their_content_is_right(bundle_path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (bundle_path / "labels.csv").rename(outside)
    (bundle_path / "labels.csv").symlink_to(outside)
    assert "labels.csv is a link" in refusal(bundle_path)


@pytest.mark.fault("bundles with links", "refused")
def test_linked_folders_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    (bundle_path / "golden").rename(tmp_path / "golden")
    (bundle_path / "golden").symlink_to(tmp_path / "golden")
    assert "golden/golden.npz is a link" in refusal(bundle_path)


@pytest.mark.fault("a bundle with a FIFO", "refused, not waited for")
def test_a_pipe_is_refused_and_not_waited_for(bundle_path: Path) -> None:
    (bundle_path / "labels.csv").unlink()
    os.mkfifo(bundle_path / "labels.csv")
    assert "labels.csv is not a regular file" in refusal(bundle_path)


def test_a_bundle_may_itself_be_reached_through_a_link(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle_path)
    assert archive.read_files(tmp_path / "current") == archive.read_files(bundle_path)


def test_unlisted_files_are_ignored(bundle_path: Path) -> None:
    (bundle_path / "notes.txt").write_text("mine")
    assert "notes.txt" not in archive.read_files(bundle_path)


@pytest.mark.fault("a file of a gigabyte in a bundle", "refused before it is read")
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", archive.CHECKSUMS])
def test_a_bundle_too_large_is_refused_before_it_is_read(name: str, bundle_path: Path) -> None:
    with (bundle_path / name).open("r+b") as file:
        file.truncate(2**30)  # sparse: no such amount is written
    tracemalloc.start()
    assert f"{name} is too large" in refusal(bundle_path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.fault("a zip bomb", "refused before it is unpacked")
def test_a_zip_bomb_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        out.write(bundle_path / archive.CHECKSUMS, archive.CHECKSUMS)
        out.write(bundle_path / "MODEL_CARD.md", "MODEL_CARD.md")
        with out.open("golden/golden.npz", "w") as file:
            for _ in range(archive.MAX_TOTAL_BYTES // 2**20 + 1):
                file.write(bytes(2**20))
    assert bomb.stat().st_size < 4 * 2**20
    assert "golden/golden.npz is too large" in refusal(bomb)


@pytest.mark.fault("a zip that lies about a size", "refused")
def test_a_zip_that_lies_about_a_size_is_refused(zip_path: Path) -> None:
    content = bytearray(zip_path.read_bytes())
    size = 16  # of MODEL_CARD.md, as its entry in the central directory says
    at = content.rindex(b"MODEL_CARD.md") - 46 + 24
    assert content[at : at + 4] == size.to_bytes(4, "little")
    for lie in (size - 1, size + 1):
        content[at : at + 4] = lie.to_bytes(4, "little")
        zip_path.write_bytes(content)
        assert "MODEL_CARD.md" in refusal(zip_path)


@pytest.mark.fault("zips with paths that climb out", "refused")
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_zip_entries_that_leave_the_bundle_are_refused(name: str, zip_path: Path) -> None:
    with zipfile.ZipFile(zip_path, "a") as out:
        out.writestr(name, "x")
    assert "stay in the bundle" in refusal(zip_path)


@pytest.mark.fault("bundles with links", "refused")
def test_a_zip_entry_that_is_a_link_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "linked.zip"
    with zipfile.ZipFile(path, "w") as out:
        for name in (archive.CHECKSUMS, *FILES):
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == "labels.csv" else 0o100644) << 16
            out.writestr(info, (bundle_path / name).read_bytes())
    assert "labels.csv is a link" in refusal(path)


def test_a_zip_with_an_entry_twice_is_refused(zip_path: Path) -> None:
    with zipfile.ZipFile(zip_path, "a") as out, pytest.warns(UserWarning, match="Duplicate"):
        out.writestr("labels.csv", "x")
    assert "twice" in refusal(zip_path)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_zip_is_refused(keep: float, zip_path: Path) -> None:
    whole = zip_path.read_bytes()
    zip_path.write_bytes(whole[: int(len(whole) * keep)])
    assert "readable .zip" in refusal(zip_path)


def test_what_is_no_bundle_at_all_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "has no SHA256SUMS" in refusal(tmp_path)
    assert "does not exist" in refusal(Path("a\0b"))
    assert "cannot be read" in refusal(Path("x" * 5000))
    assert "neither a directory nor a file" in refusal(Path("/dev/null"))


def test_sha256sum_agrees(bundle_path: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", archive.CHECKSUMS], cwd=bundle_path, capture_output=True, check=True
    )
    assert done.stdout.count(b": OK\n") == len(FILES)


def test_writing_checksums_refuses_links_and_is_repeatable(bundle_path: Path) -> None:
    before = (bundle_path / archive.CHECKSUMS).read_bytes()
    archive.write_checksums(bundle_path)
    assert (bundle_path / archive.CHECKSUMS).read_bytes() == before
    assert {p.name for p in bundle_path.iterdir() if p.name.startswith(".")} == set()
    (bundle_path / "link").symlink_to("labels.csv")
    with pytest.raises(BundleError, match="'link' is a link"):
        archive.write_checksums(bundle_path)
