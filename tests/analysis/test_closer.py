"""A closer look: images in parts, from the library, the command line and the API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from scipy import ndimage

from inctrl_core import Detector, InctrlError
from inctrl_core.__main__ import main
from inctrl_core.analysis import inspect
from inctrl_core.analysis.changes import with_closer_look, with_phrases, with_query_as_normal
from inctrl_core.analysis.closer import MOST_PICTURES, closer_told
from inctrl_core.analysis.session import Session
from inctrl_core.config import SHORTEST, SQUASH, PreprocessConfig
from inctrl_core.images.preprocessing import cut_parts

WIDTH, HEIGHT, HOLE = 2000, 500, (1305, 309)
RADIUS = 3


def sheet(seed: int, hole: bool = False) -> Image.Image:
    """A brushed metal sheet, photographed at 2000 x 500 pixels, perhaps with a 6-pixel hole."""
    random = np.random.RandomState(seed)
    grain = ndimage.gaussian_filter(random.randn(HEIGHT, WIDTH), (1, 3))
    light = ndimage.zoom(ndimage.gaussian_filter(random.randn(50, 200), 3), 10, order=1)
    grey = 150 + 10 * grain / grain.std() + 6 * light / light.std()
    if hole:
        x, y = HOLE
        down, across = np.ogrid[:HEIGHT, :WIDTH]
        grey[(down - y) ** 2 + (across - x) ** 2 <= RADIUS**2] = 25
    colours = np.stack([grey, 0.97 * grey, 0.92 * grey], axis=-1)
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sheets")
    for seed in range(3):
        sheet(seed).save(folder / f"normal_{seed}.png")
    sheet(9, hole=True).save(folder / "hole.png")
    return folder


@pytest.fixture(scope="module")
def session(detector: Detector, folder: Path) -> Session:
    normals = [str(path) for path in sorted(folder.glob("normal_*.png"))]
    return inspect(detector, normals, str(folder / "hole.png"), "metal sheet")


@pytest.fixture(scope="module")
def looked(detector: Detector, session: Session) -> dict[int, Session]:
    return {parts: with_closer_look(detector, session, parts) for parts in (2, 4)}


def place_of_hole(grid: int) -> tuple[int, int]:
    return HOLE[1] * grid // HEIGHT, HOLE[0] * grid // WIDTH


def clearness(patch_map: np.ndarray) -> float:
    """How far the hole's patch rises above the middle of the map."""
    return float(patch_map[place_of_hole(len(patch_map))] - np.median(patch_map))


@pytest.mark.parametrize("parts", [2, 4])
def test_a_hole_of_a_few_pixels_stands_out_in_parts_and_not_in_the_whole(session, looked, parts):
    look = looked[parts].closer
    assert look.patch_map.shape == (15 * parts, 15 * parts)
    assert np.unravel_index(look.patch_map.argmax(), look.patch_map.shape) == place_of_hole(
        15 * parts
    )
    assert clearness(look.patch_map) > 3 * clearness(session.score.patch_map)
    assert look.above and not session.above
    assert look.peak > max(look.normal_peaks) and len(look.normal_peaks) == look.shots == 3


def test_the_score_and_its_map_stay_those_of_the_whole_image(session, looked):
    assert looked[2].score is session.score
    assert looked[2].measured is session.measured


def test_a_whole_look_takes_the_closer_one_away(detector, looked):
    assert with_closer_look(detector, looked[2], 1).closer is None


def test_a_closer_look_outlives_other_words_and_not_other_normals(detector, looked):
    assert with_phrases(detector, looked[2], ["sound"], []).closer is looked[2].closer
    assert with_query_as_normal(detector, looked[2]).closer is None


def test_an_image_that_is_a_normal_differs_nowhere(detector, session):
    same = inspect(detector, session.normal_files, session.normal_files[1])
    assert with_closer_look(detector, same, 2).closer.peak < 1e-5


def test_every_part_is_compared_with_those_at_other_places(detector):
    """A picture whose quarters change places has nothing new in parts."""
    whole = sheet(3).resize((800, 800))
    quarters = [whole.crop((x, y, x + 400, y + 400)) for x in (0, 400) for y in (0, 400)]
    turned = Image.new("RGB", (800, 800))
    for index, part in enumerate(reversed(quarters)):
        turned.paste(part, (400 * (index // 2), 400 * (index % 2)))
    looked = with_closer_look(detector, inspect(detector, [whole], turned), 2)
    assert looked.closer.peak < 1e-5


def test_one_normal_gives_a_map_and_no_verdict(detector, session):
    alone = inspect(detector, session.normal_files[:1], session.query_file)
    look = with_closer_look(detector, alone, 2).closer
    assert look.above is None and look.normal_peaks == () and look.scale.normal_high is None
    assert "second normal" in closer_told(look, 1)


def test_as_many_normals_are_looked_at_as_fit_and_copies_are_not(tiny_detector):
    random = np.random.default_rng(0)
    query, *normals = (
        Image.fromarray(random.integers(0, 256, (100, 100, 3), np.uint8)) for _ in range(7)
    )
    inspected = inspect(tiny_detector, [normals[0], *normals], query)
    steps = []
    look = with_closer_look(tiny_detector, inspected, 4, lambda *told: steps.append(told)).closer
    assert look.shots == MOST_PICTURES // 16 == 4 and len(look.normal_peaks) == 4
    assert steps == [(done, 8) for done in range(8)]
    assert min(look.normal_peaks) > 0.01  # The copy would have found itself.
    assert "first 4 of 7 normals" in closer_told(look, 7)


@pytest.mark.parametrize("parts", [0, 5, -1, 2.5, True, "2", None])
def test_other_numbers_of_parts_are_refused(detector, session, parts):
    with pytest.raises(InctrlError, match="1 to 4 parts"):
        with_closer_look(detector, session, parts)


def test_an_image_that_is_gone_is_told(detector, folder, tmp_path):
    gone = tmp_path / "gone.png"
    gone.write_bytes((folder / "hole.png").read_bytes())
    inspected = inspect(detector, [str(folder / "normal_0.png")], str(gone))
    gone.unlink()
    with pytest.raises(InctrlError, match=r"gone\.png"):
        with_closer_look(detector, inspected, 2)


@pytest.mark.parametrize("mode", [SQUASH, SHORTEST])
@pytest.mark.parametrize("size", [(90, 60), (60, 91), (3, 2), (1, 1)])
def test_parts_cover_what_the_model_sees(mode, size):
    config = PreprocessConfig(32, (0.5,) * 3, (0.5,) * 3, mode)
    across = np.arange(size[0]) * 255 // max(1, size[0] - 1)
    image = Image.fromarray(
        np.broadcast_to(across[None, :, None], (*size[::-1], 3)).astype(np.uint8)
    )
    for parts in (2, 3, 4):
        cut = cut_parts(image, config, parts)
        assert len(cut) == parts**2 and {part.size for part in cut} == {(32, 32)}
        means = np.array([np.asarray(part).mean() for part in cut]).reshape(parts, parts)
        assert np.allclose(means, means[:1], atol=1)  # Row by row.
        assert (np.diff(means[0]) >= 0).all()


def test_the_command_writes_the_closer_map(folder, tmp_path, capsys):
    normals = [str(folder / f"normal_{i}.png") for i in range(3)]
    command = [
        "score",
        "--device",
        "cpu",
        "--normal",
        *normals,
        "--query",
        str(folder / "hole.png"),
    ]
    assert main([*command, "--parts", "2", "--json", "--heatmaps", str(tmp_path)]) == 0
    entry = json.loads(capsys.readouterr().out)["scores"][0]
    assert entry["closer"]["parts"] == 2 and entry["closer"]["above"] is True
    values = np.asarray(Image.open(tmp_path / "hole_map16.png"))
    down, across = np.unravel_index(values.argmax(), values.shape)
    assert abs(across - HOLE[0]) < WIDTH / 30 and abs(down - HOLE[1]) < HEIGHT / 30
    assert values.max() / 65535 == pytest.approx(entry["closer"]["peak"], abs=1e-3)


def test_the_command_needs_the_images_of_the_normals(folder, capsys):
    options = ["--normals-file", "kept.safetensors", "--query", str(folder / "hole.png")]
    assert main(["score", *options, "--parts", "2"]) == 1
    assert "--normal" in capsys.readouterr().err


def test_the_api_looks_closer(client, folder, looked):
    normals = [handle_file(folder / f"normal_{i}.png") for i in range(3)]
    about = {"normals": normals, "query": handle_file(folder / "hole.png")}
    closer = client.predict(**about, parts=2, api_name="/explain")["closer"]
    plain = client.predict(**about, api_name="/explain")
    with pytest.raises(Exception, match="1 to 4 parts"):
        client.predict(**about, parts=9, api_name="/explain")
    assert plain["closer"] is None
    own = looked[2].closer
    for name in ("peak", "normal_peaks", "crop_box", "patch_map"):
        assert np.allclose(closer[name], getattr(own, name), atol=1e-6), name
    assert (closer["parts"], closer["shots"], closer["above"]) == (2, 3, True)
