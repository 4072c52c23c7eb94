"""A small studio: shapes with height on a canvas, a lamp, and a camera.

Parts are painted with a colour, a height and a gloss; the lamp turns heights into shading, shadows
and highlights; the camera adds pose, exposure, vignetting and sensor noise. Coordinates are pixels
of the finished image; the canvas is finer by `FINE`, which is what anti-aliases the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .pixels import mix, smooth_noise, to_image

FINE = 3


class Canvas:
    """Colour, height and gloss of a flat scene seen from above.

    Attributes:
        rgb: float [H, W, 3], 0 to 1, colour under even light.
        steps: Raised areas by bevel, float [H, W] each, in pixels of the finished image.
        gloss: float [H, W], 0 (chalk) to 1 (polished).
    """

    def __init__(self, width: int, height: int, colour: tuple[float, float, float]) -> None:
        """Start with an empty table of one colour; width and height in finished pixels."""
        shape = (height * FINE, width * FINE)
        self.rgb = np.ones((*shape, 3)) * np.asarray(colour)
        self.steps: dict[float, np.ndarray] = {}
        self.gloss = np.zeros(shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the fine canvas."""
        return self.gloss.shape

    def area(self, kind: str, box: Sequence[float], extra: float = 0) -> np.ndarray:
        """Return the area of a shape as float [H, W], 0 or 1.

        Args:
            kind: "box" (corner radius `extra`), "ellipse", or "line" (width `extra`).
            box: Left, top, right, bottom; for a line x and y of each point.
            extra: See `kind`, in pixels.
        """
        image = Image.new("L", self.shape[::-1])
        draw = ImageDraw.Draw(image)
        scaled = [v * FINE for v in box]
        if kind == "box":
            draw.rounded_rectangle(scaled, radius=extra * FINE, fill=255)
        elif kind == "ellipse":
            draw.ellipse(scaled, fill=255)
        elif kind == "line":
            draw.line(scaled, fill=255, width=round(extra * FINE), joint="curve")
        else:
            raise ValueError(f"Unknown shape {kind!r}: use box, ellipse or line.")
        return np.asarray(image, dtype=np.float64) / 255

    def text(self, position: tuple[float, float], words: str, size: float, angle: int = 0):
        """Return the area of printed words, centred at `position`, as float [H, W]."""
        font = ImageFont.load_default(size=size * FINE)
        image = Image.new("L", self.shape[::-1])
        x, y = position[0] * FINE, position[1] * FINE
        ImageDraw.Draw(image).text((x, y), words, fill=255, font=font, anchor="mm")
        if angle:
            image = image.rotate(angle, Image.Resampling.BICUBIC, center=(x, y))
        return np.asarray(image, dtype=np.float64) / 255

    def paint(
        self,
        area: np.ndarray,
        colour: np.ndarray | tuple[float, float, float],
        alpha: float = 1.0,
        gloss: float | None = None,
    ) -> None:
        """Colour an area, and set its gloss where one is given."""
        window = _window(area)
        colour = np.asarray(colour)
        if colour.ndim == 3:
            # A brushed part may come as one column or row: spread it before cutting the window.
            colour = np.broadcast_to(colour, self.rgb.shape)[window]
        self.rgb[window] = mix(self.rgb[window], colour, area[window] * alpha)
        if gloss is not None:
            self.gloss[window] += (gloss - self.gloss[window]) * area[window]

    def lift(self, area: np.ndarray, height: float, bevel: float = 0.6) -> None:
        """Raise an area (or sink it, below 0) with edges rounded over `bevel` pixels."""
        # Blurring is linear, so areas of one bevel are summed here and blurred once in `lit`.
        if bevel not in self.steps:
            self.steps[bevel] = np.zeros(self.shape)
        window = _window(area)
        self.steps[bevel][window] += area[window] * height

    def part(
        self,
        area: np.ndarray,
        colour: np.ndarray | tuple[float, float, float],
        height: float,
        gloss: float = 0.2,
        bevel: float = 0.6,
    ) -> None:
        """Put a solid part on the table: colour, gloss and height at once."""
        self.paint(area, colour, gloss=gloss)
        self.lift(area, height, bevel)

    def lit(self, azimuth: float, shadow: float = 0.55) -> np.ndarray:
        """Shade the scene with one lamp.

        Args:
            azimuth: Direction towards the lamp in the picture, in radians (0 is right, y is down).
            shadow: Darkness of the cast shadows, 0 to 1.

        Returns:
            float [H, W, 3] at the fine size.
        """
        height = sum(ndimage.gaussian_filter(a, b * FINE) for b, a in self.steps.items())
        smooth = ndimage.gaussian_filter(height, 0.5 * FINE) * FINE
        slope_y, slope_x = np.gradient(smooth)
        norm = np.sqrt(1 + slope_x**2 + slope_y**2)
        toward = np.array([np.cos(azimuth), np.sin(azimuth)])
        lamp = np.array([*(0.62 * toward), 0.78])
        facing = (-slope_x * lamp[0] - slope_y * lamp[1] + lamp[2]) / norm / lamp[2]
        half = np.array([*(0.33 * toward), 0.944])
        shine = np.clip((-slope_x * half[0] - slope_y * half[1] + half[2]) / norm, 0, 1) ** 60
        flat_shine = half[2] ** 60
        shade = 1 - shadow * _cast_shadow(height, toward)
        lit = self.rgb * (0.35 + 0.65 * np.clip(facing, 0, 1.6))[..., None] * shade[..., None]
        return lit + (self.gloss * np.clip(shine - flat_shine, 0, 1) * 0.75 * shade)[..., None]


def _window(area: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that an area touches, so that small parts stay cheap."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    if rows.size == 0:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _cast_shadow(height: np.ndarray, toward: np.ndarray) -> np.ndarray:
    """Return how deep each place lies in shadow, float [H, W], 0 to 1."""
    shadow = np.zeros(height.shape)
    for step in range(2, 13, 2):
        offset = -toward[::-1] * step * FINE / 2
        moved = ndimage.shift(height, offset, order=1, mode="nearest")
        shadow = np.maximum(shadow, moved - height - step * 0.45)
    return ndimage.gaussian_filter(np.clip(shadow, 0, 1), 0.8 * FINE)


@dataclass(frozen=True)
class Shot:
    """How one photograph is taken.

    Attributes:
        angle: Rotation of the object, in degrees.
        shift: Displacement x and y, in pixels.
        zoom: Magnification.
        gain: Exposure; 1 is right.
        warmth: Colour of the light; above 0 yellow, below 0 blue.
        azimuth: Direction towards the lamp, in radians.
        noise: Standard deviation of the sensor noise, 0 to 1.
        falloff: How much darker the corner away from the lamp is, 0 to 1.
    """

    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    gain: float = 1.0
    warmth: float = 0.0
    azimuth: float = -2.3
    noise: float = 0.012
    falloff: float = 0.12

    @classmethod
    def jittered(cls, rng: np.random.Generator, amount: float = 1.0, turn: float = 1.5) -> Shot:
        """Return a shot with the small differences of a hand-placed object.

        Args:
            rng: Source of randomness.
            amount: Strength; 1 moves by some 2 pixels and changes the light by some percent.
            turn: Standard deviation of the rotation, in degrees.
        """
        return cls(
            angle=rng.normal(0, turn),
            shift=(rng.normal(0, 2 * amount), rng.normal(0, 2 * amount)),
            zoom=1 + rng.normal(0, 0.008 * amount),
            gain=1 + rng.normal(0, 0.03 * amount),
            warmth=rng.normal(0, 0.012 * amount),
            azimuth=-2.3 + rng.normal(0, 0.08 * amount),
        )


def photograph(
    canvas: Canvas, shot: Shot, rng: np.random.Generator, mask: np.ndarray | None = None
) -> tuple[Image.Image, np.ndarray | None]:
    """Take a picture of a canvas.

    Args:
        canvas: The scene.
        shot: Pose, light and exposure.
        rng: Source of the sensor noise.
        mask: float [H, W] at the canvas's fine size: where the scene is anomalous, or None.

    Returns:
        The picture, and its mask as bool at the picture's size (None where none was given).
    """
    angle = np.radians(shot.angle)
    # The lamp stays where it is when the object turns.
    lit = canvas.lit(shot.azimuth + angle)
    channels = [_pose(lit[..., c], shot) for c in range(3)]
    picture = ndimage.gaussian_filter(np.stack(channels, axis=-1), (0.35, 0.35, 0))
    height, width = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    toward = x * np.cos(shot.azimuth) + y * np.sin(shot.azimuth)
    light = 1 + shot.falloff * (0.7 * toward - 0.5 * (x**2 + y**2) / 2)
    tint = np.array([1 + shot.warmth, 1, 1 - shot.warmth])
    picture = picture * (light * shot.gain)[..., None] * tint
    grain = rng.standard_normal(picture.shape) * 0.6
    grain += smooth_noise(rng, (height, width), 0.7)[..., None] * 0.6
    picture = picture + shot.noise * grain * np.sqrt(np.clip(picture, 0.05, 1))
    posed = None if mask is None else _pose(mask, shot, border="constant") > 0.4
    return to_image(picture), posed


def _pose(plane: np.ndarray, shot: Shot, border: str = "reflect") -> np.ndarray:
    """Rotate, move and scale one fine plane, and reduce it to the finished size."""
    angle = np.radians(shot.angle)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turn = turn / shot.zoom
    middle = (np.array(plane.shape) - 1) / 2
    offset = middle - turn @ (middle + np.array(shot.shift[::-1]) * FINE)
    moved = ndimage.affine_transform(plane, turn, offset, order=1, mode=border)
    height, width = plane.shape[0] // FINE, plane.shape[1] // FINE
    return moved.reshape(height, FINE, width, FINE).mean(axis=(1, 3))
