# crm.platform: `make deploy` brings the CRM up, `make test` proves it.
# Everything is installed below .cache; nothing of the user's is touched.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help deploy destroy test check lint sanity unit integration molecule system bench docs dist clean

INVENTORY ?= inventories/local
HTTPS_PORT ?= 8443
HTTP_PORT ?= 8080
# Arguments for ansible-playbook, as in: make deploy ARGS="--check --diff"
ARGS ?=

PYTHON ?= python3
VENV := .cache/venv/bin
TOOLS := .cache/requirements.installed
DEV_TOOLS := .cache/requirements-dev.installed

help: ## say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(TOOLS): requirements.txt tools/bootstrap.sh
	@PYTHON=$(PYTHON) sh tools/bootstrap.sh requirements.txt

$(DEV_TOOLS): requirements-dev.txt tools/bootstrap.sh
	@PYTHON=$(PYTHON) sh tools/bootstrap.sh requirements-dev.txt

deploy: $(TOOLS) ## bring the CRM up; INVENTORY=inventories/single for real servers
	@$(VENV)/python tools/deploy.py --https-port $(HTTPS_PORT) --http-port $(HTTP_PORT) $(INVENTORY) -- $(ARGS)

destroy: $(TOOLS) ## remove the container that deploy made, with all that is in it
	@$(VENV)/python tools/deploy.py --destroy $(INVENTORY)

test: $(DEV_TOOLS) ## run all tests
	@$(VENV)/python tools/run_tests.py lint sanity unit integration molecule system

check: $(DEV_TOOLS) ## run the tests that need no container, in less than three minutes
	@$(VENV)/python tools/run_tests.py lint sanity unit

lint sanity unit integration molecule system: $(DEV_TOOLS) ## run these tests alone
	@$(VENV)/python tools/run_tests.py $@

bench: $(DEV_TOOLS) ## measure beside a peer or a limit, in one run
	@$(VENV)/python benchmarks/run.py

docs: $(DEV_TOOLS) ## write the tables of the roles' README files anew
	@$(VENV)/python tools/role_readme.py

dist: $(TOOLS) ## build the collection's tarball into .cache/dist
	@$(VENV)/ansible-galaxy collection build --force --output-path .cache/dist

clean: ## remove what was installed and built here; containers stay, see destroy
	rm -rf .cache
