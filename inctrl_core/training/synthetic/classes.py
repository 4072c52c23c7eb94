"""Procedural classes: what one class's good images have in common, and its bad ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .anomalies import KINDS
from .bodies import BodyClass, random_body
from .fields import Generator, blend, smooth_noise, to_image
from .objects import ObjectClass, random_object
from .photographs import PhotographClass, random_photograph
from .textures import TextureClass, random_texture
from .variation import Variation, random_variation, vary

Recipe = TextureClass | ObjectClass | BodyClass | PhotographClass

# Anomalies of the recipe itself, and how often each group of kinds is drawn.
STRUCTURAL = ("changed", "changed_region", "other_class")
STRUCTURAL_SHARE = 0.3

# On a texture these leave another instance of the same texture.
NOT_ON_TEXTURES = ("shuffle", "turn", "bite")

WANDERS = 0.1  # A window that moves by more than this share shows a material, not an object.

ATTEMPTS = 4
VISIBLE_CHANGE = 0.08  # Of [0, 1], in any channel.
VISIBLE_PIXELS = 30


@dataclass(frozen=True, eq=False)
class ProceduralClass:
    """One class of the procedural source.

    Attributes:
        index: Its number within the source.
        seed: Seed of the source.
        recipes: The kinds of good image; more than one where the class has variants.
        other: A recipe of another class.
        variation: How good images vary.
        kinds: Keys of ``KINDS`` that this class's anomalies are drawn from.
    """

    index: int
    seed: int
    recipes: tuple[Recipe, ...]
    other: Recipe
    variation: Variation
    kinds: tuple[str, ...]

    def normal(self, number: int) -> Image.Image:
        """Good image ``number``: RGB, S x S, the same for the same arguments."""
        rng = self._generator(0, number)
        return to_image(vary(self._recipe(rng).render(rng), self.variation, rng))

    def anomalous(self, number: int) -> tuple[Image.Image, str]:
        """Bad image ``number`` and the name of its kind of anomaly.

        About one in 20 can hardly be seen: where every attempt at a defect failed, and where the
        class's own mutation changes little. Training bears with them as with wrong labels.
        """
        rng = self._generator(1, number)
        recipe = self._recipe(rng)
        kind = str(rng.choice(STRUCTURAL if rng.random() < STRUCTURAL_SHARE else self.kinds))
        pixels = recipe.render(rng)
        if kind == "changed":
            changed = recipe.mutate(rng)
            pixels = (changed.mutate(rng) if rng.random() < 0.5 else changed).render(rng)
        elif kind == "changed_region":
            mask = np.clip(6 * smooth_noise(rng, 3, 3) + rng.uniform(-2, 1.5), 0, 1)
            pixels = blend(pixels, recipe.mutate(rng).mutate(rng).render(rng), mask)
        elif kind == "other_class":
            pixels = self.other.render(rng)
        else:
            pixels = self._spoil(pixels, kind, rng)
        return to_image(vary(pixels, self.variation, rng)), kind

    def _spoil(self, pixels: np.ndarray, kind: str, rng: Generator) -> np.ndarray:
        # Drawn again where it can hardly be seen: such an image would be bad by name only.
        foreign = self.other.render(rng)
        limit = VISIBLE_CHANGE + 2 * self.variation.noise
        for _ in range(ATTEMPTS):
            changed = KINDS[kind](pixels, foreign, rng)
            change = np.abs(np.clip(changed, 0, 1) - np.clip(pixels, 0, 1)).max(axis=2)
            if (change > limit).sum() >= VISIBLE_PIXELS:
                break
        return changed

    def _recipe(self, rng: Generator) -> Recipe:
        return self.recipes[int(rng.integers(len(self.recipes)))]

    def _generator(self, side: int, number: int) -> Generator:
        return np.random.default_rng((self.seed, self.index, 1, side, number))


def procedural_class(seed: int, index: int) -> ProceduralClass:
    """Class ``index`` of the source ``seed``: every class is made from those two numbers alone."""
    rng = np.random.default_rng((seed, index, 0))
    base = _random_recipe(rng)
    recipes = (base,)
    if rng.random() < 0.25:
        recipes += tuple(base.mutate(rng) for _ in range(int(rng.integers(1, 3))))
    same_family = rng.random() < 0.5
    other = _random_recipe(rng, type(base) if same_family else None)
    kinds = _random_kinds(rng, isinstance(base, TextureClass))
    return ProceduralClass(index, seed, recipes, other, random_variation(rng), kinds)


def photographed_class(seed: int, index: int) -> ProceduralClass:
    """As :func:`procedural_class`, from photographs; a source of its own, with its own numbers."""
    rng = np.random.default_rng((seed, index, 2))
    base = random_photograph(rng)
    other = random_photograph(rng) if rng.random() < 0.5 else _random_recipe(rng)
    kinds = _random_kinds(rng, base.wander > WANDERS)
    return ProceduralClass(index, seed, (base,), other, random_variation(rng), kinds)


def _random_kinds(rng: Generator, material: bool) -> tuple[str, ...]:
    count = int(rng.integers(4, len(KINDS) + 1))  # Four at least, so that some remain.
    kinds = (str(kind) for kind in rng.choice(list(KINDS), count, replace=False))
    return tuple(kind for kind in kinds if not (material and kind in NOT_ON_TEXTURES))


def _random_recipe(rng: Generator, kind: type | None = None) -> Recipe:
    draw = rng.random()
    if kind is TextureClass or (kind is None and draw < 0.42):
        return random_texture(rng)
    if kind is ObjectClass or (kind is None and draw < 0.82):
        return random_object(rng)
    return random_body(rng)
