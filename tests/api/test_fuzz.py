"""Schemathesis over the whole document, with few examples; `python -m tests.fuzz` runs it with many."""

from __future__ import annotations

from tests.fuzz import fuzz


def test_every_operation_keeps_to_the_document() -> None:
    """No request gets an answer that the document does not have, or one that is a fault of the service."""
    findings = fuzz(examples=1, seed=1, each=3)
    assert {} == findings.failures
    assert findings.requests > 2_000
