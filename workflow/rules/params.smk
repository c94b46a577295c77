# Before Snakemake reads params.yaml: the package and the environment's commands are made known, and the file is checked,
# so that what a user can mend ends the run with one sentence instead of Snakemake's traceback.

import os
import sys
import sysconfig
from pathlib import Path

# This checkout's package comes before an installed one, which may belong to another checkout: the sources that the
# rules name as `code` are then the sources that run.
sys.path[:0] = [str(workflow.basedir), str(Path(workflow.basedir, "workflow", "scripts"))]

from extracter import params
from extracter.errors import UserError

# Run as `.venv/bin/snakemake`, the environment's commands are not on the PATH.
os.environ.update(
    PATH=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]),
    PYTHONPATH=os.pathsep.join([str(workflow.basedir), *filter(None, [os.environ.get("PYTHONPATH")])]),
)


def check(read, *arguments):
    """The parameters that `read` returns, or the end of the run."""
    try:
        return read(*arguments)
    except UserError as error:
        sys.exit(str(error))


WRITTEN = check(params.read, "params.yaml")
