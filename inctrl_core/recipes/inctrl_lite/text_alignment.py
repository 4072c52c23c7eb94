"""A small text transformer trained against a locked image tower (after LiT, arXiv 2111.07991).

There are no captions to learn from, so the targets are built: a shared direction m (where images
lie on average), the noun's row w (see :mod:`.noun_targets`), and the direction of damage d (see
:mod:`.damage_direction`), positive for wordings that say damaged and negative for intact. The sum
is a unit vector in which d stands perpendicular to m + w, so an image that is just what the noun
says is neutral, and words that are not known move nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from tqdm import tqdm

from .noun_targets import GENERIC_NOUNS, NounTargets
from .text_phrases import (
    ABSENCE_TEMPLATES,
    DAMAGED_STATES,
    INTACT_STATES,
    NEUTRAL_STATES,
    TRAINING_TEMPLATES,
)

# Share of d in a target. With cosines scaled by 100 it puts log-odds between intact and damaged at
# a spread of about two over varied pictures: seen, but not saturated.
DAMAGE_SHARE = 0.2
# Sharpness of the choice among the 1000 classes.
CLASS_SCALE = 30.0
# Damage is a small part of a target, and would be the last thing learnt without a weight.
DAMAGE_WEIGHT = 2.0
CLASS_SHARE, WORD_SHARE = 0.55, 0.3  # The rest of a batch are generic or unknown nouns.
UNKNOWN_RATE = 0.08


@dataclass(frozen=True)
class Targets:
    """Where strings belong, in coordinates of the text tower's width W.

    Attributes:
        basis: Orthonormal rows, [W, E]; the text projection.
        mean: Unit shared direction, [W].
        class_rows: [1000, W], unit norm.
        word_rows: [words, W], norm as in :class:`NounTargets`.
        damage: Unit direction, [W].
    """

    basis: Tensor
    mean: Tensor
    class_rows: Tensor
    word_rows: Tensor
    damage: Tensor

    def neutral(self, rows: Tensor) -> Tensor:
        """Unit targets [N, W] of nouns with rows [N, W]."""
        return F.normalize(self.mean + rows, dim=-1)

    def place(self, neutral: Tensor, state: float) -> Tensor:
        """Targets of the same nouns in a state from -1 (intact) to 1 (damaged)."""
        along = (neutral @ self.damage)[:, None] * neutral
        across = F.normalize(self.damage - along, dim=-1)
        return F.normalize(neutral + state * DAMAGE_SHARE * across, dim=-1)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: Optimizer steps.
        nouns: Nouns in a batch; each comes as a neutral, an intact and a damaged string.
        learning_rate: Peak of a cosine with a short warm-up.
    """

    steps: int = 1000
    nouns: int = 64
    learning_rate: float = 3e-3


def build_targets(nouns: NounTargets, mean: Tensor, damage: Tensor, width: int) -> Targets:
    """Finds the ``width`` coordinates that keep most of the classes, and all of mean and damage.

    Args:
        nouns: Rows in image space.
        mean: Mean unit embedding of intact pictures, [E].
        damage: Direction of damage, [E].
        width: Width of the text tower.
    """
    exact = torch.linalg.qr(torch.stack([mean, damage]).double().T)[0].T
    rows = nouns.class_rows.double()
    rest = rows - rows @ exact.T @ exact
    leading = torch.linalg.svd(rest, full_matrices=False)[2][: width - 2]
    basis = torch.cat([exact, leading]).float()
    words = nouns.word_rows @ basis.T
    # What the coordinates drop would make every noun vague; its length is given back.
    words = F.normalize(words, dim=-1) * nouns.word_rows.norm(dim=-1, keepdim=True)
    return Targets(
        basis,
        F.normalize(basis @ mean, dim=0),
        F.normalize(rows.float() @ basis.T, dim=-1),
        words,
        F.normalize(basis @ damage.float(), dim=0),
    )


def encode_tokens(clip: CLIP, tokens: Tensor) -> Tensor:
    """The text tower before its projection, [N, L] to [N, W], for contexts cut to any L.

    open_clip's own ``encode_text`` needs the full context, which costs five times as much here.
    """
    length = tokens.shape[1]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(dim=1)]


class PhraseSampler:
    """Draws batches of strings with their targets.

    Args:
        nouns: Nouns and their rows.
        targets: The same in the tower's coordinates.
        seed: Seed of the draws.
    """

    def __init__(self, nouns: NounTargets, targets: Targets, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._tokenizer = SimpleTokenizer()
        self._targets = targets
        self._classes = [[self.tokens(name) for name in names] for names in nouns.classes]
        self._words = [self.tokens(word) for word in nouns.words]
        self._generic = [self.tokens(word) for word in GENERIC_NOUNS]
        pieces = [*TRAINING_TEMPLATES, *ABSENCE_TEMPLATES]
        pieces += [*DAMAGED_STATES, *INTACT_STATES, *NEUTRAL_STATES]
        seen = {token for piece in pieces for token in self.tokens(piece.replace("{}", " "))}
        parts = (*(n for names in self._classes for n in names), *self._words, *self._generic)
        self._noun_tokens = sorted({token for part in parts for token in part})
        self.seen = seen | set(self._noun_tokens)
        ends = (self._tokenizer.sot_token_id, self._tokenizer.eot_token_id)
        self.seen |= set(ends)
        # One stand-in for every token that no training string has.
        self.unknown = next(t for t in range(ends[0]) if t not in self.seen)

    def tokens(self, text: str) -> list[int]:
        """Token ids of a piece of text, without start and end."""
        return self._tokenizer.encode(text.strip())

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """One batch.

        Returns:
            Token ids [3 * count, L], neutral strings first, then intact, then damaged; targets
            [3 * count, W]; class numbers [count], -1 where the noun is no class.
        """
        drawn = [self._noun() for _ in range(count)]
        labels = torch.tensor([label for _, _, label in drawn])
        neutral = self._targets.neutral(torch.stack([row for _, row, _ in drawn]))
        strings: list[list[list[int]]] = [[], [], []]
        for index, (ids, _, _) in enumerate(drawn):
            absent = self._rng.random() < 0.03
            template = self._pick(ABSENCE_TEMPLATES if absent else TRAINING_TEMPLATES)
            if absent:  # "without a cat" says nothing of what there is instead.
                neutral[index] = self._targets.mean
                labels[index] = -1
            for side, states in enumerate((NEUTRAL_STATES, INTACT_STATES, DAMAGED_STATES)):
                state = "{}" if absent and side == 0 else self._pick(states)
                strings[side].append(self._compose(template.replace("{}", state), ids))
        places = [self._targets.place(neutral, state) for state in (0.0, -1.0, 1.0)]
        return self.pad([s for side in strings for s in side]), torch.cat(places), labels

    def pad(self, strings: Sequence[list[int]]) -> Tensor:
        """Adds start and end and pads to the longest."""
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        out = torch.zeros(len(strings), max(map(len, strings)) + 2, dtype=torch.long)
        for row, ids in zip(out, strings, strict=True):
            row[: len(ids) + 2] = torch.tensor([start, *ids, end])
        return out

    def _pick(self, options: Sequence[str]) -> str:
        return options[self._rng.integers(len(options))]

    def _compose(self, text: str, noun: list[int]) -> list[int]:
        before, _, after = text.partition("{}")
        return [*self.tokens(before), *noun, *self.tokens(after)]

    def _noun(self) -> tuple[list[int], Tensor, int]:
        rng, targets = self._rng, self._targets
        kind = rng.random()
        if kind < CLASS_SHARE:
            label = int(rng.integers(len(self._classes)))
            names = self._classes[label]
            ids, row = names[rng.integers(len(names))], targets.class_rows[label]
        elif kind < CLASS_SHARE + WORD_SHARE:
            label, index = -1, int(rng.integers(len(self._words)))
            ids, row = self._words[index], targets.word_rows[index]
        else:
            return self._meaningless(), torch.zeros_like(targets.mean), -1
        if rng.random() < UNKNOWN_RATE:  # A word before the noun that is not known.
            ids = [self.unknown] * int(rng.integers(1, 3)) + ids
        return ids, row, label

    def _meaningless(self) -> list[int]:
        """A generic noun, one that is not known, or known syllables in no order."""
        rng, kind = self._rng, self._rng.random()
        if kind < 0.3:
            return self._generic[rng.integers(len(self._generic))]
        if kind < 0.7:
            return [self.unknown] * int(rng.integers(1, 5))
        picked = rng.integers(len(self._noun_tokens), size=rng.integers(2, 5))
        return [self._noun_tokens[i] for i in picked]


def train_text_tower(
    clip: CLIP, nouns: NounTargets, targets: Targets, schedule: Schedule, seed: int
) -> None:
    """Trains the text tower of ``clip`` in place; its image tower is not touched.

    Args:
        clip: Its text width is that of ``targets``.
        nouns: What to teach.
        targets: Where to put it.
        schedule: Length of the training.
        seed: Seed of the initial weights and of the draws.
    """
    torch.manual_seed(seed)
    sampler = PhraseSampler(nouns, targets, seed)
    text = {
        name: parameter
        for name, parameter in clip.named_parameters()
        if not name.startswith("visual.") and name not in ("text_projection", "logit_scale")
    }
    for parameter in text.values():
        parameter.requires_grad_(True)
    torch.nn.init.normal_(clip.token_embedding.weight, std=0.05)
    optimizer = torch.optim.AdamW(
        text.values(), lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    pace = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, schedule.steps, pct_start=0.06, div_factor=20
    )
    class_targets = targets.neutral(targets.class_rows)
    longest = 0
    for _ in (bar := tqdm(range(schedule.steps), "text tower", unit="step")):
        tokens, places, labels = sampler.draw(schedule.nouns)
        longest = max(longest, tokens.shape[1])
        coordinates = F.normalize(encode_tokens(clip, tokens), dim=-1)
        loss, parts = _loss(coordinates, places, labels, class_targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(text.values(), 1.0)
        optimizer.step()
        pace.step()
        bar.set_postfix(parts, refresh=False)
    for parameter in text.values():
        parameter.requires_grad_(False)
    with torch.no_grad():
        _fill_untrained(clip, sampler, longest)
        clip.text_projection.copy_(targets.basis)


def _loss(
    coordinates: Tensor, places: Tensor, labels: Tensor, class_targets: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Distance to the place + choice of the class + effect of the state's wording."""
    distance = 1 - (coordinates * places).sum(-1).mean()
    known = (labels >= 0).repeat(3)
    logits = CLASS_SCALE * coordinates[known] @ class_targets.T
    choice = F.cross_entropy(logits, labels.repeat(3)[known])
    _, intact, damaged = (coordinates - places).chunk(3)
    _, low, high = places.chunk(3)
    change = ((damaged - intact) ** 2).sum(-1) / ((high - low) ** 2).sum(-1)
    loss = 3 * distance + 0.3 * choice + 0.3 * DAMAGE_WEIGHT * change.mean()
    return loss, {
        "distance": round(float(distance.detach()), 3),
        "choice": round(float(choice.detach()), 3),
        "damage": round(float(change.detach().mean()), 3),
    }


def _fill_untrained(clip: CLIP, sampler: PhraseSampler, longest: int) -> None:
    """Gives tokens never seen the row of the unknown word, and late positions the last trained."""
    unseen = torch.ones(clip.token_embedding.num_embeddings, dtype=torch.bool)
    unseen[list(sampler.seen)] = False
    clip.token_embedding.weight[unseen] = clip.token_embedding.weight[sampler.unknown].clone()
    clip.positional_embedding[longest:] = clip.positional_embedding[longest - 1].clone()
