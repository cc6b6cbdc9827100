"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[
    Path, typer.Option("--file", "-f", help="The file that describes the cluster.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Limit = Annotated[
    list[str],
    typer.Option("--limit", help="Only these nodes: a name or a list like node[01-03].",
                 metavar="NODES"),
]  # fmt: skip
Diff = Annotated[
    bool, typer.Option("--diff", help="Show every difference whole, also of new files.")
]
DEFAULT_FILE = Path("cluster.toml")
NOTHING: list[str] = []  # the default of an option that may be given often; nobody writes to it
