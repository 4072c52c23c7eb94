"""Every file either opens or gives one sentence; nothing leaks, and nothing else is read."""

from __future__ import annotations

import gc
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inctrl_core import ImageError
from inctrl_core.config import PreprocessConfig
from inctrl_core.images.files import open_image
from inctrl_core.images.limits import MAX_PIXELS
from inctrl_core.images.preprocessing import preprocess
from tests.adversarial import corpus
from tests.adversarial.conftest import FileWatch, resident_bytes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Its remarks on damage.

ROOT = Path(__file__).resolve().parents[2]
CONFIG = PreprocessConfig(image_size=32)
QUICK, FULL = 900, 12_000
GOOD, CRAFTED = corpus.good_files(), corpus.crafted_files()
STARTS = [data[:n] for data in GOOD.values() for n in (4, 12, 30)]

Sentence = Callable[[object], str]


def check(source: object, one_sentence: Sentence) -> bool:
    """Opens and preprocesses; True where there is a result, False after one sentence."""
    try:
        image = open_image(source)
    except ImageError as error:
        one_sentence(error)
        return False
    assert image.mode == "RGB" and 0 < image.width * image.height <= MAX_PIXELS
    tensor, (left, top, right, bottom) = preprocess(image, CONFIG)
    assert tensor.shape == (3, 32, 32) and torch.isfinite(tensor).all()
    assert 0 <= left < right <= image.width and 0 <= top < bottom <= image.height
    return True


def sweep(cases: Iterable[tuple[str, bytes]], one_sentence: Sentence) -> tuple[int, int]:
    """Counts results and sentences; a case that gives neither is named."""
    counts = [0, 0]
    for name, data in cases:
        try:
            counts[check(data, one_sentence)] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
    return counts[1], counts[0]


@pytest.mark.parametrize("name", GOOD)
def test_good_files_open(name: str, one_sentence: Sentence) -> None:
    assert check(GOOD[name], one_sentence)


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_files(name: str, one_sentence: Sentence, tmp_path: Path, files: FileWatch) -> None:
    place = tmp_path / "upload.png"  # Whatever it is, it says it is a PNG.
    place.write_bytes(CRAFTED[name])
    outcomes = {
        check(source, one_sentence) for source in (CRAFTED[name], io.BytesIO(CRAFTED[name]))
    }
    with files.allowing(tmp_path):
        outcomes.add(check(place, one_sentence))
    assert len(outcomes) == 1
    opens = name in ("1x1", "20000x1", "1x20000", "tile", "many-frames", "exif-loop")
    assert outcomes == {opens or "-then-" in name and name.startswith(("png-", "jpeg-", "gif-"))}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tile-bomb", "16000 x 16000 pixels"),
        ("scan-bomb", "more than 64 scans"),
        ("ppm-slow", "slow to read"),
        ("bomb", "megapixels"),
        ("nan", "not numbers"),
        ("infinite", "not numbers"),
    ],
)
def test_what_is_costly_is_refused_for_that_reason(name: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        open_image(CRAFTED[name])


def test_scans_are_counted_in_the_image_itself() -> None:
    thumbnail = corpus.many_scans(200)
    block = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert open_image(GOOD["jpeg"][:2] + block + GOOD["jpeg"][2:]).size == (56, 40)
    assert open_image(GOOD["jpeg"] + b"\xff\xda" * 500).size == (56, 40)  # A film after the photo.
    assert open_image(corpus.many_scans(40)).size == (64, 64)


def test_sixteen_bits_and_floats_are_scaled_in_bands_as_at_once() -> None:
    rng = np.random.default_rng(3)
    deep = rng.integers(0, 65536, (700, 9), dtype=np.uint16)
    real = rng.random((700, 9), dtype=np.float32)
    for values, limit in ((deep, 65535.0), (real, 1.0)):
        opened = open_image(corpus.encoded(Image.fromarray(values), "TIFF"))
        expected = np.rint(values.astype(np.float64) * (255.0 / limit)).astype(np.uint8)
        np.testing.assert_array_equal(np.asarray(opened)[..., 0], expected)


def test_damaged_files(one_sentence: Sentence, files: FileWatch, capfd) -> None:
    with files.allowing():
        opened, refused = sweep(corpus.damaged_files(QUICK, seed=1), one_sentence)
    assert opened + refused == QUICK and min(opened, refused) > QUICK / 5
    capfd.readouterr()  # libtiff's own remarks.


@settings(deadline=None, max_examples=250, derandomize=True)
@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_any_bytes_after_a_real_start(one_sentence: Sentence, start: bytes, rest: bytes) -> None:
    check(start + rest, one_sentence)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), max_size=60)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(NAMES, st.sampled_from(["", "../", "../../", "/nowhere/", "..\\", "%2e%2e/"]))
def test_any_file_name_in_a_message(
    one_sentence: Sentence, scratch: Path, name: str, before: str
) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(str(scratch / "none") + "/" + before + name)
    assert str(scratch) not in one_sentence(caught.value)


def test_names_of_another_time(one_sentence: Sentence) -> None:
    for name in ("a\nb.png", "\u202egpj.exe", "x" * 5000, "nul\0.png", "bad\udcff.png", "", "."):
        with pytest.raises(ImageError) as caught:
            open_image(name)
        one_sentence(caught.value)


def test_nothing_grows() -> None:
    command = [sys.executable, "-m", "tests.adversarial.growth"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    grown = json.loads(printed)
    assert grown["bytes"] < 24 * 2**20
    assert grown["handles"] == 0


def test_no_small_file_takes_much_memory() -> None:
    assert all(len(data) < 300_000 for data in CRAFTED.values())
    try:
        Path("/proc/self/clear_refs").write_text("5")  # From now on, a new peak is counted.
    except OSError:
        pytest.skip("this system does not tell a process's peak of memory")
    before = peak_bytes()
    for data in CRAFTED.values():
        with suppress(ImageError):
            open_image(data)
    assert peak_bytes() - before < 150 * 2**20  # A good image of the most pixels takes up to 900.


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


@pytest.mark.slow
def test_damaged_files_by_the_thousand(one_sentence: Sentence, capfd) -> None:
    # As many before, for the allocator to take what it needs at most.
    sweep(corpus.damaged_files(FULL, seed=3), one_sentence)
    gc.collect()
    before = resident_bytes()
    opened, refused = sweep(corpus.damaged_files(FULL, seed=4), one_sentence)
    grown = (resident_bytes() - before) / 2**20
    capfd.readouterr()
    with capfd.disabled():
        print(f"\n{FULL} damaged images: {opened} opened, {refused} refused, {grown:.1f} MiB grown")
    assert opened + refused == FULL and grown < 48
