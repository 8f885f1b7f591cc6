"""Shared parts of the instruction-set tests."""

from __future__ import annotations

import pytest

from tests.isa import harness


@pytest.fixture(params=harness.PARAMETERS)
def executor(request: pytest.FixtureRequest) -> harness.Executor:
    """A freshly reset hart, on each executor."""
    made = harness.executor(request.param)
    made.reset()
    return made
