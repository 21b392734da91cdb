"""A folder of OpenVINO GenAI of a tiny LLaVA, with every file that its VLMPipeline reads."""

import json
import shutil
from pathlib import Path
from typing import Any

import language_graph
import numpy as np
import openvino
import openvino_genai
from openvino import opset13 as ops
from openvino._offline_transformations import apply_make_stateful_transformation
from openvino_tokenizers import convert_tokenizer
from transformers import AutoProcessor, LlavaForConditionalGeneration

VISION = "openvino_vision_embeddings_model"


def write(whole: Path, vision: Path, out: Path) -> Path:
    """The LLaVA folder `whole`, and `vision`, its vision part as ONNX, as `out`. Gives it."""
    out.mkdir()
    model = LlavaForConditionalGeneration.from_pretrained(whole).eval()
    shutil.copyfile(whole / "config.json", out / "config.json")
    processor = AutoProcessor.from_pretrained(whole)
    processor.image_processor.save_pretrained(out)
    # As every published folder has it, without a level between.
    values = json.loads((whole / "processor_config.json").read_text())["image_processor"]
    (out / "preprocessor_config.json").write_text(json.dumps(values))
    (out / "processor_config.json").unlink(missing_ok=True)
    (out / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    for name, made in zip(
        ("tokenizer", "detokenizer"), convert_tokenizer(processor.tokenizer, with_detokenizer=True), strict=True
    ):
        openvino.save_model(made, out / f"openvino_{name}.xml", compress_to_fp16=False)
    processor.tokenizer.save_pretrained(out)
    _save(openvino.Core().read_model(vision), out / f"{VISION}.xml", "pixel_values", "last_hidden_state")
    ids = ops.parameter([-1, -1], np.int64, name="input")
    table = ops.constant(model.get_input_embeddings().weight.detach().numpy())
    words = openvino.Model([ops.gather(table, ids, ops.constant(0))], [ids])
    _save(words, out / "openvino_text_embeddings_model.xml", "input", "inputs_embeds")
    names = language_graph.write_language(model, out / "language.onnx")
    language = openvino.Core().read_model(out / "language.onnx")
    (out / "language.onnx").unlink()
    (out / "language.onnx.data").unlink(missing_ok=True)
    openvino.save_model(_stateful(language, names), out / "openvino_language_model.xml", compress_to_fp16=False)
    return out


def _save(model: Any, file: Path, given: str, gives: str) -> None:
    model.inputs[0].get_tensor().set_names({given})
    model.outputs[0].get_tensor().set_names({gives})
    openvino.save_model(model, file, compress_to_fp16=False)


def _stateful(model: Any, names: list[str]) -> Any:
    """With the cache as states, which begin empty and whose rows `beam_idx` orders."""
    beams = ops.parameter([-1], np.int32, name="beam_idx")
    beams.output(0).get_tensor().add_names({"beam_idx"})
    model.add_parameters([beams])
    for name in names:
        port = model.input(name)
        used = list(port.get_target_inputs())
        ordered = ops.gather(port.get_node().output(0), beams, ops.constant(0))
        for one in used:
            one.replace_source_output(ordered.output(0))
    model.validate_nodes_and_infer_types()
    shapes = {name: model.input(name).partial_shape for name in names}
    apply_make_stateful_transformation(model, {name: name.replace("past_key_values", "present") for name in names})
    batch = ops.gather(
        ops.shape_of(model.input("inputs_embeds").get_node().output(0), "i64"),
        ops.constant(np.array([0], np.int64)),
        ops.constant(0),
    )
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            name = next(name for name in names if name in node.get_variable_id())
            heads, width = (shapes[name][i].get_length() for i in (1, 3))
            sides = [batch, *(ops.constant(np.array([n], np.int64)) for n in (heads, 0, width))]
            node.set_arguments([ops.broadcast(ops.constant(np.float32(0)), ops.concat(sides, 0)).output(0)])
    model.validate_nodes_and_infer_types()
    return model


class Heard(openvino_genai.StreamerBase):
    """The ids that a pipeline generates."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[int] = []

    def write(self, token: Any) -> Any:
        """Keeps what comes."""
        self.ids += token if isinstance(token, list) else [token]
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Nothing is to be done."""
