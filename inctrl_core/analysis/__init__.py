"""The meaning of a score: its range, its causes, how far to trust it.

>>> from inctrl_core import analysis, load_detector  # doctest: +SKIP
>>> detector = load_detector("inctrl-lite")  # doctest: +SKIP
>>> result = analysis.inspect(detector, ["good1.png", "good2.png"], "query.png")  # doctest: +SKIP
>>> result.score.fused, result.threshold  # doctest: +SKIP
"""

from .batch_job import score_batch
from .inspection import inspect
from .labelled import score_labelled
from .reasons import explain_failure
from .stress_run import stress_test
from .unsorted import find_normals

__all__ = [
    "explain_failure",
    "find_normals",
    "inspect",
    "score_batch",
    "score_labelled",
    "stress_test",
]
