"""Checkpoint folder -> ONNX file, with the reducers as functions of the domain `pumer`, verified against eager."""

import ast
import contextlib
import gc
import io
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
import torch._dynamo
from onnxscript import opset20, optimizer, rewriter
from onnxscript.rewriter.rules import common as rules
from torch import Tensor, nn

from pumer_convert.artifact.describe import PARTS, promise
from pumer_convert.checkpoint.locate import own_folder
from pumer_convert.checkpoint.read import as_checkpoint
from pumer_convert.convert.build import build
from pumer_convert.convert.load import kept_float32, signature_of
from pumer_convert.data.served_tokenizer import served_form
from pumer_convert.errors import InputError
from pumer_convert.export.tensorrt import ORIGIN
from pumer_convert.models.body import Body, in_full
from pumer_convert.models.signature import Signature
from pumer_convert.reducers.base import BaseReducer
from pumer_convert.reducers.site import Trace
from pumer_convert.reducers.traced import RENEW
from pumer_convert.system.output import check_files, output_files
from pumer_convert.system.owned import digest, listed, same, write_list
from pumer_convert.system.quiet import errors_alone
from pumer_convert.verification.verify import Case, sample, tensors, verify_onnx
from pumer_convert.weights import Checkpoint

DOMAIN = "pumer"
OPSET = 20
INLINE_LIMIT = 64 * 2**20
"""Weights above this many bytes go to a file beside the model: protobuf holds 2 GiB, and needs the memory twice."""

_RULES = (
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.reshape_reshape_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.squeeze_reshape_1d_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.materialize_reshape_shape_rule,
    rules.remove_optional_bias_from_conv_rule,
)
"""Those of onnxscript's rules that our graphs have a use for. Of the others, one (Slice to Split) takes time that grows
with the square of the graph."""


class ExportWrapper(nn.Module):
    """A graph of the model as its exported form: float32 in and out, then every decision of the reducers."""

    def __init__(self, model: Body, signature: Signature) -> None:
        super().__init__()
        self.model, self.signature = model, signature
        self.dtype = model.dtype

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        trace = Trace()
        given = {
            port.name: value.to(self.dtype) if value.is_floating_point() else value
            for port, value in zip(self.signature.inputs, values, strict=True)
        }
        outputs = self.model.run(self.signature.name, given, trace).outputs
        return (*(in_full(outputs[name]) for name in self.signature.names), *trace.taken.values())


def export_onnx(
    path: Path | str | Checkpoint,
    out: Path | str | None = None,
    *,
    graph: str | None = None,
    dtype: str = "float32",
    keep_float32: Iterable[str] | None = None,
    image_size: Any = None,
    opset: int = OPSET,
    inline_functions: bool = False,
    overwrite: bool = False,
    companions: Iterable[Path] = (),
    cases: tuple[Case, ...] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Export a `graph` (None: the first) of the checkpoint at `path`, or of one that is open, to `out` (default: its
    name and .onnx, such as model.onnx, in the checkpoint's folder), verify it, and write its sidecar `out`.json, from
    which `Pipeline` takes labels and preprocessing.

    Inputs as `Signature.inputs` says: input_ids, attention_mask int64 [batch, text], and pixel_values float32
    [batch, 3, H, W] ([batch, 2, 3, H, W] for image pairs), or where pictures keep their shape patches float32
    [batch, patches, 3 * P * P] and patch_grid int64 [batch, 2]; output logits float32 [batch, labels]. The weights and
    the arithmetic are of type `dtype`, but for the layers that `keep_float32` names (None: those of the recipe in the
    checkpoint's folder); scores, norms, counts and sizes are float32 or int64. Reducers are functions of
    domain `pumer` that bring their bodies along; `inline_functions` puts these into the graph itself, for runtimes that
    know no functions, such as OpenVINO. `companions` are files to copy beside it. Gives the report. Raises InputError
    for what cannot be exported, VerificationError when the result is not equal to eager; either leaves no file.
    """
    if opset < OPSET:
        raise InputError(f"opset {opset} is too old; the reducers need {OPSET} or newer.")
    checkpoint = as_checkpoint(path)
    signature = signature_of(checkpoint, graph, image_size)
    kept = kept_float32(checkpoint, dtype, keep_float32, signature.name)
    out = Path(out) if out is not None else own_folder(checkpoint.path) / f"{signature.name}.onnx"
    served = served_form(checkpoint, out.name) if signature.text is not None else None
    copied = [file for file in companions if not same(file, out.with_name(file.name))]
    check_files(out, overwrite, parts=PARTS, beside=[file.name for file in copied], inputs=checkpoint.files)
    ours = listed(out.with_name(f"{out.name}.json")) or {}
    stays = {file.name: ours[file.name] for file in companions if file not in copied and file.name in ours}
    with output_files(out, overwrite, parts=PARTS, inputs=checkpoint.files) as target:
        progress(f"building {checkpoint.family} in {dtype}")
        model = build(checkpoint, image_size, dtype, kept)
        progress("exporting")
        write_graph(model, checkpoint, signature, opset, target)
        if inline_functions:
            graph = onnx.load(str(target), load_external_data=False)
            onnx.save(onnx.inliner.inline_local_functions(graph), str(target))
        # Verification builds it anew, so that it never stands in memory beside the graph.
        del model
        gc.collect()  # the exporter leaves cycles
        progress("verifying against eager")
        report = verify_onnx(target, checkpoint, cases, image_size, signature.name, kept)
        for file in copied:
            shutil.copyfile(file, target.with_name(file.name))
        if served is not None:
            target.with_name(served.entry["file"]).write_text(served.text, "utf-8", newline="")
        hashes = {file.name: digest(file) for file in sorted(target.parent.iterdir())}
        sidecar = {
            **promise(checkpoint, dtype, image_size, opset, served, inline_functions, signature.name, kept),
            "onnx": {"file": out.name},
            "verification": report["verification"],
        }
        write_list(target.with_name(out.name + ".json"), sidecar, {**stays, **hashes})
    told = {name: sidecar[name] for name in ("opset", "image_size", "keep_float32")}
    return {"onnx": str(out), "graph": signature.name, **told, **report}


def trace_to_onnx(model: Body, checkpoint: Checkpoint, signature: Signature, opset: int) -> torch.onnx.ONNXProgram:
    """The ONNX program of `model`, not optimised, its functions without bodies, the decisions its last outputs."""
    inputs = sample(signature, Case(batch=2, text=9))
    with torch.no_grad():
        names = list(model.run(signature.name, tensors(inputs, model.dtype)).trace.taken)
    sides = [{i: side for i, side in enumerate(port.shape) if isinstance(side, str)} for port in signature.inputs]
    with _quiet():
        program = torch.onnx.export(
            ExportWrapper(model, signature).eval(),
            tuple(tensors(inputs, torch.float32).values()),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=[*signature.names, *names],
            dynamic_shapes=(tuple(sides),),
            optimize=False,
            verbose=False,
            custom_translation_table=TRANSLATIONS,
        )
    assert program is not None
    program.model.graph.name = checkpoint.family
    program.model.producer_name = "pumer-convert"
    return program


def _renewed(values: Sequence[Any]) -> tuple[Any, ...]:
    """`renew` in a graph: nothing."""
    return tuple(opset20.Identity(value) for value in values)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {RENEW: _renewed}
"""What operators of ours become in a graph."""


def write_graph(model: Body, checkpoint: Checkpoint, signature: Signature, opset: int, target: Path) -> None:
    """Trace, optimise and write; weights too large for one protobuf go beside the file. Freezes the model, for what
    has a gradient takes longer to trace."""
    model.requires_grad_(False)
    # The cache of shapes is slower than working them out anew where they are symbols: a fifth of the tracing.
    with torch._dynamo.config.patch(fake_tensor_cache_enabled=False):
        program = trace_to_onnx(model, checkpoint, signature, opset)
    weights = list(program.model.graph.initializers.values())
    with _quiet():
        _optimize(program.model)
        # The decisions keep their names in the graph, where `open_graph` finds them.
        del program.model.graph.outputs[len(signature.outputs) :]
        attach_functions(program.model, model, opset)
        _expand_masks(program.model)
        _name_origins(program.model)
        weights += program.model.graph.initializers.values()
        size = sum(w.const_value.nbytes for w in program.model.graph.initializers.values() if w.const_value is not None)
        for value in program.model.graph.initializers.values():
            # Each has its own; said twice, quantizers that transpose a weight are told the old one.
            value.shape, value.type = None, None
        program.save(str(target), external_data=size > INLINE_LIMIT)
    # The optimiser's rules keep the last graph that they saw, so its weights have to go by hand.
    for weight in weights:
        weight.const_value = None


def _optimize(graph: ir.Model) -> None:
    """What `ONNXProgram.optimize` makes of it, in a fifth of the time: one round, and only the rules that apply."""
    optimizer.inline(graph)
    optimizer.fold_constants_ir(graph, onnx_shape_inference=True)
    optimizer.remove_unused_nodes(graph)
    rewriter.rewrite(graph, _RULES)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    passes.DeduplicateInitializersPass()(graph)
    passes.CommonSubexpressionEliminationPass()(graph)
    passes.OutputFixPass()(graph)
    passes.NameFixPass()(graph)
    optimizer.fold_constants_ir(graph)
    optimizer.remove_unused_nodes(graph)


def attach_functions(graph: ir.Model, model: nn.Module, opset: int) -> None:
    """Give the graph the body of every function that its reducers call; the optimiser would have inlined them."""
    for reducer in {type(m): m for m in model.modules() if isinstance(m, BaseReducer)}.values():
        function = ir.serde.deserialize_function(onnx.parser.parse_function(reducer.body(opset)))
        graph.functions[function.identifier()] = function
    graph.opset_imports[DOMAIN] = 1


def _expand_masks(graph: ir.Model) -> None:
    """From opset 23 on attention is one node, whose mask ONNX Runtime wants with a row for each query: [B, 1, M, N]."""
    for node in [n for n in graph.graph if n.op_type == "Attention" and len(n.inputs) > 3 and n.inputs[3] is not None]:
        one = ir.node("Constant", [], {"value_ints": [1]})
        rows = ir.node("Shape", [node.inputs[0]], {"start": 2, "end": 3})
        shape = ir.node("Concat", [*one.outputs, *one.outputs, *rows.outputs, *one.outputs], {"axis": 0})
        expanded = ir.node("Expand", [node.inputs[3], *shape.outputs])
        graph.graph.insert_before(node, [one, rows, shape, expanded])
        node.replace_input_with(3, expanded.outputs[0])


def _name_origins(graph: ir.Model) -> None:
    """Of all that the exporter notes about a node keep the part of the model: the rest tells paths of this machine."""
    for node in graph.graph.all_nodes():
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        node.metadata_props.clear()
        if scopes and len(parts := ast.literal_eval(scopes)) > 1:
            node.metadata_props[ORIGIN] = parts[-2].removeprefix("model.") or parts[-1]
    for value in (*graph.graph.initializers.values(), *graph.graph.inputs, *graph.graph.outputs):
        value.metadata_props.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks to its developers; its users hear from us."""
    with errors_alone("torch.onnx"), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
