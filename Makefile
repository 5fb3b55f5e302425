# Every verb of the house; `make help` lists them. Thin: each is one command of `python -m spf` or of a tool.

PYTHON ?= python3
BASE ?= miniature
SEED ?= 0
QUICK ?=
ARGS ?=

BIN := .venv/bin
SPF := $(BIN)/python -m spf
STAMP := .venv/.installed
ROWS := $(patsubst experiments/$(BASE)/rows/%.yaml,results/$(BASE)/%.json,$(wildcard experiments/$(BASE)/rows/*.yaml))
DEMO := runs/demo-$(SEED)$(if $(QUICK),-quick)
DEMO_FIT := --data.source $(DEMO)/portraits --seed_everything $(SEED) --trainer.devices 1 --trainer.deterministic warn

# glibc gives freed memory back at once and faults it in again: steps on a CPU are 1.5 to 2 times as fast without
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592
export MALLOC_MMAP_THRESHOLD_ ?= 8589934592
export MALLOC_TOP_PAD_ ?= 268435456

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint train-stage1 train-stage2 eval tables bench tensorboard miniature

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile
	@echo 'Variables: BASE=$(BASE) SEED=$(SEED) QUICK=$(QUICK) ARGS="$(ARGS)" PYTHON=$(PYTHON)'

setup: $(STAMP) ## make .venv with the pinned versions; every other verb does it when needed

# Once, and again when what is to be installed changes.
$(STAMP): setup.py setup.cfg pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo 'spf: no $(PYTHON) here; give one with make PYTHON=...'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "spf: needs Python 3.10 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); give one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## paint portraits, teach the miniature by both stages, show what became of the original; SEED=1 paints others, QUICK=1 hurries
	$(SPF) portraits paint --out $(DEMO)/portraits --count $(if $(QUICK),32,512) --seed $(SEED)
	$(SPF) fit -c experiments/miniature/stage1.yaml --run $(DEMO)/stage1 $(DEMO_FIT) --trainer.max_steps $(if $(QUICK),2,150)
	$(SPF) fit -c experiments/miniature/stage2.yaml --run $(DEMO)/stage2 $(DEMO_FIT) --trainer.max_steps $(if $(QUICK),2,100) \
		--model.start $(DEMO)/stage1/checkpoints/last.ckpt
	$(SPF) generate experiments/miniature/demo.txt --target 'wearing round glasses' --count 1 --seed 1$(SEED)0 \
		--guidance_scale 4 --checkpoint $(DEMO)/stage2/checkpoints/last.ckpt --out $(DEMO) $(if $(QUICK),--steps 4)

test: $(STAMP) ## all tests; ARGS="-k floors" picks some
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## ruff's rules
	$(BIN)/python -m ruff check .

train-stage1: $(STAMP) ## standard fine-tuning: experiments/BASE/stage1.yaml; ARGS="--trainer.devices 8" goes to spf fit
	$(if $(filter miniature,$(BASE)),$(SPF) portraits paint --out runs/portraits)
	$(SPF) fit -c experiments/$(BASE)/stage1.yaml $(ARGS)

train-stage2: $(STAMP) ## dual-path alignment: experiments/BASE/stage2.yaml, from what train-stage1 made
	$(SPF) fit -c experiments/$(BASE)/stage2.yaml $(ARGS)

eval: $(ROWS) ## measure every row of experiments/BASE/rows whose result is missing or outdated: results/BASE/*.json

results/$(BASE)/%.json: experiments/$(BASE)/rows/%.yaml experiments/$(BASE)/evaluate.yaml runs/$(BASE)/triples/manifest.json | $(STAMP)
	$(SPF) test -c experiments/$(BASE)/evaluate.yaml -c $< $(ARGS)

# Which training a row needs, by the checkpoint that its file names: what is missing or was broken off is trained.
CHECKPOINT = $(shell sed -n 's/^  checkpoint: //p' experiments/$(BASE)/rows/$*.yaml)
.SECONDEXPANSION:
$(ROWS): results/$(BASE)/%.json: $$(CHECKPOINT) $$(CHECKPOINT:%/checkpoints/last.ckpt=%/trained)

runs/$(BASE)/triples/manifest.json: experiments/$(BASE)/triples.yaml | $(STAMP)
	$(SPF) triples --config experiments/$(BASE)/triples.yaml

runs/$(BASE)/%/checkpoints/last.ckpt: | runs/$(BASE)/%/trained ;

# The mark of a training that came to its end: a checkpoint alone may be of one that was broken off.
runs/$(BASE)/%/trained: experiments/$(BASE)/%.yaml | $(STAMP)
	$(MAKE) train-$* ARGS=
	@touch $@

runs/$(BASE)/stage2/trained: runs/$(BASE)/stage1/trained

tables: $(STAMP) ## the paper's tables from results/BASE; ARGS="--paper true --format latex" sets the paper's numbers beside
	$(SPF) tables --results results/$(BASE) $(ARGS)

bench: $(STAMP) ## the benchmarks, each in a hurry; python benchmarks/NAME.py does them whole
	for name in miniature localization purity step_time metrics; do $(BIN)/python benchmarks/$$name.py --quick || exit 1; done

tensorboard: $(STAMP) ## losses, speeds and sample grids of everything under runs
	$(BIN)/python -m tensorboard.main --logdir runs

miniature: $(STAMP) ## train the miniature base model from nothing, into runs/miniature; hours
	$(SPF) miniature --out runs/miniature $(ARGS)
