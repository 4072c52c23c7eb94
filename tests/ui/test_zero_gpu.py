"""The page on a ZeroGPU Space: what is asked of the lending service, and what a visitor reads."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from inctrl_core import InctrlError, load_detector
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.ui.common import lending
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.service.api_analysis import AnalysisApi
from tests.support.app_server import free_port
from tests.support.hub_server import Hub, Repo, running_hub
from tests.support.lending_service import (
    ENDS,
    FAILS,
    NO_DEVICE,
    Answer,
    LendingService,
    lend,
    over_quota,
    queue,
    refuse,
    running_service,
)
from tests.support.pictures import OTHER
from tests.support.zero_gpu import ROOT, Space, needs_cuda_build, running_space
from tests.ui import test_mcp

NORMALS = sorted((OTHER.folder / "normals").iterdir())[:4]
QUERIES = sorted((OTHER.folder / "queries").iterdir())[:3]
QUERY = OTHER.bad
REPO = "user/tiny"
LOW_LEVEL = "Low-level CUDA init"

HTML = {"Content-Type": "text/html"}
PENDING = Answer(
    429,
    over_quota(5, 60).body,
    {"Content-Type": "application/json", "X-Approve-Result": "pending-overquota-exceeded"},
)
# What the service answers, or what becomes of the GPU, and what the visitor reads.
NO_GPU = {
    "nothing to lend": (refuse(503), "There is no GPU to lend at the moment; try again"),
    "expired": (refuse(401), "reload the page"),
    "forbidden": (refuse(403), "gives no usable answer; try again"),
    "broken": (refuse(500), "gives no usable answer; try again"),
    "another status": (refuse(599), "gives no usable answer; try again"),
    "quota": (over_quota(5, 3600), "is used up; try again later, or sign in"),
    "too long": (over_quota(5, -1), "cannot be lent a GPU for as long as"),
    "pending": (PENDING, "hold a GPU already; try again when they are done"),
    "full": (queue("ping", "failed"), "is used up; try again later"),
    "end of the queue": (queue("ping"), "gives no usable answer; try again"),
    "a web page": (Answer(200, "<html>", HTML), "gives no usable answer; try again"),
    "nothing": (Answer(), "gives no usable answer; try again"),
    "no device": (lend(NO_DEVICE), "The lent GPU cannot be used; try again"),
    "the process ends": (lend(ENDS), "was taken away before the work was done; try again"),
    "an error there": (lend(FAILS), "Something went wrong on the lent GPU; try again"),
}


@pytest.fixture(scope="module")
def hub(tiny_model: Path) -> Iterator[Hub]:
    """A Hub with a model that nobody has fetched yet."""
    with running_hub() as running:
        running.repos[REPO] = Repo({path.name: path.read_bytes() for path in tiny_model.iterdir()})
        yield running


@pytest.fixture(scope="module")
def service() -> Iterator[LendingService]:
    with running_service() as running:
        yield running


@pytest.fixture(scope="module")
def space(
    service: LendingService, hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Space]:
    folder = tmp_path_factory.mktemp("space")
    models = "--model", DEFAULT_MODEL, "--model", REPO, "--mcp"
    where = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hub")}
    with running_space(folder, service.url, *models, **where) as running:
        assert [path for path, _ in service.requests] == ["/startup-report"]
        yield running
        # As a host ends it: at once, without a trace, and with it the processes that it forked.
        assert running.end() == 0
        assert LOW_LEVEL not in running.says()
        # The addresses that it asks bear what stands for a visitor.
        assert "allowToken" not in running.says()


@pytest.fixture(scope="module")
def client(space: Space) -> Client:
    return Client(space.url, verbose=False)


@pytest.fixture(autouse=True)
def fresh(service: LendingService) -> None:
    """The service lends, if need be to the same process again, and has been asked nothing."""
    service.answer = lend(idle=True)
    service.requests.clear()


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """The score, from the library."""
    detector = load_detector(DEFAULT_MODEL, device="cpu")
    return detector.score([QUERY], detector.build_bank(NORMALS, OTHER.object_name))[0].to_dict()


def ask(client: Client, endpoint: str, *more: str, model: str = DEFAULT_MODEL) -> Any:
    normals = [handle_file(path) for path in NORMALS]
    several = endpoint == "/score_batch"
    query = [handle_file(path) for path in QUERIES] if several else handle_file(QUERY)
    return client.predict(normals, query, OTHER.object_name, model, *more, api_name=endpoint)


@pytest.fixture(scope="module")
def here() -> AnalysisApi:
    """The same analyses without a Space."""
    return AnalysisApi(ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, "cpu"))


def alike(answer: Any, expected: Any) -> bool:
    """Whether two answers say the same, but for rounding."""
    if isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(
            alike(answer[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list | tuple):
        return len(answer) == len(expected) and all(map(alike, answer, expected))
    return answer == (close(expected) if isinstance(expected, float) else expected)


def close(value: object) -> Any:
    """Scores and residuals lie in [0, 1]; deviations divide them by a spread, rounding and all."""
    beyond = isinstance(value, float) and abs(value) > 1
    return pytest.approx(value, abs=1e-4 if beyond else 1e-5)


@needs_cuda_build
class TestWhereOneIsLent:
    def test_a_score_asks_for_it_once(self, client, service, expected):
        service.answer = lend()
        result, _ = ask(client, "/score")
        assert result["fused"] == close(expected["fused"])
        assert result["patch_map"] == [close(row) for row in expected["patch_map"]]
        assert [path for path, _ in service.requests] == ["/schedule", "/allow", "/release"]
        assert service.asked("/release")[0]["fail"] == "false"
        assert int(service.asked("/schedule")[0]["durationSeconds"]) == lending.GPU_SECONDS

    def test_each_analysis_asks_for_it_once_a_step(self, client, service, here):
        given = [{"path": str(path)} for path in NORMALS], {"path": str(QUERY)}, OTHER.object_name
        phrases = "mown", "burnt"
        explained = ask(client, "/explain", *phrases)
        assert alike(explained, here.explain(*given, DEFAULT_MODEL, *phrases))
        assert len(service.asked("/schedule")) == 2  # The score, then the phrases.
        queries = [{"path": str(path)} for path in QUERIES]
        batch = here.score_batch(given[0], queries, OTHER.object_name, DEFAULT_MODEL)
        assert alike(ask(client, "/score_batch"), batch)
        assert len(service.asked("/schedule")) == 3  # The queries: the normals are known by now.
        assert alike(ask(client, "/stress_test"), here.stress_test(*given, DEFAULT_MODEL))
        assert len(service.asked("/schedule")) == len(service.asked("/release")) == 13

    def test_images_in_parts_and_unsorted_ones_cross_as_well(self, client, service, here):
        given = [{"path": str(path)} for path in NORMALS], {"path": str(QUERY)}, OTHER.object_name
        options = DEFAULT_MODEL, "", "", "decide", 2
        explained = ask(client, "/explain", *options[1:])
        assert alike(explained["closer"], here.explain(*given, *options)["closer"])
        images = [*NORMALS, *QUERIES]
        found = client.predict(
            [handle_file(path) for path in images], DEFAULT_MODEL, api_name="/find_normals"
        )
        paths = [{"path": str(path)} for path in images]
        assert alike(found, here.find_normals(paths, DEFAULT_MODEL))

    def test_a_tool_of_language_models_gets_one_as_well(self, space, service, expected):
        images = [QUERY, *NORMALS]
        names = "query", "normal_1", "normal_2", "normal_3", "normal_4"
        uris = map(test_mcp.data_uri, images)
        arguments = dict(zip(names, uris, strict=True)) | {"object_name": OTHER.object_name}
        arguments["model"] = DEFAULT_MODEL
        address = f"{space.url}gradio_api/mcp/"
        answer = test_mcp.ask(address, "score_image", arguments)
        assert not answer.isError and str(expected["fused"])[:5] in answer.content[0].text
        assert len(service.asked("/schedule")) == 1
        service.answer = refuse(503)
        answer = test_mcp.ask(address, "score_image", arguments)
        assert answer.isError and "There is no GPU to lend" in answer.content[0].text

    def test_a_model_chosen_later_is_fetched_here_and_computes_there(self, client, service, hub):
        service.answer = lend(idle=True)
        fused = [
            ask(client, "/score", model=model)[0]["fused"] for model in (DEFAULT_MODEL, "tiny")
        ]
        assert hub.asked("GET", "model.safetensors")
        # A process that was kept serves again, and never for a model that it does not have.
        started = len(service.asked("/allow"))
        again = [
            ask(client, "/score", model=model)[0]["fused"] for model in (DEFAULT_MODEL, "tiny")
        ]
        assert again == fused and len(service.asked("/allow")) == started <= 2
        assert len(service.asked("/schedule")) == 4

    def test_several_visitors_have_one_each(self, client, service, expected):
        with ThreadPoolExecutor(3) as visitors:
            results = list(visitors.map(lambda _: ask(client, "/score")[0], range(3)))
        assert [result["fused"] for result in results] == [close(expected["fused"])] * 3
        assert len(service.asked("/schedule")) == len(service.asked("/release")) == 3

    def test_it_may_come_out_of_a_queue(self, client, service, expected):
        service.answer = queue("ping", "ping", "succeeded")
        assert ask(client, "/score")[0]["fused"] == close(expected["fused"])

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_no_connection_of_the_page_is_kept_open_there(self, client, service, space):
        service.answer = lend()
        ask(client, "/score")
        process = Path("/proc") / service.asked("/allow")[0]["pid"]
        held = {os.readlink(opened) for opened in (process / "fd").iterdir()}
        table = (process / "net" / "tcp").read_text().splitlines()[1:]
        port = f":{urlsplit(space.url).port:04X}"
        of_page = {f"socket:[{row.split()[9]}]" for row in table if row.split()[1].endswith(port)}
        assert of_page and not held & of_page

    def test_what_a_step_refuses_keeps_its_sentence(self, client, service):
        normals = [handle_file(path) for path in NORMALS]
        with pytest.raises(AppError, match="at most 80"):
            client.predict(normals, handle_file(QUERY), "x" * 500, DEFAULT_MODEL, api_name="/score")
        assert [query["fail"] for query in service.asked("/release")] == ["false"]

    def test_what_needs_no_model_asks_for_none(self, client, service):
        with pytest.raises(AppError, match="at least one normal"):
            client.predict([], handle_file(QUERY), "cookie", DEFAULT_MODEL, api_name="/score")
        with pytest.raises(AppError, match="models in the list"):
            ask(client, "/score", model="other")
        # Images are opened here: no time of a GPU goes into that.
        with pytest.raises(AppError, match="not an image"):
            note = handle_file(OTHER.folder / "set.json")
            client.predict([note], handle_file(QUERY), "cookie", DEFAULT_MODEL, api_name="/score")
        assert not service.requests


@needs_cuda_build
class TestWhereNoneComes:
    @pytest.mark.parametrize("case", NO_GPU)
    def test_one_sentence_says_so(self, case, client, service, space):
        service.answer, sentence = NO_GPU[case]
        before = len(space.says())
        with pytest.raises(AppError, match=sentence) as error:
            ask(client, "/score")
        assert str(error.value).count(".") == 1 and str(error.value).endswith(".")
        assert len(service.asked("/schedule")) == 1
        assert "inctrl_core.ui.common.lending" in space.says()[before:]
        # With the trace from there, to its end.
        assert (case == "an error there") == ("  | NotImplementedError" in space.says()[before:])

    @pytest.mark.parametrize("endpoint", ["/explain", "/score_batch", "/stress_test"])
    def test_every_endpoint_says_it(self, endpoint, client, service):
        service.answer = refuse(503)
        phrases = ("mown", "burnt") if endpoint == "/explain" else ()
        with pytest.raises(AppError, match="There is no GPU to lend at the moment"):
            ask(client, endpoint, *phrases)
        assert len(service.asked("/schedule")) == 1

    def test_a_visitor_who_is_known_reads_when_to_come_back(self, space, service):
        known = Client(space.url, verbose=False, headers={"x-ip-token": "a.e30.c"})
        service.answer = over_quota(5, 3600)
        with pytest.raises(AppError, match="used up; try again in 1:00:00, or sign in"):
            ask(known, "/score")
        service.answer = queue("failed")
        with pytest.raises(AppError, match="No GPU came free in time; try again"):
            ask(known, "/score")
        assert service.asked("/schedule")[0]["token"] == "a.e30.c"
        assert "e30" not in space.says()

    def test_the_next_score_comes_once_there_is_one(self, client, service, expected):
        service.answer = lend(ENDS)
        with pytest.raises(AppError, match="taken away"):
            ask(client, "/score")
        service.answer = lend(idle=True)
        assert ask(client, "/score")[0]["fused"] == close(expected["fused"])

    def test_a_service_that_is_away_keeps_no_page_from_starting(self, tmp_path):
        away = f"http://127.0.0.1:{free_port()}"
        with running_space(tmp_path, away) as alone:
            assert "was not told of the start" in alone.says()
            with pytest.raises(AppError, match="cannot be reached; try again in a minute") as error:
                ask(Client(alone.url, verbose=False), "/score")
            assert str(error.value).count(".") == 1
            assert alone.end() == 0 and LOW_LEVEL not in alone.says()

    def test_half_a_space_is_told_in_a_sentence(self, tmp_path):
        environment = os.environ | {"SPACES_ZERO_GPU": "true", "HOME": str(tmp_path)}
        environment.pop("SPACES_ZERO_DEVICE_API_URL", None)
        command = [sys.executable, "app.py", "--port", str(free_port())]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode == 1 and "Traceback" not in run.stderr
        assert run.stderr.splitlines()[-1].startswith("error: SPACES_ZERO_GPU is set, but")


class TestOutsideOfASpace:
    def test_nothing_is_lent_where_the_package_is_not_used(self):
        assert not lending.gpus_are_lent()
        assert "SPACES_ZERO_GPU" not in os.environ and lending._import_spaces() is not None
        assert not ModelRegistry({"a": "a"})._lent

    def test_nothing_is_lent_where_the_package_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "spaces", None)
        assert not lending.gpus_are_lent() and not ModelRegistry({"a": "a"})._lent


def test_every_sentence_crosses_as_the_error_that_it_was():
    kinds = [InctrlError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        again = pickle.loads(lending.pack(kind.__new__(kind, "Say what to do.")))
        assert type(again) is kind and str(again) == "Say what to do."
    assert len(kinds) >= 4
