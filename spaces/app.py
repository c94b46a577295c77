"""The page of `extracter app` on the Hugging Face hub; README.md tells how to publish it."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch reads this when it is loaded

from extracter.app.enlarge import Settings
from extracter.app.serve import serve
from extracter.memory import bound_kernel_cache, malloc_return

malloc_return()
bound_kernel_cache()
# The hub's machines name the address to listen on. EXTRACTER_MEMORY is a variable of the Space's settings.
serve(Settings(memory=os.environ.get("EXTRACTER_MEMORY")), host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
