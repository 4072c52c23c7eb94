"""Names of folders and files in data sets: good or bad, training or test, image or mask.

Names are compared by their words, in any case and however they are joined: "OK", "ok_images",
"NotGood" and "not-good" are all understood.
"""

from __future__ import annotations

import re

TRAIN, TEST, VALIDATION, PRIVATE = "train", "test", "validation", "private"

GOOD_NAMES = frozenset(
    "good ok okay normal normals nominal pass passed accept accepted negative healthy intact "
    "perfect flawless undamaged nodefect nodefects nondefect nondefective notdefective defectfree "
    "withoutdefect withoutdefects noanomaly noanomalies anomalyfree nonanomalous conforming".split()
)
BAD_NAMES = frozenset(
    "bad ng nok ko notok nook notgood nogood ungood abnormal abnormals anomaly anomalies anomalous "
    "defect defects def defective fault faults faulty fail failed failure reject rejected rejects "
    "positive damaged damage broken flawed flaw flaws nonconforming unhealthy".split()
)
# A longer name is understood by its first word only where that is one of these, as "ok_front" is:
# "broken_glass" may as well be a thing.
_LEADING = frozenset("ok good normal ng nok bad def defect defective anomaly abnormal".split())
_PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "test": TEST,
    "testing": TEST,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "private": PRIVATE,
}
# What says nothing beside another word.
_FILLERS = frozenset(
    "image images img imgs picture pictures photo photos sample samples part parts piece pieces "
    "product products item items data dataset class type set folder public".split()
)
_WRAPPERS = frozenset(
    "data dataset image images img imgs picture pictures photo photos rgb color colour".split()
)
_MASK_WORDS = frozenset(
    "gt gts groundtruth groundtruths mask masks label labels annotation annotations seg "
    "segmentation segmentations".split()
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_MASK = r"(?:ground[ _.-]?truth|masks?|gt|labels?|seg|segmentation|annotation)"
_MASK_SUFFIX = re.compile(rf"[ _.-]+{_MASK}$", re.IGNORECASE)
_MASK_PREFIX = re.compile(rf"^{_MASK}[ _.-]+", re.IGNORECASE)
_IMAGE_SUFFIX = re.compile(r"[ _.-]+(?:image|img|rgb)$", re.IGNORECASE)


def label_of(name: str) -> bool | None:
    """Whether a folder's name says that its images are anomalous; None where it says neither.

    >>> [label_of(name) for name in ("OK", "not_good", "def_front", "train_good", "scratch")]
    [False, True, True, False, None]
    """
    words = [word for word in _words(name) if word not in _FILLERS and word not in _PARTS]
    joined = "".join(words)
    if joined not in GOOD_NAMES | BAD_NAMES and words and words[0] in _LEADING:
        joined = words[0]
    return False if joined in GOOD_NAMES else True if joined in BAD_NAMES else None


def part_of(name: str) -> str | None:
    """The part of a data set that a folder's name says: one of the four above, or None.

    >>> [part_of(name) for name in ("Train", "test_public", "test_private", "val", "test_strip")]
    ['train', 'test', 'private', 'validation', None]
    """
    words = _words(name)
    parts = [_PARTS[word] for word in words if word in _PARTS]
    if PRIVATE in parts:
        return PRIVATE
    rest = [word for word in words if word not in _PARTS and word not in _FILLERS]
    named = not rest or "".join(rest) in GOOD_NAMES | BAD_NAMES
    return parts[0] if parts and named else None


def is_mask_folder(name: str) -> bool:
    """Whether a folder's name says that masks lie in it.

    >>> [is_mask_folder(name) for name in ("MASK", "ground_truth", "NG_mask", "with_mask", "NG")]
    [True, True, True, False, False]
    """
    rest = mask_scope(name)
    return rest is not None and (not rest or label_of(rest) is not None)


def mask_scope(name: str) -> str | None:
    """The rest of a name without the word for masks; None where it has no such word.

    >>> [mask_scope(name) for name in ("NG_mask", "masks", "scratch")]
    ['NG', '', None]
    """
    if "".join(_words(name)) in _MASK_WORDS:
        return ""
    for pattern in (_MASK_SUFFIX, _MASK_PREFIX):
        if pattern.search(name):
            return pattern.sub("", name)
    return None


def is_wrapper(name: str) -> bool:
    """Whether a folder's name says only that images lie in it."""
    return name.lower() in _WRAPPERS


def image_of_mask(stem: str) -> str:
    """The name, without suffix, of the image that a mask of this name belongs to.

    >>> [image_of_mask(stem) for stem in ("000_mask", "000_GT", "000-label", "mask_000", "000")]
    ['000', '000', '000', '000', '000']
    """
    return _MASK_PREFIX.sub("", _MASK_SUFFIX.sub("", stem))


def image_names(stem: str) -> tuple[str, ...]:
    """Names by which a mask may refer to an image, the likeliest first."""
    return tuple(dict.fromkeys((stem.casefold(), _IMAGE_SUFFIX.sub("", stem).casefold())))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]
