"""*Validate* in a student's session: what is refused before nbgrader is asked, and with what words.

What nbgrader itself answers was seen on a lab by hand."""

from __future__ import annotations

import json
from pathlib import Path

import playing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursework import clustercells, notebooks
from coursework.session import validation
from coursework.session.wire import WireError


def test_the_mark_is_that_of_the_tests() -> None:
    assert validation.MARK == clustercells.MARK


@pytest.mark.parametrize("name", notebooks.names())
def test_what_the_cluster_grades_is_told_apart(name: str, tmp_path: Path) -> None:
    book = tmp_path / f"{name}.ipynb"
    book.write_text(notebooks.build(playing.loaded(name), name, "hpc101"))
    with pytest.raises(WireError, match="graded by the jobs that the cluster recorded"):
        validation.validate(book)


def test_other_notebooks_are_nbgraders_matter() -> None:
    cells = [{"cell_type": "code", "source": ["assert square(3) == 9\n", validation.MARK]}]
    assert not validation.is_by_the_cluster({"cells": cells})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["cells", "source", "x"]), inner, max_size=3),
)  # fmt: skip


@given(JSON)
def test_anything_in_a_notebook_is_looked_at(value: object) -> None:
    assert validation.is_by_the_cluster(value) in (True, False)


@pytest.mark.parametrize(
    ("name", "text"), [("a.ipynb", "{"), ("a.txt", "{}"), ("b.ipynb", None), ("a.ipynb", "\xff")]
)
def test_what_is_no_notebook_is_refused(name: str, text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(WireError, match="is no notebook"):
        validation.validate(tmp_path / name)


def test_without_nbgrader_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is missing: an OSError, which the list's answer tells as it is."""
    monkeypatch.setattr(validation, "PAGE", tmp_path / "a/b/c/d/e")
    book = tmp_path / "a.ipynb"
    book.write_text(json.dumps({"cells": []}))
    with pytest.raises(OSError, match="No such file"):
        validation.validate(book)
