"""ZIPs of labelled images: every layout that folders may have, and archives made to harm."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from inctrl_core.datasets import archives
from inctrl_core.datasets.archives import read_zip
from inctrl_core.datasets.subsets import DataError


def picture(colour: int = 90) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 18), (colour, 90, 90)).save(stream, "PNG")
    return stream.getvalue()


def mask() -> bytes:
    stream = io.BytesIO()
    image = Image.new("L", (24, 18))
    image.paste(255, (4, 4, 9, 9))
    image.save(stream, "PNG")
    return stream.getvalue()


def packed(tmp_path: Path, entries: Mapping[str, bytes], name: str = "mine.zip") -> Path:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, data in entries.items():
            archive.writestr(inside, data)
    return path


def read(tmp_path: Path, path: Path) -> tuple[int, list[tuple[str, bool, str]], tuple[str, ...]]:
    """Number of normals; name, label and name of the mask of each image; notes."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    normals, queries, notes = read_zip(str(path), str(folder))
    for place, *_ in queries:
        assert Path(place).resolve().is_relative_to(folder) and Path(place).is_file()
    return len(normals), [(n, bad, Path(m).name) for _, n, bad, m in queries], notes


LAYOUTS = {
    "good and bad": ["good/a.png", "good/b.png", "bad/c.png"],
    "OK and NG": ["OK/a.png", "OK/b.png", "NG/c.png"],
    "one folder around": ["parts/good/a.png", "parts/good/b.png", "parts/bad/c.png"],
    "kinds of damage": ["good/a.png", "good/b.png", "bad/scratch/c.png"],
    "a single good image": ["good/a.png", "bad/b.png", "bad/c.png"],
    "what macOS adds": ["good/a.png", "bad/b.png", "__MACOSX/good/._a.png", "good/.DS_Store"],
    "strokes of Windows": ["my\\good\\a.png", "my\\bad\\b.png"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_say_what_is_good(tmp_path, layout):
    entries = LAYOUTS[layout]
    normals, found, notes = read(tmp_path, packed(tmp_path, dict.fromkeys(entries, picture())))
    pictures = [e for e in entries if e.endswith(".png") and "__MACOSX" not in e]
    # All good ones are to be checked: none is put aside for normals.
    assert normals == 0 and len(found) == len(pictures)
    assert sum(bad for _, bad, _ in found) == sum(
        "good" not in e and "OK" not in e for e in pictures
    )
    assert not notes


def test_the_layout_of_mvtec_with_masks(tmp_path):
    entries = {f"cap/train/good/{i}.png": picture(i) for i in range(3)}
    entries |= {"cap/test/good/0.png": picture(), "cap/test/hole/0.png": picture()}
    entries |= {"cap/test/dent/0.png": picture(), "cap/ground_truth/hole/0_mask.png": mask()}
    normals, found, _ = read(tmp_path, packed(tmp_path, entries))
    assert normals == 3
    assert sorted(found) == [
        ("dent: 0.png", True, ""),
        ("good: 0.png", False, ""),
        ("hole: 0.png", True, "0_mask.png"),
    ]


def test_what_is_no_image_is_left_out_and_told(tmp_path):
    entries = {"good/a.png": picture(), "bad/b.png": picture(), "readme.txt": b"x"}
    entries |= {"bad/more.zip": b"PK", "bad/c.exe": b"MZ"}
    _, found, notes = read(tmp_path, packed(tmp_path, entries))
    assert len(found) == 2 and len(notes) == 2
    assert "more.zip" in notes[0] and "readme.txt" in notes[1] and "c.exe" in notes[1]
    assert not list((tmp_path / "unpacked").rglob("*.exe"))


def test_what_only_calls_itself_an_image_is_for_its_row_to_tell(tmp_path):
    _, found, _ = read(tmp_path, packed(tmp_path, {"good/a.png": b"nothing", "bad/b.png": b""}))
    assert len(found) == 2


def encrypted(tmp_path: Path) -> Path:
    path = packed(tmp_path, {"good/a.png": picture(), "bad/b.png": picture()})
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + place] |= 1
            start = data.find(signature, start + 1)
    path.write_bytes(data)
    return path


def linked(tmp_path: Path) -> Path:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("good/a.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return path


def bomb(tmp_path: Path) -> Path:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(5):
            with archive.open(f"good/{i}.png", "w") as file:
                for _ in range(100):
                    file.write(bytes(2**20))
    return path


def lying_bomb(tmp_path: Path) -> Path:
    """Declares 10 bytes where there are 300 MB."""
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("good/a.png", "w") as file:
            for _ in range(300):
                file.write(bytes(2**20))
    data = bytearray(path.read_bytes())
    directory = data.find(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 10)
    path.write_bytes(data)
    return path


def one(tmp_path: Path, *names: str) -> Path:
    return packed(tmp_path, dict.fromkeys(names, picture()))


def lzma_packed(tmp_path: Path) -> Path:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("good/a.png", picture())
    return path


def many(tmp_path: Path) -> Path:
    return packed(tmp_path, {f"good/{i}.png": b"" for i in range(archives.MAX_ENTRIES + 1)})


def broken(tmp_path: Path) -> Path:
    path = one(tmp_path, "good/a.png", "bad/b.png")
    data = bytearray(path.read_bytes())
    data[45:60] = bytes(15)
    path.write_bytes(data)
    return path


def text(tmp_path: Path) -> Path:
    path = tmp_path / "mine.zip"
    path.write_bytes(b"no archive at all")
    return path


HOSTILE = {
    "a path that leads out": lambda p: one(p, "good/../../../escaped.png"),
    "a path from the root": lambda p: one(p, "/tmp/inctrl-escaped.png"),
    "a path that leads out in Windows": lambda p: one(p, "..\\..\\inctrl-escaped.png"),
    "a drive": lambda p: one(p, "C:\\good\\a.png"),
    "a link": linked,
    "a bomb": bomb,
    "a bomb that lies": lying_bomb,
    "a password": encrypted,
    "an odd method": lzma_packed,
    "thousands of entries": many,
    "damage": broken,
    "text": text,
    "nothing": lambda p: packed(p, {}),
    "no image": lambda p: packed(p, {"good/a.txt": b"x"}),
    "nothing but a ZIP": lambda p: packed(p, {"inner.zip": one(p, "good/a.png").read_bytes()}),
    "a name twice": lambda p: one(p, "good/a.png", "good/A.png"),
    "a file as a folder": lambda p: one(p, "good/a.png", "good/a.png/b.png"),
    "deep folders": lambda p: one(p, "/".join("x" * 20) + "/good/a.png"),
    "no labels": lambda p: one(p, "first/a.png", "second/b.png"),
    "two data sets": lambda p: one(
        p, "nut/good/a.png", "nut/bad/b.png", "cap/good/c.png", "cap/bad/d.png"
    ),
}


# Which check is to refuse: another might, by chance.
SAID = {
    "a path that leads out": "outside",
    "a path from the root": "outside",
    "a path that leads out in Windows": "outside",
    "a drive": "outside",
    "a link": "links",
    "a bomb": "unpacks to more",
    "a password": "encrypted",
    "thousands of entries": "entries",
    "a name twice": "twice",
    "deep folders": "deep",
    "no labels": "which images are good",
    "two data sets": "several",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_get_a_sentence(tmp_path, kind):
    path = HOSTILE[kind](tmp_path)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(DataError) as told:
        read_zip(str(path), str(folder))
    said = str(told.value)
    assert SAID.get(kind, "") in said
    assert said.startswith("'mine.zip'") and said.count(". ") == 0 and len(said) < 300
    # Nothing of this disk is told, and nothing lies outside of the folder.
    assert str(tmp_path) not in said
    assert not list(Path("/tmp").glob("*escaped*.png")) and not list(tmp_path.glob("*escaped*"))
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 2**20


@pytest.mark.parametrize("name", ["x" * 300, "ü" * 200, "a\nb", "<b>", "con", "a:b"])
def test_any_name_finds_a_place(tmp_path, name):
    _, found, _ = read(tmp_path, one(tmp_path, f"good/{name}.png", "bad/b.png"))
    assert len(found) == 2 and all(n.endswith(".png") and "\n" not in n for n, *_ in found)
