"""Sessions changed by hand, and tabs of a page that is not served."""

from __future__ import annotations

import dataclasses
from typing import Any

from inctrl_core.analysis.session import Session
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.page import build_page


def remeasured(session: Session, **changes: Any) -> Session:
    """The session with another bank, range or scales."""
    measured = dataclasses.replace(session.measured, **changes)
    return dataclasses.replace(session, measured=measured)


def tab_of(registry: ModelRegistry, kind: type) -> Any:
    """The tab of a kind, on a page with these models and the examples that ship."""
    steps = build_page(registry, load_examples()).fns.values()
    owners = (getattr(step.fn, "__self__", None) for step in steps)
    return next(owner for owner in owners if isinstance(owner, kind))
