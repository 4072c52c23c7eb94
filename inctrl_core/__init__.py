"""InCTRL: few-shot generalist anomaly detection by in-context residual learning.

Zhu and Pang, "Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot
Sample Prompts", CVPR 2024, arXiv 2403.06495.

    >>> from inctrl_core import load_detector  # doctest: +SKIP
    >>> detector = load_detector("inctrl-lite")  # doctest: +SKIP
    >>> bank = detector.build_bank(["good1.png", "good2.png"], "metal nut")  # doctest: +SKIP
    >>> detector.score(["query.png"], bank)[0].fused  # doctest: +SKIP
"""

from .detector import Detector
from .errors import ImageError, InctrlError, ModelError, PromptError
from .loading import load_detector
from .prompt_bank import PromptBank
from .score import Score

__all__ = [
    "Detector",
    "ImageError",
    "InctrlError",
    "ModelError",
    "PromptBank",
    "PromptError",
    "Score",
    "load_detector",
]
