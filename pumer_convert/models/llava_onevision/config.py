"""What the config.json of a LLaVA-OneVision means where it says nothing; torch-free."""

from pumer_convert.models.towers.mlp_part import Usual

USUAL = Usual(
    architectures=("LlavaOnevisionForConditionalGeneration", "LlavaOnevisionModel"),
    tower={
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 26,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 384,
        "vision_use_head": False,
    },
    language="qwen2",
    layer=-1,
    strategy="full",
    # How tiles are packed behind the projector, and videos.
    keys=(
        *("image_grid_pinpoints", "vision_aspect_ratio", "use_image_newline_parameter"),
        *("video_token_index", "video_token_id"),
    ),
)
