"""A few visitors at once; ``python -m tests.adversarial.visitors`` does it with many."""

from __future__ import annotations

import pytest

from tests.adversarial.visitors import measure


@pytest.mark.slow
def test_visitors_at_once_get_what_each_would_get_alone():
    report = measure(visitors=4, requests=24, rounds=1)
    assert report["requests"] == 24 and 0 < report["bad"] < 24
    assert report["rounds"] == [{"differing": [], "good_refused": 0, "bad_scored": 0}]
    assert report["server_errors"] == 0
