"""What a recipe may say: reading the YAML, with every mistake named by its line."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yaml.nodes import Node, ScalarNode

from pumer_convert.amount import UNLIMITED, Amount
from pumer_convert.errors import InputError, nearest
from pumer_convert.models.family import FAMILIES, family_of
from pumer_convert.recipe.layer_names import NUMBERED, SINGLE, SITES, layer_names
from pumer_convert.recipe.settings import AUGMENT_RULES, RULES, Augment, DistillSettings
from pumer_convert.recipe.shipped import locate, shipped
from pumer_convert.recipe.yaml_reader import YamlReader, quote
from pumer_convert.reducers import KINDS, SIDES, UNMERGE, Kind, kinds_of
from pumer_convert.rules import Rule

KEYS = (
    *("recipe", "model", "task", "semantics", "proportional_attention", "image_size"),
    *("reduce", "distill", "export"),
)
TASKS = ("vqa", "nlvr2", "ve", "retrieval")
SEMANTICS = ("default", "reference")
DTYPES = ("float32", "float16", "bfloat16")
NULL = "tag:yaml.org,2002:null"  # an empty value at the top says the same as no key

MANNER = {"side": SIDES, "unmerge": UNMERGE}
MODALITIES = {"prune": ("image",), "merge": ("image", "text")}


@dataclass(frozen=True)
class Action:
    """One reducer: `op` ("prune" or "merge") on `modality` ("image" or "text"), by the reducer kind `by`, with the
    parameters that this kind has (the name of the file of one that is made of texts)."""

    op: str
    modality: str
    amount: Amount
    by: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepSpec:
    """What is done at some sites; `line` is where the step starts in the recipe, counted from 1. `side` is on which
    side of a projector, "before" or "after", None: where its kinds stand by themselves (see `Kind`). `unmerge`: where
    the tokens that merge get their places back, "before_projector"; None: nowhere.

    The actions stand in the order of PuMer (ACL 2023, section 3): prune image, merge image, merge text.
    """

    sites: tuple[str, ...]
    actions: tuple[Action, ...]
    line: int
    side: str | None = None
    unmerge: str | None = None

    @property
    def manner(self) -> dict[str, str]:
        """`side` and `unmerge`, of these what is said."""
        return {key: value for key in MANNER if (value := getattr(self, key)) is not None}


@dataclass(frozen=True)
class Profile:
    """The batch sizes and text lengths an engine is built for, each (smallest, fastest, largest); and the patches of
    the largest picture of a batch where pictures keep their shape, None: all that the processor can make, square ones
    the fastest."""

    batch: tuple[int, int, int] = (1, 1, 8)
    text: tuple[int, int, int] = (4, 32, 40)
    patches: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class ExportSettings:
    """The number type and shapes that an export is made for; `keep_float32` names layers that stay in float32 where the
    type is another (see `layer_names`)."""

    dtype: str = "float32"
    profiles: tuple[Profile, ...] = (Profile(),)
    keep_float32: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A recipe with every default filled in; `text` is the YAML word for word and `path` where it came from.

    `semantics` "reference" is the published PuMer behaviour with its quirks, "default" the mended one.
    `proportional_attention` weighs a merged token by its size (ToMe, ICLR 2023, section 3): on unless the
    recipe says otherwise, always off under the reference semantics, which never had it. `distill` is None when the
    recipe has no such section. `image_size` is the shorter side of the images that the model is to take from now on,
    None: the checkpoint's. `choices` are those of its family (see `Family.choices`), such as `fit` "squash", which
    stretches every picture to a square, or None, what the processor does; the reference semantics always squash, as the
    published code does.
    """

    model: str
    task: str | None
    semantics: str
    proportional_attention: bool
    steps: tuple[StepSpec, ...]
    export: ExportSettings
    text: str
    path: str
    distill: DistillSettings | None = None
    image_size: int | None = None
    choices: Mapping[str, str | None] = field(default_factory=dict)

    def error(self, line: int, message: str) -> InputError:
        """An error to raise about this recipe's `line`: "recipes/x.yaml:12: message"."""
        return InputError(f"{self.path}:{line}: {message}")

    def to_json(self) -> dict[str, Any]:
        """The recipe in its own format with the defaults filled in: read again as YAML, it means the same."""
        profiles = [
            {name: list(sides) for name, sides in asdict(p).items() if sides is not None} for p in self.export.profiles
        ]
        kept = {"keep_float32": list(self.export.keep_float32)} if self.export.keep_float32 else {}
        return {
            "recipe": 1,
            "model": self.model,
            "task": self.task,
            "semantics": self.semantics,
            "proportional_attention": self.proportional_attention,
            "image_size": self.image_size,
            **self.choices,
            "reduce": [_step_to_json(step) for step in self.steps],
            "distill": None if self.distill is None else self.distill.to_json(),
            "export": {"dtype": self.export.dtype, "profiles": profiles, **kept},
        }


def _step_to_json(step: StepSpec) -> dict[str, Any]:
    result: dict[str, Any] = {"at": list(step.sites), **step.manner}
    for action in step.actions:
        entry = result.setdefault(action.op, {"by": action.by})
        entry[action.modality] = action.amount.to_json()
        entry |= action.params
    return result


def export_settings(folder: Path) -> ExportSettings:
    """The `export:` section of the recipe in a converted folder; defaults where there is none. Raises InputError for a
    recipe that is not one."""
    recipe = folder / "recipe.yaml"
    return load_recipe(recipe).export if recipe.exists() else ExportSettings()


def load_recipe(path: Path | str) -> Recipe:
    """Read the recipe in a file, or the shipped one of a name such as "vilt-fast". Raises InputError when there is
    none, or it says something impossible."""
    path = locate(path)
    data = b""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except FileNotFoundError:
        names = [other.name for other in path.parent.glob("*.yaml")]
        known = path.stem in shipped() and path.suffix != ""
        close = f" Did you mean '{path.stem}', which ships?" if known else ""
        close = close or nearest(path.name, names if path.suffix else [*names, *shipped()])
        ships = "" if path.suffix else " (`pumer-convert recipes` lists those that ship)"
        raise InputError(f"{path}: there is no such recipe{ships}.{close}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: the recipe is not UTF-8 text.") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the recipe cannot be read: {why}.") from None
    return parse_recipe(text, str(path))


def parse_recipe(text: str, path: str = "<recipe>") -> Recipe:
    """Read the text of a recipe, named `path` in messages. Raises InputError with the line of a mistake."""
    parser = _Parser(path)
    return parser.recipe(parser.compose(text), text)


class _Parser(YamlReader):
    """Reads a recipe."""

    def recipe(self, root: Node, text: str) -> Recipe:
        families = {name: family_of(name).choices for name in FAMILIES}
        keys = self.mapping(root, "the recipe", (*KEYS, *sorted({key for own in families.values() for key in own})))
        keys = {key: node for key, node in keys.items() if node.tag != NULL}
        for key, allowed in (("recipe", "1"), ("model", ", ".join(FAMILIES))):
            if key not in keys:
                self.fail(root, f"the recipe does not say '{key}'; allowed: {allowed}.")
        self.choice(keys["recipe"], "recipe (the version of the format)", ("1",))
        model = self.choice(keys["model"], "model", FAMILIES)
        task = self.choice(keys["task"], "task", TASKS) if "task" in keys else None
        mode = self.choice(keys["semantics"], "semantics", SEMANTICS) if "semantics" in keys else SEMANTICS[0]
        proportional = self.proportional(keys.get("proportional_attention"), mode)
        steps = self.steps(keys["reduce"], mode) if "reduce" in keys else ()
        export = self.export(keys["export"]) if "export" in keys else ExportSettings()
        distill = self.distill(keys["distill"]) if "distill" in keys else None
        size = self.count(keys["image_size"], "image_size", 1) if "image_size" in keys else None
        choices = self.choices(keys, model, families)
        return Recipe(model, task, mode, proportional, steps, export, text, self.path, distill, size, choices)

    def choices(
        self, keys: Mapping[str, Node], model: str, families: Mapping[str, Mapping[str, tuple[str | None, ...]]]
    ) -> dict[str, str | None]:
        """What holds of those that the model's family has; one that others alone have is refused."""
        own = families[model]
        for key, node in keys.items():
            if key not in (*KEYS, *own):
                having = " and ".join(name for name, choices in families.items() if key in choices)
                self.fail(node, f"{key}: {model} has no such choice, {having} alone; remove the key.")
        return {
            key: self.choice(keys[key], key, [word for word in words if word is not None]) if key in keys else words[0]
            for key, words in own.items()
        }

    def proportional(self, node: Node | None, semantics: str) -> bool:
        if node is None:
            return semantics == "default"
        wanted = self.choice(node, "proportional_attention", ("true", "false")) == "true"
        if wanted and semantics == "reference":
            why = "the published method has none; leave it out, or use semantics: default"
            self.fail(node, f"proportional_attention cannot be true under semantics: reference: {why}.")
        return wanted

    def steps(self, node: Node, semantics: str) -> tuple[StepSpec, ...]:
        kinds = kinds_of(semantics)
        steps = tuple(self.step(item, kinds) for item in self.items(node, "reduce"))
        taken: dict[str, int] = {}
        for step in steps:
            for site in step.sites:
                if site in taken:
                    self.fail(step.line, f"{site} is already named by the step at line {taken[site]}.")
                taken[site] = step.line
            if semantics == "reference":
                self.check_reference(step, steps[0])
        return steps

    def step(self, node: Node, kinds: Mapping[str, Mapping[str, Kind]]) -> StepSpec:
        keys = self.mapping(node, "a step of reduce", ("at", *MANNER, *MODALITIES))
        if "at" not in keys:
            self.fail(node, f"the step does not say 'at', where it stands; allowed: {SITES}.")
        sites = self.sites(keys["at"])
        actions = [a for op in MODALITIES if op in keys for a in self.actions(keys[op], op, kinds[op])]
        if not actions:
            self.fail(node, "the step has neither 'prune' nor 'merge'; give one or both, or remove the step.")
        manner = {key: self.choice(keys[key], key, words) for key, words in MANNER.items() if key in keys}
        return StepSpec(sites, tuple(actions), node.start_mark.line + 1, **manner)

    def actions(self, node: Node, op: str, kinds: Mapping[str, Kind]) -> list[Action]:
        known = [name for kind in KINDS[op].values() for name in kind.params]
        keys = self.mapping(node, op, (*MODALITIES[op], "by", *known))
        by = self.choice(keys["by"], f"{op}.by", kinds) if "by" in keys else next(iter(kinds))
        found = [m for m in MODALITIES[op] if m in keys]
        if not found:
            self.fail(node, f"{op} does not say of what; give it {' or '.join(MODALITIES[op])}.")
        own = kinds[by].params
        for name in known:
            if name in keys and name not in own:
                having = " and ".join(other for other, kind in kinds.items() if name in kind.params) or "no kind here"
                self.fail(keys[name], f"{op} by {by} has no {name}; {having} alone has one.")
        given = {name: keys[name] for name in own if name in keys}
        params: dict[str, Any] = {name: param.default for name, param in own.items()}
        rules = {name: Rule() if param.texts else param.rule for name, param in own.items()}
        params |= self.settings(given, op, rules)
        return [Action(op, m, self.amount(keys[m], f"{op}.{m}"), by, params) for m in found]

    def sites(self, node: Node) -> tuple[str, ...]:
        sites: list[str] = []
        for item in self.several(node):
            text = self.word(item, "at", SITES)
            if text.strip() not in SINGLE and not NUMBERED.fullmatch(text.strip()):
                self.fail(item, f"at cannot be {quote(text)}; allowed: {SITES}.")
            sites += self.layers(item, "at", text)
        if not sites:
            self.fail(node, f"at names no site; allowed: {SITES}.")
        return tuple(sites)

    def layers(self, node: Node, name: str, text: str) -> tuple[str, ...]:
        try:
            return layer_names(text)
        except InputError as error:
            self.fail(node, f"{name} has {error}")

    def check_reference(self, step: StepSpec, first: StepSpec) -> None:
        """What the published method needs: one set of shares, with image pruning and merging both at work."""
        amounts = [action.amount for action in step.actions]
        images = {action.op for action in step.actions if action.modality == "image" and action.amount.num}
        if any(amount.drop or amount.keep != UNLIMITED for amount in amounts):
            self.fail(step.line, "semantics: reference takes only shares, as the published method does.")
        if images != {"prune", "merge"}:
            needs = "prune.image and merge.image above 0 at every step, as the published method does"
            self.fail(step.line, f"semantics: reference needs {needs}; use semantics: default for one alone.")
        if step.actions != first.actions:
            needs = f"the same shares at every step, and this one differs from the step at line {first.line}"
            self.fail(step.line, f"semantics: reference needs {needs}.")

    def distill(self, node: Node) -> DistillSettings:
        keys = self.mapping(node, "distill", (*RULES, "augment"))
        augment = keys.pop("augment", None)
        values: dict[str, Any] = self.settings(keys, "distill", RULES)
        if augment is not None and augment.tag != NULL:
            inner = self.mapping(augment, "distill.augment", AUGMENT_RULES)
            values["augment"] = Augment(**self.settings(inner, "distill.augment", AUGMENT_RULES))
        return DistillSettings(**values)

    def settings(self, keys: Mapping[str, Node], name: str, rules: Mapping[str, Rule]) -> dict[str, Any]:
        """The values of those that are not left empty, each by its rule."""
        values: dict[str, Any] = {}
        for key, node in keys.items():
            rule = rules[key]
            if node.tag == NULL:
                continue
            text = self.word(node, f"{name}.{key}", rule.allowed)
            values[key] = rule.read(text)
            if not rule.holds(values[key]):
                hint = nearest(text, rule.words)
                self.fail(node, f"{name}.{key} cannot be {quote(text)}; allowed: {rule.allowed}.{hint}")
        return values

    def export(self, node: Node) -> ExportSettings:
        keys = self.mapping(node, "export", ("dtype", "profiles", "keep_float32"))
        dtype = self.choice(keys["dtype"], "export.dtype", DTYPES) if "dtype" in keys else "float32"
        profiles = ExportSettings.profiles
        if "profiles" in keys:
            profiles = tuple(self.profile(item) for item in self.items(keys["profiles"], "export.profiles"))
        if not profiles:
            self.fail(node, "export.profiles is empty; give one profile or leave the key out.")
        kept: list[str] = []
        for item in self.several(keys.get("keep_float32")):
            name = "export.keep_float32"
            text = self.word(item, name, f"{SITES}; other layers by the names that `inspect` prints; or head")
            kept += self.layers(item, name, text)
        return ExportSettings(dtype, profiles, tuple(dict.fromkeys(kept)))

    def profile(self, node: Node) -> Profile:
        keys = self.mapping(node, "a profile of export", ("batch", "text", "patches"))
        batch = self.bounds(keys["batch"], "batch", 1) if "batch" in keys else Profile.batch
        text = self.bounds(keys["text"], "text", 2) if "text" in keys else Profile.text
        patches = self.bounds(keys["patches"], "patches", 1) if "patches" in keys else None
        return Profile(batch, text, patches)

    def bounds(self, node: Node, name: str, least: int) -> tuple[int, int, int]:
        if isinstance(node, ScalarNode):
            return (self.count(node, name, least),) * 3
        values = [self.count(item, name, least) for item in self.items(node, name)]
        if len(values) != 3 or values != sorted(values):
            self.fail(node, f"{name} must be one number, or [min, opt, max] with min <= opt <= max.")
        return values[0], values[1], values[2]
