"""Prompts packed as trees, so that what they begin with in common is computed once.

A causal text transformer computes for a token what depends on the tokens before it alone. Prompts
with the same beginning therefore share it exactly: in a tree of tokens in which each sees itself
and its ancestors, every prompt is a path, and the 242 prompts of an object need about a third of
the tokens that they have one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PromptTrees:
    """N prompts in T trees of at most L tokens.

    Attributes:
        tokens: int64 [T, L]; 0 after the last token of a tree.
        positions: int64 [T, L], of each token within its prompts.
        visible: bool [T, L, L], whether a token (row) sees another (column).
        ends: int64 [N, 2], tree and place of the last token of each prompt.
    """

    tokens: Tensor
    positions: Tensor
    visible: Tensor
    ends: Tensor


def build_prompt_trees(prompts: Sequence[Sequence[int]], capacity: int) -> PromptTrees:
    """Packs tokenised prompts.

    >>> trees = build_prompt_trees([[7, 8, 9], [7, 8, 5]], capacity=16)
    >>> trees.tokens.tolist(), trees.positions.tolist(), trees.ends.tolist()
    ([[7, 8, 5, 9]], [[0, 1, 2, 2]], [[0, 3], [0, 2]])

    Args:
        prompts: N token sequences, none empty.
        capacity: Most tokens in a tree; a longer prompt has a tree of its own.
    """
    trees: list[_Tree] = []
    ends = torch.zeros(len(prompts), 2, dtype=torch.long)
    # In dictionary order a prompt shares most with the one before it.
    for index in sorted(range(len(prompts)), key=lambda i: list(prompts[i])):
        prompt = prompts[index]
        if not trees or trees[-1].size_with(prompt) > capacity:
            trees.append(_Tree())
        ends[index] = torch.tensor([len(trees) - 1, trees[-1].add(prompt)])
    width = max((len(tree.tokens) for tree in trees), default=0)
    tokens, positions = (torch.zeros(len(trees), width, dtype=torch.long) for _ in range(2))
    visible = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)
    for i, tree in enumerate(trees):
        size = len(tree.tokens)
        tokens[i, :size] = torch.tensor(tree.tokens)
        positions[i, :size] = torch.tensor(tree.positions)
        for place, parent in enumerate(tree.parents):
            if parent >= 0:
                visible[i, place] |= visible[i, parent]
    return PromptTrees(tokens, positions, visible, ends)


class _Tree:
    """Grows by one prompt at a time, each compared with the last."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.parents: list[int] = []
        self._last: Sequence[int] = ()
        self._path: list[int] = []

    def size_with(self, prompt: Sequence[int]) -> int:
        return len(self.tokens) + len(prompt) - self._shared(prompt)

    def add(self, prompt: Sequence[int]) -> int:
        """Adds a prompt and returns the place of its last token."""
        shared = self._shared(prompt)
        del self._path[shared:]
        for position in range(shared, len(prompt)):
            self.parents.append(self._path[-1] if self._path else -1)
            self._path.append(len(self.tokens))
            self.tokens.append(prompt[position])
            self.positions.append(position)
        self._last = prompt
        return self._path[-1]

    def _shared(self, prompt: Sequence[int]) -> int:
        count = 0
        for ours, theirs in zip(self._last, prompt, strict=False):
            if ours != theirs:
                break
            count += 1
        return count
