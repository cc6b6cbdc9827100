"""For every test."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

# As in our environments (kernels.environments.GRAMMAR): a second of each worker.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
# A busy machine is not a failure: no time limit for single examples.
settings.register_profile("practicum", deadline=None)
settings.load_profile("practicum")
# `make check` takes a look at each property, `make test` a good one.
settings.register_profile("quick", settings.get_profile("practicum"), max_examples=20)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With PRACTICUM_NO_SKIPS=1 (.ci/run) a test that was skipped is a failure: what it needs
    should have been installed."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if os.environ.get("PRACTICUM_NO_SKIPS") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
