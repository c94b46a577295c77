# Snakemake runs this in the workflow's folder, inside the new environment.
set -euo pipefail
python -m pip install --require-hashes -r requirements.lock
python -m pip install --no-deps --no-build-isolation --editable .
