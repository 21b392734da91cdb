"""What the families share whose pictures are cut into tiles, of each of which a SigLIP tower and a shuffle of its
patches make tokens: Idefics3 and SmolVLM, whose vision parts are the same; torch-free."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pumer_convert.errors import InputError
from pumer_convert.models.spec import grid, sides_of
from pumer_convert.models.towers.language import LanguageSettings
from pumer_convert.models.towers.sections import PictureTower
from pumer_convert.models.towers.squares import Shuffled
from pumer_convert.models.towers.vision_family import VisionPartFamily
from pumer_convert.models.towers.vision_part import VisionPart, check_config_keys, language_section
from pumer_convert.models.values import ACTIVATIONS, WHOLE, only_architecture, read_values, section, wrong
from pumer_convert.rules import setting

if TYPE_CHECKING:
    from torch import Tensor

_NOTED = ("max_image_size", "size", "use_base_siglip")
"""Keys that published files have in the section of the tower, which its class reads nowhere: two are the
processor's."""


@dataclass(frozen=True)
class TilePictures(PictureTower):
    """The tower, with the defaults of its class."""

    hidden_size: int = setting(1152, int, least=1, most=WHOLE)
    num_attention_heads: int = setting(16, int, least=1, most=WHOLE)
    patch_size: int = setting(32, int, least=1, most=WHOLE)
    hidden_act: str = setting("gelu_pytorch_tanh", words=ACTIVATIONS)
    layer_norm_eps: float = setting(1e-6, float)


@dataclass(frozen=True)
class _Own:
    scale_factor: int = setting(2, int, least=1, most=WHOLE)


_KEYS = frozenset(("scale_factor", "use_reentrant_checkpointing"))


def settings_of(
    config: Mapping[str, Any], architectures: Collection[str] = (), where: object = "the model"
) -> VisionPart:
    """The values of a config of a family with these `architectures`; none: any. Raises InputError, beginning with
    `where`, for a key that is not known, a value that is not allowed, and values that do not go together."""
    check_config_keys(config, _KEYS, where)
    values = dict(section(config, "vision_config", where, optional=True))
    family = config.get("model_type")
    if (kind := values.pop("model_type", None) or family) not in (family, f"{family}_vision"):
        raise wrong(where, "vision_config.model_type", kind, f"the tower that is read is {family}_vision")
    for key in _NOTED:
        values.pop(key, None)
    vision = TilePictures.read(values, where, "vision_config.")
    return VisionPart(
        architecture=(only_architecture(config, architectures, where) if architectures else None) or "",
        vision=vision,
        language=LanguageSettings.read(config, "llama", where),
        taps=(vision.num_hidden_layers,),
        trimmed=False,
        normed=True,
        squares=Shuffled(side) if (side := read_values(_Own, config, where)["scale_factor"]) > 1 else None,
    )


class TilesFamily(VisionPartFamily):
    """See `Family`. `architectures` are transformers' classes that are read, the whole model's first."""

    architectures: ClassVar[tuple[str, ...]]
    network = "pumer_convert.models.towers.tiles_network:Tiles"
    known_by = ("connector.modality_projection.proj.weight",)
    tokenizer = "llama"

    def settings(self, config: Mapping[str, Any]) -> VisionPart:
        """See `VisionPartFamily`."""
        return settings_of(config)

    def checked(self, config: Mapping[str, Any], where: object) -> dict[str, Any]:
        """See `Family`; the language model's section stays as it is. Raises InputError; see `settings_of`."""
        found = settings_of({**config, "model_type": self.name}, self.architectures, where)
        return {
            **config,
            "model_type": self.name,
            "architectures": [found.architecture or self.architectures[0]],
            "vision_config": {"model_type": f"{self.name}_vision", **vars(found.vision)},
            "text_config": language_section(config.get("text_config"), found.language),
            "scale_factor": 1 if found.squares is None else found.squares.side,
        }

    def processor(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family`: tiles as large as the model takes them, and a picture of four by four at most."""
        side = min(sides_of(config["vision_config"]["image_size"]))
        return {
            "image_processor_type": self.image_processor,
            "size": {"longest_edge": 4 * side},
            "max_image_size": {"longest_edge": side},
        }

    def fit_positions(self, name: str, tensor: "Tensor", config: Mapping[str, Any], image_size: Any) -> "Tensor":
        """See `Family`. As its class does: of every place of the other grid the row of the nearest place before it in
        the table's. Raises InputError for a table of another size than the config's."""
        from pumer_convert.models.towers.tiles_network import places

        if name != self.positions_of(config):
            return tensor
        own = self.spec(config).pictures
        (rows, columns), (tall, wide) = (grid(size, own.patch) for size in (own.size, image_size))
        if tensor.shape[-2] != rows * columns:
            raise InputError(
                f"the table of positions has {tensor.shape[-2]} rows, but by image_size and patch_size it is one of "
                f"{rows}x{columns} patches; the weights do not fit the config."
            )
        if (rows, columns) == (tall, wide):
            return tensor
        if rows != columns:
            raise InputError(
                f"positions of {rows} x {columns} patches are for that grid alone; take those of a square."
            )
        if tall == wide and places((tall, wide), tall) != list(range(tall * wide)):
            raise InputError(
                f"tiles of {tall} x {wide} patches have places that its class rounds to others; take another size."
            )
        return tensor[places((tall, wide), rows)]
