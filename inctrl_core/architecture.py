"""Bounds for a model configuration of open_clip that somebody else wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Far above every model that there is.
BOUNDS = {
    "embed_dim": 8192,
    "width": 8192,
    "layers": 256,
    "heads": 1024,
    "head_width": 1024,
    "patch_size": 1024,
    "image_size": 2048,
    "context_length": 4096,
    "vocab_size": 2**20,
}
# Of the one tokenizer that there is here, open_clip's own.
LEAST_VOCABULARY = 49408
# What makes open_clip and timm fetch something of somebody's choice as they build a tower.
_FETCHING = (
    ("vision_cfg", "timm_model_pretrained"),
    ("text_cfg", "hf_model_name"),
    ("text_cfg", "hf_tokenizer_name"),
    ("text_cfg", "hf_model_pretrained"),
)


def check_architecture(architecture: Mapping[str, Any]) -> None:
    """Checks a model configuration of open_clip's before anything is built from it.

    Args:
        architecture: Perhaps somebody else's.

    Raises:
        ValueError: A part is missing or of another kind; or open_clip would build for hours, need
            all memory before it fails, or fetch something else.
    """
    if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(architecture):
        raise ValueError("architecture needs embed_dim, vision_cfg and text_cfg")
    for name in ("vision_cfg", "text_cfg"):
        if not isinstance(architecture[name], dict):
            raise ValueError(f"{name} must be an object")
    towers = architecture["vision_cfg"], architecture["text_cfg"]
    for part in (architecture, *towers):
        for key, value in part.items():
            bound = BOUNDS.get(key)
            if bound and not (type(value) is int and 1 <= value <= bound):
                # A tower of several stages gives its layers as a list.
                if not (key == "layers" and isinstance(value, list) and len(value) <= 16):
                    raise ValueError(f"{key} must be a whole number from 1 to {bound}")
    if architecture["text_cfg"].get("vocab_size", LEAST_VOCABULARY) < LEAST_VOCABULARY:
        raise ValueError(f"vocab_size must be at least {LEAST_VOCABULARY}, the tokenizer's")
    for tower, key in _FETCHING:
        if architecture[tower].get(key):
            raise ValueError(f"{key} asks for another download, which is refused")
    name = architecture["vision_cfg"].get("timm_model_name") or ""
    # With a colon or a slash it is the address of a repository or a folder.
    if not isinstance(name, str) or ":" in name or "/" in name:
        raise ValueError("timm_model_name must be the plain name of a model of timm's")
