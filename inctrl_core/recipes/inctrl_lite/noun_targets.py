"""Where nouns belong in the image space: rows of an ImageNet classifier, and means of them.

The rows of a linear classifier over the pooled features are, once centred and normalised, the best
estimate of where pictures of a class lie. The thousand ImageNet classes give a row to their names;
other words of ImageNet's larger vocabulary get theirs through the dictionary definitions that come
with timm: a word that classes are defined by ("a *cat* with a grey coat") gets the mean over them,
and a word of which no class is a kind gets the mean over the classes with the most similar
definitions. Means over classes that disagree are short, so vague words stay near the generic.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from timm.data import ImageNetInfo
from torch import Tensor

GENERIC_NOUNS = ("object", "thing", "item", "product", "part", "piece", "sample", "image")
MAX_WORDS = 3
NEIGHBOURS = 8
MIN_SIMILARITY = 0.15
# What a noun keeps of the row of the noun that defines it, where nothing else is known of it.
INHERITED_SHARE = 0.7
# Nearest word of a definition that is itself an entry: "a domestic cat of Egypt" -> "domestic cat".
GENUS_WINDOW = 6

_WORD = re.compile(r"[a-z][a-z'-]*")
_FUNCTION_WORDS = frozenset(
    "a an the of or and in on with for to from by at as is are be it its that which who whose when "
    "where into used having has have had can usually often very any some one two three several "
    "various many most more other than not no such especially large small long short being about "
    "over under between similar like kind type form genus family common made make using use up "
    "out but so if only all both each same another esp native found person someone people".split()
)


@dataclass(frozen=True)
class NounTargets:
    """Names and their places.

    Attributes:
        classes: ``classes[i]`` are the names of class i, lower case and as in the dictionary.
        class_rows: Unit rows, [1000, D].
        words: Further nouns, none of them a class name.
        word_rows: Their rows, [len(words), D], norm at most 1; a short row is a vague word.
    """

    classes: tuple[tuple[str, ...], ...]
    class_rows: Tensor
    words: tuple[str, ...]
    word_rows: Tensor


def centred_unit_rows(weight: Tensor) -> Tensor:
    """Classifier rows minus their mean, normalised; [classes, D] to the same shape."""
    return torch.nn.functional.normalize(weight - weight.mean(dim=0), dim=-1)


def build_noun_targets(classifier_weight: Tensor) -> NounTargets:
    """Places the names of ImageNet's classes and the other nouns of its vocabulary.

    Args:
        classifier_weight: Weight of the 1000-class linear classifier, [1000, D], in the usual
            order of the classes.

    Raises:
        ValueError: ``classifier_weight`` does not have 1000 rows.
    """
    if classifier_weight.ndim != 2 or classifier_weight.shape[0] != 1000:
        raise ValueError("The classifier must have one row for each of the 1000 ImageNet classes.")
    rows = centred_unit_rows(classifier_weight.detach().float())
    small, large = ImageNetInfo(), ImageNetInfo("imagenet-22k")
    entries = {
        label: _split(large.label_name_to_description(label, detailed=True))
        for label in large.label_names()
    }
    entries |= {
        label: _split(small.label_name_to_description(label, detailed=True))
        for label in small.label_names()
    }
    class_of = {label: index for index, label in enumerate(small.label_names())}
    classes = tuple(entries[label][0] for label in small.label_names())
    members = _members_by_word(entries, class_of)
    taken = {name for names in classes for name in names}
    words, word_rows = [], []
    for word, row in _word_rows(entries, members, class_of, rows):
        if word not in taken and word not in GENERIC_NOUNS:
            words.append(word)
            word_rows.append(row)
    return NounTargets(classes, rows, tuple(words), torch.stack(word_rows))


def _split(description: str) -> tuple[tuple[str, ...], str]:
    names, _, definition = description.partition(": ")
    return tuple(dict.fromkeys(n.strip().lower() for n in names.split(","))), definition.lower()


def _members_by_word(
    entries: Mapping[str, tuple[tuple[str, ...], str]], class_of: Mapping[str, int]
) -> dict[str, frozenset[int]]:
    """For each noun, the classes that are a kind of it, by head words and definitions."""
    known = {name for names, _ in entries.values() for name in names}
    parents: dict[str, set[str]] = defaultdict(set)
    for names, definition in entries.values():
        genus = _genus(definition, known)
        for name in names:
            head = name.split()[-1]
            parents[name] |= {w for w in (genus, head) if w and w != name}
    members: dict[str, set[int]] = defaultdict(set)
    for label, index in class_of.items():
        names = entries[label][0]
        frontier, seen = set(names), set(names)
        # Three steps up; beyond that the graph of definitions drifts into the abstract.
        for _ in range(3):
            frontier = {p for word in frontier for p in parents[word]} - seen
            seen |= frontier
        for word in seen:
            members[word].add(index)
    return {word: frozenset(indices) for word, indices in members.items()}


def _genus(definition: str, known: set[str]) -> str | None:
    """The first run of words of a definition that is an entry: the thing's hypernym."""
    words = _WORD.findall(definition)[: GENUS_WINDOW + MAX_WORDS]
    for start in range(min(GENUS_WINDOW, len(words))):
        if words[start] in _FUNCTION_WORDS:
            continue
        for length in range(MAX_WORDS, 0, -1):
            # The head of an English compound comes last: "coffee table" is a table.
            run = " ".join(words[start : start + length])
            if run in known and not _continues(words, start + length, known):
                return run
    return None


def _continues(words: Sequence[str], position: int, known: set[str]) -> bool:
    return position < len(words) and words[position] in known


def _word_rows(
    entries: Mapping[str, tuple[tuple[str, ...], str]],
    members: Mapping[str, frozenset[int]],
    class_of: Mapping[str, int],
    rows: Tensor,
) -> Iterable[tuple[str, Tensor]]:
    """Yields (word, row) for every noun of up to ``MAX_WORDS`` words that can be placed."""
    for word, indices in sorted(members.items()):
        if len(word.split()) <= MAX_WORDS:
            yield word, _shrunk_mean(rows[sorted(indices)])
    by_word: dict[str, list[Tensor]] = defaultdict(list)
    labels = [label for label in entries if label not in class_of]
    similarity = _definition_similarity(entries, labels, list(class_of))
    values, nearest = similarity.topk(NEIGHBOURS, dim=1)
    for label, value, index in zip(labels, values, nearest, strict=True):
        weight = value * (value > MIN_SIMILARITY)
        if weight.sum() > 0:
            row = (weight[:, None] * rows[index]).sum(0) / weight.sum()
            # A definition that is not close to any class says little: halve what it says.
            for name in entries[label][0]:
                by_word[name].append(row * min(1.0, 2 * float(value[0])))
    placed = dict.fromkeys(members)
    for word, found in sorted(by_word.items()):
        if word not in members and len(word.split()) <= MAX_WORDS:
            placed[word] = None
            yield word, torch.stack(found).mean(0)
    yield from _inherited_rows(entries, members, placed, rows)
    yield from _material_rows(entries, members, by_word, class_of, rows)


def _inherited_rows(
    entries: Mapping[str, tuple[tuple[str, ...], str]],
    members: Mapping[str, frozenset[int]],
    placed: dict[str, None],
    rows: Tensor,
) -> Iterable[tuple[str, Tensor]]:
    """Yields nouns not placed so far that share an entry with, or are a kind of, a placed one."""
    known = {name for names, _ in entries.values() for name in names}
    for names, definition in entries.values():
        genus = _genus(definition, known)
        for share, sources in ((1.0, names), (INHERITED_SHARE, (genus,))):
            indices = sorted(set().union(*(members.get(s, frozenset()) for s in sources if s)))
            for name in names if indices else ():
                if name not in placed and len(name.split()) <= MAX_WORDS:
                    placed[name] = None
                    yield name, share * _shrunk_mean(rows[indices])


def _material_rows(
    entries: Mapping[str, tuple[tuple[str, ...], str]],
    members: Mapping[str, frozenset[int]],
    by_word: Mapping[str, list[Tensor]],
    class_of: Mapping[str, int],
    rows: Tensor,
) -> Iterable[tuple[str, Tensor]]:
    """Yields words such as "metal" and "leather" that occur in definitions but name no class.

    A few of them ("gas", "ivory") were yielded as inherited names before, with other rows.
    """
    mentioned: dict[str, set[int]] = defaultdict(set)
    for label, index in class_of.items():
        for word in _WORD.findall(entries[label][1]):
            mentioned[word].add(index)
    for word, indices in sorted(mentioned.items()):
        placed = word in members or word in by_word or word in _FUNCTION_WORDS
        if not placed and len(word) > 2 and 2 <= len(indices) <= 60:
            yield word, _shrunk_mean(rows[sorted(indices)])


def _shrunk_mean(rows: Tensor) -> Tensor:
    """Mean of unit rows with the root of its norm; one row alone is weak evidence, and halved."""
    mean = rows.mean(dim=0)
    return mean / mean.norm().clamp_min(1e-6).sqrt() * len(rows) / (len(rows) + 1)


def _definition_similarity(
    entries: Mapping[str, tuple[tuple[str, ...], str]],
    labels: Sequence[str],
    references: Sequence[str],
) -> Tensor:
    """Cosine similarity of tf-idf vectors of names and definitions, [labels, references]."""
    bags = {
        label: Counter(
            word
            for word in _WORD.findall(" ".join(entries[label][0]) + " " + entries[label][1])
            if word not in _FUNCTION_WORDS
        )
        for label in entries
    }
    count = Counter(word for bag in bags.values() for word in bag)
    vocabulary = {w: i for i, w in enumerate(sorted(set().union(*(bags[r] for r in references))))}

    def matrix(names: Sequence[str]) -> Tensor:
        out = torch.zeros(len(names), len(vocabulary))
        for position, name in enumerate(names):
            squares = 0.0
            for word, times in bags[name].items():
                weight = math.log(len(bags) / count[word]) * (1 + math.log(times))
                squares += weight * weight
                if word in vocabulary:
                    out[position, vocabulary[word]] = weight
            out[position] /= math.sqrt(squares) or 1.0
        return out

    reference = matrix(references).T.contiguous()
    steps = range(0, len(labels), 2048)
    return torch.cat([matrix(labels[s : s + 2048]) @ reference for s in steps])
