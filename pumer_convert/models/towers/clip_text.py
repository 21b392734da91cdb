"""CLIP's tower of texts under transformers' names."""

from torch import Tensor, nn

from pumer_convert.models.attention import causal_bias
from pumer_convert.models.precision import LayerNorm
from pumer_convert.models.towers.embeddings import WordEmbeddings
from pumer_convert.models.towers.encoder import Encoder
from pumer_convert.models.towers.sections import TextTower


class CausalText(nn.Module):
    """Texts in which no token sees a later one; what is read of them is normed by `final_layer_norm`."""

    def __init__(self, settings: TextTower) -> None:
        super().__init__()
        c = settings.hidden_size
        self.embeddings = WordEmbeddings(settings.vocab_size, settings.max_position_embeddings, c)
        self.encoder = Encoder(settings)
        self.final_layer_norm = LayerNorm(c, eps=settings.layer_norm_eps)

    def states(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [B, T, C] behind the last layer; `mask` bool [B, T]."""
        x = self.embeddings(input_ids)
        return self.encoder(x, causal_bias(mask, x.dtype))  # type: ignore[no-any-return]
