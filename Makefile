# make demo: set up everything and run the main job.   make test: linters, types and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A strict editable install links each file, so it is made anew when a folder gains or loses one.
SOURCES := setup.cfg pyproject.toml $(shell find minialbert_tf export -type d -not -name __pycache__)

DISTILLER := tests/distillation/test_distiller.py
BOTH_FLAVOURS := tests/test_golden.py tests/test_models.py tests/test_losses.py \
	$(DISTILLER)::test_every_term_and_the_total_are_the_originals \
	$(DISTILLER)::test_gradients_of_the_total_are_the_originals \
	$(DISTILLER)::test_one_wrong_term_is_noticed \
	$(DISTILLER)::test_fit_lowers_every_term_and_leaves_the_teacher_alone \
	tests/distillation/test_initialisation.py \
	tests/distillation/test_run.py::test_the_output_is_a_student_with_results_and_logs \
	tests/distillation/test_run.py::test_an_interrupted_run_ends_like_one_that_was_not \
	tests/distillation/test_task.py::test_the_loss_is_a_mean_over_what_counts \
	tests/distillation/test_task.py::test_a_student_learns_to_judge_raw_text_as_its_teacher_does

.PHONY: demo test test-serving test-android clean

demo: $(VENV)/.installed
	$(BIN)/minialbert demo --output build/demo --force

# Tests of the model itself run under Keras 3 and under tf-keras. The Kotlin core is tested, too, where java and npm
# are; what is skipped is said.
test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto --dist loadfile
	TF_USE_LEGACY_KERAS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile $(BOTH_FLAVOURS)
	$(BIN)/python -m android_demo.checks.run core end-to-end

# A real server process, thousands of requests: minutes.
test-serving: $(VENV)/.installed-dev build/kserve/.installed
	KSERVE_PYTHON=build/kserve/bin/python $(BIN)/python -m pytest -q -m serving

# All that can be checked of the app without Android's own tools; ANDROID_FLAGS=--strict fails where a tool is absent.
test-android: $(VENV)/.installed-dev
	$(BIN)/python -m android_demo.checks.run $(ANDROID_FLAGS)

clean:
	rm -rf $(VENV) build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev,serving,serving-client]'
	touch $@

build/kserve/.installed:
	$(PYTHON) -m venv build/kserve
	build/kserve/bin/pip install --quiet kserve==0.21.0 tensorflow-cpu==2.21.0
	build/kserve/bin/pip install --quiet --no-deps tensorflow-text==2.21.1
	touch $@
