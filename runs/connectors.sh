#!/usr/bin/env bash
# Tokens and bytes per picture of every connector at full size, with random weights.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --locked -p qtl-model --example connectors
