"""What a LLaVA's config.json means where it says nothing; torch-free."""

from pumer_convert.models.towers.mlp_part import Usual

USUAL = Usual(
    architectures=("LlavaForConditionalGeneration", "LlavaModel"),
    tower={
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 336,
    },
    language="llama",
    layer=-2,
    strategy="default",
)
