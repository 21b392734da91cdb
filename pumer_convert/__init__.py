"""pumer-convert: token reducers for vision-language checkpoints, from checkpoint to engine.

The public names are loaded when they are first used, so that importing the package stays cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pumer_convert.errors import missing

if TYPE_CHECKING:
    from pumer_convert.benchmark.bench import Bench, bench
    from pumer_convert.convert.apply import ApplyPlan, apply, prepare_apply
    from pumer_convert.convert.inspect import Inspection, inspect
    from pumer_convert.convert.load import load
    from pumer_convert.data.formats import SampleSet, read_samples
    from pumer_convert.data.preprocess import Preprocessor
    from pumer_convert.data.sample import Sample
    from pumer_convert.errors import InputError, MissingDependencyError, PumerError, VerificationError
    from pumer_convert.evaluation.evaluate import Evaluation, evaluate
    from pumer_convert.export.folder import export_folder, verify_export
    from pumer_convert.export.layouts.embeddings import export_embeddings
    from pumer_convert.export.layouts.hf import export_hf, register
    from pumer_convert.export.layouts.openvino_genai import export_openvino_genai
    from pumer_convert.export.layouts.ort_genai import export_ort_genai
    from pumer_convert.export.onnx import export_onnx
    from pumer_convert.export.quantize import quantize
    from pumer_convert.export.quantize_folder import quantize_folder
    from pumer_convert.export.tensorrt import EngineSettings, build_engine
    from pumer_convert.export.triton import export_triton
    from pumer_convert.recipe.schema import Profile, Recipe, load_recipe
    from pumer_convert.recipe.settings import DistillSettings
    from pumer_convert.runtime.base import Runtime
    from pumer_convert.runtime.open import open_runtime
    from pumer_convert.runtime.pipeline import Answer, Pipeline
    from pumer_convert.training.apply_and_distill import apply_and_distill
    from pumer_convert.training.distill import distill
    from pumer_convert.training.samples import training_samples
    from pumer_convert.verification.verify import Case
    from pumer_convert.visualize.visualize import show

__version__ = "0.1.0"

_PUBLIC = {
    "Answer": "runtime.pipeline",
    "ApplyPlan": "convert.apply",
    "Bench": "benchmark.bench",
    "Case": "verification.verify",
    "DistillSettings": "recipe.settings",
    "EngineSettings": "export.tensorrt",
    "Evaluation": "evaluation.evaluate",
    "InputError": "errors",
    "Inspection": "convert.inspect",
    "MissingDependencyError": "errors",
    "Pipeline": "runtime.pipeline",
    "Preprocessor": "data.preprocess",
    "Profile": "recipe.schema",
    "PumerError": "errors",
    "Recipe": "recipe.schema",
    "Runtime": "runtime.base",
    "Sample": "data.sample",
    "SampleSet": "data.formats",
    "VerificationError": "errors",
    "apply": "convert.apply",
    "apply_and_distill": "training.apply_and_distill",
    "bench": "benchmark.bench",
    "build_engine": "export.tensorrt",
    "distill": "training.distill",
    "evaluate": "evaluation.evaluate",
    "export_embeddings": "export.layouts.embeddings",
    "export_folder": "export.folder",
    "export_hf": "export.layouts.hf",
    "export_onnx": "export.onnx",
    "export_openvino_genai": "export.layouts.openvino_genai",
    "export_ort_genai": "export.layouts.ort_genai",
    "export_triton": "export.triton",
    "inspect": "convert.inspect",
    "load": "convert.load",
    "load_recipe": "recipe.schema",
    "open_runtime": "runtime.open",
    "prepare_apply": "convert.apply",
    "quantize": "export.quantize",
    "quantize_folder": "export.quantize_folder",
    "read_samples": "data.formats",
    "register": "export.layouts.hf",
    "show": "visualize.visualize",
    "training_samples": "training.samples",
    "verify_export": "export.folder",
}
"""Public name -> the module it lives in; the same as under TYPE_CHECKING, which type checkers and editors read."""

__all__ = [
    "Answer",
    "ApplyPlan",
    "Bench",
    "Case",
    "DistillSettings",
    "EngineSettings",
    "Evaluation",
    "InputError",
    "Inspection",
    "MissingDependencyError",
    "Pipeline",
    "Preprocessor",
    "Profile",
    "PumerError",
    "Recipe",
    "Runtime",
    "Sample",
    "SampleSet",
    "VerificationError",
    "__version__",
    "apply",
    "apply_and_distill",
    "bench",
    "build_engine",
    "distill",
    "evaluate",
    "export_embeddings",
    "export_folder",
    "export_hf",
    "export_onnx",
    "export_openvino_genai",
    "export_ort_genai",
    "export_triton",
    "inspect",
    "load",
    "load_recipe",
    "open_runtime",
    "prepare_apply",
    "quantize",
    "quantize_folder",
    "read_samples",
    "register",
    "show",
    "training_samples",
    "verify_export",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        try:
            return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        except ModuleNotFoundError as error:
            raise missing(error) or error from error
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
