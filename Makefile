# make demo   set up, classify the bundled clip with the embedded weights, write its features
# make page   the same of a small collection of videos, and a web page to search it: http://127.0.0.1:8000
# make test   set up, run every test, on all cores
# make test-fast   the same without the slow ones
# make check  lint, format, types, Containerfile

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/pip install --disable-pip-version-check --quiet --constraint constraints.txt
CLIP := src/ig65m/demo/clip.mp4

.PHONY: demo page test test-fast check clean

demo: $(VENV)/installed
	@$(VENV)/bin/ig65m classify $(CLIP) --model r2plus1d_10_camera_motion
	@$(VENV)/bin/ig65m extract $(CLIP) --model r2plus1d_10_camera_motion --output demo/features.npz --overwrite

page: $(VENV)/installed-page
	@$(VENV)/bin/python examples/make_collection.py demo/videos
	@$(VENV)/bin/ig65m extract demo/videos --output demo/features --model r2plus1d_10_camera_motion --stride 4 --top-k 3
	@test -e demo/index/index.json || $(VENV)/bin/ig65m index build demo/features demo/index
	@$(VENV)/bin/ig65m index add demo/features demo/index
	@$(VENV)/bin/ig65m serve demo/index

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/hadolint Containerfile

clean:
	rm -rf $(VENV) demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-page: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[serve]" scikit-image sk-video
	@touch $@ $(VENV)/installed

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[dev]"
	@touch $@ $(VENV)/installed
