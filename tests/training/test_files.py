import pytest

from training.files import directory_swapped_in, write_text, written_beside


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), written_beside(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_directory_leaves_the_old_one_and_nothing_else(tmp_path):
    place = tmp_path / "bundle"
    with directory_swapped_in(place) as beside:
        (beside / "a").write_text("old")
    with pytest.raises(RuntimeError), directory_swapped_in(place) as beside:
        (beside / "a").write_text("half")
        raise RuntimeError
    assert (place / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_a_directory_takes_the_place_whole(tmp_path):
    place = tmp_path / "bundle"
    for text in ("first", "second"):
        with directory_swapped_in(place) as beside:
            (beside / text).write_text(text)
    assert [path.name for path in place.iterdir()] == ["second"]
