#!/usr/bin/env bash
# The demo's recipe with and without quantizers, same base, same data, same steps: what do the 2 bits cost?
# About 7 minutes on 2 cores. Prints one line of accuracies per run.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/compare}
none="{kind='none'}"
cargo run --release --quiet -- demo --out "$out/fsq4"
cargo run --release --quiet -- demo --out "$out/none" --set "quantizer.image=$none" --set "quantizer.text=$none"
for run in fsq4 none; do
  echo "$run: $(tr -d '\n ' < "$out/$run/summary.json" | grep -o '"accuracy":{[^}]*}')"
done
