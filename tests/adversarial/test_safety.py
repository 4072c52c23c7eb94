"""Nothing that is sent runs, nothing that was not sent is served, and everything has its bounds."""

from __future__ import annotations

import ast
import gc
import http.client
import json
import logging
import os
import pickle
import shutil
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import torch
from gradio.state_holder import SessionState
from PIL import Image

from inctrl_core import InctrlError, ModelError, load_detector
from inctrl_core.__main__ import main
from inctrl_core.analysis.inspection import start_session
from inctrl_core.checkpoints.conversion import read_checkpoint
from inctrl_core.config import config_from_dict
from inctrl_core.images.files import open_image
from inctrl_core.images.limits import MAX_BYTES
from inctrl_core.training.loop import CHECKPOINT_FILE, TrainingRun
from inctrl_core.ui.common.examples import EXAMPLES
from inctrl_core.ui.common.log import FORMAT, BoundedFormatter
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.guard import bodies, guard
from inctrl_core.ui.guard.bodies import MAX_FILES, MAX_REQUEST_BYTES, most_upload_bytes
from inctrl_core.ui.guard.guard import check_files
from inctrl_core.ui.page import build_page, launch_options
from inctrl_core.ui.serving import uploads
from inctrl_core.ui.serving.uploads import sweep
from tests.adversarial.conftest import MemoryPeak, scratch  # noqa: F401, a fixture.
from tests.adversarial.corpus import good_files, png
from tests.adversarial.test_faults import wait_until
from tests.adversarial.test_fuzz_models import tiny  # noqa: F401, a fixture.
from tests.support.app_server import running_app

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = sorted([ROOT / "app.py", *(ROOT / "inctrl_core").rglob("*.py")])
SCRIPTS = sorted([*(ROOT / "examples").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
GOOD = good_files()["png"]
META = {"_type": "gradio.FileData"}

# Names that run what they are given, or read it in a way that can.
RUN = {"eval", "exec", "compile", "__import__"}
RUN_IN = {
    "os": {"system", "popen", "execv", "execve", "execvp", "spawnl", "spawnv", "startfile"},
    "pickle": {"load", "loads", "Unpickler"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "joblib": {"load"},
    "yaml": {"load", "unsafe_load"},
}


def dangers(source: str, everywhere: bool = True) -> list[str]:
    """What in a module runs, or could run, what it reads.

    Args:
        source: Of the module.
        everywhere: Whether to name also what a test or a script may do with its own data.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        function = ast.unparse(node.func)
        module, _, name = function.rpartition(".")
        if name == "load" and module == "torch" and given.get("weights_only") is not True:
            found.append("torch.load without weights_only")
        if name == "load" and module in ("np", "numpy") and given.get("allow_pickle"):
            found.append("numpy.load with pickles")
        if given.get("shell"):
            found.append("a shell")
        if everywhere and (function in RUN or name in RUN_IN.get(module, ())):
            found.append(function)
    return found


# Where processes of the program talk to each other: a decoder's requests come from the page alone
# (its answers go through a list of what they may name), and a lent process is a fork of the page.
BETWEEN_PROCESSES = {
    "inctrl_core/images/workers.py": ["pickle.loads"],
    "inctrl_core/ui/common/lending.py": ["pickle.loads", "pickle.loads"],
}


@pytest.mark.parametrize("path", PROGRAM, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_program_runs_nothing_that_it_reads(path: Path) -> None:
    expected = BETWEEN_PROCESSES.get(path.relative_to(ROOT).as_posix(), [])
    assert dangers(path.read_text()) == expected


def test_neither_do_tests_and_scripts() -> None:
    for path in SCRIPTS:
        assert dangers(path.read_text(), everywhere=False) == [], path


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=x)",
        "pickle.loads(b)",
        "eval(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_the_search_finds_what_it_should(source: str) -> None:
    assert dangers(source)
    assert not dangers("model.eval(); torch.load(p, weights_only=True); pickle.UnpicklingError")


class Malice:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """What malice would leave behind, were it run."""
    place = tmp_path / "ran"
    yield place
    assert not place.exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare", "hidden"])
def test_a_checkpoint_that_runs_code_is_refused(
    kind: str, mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, malice = tmp_path / "evil.pyth", Malice(mark)
    hidden = {"model_state": {"visual.proj": torch.ones(2), "epoch": malice}}
    if kind == "bare":
        path.write_bytes(pickle.dumps(malice))
    else:
        content = hidden if kind == "hidden" else malice
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    with pytest.raises(ModelError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    command = ["convert", str(path), str(tmp_path / "out"), "--backbone", "ViT-B-16-plus-240"]
    assert main(command) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_checkpoint_of_a_training_run_that_runs_code_is_refused(
    mark: Path, tmp_path: Path
) -> None:
    torch.save({"mark": Malice(mark)}, tmp_path / CHECKPOINT_FILE)
    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(module.parameters())
    run = TrainingRun(module, lambda rng: None, dict, optimizer, seed=0, steps=1)
    with pytest.raises(InctrlError, match="is damaged; start again without --resume"):
        run.run(1, "mark", tmp_path)


def test_only_known_heads_are_built(tiny: Path) -> None:  # noqa: F811
    document = json.loads((tiny / "config.json").read_text())
    for form in ("os.system", "reference ", None):
        with pytest.raises(ModelError, match="'training-free', 'reference' or 'gated'"):
            config_from_dict(document | {"heads": {"form": form}})


@pytest.fixture(scope="module")
def server(tiny: Path, scratch: Path) -> Iterator[str]:  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(scratch / "safe"))
        with running_app(sources={"tiny": tiny}) as url:
            yield url


def get(url: str, path: str) -> tuple[int, bytes]:
    """Asks for a path exactly as it stands: clients tidy it up before they ask."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


TARGETS = [
    "/etc/passwd",
    f"{ROOT}/app.py",
    f"{ROOT}/inctrl_core/checkpoints/hub.py",
    "/proc/self/environ",
]
WAYS = [
    "{path}",
    "../../../../../../../..{path}",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{path}",
    "..%2f..%2f..%2f..%2f..%2f..{path}",
    "..%5c..%5c..%5c..%5c{path}",
    "%252e%252e%252f%252e%252e{path}",
    "file://{path}",
    "file:{path}",
    "//{path}",
    "/{path}%00.png",
    "{path}/",
    "{path}?x=.png",
    "{path}%23.png",
    "{examples}/../../../../../../../..{path}",
    "{examples}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{path}",
    "{examples}/..;/..;/..{path}",
    "{uploads}/../../../../../../../..{path}",
]
ROUTES = ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/static/", "/assets/", "/svelte/"]
ROUTES += ["/gradio_api/custom_component/1/client/component/", "/theme.css/", "/pwa_icon/"]
ROUTES += ["/gradio_api/proxy=", "/gradio_api/stream/a/b/1/", "/"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("route", ROUTES)
def test_no_other_file_is_served(server: str, scratch: Path, route: str, target: str) -> None:  # noqa: F811
    try:
        secret = Path(target).read_bytes()[:60]
    except OSError:
        secret = b"HOME="
    for way in WAYS:
        place = way.format(path=target, examples=EXAMPLES, uploads=scratch / "safe")
        status, body = get(server, route + place)
        assert secret not in body, place
        assert status < 500, place


def test_what_should_be_served_is(server: str) -> None:
    image = next(EXAMPLES.rglob("*.jpg"))
    assert get(server, f"/gradio_api/file={image}") == (200, image.read_bytes())


def test_no_link_leads_out_of_what_is_served() -> None:
    for path in EXAMPLES.rglob("*"):
        assert path.resolve().is_relative_to(EXAMPLES.resolve()), path
    assert launch_options()["allowed_paths"] == [str(EXAMPLES)]


def test_a_link_among_the_uploads_is_no_upload(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "a.png").write_bytes(GOOD)
    (tmp_path / "link.png").symlink_to("/etc/passwd")
    check_files([{"path": str(tmp_path / "a.png")}, None, "text", {"deep": [{"path": None}]}])
    for wrong in (tmp_path / "link.png", tmp_path, tmp_path / "none.png", "/etc/passwd"):
        with pytest.raises(InctrlError, match="was not uploaded here"):
            check_files([[{"a": {"path": str(wrong)}}]])


def upload(server: str, data: bytes, name: str = "a.png") -> httpx.Response:
    return httpx.post(f"{server}gradio_api/upload", files=[("files", (name, data))], timeout=60)


def score(server: str, *values: Any) -> tuple[int, str]:
    """Status and text of a call of ``/score``."""
    address = f"{server}gradio_api/call/score"
    answer = httpx.post(address, json={"data": values}, timeout=60)
    if answer.status_code != 200:
        return answer.status_code, answer.text
    return 200, httpx.get(f"{address}/{answer.json()['event_id']}", timeout=60).text


@pytest.fixture(scope="module")
def file(server: str) -> dict[str, Any]:
    return {"path": upload(server, GOOD).json()[0], "meta": META}


@pytest.mark.parametrize("name", ["user/repo", "/etc", "../tiny", "inctrl-lite", "tiny/", "TINY"])
def test_models_off_the_list_cannot_be_asked_for(server: str, file: dict, name: str) -> None:
    assert "Choose one of the models in the list." in score(server, [file], file, "nut", name)[1]


def test_size_count_and_pixels_are_bounded(server: str, file: dict) -> None:
    assert upload(server, bytes(MAX_BYTES + 1)).status_code == 413
    assert "use at most 16" in score(server, [file] * 17, file, "nut", "tiny")[1]
    bomb = {"path": upload(server, png(9000, 9000, bytes(99))).json()[0], "meta": META}
    assert "use at most 50 megapixels" in score(server, [file], bomb, "nut", "tiny")[1]
    assert "use at most 50 megapixels" in score(server, [bomb], file, "nut", "tiny")[1]


def test_bodies_are_bounded_however_they_arrive(server: str) -> None:
    address = f"{server}gradio_api/call/score"
    large = b'{"data": ["' + b"x" * MAX_REQUEST_BYTES + b'"]}'
    for content in (large, iter([large[: 2**20]] * 17)):  # With a length, and in chunks without.
        answer = httpx.post(address, content=content, timeout=60)
        assert answer.status_code == 413 and "send less at once" in answer.text
    with socket.create_connection(urlsplit(server).netloc.split(":"), timeout=30) as raw:
        length = most_upload_bytes() + 1
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Content-Length: {length}\r\n\r\n"
        raw.sendall(head.encode())
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize("value", ["[],", "0,", "{},", '[[[["a"]]]],'])
def test_bodies_of_countless_values_are_refused_before_they_are_read(
    server: str, value: str
) -> None:
    count = (MAX_REQUEST_BYTES - 100) // len(value)
    body = ('{"data": [' + value * count + "0]}").encode()
    with MemoryPeak() as memory:
        answer = httpx.post(f"{server}gradio_api/call/score", content=body, timeout=60)
    assert answer.status_code == 413 and "more values" in answer.text
    assert memory.grown < 100 * 2**20


def test_names_that_are_kept_are_short(server: str) -> None:
    long = "x" * 200
    for path in ("call/score", "queue/join"):
        body = {"data": [], "session_hash": long, "fn_index": 0}
        answer = httpx.post(f"{server}gradio_api/{path}", json=body, timeout=60)
        assert answer.status_code == 400 and "too long" in answer.text
    address = f"{server}gradio_api/upload_progress?upload_id={long}"
    assert httpx.get(address, timeout=60).status_code == 400


@pytest.mark.parametrize("path", ["call/score", "queue/join", "cancel", "component_server/"])
def test_a_request_that_breaks_off_leaves_no_trace(
    server: str, path: str, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST /gradio_api/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n"
    head += "Content-Type: application/json\r\n\r\n{"
    with socket.create_connection(urlsplit(server).netloc.split(":"), timeout=30) as raw:
        raw.sendall(head.encode())
        time.sleep(0.3)
    httpx.get(f"{server}config", timeout=60)
    output = capfd.readouterr()
    assert "Traceback" not in output.err + output.out + caplog.text


def send_upload(server: str, body: Any, boundary: str = "x", query: str = "") -> httpx.Response:
    """Sends an upload that no client would make."""
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    address = f"{server}gradio_api/upload{query}"
    return httpx.post(address, content=body, headers=kind, timeout=120)


FILE_HEAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
FIELD_HEAD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
END = b"\r\n--x--\r\n"
MEGABYTE = bytes(2**20)


def field(megabytes: int) -> Iterator[bytes]:
    """An upload of one large field that is no file."""
    yield FIELD_HEAD
    yield from [MEGABYTE] * megabytes
    yield END


def test_fields_that_are_no_files_are_not_held(server: str) -> None:
    def send(_: int) -> int:
        try:
            return send_upload(server, field(100)).status_code
        except httpx.HTTPError:  # Refused while it was still sending.
            return 400

    with MemoryPeak() as memory, ThreadPoolExecutor(3) as pool:
        assert list(pool.map(send, range(3))) == [400] * 3
    assert memory.grown < 60 * 2**20


@pytest.mark.parametrize(
    "body",
    [
        FIELD_HEAD + b"small" + END,
        FIELD_HEAD.replace(b'"a"', b'"files"') + b"small" + END,
        FILE_HEAD + b"small" + END.replace(b"--\r\n", b"\r\n") + FIELD_HEAD[5:] + END,
        b"--x\r\nX: y\r\n\r\n" + END,
        FILE_HEAD.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 20_000 + b"\r\n\r\n") + END,
        FILE_HEAD.replace(b"\r\n\r\n", b"\r\nX: y" * 100 + b"\r\n\r\n") + END,
        b"\r\n" * 500_000 + FILE_HEAD + END,
        b"--x" + b" " * 500_000 + FILE_HEAD[3:] + END,
        FILE_HEAD + END + bytes(500_000),
        FILE_HEAD + b"\r\n--x" * 100_000 + END,
        (FILE_HEAD + b"\r\n") * (MAX_FILES + 1) + END[2:],
        FILE_HEAD + b"no end",
        b"",
        b"--x--",
    ],
    ids=range(14),
)
@pytest.mark.parametrize("query", ["", "?upload_id=a"])
def test_uploads_that_are_none_leave_nothing(
    server: str,
    scratch: Path,  # noqa: F811
    body: bytes,
    query: str,
    caplog: pytest.LogCaptureFixture,  # noqa: F811
) -> None:
    before = set((scratch / "safe").rglob("*"))
    answer = send_upload(server, body, query=query)
    nothing = body == b"--x--" and answer.json() == []
    assert nothing or (answer.status_code in (400, 413) and answer.text.strip('"}')[-1] == ".")
    assert set((scratch / "safe").rglob("*")) == before
    assert "Traceback" not in caplog.text


def test_uploads_have_the_boundaries_and_names_of_browsers(server: str) -> None:
    long = "y" * 71
    body = (FILE_HEAD + b"data" + END).replace(b"--x", b"--" + long.encode())
    assert send_upload(server, body, boundary=long).status_code == 400
    answer = send_upload(server, FILE_HEAD + b"data" + END, query="?upload_id=" + "i" * 5000)
    assert answer.status_code == 400
    assert send_upload(server, FILE_HEAD + b"data" + END).status_code == 200


def test_uploads_together_keep_a_bounded_number_of_files_open(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_OPEN_FILES", 3)
    many = (FILE_HEAD + b"data\r\n") * 4 + END[2:]
    answer = send_upload(server, many)
    assert answer.status_code == 400 and "again in a minute" in answer.text
    assert send_upload(server, FILE_HEAD + b"data" + END).status_code == 200


def test_an_upload_that_breaks_off_leaves_neither_a_file_nor_a_trace(
    server: str,
    scratch: Path,  # noqa: F811
    capfd: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = set((scratch / "safe").rglob("*"))
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    for sent in (b"", FILE_HEAD[:30], FILE_HEAD, FILE_HEAD + bytes(900_000)):
        with socket.create_connection(urlsplit(server).netloc.split(":"), timeout=30) as raw:
            raw.sendall(head.encode() + sent)
            time.sleep(0.3)
    wait_until(lambda: set((scratch / "safe").rglob("*")) == before)
    output = capfd.readouterr()
    assert "Traceback" not in output.err + output.out + caplog.text


def test_the_own_folder_is_swept_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "own"
    kept = {"whole": folder / "a" / "whole.png", "arriving": folder / "tmparriving"}
    (folder / "a").mkdir(parents=True)
    for path in kept.values():
        path.write_bytes(GOOD)
    sweep(folder)
    assert all(path.is_file() for path in kept.values())
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 700)
    sweep(folder)  # What arrives has come to a stop; what is whole is still in use.
    assert kept["whole"].is_file() and not kept["arriving"].exists()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 3600 + 60)
    sweep(folder)
    assert not kept["whole"].exists() and folder.is_dir()


def test_what_is_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = tmp_path / "a" / "b.png"
    path.parent.mkdir()
    path.write_bytes(GOOD)
    first = path.stat().st_ctime_ns
    time.sleep(0.05)
    check_files([{"path": str(path)}])
    assert path.stat().st_ctime_ns > first  # By which both Gradio and the sweep go.


def test_the_page_sweeps_while_it_runs(tiny: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr(guard, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(uploads, "KEPT_SECONDS", -1)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "first-copy").mkdir()
    (tmp_path / "first-copy" / "image.png").write_bytes(GOOD)
    with running_app(sources={"tiny": tiny}):
        wait_until(lambda: not (tmp_path / "first-copy" / "image.png").exists())


def test_a_process_has_a_folder_of_its_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "shared"))
    with uploads.own_uploads():
        one = Path(os.environ["GRADIO_TEMP_DIR"])
        with uploads.own_uploads():
            other = Path(os.environ["GRADIO_TEMP_DIR"])
        assert one.is_dir() and one.parent == tmp_path / "shared" and not other.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path / "shared") and not one.exists()


def test_folders_of_killed_processes_are_cleared_away(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    killed, alive = tmp_path / "inctrl-uploads-killed", tmp_path / "inctrl-uploads-alive"
    stranger = tmp_path / "inctrl-heads"
    for folder in (killed, alive, stranger):
        folder.mkdir()
    for folder in (killed, stranger):
        os.utime(folder, (0, 0))
    with uploads.own_uploads():
        assert alive.is_dir() and stranger.is_dir() and not killed.exists()


def test_lines_of_the_log_are_short_and_single() -> None:
    line = BoundedFormatter(FORMAT)
    record = logging.LogRecord("a", 30, "", 1, "%s", ("x" * 10**6 + "\nERROR forged",), None)
    assert len(line.format(record)) < 600
    record = logging.LogRecord("a", 30, "", 1, "x\r\nERROR \x1b[2J\u2028\ud800", (), None)
    assert line.format(record).isprintable()
    try:
        raise ValueError("\nERROR forged\n" * 10**4 + "x" * 10**5)
    except ValueError:
        record.exc_info = sys.exc_info()
    text = line.format(record)
    assert len(text) < 30_000 and "\nERROR forged" not in text


def test_refusals_do_not_fill_the_log(
    server: str, file: dict, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    caplog.handler.setFormatter(BoundedFormatter(FORMAT))
    long = "y" * 100_000 + "\nERROR forged"
    for wrong in (long, {"path": long}, [long], {long: long}):
        score(server, [file], wrong, "nut", "tiny")
        score(server, [file], file, wrong, "tiny")
        score(server, [file], file, "nut", wrong)
    for path in ("queue/join", "upload", "cancel", "reset", "call/" + long[:9000]):
        httpx.post(f"{server}gradio_api/{path}", json={"data": [long], "fn_index": long})
    output = capfd.readouterr()
    assert "\nERROR forged" not in caplog.text + output.err + output.out
    assert max(map(len, (caplog.text + output.err + output.out).splitlines()), default=0) < 2000
    assert len(caplog.text) + len(output.err) + len(output.out) < 60_000


def test_uploads_expire_whatever_a_visitor_names(tiny: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with running_app(sources={"tiny": tiny}) as url:
        good = {"path": upload(url, GOOD).json()[0], "meta": META}
        assert "complete" in score(url, [good], good, "nut", "tiny")[1]
        folder = {"path": str(Path(good["path"]).parent), "meta": META}
        assert "was not uploaded here" in score(url, [good], folder, "nut", "tiny")[1]
        assert Path(good["path"]).is_file()
    # At the end as every hour: a folder among the files would have stopped it.
    assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []
    page = build_page(ModelRegistry({"tiny": tiny}), {})
    every, age = page.delete_cache
    assert every <= 3600 and age <= 4 * 3600


def test_a_cache_that_is_cleared_away_comes_back(tiny: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with running_app(sources={"tiny": tiny}) as url:
        gone = {"path": upload(url, GOOD).json()[0], "meta": META}
        shutil.rmtree(tmp_path / "uploads")
        assert "is gone; upload it again." in score(url, [gone], gone, "nut", "tiny")[1]
        again = {"path": upload(url, GOOD).json()[0], "meta": META}
        assert "complete" in score(url, [again], again, "nut", "tiny")[1]


def test_sessions_are_bounded(tiny: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr(guard, "MAX_SESSIONS", 5)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    alive = weakref.WeakSet()
    opened = SessionState.__init__

    def count(state: SessionState, *given: Any) -> None:
        alive.add(state)
        opened(state, *given)

    monkeypatch.setattr(SessionState, "__init__", count)
    with running_app(sources={"tiny": tiny}) as url:
        file = {"path": upload(url, GOOD).json()[0], "meta": META}
        for _ in range(15):  # A program opens a session with every call.
            assert "complete" in score(url, [file], file, "nut", "tiny")[1]
        gc.collect()
        assert 1 <= len(alive) <= 7


def test_large_normals_are_held_one_at_a_time(tiny: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    opened: list[weakref.ref] = []
    most = 0

    def track(source: Any, levels=None) -> Image.Image:
        nonlocal most
        image = open_image(source, levels)
        opened.append(weakref.ref(image))
        most = max(most, sum(reference() is not None for reference in opened))
        return image

    monkeypatch.setattr("inctrl_core.images.seen.open_image", track)
    Image.new("RGB", (900, 600), "teal").save(tmp_path / "large.png")
    paths = [str(tmp_path / "large.png")] * 16
    started = start_session(load_detector(tiny, "cpu"), "tiny", (paths, paths[0]), "nut")
    assert len(started.normals) == 16 and most <= 4  # With the query.
    assert all(p.image.width * p.image.height <= 120_000 for p in started.normals)


def test_answers_say_nothing_of_this_computer(server: str, file: dict) -> None:
    for wrong in ({"path": "/etc/passwd", "meta": META}, 3, {"path": str(ROOT), "meta": META}):
        text = score(server, [file], wrong, "nut", "tiny")[1]
        assert str(ROOT) not in text and "Traceback" not in text
        assert json.loads(text.split("data: ")[1])["error"].endswith(".")
