"""Images are decoded in processes of their own, and nothing that a file does there gets out."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inctrl_core import ImageError, InctrlError
from inctrl_core.config import SQUASH, PreprocessConfig
from inctrl_core.images import answers
from inctrl_core.images import workers as decoding
from inctrl_core.images.files import open_image
from inctrl_core.images.preprocessing import FAST_SIDE, crop_image, preprocess, seen_image
from inctrl_core.images.seen import open_here, see_image, see_thumbnail, shrink
from inctrl_core.images.workers import DecodingPool
from tests.adversarial import corpus, harm

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = PreprocessConfig(48), PreprocessConfig(48, resize_mode=SQUASH)
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are the system's")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodingPool]:
    with DecodingPool(1) as made:
        yield made


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photograph.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((1200, 900)).save(path, quality=90)
    return path


class TestAnswers:
    @pytest.mark.parametrize("config", CONFIGS)
    @pytest.mark.parametrize("sides", [(60, 40), (2048, 30), (2300, 1200), (30, 2500)])
    def test_a_model_sees_the_same_bit_for_bit(self, pool, config, sides, tmp_path):
        path = tmp_path / "image.png"
        pixels = np.random.default_rng(1).integers(0, 256, (*sides[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        seen = pool(see_image, str(path), config, 5000)
        tensor, box = preprocess(open_image(path), config)
        assert seen.size == sides and seen.crop_box == box
        np.testing.assert_array_equal(
            np.asarray(seen.crop),
            np.asarray(crop_image(open_image(path), 48, config.resize_mode)[0]),
        )
        assert seen.shown.width * seen.shown.height <= 5000

    @pytest.mark.parametrize("name", corpus.good_files())
    def test_every_format_is_read_as_here(self, pool, name, tmp_path):
        path = tmp_path / "image"
        path.write_bytes(corpus.good_files()[name])
        for source in (path, path.read_bytes()):
            there, here = pool(shrink, source, 10**6), open_here(shrink, source, 10**6)
            np.testing.assert_array_equal(np.asarray(there), np.asarray(here))

    def test_other_reductions(self, pool, photograph):
        thumbnail = pool(see_thumbnail, photograph, CONFIGS[1], (112, 84))
        assert thumbnail.shown.size == (112, 84) and thumbnail.size == (1200, 900)
        whole = pool(seen_image, photograph, CONFIGS[1])
        expected = seen_image(open_image(photograph), CONFIGS[1])
        np.testing.assert_array_equal(np.asarray(whole), np.asarray(expected))

    def test_what_is_left_of_an_image_is_small_and_can_cross_processes(self, pool, photograph):
        seen = pool(see_image, photograph, CONFIGS[1], 120_000)
        again = pickle.loads(pickle.dumps(seen))
        assert len(pickle.dumps(seen)) < 500_000 and again.crop == seen.crop

    def test_refusals_are_the_same_sentences(self, pool, tmp_path):
        path = tmp_path / "odd.png"
        path.write_bytes(b"no image")
        for source in (path, tmp_path / "none.png", tmp_path):
            with pytest.raises(ImageError) as there:
                pool(shrink, source, 9)
            with pytest.raises(ImageError) as here:
                open_image(source)
            assert str(there.value) == str(here.value)


class TestPixels:
    """What lies in the shared memory, and what does not fit into it."""

    def answer(self, *sides: tuple[int, int]) -> tuple[Image.Image, ...]:
        random = np.random.default_rng(0)
        return tuple(
            Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sides
        )

    def test_images_come_out_as_they_were_whether_they_fit_or_not(self):
        pixels = memoryview(bytearray(3 * 50 * 40 + 3 * 7))
        images = self.answer((50, 40), (30, 30), (7, 1))
        packed = answers.pack(("returned", (*images, "and", 3)), pixels)
        assert 3 * 30 * 30 < len(packed) < 3 * 30 * 30 + 500
        kind, (*back, word, number) = answers.unpack(packed, pixels)
        assert (kind, word, number) == ("returned", "and", 3)
        assert [image.tobytes() for image in back] == [image.tobytes() for image in images]
        pixels[:] = bytes(len(pixels))  # The next answer is written over them.
        assert back[0].tobytes() == images[0].tobytes()

    @pytest.mark.parametrize(
        "place",
        [
            (-3, (1, 1), None), (0, (-5, -5), None), (0, (0, 9), None), (30, (2, 1), None),
            (0, (10**6, 10**6), None), (0, (1.5, 2), None), (0, 3, None), "here", (0, (1, 1), 7),
        ],
    )  # fmt: skip
    def test_places_that_no_honest_process_names(self, place):
        class Packer(pickle.Pickler):
            def persistent_id(self, value):
                return place if value == "image" else None

        stream = io.BytesIO()
        Packer(stream).dump(("returned", "image"))
        with pytest.raises(pickle.UnpicklingError):
            answers.unpack(stream.getvalue(), memoryview(bytearray(33)))

    def test_the_largest_image_for_torch_fits(self):
        assert 3 * FAST_SIDE**2 <= decoding.SHARED


@linux
class TestHarm:
    def after(self, pool: DecodingPool, photograph: Path) -> None:
        assert pool(shrink, photograph, 100).width <= 12

    @pytest.mark.parametrize("function", [harm.die, harm.end, harm.answer_with_code])
    def test_a_process_that_breaks_is_replaced(self, pool, function, photograph):
        before = pool.run(harm.process_id, "x")
        with pytest.raises(ImageError, match="^'nut.png' breaks what reads it; "):
            pool.run(function, "/somewhere/nut.png")
        self.after(pool, photograph)
        assert pool.run(harm.process_id, "x") != before
        assert not Path("/tmp/inctrl-was-here").exists()

    def test_time_is_limited(self, pool, photograph):
        with pytest.raises(ImageError, match="takes too long to read; save it again"):
            pool.run(harm.compute_forever, "nut.png")
        self.after(pool, photograph)

    def test_what_is_refused_has_taken_less_than_two_seconds_of_a_core(self):
        resource = pytest.importorskip("resource")
        with DecodingPool(1) as pool:
            process = pool.run(harm.process_id, "x")
            started, before = used_by(process), resource.getrusage(resource.RUSAGE_CHILDREN)
            with pytest.raises(ImageError, match="takes too long to read"):
                pool.run(harm.compute_forever, "nut.png")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert spent - started < 2.0

    @pytest.mark.parametrize("name", ["large.png", "clear.png", "large.jpg", "scans.jpg"])
    def test_the_largest_photographs_are_read(self, pool, name, tmp_path):
        photograph = Image.radial_gradient("L").resize((8000, 6250)).convert("RGB")
        if name == "clear.png":
            photograph.putalpha(128)
        options = {"compress_level": 1} if name.endswith("png") else {"quality": 90}
        photograph.save(tmp_path / name, progressive=name == "scans.jpg", **options)
        assert pool(see_image, tmp_path / name, CONFIGS[1], 10**6).size == (8000, 6250)

    def test_waiting_is_limited(self, pool, photograph, monkeypatch):
        monkeypatch.setattr(decoding, "WALL_SECONDS", 0.3)
        with pytest.raises(ImageError, match="takes too long to read"):
            pool.run(harm.wait_forever, "nut.png")
        monkeypatch.undo()
        self.after(pool, photograph)

    def test_memory_is_limited(self, pool, photograph):
        before = pool.run(harm.process_id, "x")
        with pytest.raises(ImageError, match="more memory than there is"):
            pool.run(harm.take_memory, "nut.png")
        self.after(pool, photograph)
        assert pool.run(harm.process_id, "x") == before

    def test_an_answer_is_limited(self, pool, photograph):
        with pytest.raises(ImageError, match="breaks what reads it"):
            pool.run(harm.answer_at_length, "nut.png")
        self.after(pool, photograph)

    def test_a_refusal_and_a_defect_end_nothing(self, pool):
        before = pool.run(harm.process_id, "x")
        with pytest.raises(ImageError, match="Choose another one"):
            pool.run(harm.refuse, "x")
        with pytest.raises(RuntimeError, match="KeyError: 'a defect'"):
            pool.run(harm.fail, "x")
        assert pool.run(harm.process_id, "x") == before

    def test_no_process_can_be_started_now(self, photograph, monkeypatch):
        with DecodingPool(1) as pool:
            refused = monkeypatch.setattr(
                decoding._Worker, "__init__", lambda *_: (_ for _ in ()).throw(OSError())
            )
            assert refused is None
            with pytest.raises(ImageError):
                pool.run(harm.die, "x")
            with pytest.raises(InctrlError, match="cannot start a process"):
                pool.run(harm.process_id, "x")
            monkeypatch.undo()
            self.after(pool, photograph)


class TestTurns:
    def test_callers_have_their_turns_in_order(self, pool):
        order, started = [], threading.Barrier(2)

        def ask(number: int) -> None:
            pool.run(harm.process_id, "x")
            order.append(number)

        def hold() -> None:
            started.wait()
            pool.run(harm.pause, "x")

        with ThreadPoolExecutor(6) as threads:
            threads.submit(hold)
            started.wait()
            time.sleep(0.1)
            for number in range(4):
                threads.submit(ask, number)
                time.sleep(0.05)
        assert order == [0, 1, 2, 3]

    def test_a_closed_pool_says_so_and_leaves_nothing(self):
        pool = DecodingPool(2)
        processes = [worker.process for worker in pool._workers]
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(pool.run, harm.wait_forever, "x")
            time.sleep(0.2)
            pool.close()
            with pytest.raises(InctrlError, match="is ending"):
                waiting.result(20)
        with pytest.raises(InctrlError, match="is ending"):
            pool.run(harm.process_id, "x")
        assert not any(process.is_alive() for process in processes)


PROGRAM = """
import signal, time
from inctrl_core.images.workers import DecodingPool
from tests.adversarial import harm

if __name__ == "__main__":
    # A shell has what it starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pool = DecodingPool(2)
    print(*(pool.run(harm.process_id, "x") for _ in range(8)), flush=True)
    time.sleep(60)
"""


@linux
class TestProcesses:
    def test_they_end_with_the_program_however_it_ends(self, tmp_path):
        script = tmp_path / "program.py"
        script.write_text(PROGRAM)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        for how in (signal.SIGKILL, signal.SIGINT):
            with subprocess.Popen(
                [sys.executable, script],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                text=True,
            ) as program:
                numbers = {int(number) for number in program.stdout.readline().split()}
                assert len(numbers) == 2
                program.send_signal(how)
                program.wait(20)
            deadline = time.monotonic() + 20
            while any(_runs(number) for number in numbers):
                assert time.monotonic() < deadline, "a process stayed"
                time.sleep(0.05)

    def test_they_are_small(self, pool):
        modules = pool.run(harm.modules, "x")
        assert not {"torch", "gradio", "matplotlib", "scipy"} & set(modules)


def used_by(process: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _runs(number: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
