"""Normals that are found among unsorted images: by the library, the command line and the API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gradio_client import handle_file
from PIL import Image, ImageDraw

from inctrl_core import InctrlError
from inctrl_core.__main__ import main
from inctrl_core.analysis import find_normals
from inctrl_core.analysis.unsorted import MOST_COMPARED, choose_normals, mutual_scores
from inctrl_core.model.residuals import residuals_both_ways, residuals_per_normal
from tests.support.pictures import grainy

COUNT, BAD = 12, (2, 7, 10)


def plate(seed: int, scratched: bool = False) -> Image.Image:
    """A round plate on a table, a little moved each time, perhaps with a wide dark scratch."""
    random = np.random.RandomState(seed)
    image = Image.new("RGB", (160, 160), (96, 84, 70))
    draw = ImageDraw.Draw(image)
    x, y = 80 + random.randint(-4, 5, 2)
    for radius, colour in ((64, (186, 190, 196)), (40, (204, 208, 212)), (12, (150, 152, 158))):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    if scratched:
        at = random.randint(-20, 20)
        draw.line((x - 45, y + at, x + 40, y + at + 30), fill=(60, 20, 10), width=9)
    return grainy(image, random, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unsorted")
    for seed in range(COUNT):
        plate(seed, seed in BAD).save(folder / f"plate_{seed:02}.png")
    return folder


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def test_both_ways_are_those_of_each_image_against_the_other():
    torch.manual_seed(1)
    images = [F.normalize(torch.randn(4, 9, width), dim=-1) for width in (5, 8)]
    table = residuals_per_normal(images, images).mean(dim=2)
    own, theirs = residuals_both_ways([d[0] for d in images], [d[1:] for d in images])
    torch.testing.assert_close(own, table[0, 1:])
    torch.testing.assert_close(theirs, table[1:, 0])


def test_the_ordinary_images_become_normals(detector, paths):
    found = find_normals(detector, paths, shots=4)
    assert found.indices == tuple(range(COUNT)) and not found.unread
    assert len(set(found.normals)) == 4 and not set(found.normals) & set(BAD)
    order = np.argsort(found.scores)
    assert set(order[-len(BAD) :].tolist()) == set(BAD)


def test_no_more_than_half_become_normals(detector, paths):
    assert len(find_normals(detector, paths[:5], shots=8).normals) == 2


def test_images_that_cannot_be_read_are_told_and_left_out(detector, paths, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    found = find_normals(detector, [paths[0], str(broken), *paths[1:6]])
    assert found.indices == (0, 2, 3, 4, 5, 6)
    assert found.unread[0][0] == 1 and "broken.png" in found.unread[0][1]
    with pytest.raises(InctrlError, match=r"broken\.png"):
        find_normals(detector, [str(broken)] * 4)


@pytest.mark.parametrize("shots", [0, 17])
def test_a_wrong_number_of_normals_is_refused(detector, paths, shots):
    with pytest.raises(InctrlError, match="1 to 16"):
        find_normals(detector, paths, shots)


def test_too_few_images_are_refused(detector, paths):
    with pytest.raises(InctrlError, match="at least 4"):
        find_normals(detector, paths[:3])


def test_of_many_images_as_many_as_fit_are_compared(tiny_detector, paths):
    steps = []
    many = [paths[i % 6] for i in range(130)]
    found = find_normals(tiny_detector, many, on_step=lambda *told: steps.append(told))
    assert len(found.indices) == MOST_COMPARED
    assert (found.indices[0], found.indices[-1]) == (0, 128)
    assert steps == [(done, 26) for done in range(26)]


def test_a_patch_counts_by_the_images_that_come_closest():
    """What a third of the others have is ordinary, whatever the rest shows."""
    table = np.full((7, 7, 1), 0.5, np.float32)
    table[:3, :3] = 0.1
    assert mutual_scores(table)[:3] == pytest.approx([0.1] * 3)  # One in six others counts.
    table[6] = 0.9
    assert mutual_scores(table).argmax() == 6


def test_normals_show_both_kinds_of_ordinary_image():
    """Two kinds of image, equally many: one normal of each comes first."""
    kind = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    table = np.where(kind[:, None] == kind, 0.1, 0.4)[..., None].astype(np.float32)
    first = choose_normals(table, np.zeros(8), 2)
    assert sorted(kind[first]) == [0, 0]  # Half of the images, by their order, are of one kind.
    spread = np.array([0.0, 0.0, 0.3, 0.3, 0.0, 0.0, 0.3, 0.3])
    assert sorted(kind[choose_normals(table, spread, 2)]) == [0, 1]


def test_the_command_scores_without_normals(folder, capsys):
    command = ["score", "--device", "cpu", "--find-normals", "4", "--query", str(folder), "--json"]
    assert main(command) == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert len(document["normals"]) == 4 and "taken as normals" in told.err
    ranked = sorted(document["scores"], key=lambda entry: -entry["fused"])
    assert {entry["index"] for entry in ranked[: len(BAD)]} == set(BAD)


def test_the_api_finds_normals(client, detector, paths):
    found = client.predict([handle_file(path) for path in paths], api_name="/find_normals")
    with pytest.raises(Exception, match="at least 4"):
        client.predict([handle_file(path) for path in paths[:2]], api_name="/find_normals")
    assert found["normals"] == list(find_normals(detector, paths).normals)
    assert {entry["index"] for entry in found["scores"][: len(BAD)]} == set(BAD)
