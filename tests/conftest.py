"""For all tests: PyTorch's threads wait in sleep, as under the command line, or tests beside other work crawl."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
