"""SigLIP's tokenizer, which transformers runs by sentencepiece, as one of the package tokenizers."""

import importlib
import re
import string
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors
from tokenizers.models import Unigram

_BEGUN = (normalizers.Replace("\u2581", " "), normalizers.Prepend("\u2581"))
_CLEANED = (
    normalizers.Replace(Regex("[" + re.escape(string.punctuation) + "]"), ""),
    normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "),
    normalizers.Strip(),
)
"""Punctuation goes, and white space, as Python counts it, becomes one space."""
_ENDING = Regex(r"(?<=\p{L})\u03a3(?![\p{Mn}\p{Cf}\p{Lm}\p{Sk}'.:\u00b7\u2019]*\p{L})")
_LOWERED = (normalizers.Replace(_ENDING, "\u03c2"), normalizers.Lowercase())
"""Python's lower case: a sigma that ends a word has a form of its own."""
_SPACED = (
    normalizers.Replace(Regex(" {2,}"), " "),
    normalizers.Replace(" ", "\u2581"),
    normalizers.Replace(Regex(r"\u2581+\z"), ""),
)
"""sentencepiece's own: no white space twice, and none at the end."""


def plain_tokenizer(tokenizer: Any) -> Tokenizer | None:
    """What a `SiglipTokenizer` of transformers does; None for another kind, and where its file cannot be read.

    The names of its special tokens in a text, </s> and <unk>, get ids beyond the vocabulary, so that the text is
    refused: behind such a name transformers begins a word in a way that the package tokenizers does not know.
    """
    if not hasattr(tokenizer, "sp_model") or not hasattr(tokenizer, "canonicalize_text"):
        return None
    try:
        protocol: Any = importlib.import_module("transformers.utils.sentencepiece_model_pb2_new")
        model = protocol.ModelProto.FromString(tokenizer.sp_model.serialized_model_proto())
    except (ImportError, AttributeError):
        return None
    # No text can have a piece that is no ordinary one: its name holds punctuation.
    pieces = [
        (piece.piece if piece.type == piece.NORMAL else f"<{i}>", piece.score) for i, piece in enumerate(model.pieces)
    ]
    made = Tokenizer(Unigram(vocab=pieces, unk_id=model.trainer_spec.unk_id))
    charsmap = model.normalizer_spec.precompiled_charsmap
    made.normalizer = normalizers.Sequence(
        [
            *_BEGUN,
            *(_LOWERED if tokenizer.do_lower_case else ()),
            *_CLEANED,
            *([normalizers.Precompiled(charsmap)] if charsmap else ()),
            *_SPACED,
        ]
    )
    names = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    made.add_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    return made
