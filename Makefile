# npumake: a trained network goes in; for every chip a compiled artifact comes out, with the proof that it still works.
#
# This file is the graph: which file is made from which, in what order. The logic is in common/ (all that knows
# networks) and vendors/<chip>/ (all that knows a chip). Chips, models and image sets are found by looking at folders.

ifeq (,$(filter grouped-target,$(.FEATURES)))
$(error GNU make 4.3 or newer is needed, this is $(MAKE_VERSION) (macOS: brew install make, then gmake))
endif
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDEXPANSION:
.DEFAULT_GOAL := help

# --- What can be asked (make CHIP MODEL=... PRECISION=...) ------------------------------------------------------------
MODEL ?=
PRECISION ?=
WEIGHTS ?=
ONNX ?=
SPEC ?=
CALIB ?= calib/people_calibration
EVAL ?= calib/people_evaluation
CALIB_COUNT ?= 100
BATCH ?= 1
GATE ?=
RUNG ?=
KEEP_FLOAT ?=
SIZE ?=
FORCE ?=
VARIANT ?=
BOXES ?=
FLIP ?=
SHARD ?=
LIMIT ?=
SCALES ?=
DOUBLE ?=
TOOLBOX ?=
TOOLBOX_BASE ?=
TOOLBOX_INDEX ?=
ENGINE ?= $(TOOLBOX)
BASE ?=
V ?=
override V := $(filter-out 0,$(V))
PYTHON ?= python3
CHIP ?=
MODELS ?=
CHIPS ?=
CELL_LIST ?=
LIST ?= quick
CHANGED ?=
SHARDS ?=
NOTES ?=
PARTS ?= parts
NODES ?=
JSON ?=
TESTS ?=
TEST_WORKERS ?= 2
BENCH_NETWORK ?= hrnet_tiny
BENCH_IMAGES ?=
# These stand in many an environment for other things: they count on the command line only.
IMAGE :=
VIDEO :=
DETECTOR :=
EVERY :=
OUT :=

# --- What there is: folders are the only registry --------------------------------------------------------------------
comma := ,
CHIP_TABLE := $(sort $(shell awk -f common/chips.awk vendors/*/chip.yaml))
ALL_CHIPS := $(foreach entry,$(CHIP_TABLE),$(firstword $(subst :, ,$(entry))))
ALL_MODELS := $(patsubst models/%/model.yaml,%,$(wildcard models/*/model.yaml))
# $(call chip_field,NUMBER,CHIP): 2 the vendor folder, 3 the precisions, 4 those that need a calibration, 5 the engines,
# 6 the vendor's own options, which are variables of make, 7 those of them that make another artifact.
chip_field = $(filter-out -,$(subst $(comma), ,$(word $(1),$(subst :, ,$(filter $(2):%,$(CHIP_TABLE))))))
LOCAL_VENDORS := $(sort $(foreach chip,$(ALL_CHIPS),$(if $(filter local,$(call chip_field,5,$(chip))),$(call chip_field,2,$(chip)))))
# Only from the command line: names such as INPUT or STRICT may stand in somebody's environment for other reasons.
OPTIONS_SET := $(foreach name,$(sort $(foreach chip,$(ALL_CHIPS),$(call chip_field,6,$(chip)))), \
	$(if $(filter command,$(origin $(name))),$(name)))

# --- The cells that were asked for: network/chip/variant ----------------------------------------------------------------
# The demo's network and chip are the ones that say `demo: true`.
demo_of = $(firstword $(shell grep -lx 'demo: true' $(1)/*/$(2) | cut -d/ -f2))
DEMO_CHIP :=
ifneq (,$(filter demo,$(MAKECMDGOALS)))
override MODEL := $(call demo_of,models,model.yaml)
DEMO_CHIP := $(call demo_of,vendors,chip.yaml)
endif

# An alias (hrnet_w32) stands for the folder that declares it; the user's own network is named by its SPEC.
alias_of = $(firstword $(shell grep -lE '^aliases:.*[[, ]$(1)[], ]' models/*/model.yaml | cut -d/ -f2))
ifneq (,$(SPEC))
NETWORK := $(firstword $(shell sed -n "s/^name: *[\"']\{0,1\}\([A-Za-z0-9_.-]*\).*/\1/p" '$(SPEC)' 2>/dev/null) unnamed)
else ifneq (,$(ONNX))
NETWORK := unnamed
else ifneq (,$(MODEL))
NETWORK := $(if $(filter $(MODEL),$(ALL_MODELS)),$(MODEL),$(or $(call alias_of,$(MODEL)),$(MODEL)))
else
NETWORK :=
endif
# Another input size of the same network is a network of its own to all that follows.
NETWORK := $(NETWORK)$(if $(NETWORK),$(if $(SIZE),-$(SIZE)))
JOB_ONLY := $(if $(filter job,$(MAKECMDGOALS)),1)
ASKED_CHIPS := $(filter $(ALL_CHIPS),$(MAKECMDGOALS) $(DEMO_CHIP) $(if $(JOB_ONLY),$(CHIP)))
# A variant is a precision, and what else makes another artifact: int8, int8-b4, fp16-u8, int8-double.
DOUBLED := $(filter 1,$(DOUBLE))
empty :=
option_suffix = $(subst $(empty) $(empty),,$(foreach name,$(filter $(OPTIONS_SET),$(call chip_field,7,$(1))),-$($(name))))
variant_suffix = $(if $(filter-out 1,$(BATCH)),-b$(BATCH))$(call option_suffix,$(1))$(if $(DOUBLED),-double)
cells_of = $(foreach precision,$(or $(PRECISION),$(call chip_field,3,$(1))),$(NETWORK)/$(1)/$(precision)$(call variant_suffix,$(1)))
CELLS := $(if $(NETWORK),$(foreach chip,$(ASKED_CHIPS),$(call cells_of,$(chip))))
# `make all` asks for cells of several networks; its list was written, with all their requests, before make reads this.
ifneq (,$(CELL_LIST))
CELLS := $(file <$(CELL_LIST))
endif

# Of a cell network/chip/variant: its parts, its float reference, its vendor folder, its calibration if it needs one.
part = $(word $(1),$(subst /, ,$(2)))
float_of = out/$(call part,1,$(1))/float
vendor_of = $(call chip_field,2,$(call part,2,$(1)))
precision_of = $(firstword $(subst -, ,$(call part,3,$(1))))
if_calibrated = $(if $(filter $(call precision_of,$(1)),$(call chip_field,4,$(call part,2,$(1)))),$(2))
# Where the vendor's scripts run: in the folder's own environment; a stand-in of an SDK needs no more than ours.
locally = $(if $(DOUBLED)$(filter-out local,$(ENGINE)),,$(filter $(1),$(LOCAL_VENDORS)))
environment_of = $(if $(call locally,$(call vendor_of,$(1))),.venv/$(call vendor_of,$(1))/ready,$(COMMON))

# --- Tools ------------------------------------------------------------------------------------------------------------
# TOOLBOX=docker or podman: the stages run in a container, and this machine needs no Python (docs/toolbox.md).
COMMON := $(if $(TOOLBOX),.venv/toolbox/$(TOOLBOX),.venv/common/ready)
OUR_PYTHON := $(if $(TOOLBOX),common/toolbox.sh run python,.venv/common/bin/python)
RUN := $(if $(V),,@)$(OUR_PYTHON) -m common
# What needs no packages, and so no environment: it may run before there is one.
ANY_PYTHON := $(if $(TOOLBOX),common/toolbox.sh run python,$(PYTHON))
ifneq (,$(TOOLBOX))
# The variables that may name files outside the project; common/toolbox.sh mounts those.
export TOOLBOX_NAMES := ONNX SPEC WEIGHTS CALIB EVAL IMAGE VIDEO DETECTOR $(OPTIONS_SET)
export TOOLBOX TOOLBOX_BASE TOOLBOX_INDEX $(TOOLBOX_NAMES)
ifneq (,$(filter test lint format bench sdk doctor,$(MAKECMDGOALS)))
$(error the toolbox has what the stages need, not what `make $(MAKECMDGOALS)` needs: leave TOOLBOX= out)
endif
endif
export PYTHONUNBUFFERED := 1
# With V=1 the stages show all that the vendors' tools print.
export V
export ENGINE
export BASE
# Names that stand in some people's environment for other reasons count on the command line only.
named = $(if $(filter command,$(origin NAME)),$(NAME))
# One line a stage; V=1 shows the commands instead.
say = $(if $(V),,@printf '%-11s %s\n' '$(1)' '$(2)')

GOALS := all demo job image matrix merge sdk eval layers bench draw video test list status explain inspect doctor new-model \
	new-chip weights report lint format readme clean help
.PHONY: $(GOALS) built ordinary-targets ALWAYS $(ALL_CHIPS)

help: ## this text
	@printf 'npumake: a trained network in, a compiled artifact per chip out, with the proof that it still works\n\n'
	@printf 'Start\n  make demo                    the whole chain on a small network that comes with npumake (3 minutes)\n'
	@printf '  make doctor                  what this machine has and lacks;  make test: the test suite\n\nBuild\n'
	@printf '  make CHIP MODEL=name         CHIP is one of: $(ALL_CHIPS)\n'
	@printf '       PRECISION=int8          one of the precisions of the chip (default: all of them)\n'
	@printf '       WEIGHTS=file.pth        your own checkpoint, or `random` (default: the published one)\n'
	@printf '       CALIB=folder            photographs to calibrate on (default: $(CALIB))\n'
	@printf '       EVAL=folder LIMIT=20    photographs to measure on (default: $(EVAL)); the first 20 only\n'
	@printf '       SIZE=512x768 BATCH=4    another input size, of those that the model lists; images at once, where the chip has it\n'
	@printf '       GATE=0.99               least agreement with float (OKS, IoU) that int8 must reach; default 0.98\n'
	@printf '       RUNG=2                  this way of calibrating only, instead of climbing until the gate is passed\n'
	@printf '       KEEP_FLOAT=last:3       layers that stay float: the last three, or names of nodes\n'
	@printf '       DOUBLE=1                a stand-in of an SDK that cannot be installed; make explain lists further variables\n'
	@printf '       FORCE=1                 go on in spite of the calibration lint; recorded in the sidecar\n'
	@printf '       ENGINE=docker           where the vendor'\''s tools run: docker, podman or local; TOOLBOX=docker: all of it, without Python\n'
	@printf '  make CHIP ONNX=file.onnx SPEC=file.yaml CALIB=folder EVAL=folder    your own network\n'
	@printf '  make all MODELS="a b" CHIPS="x y"    every cell that this machine can build; make status: what that would be\n'
	@printf '  make image CHIP=name         the chip'\''s container (BASE=); make job CHIP=name MODEL=name: a compiler elsewhere takes it\n'
	@printf '  make weights MODEL=name      download the published weights\n'
	@printf '  make new-model NAME=name ONNX=file, make new-chip NAME=name    a declaration, a vendor folder, to fill in\n\nMeasure\n'
	@printf '  make eval MODEL=name CHIP=name VARIANT=int8 EVAL=folder   a whole set (COCO val2017 as published), resumable\n'
	@printf '       CHIP=float              the float network, by its authors'\'' protocol\n'
	@printf '       BOXES=gt|detections     people from the annotations (default) or from a detector'\''s boxes\n'
	@printf '       FLIP=1 SCALES=0.5,1,2   flip test; multi-scale test (bottom-up networks, CHIP=float)\n'
	@printf '       SHARD=3/16 LIMIT=500    one of 16 parts; only the first 500 images\n'
	@printf '  make matrix LIST=quick|full, make merge PARTS=folder    many machines: the cells as JSON; results of several in one\n'
	@printf '  make bench                   how fast everything around the network is (BENCH_NETWORK=, BENCH_IMAGES=all)\n\nLook\n'
	@printf '  make report                  one page over everything that was built;  make list: models, chips, image sets\n'
	@printf '  make inspect ONNX=file.onnx  what is in a graph, and which chips take it (NODES=1: each node)\n'
	@printf '  make explain MODEL=name CHIP=name   the chain of files, and every flag derived from the model'\''s declaration\n'
	@printf '  make layers MODEL=name CHIP=name    which layers lose the most: table and plot\n'
	@printf '  make draw MODEL=name CHIP=name IMAGE=photo.jpg    float beside chip on your own pictures; make video VIDEO=clip.mp4 EVERY=2\n'
	@printf '       DETECTOR=name           what finds people in them for a top-down network: a built network, or boxes.json\n\n'
	@printf 'Tidy: make clean removes out/ and the rendered image sets; make lint checks the sources\n\n'
	@printf 'Models: $(ALL_MODELS)\n' | fold -s -w 110
	@printf 'V=1 shows each command, and all that the vendors'\'' tools print. -j2 builds cells side by side.\n'

# --- Environments: made once from pinned requirements -----------------------------------------------------------------
.venv/common/ready: requirements.txt requirements-test.txt constraints.txt common/environment.py
	$(if $(V),,@)$(PYTHON) common/environment.py .venv/common requirements.txt requirements-test.txt --constraints constraints.txt

.venv/toolbox/%: common/Dockerfile requirements.txt constraints.txt
	$(if $(V),,@)common/toolbox.sh build
	$(if $(V),,@)mkdir -p $(@D) && touch $@

# `make test` and `make bench` go on without a vendor whose Python this machine lacks, and say so.
ENVIRONMENT_OPTIONS :=
test bench: ENVIRONMENT_OPTIONS := --optional
.venv/%/ready: vendors/%/requirements.txt common/environment.py \
		$$(wildcard $$(addprefix vendors/$$*/,requirements-no-deps.txt .python-version after_install.py))
	$(if $(V),,@)$(PYTHON) common/environment.py .venv/$* $< $(ENVIRONMENT_OPTIONS) \
		$(addprefix --no-deps ,$(wildcard vendors/$*/requirements-no-deps.txt)) \
		$(addprefix --python-version ,$(wildcard vendors/$*/.python-version)) \
		$(addprefix --after ,$(wildcard vendors/$*/after_install.py))

# --- Image sets that are rendered (calib/<set>/set.yaml says how) -------------------------------------------------------
calib/%/manifest.json: calib/%/set.yaml $(wildcard calib/renderer/*.py) | $(COMMON)
	$(call say,render,calib/$*)
	$(RUN) calib.renderer.__main__ calib/$*
rendered = $(addsuffix /manifest.json,$(patsubst %/set.yaml,%,$(wildcard $(1:/=)/set.yaml)))

# --- The request: files that change only when the question changes ------------------------------------------------------
ifneq (,$(NETWORK))
ifneq (,$(CELLS))
PLAN := out/$(NETWORK)/plan.json
$(PLAN): ALWAYS | $(COMMON) $(call rendered,$(CALIB)) $(call rendered,$(EVAL))
	$(RUN) plan $(CELLS) --model '$(MODEL)' --spec '$(SPEC)' --size '$(SIZE)' --onnx '$(ONNX)' \
		--weights '$(WEIGHTS)' --force '$(FORCE)' --calib '$(CALIB)' --calib-count '$(CALIB_COUNT)' --eval '$(EVAL)' \
		--limit '$(LIMIT)' --gate '$(GATE)' --rung '$(RUNG)' --keep-float '$(KEEP_FLOAT)' \
		--job-only '$(JOB_ONLY)' $(foreach name,$(OPTIONS_SET),--option '$(name)=$($(name))')

# The plan writes these too; the empty recipe makes make look at their own times again. (One rule with several targets
# would do by the manual, but GNU make 4.3 then takes all of them for changed.)
out/$(NETWORK)/float/source.json out/$(NETWORK)/float/evaluation_set.json: $(PLAN) ;
$(CELLS:%=out/%/request.json) $(CELLS:%=out/%/climb.json): $(PLAN) ;
$(foreach cell,$(CELLS),$(call if_calibrated,$(cell),out/$(cell)/calibration_set.json)): $(PLAN) ;
endif
endif

# --- The float network, shared by all chips -----------------------------------------------------------------------------
out/%/float/samples.json out/%/float/samples.npz: out/%/float/evaluation_set.json out/%/float/source.json
	$(call say,samples,$*)
	$(RUN) samples out/$*/float

# Export only looks at samples for its proof: another EVAL is no reason to export, and so to compile, again.
out/%/float/export.json: out/%/float/source.json $(wildcard models/arch/*.py) | out/%/float/samples.json
	$(call say,export,$*)
	$(RUN) export out/$*/float

out/%/float/predictions.json: out/%/float/export.json out/%/float/samples.json
	$(call say,reference,$*)
	$(RUN) reference out/$*/float

# --- A cell: one network on one chip in one precision ---------------------------------------------------------------------
out/%/fix.json: out/%/request.json $$(call float_of,$$*)/export.json
	$(call say,fix,$*)
	$(RUN) fix out/$*

out/%/preflight.json: out/%/fix.json $$(wildcard vendors/$$(call vendor_of,$$*)/*.yaml)
	$(call say,preflight,$*)
	$(RUN) preflight out/$*

out/%/calib/manifest.json: out/%/calibration_set.json $$(call float_of,$$*)/source.json | $$(call float_of,$$*)/evaluation_set.json
	$(call say,calibrate,$*)
	$(RUN) calibrate out/$*

out/%/job.json: out/%/fix.json out/%/request.json out/%/climb.json $$(wildcard vendors/$$(call vendor_of,$$*)/chip.yaml)
	$(RUN) job out/$*

# The job folder is self-contained; a hard link keeps the size and the time of the file that it stands for.
out/%/samples.npz: $$(call float_of,$$*)/samples.npz
	$(if $(V),,@)ln -f $< $@ 2>/dev/null || cp -p $< $@

# Compile, simulate, compare, evaluate: one step, because a precision may have several ways ("rungs" in chip.yaml), and
# the first that passes the gate is taken. Several targets of a pattern rule are made by one run of its recipe.
CLIMBED := $(addprefix out/%/,compile.json outputs.npz compare.json metrics.json rungs.json)
$(CLIMBED): out/%/preflight.json \
		out/%/job.json out/%/samples.npz $$(call float_of,$$*)/predictions.json \
		$$(call if_calibrated,$$*,out/%/calib/manifest.json) $$(wildcard vendors/$$(call vendor_of,$$*)/*.py) \
		$(if $(DOUBLED),$(wildcard tests/doubles/*.py tests/doubles/*/*.py tests/doubles/*/*/*)) \
		| $$(call environment_of,$$*)
	$(RUN) climb out/$*

out/%/pictures.json: $(CLIMBED)
	$(call say,draw,$*)
	$(RUN) draw out/$*

out/%/proof.json: $(CLIMBED) out/%/pictures.json
	$(RUN) proof out/$*
	$(if $(CELL_LIST),@$(OUR_PYTHON) -m common all_summary $* >&2)

# The ladder of a quantised cell has the float cell of the same chip as a rung: where both are built, that one goes first.
FLOAT_CELLS := $(filter-out $(foreach cell,$(CELLS),$(call if_calibrated,$(cell),$(cell))),$(CELLS))
$(foreach cell,$(filter-out $(FLOAT_CELLS),$(CELLS)),$(eval out/$(cell)/proof.json: | \
	$(patsubst %,out/%/compare.json,$(filter $(dir $(cell))%,$(FLOAT_CELLS)))))

# --- Goals --------------------------------------------------------------------------------------------------------------
ifneq (,$(CELLS))
out/report/index.html: $(CELLS:%=out/%/proof.json)
	$(call say,report,$@)
	$(RUN) report
endif

# Naming every file of the asked cells here makes them ordinary targets. Files that only pattern rules know are
# "intermediate": make would delete them at the end, and not miss one that somebody removed.
CELL_FILES := fix.json preflight.json job.json samples.npz compile.json outputs.npz compare.json metrics.json \
	rungs.json pictures.json
FLOAT_FILES := samples.json samples.npz export.json predictions.json
ordinary-targets: $(foreach cell,$(CELLS),$(addprefix out/$(cell)/,$(CELL_FILES)) \
	$(call if_calibrated,$(cell),out/$(cell)/calib/manifest.json)) \
	$(foreach float,$(sort $(foreach cell,$(CELLS),$(call float_of,$(cell)))),$(addprefix $(float)/,$(FLOAT_FILES)))

# The verdict is printed at the end of every build, also when nothing was to be done; a red gate fails the build.
$(ALL_CHIPS): $(if $(CELLS),out/report/index.html) | $(COMMON)
	$(RUN) summary --chip $@ --model '$(MODEL)' $(filter $(NETWORK)/$@/%,$(CELLS))

demo: $(DEMO_CHIP)

ALL_ASKED = --models '$(MODELS)' --chips '$(CHIPS)' --precisions '$(PRECISION)' --double '$(DOUBLE)' --weights '$(WEIGHTS)' \
	--force '$(FORCE)' --calib '$(CALIB)' --calib-count '$(CALIB_COUNT)' --eval '$(EVAL)' --limit '$(LIMIT)' --gate '$(GATE)' \
	--rung '$(RUNG)' --keep-float '$(KEEP_FLOAT)'
# Every cell of MODELS= x CHIPS= that this machine can build. The inner make goes on after a failure (-k) and writes its
# stages to a log; lines about finished cells, and errors, come through at once (stderr); the verdict is the summary's.
all: | $(COMMON) $(call rendered,$(CALIB)) $(call rendered,$(EVAL))
	$(RUN) all_cells $(ALL_ASKED)
	+@mkdir -p out/all; NPUMAKE_FAILURES=out/all/failures \
		$(MAKE) -k built CELL_LIST=out/all/cells.txt MODEL= $(if $(V),| tee,>) out/all/make.log || true
	$(RUN) all_summary

built: $(CELLS:%=out/%/proof.json)

image: | $(COMMON)
	$(RUN) image --chip '$(CHIP)' --base '$(BASE)'

# The cells of ci/<list>.yaml, as JSON on one line: what a matrix of continuous integration runs.
matrix: | $(COMMON)
	@$(OUR_PYTHON) -m common matrix --list '$(LIST)' --models '$(MODELS)' --chips '$(CHIPS)' \
		--changed '$(CHANGED)' --shards '$(SHARDS)' --notes '$(NOTES)'

# What other machines made, PARTS/<any name>/<model>/..., laid into out/.
merge: | $(COMMON)
	$(RUN) merge_results --parts '$(PARTS)'

# A licensed file of an SDK, for machines that have it as a secret: SDK_URLS in the environment.
sdk: | $(COMMON)
	$(RUN) sdk_file --chip '$(CHIP)'

# For a chip whose compiler this machine lacks: all that its scripts take, in one folder, without running them.
JOB_FILES := preflight.json job.json samples.npz
job: $(foreach cell,$(CELLS),$(addprefix out/$(cell)/,$(JOB_FILES)) $(call if_calibrated,$(cell),out/$(cell)/calib/manifest.json)) \
		| $(COMMON)
	$(RUN) job_folder --chip '$(CHIP)' --model '$(MODEL)' $(CELLS)

report: | $(COMMON) ## one page over everything that was built
	$(RUN) report
	@echo out/report/index.html

readme: | $(COMMON)
	$(RUN) readme

list: | $(COMMON)
	$(RUN) listing

status: | $(COMMON)
	$(RUN) status $(ALL_ASKED)

# On the machine's own Python, standard library only: it has to tell why no environment can be made.
doctor:
	$(if $(V),,@)$(PYTHON) -m common doctor

inspect: | $(COMMON)
	$(RUN) inspect_onnx --onnx '$(ONNX)' --nodes '$(NODES)' --json '$(JSON)'

new-model: | $(COMMON)
	$(RUN) new_model --name '$(named)' --onnx '$(ONNX)' --spec '$(SPEC)'

new-chip: | $(COMMON)
	$(RUN) new_chip --name '$(named)'

explain: | $(COMMON)
	$(RUN) explain --model '$(MODEL)' --spec '$(SPEC)' --chip '$(CHIP)'

# The published protocol over a whole set; chunk by chunk, so that it can be stopped, resumed and sharded.
eval: | $(COMMON) $(call rendered,$(EVAL)) $(patsubst %,.venv/%/ready,$(call locally,$(call chip_field,2,$(CHIP))))
	$(RUN) full_evaluation --model '$(MODEL)' --spec '$(SPEC)' --size '$(SIZE)' --chip '$(CHIP)' \
		--variant '$(or $(VARIANT),$(PRECISION))' --eval '$(EVAL)' --boxes '$(BOXES)' --flip '$(FLIP)' \
		--shard '$(SHARD)' --limit '$(LIMIT)' --scales '$(SCALES)'

# What was built, on the user's own pictures; a name may hold an apostrophe.
quoted = '$(subst ','\'',$(1))'
LOOK = --model '$(MODEL)' --spec '$(SPEC)' --size '$(SIZE)' --chip '$(CHIP)' --detector $(call quoted,$(DETECTOR)) \
	--variant '$(or $(VARIANT),$(if $(PRECISION),$(PRECISION)$(call variant_suffix,$(CHIP))))' --out $(call quoted,$(OUT))
# The environments of the chips that are named: the network's, and the detector's in DETECTOR=network/chip/variant.
looked_at = $(sort $(foreach chip,$(CHIP) $(word 2,$(subst /, ,$(DETECTOR))),$(patsubst %,.venv/%/ready,$(call locally,$(call chip_field,2,$(chip))))))
draw: | $(COMMON) $(looked_at)
	$(RUN) draw_photo $(LOOK) --image $(call quoted,$(IMAGE))

video: | $(COMMON) $(looked_at)
	$(RUN) video $(LOOK) --video $(call quoted,$(VIDEO)) --every '$(EVERY)' --limit '$(LIMIT)'

layers: | $(COMMON)
	$(RUN) layers --model '$(MODEL)' --spec '$(SPEC)' --size '$(SIZE)' --chip '$(CHIP)' \
		--precision '$(or $(PRECISION),$(VARIANT))'

bench: $(patsubst vendors/%/bare_commands.py,.venv/%/ready,$(wildcard vendors/*/bare_commands.py)) \
		$(patsubst vendors/%/chip.yaml,.venv/%/ready,$(if $(filter bench,$(MAKECMDGOALS)),$(shell grep -l '^host_runtime: true' vendors/*/chip.yaml))) \
		| $(COMMON) $(call rendered,calib/people_evaluation) $(call rendered,calib/people_calibration)
	$(RUN) common.bench.__main__ --compile-network '$(BENCH_NETWORK)' --images '$(BENCH_IMAGES)'

weights: | $(COMMON)
	$(RUN) weights '$(MODEL)'

# The vendor folders' own tests run in their own environments, so those are made first.
test: $(COMMON) $(LOCAL_VENDORS:%=.venv/%/ready)
	.venv/common/bin/python -m pytest $(or $(TESTS),-n $(TEST_WORKERS) --dist loadfile)

lint: $(COMMON)
	.venv/common/bin/ruff check .
	.venv/common/bin/ruff format --check .
	.venv/common/bin/yamllint --strict .
	.venv/common/bin/shellcheck -x .ci/run ci/slurm/evaluate.sh common/toolbox.sh common/toolbox/*.sh
	.venv/common/bin/hadolint $(wildcard vendors/*/Dockerfile common/Dockerfile)
	.venv/common/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/common/bin/zizmor --offline --quiet --min-severity medium .github/workflows .github/actions

format: $(COMMON)
	.venv/common/bin/ruff check --fix .
	.venv/common/bin/ruff format .

clean:
	rm -rf out
	find $(patsubst %/set.yaml,%,$(wildcard calib/*/set.yaml)) -mindepth 1 ! -name set.yaml -delete

ALWAYS:

# Whatever is no rule and no file: an unknown chip, most likely.
.DEFAULT:
	$(if $(V),,@)$(ANY_PYTHON) common/unknown_goal.py '$@' $(ALL_CHIPS) $(GOALS)
