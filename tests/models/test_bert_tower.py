"""Our RoBERTa and BERT are transformers', to the last digits of each type, for padded texts and in training too."""

from typing import Any

import pytest
import torch
import transformers

from pumer_convert.models.towers.bert import Bert
from pumer_convert.models.towers.settings import BertSettings

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
}
KINDS = {
    "roberta": (
        transformers.RobertaConfig,
        transformers.RobertaModel,
        {"pad_token_id": 1, "layer_norm_eps": 1e-5, "type_vocab_size": 1},
    ),
    "bert": (
        transformers.BertConfig,
        transformers.BertModel,
        {"pad_token_id": 0, "layer_norm_eps": 1e-12, "type_vocab_size": 2},
    ),
}


def both(kind: str, dtype: torch.dtype, **more: Any) -> tuple[Bert, torch.nn.Module]:
    """Ours and transformers' with the same random weights, far enough from 0 that attention is not flat."""
    torch.manual_seed(0)
    config, model, usual = KINDS[kind]
    values = {**SIZES, **usual, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **more}
    theirs = model(config(**values), add_pooling_layer=False).to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    ours = Bert(BertSettings(model_type=kind, **values)).to(dtype)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours.eval(), theirs.eval()


def texts(kind: str, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three texts, two of them padded, with a padding token that stands inside the first as a word."""
    padding = KINDS[kind][2]["pad_token_id"]
    ids = torch.randint(2, 50, (3, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, length - 4 :], mask[2, 3:] = 0, 0
    ids[mask == 0], ids[0, 2] = padding, padding
    return ids, mask


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize(
    "more",
    [{}, {"hidden_act": "relu"}, {"layer_norm_eps": 0.1}, {"type_vocab_size": 3}, {"pad_token_id": 7}],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_states_are_transformers(kind: str, more: dict[str, Any], dtype: torch.dtype, near: float) -> None:
    ours, theirs = both(kind, dtype, **more)
    # As many tokens as there are positions for.
    length = SIZES["max_position_embeddings"] - (theirs.config.pad_token_id + 1 if kind == "roberta" else 0)
    for count in (length, 5):
        ids, mask = texts(kind, count)
        with torch.no_grad():
            want, got = theirs(input_ids=ids, attention_mask=mask).last_hidden_state, ours(ids, mask > 0)
        off = (got - want)[mask > 0].abs().max() / want.abs().max()
        assert float(off) < near


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_as_transformers_does(kind: str) -> None:
    """Every gradient, that of the padding's rows included, which is none."""
    ours, theirs = both(kind, torch.float64)
    ids, mask = texts(kind, 9)
    theirs(input_ids=ids, attention_mask=mask).last_hidden_state.square().sum().backward()
    ours(ids, mask > 0).square().sum().backward()
    want = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, want[name].grad, atol=1e-9, rtol=1e-9, msg=name)
    padding = KINDS[kind][2]["pad_token_id"]
    assert not ours.get_parameter("embeddings.word_embeddings.weight").grad[padding].any()


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_stands_where_transformers_has_it(kind: str) -> None:
    ours, theirs = both(kind, torch.float32, hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.5)
    ids, mask = texts(kind, 9)
    assert torch.equal(ours(ids, mask > 0), ours(ids, mask > 0)), "in eval mode none acts"
    states = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(3)
        states.append(model(ids, mask > 0) if model is ours else model(ids, attention_mask=mask).last_hidden_state)
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=1e-5)
