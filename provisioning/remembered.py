"""What the engine keeps beside cluster.toml between runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provisioning.facts import Facts

REMEMBERED = Path("state/facts.json")  # beside cluster.toml


def remembered(base: Path) -> dict[str, Any]:
    """Facts of earlier runs, so that a node that is switched off keeps its place in slurm.conf."""
    try:
        return dict(json.loads((base / REMEMBERED).read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def last_facts(base: Path, node: str) -> Facts:
    """What the node told last; of an unknown one, what Facts takes for granted."""
    return Facts.from_wire(remembered(base).get(node, {}))


def remember(base: Path, known: Mapping[str, Any]) -> None:
    path = base / REMEMBERED
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(dict(known), indent=1, sort_keys=True) + "\n")
    temporary.replace(path)
