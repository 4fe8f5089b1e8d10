# make help tells what there is.
.DEFAULT_GOAL := help
.PHONY: help test unit race fuzz bench lint cover soak peers fmt

FUZZTIME ?= 10s
BENCH    ?= .
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## everything CI checks: installs the missing peers, then format, vet, all tests, race, vulnerabilities
	@scripts/test.sh

unit: ## the tests that need Go alone; those with real peers run where the peer is present
	go test ./...

race: ## the unit tests under the race detector
	@scripts/test.sh race

fuzz: ## every fuzz test for FUZZTIME (10s) each
	@scripts/fuzz.sh $(FUZZTIME)

bench: ## the benchmarks beside the code, BENCH=regexp of them
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...
	@echo "Side by side with a real server: go run ./internal/bench -h, see docs/performance.md"

lint: ## golangci-lint with .golangci.yml where it is installed, and staticcheck
	@if command -v golangci-lint >/dev/null; then golangci-lint run; \
	else echo "golangci-lint is not installed (https://golangci-lint.run/docs/welcome/install/): staticcheck only"; fi
	go run $(STATICCHECK) ./...

cover: ## test coverage by package, and coverage.html
	@go test -coverpkg=./... -coverprofile=coverage.out $$(go list ./... | grep -Ev '/(internal/(e2e|bench)|examples)(/|$$)')
	@go tool cover -html=coverage.out -o coverage.html
	@scripts/cover.awk coverage.out

soak: peers ## the long runs (RUNNEL_SOAK=1)
	RUNNEL_E2E=1 RUNNEL_SOAK=1 go test -count=1 -timeout 60m -v -run 'Soak' ./...

peers: ## installs the missing real peers: ffmpeg, Chromium, nginx, scripts for the browser
	@scripts/install-peers.sh

fmt: ## formats the Go files
	gofmt -w .
