"""What is the same of the families of decoder VLMs."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pumer_convert.models.family import Family
from pumer_convert.models.rates import Rates
from pumer_convert.models.spec import ModelSpec
from pumer_convert.models.towers.folders import without_config
from pumer_convert.models.towers.vision_folders import part_of
from pumer_convert.models.towers.vision_part import PROJECTOR, TOWER, VisionPart, spec_of_part
from pumer_convert.weights import Checkpoint, RawCheckpoint


class VisionPartFamily(Family):
    """See `Family`. `spelled` is how a person writes its name."""

    spelled: ClassVar[str]
    positions = f"{TOWER}embeddings.position_embedding.weight"
    image_section = "vision_config"
    rates: ClassVar[Mapping[str, Rates]] = {}
    heads = (PROJECTOR,)

    @abstractmethod
    def settings(self, config: Mapping[str, Any]) -> VisionPart:
        """The values of a config that was checked."""

    def projected(self, settings: VisionPart) -> int:
        """The multiply-accumulates of the projector for a token: of one matrix unless a family says otherwise."""
        return settings.width * settings.language.hidden_size

    def spec(self, config: Mapping[str, Any], image_size: Any = None) -> ModelSpec:
        """See `Family`."""
        settings = self.settings(config)
        return spec_of_part(settings, self.projected(settings), config, image_size)

    def recognise(self, raw: RawCheckpoint) -> Checkpoint | None:
        """See `Family`. Raises InputError also for weights of the family that nothing says how to use."""
        kind = raw.config.get("model_type")
        if kind is None and not set(self.known_by).isdisjoint(raw.source.names()):
            raise without_config(raw, self.spelled)
        if kind != self.name:
            return None
        config = self.checked(raw.config, raw.path)
        return part_of(raw, self.name, config, self.settings(config))
