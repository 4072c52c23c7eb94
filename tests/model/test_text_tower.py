"""The text tower against open_clip's own, and prompts packed as trees."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer

from inctrl_core import Detector, PromptError
from inctrl_core.config import BackboneConfig
from inctrl_core.model.backbone import Backbone
from inctrl_core.model.clip import build_clip
from inctrl_core.model.prompt_tree import build_prompt_trees
from inctrl_core.model.prompts import build_prompts


@pytest.mark.parametrize("name", ["candle", "metal nut", "horse", "a b c d e f g h i j"])
def test_trees_of_prompts_give_what_encode_text_gives(golden_detector: Detector, name: str) -> None:
    backbone, prompts = golden_detector.backbone, build_prompts(name)
    clip = backbone.clip
    strings = list(prompts.normal + prompts.anomaly)[::9] + ["", "photo " * 75]
    with torch.inference_mode():
        whole = clip.encode_text(SimpleTokenizer(context_length=clip.context_length)(strings))
    assert torch.allclose(
        backbone.encode_text(strings), F.normalize(whole, dim=-1), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    "special", [{"no_causal_mask": True}, {"pool_type": "last"}, {"pool_type": "first"}]
)
def test_other_text_transformers_have_their_full_context(special: dict) -> None:
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    config = BackboneConfig(
        {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text | special}, (0,)
    )
    torch.manual_seed(0)
    clip = build_clip(config)
    backbone = Backbone(clip, config)
    strings = ["a photo of a nut", "a nut"]
    with torch.inference_mode():
        whole = clip.encode_text(SimpleTokenizer(context_length=clip.context_length)(strings))
    assert torch.allclose(backbone.encode_text(strings), F.normalize(whole, dim=-1), atol=1e-6)


def test_a_prompt_that_would_be_cut_is_refused(golden_detector: Detector) -> None:
    encode = golden_detector.backbone.encode_text
    assert encode(["photo " * 75]).isfinite().all()  # With start and end it is 77 tokens long.
    with pytest.raises(PromptError, match=r"than the 75 tokens.*use a shorter one"):
        encode(["a photo of a nut.", "photo " * 76])


def test_tree_holds_every_prompt_as_a_path() -> None:
    prompts = [[5, 1, 2], [5, 1, 3, 4], [5, 9], [5, 1, 2], [7, 7, 7, 7, 7, 7, 7]]
    trees = build_prompt_trees(prompts, capacity=6)
    for prompt, (tree, end) in zip(prompts, trees.ends.tolist(), strict=True):
        places = trees.visible[tree, end].nonzero().flatten()
        order = trees.positions[tree, places].argsort()
        assert trees.tokens[tree, places[order]].tolist() == prompt
    assert trees.tokens.shape == (2, 7)  # The shared beginnings fit in one tree of 6.
