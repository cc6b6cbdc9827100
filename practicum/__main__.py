"""`python -m practicum`."""

from __future__ import annotations

from practicum.cli import main

main()
