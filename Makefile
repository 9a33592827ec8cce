# Two commands: `make demo` runs the main job, `make test` passes the tests. Both set themselves up in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Behind the trainers of the peers that are tested, which have the lowest priority themselves.
IDLE := $(shell chrt --idle 0 true 2>/dev/null && echo chrt --idle 0 || echo nice -n 19)
ARGS ?=

.PHONY: demo test coverage lint package-check clean

demo: $(VENV)/.ready-run
	$(BIN)/python -m flock_p2p demo $(ARGS)

# Networks of processes by themselves, two files at once: their deadlines are of real time, and two cores are few. They
# wait a lot, which the package check uses (its last line is enough where it passes: what failed stays in sight), and while
# they wait alone what works for long and waits for nobody. Some of the others wait more than they work too, hence
# three at once.
test: $(VENV)/.ready-dev lint
	PYTHON=$(BIN)/python sh .ci/run-tests -n 3 -m "not process" $(ARGS) || [ $$? -eq 5 -a -n "$(ARGS)" ]
	@mkdir -p build
	@$(MAKE) package-check >build/package-check.log 2>&1 & package=$$!; \
	{ PYTHON=$(BIN)/python $(IDLE) sh .ci/run-tests -n 2 -m "process and patient" $(ARGS) || [ $$? -eq 5 -a -n "$(ARGS)" ]; } >build/patient.log 2>&1 & patient=$$!; \
	PYTHON=$(BIN)/python sh .ci/run-tests -n 2 --dist loadfile --no-loadscope-reorder -m "process and not patient" $(ARGS) || [ $$? -eq 5 -a -n "$(ARGS)" ]; processes=$$?; \
	wait $$patient; waited=$$?; \
	if [ $$waited -ne 0 ]; then tail -n 60 build/patient.log; else grep ^UNSTEADY build/patient.log || tail -n 1 build/patient.log; fi; \
	wait $$package; checked=$$?; \
	[ $$checked -eq 0 ] && lines=1 || lines=60; tail -n $$lines build/package-check.log; exit $$((processes || waited || checked))

# Every branch of the consensus core, by its own tests.
coverage: $(VENV)/.ready-dev
	mkdir -p build
	$(BIN)/python -m coverage run -m pytest -q tests/consensus
	$(BIN)/python -m coverage report --fail-under=100

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What a user gets: sdist -> wheel -> an empty environment -> run from /.
package-check: $(VENV)/.ready-dev
	PYTHON=$(BIN)/python sh .ci/check-package

$(VENV)/.checked:
	@PYTHON=$(PYTHON) sh .ci/check-prerequisites
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25"
	@touch $@

$(VENV)/.ready-run: $(VENV)/.checked pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.checked pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.ready-run

clean:
	rm -rf $(VENV) build dist
