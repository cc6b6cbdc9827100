"""A kernel of R from the admin's lines to a student's notebook.

R is fetched and unpacked on every node, so this is no part of `make test`. On a lab that is up
(PRACTICUM_LAB=NAME):

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_r_kernel_slow.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser
from test_browser_lab import run_cell, shot, start_server
from test_kernels_lab import browser, end_session, open_kernel

pytestmark = pytest.mark.slow
__all__ = ["browser"]


@pytest.fixture
def described(lab: Any) -> Iterator[Any]:
    """``described(*words)`` runs practicum on the lab's own cluster.toml, which is put back."""
    before = lab.cluster_toml.read_text()

    def practicum(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "practicum", *words, "--file", str(lab.cluster_toml)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield practicum
    lab.cluster_toml.write_text(before)
    practicum("apply", "--yes")


def test_r_is_installed_tried_and_used(
    lab: Any, described: Any, run_on: Any, browser: Browser
) -> None:
    described("kernel", "add", "stats", "jsonlite", "--r", "--title", "Statistics")
    described("apply", "--yes")
    shown = described("kernel", "show", "stats")
    assert "the system's R" in shown
    assert "r-cran-jsonlite=" in shown
    for node in ("node01", "node02"):
        assert f"on {node}: works" in described("kernel", "test", "stats", "--node", node)
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    try:
        start_server(page, lab, "ada")
        shot(page, "kernels-r")
        open_kernel(page, "Statistics · v1")
        said = run_cell(page, "library(jsonlite); cat(toJSON(round(sd(c(1, 2, 4)), 3)))")
        assert re.fullmatch(r"\[1\.528\]", said)
    finally:
        page.context.close()
        end_session(run_on, "ada")
