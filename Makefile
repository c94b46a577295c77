# make            set up .venv; afterwards `.venv/bin/snakemake --cores all` runs the workflow
# make reproduce  set up, run the workflow with the preset of params.yaml, print the tables
# make report     make results/<preset>/report/report.html from the results, after what they lack
# make restore    bring back the data, checkpoints and results that dvc.lock of this revision names
# make test       set up, check style and workflow, run the tests
# make test-slurm run the workflow on a Slurm that is started for the test (needs munge and slurm-wlm)
# make graph      draw the rule graph in docs/workflow.md
# make plots      draw the results of two revisions in dvc_plots/index.html; `make plots REVISIONS="main HEAD"` names them
# make stages     bring the stages of dvc.yaml up to date with params.yaml
# make lock       bring the lock files up to date with pyproject.toml (needs uv and network)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.PHONY: setup reproduce report restore test test-slurm graph plots stages lock

# The first of these commands that is Python 3.11 or newer; `make PYTHON=...` names another.
CANDIDATES := python3 python3.13 python3.12 python3.11 python
RECENT := import sys; print(sys.executable if sys.version_info >= (3, 11) else "")
PYTHON = $(firstword $(foreach name,$(CANDIDATES),$(shell $(name) -c '$(RECENT)' 2>/dev/null)))

# Printed at the end; Table 4, too, where there is a set whose references have levels.
TABLES := table1_metrics table2_parameters table3_kernels
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"

# The environment holds this folder's path: where it was made elsewhere, the folder was moved or copied since. A linked
# .venv, such as another worktree's, is left as it is.
MADE_IN := $(shell [[ -L .venv ]] || cat .venv/.made_in 2>/dev/null)
ifneq ($(MADE_IN),)
ifneq ($(MADE_IN),$(CURDIR))
$(info make: this folder was moved or copied from $(MADE_IN); its environment .venv is made again)
MOVED := $(shell rm -f .venv/.locked .venv/.complete)
endif
endif

# Snakemake and DVC keep caches in the home folder, which a container may not let them write.
ifneq ($(shell cache="$${XDG_CACHE_HOME:-$$HOME/.cache}"; mkdir -p "$$cache" 2>/dev/null && [[ -w "$$cache" ]] && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.cache
endif

setup: .venv/.complete

# The marks are written last: an installation that was interrupted is begun afresh; a complete one is brought up to date.
.venv/.locked: requirements.lock
	@if [[ -z "$$('$(PYTHON)' -c '$(RECENT)' 2>/dev/null)" ]]; then \
	  echo "make: Python 3.11 or newer is needed and $(or $(PYTHON),python3) is not; install one, or name it with 'make PYTHON=/path/to/python3'" >&2; \
	  exit 1; \
	fi
	@if [[ ! -w . ]]; then \
	  echo "make: $(CURDIR) cannot be written to; change its owner or permissions, or run a copy of the project in a folder of your own" >&2; \
	  exit 1; \
	fi
	@if [[ -e $@ ]]; then rm $@; else '$(PYTHON)' -m venv --clear .venv; fi
	@echo "make: installing the packages of requirements.lock into .venv, which takes some minutes"
	@.venv/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	@echo '$(CURDIR)' > .venv/.made_in
	@touch $@

.venv/.complete: .venv/.locked pyproject.toml
	@.venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What only tests/browser needs, apart: no figure depends on it. Without dependencies, since the lock files hold them all.
.venv/.browser: requirements-browser.lock .venv/.complete
	@.venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r $<
	@touch $@

reproduce: setup
	.venv/bin/snakemake --cores all
	@.venv/bin/extracter show $(TABLES:%=results/tables/%.md) $$(ls -d results/*/levels >/dev/null 2>&1 && echo results/tables/table4_references.md)
	@echo "Memory and seconds of Table 3 on this machine: results/*/measured/table3_kernels.md"

report: setup
	.venv/bin/snakemake --cores all -- report
	@echo "$(CURDIR)/results/*/report/report.html opens in any browser; figures as PDF and tables as LaTeX are beside it"

restore: setup
	@$(IN_VENV) python workflow/scripts/restore.py

test: setup .venv/.browser
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/snakemake --lint
	.venv/bin/codespell
	.venv/bin/mypy
	.venv/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests/workflow tests/unit tests/browser

# A Slurm of one node, started for the test; needs munge and slurm-wlm and several minutes.
test-slurm: setup
	.venv/bin/pytest tests/slurm

graph: setup
	@$(IN_VENV) python workflow/scripts/graph.py

plots: setup
	@$(IN_VENV) dvc plots diff $(REVISIONS) --out dvc_plots
	@$(IN_VENV) python workflow/scripts/offline.py dvc_plots/index.html

stages: setup
	@.venv/bin/python workflow/scripts/stages.py

lock:
	uv pip compile pyproject.toml --extra workflow --group dev --constraints constraints.txt --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --output-file requirements.lock
	uv pip compile --group browser --constraints requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --output-file requirements-browser.lock
