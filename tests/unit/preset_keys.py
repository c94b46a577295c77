"""The keys of a preset, each of which some job must depend on."""

from extracter.presets import Preset


def all_keys(preset: Preset) -> list[str]:
    """Each key of a preset, dotted; of `data.tests` each set's, of `data.local` each set that it may name."""
    keys: list[str] = []
    for name, value in preset.model_dump(mode="json").items():
        if not isinstance(value, dict):
            keys.append(name)
        elif name != "data":
            keys += [f"{name}.{key}" for key in value]
    keys.append("data.mirror")
    keys += [f"data.local.{name}" for name in ("train", *preset.data.tests)]
    keys += [f"data.train.{key}" for key in type(preset.data.train).model_fields]
    for name, test in preset.data.tests.items():
        keys += [f"data.tests.{name}.{key}" for key in type(test).model_fields]
    return keys
