"""A drawn circuit board: a product whose worst faults are logical, not scratches."""

from __future__ import annotations

import numpy as np

from .board_layout import CAN, CAPACITORS, CHIP, CODES, LEDS, RESISTORS, SILK_TEXT, TRACES, VIAS
from .pixels import fractal_noise, stroke, wandering_line
from .records import ExampleSet, Query, generator_for
from .studio import FINE, Canvas, Shot, photograph

WIDTH, HEIGHT = 380, 300
DRAWN = "Drawn by this project's own program; no photograph is used."
DRAWN_LICENCE = "The project's own work."

TIN, GOLD, SILK = (0.78, 0.79, 0.80), (0.83, 0.68, 0.33), (0.90, 0.92, 0.88)
GREEN, BLUE = (0.05, 0.30, 0.17), (0.06, 0.16, 0.42)


class Board:
    """One board on its canvas, with parts that may be left out or changed.

    Args:
        rng: Source of the small differences between boards of one batch.
        mask_colour: Colour of the solder mask.
        without: Names of parts that are not placed.
        codes: Printed codes of the resistors, by name.
        leds: Position and colour of each lamp, by name.
        flipped_chip: Whether the chip is soldered the wrong way round.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        mask_colour: tuple[float, float, float] = GREEN,
        without: tuple[str, ...] = (),
        codes: dict[str, str] | None = None,
        leds: dict | None = None,
        flipped_chip: bool = False,
    ) -> None:
        self.rng = rng
        self.canvas = Canvas(WIDTH, HEIGHT, (0.33, 0.33, 0.34))
        mat = 1 + 0.05 * fractal_noise(rng, self.canvas.shape, 6)
        self.canvas.rgb *= mat[..., None]
        self._substrate(mask_colour)
        self._connector()
        self._header()
        self._can_footprint()
        if "can" not in without:
            self._can()
        self._chip(flipped_chip)
        for name, (x, y, upright) in (RESISTORS | CAPACITORS).items():
            self._pads(x, y, upright)
            if name not in without:
                self._chip_part(name, x, y, upright, {**CODES, **(codes or {})}.get(name))
        for position, colour in (LEDS if leds is None else leds).values():
            self._led(*position, colour)

    def _substrate(self, mask_colour: tuple[float, float, float]) -> None:
        """Lay the board: laminate, copper under the solder mask, holes, silk screen."""
        c, rng = self.canvas, self.rng
        board = c.area("box", (36, 34, 344, 266), 9)
        c.part(board, mask_colour, 2.2, gloss=0.35, bevel=0.5)
        copper = np.zeros(c.shape)
        for path in TRACES:
            copper = np.maximum(copper, c.area("line", path, 2.4))
        copper = np.maximum(copper, c.area("box", (172, 222, 244, 258), 2))
        c.paint(copper * board, tuple(v * 1.25 + 0.075 for v in mask_colour))
        c.lift(copper * board, 0.25, 0.3)
        weave = 1 + 0.025 * fractal_noise(rng, c.shape, 3)
        c.rgb = np.where(board[..., None] > 0, c.rgb * weave[..., None], c.rgb)
        for x, y in ((48, 46), (332, 46), (48, 254), (332, 254)):
            c.part(c.area("ellipse", (x - 8, y - 8, x + 8, y + 8)), GOLD, 0.2, gloss=0.9)
            c.part(
                c.area("ellipse", (x - 4.5, y - 4.5, x + 4.5, y + 4.5)), (0.1, 0.1, 0.1), -2.0, 0
            )
        for x, y in VIAS:
            c.part(c.area("ellipse", (x - 2.6, y - 2.6, x + 2.6, y + 2.6)), GOLD, 0.2, 0.8)
            c.paint(c.area("ellipse", (x - 1.1, y - 1.1, x + 1.1, y + 1.1)), (0.08, 0.09, 0.08))
        for words, x, y, size in SILK_TEXT:
            c.paint(c.text((x, y), words, size), SILK, 0.9, gloss=0.05)

    def _connector(self) -> None:
        """Place the metal socket at the left edge."""
        c = self.canvas
        shell = c.area("box", (28, 118, 76, 182), 3)
        brushed = 1 + 0.03 * self.rng.standard_normal((c.shape[0], 1))
        c.part(shell, np.asarray((0.70, 0.71, 0.73)) * brushed[..., None], 9, 0.7, 1.2)
        for y in (130, 158):
            c.part(c.area("box", (48, y, 62, y + 12), 1.5), (0.30, 0.31, 0.33), -1.2, 0.4)
        for y in (113, 182):
            c.part(c.area("box", (52, y, 66, y + 5), 1), TIN, 1.5, 0.9)

    def _header(self) -> None:
        """Place the row of pins at the top right."""
        c = self.canvas
        c.part(c.area("box", (248, 46, 318, 64), 1), (0.07, 0.07, 0.08), 5, 0.25)
        for i in range(6):
            x = 255.5 + i * 11.2
            c.part(c.area("box", (x - 2.4, 52.6, x + 2.4, 57.4), 0.6), GOLD, 5, 1.0, 0.8)

    def _can_footprint(self) -> None:
        """Print the outline and tin the two pads under the round capacitor."""
        c, (x, y) = self.canvas, CAN
        ring = c.area("ellipse", (x - 19, y - 19, x + 19, y + 19))
        ring -= c.area("ellipse", (x - 17.8, y - 17.8, x + 17.8, y + 17.8))
        c.paint(ring, SILK, 0.85)
        for dy in (-13, 13):
            c.part(c.area("box", (x - 5, y + dy - 8, x + 5, y + dy + 8), 1), TIN, 0.5, 0.9, 0.8)

    def _can(self) -> None:
        """Place the round aluminium capacitor."""
        c, (x, y) = self.canvas, CAN
        c.part(c.area("box", (x - 22, y - 22, x + 22, y + 22), 5), (0.10, 0.10, 0.11), 2, 0.3)
        top = c.area("ellipse", (x - 20, y - 20, x + 20, y + 20))
        brushed = 1 + 0.02 * self.rng.standard_normal((c.shape[0], 1))
        c.part(top, np.asarray((0.76, 0.77, 0.79)) * brushed[..., None], 10, 0.8, 1.6)
        left = top * c.area("box", (x - 20, y - 20, x - 11, y + 20))
        c.paint(left, (0.12, 0.12, 0.15), 0.92)
        for words, dy in (("220", -5), ("16V", 6)):
            c.paint(c.text((x + 4, y + dy), words, 9), (0.15, 0.15, 0.18), 0.85)

    def _chip(self, flipped: bool) -> None:
        """Place the big chip; flipped, its dot and print are at the other end."""
        c, (left, top, right, bottom) = self.canvas, CHIP
        for i in range(9):
            x = left + 7 + i * (right - left - 14) / 8
            for y0, y1 in ((top - 8, top + 2), (bottom - 2, bottom + 8)):
                c.part(c.area("box", (x - 1.9, y0, x + 1.9, y1), 0.5), TIN, 1.3, 1.0, 0.4)
        body = c.area("box", (left, top, right, bottom), 2)
        c.part(body, (0.085, 0.087, 0.095), 5, 0.18, 0.9)
        grain = 1 + 0.10 * self.rng.standard_normal(c.shape)
        c.rgb = np.where(body[..., None] > 0, c.rgb * grain[..., None], c.rgb)
        dot = (right - 9, top + 9) if flipped else (left + 9, bottom - 9)
        spot = c.area("ellipse", (dot[0] - 3.2, dot[1] - 3.2, dot[0] + 3.2, dot[1] + 3.2))
        c.part(spot, (0.05, 0.05, 0.055), -0.8, 0.3, 0.4)
        middle = ((left + right) / 2, (top + bottom) / 2)
        for words, dy in (("KV2403", -6), ("06395 A", 7)):
            sign = -1 if flipped else 1
            ink = c.text((middle[0], middle[1] + sign * dy), words, 11, 180 if flipped else 0)
            c.paint(ink, (0.62, 0.63, 0.62), 0.75)

    def _pads(self, x: float, y: float, upright: bool) -> None:
        """Tin the two pads of a small part."""
        for end in (-9, 9):
            px, py = (x, y + end) if upright else (x + end, y)
            self.canvas.part(
                self.canvas.area("box", (px - 4.5, py - 4.5, px + 4.5, py + 4.5), 1),
                TIN,
                0.5,
                0.9,
                0.8,
            )

    def _chip_part(self, name: str, x: float, y: float, upright: bool, code: str | None) -> None:
        """Place a small resistor (black, with a code) or capacitor (tan, without one)."""
        c = self.canvas
        x, y = x + self.rng.normal(0, 0.5), y + self.rng.normal(0, 0.5)
        half = (6, 10.5) if upright else (10.5, 6)
        body = c.area("box", (x - half[0], y - half[1], x + half[0], y + half[1]), 0.8)
        c.part(body, (0.80, 0.80, 0.79), 2.6, 0.9, 0.6)
        core = (6, 7) if upright else (7, 6)
        colour = (0.10, 0.10, 0.115) if code else np.array((0.62, 0.49, 0.34))
        if not code:
            colour = colour * (1 + self.rng.normal(0, 0.03))
        middle = c.area("box", (x - core[0], y - core[1], x + core[0], y + core[1]))
        c.paint(middle, colour, gloss=0.25)
        if code:
            ink = c.text((x, y), code, 7.5, 90 if upright else 0)
            c.paint(ink, (0.85, 0.85, 0.85), 0.85)

    def _led(self, x: float, y: float, colour: tuple[float, float, float]) -> None:
        """Place a small lamp with a clear dome."""
        c = self.canvas
        self._pads(x, y, False)
        c.part(c.area("box", (x - 9, y - 6, x + 9, y + 6), 1), (0.88, 0.87, 0.82), 2, 0.3)
        dome = c.area("ellipse", (x - 5.5, y - 5, x + 5.5, y + 5))
        c.part(dome, colour, 2.5, 1.0, 1.6)


def around(canvas: Canvas, x: float, y: float, half: tuple[float, float]) -> np.ndarray:
    """Return a rectangle about a part as float [H, W], for a mask."""
    return canvas.area("box", (x - half[0], y - half[1], x + half[0], y + half[1]), 1)


def scratched(board: Board, start: tuple[float, float], length: float, width: float) -> np.ndarray:
    """Scratch the board down to the copper; return the scratch as float [H, W]."""
    c = board.canvas
    points = wandering_line(board.rng, (start[0] * FINE, start[1] * FINE), 0.5, length * FINE, 0.05)
    line = stroke(c.shape, points, width * FINE, 0.6)
    c.paint(line, (0.80, 0.66, 0.46), 0.9, gloss=0.8)
    c.lift(line, -0.6, 0.3)
    return line


def bridged(board: Board) -> np.ndarray:
    """Join three legs of the chip with a drop of solder; return it as float [H, W]."""
    drop = board.canvas.area("box", (191, 176, 216, 188), 5)
    board.canvas.part(drop, TIN, 2.4, 1.0, 1.5)
    return drop


def shoot(board: Board, shot: Shot, mask: np.ndarray | None = None):
    """Photograph a board; return the picture and its mask."""
    return photograph(board.canvas, shot, board.rng, mask)


def circuit_board() -> ExampleSet:
    """Draw the set: boards of one batch, with parts missing, swapped, bridged or scratched."""
    rng = generator_for("circuit-board")

    def shot() -> Shot:
        return Shot.jittered(rng)

    normals = [shoot(Board(rng), shot())[0] for _ in range(6)]
    queries = [
        Query(f"good_{i}", shoot(Board(rng), shot())[0], "normal", "A complete board.")
        for i in (1, 2)
    ]

    def add(stem: str, note: str, board: Board, mask: np.ndarray) -> None:
        picture, posed = shoot(board, shot(), mask)
        queries.append(Query(stem, picture, "anomalous", note, posed))

    board = Board(rng, without=("can",))
    add(
        "missing_capacitor",
        "The round capacitor C5 was never placed.",
        board,
        around(board.canvas, *CAN, (22, 22)),
    )
    board = Board(rng, without=("C3", "R1"))
    add(
        "missing_small_parts",
        "C3 and R1 are missing: only their bare pads are left.",
        board,
        around(board.canvas, 128, 206, (7, 12)) + around(board.canvas, 112, 92, (12, 7)),
    )
    board = Board(rng)
    add("solder_bridge", "A drop of solder joins three legs of the chip.", board, bridged(board))
    board = Board(rng)
    add(
        "scratch",
        "A scratch runs across the tracks below the chip.",
        board,
        scratched(board, (150, 205), 110, 3.2),
    )
    board = Board(rng, flipped_chip=True)
    add(
        "reversed_chip",
        "A logical fault: the chip is soldered the wrong way round.",
        board,
        around(board.canvas, 199, 144, (41, 32)),
    )
    return ExampleSet(
        name="circuit-board",
        title="Circuit board",
        object_name="printed circuit board",
        family="industrial",
        caption="Boards from one production line; find the one with a part missing or misplaced.",
        source=DRAWN,
        licence=DRAWN_LICENCE,
        normals=normals,
        queries=queries,
    )
