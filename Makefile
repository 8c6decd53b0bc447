# Verbs only: the logic is in the binary and in the tests.
CARGO ?= cargo
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60
# Seconds of hostile packets.
HOSTILE_SECONDS ?= 60
# Rounds of the differential fuzz test, its seed (empty: the clock's) and other options.
ROUNDS ?= 100
SEED ?=
FUZZ_ARGS ?=
# Recordings to run, by name; all when empty.
NAMES ?=

# Options of `podpath bench kernel`: BENCH="--flows 4096,50000 --size 512 -o json".
BENCH ?=

# Frames of the fast path against the walk, and the first seed.
PACKETS ?= 1000000
FIRST ?= 1

.PHONY: build demo test lint bench-kernel limit fast-path asan conformance conformance-fuzz vectors dns-dig dns-hostile fuzz docs

build: ## the release binary
	$(CARGO) build --release

demo: ## the built-in cluster, a capture replayed through it, what happened to each packet
	$(CARGO) run --release --quiet

test: ## everything, debug profile
	$(CARGO) test

lint: ## format, clippy and documentation without a warning
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

bench-kernel: ## the kernel and podpath on the same paths, in turns (root): make bench-kernel BENCH="--size 512"
	$(CARGO) run --release --quiet -- bench kernel $(if $(findstring --flows,$(BENCH)),,--flows 4096) $(BENCH)

limit: ## the bench's bare loop beside that of ../shared/limit, in turns: within 10 %?
	$(CARGO) run --release --quiet -- bench limit --repetitions 3

fast-path: ## the fast path against the walk on drawn clusters: make fast-path PACKETS=1000000 FIRST=1
	PODPATH_PACKETS=$(PACKETS) PODPATH_SEED=$(FIRST) $(CARGO) test --release --test fast_path -- --nocapture

asan: ## the fast path and its differential test under AddressSanitizer (x86_64 Linux; a target directory of its own)
	@set -e; for what in "--lib fast::" "--test fast_path" "--test fast_path_alloc"; do \
		RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_PROFILE_DEV_DEBUG=line-tables-only \
			$(CARGO) test --target x86_64-unknown-linux-gnu --target-dir target/asan $$what; \
	done

conformance: ## every kernel recording, frame by frame: make conformance NAMES="arp-answer vxlan"
	@$(CARGO) test --release --quiet --test conformance --no-run
	@$$(ls -t target/release/deps/conformance-* | grep -v '\.d$$' | head -n 1) --all $(NAMES)

conformance-fuzz: ## random rules and packets, the kernel against podpath (root): make conformance-fuzz ROUNDS=2000 SEED=7
	@$(CARGO) test --release --quiet --test conformance_fuzz --no-run
	@$$(ls -t target/release/deps/conformance_fuzz-* | grep -v '\.d$$' | head -n 1) --rounds $(ROUNDS) \
		$(if $(SEED),--seed $(SEED)) $(FUZZ_ARGS)

vectors: ## every case of PODPATH_VECTORS (default ../shared/vectors): make vectors NAMES=kube-proxy/iptables
	$(CARGO) test --release --test vectors -- --all $(NAMES)

dns-dig: ## dig, installed where that is allowed, against `podpath dns serve`: every query of the DNS vectors, UDP and TCP
	$(CARGO) test --test dns_dig -- --ignored --nocapture

dns-hostile: ## packets that no client sends, at `podpath dns serve` for HOSTILE_SECONDS
	PODPATH_HOSTILE_SECONDS=$(HOSTILE_SECONDS) $(CARGO) test --release --test dns_hostile -- --nocapture

fuzz: ## each fuzz target for FUZZ_SECONDS (needs `cargo install cargo-fuzz`)
	@set -e; targets=$$($(CARGO) fuzz list); for target in $$targets; do \
		mkdir -p fuzz/corpus/$$target; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048; \
	done

docs: ## the library's documentation
	$(CARGO) doc --no-deps
