"""`extracter params`: what params.yaml says."""

from pathlib import Path

from extracter.commands.options import Params, PresetName


def params(file: Params = "params.yaml", preset: PresetName = None) -> None:
    """Check a parameter file and explain every key of a preset.

    Example: `extracter params --preset open`
    """
    from extracter.commands.explain import explain

    explain(Path(file), preset)
