"""The models that visitors may choose, loaded once and shared."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from pathlib import Path

from ..config import CONFIG_FILE, read_config
from ..detector import Detector
from ..errors import InctrlError, ModelError
from ..hub import Progress
from ..loading import ASSETS, DEFAULT_MODEL, fetch_files, load_detector

logger = logging.getLogger(__name__)


class Turns:
    """A lock that goes to whoever has waited longest.

    Python's own goes to whoever asks at the right moment, mostly to the thread that has just let
    it go: one long analysis, part after part, would keep all visitors waiting.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def __enter__(self) -> None:
        """Waits for a turn."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(self, *error: object) -> None:
        """Hands the turn on."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class ModelRegistry:
    """An allow-list of models; keeps the ones used last in memory.

    Detectors hold nothing of any visitor, so all may share one.

    Attributes:
        turn: Held while any of the models computes.

    Args:
        sources: Models by the name shown to visitors: a name of ``assets/`` or a directory.
        device: As for :func:`inctrl_core.load_detector`.
        capacity: Number of models kept in memory.

    Raises:
        ModelError: There is no model at all.
    """

    def __init__(
        self, sources: dict[str, str | Path], device: str = "auto", capacity: int = 2
    ) -> None:
        if not sources:
            raise ModelError("There is no model; name a model directory with --model.")
        self._sources = dict(sources)
        self._device = device
        self._capacity = capacity
        self._loaded: OrderedDict[str, Detector] = OrderedDict()
        self.turn = Turns()
        # Three locks, each for as short as it can be: a download keeps only those waiting who
        # asked for that model; one model at a time takes memory; the list is held for an instant.
        self._fetching = {name: threading.Lock() for name in self._sources}
        self._loading = threading.Lock()
        self._list = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What visitors may choose, the default first."""
        return list(self._sources)

    @property
    def default(self) -> str:
        """The model chosen at first."""
        return self.names[0]

    @property
    def choices(self) -> list[tuple[str, str]]:
        """What to show for each name, and the name: which weights it stands for, where it says."""
        return [(_title(name, source), name) for name, source in self._sources.items()]

    def get(self, name: str, on_progress: Progress | None = None) -> Detector:
        """The detector of that name, loaded if need be.

        Args:
            name: One of :attr:`names`.
            on_progress: Told of a download.

        Raises:
            ModelError: The name is not on the list, or the model does not load.
        """
        if not isinstance(name, str) or name not in self._sources:
            raise ModelError("Choose one of the models in the list.")
        detector = self._recall(name)
        if detector is None:
            with self._fetching[name]:
                detector = self._recall(name) or self._load(name, on_progress)
        return detector

    def warm_up(self) -> threading.Thread:
        """Loads the default model in the background, so that the first visitor need not wait."""
        thread = threading.Thread(target=self._load_default, name="warm-up", daemon=True)
        thread.start()
        return thread

    def _recall(self, name: str) -> Detector | None:
        with self._list:
            if name in self._loaded:
                self._loaded.move_to_end(name)
            return self._loaded.get(name)

    def _load(self, name: str, on_progress: Progress | None) -> Detector:
        source = self._sources[name]
        fetch_files(source, on_progress)
        with self._loading:
            # Before another is let go: a model that does not load leaves the others in place.
            detector = load_detector(source, self._device, on_progress=on_progress)
            with self._list:
                self._loaded[name] = detector
                while len(self._loaded) > self._capacity:
                    self._loaded.popitem(last=False)
        return detector

    def _load_default(self) -> None:
        try:
            self.get(self.default)
        except InctrlError as error:
            # The visitor who asks for the model is told as well.
            logger.warning("%s", error)


def _title(name: str, source: str | Path) -> str:
    """The name, with the weights of the backbone where the configuration at hand names them.

    Only the end of the repository's name, which says which weights: a list has little room, and
    every result gives the repository in full.
    """
    embedded = ASSETS / source
    try:
        config = read_config(embedded if embedded.is_dir() else Path(source))
    except ModelError:
        return name  # Not on this computer yet, or broken: loading it says so.
    repo = config.backbone.hub_repo
    return name if repo is None else f"{name} ({re.split('[/.]', repo)[-1]})"


def find_sources(given: Iterable[str] = (), assets: Path = ASSETS) -> dict[str, str | Path]:
    """Names the models given by the operator, then those of the assets folder.

    Args:
        given: Directories or names; each is shown by its last part, without the path.
        assets: Folder of embedded models.
    """
    sources: dict[str, str | Path] = {}
    for source in given:
        sources[Path(source).name] = source
    embedded = sorted(path.parent.name for path in assets.glob(f"*/{CONFIG_FILE}"))
    # The default model leads where the operator names no other.
    for name in sorted(embedded, key=lambda name: name != DEFAULT_MODEL):
        sources.setdefault(name, assets / name)
    return sources
