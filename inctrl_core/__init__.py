"""InCTRL: few-shot generalist anomaly detection by in-context residual learning.

Zhu and Pang, "Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot
Sample Prompts", CVPR 2024, arXiv 2403.06495.

    >>> from inctrl_core import load_detector  # doctest: +SKIP
    >>> detector = load_detector("inctrl-lite")  # doctest: +SKIP
    >>> bank = detector.build_bank(["good1.png", "good2.png"], "metal nut")  # doctest: +SKIP
    >>> detector.score(["query.png"], bank)[0].fused  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints.bank_file import load_bank, save_bank
    from .checkpoints.loading import load_detector
    from .errors import ImageError, InctrlError, ModelError, PromptError
    from .model.bank import PromptBank
    from .model.detector import Detector
    from .model.score import Score

__all__ = [
    "Detector",
    "ImageError",
    "InctrlError",
    "ModelError",
    "PromptBank",
    "PromptError",
    "Score",
    "load_bank",
    "load_detector",
    "save_bank",
]

__version__ = "0.9.0"

_MODULES = {
    "Detector": ".model.detector",
    "PromptBank": ".model.bank",
    "Score": ".model.score",
    "load_bank": ".checkpoints.bank_file",
    "load_detector": ".checkpoints.loading",
    "save_bank": ".checkpoints.bank_file",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for: a process that decodes needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value
