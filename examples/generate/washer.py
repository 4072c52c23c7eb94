"""Drawn steel washers that lie at any angle: the method must not mind rotation here."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from .board import DRAWN, DRAWN_LICENCE
from .pixels import blob, fractal_noise, smooth_noise, soft_step, stroke, wandering_line
from .records import ExampleSet, Query, generator_for
from .studio import FINE, Canvas, Shot, photograph

WIDTH, HEIGHT = 340, 280
OUTER, INNER = 104.0, 46.0
STEEL = (0.66, 0.67, 0.69)


class Washer:
    """One washer on a dark rubber mat.

    Args:
        rng: Source of the small differences between washers.
        bite: Radius in pixels of a piece broken out of the rim; 0 for none.
        ground: Finished with a belt, which leaves straight lines, instead of turned.
    """

    def __init__(self, rng: np.random.Generator, bite: float = 0.0, ground: bool = False) -> None:
        self.rng = rng
        c = self.canvas = Canvas(WIDTH, HEIGHT, (0.17, 0.20, 0.23))
        c.rgb *= (1 + 0.07 * fractal_noise(rng, c.shape, 5))[..., None]
        y, x = np.mgrid[: c.shape[0], : c.shape[1]]
        self.x, self.y = x / FINE - WIDTH / 2, y / FINE - HEIGHT / 2
        self.radius = np.hypot(self.x, self.y)
        self.angle = np.arctan2(self.y, self.x)
        ring = soft_step(OUTER - self.radius, 1) * soft_step(self.radius - INNER, 1)
        self.bitten = np.zeros(c.shape)
        if bite:
            ragged = blob(rng, c.shape, self._at(0.6, OUTER + 2), (bite * FINE, bite * FINE), 0.18)
            self.bitten = soft_step(ragged, 0.05) * ring
            ring = ring - self.bitten
        # Turning on a lathe leaves fine grooves along the circle; a belt leaves straight ones.
        across = self.y % 160 if ground else self.radius
        groove = np.interp(across, np.arange(160), rng.normal(0, 1, 160))
        streak = smooth_noise(rng, c.shape, 1.0)
        metal = np.asarray(STEEL) * (1 + 0.035 * groove + 0.02 * streak)[..., None]
        c.part(ring, metal, 6, gloss=0.8, bevel=1.4)
        self.ring = ring
        # Turned metal shows the lamp as two opposite bright fans, ground metal as one broad gleam.
        fan = np.exp(-((self.x / 60) ** 2)) if ground else np.cos(self.angle + 2.3) ** 2
        c.rgb *= (1 + ring * (0.34 * fan**3 - 0.10))[..., None]
        for edge in (OUTER - 4.5, INNER + 4.5):
            line = soft_step(1.1 - np.abs(self.radius - edge), 1.2) * ring
            c.paint(line, (0.50, 0.51, 0.53), 0.45)

    def _at(self, angle: float, radius: float) -> tuple[float, float]:
        """Return the fine x and y of a place given by angle and radius."""
        x = WIDTH / 2 + radius * np.cos(angle)
        return x * FINE, (HEIGHT / 2 + radius * np.sin(angle)) * FINE

    def scratch(self) -> np.ndarray:
        """Cut two long scratches across the ring; return them as float [H, W]."""
        lines = np.zeros(self.canvas.shape)
        for turn, length, width in ((0.0, 78, 2.6), (0.22, 44, 1.8)):
            start = self._at(2.2 + turn, INNER + 6)
            points = wandering_line(self.rng, start, 2.9 + turn, length * FINE, 0.03)
            lines = np.maximum(lines, stroke(self.canvas.shape, points, width * FINE, 0.5))
        lines *= self.ring
        dark = np.roll(lines, FINE, axis=0) * self.ring
        self.canvas.paint(dark, (0.24, 0.24, 0.26), 0.75)
        self.canvas.paint(lines, (0.93, 0.94, 0.96), 0.9, gloss=1.0)
        return np.maximum(lines, dark)

    def rust(self) -> np.ndarray:
        """Let a patch of the ring rust; return it as float [H, W]."""
        shape = self.canvas.shape
        signed = blob(self.rng, shape, self._at(0.9, 78), (30 * FINE, 24 * FINE), 0.4)
        patch = soft_step(signed, 0.35) * self.ring
        speck = soft_step(fractal_noise(self.rng, shape, 8) - 0.2, 0.8)
        patch = np.clip(patch * (0.80 + 0.35 * speck), 0, 1)
        shade = 1 + 0.22 * fractal_noise(self.rng, shape, 6)
        self.canvas.paint(patch, np.asarray((0.42, 0.20, 0.09)) * shade[..., None], 0.92, gloss=0.0)
        return patch

    def dent(self) -> np.ndarray:
        """Hit the ring with a hard edge; return the dent as float [H, W]."""
        x, y = self._at(-1.1, 75)
        dent = np.zeros(self.canvas.shape)
        for dx, dy, rx, ry in ((0, 0, 17, 12), (13, 8, 9, 7)):
            cx, cy = x + dx * FINE, y + dy * FINE
            box = [(cx / FINE - rx), (cy / FINE - ry), (cx / FINE + rx), (cy / FINE + ry)]
            dent = np.maximum(dent, self.canvas.area("ellipse", box))
        dent *= self.ring
        self.canvas.lift(dent, -4.5, 2.2)
        self.canvas.paint(ndimage.gaussian_filter(dent, 2 * FINE), (0.34, 0.35, 0.37), 0.5)
        return dent

    def oil(self) -> np.ndarray:
        """Spill a drop of oil over ring and mat; return it as float [H, W]."""
        shape = self.canvas.shape
        signed = blob(self.rng, shape, self._at(2.5, 92), (34 * FINE, 27 * FINE), 0.3)
        drop = soft_step(signed, 0.10)
        self.canvas.paint(drop, (0.10, 0.065, 0.03), 0.72, gloss=1.0)
        self.canvas.lift(drop, 2.5, 3.5)
        return drop


def washer() -> ExampleSet:
    """Draw the set: turned steel washers, each lying at an angle of its own."""
    rng = generator_for("washer")

    def shoot(item: Washer, mask: np.ndarray | None = None) -> tuple[Image.Image, np.ndarray]:
        # The fans of light stay with the lamp in life; a small turn hides that they do not here.
        return photograph(item.canvas, Shot.jittered(rng, turn=9), rng, mask)

    normals = [shoot(Washer(rng))[0] for _ in range(6)]
    queries = [
        Query(f"good_{i}", shoot(Washer(rng))[0], "normal", "A clean washer.") for i in (1, 2)
    ]
    notes = {
        "scratch": "Two scratches across the turned face.",
        "rust": "A patch of rust.",
        "dent": "A dent; the metal is all there, only its shape is wrong.",
        "oil": "Contamination: a drop of dark oil.",
    }
    for stem, note in notes.items():
        item = Washer(rng)
        picture, mask = shoot(item, getattr(item, stem)())
        queries.append(Query(stem, picture, "anomalous", note, mask))
    item = Washer(rng, bite=24)
    picture, mask = shoot(item, item.bitten)
    queries.append(Query("broken_rim", picture, "anomalous", "A piece of the rim is gone.", mask))
    return ExampleSet(
        name="washer",
        title="Steel washer",
        object_name="metal washer",
        family="industrial",
        caption="Turned steel washers; scratches, rust and dents show where metal went wrong.",
        source=DRAWN,
        licence=DRAWN_LICENCE,
        normals=normals,
        queries=queries,
    )
