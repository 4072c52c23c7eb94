"""The page's HTTP interface under requests that no page sends: a result, or one clear sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adversarial import corpus
from tests.adversarial.conftest import FileWatch, resident_bytes
from tests.adversarial.test_fuzz_models import tiny  # noqa: F401, a fixture.
from tests.support.app_server import running_app
from tests.support.pictures import FIRST

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

Sentence = Callable[[object], str]
GOOD, CRAFTED = corpus.good_files(), corpus.crafted_files()
META = {"_type": "gradio.FileData"}

NAMES = [
    "../../../../tmp/inctrl-escaped.png",
    "..\\..\\inctrl-escaped.png",
    "/etc/passwd",
    "%2e%2e%2f%2e%2e%2finctrl-escaped.png",
    "....//....//inctrl-escaped.png",
    "C:\\windows\\win.ini",
    ".",
    "..",
    ".htaccess",
    "a\x00b.png",
    "a\nb.png",
    "\u202egpj.exe",
    "<script>alert(1)</script>.png",
    "con.png",
    "name.png/",
    "x" * 300 + ".png",
    "مفتاح.png",
    "\U0001f600.svg",
    "a;b&c|d`e$f.png",
    " ",
]


class Visitor:
    """A program that talks to the page without its own client."""

    def __init__(self, url: str, cache: Path, one_sentence: Sentence) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        self.cache, self.one_sentence = cache, one_sentence
        self.requests = 0

    def upload(self, name: str, data: bytes) -> str | None:
        """Where the file lies, or None where it was refused with a sentence."""
        answer = self.send("POST", "/gradio_api/upload", files=[("files", (name, data))])
        if answer.status_code != 200:
            return None
        (path,) = answer.json()
        assert Path(path).resolve().is_relative_to(self.cache.resolve())
        return path

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        self.requests += 1
        answer = self.http.request(method, path, **options)
        assert answer.status_code < 500, (path, answer.text[:300])
        if answer.status_code >= 400:
            assert len(answer.text) < 700 and "Traceback" not in answer.text
        return answer

    def score(self, values: Any, name: str = "score") -> dict[str, Any] | None:
        """The score, or None after one sentence."""
        # One session: Gradio keeps something for each, up to a number that another test holds.
        body = json.dumps({"data": values, "session_hash": "fuzz"}).encode()
        answer = self.send("POST", f"/gradio_api/call/{name}", content=body, headers=JSON)
        if answer.status_code != 200:
            return None
        event = answer.json()["event_id"]
        text = self.send("GET", f"/gradio_api/call/{name}/{event}").text
        kind, data = text.strip().split("\n")[-2:]
        if kind == "event: error":
            self.one_sentence(json.loads(data.removeprefix("data: "))["error"])
            return None
        assert kind == "event: complete"
        return json.loads(data.removeprefix("data: "))[0]


JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def visitor(
    tiny: Path,  # noqa: F811
    scratch: Path,
    one_sentence: Sentence,
) -> Iterator[Visitor]:
    cache = scratch / "uploads"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(cache))
        with running_app(sources={"tiny": tiny}) as url:
            yield Visitor(url, cache, one_sentence)


@pytest.fixture(scope="module")
def file(visitor: Visitor) -> dict[str, Any]:
    """A good image, uploaded; by now the model is loaded, and all that is read once is read."""
    good = {"path": visitor.upload("good.png", GOOD["png"]), "meta": META}
    assert visitor.score([[good], good, "nut", "tiny"])
    return good


def test_a_good_request_is_answered(visitor: Visitor, file: dict) -> None:
    score = visitor.score([[file, file], file, "nut", "tiny"])
    assert 0 <= score["fused"] <= 1 and score["shots"] == 2


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_file_names(visitor: Visitor, file: dict, files: FileWatch, name: str) -> None:
    with files.allowing(visitor.cache):
        path = visitor.upload(name, GOOD["png"])
        if path:
            assert visitor.score([[file], {"path": path, "meta": META}, "nut", "tiny"])
    assert not list(Path("/tmp").glob("inctrl-escaped*"))


FILES = ["empty", "html", "svg", "pdf", "1x1", "20000x1", "huge-bomb", "tile-bomb", "scan-bomb"]
FILES += ["nan", "many-frames", "png-then-html", "exif-loop", "pickle"]


@pytest.mark.parametrize("name", FILES)
def test_crafted_files(visitor: Visitor, file: dict, files: FileWatch, name: str) -> None:
    with files.allowing(visitor.cache):
        bad = {"path": visitor.upload("photo.png", CRAFTED[name]), "meta": META}
        visitor.score([[file], bad, "nut", "tiny"])
        visitor.score([[file, bad], file, "nut", "tiny"])
    assert visitor.score([[file], file, "nut", "tiny"])


def named(path: Any, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": META} | more


WRONG_FILES = [
    named("/etc/passwd"),
    {"path": "/etc/passwd"},
    named("/etc/passwd", is_stream=True),
    named("/etc/passwd", url="http://127.0.0.1:9/x.png"),
    {"path": "/etc/passwd", "meta": 3},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.Other"}},
    named("file:///etc/passwd"),
    named("http://127.0.0.1:9/x.png"),
    named("//127.0.0.1/x"),
    named("/proc/self/environ"),
    named("\0"),
    named("x" * 100_000),
    named(""),
    named("."),
    named(3),
    named(["/etc/passwd"]),
    named({"path": "/etc/passwd"}),
    named("/gradio_api/file=/etc/passwd"),
    "data:image/png;base64,AAAA",
    "/etc/passwd",
    17,
    True,
    [],
    {},
    [[[]]],
    {"a": {"path": "/etc/passwd"}},
]


@pytest.mark.parametrize("wrong", WRONG_FILES, ids=range(len(WRONG_FILES)))
def test_files_that_are_none(visitor: Visitor, file: dict, files: FileWatch, wrong: Any) -> None:
    with files.allowing(visitor.cache):
        assert visitor.score([[file], wrong, "nut", "tiny"]) is None
        assert visitor.score([[file, wrong], file, "nut", "tiny"]) is None
        assert visitor.score([wrong, file, "nut", "tiny"]) is None
    assert Path("/etc/passwd") not in files.read


@pytest.mark.parametrize("count", range(8))
def test_numbers_of_values(visitor: Visitor, file: dict, count: int) -> None:
    values = ([[file], file, "nut", "tiny"] + [None] * 4)[:count]
    assert (visitor.score(values) is None) == (count < 4)


WORDS = ["x" * 10_000_000, "\u202etun", "<script>alert(1)</script>", "\0\x1b[2J", "\ud800", ""]
WORDS += [None, 3, 1e400, [], ["nut"], {}, {"path": "/etc/passwd"}, True]


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_object_names_and_models(visitor: Visitor, file: dict, word: Any) -> None:
    visitor.score([[file], file, word, "tiny"])
    assert visitor.score([[file], file, "nut", word]) is None


@pytest.mark.parametrize("wrong", WRONG_FILES + WORDS, ids=range(len(WRONG_FILES + WORDS)))
def test_labelled_files_that_are_none(visitor: Visitor, file: dict, wrong: Any) -> None:
    name = "score_labelled"
    visitor.score([[file], [file, wrong], [file], "nut", "tiny"], name)
    visitor.score([[file], wrong, [file], "nut", "tiny"], name)
    visitor.score([[file], [file], [file], "nut", "tiny", "decide", wrong], name)


def test_labelled_files_are_answered(visitor: Visitor, file: dict) -> None:
    answer = visitor.score([[file], [file], [file], "nut", "tiny"], "score_labelled")
    # The good one is the normal itself; the bad one counts.
    assert answer["labelled"]["among_normals"] == [0]
    outcomes = {result["index"]: result["outcome"] for result in answer["results"]}
    assert outcomes[0] is None and outcomes[1]


def test_more_normals_than_allowed(visitor: Visitor, file: dict) -> None:
    for count in (0, 17, 2000):
        assert visitor.score([[file] * count, file, "nut", "tiny"]) is None


BODIES = [b"", b"{", b"[]", b"null", b'{"data": 3}', b'{"data": {}}', b"\xff\xfe", b"[" * 50_000]
BODIES += [b'{"data": ' + b"[" * 900 + b"]" * 900 + b"}", b'{"data": [NaN, Infinity]}', b"{}"]
POSTS = ["call/score", "call/none", "call/%2e%2e", "call/v2/score", "call/v2/none", "run/score"]
POSTS += ["run/predict", "api/score", "queue/join", "cancel", "reset", "component_server/"]
POSTS += ["upload", "process_recording", "stream/none", "vibe-edit/"]


@pytest.mark.parametrize("path", POSTS)
def test_bodies_that_are_none(visitor: Visitor, path: str) -> None:
    for body in BODIES:
        visitor.send("POST", f"/gradio_api/{path}", content=body, headers=JSON)
    form = {"content-type": "multipart/form-data; boundary=x"}
    for body in (
        b"",
        b"x",
        b"--x\r\n\r\n\r\n--x--",
        b'--x\r\nContent-Disposition: form-data; name="',
    ):
        visitor.send("POST", f"/gradio_api/{path}", content=body, headers=form)


@pytest.mark.parametrize("index", [-1, 10**6, 10**30, "0", None, {}, [1], True])
def test_steps_that_are_none(visitor: Visitor, index: Any) -> None:
    for session in ("fuzz", None, 3, "x" * 10_000):
        body = json.dumps({"data": [], "fn_index": index, "session_hash": session})
        visitor.send("POST", "/gradio_api/queue/join", content=body, headers=JSON)


def test_nothing_passes_by_the_queue(visitor: Visitor, file: dict) -> None:
    body = json.dumps({"data": [[file], file, "nut", "tiny"]})
    for route in ("run", "api"):
        answer = visitor.send("POST", f"/gradio_api/{route}/score", content=body, headers=JSON)
        assert answer.status_code == 404


def random_value(rng: random.Random, file: dict, depth: int = 0) -> Any:
    """Something that JSON can hold, often with a file in it."""
    kinds = [None, True, rng.randrange(-9, 10**9), rng.random(), "nut", "tiny", "\u202e", file]
    kinds += [named(rng.choice(NAMES)), rng.choice(WRONG_FILES)]
    if depth < 3 and rng.random() < 0.5:
        inside = [random_value(rng, file, depth + 1) for _ in range(rng.randrange(4))]
        return inside if rng.random() < 0.7 else dict(zip("abcd", inside, strict=False))
    return rng.choice(kinds)


def sweep(visitor: Visitor, file: dict, start: int, count: int) -> None:
    for number in range(start, start + count):
        rng = random.Random(number)
        values: list[Any] = [[file], file, "nut", "tiny"]
        for place in rng.sample(range(4), rng.randrange(1, 4)):
            values[place] = random_value(rng, file)
        visitor.score(values)


def test_random_values(visitor: Visitor, file: dict, files: FileWatch) -> None:
    with files.allowing(visitor.cache):
        sweep(visitor, file, 0, 40)


PLACES = [[5, 5], [], [1], [1, 2, 3], ["a", "b"], [None, None], [1e400, 0], [-5, 10**9], "ab", 7]
EVENTS: list[Any] = [None, {}, [], "x", 3, {"index": None, "value": None}, {"row": "a"}]
EVENTS += [{"index": place, "value": None} for place in PLACES]
EVENTS += [{"set": ["x"], "query": {}}, {"set": FIRST.name, "query": "9" * 40}, {"case": []}]
EVENTS += [{"guess": {}, "case": None}, {"row": 10**30, "column": -1}, {"key": "x", "id": [1]}]
EVENTS += [{"image": "data:image/jpeg;base64,!"}, {"image": 3, "id": True}, {"row": 1e400}]
EVENTS += [{"strokes": strokes} for strokes in ("141414 0.1 0 0.5,0.5", "x", ";" * 10**5, 7, ["x"])]
ODD: list[Any] = [None, "", "x", "no such thing", [], ["x"], [[]], {}, {"path": "x"}, 0, -1, 10**30]
ODD += [1e400, True, "x" * 5000, {"a": {"b": []}}, [None] * 20, "\ud800", [FIRST.name], {"x": 1}]


def private_steps(visitor: Visitor) -> list[dict[str, Any]]:
    """All steps of the page that run here."""
    steps = visitor.http.get("/config").json()["dependencies"]
    return [step for step in steps if step["backend_fn"] and not step["js"]]


def take_step(visitor: Visitor, step: dict, values: list, event: Any, session: str) -> Any:
    """Runs a step as the page does; what it answered, or None after one sentence."""
    targets = step["targets"]
    body = {"data": values, "fn_index": step["id"], "session_hash": session, "event_data": event}
    body["trigger_id"] = targets[0][0] if targets else None
    content = json.dumps(body).encode()
    answer = visitor.send("POST", "/gradio_api/queue/join", content=content, headers=JSON)
    if answer.status_code != 200:
        return None
    stream = visitor.send("GET", f"/gradio_api/queue/data?session_hash={session}").text
    lines = (line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data"))
    messages = [json.loads(line) for line in lines]
    done = next(message for message in messages if message["msg"] == "process_completed")
    if not done["success"]:
        visitor.one_sentence(done["output"]["error"])
        return None
    return done["output"]


def test_all_steps_take_odd_values_and_events(
    visitor: Visitor,
    file: dict,
    capfd: pytest.CaptureFixture,
) -> None:
    rng = random.Random(0)
    steps = private_steps(visitor)
    assert len(steps) > 60
    for step in steps:
        inputs = len(step["inputs"])
        for session in ("odd", "fuzz"):
            for event in (None, rng.choice(EVENTS)):
                values = [rng.choice(ODD) for _ in range(inputs)]
                take_step(visitor, step, values, event, session)
    output = capfd.readouterr()
    assert "Traceback" not in output.out + output.err


def test_steps_with_a_result_take_odd_values_and_events(visitor: Visitor, file: dict) -> None:
    steps = {step["api_name"]: step for step in private_steps(visitor)}
    gallery = [{"image": file, "caption": None}]
    score = next(step for name, step in steps.items() if name.startswith("score_form"))
    controls = [None] * (len(score["inputs"]) - 4)
    scored = take_step(visitor, score, [gallery, file, "nut", "tiny", *controls], None, "result")
    assert scored["data"][1] == ""
    for event in EVENTS:
        for name in ("pick_patch", "open_row", "pick", "guess", "choose", "draw", "find_size"):
            for step in [s for key, s in steps.items() if key.startswith(name)][:2]:
                take_step(visitor, step, [None] * len(step["inputs"]), event, "result")
    for odd in ODD:
        for name in ("use_phrases", "show_map", "save", "toggle_normal", "begin_2", "open"):
            for step in [s for key, s in steps.items() if key.startswith(name)][:1]:
                values = [None, *[odd] * (len(step["inputs"]) - 1)]
                take_step(visitor, step, values, None, "result")
    step = steps["use_phrases"]
    normal = [None, "sound {}", "broken {}", *[None] * (len(step["inputs"]) - 3)]
    assert take_step(visitor, step, normal, None, "result")


@pytest.mark.slow
def test_requests_by_the_hundred(
    visitor: Visitor, file: dict, files: FileWatch, capfd: pytest.CaptureFixture
) -> None:
    def everything(start: int, count: int) -> None:
        sweep(visitor, file, start, count)
        for name, data in corpus.damaged_files(count, seed=start):
            bad = named(visitor.upload(name.replace("/", "-"), data))
            visitor.score([[file], bad, "nut", "tiny"])

    with files.allowing(visitor.cache):
        everything(1000, 80)
        before, sent = resident_bytes(), visitor.requests
        everything(2000, 220)
    grown = (resident_bytes() - before) / 2**20
    capfd.readouterr()
    with capfd.disabled():
        print(f"\n{visitor.requests - sent} requests, {grown:.1f} MiB grown")
    assert grown < 64
    assert visitor.score([[file], file, "nut", "tiny"])
