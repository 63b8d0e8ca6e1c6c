"""From presets, files and flags to one checked `SolverConfig`.

Later layers win: defaults, preset, config file, `--set`, the named flags. Every refusal is one line
that names the key. What the values mean is `config.py`'s business.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from solver.config import SolverConfig, stages_of
from solver.errors import ConfigError, ModelError, first_fault
from solver.scorers.declaration import Need
from solver.scorers.folders import last_check_folder, shipped_for
from solver.scorers.last_check import NOT_ON_VLLM
from solver.scorers.registry import find_scorer, names_with_chances, scorer_names
from solver.types import Check

_Layer = dict[str, Any]

_PRESETS = Path(__file__).parents[1] / "presets"
_DURATION = re.compile(
    r"(?=[\d.])(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?",
    re.ASCII,
)
_RANGE = re.compile(r"(-?\d{1,18}):(-?\d{1,18})", re.ASCII)
_STAGE = re.compile(r"(\d{1,9}):(\d{1,9})", re.ASCII)


def load_config(
    preset: str | None = None,
    config_file: str | Path | None = None,
    sets: Sequence[str] = (),
    overrides: Mapping[str, object] | None = None,
    *,
    base: SolverConfig | None = None,
) -> SolverConfig:
    """Resolve the layers; `overrides` maps dotted keys to the values of flags that were given.

    The default preset is `embedded`; when a layer names another model, that of the model for which an
    adapter is shipped, or `general`. With `base` (the config of a run that is resumed) the layers go on top
    of it and no preset is implied.
    """
    flags: _Layer = {}
    for text in sets:
        _merge(flags, _set_layer(text))
    for key, value in (overrides or {}).items():
        layer = _nested(key, value)
        _check_keys(layer, SolverConfig)
        _merge(flags, layer)
    upper = _file_layer(Path(config_file)) if config_file is not None else {}
    _lay(upper, flags)

    config: _Layer = base.model_dump() if base is not None else {}
    if preset is None and base is None:
        path = upper.get("model", {}).get("path", "embedded")
        preset = "embedded" if path == "embedded" else _preset_for(path)
    if preset is not None:
        _lay(config, _preset_layer(preset))
    _lay(config, upper)
    theirs = preset not in (None, "embedded")
    if theirs and config["model"].get("path", "embedded") == "embedded":
        raise ConfigError(
            f"the preset {preset} is for a model of yours: add --set model.path=FOLDER"
        )
    return _validated(config)


def differing_key(one: SolverConfig, other: SolverConfig) -> str | None:
    """The first dotted key in which two configs differ."""
    theirs = dict(_flat(other.model_dump()))
    return next((key for key, value in _flat(one.model_dump()) if theirs[key] != value), None)


def parse_duration(text: str) -> float:
    """Seconds in `20s`, `5m`, `4h50m`, `1.5h` or `300`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a duration; write 20s, 5m, 4h50m, 1.5h or seconds")
    hours, minutes, seconds = (float(part or 0) for part in match.group("h", "m", "s"))
    return hours * 3600 + minutes * 60 + seconds


def parse_range(text: str) -> tuple[int, int]:
    """Smallest and largest answer in `0:99999`."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a range; write smallest:largest, for example 0:99999")
    return int(match[1]), int(match[2])


def parse_stages(text: str) -> tuple[Check, ...]:
    """`32:16+64:8` as the checks of `prune.stages`."""
    pairs = [_STAGE.fullmatch(part) for part in text.split("+")]
    if not all(pairs):
        raise ConfigError(f"{text!r} are no stages; write mark:keep for each, such as 32:16+64:8")
    try:
        return stages_of([[int(pair[1]), int(pair[2])] for pair in pairs if pair])
    except ValueError as error:
        raise ConfigError(str(error)) from None


def refuse_unread(config: SolverConfig) -> None:
    """Raise `ConfigError` for an adapter or a reward model that nothing in a run would read."""
    scorer = config.prune.scorer
    for key, need in (("adapter", Need.ADAPTER), ("reward_model", Need.REWARD_MODEL)):
        named = getattr(config.prune, key) is not None
        if named and need not in find_scorer(scorer).needs and config.record != "full":
            readers = [name for name in scorer_names() if need in find_scorer(name).needs]
            raise ConfigError(
                f"prune.{key} is not read by the scorer {scorer}: choose prune.scorer from"
                f" {', '.join(readers)}"
            )


def preset_names() -> list[str]:
    """Every preset that is shipped, sorted."""
    return sorted(path.stem for path in _PRESETS.glob("*.toml"))


def _preset_for(model: object) -> str:
    """The preset of a model of others."""
    try:
        shipped = shipped_for(str(model))
    except ModelError:  # whoever loads it says so
        shipped = None
    return "general" if shipped is None else shipped.name


def _preset_layer(name: str) -> _Layer:
    if name not in preset_names():
        raise ConfigError(f"unknown preset {name!r}; the presets are {', '.join(preset_names())}")
    return tomllib.loads((_PRESETS / f"{name}.toml").read_text(encoding="utf-8"))


def _file_layer(path: Path) -> _Layer:
    suffix = path.suffix.lower()
    if suffix not in (".toml", ".json"):
        raise ConfigError(f"{path}: expected a .toml or .json file of settings")
    try:
        text = path.read_text(encoding="utf-8")
        layer = json.loads(text) if suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read the settings in {path}: {reason}") from None
    if not isinstance(layer, dict):
        raise ConfigError(f"{path}: expected sections of settings, such as prune and sampling")
    try:
        _check_keys(layer, SolverConfig)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return layer


def _set_layer(text: str) -> _Layer:
    key, equals, source = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: write key=value, for example prune.launch=16")
    layer = _nested(key.strip(), _toml_value(source.strip()))
    _check_keys(layer, SolverConfig)
    return layer


def _toml_value(source: str) -> object:
    """`source` as a TOML value; a bare word (or anything that is not one value) is a text."""
    try:
        table = tomllib.loads(f"value = {source}")
    except (ValueError, RecursionError):
        return source
    return table["value"] if len(table) == 1 else source


def _nested(key: str, value: object) -> _Layer:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _lay(below: _Layer, layer: Mapping[str, Any]) -> None:
    """Merge a layer over those below it; whichever way it says the checks replaces the other way."""
    ours, theirs = below.get("prune", {}), layer.get("prune", {})
    if theirs.get("stages") is not None:
        ours.pop("mark", None)
        ours.pop("keep", None)
    elif theirs.keys() & {"mark", "keep"}:
        ours.pop("stages", None)
    _merge(below, layer)


def _merge(into: _Layer, layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _check_keys(layer: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> None:
    for name, value in layer.items():
        key = prefix + name
        if name not in model.model_fields:
            raise ConfigError(f"unknown key {key!r}{_suggestion(key)}")
        section = model.model_fields[name].annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            if not isinstance(value, dict):
                example = next(iter(section.model_fields))
                raise ConfigError(f"{key} is a section; set its keys, for example {key}.{example}")
            _check_keys(value, section, f"{key}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} = {value}: expected a finite number")


def _suggestion(key: str) -> str:
    known = [name for name, _ in _flat(SolverConfig().model_dump())]
    last = key.rpartition(".")[2]
    same_name = [name for name in known if name.rpartition(".")[2] == last]
    near = same_name or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; sections: {', '.join(_sections())}"


def _sections() -> Iterable[str]:
    return dict.fromkeys(key.partition(".")[0] for key, _ in _flat(SolverConfig().model_dump()))


def _flat(layer: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in layer.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _validated(layer: _Layer) -> SolverConfig:
    try:
        config = SolverConfig.model_validate(layer)
    except ValidationError as error:
        raise ConfigError(first_fault(error)) from None
    scorer = find_scorer(config.prune.scorer)
    if config.vote.rule == "weighted" and not scorer.gives_chances:
        names = ", ".join(names_with_chances())
        raise ConfigError(
            f"vote.rule=weighted weighs votes by chances: choose prune.scorer from {names}"
        )
    if config.vote.rule == "verified":
        if config.model.engine != "transformers":
            raise ConfigError(NOT_ON_VLLM)
        last_check_folder(config)
    return config
