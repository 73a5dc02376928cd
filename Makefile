# Thin targets: CI calls the same commands.

.PHONY: help fmt lint test demo proto figures release image fuzz-smoke arm64 ci

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

fmt: ## Format the code
	cargo fmt --all

lint: ## Formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

test: ## All tests that this machine can run
	cargo test --workspace

demo: ## The release binary between a simulated host and a simulated node
	cargo run --release -p lab -- demo

proto: ## Regenerate src/pb and hack/lab/src/pb from proto/
	UPDATE=1 cargo test --test generated_code

figures: ## Recovery, idle cost and memory, with other agents beside it where they are installed
	cargo run --release -p lab -- bench recovery
	cargo run --release -p lab -- bench idle --minutes 1
	cargo run --release -p lab -- bench-node

release: ## The static release binary
	cargo run --release -p lab -- build

image: ## The extension image, as an OCI layout and as tarballs
	cargo run --release -p image

fuzz-smoke: ## Every fuzz target for a minute
	hack/fuzz 60

arm64: ## Build and test for 64-bit Arm in emulation (installs Debian's cross tools when run as root)
	hack/arm64

ci: ## Everything that CI does
	.ci/run
