"""What check_writable lets pass can be written in full; what it refuses, before anything is paid, could not have been."""

from pathlib import Path

import pytest
from dpm_solver_ext.solvers.files import write_beside
from dpm_solver_ext.solvers.folders import TUNED, check_writable, part_of

PLACE = Path("models")


def names():
    """Names around the 255 bytes that file systems take: of one byte a letter, of three, of four."""
    for size in range(210, 256):
        yield pytest.param("a" * (size - 5) + ".json", id=f"latin-{size}")
    for count in range(66, 81):
        yield pytest.param(TUNED.place_in(PLACE, "画" * count, "0123abcd").name, id=f"cjk-{count}")
    yield pytest.param(TUNED.place_in(PLACE, "𠀀" * 80, "0123abcd").name, id="astral-80")


def written(path):
    """Whether the outcome and its part can be written, in the real way."""
    try:
        for file in (part_of(path), path):
            write_beside(file, [b"x"])
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", list(names()))
def test_what_passes_can_be_written(tmp_path, name):
    path = tmp_path / "new" / name
    try:
        check_writable(path)
    except ValueError as error:
        assert not list(path.parent.iterdir()) and not written(path)
        assert "choose a shorter name" in str(error) and "\n" not in str(error) and str(path) in str(error)
    else:
        assert not list(path.parent.iterdir()) and written(path)


def test_both_ends_are_met(tmp_path):
    """The names above are on both sides: 200 bytes pass and 255 do not."""
    check_writable(tmp_path / ("a" * 200))
    with pytest.raises(ValueError, match="choose a shorter name"):
        check_writable(tmp_path / ("a" * 255))


def test_the_trial_leaves_all_as_it_was(tmp_path):
    """An outcome and a part that are there stay, to the byte, and there is nothing beside them."""
    path = tmp_path / "a.json"
    path.write_bytes(b"outcome")
    part_of(path).write_bytes(b"measured")
    check_writable(path)
    assert path.read_bytes() == b"outcome" and part_of(path).read_bytes() == b"measured" and len(list(tmp_path.iterdir())) == 2
