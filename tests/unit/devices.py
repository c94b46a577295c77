"""Where the tests compute."""

import os

# On another device than the CPU the tests of search, training, evaluation and tiling run as they are.
DEVICE = os.environ.get("EXTRACTER_TEST_DEVICE", "cpu")
