# Everything a developer runs. `make` alone lists it.

# An ordinary user's PATH often lacks the directories of nft and sshd.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# The program needs no C. Without cgo every machine builds and tests the same
# thing, with or without a C compiler.
export CGO_ENABLED := 0

GO ?= go

# How long each fuzz target runs, and how much the long suites do.
FUZZTIME ?= 30s
PACKETS ?= 1000000
KILLS ?= 200

# Which benches to run. The openings take half an hour on an idle machine.
BENCH ?= packets openings

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## build ./postern, one static binary
	$(GO) build -trimpath -buildvcs=auto -o postern ./cmd/postern

.PHONY: test
test: tools lint ## install missing test programs, lint, run all tests
	$(GO) test -count=1 -vet=off -p 3 -timeout 9m ./...

.PHONY: check
check: test ## what CI runs: the same as test

.PHONY: tools
tools: ## install the programs that the tests need, or list them
	@./scripts/install-test-tools

# -count=1 disables Go's test cache, which cannot see that the kernel, nft or
# sshd has changed. lint has run vet. The tests of three packages run at a time, on
# two processors: most of them wait more than they work.

.PHONY: conformance
conformance: tools ## compare kernel and reference at length: PACKETS=1000000, a tenth for iptables
	$(GO) test -count=1 -timeout 120m -v -run Conformance ./internal/firewall/nftables -packets $(PACKETS)
	$(GO) test -count=1 -timeout 120m -v -run Conformance ./internal/firewall/iptables -packets $$(($(PACKETS) / 10))

ROUNDS ?= 1000000

.PHONY: tokens
tokens: tools ## the same token or tag on two CPUs, ROUNDS=1000000, and every fault in the program (as root)
	$(GO) test -count=1 -timeout 120m -v -run 'TestRace|TestFaults' ./internal/firewall/bpf -rounds $(ROUNDS) -faults
	$(GO) test -count=1 -timeout 120m -v -run TestTagRace ./internal/firewall/nftables -rounds $(ROUNDS)

.PHONY: stealth
stealth: tools ## all nmap scan types over all 65,535 ports, with each cover
	$(GO) test -count=1 -timeout 120m -v -run Stealth ./internal/stealth -all-ports

RUNS ?= 6

.PHONY: systemd
systemd: ## boot Debian machines: boots, other firewalls, rollback RUNS=6, packages (as root)
	@./scripts/install-test-tools systemd
	$(GO) test -count=1 -timeout 120m -v ./internal/lab/debian -systemd
	$(GO) test -count=1 -timeout 120m -v ./internal/booted -systemd -runs $(RUNS)

KERNELS ?= bullseye bookworm trixie trixie-backports
SUITES ?= demo|nftables|iptables|bpf
PARTS ?= TestSuites|TestReaders

.PHONY: kernels
kernels: ## boot Debian's kernels in qemu and run tests there: KERNELS="bookworm ..." (as root)
	@./scripts/install-test-tools kernels
	$(GO) test -count=1 -timeout 12h -v -run '$(PARTS)' ./internal/kernels -kernels '$(KERNELS)' -suites '$(SUITES)'

.PHONY: packages
packages: ## build packages and archives of this commit in ./dist
	$(GO) run ./packaging -o dist

.PHONY: package-test
package-test: ## build this commit's packages twice, compare, lintian, install the rpm
	@./scripts/install-test-tools packages
	$(GO) test -count=1 -timeout 60m -v ./packaging -packages

.PHONY: rollback
rollback: tools ## kill what changes rules, or waits for a confirmation of them: KILLS=200, over ssh too (as root)
	$(GO) test -count=1 -timeout 120m -v -run 'TestRollback|TestUpTogether' ./internal/cli -kills $(KILLS) -rounds $(KILLS)
	$(GO) test -count=1 -timeout 120m -v -run 'TestKill$$' ./internal/firewall/nftables ./internal/firewall/iptables -kills $(KILLS)

.PHONY: bench
bench: tools ## cost per packet, then openings on bad networks: BENCH="packets openings"
	@for bench in $(BENCH); do $(GO) run ./bench/$$bench || exit; done

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME=30s
	@FUZZTIME=$(FUZZTIME) ./scripts/fuzz

.PHONY: lint
lint: gofmt vet staticcheck tidy typecheck ## gofmt, go vet, staticcheck, go mod tidy, typecheck

.PHONY: gofmt vet staticcheck tidy
gofmt:
	@unformatted=$$(gofmt -l .) && if [ -n "$$unformatted" ]; then \
		echo "not gofmt'ed (run gofmt -w on them):"; echo "$$unformatted"; exit 1; fi

vet:
	$(GO) vet ./...

# The linter has a module of its own, so that the program's go.mod names only
# what the program needs.
staticcheck:
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

tidy:
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff

# Building for all of them takes minutes in a fresh checkout: lint type-checks, in a
# tenth of the time. What that misses, the compiler or the linker finds in cross.
TARGETS := linux/arm linux/arm64 linux/386 linux/mips linux/mipsle linux/riscv64 darwin/amd64 darwin/arm64 \
	windows/amd64 windows/arm64 freebsd/amd64 freebsd/arm64 freebsd/arm freebsd/riscv64

.PHONY: typecheck
typecheck: ## type-check for every system and processor
	cd tools && $(GO) run ./typecheck .. ./cmd/postern $(TARGETS)

.PHONY: cross
cross: ## build for every system and processor
	@for target in $(TARGETS); do echo "building for $$target"; \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) build -o /dev/null ./cmd/postern || exit 1; done
