"""Prompts -> text embeddings, by open_clip's own layers but on no more tokens than it takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from ..devices import run_in_batches
from ..errors import PromptError
from .prompt_tree import build_prompt_trees

TREE_CAPACITY = 192  # Tokens; larger trees share little more, and their attention grows faster.
# One tree is a matrix; of more, torch's attention copies its weights for each position of them.
TREE_BATCH = 1
TEXT_BATCH = 16


class TextTower:
    """The text half of a CLIP model, on the device where that lies.

    Args:
        clip: open_clip model, already at its device and precision.
        heads: Attention heads of its text transformer.
    """

    def __init__(self, clip: CLIP, heads: int) -> None:
        self._clip, self._heads = clip, heads
        self._tokenizer = SimpleTokenizer(context_length=clip.context_length)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeds N prompts.

        The context is cut to what matters, and what prompts begin with in common is computed once
        (:mod:`inctrl_core.model.prompt_tree`); both are exact for a causal text transformer that
        reads its result at the end token. Any other has its full context.

        Returns:
            float32 [N, E], rows of unit length.

        Raises:
            PromptError: A prompt is longer than the context.
        """
        tokens = self._tokenizer(list(prompts))
        self._check_whole(prompts, tokens)
        clip = self._clip
        if clip.attn_mask is None or clip.text_pool_type != "argmax":
            parts = run_in_batches(clip.encode_text, tokens.to(self._device), TEXT_BATCH)
            return F.normalize(torch.cat(parts).float(), dim=-1)
        ends = tokens.argmax(dim=1).tolist()  # The end token has the highest id.
        rows = [row[: end + 1] for row, end in zip(tokens.tolist(), ends, strict=True)]
        return F.normalize(self._encode_trees(rows).float(), dim=-1)

    def _check_whole(self, prompts: Sequence[str], tokens: Tensor) -> None:
        # The tokenizer cuts what is too long without a word, and with it what tells the groups
        # apart: of a long name only its beginning would be left in all prompts.
        longest = tokens.shape[1]
        for prompt, last in zip(prompts, tokens[:, -1].tolist(), strict=True):
            if last and len(self._tokenizer.encode(prompt)) + 2 > longest:  # Start and end.
                raise PromptError(
                    f"The object name or a phrase is longer than the {longest - 2} tokens that "
                    "this model's text tower reads; use a shorter one."
                )

    @property
    def _device(self) -> torch.device:
        return self._clip.positional_embedding.device

    def _encode_trees(self, rows: Sequence[Sequence[int]]) -> Tensor:
        # open_clip's encode_text knows neither a shorter context nor a mask per prompt; these are
        # its steps.
        clip, device = self._clip, self._device
        trees = build_prompt_trees(rows, TREE_CAPACITY)

        def encode(indices: Tensor) -> Tensor:
            x = clip.token_embedding(trees.tokens[indices].to(device))
            x = x + clip.positional_embedding[trees.positions[indices].to(device)]
            hidden = ~trees.visible[indices].repeat_interleave(self._heads, dim=0).to(device)
            mask = torch.zeros(hidden.shape, dtype=x.dtype, device=device)
            return clip.transformer(x, attn_mask=mask.masked_fill_(hidden, float("-inf")))

        x = torch.cat(run_in_batches(encode, torch.arange(len(trees.tokens)), TREE_BATCH))
        tree, place = trees.ends.to(device).unbind(dim=1)
        x = clip.ln_final(x[tree, place])
        projection = clip.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection
