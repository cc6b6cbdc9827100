"""For every test."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is not a failure: no time limit for single examples.
settings.register_profile("practicum", deadline=None)
settings.load_profile("practicum")
