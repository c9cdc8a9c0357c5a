# walbridge. "make help" lists the targets.
#
# On Debian and its relatives "make test" and "make demo" work as the first
# command, as root or with sudo: they install PostgreSQL and what else is missing.
# Elsewhere they say what to install. PostgreSQL never runs as root.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# How long the demo and the soak test run, as Go writes durations.
FOR ?=
# Further flags for go test, as in: make test TESTFLAGS='-run TestRun -v'
TESTFLAGS ?=
# Arguments of the benchmark; BENCH=--help lists them.
BENCH ?=
# PostgreSQL majors of test-matrix, and where they are kept. Root's own cache is
# closed to the user that the servers run as.
MATRIX     ?= 14 16 17 18
MATRIX_DIR ?= /var/tmp/walbridge-postgresql-$(shell id -u)

# The commit goes in by LDFLAGS; asking git again fails in a checkout that belongs
# to another user.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/walbridge, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/walbridge ./cmd/walbridge

.PHONY: test
test: postgres extras compiler lint ## Install what the tests need, then check and test everything
	@if command -v "$${CC:-gcc}" >/dev/null; then \
		set -x; CGO_ENABLED=1 $(GO) test -race -timeout 30m $(TESTFLAGS) ./...; \
	else \
		echo "make: no C compiler, so the tests run without the race detector" >&2; \
		set -x; $(GO) test -timeout 30m $(TESTFLAGS) ./...; \
	fi

.PHONY: test-compose
test-compose: compose-tools ## Test the compose stack on a real Docker engine (as root; see internal/compose)
	TEST_COMPOSE=1 $(GO) test -count=1 -timeout 40m -v $(TESTFLAGS) ./internal/compose

.PHONY: demo
demo: postgres build ## Show the bridge at work on two throwaway clusters (FOR=1m)
	bin/walbridge demo $(if $(FOR),--for $(FOR))

.PHONY: lint
lint: ## Check formatting and go vet
	@bad=$$(gofmt -l cmd configs internal mapping replicator sink); \
	if [ -n "$$bad" ]; then echo "make: not formatted, run gofmt -w:" $$bad >&2; exit 1; fi
	$(GO) vet ./...

.PHONY: bench
bench: postgres build ## Measure beside PostgreSQL's own subscription (BENCH='--scale 0.1 small'; --sink both adds Supabase's API)
	$(GO) run ./internal/bench/cmd $(BENCH)

.PHONY: test-matrix
test-matrix: ## Test against other majors of PostgreSQL (MATRIX="14 16 17 18"; needs npm)
	@bins=$$(sh internal/pgtest/versions.sh $(MATRIX_DIR) $(MATRIX)) || exit 1; \
	for bin in $$bins; do \
		echo "make: $$bin" >&2; \
		TEST_POSTGRES_BIN=$$bin $(GO) test -count=1 -timeout 30m $(TESTFLAGS) ./... || exit 1; \
	done

.PHONY: soak
soak: postgres build ## Test for long: random transactions and faults against the oracle, then the demo (SEEDS=1000 FAULTS=50 FOR=15m)
	ORACLE_SEEDS=$(or $(SEEDS),1000) $(GO) test -count=1 -timeout 0 -run TestOracle ./internal/oracle -oracle.all
	NEMESIS_SEEDS=20 $(GO) test -count=1 -timeout 0 -v -run TestNemesis ./internal/oracle -nemesis.faults $(or $(FAULTS),50)
	LARGE=full $(GO) test -count=1 -timeout 0 -v -run TestLarge ./internal/oracle
	PROPERTY_SEEDS=$(or $(SEEDS),200) $(GO) test -count=1 -timeout 0 -run TestProperty ./replicator
	RESYNC_KILLS=5 $(GO) test -count=1 -timeout 0 -run TestResync_Killed ./cmd/walbridge
	ISOLATION_QUERIES=10000 $(GO) test -count=1 -timeout 0 -run TestIsolation ./internal/supabase
	REST_EXERCISE=all $(GO) test -count=1 ./sink/rest
	bin/walbridge demo --for $(or $(FOR),15m)

# Without FAULTS each pair has twenty.
.PHONY: soak-matrix
soak-matrix: postgres ## Faults with each pair of PostgreSQL majors as source and target (FAULTS=20; needs npm)
	@sh internal/pgtest/versions.sh $(MATRIX_DIR) 14 16 17 18 >/dev/null || exit 1; \
	bin() { [ $$1 = 15 ] && echo /usr/lib/postgresql/15/bin || echo $(MATRIX_DIR)/$$1/bin; }; \
	for source in 14 15 16 17 18; do for target in 15 16 17 18; do \
		echo "make: source $$source, target $$target" >&2; \
		NEMESIS_SOURCE_BIN=$$(bin $$source) NEMESIS_TARGET_BIN=$$(bin $$target) \
			$(GO) test -count=1 -timeout 0 -run TestNemesis ./internal/oracle -nemesis.faults $(or $(FAULTS),20) || exit 1; \
	done; done

.PHONY: dist
dist: ## Make programs, their bills of materials, Debian packages and checksums in dist/, and test them
	GO='$(GO)' sh deploy/dist.sh '$(VERSION)' '$(COMMIT)'
	GO='$(GO)' sh deploy/dist-check.sh '$(VERSION)' '$(COMMIT)'

.PHONY: test-dist
test-dist: dist ## Make all of dist again elsewhere, and see that it is the same
	GO='$(GO)' sh deploy/dist-again.sh '$(VERSION)' '$(COMMIT)'

.PHONY: clean
clean: ## Remove what build and dist made
	rm -rf bin dist

# What the tests and the demo need of the system.

.PHONY: postgres
postgres:
	@sh internal/pgtest/install.sh

# What some tests use where it is there: pg_cron, node, supabase-js, Chromium, promtool.
.PHONY: extras
extras:
	@sh internal/supabase/extras.sh
	@sh internal/status/web/promtool.sh

.PHONY: compose-tools
compose-tools:
	@sh internal/compose/install.sh

# The race detector needs a C compiler. Without one, and without the right to
# install it, the tests run all the same.
.PHONY: compiler
compiler:
	@command -v "$${CC:-gcc}" >/dev/null && exit 0; \
	command -v apt-get >/dev/null || exit 0; \
	sudo=; [ "$$(id -u)" = 0 ] || { sudo -n true 2>/dev/null && sudo="sudo -n" || exit 0; }; \
	install() { $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends gcc libc6-dev >&2; }; \
	install || { $$sudo apt-get update --quiet >&2 && install; } || true
