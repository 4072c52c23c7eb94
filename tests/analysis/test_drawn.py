"""Strokes on a normal: their text, their paint, what they score, the smallest that is seen."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from inctrl_core import Detector, InctrlError
from inctrl_core.analysis import inspect
from inctrl_core.analysis.changes import with_ignored, with_threshold
from inctrl_core.analysis.drawn import (
    ABOVE_ALREADY,
    NOTHING_TELLS,
    ROUND,
    TOO_FEW,
    Board,
    compute_board,
    compute_drawing,
    compute_smallest,
    draw,
    find_smallest,
    open_board,
    ordinary_normal,
    search_sizes,
)
from inctrl_core.analysis.session import Session
from inctrl_core.images.seen import open_here
from inctrl_core.images.strokes import (
    MOST_POINTS,
    MOST_STROKES,
    THICKEST,
    THINNEST,
    UNREADABLE,
    Stroke,
    covered_pixels,
    paint,
    read_strokes,
)
from tests.support.pictures import grainy

INK, FAINT = (20, 20, 20), (180, 170, 165)
GREY = Image.new("RGB", (240, 240), (200, 200, 200))
SQUARE = (240.0, 240.0)


def dot(diameter: float, x: float = 0.5, y: float = 0.5, softness: float = 0.0) -> Stroke:
    return Stroke(((x, y),), diameter, INK, softness)


def test_strokes_are_read_from_text():
    strokes = read_strokes("141414 0.05 0.3 0.5,0.25 0.6125,1;ffffff 0.5 0 0,1")
    assert strokes == (
        Stroke(((0.5, 0.25), (0.6125, 1.0)), 0.05, INK, 0.3),
        Stroke(((0.0, 1.0),), 0.5, (255, 255, 255), 0.0),
    )
    assert read_strokes("") == ()
    longest = "141414 0.0501 0.3001" + " 0.1234,0.5678" * MOST_POINTS
    assert len(read_strokes(";".join([longest] * MOST_STROKES))) == MOST_STROKES


@pytest.mark.parametrize(
    "text",
    [None, 3, ["141414 0.1 0 0,0"], b"141414 0.1 0 0,0", "x", ";", "141414 0.1 0", " "]
    + ["141414 0.1 0 0,0;", "141414 0.1 0 0,0 ", "14141 0.1 0 0,0", "14141G 0.1 0 0,0"]
    + ["141414 0.1 0 0.5", "141414 0.1 0 0.5,1.0001", "141414 0.1 0 -0.5,0", "141414 0.1 2 0,0"]
    + ["141414 nan 0 0,0", "141414 0.1 0 inf,0", "141414 0.1 0 1e-1,0", "141414 0.1 0 0.12345,0"]
    + ["141414 0.1 0 0,0\n", "141414 ０.1 0 0,0", "141414 0.1 0 0,0" + " 0,0" * MOST_POINTS]
    + ["141414 0.1 0" + " 0,0" * 10**6, "\ud800", "141414\t0.1 0 0,0"],
)
def test_any_other_text_is_one_sentence(text):
    with pytest.raises(InctrlError, match=UNREADABLE):
        read_strokes(text)


def test_too_many_strokes_and_sizes_that_no_brush_has_are_told():
    with pytest.raises(InctrlError, match=f"at most {MOST_STROKES} strokes"):
        read_strokes(";".join(["141414 0.1 0 0,0"] * (MOST_STROKES + 1)))
    for size in ("0", "0.0049", "0.5001", "1"):
        with pytest.raises(InctrlError, match=r"brush between 0\.005 and 0\.5"):
            read_strokes(f"141414 {size} 0 0,0")


@given(st.text(alphabet="0123456789abcdef.,; -e\n", max_size=80))
def test_any_text_gives_strokes_or_one_sentence(text):
    try:
        strokes = read_strokes(text)
    except InctrlError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert all(
            0 <= side <= 1 for stroke in strokes for point in stroke.points for side in point
        )


@pytest.mark.parametrize(
    "values",
    [
        {"points": ()},
        {"points": ((0.5, 0.5),) * (MOST_POINTS + 1)},
        {"points": ((0.5, math.nan),)},
        {"points": ((0.5, 1.5),)},
        {"diameter": math.nan},
        {"diameter": 0.6},
        {"softness": -0.1},
        {"colour": (0, 0, 256)},
        {"colour": (0, 0)},
    ],
)
def test_values_outside_are_told(values):
    with pytest.raises(InctrlError):
        Stroke(**{"points": ((0.5, 0.5),), "diameter": 0.1, "colour": INK} | values)


def test_a_dot_lies_where_it_was_put_and_nothing_else_changes():
    pixels = np.asarray(paint(GREY, [dot(0.1, x=0.25, y=0.75)], SQUARE)).astype(int)
    rows, columns = np.nonzero((pixels != 200).any(axis=2))
    assert (columns.min(), columns.max()) == (48, 71) and (rows.min(), rows.max()) == (168, 191)
    assert tuple(pixels[180, 60]) == INK
    assert np.asarray(GREY).max() == 200  # The picture that was given stays.


def test_a_line_joins_its_points_and_the_last_stroke_lies_on_top():
    line = Stroke(((0.1, 0.5), (0.9, 0.5)), 0.05, (255, 0, 0))
    pixels = np.asarray(paint(GREY, [line, dot(0.1)], SQUARE))
    assert tuple(pixels[120, 40]) == tuple(pixels[120, 200]) == (255, 0, 0)
    assert tuple(pixels[120, 120]) == INK and tuple(pixels[100, 40]) == (200, 200, 200)
    assert covered_pixels([line], SQUARE) == pytest.approx(192 * 12 + math.pi * 36, rel=0.03)


def test_areas_are_those_of_circles_and_what_is_covered_twice_counts_once():
    for diameter in (0.05, 0.1, 0.5):
        area = math.pi / 4 * (240 * diameter) ** 2
        assert covered_pixels([dot(diameter)], SQUARE) == pytest.approx(area, rel=0.03)
        soft = covered_pixels([dot(diameter, softness=1.0)], SQUARE)
        assert soft == pytest.approx(area, rel=0.06)
    once = covered_pixels([dot(0.1)], SQUARE)
    assert covered_pixels([dot(0.1)] * 3, SQUARE) == pytest.approx(once, rel=0.03)
    assert covered_pixels([], SQUARE) == 0
    # Of a larger image the same share is more pixels.
    assert covered_pixels([dot(0.1)], (2400.0, 2400.0)) == pytest.approx(45239, rel=0.03)


def test_areas_grow_with_the_brush():
    sizes = np.geomspace(THINNEST, THICKEST, 60).clip(THINNEST, THICKEST)
    areas = [covered_pixels([dot(size)], (800.0, 600.0)) for size in sizes]
    assert areas[0] > 0 and all(a <= b for a, b in zip(areas, areas[1:], strict=False))


def test_a_round_brush_is_squeezed_with_the_picture():
    # An image of 400 x 200, seen as a square: half as wide as high there.
    pixels = np.asarray(paint(GREY, [dot(0.2)], (400.0, 200.0)))[..., 0]
    rows, columns = np.nonzero(pixels != 200)
    assert np.ptp(columns) + 1 == 24 and np.ptp(rows) + 1 == 48


@pytest.mark.parametrize("sides", [(1000.0, 50.0), (50.0, 1000.0), (1.0, 1.0)])
@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.5, 0.5)])
def test_images_of_any_proportions_are_marked_at_any_place(sides, place):
    marked = paint(GREY, [dot(0.1, *place)], sides)
    rows, columns = np.nonzero((np.asarray(marked) != 200).any(axis=2))
    at = np.array(place) * 240
    assert abs(columns - at[0]).max() <= 14 and abs(rows - at[1]).max() <= 14
    # Of so narrow an image the thinnest brush covers less than a pixel.
    for softness in (0.0, 1.0):
        mark = dot(THINNEST, *place, softness)
        for apart in (1, 30):
            longer = sides[0] * apart, sides[1]
            assert paint(GREY, [mark], longer).size == GREY.size
        assert covered_pixels([mark], sides) < 4


def test_a_soft_edge_fades():
    hard, soft = (
        np.asarray(paint(GREY, [dot(0.2, softness=s)], SQUARE))[120, :, 0].astype(int)
        for s in (0.0, 1.0)
    )
    assert np.count_nonzero((hard > 30) & (hard < 190)) <= 2
    assert np.count_nonzero((soft > 30) & (soft < 190)) > 30
    assert (np.diff(soft[:120]) <= 0).all()


def seen_from(size: float):
    """Scores that rise with the size and lie above .5 from that size on; the queries it took."""
    rounds = []

    def score(diameters):
        rounds.append(len(diameters))
        return [0.5 + (d - size) if d > size else 0.5 - (size - d) for d in diameters]

    return score, rounds


@pytest.mark.parametrize("size", [0.006, 0.02, 0.1, 0.31, 0.49])
def test_the_search_finds_the_smallest_size_in_two_rounds(size):
    score, rounds = seen_from(size)
    sizes = search_sizes(score, 0.5)
    assert rounds == [ROUND, ROUND] and len(sizes.diameters) == 2 * ROUND
    assert size < sizes.smallest <= size * 1.08
    assert list(sizes.diameters) == sorted(sizes.diameters)
    assert list(sizes.scores) == sorted(sizes.scores)


def test_the_search_ends_after_one_round_where_all_or_none_is_seen():
    for size, smallest in ((0.001, 0.01), (0.6, None)):
        score, rounds = seen_from(size)
        assert search_sizes(score, 0.5, least=0.01).smallest == smallest
        assert rounds == [ROUND]


def test_a_size_at_the_threshold_is_not_seen():
    assert search_sizes(lambda diameters: [0.5] * len(diameters), 0.5).smallest is None


def plate(seed: int, side: int = 300) -> Image.Image:
    """A light plate with a grid of holes, each a little moved."""
    random = np.random.RandomState(seed)
    image = Image.new("RGB", (side, side), (185, 180, 170))
    pen = ImageDraw.Draw(image)
    for y in range(40, side, 60):
        for x in range(40, side, 60):
            dx, dy = random.randint(-3, 4, 2)
            pen.ellipse((x + dx - 12, y + dy - 12, x + dx + 12, y + dy + 12), fill=(90, 90, 95))
    return grainy(image, random, 5)


@pytest.fixture(scope="module")
def session(detector: Detector) -> Session:
    return inspect(detector, [plate(seed) for seed in range(4)], plate(9), "plate")


@pytest.fixture(scope="module")
def board(detector: Detector, session: Session) -> Board:
    return open_board(detector, session)


def test_the_normal_that_is_drawn_on_is_left_out(detector, session, board):
    fused = session.ranges.fused
    assert board.normal == ordinary_normal(session) == fused.index(min(fused))
    assert board.measured.bank.shots == 3 and board.sides == (300, 300)
    assert board.score.copy_of is None
    alone = detector.score([plate(board.normal)], board.measured.bank)[0]
    assert board.score.fused == alone.fused
    assert open_board(detector, session, normal=3).normal == 3


def test_a_mark_raises_the_score_and_the_map_at_its_place(detector, board):
    mark = dot(0.12, x=0.7, y=0.3)
    drawn = draw(detector, board, [mark])
    assert drawn.score.fused > board.score.fused and drawn.above is True
    row, column = np.unravel_index(drawn.score.patch_map.argmax(), (15, 15))
    assert abs(row - 4) <= 1 and abs(column - 10) <= 1
    assert drawn.area == pytest.approx(math.pi * 18**2, rel=0.03)
    assert drawn.patches == pytest.approx(drawn.area / 400, rel=1e-6)
    assert drawn.picture.size == board.picture.size
    assert drawn.picture.getpixel((210, 90)) == INK
    # What the visitor sees painted is what was scored.
    painted = paint(plate(board.normal), [mark], (300, 300))
    apart = detector.score([painted], board.measured.bank)[0].fused
    assert drawn.score.fused == pytest.approx(apart, abs=0.02)


def test_nothing_drawn_is_the_normal_itself(detector, board):
    drawn = draw(detector, board, [])
    assert drawn.score is board.score and drawn.area == drawn.patches == 0
    assert drawn.above is False
    assert drawn.picture.tobytes() == board.picture.tobytes()


def test_the_smallest_dot_that_is_seen_is_seen_and_a_smaller_one_is_not(detector, board):
    stroke = Stroke(((0.2, 0.2), (0.5, 0.4), (0.9, 0.9)), 0.05, FAINT)
    sizes = find_smallest(detector, board, stroke)
    assert stroke.middle == (0.5, 0.4) and sizes.threshold == board.measured.threshold
    place = sizes.diameters.index(sizes.smallest)
    assert 0 < place < len(sizes.diameters) - 1
    dots = [Stroke(((0.5, 0.4),), d, FAINT) for d in sizes.diameters[place - 1 : place + 1]]
    drawn = [draw(detector, board, [mark]) for mark in dots]
    assert [one.above for one in drawn] == [False, True]
    assert drawn[1].score.fused == pytest.approx(sizes.scores[place], abs=1e-5)


def test_a_threshold_of_the_visitors_own_counts_here_too(detector, session, board):
    strict = open_board(detector, with_threshold(session, 0.9))
    assert strict.measured.threshold == 0.9
    assert draw(detector, strict, [dot(0.02)]).above is False
    low = open_board(detector, with_threshold(session, 0.001))
    with pytest.raises(InctrlError, match=ABOVE_ALREADY):
        find_smallest(detector, low, dot(0.1))


def test_a_mark_in_a_part_that_is_ignored_is_not_seen(detector, session):
    part = np.zeros((60, 60), bool)
    part[:30, :30] = True
    board = open_board(detector, with_ignored(detector, session, part))
    hidden = draw(detector, board, [dot(0.2, 0.2, 0.2)])
    assert hidden.score.fused == board.score.fused and hidden.area > 0
    assert draw(detector, board, [dot(0.2, 0.8, 0.8)]).score.fused > board.score.fused


def test_steps_cross_processes(detector, session, board):
    def step(*call):
        function, *arguments = pickle.loads(pickle.dumps(call))
        return pickle.loads(pickle.dumps(function(detector, *arguments)))

    apart = compute_board(step, session, open_here)
    assert apart.normal == board.normal and apart.score.fused == board.score.fused
    mark = dot(0.1)
    there, here = compute_drawing(step, apart, [mark]), draw(detector, board, [mark])
    assert there.score.fused == here.score.fused
    assert compute_smallest(step, apart, mark) == find_smallest(detector, board, mark)


def test_normals_that_are_too_few_are_told(detector, golden_detector):
    for normals in ([plate(0)], [plate(0), plate(0)]):
        with pytest.raises(InctrlError, match=TOO_FEW):
            open_board(detector, inspect(detector, normals, plate(9), "plate"))
    # Of another form than the gated one a single other normal gives no threshold.
    pair = open_board(golden_detector, inspect(golden_detector, [plate(0), plate(1)], plate(9)))
    assert draw(golden_detector, pair, [dot(0.1)]).above is None
    with pytest.raises(InctrlError, match=NOTHING_TELLS):
        find_smallest(golden_detector, pair, dot(0.1))


def test_a_normal_that_is_gone_is_told(detector, tmp_path):
    files = []
    for seed in range(3):
        files.append(str(tmp_path / f"{seed}.png"))
        plate(seed).save(files[-1])
    session = inspect(detector, files, plate(9), "plate")
    for seed in range(3):
        (tmp_path / f"{seed}.png").unlink()
    with pytest.raises(InctrlError):
        open_board(detector, session)
