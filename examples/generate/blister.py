"""A drawn pill blister: ten tablets under clear domes on embossed foil."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .board import DRAWN, DRAWN_LICENCE, around
from .pixels import blob, fractal_noise, soft_step, stroke, wandering_line
from .records import ExampleSet, Query, generator_for
from .studio import FINE, Canvas, Shot, photograph

WIDTH, HEIGHT = 400, 260
FOIL, TABLET = (0.70, 0.71, 0.73), (0.90, 0.885, 0.85)
PLACES = [(72 + 64 * (i % 5), 88 + 84 * (i // 5)) for i in range(10)]


class Blister:
    """One blister on a steel-blue table.

    Args:
        rng: Source of the small differences between blisters.
        empty: Places 0 to 9 that hold no tablet.
        broken: Places that hold half a tablet.
        colours: Colour of the tablet at a place, where it is not the usual one.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        empty: tuple[int, ...] = (),
        broken: tuple[int, ...] = (),
        colours: dict[int, tuple[float, float, float]] | None = None,
    ) -> None:
        self.rng = rng
        self.lost = np.zeros((HEIGHT * FINE, WIDTH * FINE))
        c = self.canvas = Canvas(WIDTH, HEIGHT, (0.22, 0.31, 0.40))
        c.rgb *= (1 + 0.04 * fractal_noise(rng, c.shape, 9))[..., None]
        card = c.area("box", (24, 32, 376, 228), 14)
        c.part(card, FOIL, 2.5, gloss=0.5, bevel=0.8)
        self._emboss(card)
        for place, (x, y) in enumerate(PLACES):
            self._pocket(x, y)
            if place not in empty:
                colour = (colours or {}).get(place, TABLET)
                self._tablet(x, y, colour, place in broken)
            self._dome(x, y)
        c.paint(c.text((200, 130), "SAMPLE  40 mg", 12), (0.16, 0.24, 0.46), 0.85)
        for x in (92, 308):
            c.paint(c.text((x, 130), "LOT 2403", 9), (0.16, 0.24, 0.46), 0.7)

    def _emboss(self, card: np.ndarray) -> None:
        """Press the fine waffle of the sealing tool into the foil, and crinkle it a little."""
        c = self.canvas
        y, x = np.mgrid[: c.shape[0], : c.shape[1]] / FINE
        waffle = np.sin((x + y) * 1.1) * np.sin((x - y) * 1.1)
        c.lift(card * waffle, 0.16, 0.3)
        c.lift(card * fractal_noise(self.rng, c.shape, 30), 0.5, 2.0)

    def _pocket(self, x: float, y: float) -> None:
        """Darken the foil under one dome."""
        c = self.canvas
        c.paint(c.area("ellipse", (x - 27, y - 27, x + 27, y + 27)), (0.55, 0.57, 0.60), 0.6, 0.3)

    def _tablet(self, x: float, y: float, colour: tuple, broken: bool) -> None:
        """Lay one scored tablet, or a broken half, at a slightly different place each time."""
        c, rng = self.canvas, self.rng
        x, y, score = x + rng.normal(0, 1.1), y + rng.normal(0, 1.1), rng.normal(0.3, 0.25)
        disc = c.area("ellipse", (x - 20, y - 20, x + 20, y + 20))
        if broken:
            whole = disc
            edge = wandering_line(rng, ((x - 26) * FINE, (y + 14) * FINE), -0.45, 70 * FINE, 0.2)
            wall = [*edge, (edge[-1][0], 0.0), (edge[0][0], 0.0)]
            flat = [v / FINE for point in wall for v in point]
            disc = disc * _polygon(c, flat)
            self.lost = np.maximum(self.lost, whole - disc)
        grain = 1 + 0.02 * fractal_noise(rng, c.shape, 2)
        c.part(disc, np.asarray(colour) * grain[..., None], 5.5, 0.12, 2.2)
        dx, dy = 17 * np.cos(score), 17 * np.sin(score)
        line = c.area("line", (x - dx, y - dy, x + dx, y + dy), 1.8) * disc
        c.lift(line, -1.6, 0.5)
        c.paint(line, tuple(v * 0.86 for v in colour), 0.6)

    def _dome(self, x: float, y: float) -> None:
        """Add the clear dome: a rim, and the two reflections of the lamp."""
        c = self.canvas
        outer = c.area("ellipse", (x - 28, y - 28, x + 28, y + 28))
        inner = c.area("ellipse", (x - 25, y - 25, x + 25, y + 25))
        c.paint(outer - inner, (0.84, 0.86, 0.89), 0.55, gloss=1.0)
        c.lift(outer, 1.6, 1.0)
        yy, xx = np.mgrid[: c.shape[0], : c.shape[1]] / FINE
        radius, angle = np.hypot(xx - x, yy - y), np.arctan2(yy - y, xx - x)
        for centre, width, strength in ((-2.3, 0.55, 0.6), (0.85, 0.35, 0.25)):
            away = np.abs((angle - centre + np.pi) % (2 * np.pi) - np.pi)
            glint = soft_step(width - away, 0.4) * soft_step(1.5 - np.abs(radius - 22.5), 1.6)
            c.paint(glint, (1.0, 1.0, 1.0), strength)

    def hair(self, place: int) -> np.ndarray:
        """Seal a hair into a pocket; return it as float [H, W]."""
        x, y = PLACES[place]
        start = ((x - 21) * FINE, (y + 8) * FINE)
        points = wandering_line(self.rng, start, -0.35, 46 * FINE, 0.10)
        line = stroke(self.canvas.shape, points, 2.0 * FINE, 0.4)
        self.canvas.paint(line, (0.10, 0.07, 0.05), 0.92, gloss=0.1)
        return line

    def burn(self) -> np.ndarray:
        """Scorch the foil, and melt a dome that lies there; return the patch as float [H, W]."""
        x, y = PLACES[3]
        fine = ((x + 24) * FINE, (y + 40) * FINE), (30 * FINE, 22 * FINE)
        signed = blob(self.rng, self.canvas.shape, *fine, 0.4)
        patch = soft_step(signed, 0.5)
        shade = 1 + 0.2 * fractal_noise(self.rng, self.canvas.shape, 8)
        self.canvas.paint(patch, np.asarray((0.25, 0.17, 0.10)) * shade[..., None], 0.8, gloss=0.1)
        self.canvas.lift(patch * fractal_noise(self.rng, self.canvas.shape, 6), 1.6, 0.8)
        return patch


def _polygon(canvas: Canvas, flat: list[float]) -> np.ndarray:
    """Return the area inside a closed line given as x, y, x, y in pixels, as float [H, W]."""
    image = Image.new("L", canvas.shape[::-1])
    ImageDraw.Draw(image).polygon([v * FINE for v in flat], fill=255)
    return np.asarray(image, dtype=np.float64) / 255


def pill_blister() -> ExampleSet:
    """Draw the set: full blisters, and ones with a tablet missing, broken, wrong or dirty."""
    rng = generator_for("pill-blister")

    def shoot(item: Blister, mask: np.ndarray | None = None) -> tuple[Image.Image, np.ndarray]:
        return photograph(item.canvas, Shot.jittered(rng), rng, mask)

    normals = [shoot(Blister(rng))[0] for _ in range(5)]
    queries = [
        Query(f"good_{i}", shoot(Blister(rng))[0], "normal", "Ten whole tablets.") for i in (1, 2)
    ]

    def add(stem: str, note: str, item: Blister, mask: np.ndarray) -> None:
        picture, posed = shoot(item, mask)
        queries.append(Query(stem, picture, "anomalous", note, posed))

    item = Blister(rng, empty=(2,))
    add(
        "missing_tablet",
        "One pocket is empty: every patch of it is clean, yet it is wrong.",
        item,
        around(item.canvas, *PLACES[2], (20, 20)),
    )
    item = Blister(rng, broken=(6,))
    add("broken_tablet", "Half a tablet has crumbled away.", item, item.lost)
    item = Blister(rng, colours={7: (0.80, 0.42, 0.38)})
    disc = [PLACES[7][0] - 20, PLACES[7][1] - 20, PLACES[7][0] + 20, PLACES[7][1] + 20]
    add("wrong_tablet", "A tablet of another drug.", item, item.canvas.area("ellipse", disc))
    item = Blister(rng)
    add("hair", "A hair is sealed in with a tablet.", item, item.hair(1))
    item = Blister(rng)
    add("scorched_foil", "The sealing tool was too hot and scorched the foil.", item, item.burn())
    return ExampleSet(
        name="pill-blister",
        title="Pill blister",
        object_name="pill blister pack",
        family="industrial",
        caption="Packs of ten tablets; look for a tablet that is missing, broken, wrong or dirty.",
        source=DRAWN,
        licence=DRAWN_LICENCE,
        normals=normals,
        queries=queries,
    )
