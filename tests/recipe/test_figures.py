"""What the recipes for towers say of themselves in their first lines is what a dry run tells of the published sizes."""

import re
from typing import Any

import pytest

from pumer_convert.convert.plan import Plan, edits_of, make_plan
from pumer_convert.models.family import family_of
from pumer_convert.recipe.schema import load_recipe
from pumer_convert.recipe.shipped import about, shipped

LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
SIZES: dict[str, dict[str, Any]] = {
    "a CLIP B/16 (image 224)": {"vision_config": {"patch_size": 16}},
    "a CLIP L/14 (image 336)": {
        "vision_config": {**LARGE, "patch_size": 14, "image_size": 336},
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "projection_dim": 768,
    },
    "a SigLIP B/16 (image 224)": {},
    "a SigLIP so400m/14 (image 384)": {
        "vision_config": {**SO400M, "patch_size": 14, "image_size": 384},
        "text_config": SO400M,
    },
    "an L/16 (image 384)": {"vision_config": {**LARGE, "image_size": 384}, "text_config": LARGE},
}
TOLD = re.compile(
    r"x(?P<ratio>[\d.]+) fewer MACs for a picture.* (?P<dense>[\d.]+) -> (?P<left>[\d.]+) GMACs per picture and "
    r"(?P<n>\d+) -> (?P<m>\d+) tokens on (?P<size>a \w+ \S+ \(image \d+\)); with a text.*? x(?P<both>[\d.]+), "
    r"(?P<all>[\d.]+) -> (?P<rest>[\d.]+), as told(?:.* on (?P<other>an .+\)) x(?P<there>[\d.]+)\.)?"
)
NAMES = [name for name in shipped() if name.startswith(("clip", "siglip"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_saves(name: str) -> None:
    told = TOLD.search(" ".join(about(shipped()[name])))
    assert told is not None, about(shipped()[name])
    recipe = load_recipe(name)

    def plan(size: str, graph: str | None = None) -> Plan:
        family = family_of(recipe.model)
        spec = family.spec(family.checked({"model_type": recipe.model, **SIZES[size]}, size))
        return make_plan(spec, edits_of(recipe, spec), 32, graph=graph)

    def figures(found: Plan) -> list[str]:
        left = (found.macs + found.reducer_macs) / 1e9
        return [f"{value:.2f}" for value in (found.ratio, found.dense_macs / 1e9, left)]

    image = plan(told["size"], "image")
    assert figures(image) == [told["ratio"], told["dense"], told["left"]]
    assert [str(image.rows[0].image_in), str(image.rows[-1].image_out)] == [told["n"], told["m"]]
    assert figures(plan(told["size"])) == [told["both"], told["all"], told["rest"]]
    if told["other"]:
        assert f"{plan(told['other'], 'image').ratio:.2f}" == told["there"]


READ = re.compile(
    r"x(?P<ratio>[\d.]+) fewer MACs until the first word of an answer\. (?P<dense>[\d.]+) -> "
    r"(?P<left>[\d.]+) GMACs for a picture and a prompt of (?P<text>\d+) tokens, and (?P<n>\d+) -> (?P<m>\d+) "
    r"tokens for the language model, on a (?P<whole>[^;]+); "
    r"x(?P<other>[\d.]+), (?P<all>[\d.]+) -> (?P<rest>[\d.]+), on (?P<second>[^,]+), as told"
)
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}
GEMMA_2B = {
    "model_type": "gemma",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}
VICUNA_13B = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40}
GEMMA3_4B = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
GEMMA3_12B = {
    "hidden_size": 3840,
    "intermediate_size": 15360,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
}
QWEN2_05B = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}


def _whole(language: dict[str, Any], image_size: int | None = None) -> dict[str, Any]:
    tower = {} if image_size is None else {"vision_config": {**SO400M, "image_size": image_size}}
    return {"text_config": {"max_position_embeddings": 4096, **language}, **tower}


_BASE = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 512, "patch_size": 16}
SMOLVLM_256M = {
    "vision_config": _BASE,
    "text_config": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
    },
    "scale_factor": 4,
}
SMOLVLM_2B = {
    "vision_config": {**SO400M, "image_size": 384},
    "text_config": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32},
    "scale_factor": 3,
}
IDEFICS3_8B = {
    "vision_config": {**SO400M, "image_size": 364},
    "text_config": {"hidden_size": 4096, "intermediate_size": 14336, "num_key_value_heads": 8},
    "scale_factor": 2,
}


def _onevision(language: dict[str, Any]) -> dict[str, Any]:
    tower = {"vision_config": {**SO400M, "num_hidden_layers": 26, "image_size": 384, "vision_use_head": False}}
    return {**tower, "text_config": {"model_type": "qwen2", **language}}


WHOLES: dict[str, dict[str, dict[str, Any]]] = {
    "llava": {"LLaVA-1.5 7B (image 336)": _whole({}), "a 13B": _whole(VICUNA_13B)},
    "paligemma": {
        "PaliGemma 3B (image 224)": _whole(GEMMA_2B, 224),
        "one of image 448": _whole(GEMMA_2B, 448),
    },
    "gemma3": {"Gemma 3 4B (image 896)": _whole(GEMMA3_4B, 896), "a 12B": _whole(GEMMA3_12B, 896)},
    "internvl": {"1B InternVL3 (image 448)": _whole(QWEN2_05B), "an 8B": _whole(QWEN2_7B)},
    "llava_onevision": {"LLaVA-OneVision 0.5B (image 384)": _onevision(QWEN2_05B), "a 7B": _onevision(QWEN2_7B)},
    "idefics3": {"SmolVLM 256M (image 512)": SMOLVLM_256M, "an Idefics3 8B": IDEFICS3_8B},
    "smolvlm": {"SmolVLM2 256M (image 512)": SMOLVLM_256M, "a 2.2B": SMOLVLM_2B},
}
"""What the recipes for vision parts tell of, by model; the sections are those of the published configs."""


@pytest.mark.parametrize("name", [name for name in shipped() if name.split("-")[0] in WHOLES])
def test_a_recipe_for_a_vision_part_says_what_it_saves_of_the_whole(name: str) -> None:
    told = READ.search(" ".join(about(shipped()[name])))
    assert told is not None, about(shipped()[name])
    recipe = load_recipe(name)
    family = family_of(recipe.model)

    def figures(whole: dict[str, Any]) -> tuple[list[str], Plan]:
        config = family.checked({"model_type": recipe.model, **whole}, name)
        edits = edits_of(recipe, family.spec(config))
        spec = family.spec({**config, "pumer": {"edits": list(edits)}})
        plan = make_plan(spec, edits, int(told["text"]))
        left = (plan.macs + plan.reducer_macs) / 1e9
        return [f"{value:.2f}" for value in (plan.ratio, plan.dense_macs / 1e9, left)], plan

    whole, second = (WHOLES[recipe.model][told[key]] for key in ("whole", "second"))
    found, plan = figures(whole)
    assert found == [told["ratio"], told["dense"], told["left"]]
    dense = make_plan(
        family.spec(family.checked({"model_type": recipe.model, **WHOLES[recipe.model][told["whole"]]}, name)), (), 2
    )
    assert (told["n"], told["m"]) == (str(dense.rows[-1].image_in), str(plan.rows[-1].image_in))
    assert figures(second)[0] == [told["other"], told["all"], told["rest"]]
