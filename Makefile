# Every verb of the house; `make help` lists them. Thin: each is one command of `python -m spf` or of a tool.

PYTHON ?= python3
BASE ?= miniature
SEED ?= 0
QUICK ?=
ARGS ?=
JOBS ?= 1
BUDGET_MINUTES ?= 100

BIN := .venv/bin
SPF := $(BIN)/python -m spf
STAMP := .venv/.installed
NAMES = $(basename $(notdir $(wildcard $(1))))
ALL := $(call NAMES,experiments/$(BASE)/rows/*.yaml)
ROWS ?= $(ALL)
ABLATIONS := $(call NAMES,experiments/ablations/*.yaml experiments/$(BASE)/sweep/*.yaml)
DEMO := runs/demo-$(SEED)$(if $(QUICK),-quick)
DEMO_FIT := --data.source $(DEMO)/portraits --seed_everything $(SEED) --trainer.devices 1 --trainer.deterministic warn

# Another seed has its own runs and results: runs/BASE-seed1, results/BASE-seed1.
RUNS := $(BASE)$(if $(filter-out 0,$(SEED)),-seed$(SEED))
TRAINED_AS = --run runs/$(RUNS)/$* --seed_everything $(SEED)
ifneq ($(RUNS),$(BASE))
START = $(if $(filter only_stage2,$*),,--model.start runs/$(RUNS)/stage1/checkpoints/last.ckpt)
TESTED_AS = --run runs/$(RUNS)/rows/$* $(if $(CHECKPOINT),--model.checkpoint $(CHECKPOINT)) --model.result $@
endif
# The portraits of the painted world; other bases have the user's.
PORTRAITS := $(if $(filter miniature miniature_mmdit,$(BASE)),runs/portraits/.whole)

# glibc gives freed memory back at once and faults it in again: steps on a CPU are 1.5 to 2 times as fast without
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592
export MALLOC_MMAP_THRESHOLD_ ?= 8589934592
export MALLOC_TOP_PAD_ ?= 268435456

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint train-stage1 train-stage2 eval ablations rows grids second-round tables bench tensorboard miniature

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile
	@echo 'Variables: BASE=$(BASE) SEED=$(SEED) QUICK=$(QUICK) ARGS="$(ARGS)" PYTHON=$(PYTHON)'
	@echo 'of eval and ablations: ROWS="ours without_sfcm" JOBS=$(JOBS) BUDGET_MINUTES=$(BUDGET_MINUTES)'

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

test: $(STAMP) ## all tests, one process a core; ARGS="-k floors" picks some, ARGS="-n 0" takes one process
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## ruff's rules
	$(BIN)/python -m ruff check .

train-stage1: $(STAMP) $(PORTRAITS) ## standard fine-tuning: experiments/BASE/stage1.yaml; ARGS="--trainer.devices 8" goes to spf fit
	$(SPF) fit -c experiments/$(BASE)/stage1.yaml $(ARGS)

train-stage2: $(STAMP) ## dual-path alignment: experiments/BASE/stage2.yaml, from what train-stage1 made
	$(SPF) fit -c experiments/$(BASE)/stage2.yaml $(ARGS)

# The mark of a painting that came to its end: painted.json is there from its beginning.
runs/portraits/.whole: | $(STAMP)
	$(SPF) portraits paint --out $(@D)
	@mkdir -p $(@D) && touch $@

# ---- the comparison: what is missing or outdated is trained and measured, when the plan fits into the budget ----

# $(call PLANNED,...) says what the commands that ... prints will take, and refuses above the budget. The first is not
# $(MAKE) in the recipe, which make runs even when it is only asked what it would do.
DRY := $(MAKE) --no-print-directory -n rows
PLANNED = todo=$$($(1)) && printf '%s\n' "$$todo" | $(SPF) plan --budget_minutes $(BUDGET_MINUTES) --jobs $(JOBS)

eval: $(STAMP) ## train and measure every row of experiments/BASE/rows that is missing or outdated: results/BASE/*.json
	@$(call PLANNED,$(DRY))
	$(MAKE) --no-print-directory -j $(JOBS) rows

ablations: ## the same for ours and what is laid over its stage 2: experiments/ablations, experiments/BASE/sweep
	$(MAKE) --no-print-directory eval ROWS="ours $(filter $(ROWS),$(ABLATIONS))"

rows: $(ROWS:%=results/$(RUNS)/%.json)

results/$(RUNS)/%.json: experiments/$(BASE)/rows/%.yaml experiments/$(BASE)/evaluate.yaml runs/$(BASE)/triples/manifest.json | $(STAMP)
	$(SPF) test -c experiments/$(BASE)/evaluate.yaml -c $< $(TESTED_AS) $(ARGS)

# These say how far they move the portraits of standard fine-tuning.
$(patsubst %,results/$(RUNS)/%.json,magnet storm tokencompose): results/$(RUNS)/standard_fine_tuning.json

# Which training a row needs, by the checkpoint that its file names: what is missing or was broken off is trained.
CHECKPOINT = $(subst runs/$(BASE)/,runs/$(RUNS)/,$(shell sed -n 's/^  checkpoint: //p' experiments/$(BASE)/rows/$*.yaml))
.SECONDEXPANSION:
$(ALL:%=results/$(RUNS)/%.json): results/$(RUNS)/%.json: $$(CHECKPOINT) $$(CHECKPOINT:%/checkpoints/last.ckpt=%/trained)

runs/$(RUNS)/%/checkpoints/last.ckpt: | runs/$(RUNS)/%/trained ;

# The mark of a training that came to its end: a checkpoint alone may be of one that was broken off.
# In this order: what names a run of its own is laid over stage 1, an ablation or a cell of the sweep over stage 2.
STAGE1 := runs/$(RUNS)/stage1
runs/$(RUNS)/%/trained: experiments/$(BASE)/%.yaml | $(STAMP) $(PORTRAITS)
	$(SPF) fit -c experiments/$(BASE)/stage1.yaml $(if $(filter-out stage1,$*),-c $<) $(TRAINED_AS)
	@touch $@

runs/$(RUNS)/%/trained: experiments/ablations/%.yaml $(STAGE1)/trained | $(STAMP)
	$(OVER_STAGE2)
	@touch $@

runs/$(RUNS)/%/trained: experiments/$(BASE)/sweep/%.yaml $(STAGE1)/trained | $(STAMP)
	$(OVER_STAGE2)
	@touch $@

runs/$(RUNS)/stage2/trained: runs/$(RUNS)/%/trained: experiments/$(BASE)/%.yaml $(STAGE1)/trained | $(STAMP)
	$(SPF) fit -c $< $(TRAINED_AS) $(START)
	@touch $@

OVER_STAGE2 = $(SPF) fit -c experiments/$(BASE)/stage2.yaml $(BELOW_$*) -c $< $(TRAINED_AS) $(START)
BELOW_direct_clip := -c experiments/ablations/without_enhanced.yaml

# What another experiment begins with.
ifneq ($(RUNS),miniature)
runs/miniature/%/trained:
	$(MAKE) --no-print-directory BASE=miniature SEED=0 $@

runs/miniature/%/checkpoints/last.ckpt: | runs/miniature/%/trained ;
endif

runs/$(RUNS)/prior_preservation/trained: runs/$(BASE)/priors/manifest.json

TRIPLES := $(foreach set,triples priors validation,runs/$(BASE)/$(set)/manifest.json)
$(TRIPLES): runs/$(BASE)/%/manifest.json: experiments/$(BASE)/%.yaml | $(STAMP) $(PORTRAITS)
	$(SPF) triples --config $<

CELLS := $(BIN)/python benchmarks/comparison.py --base $(BASE) --cells results/$(BASE)-grids
grids: $(STAMP) runs/$(BASE)/validation/manifest.json runs/$(BASE)/priors/manifest.json runs/$(BASE)/standard_fine_tuning/trained ## four settings of each baseline at 40 % of its steps, on triples that no table uses
	@$(call PLANNED,$(CELLS))
	todo=$$($(CELLS)) && printf '%s\n' "$$todo" | sh -e

second-round: $(STAMP) runs/miniature-second/ours/model_index.json runs/miniature-second/standard/model_index.json ## a further target on top of the first result; what the first lost
	$(SPF) portraits paint --out runs/miniature-second/portraits --count 1000 --seed 1 --targets [scarf]
	$(SPF) triples --config experiments/miniature-second/triples.yaml
	$(SPF) fit -c experiments/miniature/stage1.yaml -c experiments/miniature-second/standard_fine_tuning.yaml
	$(SPF) fit -c experiments/miniature/stage1.yaml -c experiments/miniature-second/stage1.yaml
	$(SPF) fit -c experiments/miniature/stage2.yaml -c experiments/miniature-second/stage2.yaml
	$(SPF) test -c experiments/miniature-second/evaluate.yaml -c experiments/miniature-second/rows/standard_fine_tuning.yaml
	$(SPF) test -c experiments/miniature-second/evaluate.yaml -c experiments/miniature-second/rows/ours.yaml
	$(SPF) test -c experiments/miniature/evaluate.yaml -c experiments/miniature-second/first/standard_fine_tuning.yaml
	$(SPF) test -c experiments/miniature/evaluate.yaml -c experiments/miniature-second/first/ours.yaml

runs/miniature-second/ours/model_index.json: runs/miniature/stage2/trained
	$(SPF) export $(<D)/checkpoints/last.ckpt $(@D)

runs/miniature-second/standard/model_index.json: runs/miniature/standard_fine_tuning/trained
	$(SPF) export $(<D)/checkpoints/last.ckpt $(@D)

tables: $(STAMP) ## the paper's tables from results/BASE; ARGS="--paper true --format latex" sets the paper's numbers beside
	$(SPF) tables --results results/$(BASE) $(ARGS)

bench: $(STAMP) ## the benchmarks, each in a hurry; python benchmarks/NAME.py does them whole
	for name in miniature localization purity step_time metrics comparison; do $(BIN)/python benchmarks/$$name.py --quick || exit 1; done

tensorboard: $(STAMP) ## losses, speeds and sample grids of everything under runs
	$(BIN)/python -m tensorboard.main --logdir runs

miniature: $(STAMP) ## train the base model miniature, or with BASE=miniature_mmdit the other, from nothing into runs/BASE; hours
	$(SPF) $(BASE) --out runs/$(BASE) $(ARGS)
