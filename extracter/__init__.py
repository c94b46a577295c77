"""EXTRACTER: reference-based image super-resolution (arXiv 2310.01379).

`from extracter import Extracter, upscale` loads PyTorch; `import extracter` alone does not.
"""

import lazy_loader

# The public names and their modules are listed in __init__.pyi; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
