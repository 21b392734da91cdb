"""Logits as scores from 0 to 1.

Nothing of this project is imported here: `export --triton` copies the file into what it writes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_scores(logits: NDArray[Any], task: str) -> NDArray[np.float64]:
    """Scores [..., labels] of logits [..., labels]: a softmax over the labels; in visual question answering, where
    several answers may be right, and in retrieval the sigmoid of each logit."""
    logits = np.asarray(logits, np.float64)
    return sigmoid(logits) if task in ("vqa", "retrieval") else softmax(logits)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each by itself, without overflow."""
    scores: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits))
    return scores


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares [..., labels] of 1."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(-1, keepdims=True)
    return shares
