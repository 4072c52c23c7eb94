"""The frozen CLIP-style model: crops -> ImageFeatures, prompts -> text embeddings.

One code path for ViT and timm towers, on top of open_clip's own ``forward_intermediates``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import text_global_pool
from torch import Tensor

from .config import BackboneConfig
from .errors import ModelError
from .residuals import resample_to_grid

IMAGE_BATCH = 16  # Crops in one forward pass; more is no faster and only takes memory.
TEXT_BATCH = 128


@dataclass(frozen=True)
class ImageFeatures:
    """What the backbone says of B crops, in float32.

    Attributes:
        embeddings: [B, E], the projected image token, not normalised.
        patches: One [B, G * G, C_d] per depth, shallow first, rows of unit length.
    """

    embeddings: Tensor
    patches: tuple[Tensor, ...]

    def __len__(self) -> int:
        """Number of crops."""
        return self.embeddings.shape[0]

    def __getitem__(self, items: slice | Sequence[int]) -> ImageFeatures:
        """The features of some of the crops, in the order asked for."""
        index = items if isinstance(items, slice) else list(items)
        return ImageFeatures(self.embeddings[index], tuple(depth[index] for depth in self.patches))

    def to(self, device: torch.device | str) -> ImageFeatures:
        """The same features on another device."""
        return ImageFeatures(
            self.embeddings.to(device), tuple(depth.to(device) for depth in self.patches)
        )


def build_clip(config: BackboneConfig) -> CLIP:
    """An open_clip model of the given architecture, in evaluation mode, its weights random.

    Raises:
        ModelError: open_clip does not accept the architecture.
    """
    architecture = config.architecture
    try:
        clip = CLIP(
            embed_dim=config.embed_dim,
            vision_cfg=dict(architecture["vision_cfg"]),
            text_cfg=dict(architecture["text_cfg"]),
            quick_gelu=bool(architecture.get("quick_gelu", False)),
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"open_clip cannot build this backbone: {error}.") from error
    return clip.eval().requires_grad_(False)


class Backbone:
    """A frozen CLIP model on one device, at one precision.

    Holds nothing of any user, so one instance serves all.

    Args:
        clip: open_clip model with its weights in place.
        config: Its description.
        device: Where it computes and where its results lie.
        dtype: Precision of the forward pass; results are float32 whatever it is.
    """

    def __init__(
        self,
        clip: CLIP,
        config: BackboneConfig,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.dtype = dtype
        self._clip = clip.to(device=self.device, dtype=dtype)
        self._tokenizer = SimpleTokenizer(context_length=clip.context_length)

    @property
    def clip(self) -> CLIP:
        """The open_clip model itself, for those who train or save it."""
        return self._clip

    @torch.inference_mode()
    def encode_images(self, crops: Tensor) -> ImageFeatures:
        """Embeds B normalised crops, ``IMAGE_BATCH`` at a time.

        Args:
            crops: float32 [B, 3, S, S] of :func:`inctrl_core.preprocessing.preprocess`.
        """
        parts = [self._encode_batch(part) for part in crops.split(IMAGE_BATCH)]
        if len(parts) == 1:
            return parts[0]
        depths = zip(*(part.patches for part in parts), strict=True)
        return ImageFeatures(
            torch.cat([part.embeddings for part in parts]),
            tuple(torch.cat(depth) for depth in depths),
        )

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embeds N prompts.

        The context is cut to the longest prompt: the text transformer is causal and reads its
        result at the end token, so what follows that token never matters.

        Returns:
            float32 [N, E], rows of unit length.
        """
        tokens = self._tokenizer(list(prompts)).to(self.device)
        length = int(tokens.argmax(dim=1).max()) + 1  # The end token has the highest id.
        parts = [self._encode_tokens(part[:, :length]) for part in tokens.split(TEXT_BATCH)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def _encode_batch(self, crops: Tensor) -> ImageFeatures:
        output = self._clip.forward_intermediates(
            image=crops.to(self.device, self.dtype),
            image_indices=list(self.config.depths),
            normalize=False,
            image_output_fmt="NCHW",
        )
        patches = (
            F.normalize(resample_to_grid(depth.float(), self.config.grid), dim=-1)
            for depth in output["image_intermediates"]
        )
        return ImageFeatures(output["image_features"].float(), tuple(patches))

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        # open_clip's encode_text adds its whole positional table and so needs the full context;
        # these are its steps over the part that matters.
        clip, length = self._clip, tokens.shape[1]
        x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        mask = clip.attn_mask
        x = clip.transformer(x, attn_mask=None if mask is None else mask[:length, :length])
        x = text_global_pool(
            clip.ln_final(x), tokens, clip.text_pool_type, eos_token_id=clip.text_eos_id
        )
        projection = clip.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
