"""*Validate* in the assignment list and above a notebook: what nbgrader makes of it now.

nbgrader's Validator (0.9.6) runs a copy of the notebook from top to bottom in the notebook's
folder and tells which tests fail. It does so in a process of nbgrader's environment, so that a
session does not carry nbgrader. Cells of assignments that are graded by what the cluster saw submit
jobs, and their tests are not in the student's notebook: a sentence says what to do instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .wire import WireError

# coursework.nodes makes this link into nbgrader's environment
PAGE = Path("/usr/local/lib/practicum/coursework/labextensions/@jupyter/nbgrader")
SECONDS = 600
LARGEST = 50_000_000  # bytes of a notebook
MARK = "# practicum: cluster test"  # as in coursework.clustercells
# In lines, for nbgrader's page shows it as it is
BY_THE_CLUSTER = (
    "This assignment is graded by the jobs that the cluster recorded,\n"
    "and Validate cannot look at those. Save and submit: the feedback\n"
    "says what counted. You may hand in as often as you like."
)


def validate(book: Path) -> dict[str, Any]:
    """nbgrader's answer, as its page wants it: {} is fine, else ``failed``, ``changed`` or
    ``type_changed``, a list each. WireError says in a sentence why there is none."""
    if is_by_the_cluster(read(book)):
        raise WireError(BY_THE_CLUSTER)
    python = PAGE.resolve().parents[4] / "bin/python"
    argv = [str(python), "-I", "-m", "practicum_session.validation", str(book)]
    try:
        done = subprocess.run(
            argv, cwd=book.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise WireError(
            f"{book.name} ran for more than {SECONDS // 60} minutes: run its cells one by one, to "
            "see which does not end"
        ) from None
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        raise WireError(f"{book.name} was not validated: {last[:300] or 'it does not say why'}")
    value: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return value


def read(book: Path) -> Any:
    """A notebook's JSON. WireError when it is none."""
    try:
        if book.suffix != ".ipynb" or not book.is_file() or book.stat().st_size > LARGEST:
            raise WireError(f"{book.name} is no notebook that can be validated")
        return json.loads(book.read_text(encoding="utf-8"))
    except ValueError:
        raise WireError(f"{book.name} is no notebook that can be validated") from None


def is_by_the_cluster(notebook: Any) -> bool:
    """Whether one of its tests is run on the cluster's records."""
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    for cell in cells if isinstance(cells, list) else ():
        source = cell.get("source", "") if isinstance(cell, dict) else ""
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if text.lstrip().partition("\n")[0].strip() == MARK:
            return True
    return False


def main(book: str) -> None:
    """In nbgrader's environment: its answer as the last line."""
    from nbgrader.validator import Validator  # noqa: PLC0415

    sys.stdout.write(json.dumps(Validator().validate(book)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
