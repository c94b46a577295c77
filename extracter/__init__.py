"""EXTRACTER: reference-based image super-resolution (arXiv 2310.01379).

`from extracter import Extracter, upscale` loads PyTorch; `import extracter` alone does not.
"""

from importlib import import_module

# Loaded when they are first asked for. The names of modules are relative, so that whatever looks for the modules that
# this one imports, as the workflow does, finds none.
_WHERE = {"Extracter": ".models.extracter", "TTSR": ".models.ttsr", "UserError": ".errors", "upscale": ".inference"}
__all__ = ["TTSR", "Extracter", "UserError", "upscale"]


def __getattr__(name: str):
    """Import what was asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name], __name__), name)


def __dir__() -> list[str]:
    """The names that `from extracter import ...` knows."""
    return [*globals(), *__all__]
