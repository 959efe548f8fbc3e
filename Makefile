# make demo   set up, classify the bundled clip with the embedded weights, write its features
# make test   set up, run every test
# make check  lint, format, types

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/pip install --disable-pip-version-check --quiet --constraint constraints.txt
CLIP := src/ig65m/demo/clip.mp4

.PHONY: demo test check clean

demo: $(VENV)/installed
	@$(VENV)/bin/ig65m classify $(CLIP) --model r2plus1d_10_camera_motion
	@$(VENV)/bin/ig65m extract $(CLIP) --model r2plus1d_10_camera_motion --output demo/features.npz --overwrite

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[dev]"
	@touch $@ $(VENV)/installed
