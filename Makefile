# `make` lists the targets. Go, git and make are all that is needed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MODULE  := github.com/capstan-gitops/capstan
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Everything is built in one way, so that programs, tests, linter and demo share
# one build cache. The version only touches the linker.
export CGO_ENABLED := 0
export GOWORK := off
LDFLAGS := -s -w -X main.version=$(VERSION)

PROGRAMS := ./agent/cmd/capstan-agent ./agent/cmd/capstan-render ./agent/cmd/capstan-keys ./hub/cmd/capstan-hub ./hub/cmd/capstan
TOOLS    := bin/tools
FUZZTIME ?= 20s
FLEET    ?= 1000,5000,10000
ROUNDS   ?= 100

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build capstan, capstan-hub, capstan-agent, capstan-render and capstan-keys into bin/
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o bin/ $(PROGRAMS)

.PHONY: test
test: ## run every test, those on real control planes among them
	@echo '== tests of the module'
	@time go test -timeout 20m ./...
	@echo '== end-to-end tests: real control planes are built first'
	@cd e2e && time go build ./...
	@echo '== and what runs beside them, controllers of others from their own modules among it'
	@cd e2e && time go run ./cmd/programs
	@cd e2e && time go test -timeout 40m -p 1 ./...

.PHONY: demo
demo: ## three control planes, a hub, a Git server, and the story; Ctrl-C ends it
	@echo 'building the demo; the first time takes some minutes'
	@mkdir -p e2e/.build
	@cd e2e && go build -o .build/demo ./cmd/demo
	@exec e2e/.build/demo

.PHONY: bench
bench: ## measure against a real control plane; table here, numbers in bench.json (SECTION=source: that one alone; APPS=100: that size)
	@mkdir -p e2e/.build
	@cd e2e && go build -o .build/bench ./cmd/bench
	@exec e2e/.build/bench $(if $(SECTION),-section $(SECTION)) $(if $(APPS),-apps $(APPS))

.PHONY: bench-fleet
bench-fleet: ## measure the hub with simulated agents (FLEET=1000,5000,10000)
	@mkdir -p e2e/.build
	@cd e2e && go build -o .build/bench-fleet ./cmd/bench-fleet
	@exec e2e/.build/bench-fleet -agents $(FLEET)

.PHONY: soak
soak: ## kill hubs, NATS servers, agents and control planes (ROUNDS=100, and twice as often agents), and look what is lost
	cd e2e && go test -v -count=1 -timeout 150m ./soak -seed 0 -rounds $(ROUNDS) -within 60m

.PHONY: full-disk
full-disk: ## fill the disk under a hub to its last byte, time and again, and look what is lost (takes root, or user namespaces)
	cd e2e && go run ./cmd/full-disk

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## format, layers and everything else that can be read off the source
	$(TOOLS)/golangci-lint run ./...
	cd e2e && ../$(TOOLS)/golangci-lint run --config ../.golangci.yml ./...

.PHONY: format
format: $(TOOLS)/golangci-lint ## format the source as lint wants it
	$(TOOLS)/golangci-lint fmt ./...
	cd e2e && ../$(TOOLS)/golangci-lint fmt --config ../.golangci.yml ./...

.PHONY: generate
generate: $(TOOLS)/controller-gen ## write the CRDs and deep copies from the types
	$(TOOLS)/controller-gen object crd paths=./pkg/apis/... output:crd:dir=manifests/crds

.PHONY: fuzz
fuzz: ## fuzz every decoder, FUZZTIME (20s) each
	@grep -rl --include='*_test.go' '^func Fuzz' agent hub pkg | while read -r file; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file"); do \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")"; \
	  done; \
	done

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## look our dependencies up among the known vulnerabilities (asks a server)
	$(TOOLS)/govulncheck ./...

.PHONY: clean
clean: ## remove what was built here; the build cache stays
	rm -rf bin .demo e2e/.build bench.json

# The tools are pinned in a module of their own.
$(TOOLS)/golangci-lint: TOOL := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/controller-gen: TOOL := sigs.k8s.io/controller-tools/cmd/controller-gen
$(TOOLS)/govulncheck: TOOL := golang.org/x/vuln/cmd/govulncheck
$(TOOLS)/%: .ci/tools/go.mod .ci/tools/go.sum
	@mkdir -p $(TOOLS)
	@echo 'building $(@F); the first time takes some minutes'
	@cd .ci/tools && go build -ldflags '-s -w' -o ../../$@ $(TOOL)
