"""Banks that were built lately: known normals cost nothing but the query."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late

from ...analysis.measured_bank import MeasuredBank
from ...analysis.session import SESSION_SECONDS
from ...model.detector import Detector
from ...model.evidence import DECIDE

# Of all banks together; one of the embedded model takes 1.2 MB and 0.9 MB for each normal.
MAX_BYTES = 256 * 2**20
# How long equal work that is under way is waited for; then it is done twice.
WAIT_SECONDS = 60.0


class BankCache:
    """Keeps banks by the content that they were built from, the ones used last.

    Nothing of a visitor's is in it but features and crop boxes, which whoever sends the same bytes
    would get anyway: no image, no name of a file, no query. Banks lie on the CPU of this process,
    also where GPUs are lent to others.

    Args:
        most_bytes: Memory of all banks together; a larger one is not kept.
        seconds: How long a bank that nobody asks for is kept.
    """

    def __init__(self, most_bytes: int = MAX_BYTES, seconds: float = SESSION_SECONDS) -> None:
        self._most_bytes, self._seconds = most_bytes, seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[MeasuredBank, float]] = OrderedDict()
        self._building: dict[str, Future[MeasuredBank | None]] = {}

    @property
    def nbytes(self) -> int:
        """Memory of the banks, in bytes."""
        with self._lock:
            return self._size()

    def find(self, key: str | None, build: Callable[[], MeasuredBank]) -> MeasuredBank:
        """The bank of that key; the first who asks for it builds it, others wait for that.

        Whatever becomes of the one who builds is nobody else's: after an error, which may be about
        that visitor's share of a GPU or name that visitor's file, and after ``WAIT_SECONDS``, those
        who wait build for themselves.

        Args:
            key: A result of :func:`bank_key`; None: it is built and not kept.
            build: Builds the bank, on the CPU.
        """
        if key is None:
            return build()
        while True:
            with self._lock:
                self._forget()
                if key in self._kept:
                    bank, _ = self._kept.pop(key)
                    self._kept[key] = bank, time.monotonic()
                    return bank
                under_way = self._building.get(key)
                if under_way is None:
                    mine = self._building[key] = Future()
                    break
            try:
                bank = under_way.result(WAIT_SECONDS)
            except Late:
                return build()
            if bank is not None:
                return bank
        bank = None
        try:
            bank = build()
            return bank
        finally:
            with self._lock:
                del self._building[key]
                if bank is not None:
                    self._kept[key] = bank, time.monotonic()
                    self._forget()
            mine.set_result(bank)

    def _forget(self) -> None:
        """Lets banks go that nobody has used for long, and the oldest where there are too many."""
        oldest = time.monotonic() - self._seconds
        while self._kept:
            key, (_, used) = next(iter(self._kept.items()))
            if used >= oldest and self._size() <= self._most_bytes:
                return
            del self._kept[key]

    def _size(self) -> int:
        return sum(bank.bank.nbytes for bank, _ in self._kept.values())


def bank_key(
    detector: Detector, files: Sequence[str], object_name: str, looks_for: str = DECIDE
) -> str | None:
    """Names all that a bank is made from: the model, the words, the bytes of each normal.

    Args:
        detector: The model.
        files: Paths of the normals.
        object_name: What they show, which the prompts follow from.
        looks_for: See :meth:`.Detector.build_bank`.

    Returns:
        None where a file cannot be read: opening it says why.
    """
    place = detector.backbone.device.type, str(detector.backbone.dtype)
    digest = hashlib.sha256(repr((detector.digest, *place, object_name, looks_for)).encode())
    try:
        for file in files:
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError:
        return None
    return digest.hexdigest()
