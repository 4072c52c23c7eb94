"""Sessions for tests, changed by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

from inctrl_core.analysis.inspection import Session


def remeasured(session: Session, **changes: Any) -> Session:
    """The session with another bank, range or scales."""
    measured = dataclasses.replace(session.measured, **changes)
    return dataclasses.replace(session, measured=measured)
