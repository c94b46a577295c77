"""Reading and validating params.yaml. The commands and the Snakefile read parameters only through this module."""

import json
import re
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from extracter.errors import UserError
from extracter.presets import Params, Preset


def _descend(kind: Any, part: Any) -> Any:
    """Return the annotation of the value at key `part` of `kind`, or None if it is unknown."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        field = kind.model_fields[part]
        return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return None


def _allowed_at(location: tuple) -> str:
    """Return the allowed keys of the block at `location`, for an error message."""
    kind = reduce(_descend, location[:-1], Params)
    return ", ".join(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else ""


def _explain(error: ValidationError, where: str, prefix: tuple = ()) -> UserError:
    problems = []
    for item in error.errors():
        location = (*prefix, *item["loc"])
        path = ".".join(str(part) for part in location)
        given = "" if item["type"] in ("extra_forbidden", "missing") else f" (given: {item['input']!r})"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "value_error":
            given = ""
        if item["type"] == "extra_forbidden":
            message = f"unknown key; allowed are {_allowed_at(location)}"
        elif item["type"] == "missing":
            message = "missing"
        elif item["type"] == "float_type" and re.fullmatch(r"[-+]?\d+e[-+]?\d+", str(item["input"]), re.IGNORECASE):
            message = "not a number; write 1.0e-4, since YAML 1.1 reads 1e-4 as text"
        problems.append(f"{path}{': ' if path else ''}{message}{given if len(given) < 80 else ''}")
    # A misspelt key is both unknown and missing. The former message is more helpful, so it comes first.
    problems.sort(key=lambda problem: problem.endswith(": missing"))
    return UserError(f"{where}: " + "; ".join(problems))


def validate(config: dict, where: str = "params.yaml") -> Params:
    """Validate a dictionary read from params.yaml.

    Raises:
        UserError: a value is not allowed. The message names each such key by its path and says what is allowed.
    """
    try:
        return Params.model_validate(config)
    except ValidationError as error:
        raise _explain(error, where) from None


def read(path: Path) -> Params:
    """Read and validate a parameter file.

    Raises:
        UserError: the file is missing, is not YAML, or has a value that is not allowed.
    """
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the parameter file in it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or name one with --params") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: has no keys; it needs `preset` and `presets`")
    return validate(config, str(path))


def select(path: Path, preset: str | None) -> Params:
    """Read and validate a parameter file, and select a preset.

    Args:
        path: parameter file.
        preset: name of the preset; None for the one that the file selects.

    Raises:
        UserError: as `read`, or there is no such preset.
    """
    checked = read(path)
    return checked if preset is None else validate({**checked.model_dump(), "preset": preset}, str(path))


def dump_blocks(preset: Preset, *names: str) -> str:
    """Serialise blocks or keys of a preset as one line of JSON, for `--params`.

    Args:
        preset: the preset in use.
        names: dotted paths below the preset, such as `seed`, `train.lr` or `data.tests.set14`; a set that `data.local`
            does not name is left out.

    Raises:
        UserError: there is no such block or key.
    """
    values = preset.model_dump(mode="json")
    blocks = {}
    for name in names:
        if not _is_unsupplied(values, name):
            blocks[name] = values
            for part in name.split("."):
                if part not in blocks[name]:
                    raise UserError(f"`{name}`: the preset has no {part!r} there, only {', '.join(blocks[name])}")
                blocks[name] = blocks[name][part]
    return json.dumps(blocks, sort_keys=True)


def _is_unsupplied(values: dict[str, Any], name: str) -> bool:
    return name.startswith("data.local.") and name.removeprefix("data.local.") not in values["data"]["local"]


def load_keys(source: str, preset: str | None, *names: str) -> Preset:
    """Load a preset that holds the named blocks and keys alone: reading any other key raises AttributeError.

    Args:
        source: path of a parameter file, or JSON text beginning with `{`.
        preset: preset to take from a file; None for the one that the file selects.
        names: dotted paths below the preset.

    Raises:
        UserError: something is missing or not allowed; the message names it.

    Example:
        >>> load_keys('{"seed": 1, "train.lr": 0.001}', None, "seed", "train.lr").train.lr
        0.001
    """
    tree: dict[str, Any] = {"data": {"local": {}}} if any(name.startswith("data.") for name in names) else {}
    for name, value in _load(source, preset, names).items():
        *parents, last = name.split(".")
        reduce(lambda branch, part: branch.setdefault(part, {}), parents, tree)[last] = value
    return _construct(Preset, tree)


def _construct(kind: Any, tree: dict[str, Any]) -> Any:
    """A block of the given kind with the fields in `tree`; values in it were checked before."""
    fields = {
        key: _construct(_descend(kind, key), value) if isinstance(value, dict) else value for key, value in tree.items()
    }
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return fields if get_origin(kind) is dict else kind.model_construct(**fields)


def _load(source: str, preset: str | None, names: Iterable[str]) -> dict[str, Any]:
    if not source.lstrip().startswith("{"):
        source = dump_blocks(select(Path(source), preset).selected, *names)
    try:
        values = json.loads(source)
    except json.JSONDecodeError as error:
        raise UserError(f"--params: not valid JSON ({error})") from None
    blocks = {}
    for name in names:
        if name not in values:
            if name.startswith("data.local."):
                continue
            raise UserError(f"--params: `{name}` is missing")
        kind = reduce(_descend, name.split("."), Preset)
        try:
            blocks[name] = TypeAdapter(kind).validate_python(values[name], strict=True)
        except ValidationError as error:
            raise _explain(error, "--params", tuple(name.split("."))) from None
    return blocks
