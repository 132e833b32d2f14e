.DEFAULT_GOAL := help

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: slapd build ## Start a private OpenLDAP and the API; Ctrl-C stops both (ARGS="..." adds flags)
	@ROLLCALL_ENV="$${ROLLCALL_ENV:-development}" exec bin/rollcall serve $(ARGS)

build: ## Build bin/rollcall
	@go build -trimpath -buildvcs=false -ldflags '$(if $(VERSION),-X main.version=$(VERSION))' -o bin/rollcall .

test: slapd sshd cc clients ## Run every test but the long ones, with the race detector, against a real OpenLDAP
	go test -race -count=1 -timeout 20m ./...

test-long: slapd sshd cc clients ## Run the tests that need long, then every fuzz test for a minute (FUZZTIME=60s)
	@scripts/test-long
	@scripts/fuzz

bench: slapd ## Compare Rollcall with a bare LDAP client, and print the table
	go test -count=1 -tags bench -timeout 30m -run '^TestBench' -v ./app/rest/

postman-test: slapd node ## Run the Postman collection twice against a fresh server (URL=… for another)
	@scripts/postman-test $(URL)

browser-test: slapd cc chromium ## Try the pages out in a headless Chromium
	go test -race -count=1 -tags browser -timeout 20m -run '^TestBrowser' ./app/rest/

test-compose: node ## Build and run docker-compose.yml, and the Postman collection against it
	@scripts/test-compose

verify: slapd node ## Check the committed OpenAPI document and the files in deploy/
	@scripts/verify

lint: bin/golangci-lint ## Check the format, the Go code and the scripts
	@scripts/lint

fmt: bin/golangci-lint ## Format the Go code
	bin/golangci-lint fmt

clean: ## Remove what was built; the directory in .rollcall/ stays
	rm -rf bin coverage.*

slapd:
	@scripts/install-slapd

sshd:
	@scripts/install-sshd

cc:
	@scripts/install-cc

clients:
	@scripts/install-clients

node:
	@scripts/install-node

chromium:
	@scripts/install-chromium

bin/golangci-lint: tools/go.mod tools/go.sum
	@echo "Building golangci-lint; the first time takes some minutes"
	@go build -C tools -trimpath -buildvcs=false -o ../bin/ tool

.PHONY: help run build test test-long bench postman-test browser-test test-compose verify lint fmt clean slapd sshd cc clients node chromium
