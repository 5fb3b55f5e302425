"""Fixtures of the baselines' tests."""

import pytest

from spf import text


@pytest.fixture
def rule_based(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same phrases whether or not spaCy is installed."""
    monkeypatch.setattr(text, "_parser", lambda: None)
