"""The models that visitors may choose, loaded once and shared."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from ...checkpoints.hub import Progress
from ...checkpoints.loading import (
    ASSETS,
    DEFAULT_MODEL,
    fetch_files,
    find_model,
    is_backbone_file,
    load_detector,
)
from ...config import CONFIG_FILE, read_config
from ...errors import InctrlError, ModelError
from ...images.seen import Opener, open_here
from ...model.detector import Detector
from .banks import BankCache
from .lending import LentModel, gpus_are_lent

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class ModelRegistry:
    """An allow-list of models; keeps the ones used last in memory.

    Detectors hold nothing of any visitor, so all may share one. Where GPUs are lent for a call they
    lie on the CPU, and :meth:`compute` is where they are moved.

    Args:
        sources: Models by the name shown to visitors: a name of ``assets/`` or a directory.
        device: As for :func:`inctrl_core.load_detector`.
        capacity: Number of models kept in memory.
        images: Opens visitors' images; in this process unless another opener is given.

    Raises:
        ModelError: There is no model at all.
    """

    def __init__(
        self,
        sources: dict[str, str | Path],
        device: str = "auto",
        capacity: int = 2,
        images: Opener = open_here,
    ) -> None:
        if not sources:
            raise ModelError("There is no model; name a model directory with --model.")
        self.images = images
        self.banks = BankCache()
        self._sources = dict(sources)
        self._device = device
        self._capacity = capacity
        self._loaded: OrderedDict[str, Detector] = OrderedDict()
        lent = device.startswith(("auto", "cuda")) and gpus_are_lent()
        self._lent = {name: LentModel() for name in self._sources} if lent else {}
        # Gradio calls from any of forty threads. OpenMP gives each its own helpers, and lets those
        # sleep between operations once there are more of them than cores: a query takes half as
        # long again and more.
        self._computing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        # Three locks, each for as short as it can be: a download keeps only those waiting who
        # asked for that model; one model at a time takes memory; the list is held for an instant.
        self._fetching = {name: threading.Lock() for name in self._sources}
        self._loading = threading.Lock()
        self._list = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The models on offer, the default first."""
        return list(self._sources)

    @property
    def default(self) -> str:
        """The model chosen at first."""
        return self.names[0]

    @property
    def choices(self) -> list[tuple[str, str]]:
        """For each name its label, with the weights that it stands for, and the name itself."""
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

    def compute(self, name: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """The result of ``function(detector, *arguments)``, where models compute.

        That is one thread for all models. Calls have their turns in the order in which they came,
        so a long analysis that comes back for each of its parts keeps nobody waiting for longer
        than one of them. Where GPUs are lent every call has a process with a GPU of its own, and
        the service that lends them keeps the order.

        Args:
            name: The model's, one of :attr:`names`.
            function: A function of a module.
            *arguments: The others, which can be pickled.

        Raises:
            InctrlError: No GPU was lent, or the model does not load.
            Exception: Whatever ``function`` raises; where a GPU was lent, an InctrlError for it.
        """
        if name in self._lent:
            return self._lent[name].run(self.get(name), function, *arguments)
        context = copy_context()
        turn = context.run, lambda: function(self.get(name), *arguments)
        return self._computing.submit(*turn).result()

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
            # On a thread that ends, and its helpers with it: see above.
            with ThreadPoolExecutor(max_workers=1) as loading:
                load = copy_context().run, load_detector, source
                options: dict[str, Any] = {"device": self._device, "on_progress": on_progress}
                if self._lent:  # Moved, and rounded, where the GPU is.
                    options |= {"device": "cpu", "precision": "float32"}
                detector = loading.submit(*load, **options).result()
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
        given: Directories, names, or files with a backbone; each is shown by its last part,
            without the path, and a file by the model that it is of.
        assets: Folder of embedded models.

    Raises:
        ModelError: Two of them would be shown by the same name, or a file is of no model.
    """
    sources: dict[str, str | Path] = {}
    for source in given:
        # A file gives a model of the assets its backbone, and takes its place in the list.
        path = find_model(source) if is_backbone_file(source) else Path(source)
        name = path.name or path.resolve().name
        if sources.setdefault(name, source) != source:
            raise ModelError(
                f"'{sources[name]}' and '{source}' would both be called '{name}'; rename one."
            )
    embedded = sorted(path.parent.name for path in assets.glob(f"*/{CONFIG_FILE}"))
    # The default model leads where the operator names no other.
    for name in sorted(embedded, key=lambda name: name != DEFAULT_MODEL):
        sources.setdefault(name, assets / name)
    return sources
