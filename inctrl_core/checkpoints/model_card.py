"""The README of a model on the Hub, made from its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..config import SQUASH, ModelConfig


def render_model_card(config: ModelConfig, repo: str) -> str:
    """Markdown with the Hub's front matter: what the model is, where it comes from, how to load it.

    Args:
        config: The model's description.
        repo: USER/REPO that it will be loaded from.
    """
    backbone, heads = config.backbone, config.heads
    licence = config.provenance.get("license") or config.provenance.get("licence")
    patches = (
        "compared through a trained linear map of each depth"
        if heads.patch_adapter
        else "compared as the backbone gives them"
    )
    fusion = (
        f"trained heads of the {heads.form} form"
        if heads.form != "training-free"
        else "no trained heads; a fixed formula joins the signals"
        + ("" if heads.trained else ", so the model is training-free")
    )
    revision = f", revision `{backbone.hub_revision}`" if backbone.hub_revision else ""
    source = (
        f"fetched from `{backbone.hub_repo}` (`{backbone.hub_file}`{revision})"
        if backbone.hub_repo
        else "in this repository"
    )
    untold = "Not recorded." if heads.trained else "The heads were not trained."
    squashed = config.preprocess.resize_mode == SQUASH
    seen = "the whole image, made square" if squashed else "the central square of the image"
    sections = [
        _front_matter(licence if isinstance(licence, str) else None, backbone.hub_repo),
        f"# {_plain(config.name)}",
        "Few-shot anomaly detection after InCTRL (Zhu and Pang, CVPR 2024, "
        "[arXiv 2403.06495](https://arxiv.org/abs/2403.06495)): 1 to 16 normal images and the "
        "object's name are enough to score an image, without training.",
        f"- Backbone: {source}, frozen; depths {', '.join(map(str, backbone.depths))} (counted "
        f"from 0) on a {backbone.grid} x {backbone.grid} grid.\n"
        f"- Input: {seen}, {' and '.join(f'{size} x {size}' for size in config.image_sizes)} "
        "pixels.\n"
        f"- Patches: {patches}.\n"
        f"- Fusion: {fusion}.",
        "```python\nfrom inctrl_core import load_detector\n\n"
        f'detector = load_detector("{repo}")\n'
        'bank = detector.build_bank(["good1.png", "good2.png"], "metal nut")\n'
        'print(detector.score(["query.png"], bank)[0].fused)\n```',
        _record("Provenance", config.provenance, "Not recorded."),
        _record("Training", config.training, untold),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(licence: str | None, base_model: str | None) -> str:
    fields: dict[str, Any] = {
        "library_name": "inctrl",
        "pipeline_tag": "image-classification",
        "tags": ["anomaly-detection", "few-shot", "clip", "inctrl"],
    }
    if licence:
        fields["license"] = "other"
        fields["license_name"] = licence
    if base_model:
        fields["base_model"] = base_model
    # JSON values are YAML values, and need no care for quotes and colons.
    lines = [f"{key}: {json.dumps(value)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _record(title: str, record: Mapping[str, Any], absent: str) -> str:
    body = f"```json\n{json.dumps(dict(record), indent=2)}\n```" if record else absent
    return f"## {title}\n\n{body}"


def _plain(text: str) -> str:
    """On one line, for a heading."""
    return " ".join(text.split())
