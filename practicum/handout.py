"""The hand-out of an import: a page to print, with one card for each new account."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.roster import Person

# Without those that are mistaken for one another on paper.
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
GROUPS, LENGTH = 3, 4  # 3 × 4 characters of 31: 59 bits

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ cluster }}: {{ group }}</title>
<style>
body { font: 12pt sans-serif; margin: 1cm; }
.card { border: 1px dashed #888; padding: 6mm; margin: 0 0 4mm; break-inside: avoid; }
h2 { margin: 0 0 3mm; font-size: 13pt; }
dt { float: left; width: 28mm; color: #555; } dd { margin: 0 0 1mm 28mm; }
code { font: 13pt monospace; }
</style></head><body>
{% for person in people %}<div class="card"><h2>{{ person.full_name or person.name }}</h2>
<dl><dt>Address</dt><dd><code>{{ address }}</code></dd>
<dt>Name</dt><dd><code>{{ person.name }}</code></dd>
<dt>Password</dt><dd><code>{{ passwords[person.name] }}</code></dd>
<dt>Course</dt><dd>{{ group }} on {{ cluster }}</dd></dl></div>
{% endfor %}</body></html>
"""


def password() -> str:
    """One that can be read off paper, such as ``kx4m-p8wd-2tfh``."""
    parts = ("".join(secrets.choice(LETTERS) for _ in range(LENGTH)) for _ in range(GROUPS))
    return "-".join(parts)


def page(
    people: Sequence[Person],
    passwords: Mapping[str, str],
    *,
    cluster: str,
    group: str,
    address: str,
) -> str:
    """HTML; names may hold anything."""
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return template.render(
        people=people, passwords=passwords, cluster=cluster, group=group, address=address
    )


def free_path(folder: Path, group: str) -> Path:
    """``GROUP.html``, or the next number: what was not printed yet is not written over."""
    number = 1
    while True:
        path = folder / (f"{group}.html" if number == 1 else f"{group}-{number}.html")
        if not path.exists():
            return path
        number += 1
