#!/usr/bin/env bash
# The demo against the same recipe with 16-bit features up and 32-bit gradients down: what do the saved bytes cost?
# Same base, same data, same steps, 3 seeds. About 3 minutes per run on 2 cores; prints a table and writes it to table.md.
# Runs that have a summary.json are not repeated. QTL is the program, SEEDS the number of seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
out=${1:-runs/compare}
none="{kind='none'}"
runs=()
for seed in $(seq 1 "${SEEDS:-3}"); do
  for method in demo none; do
    run="$out/$method-seed$seed"
    runs+=("$run")
    [ -f "$run/summary.json" ] && continue
    sets=(--set "seed=$seed")
    [ "$method" = demo ] || sets+=(--set "quantizer.image=$none" --set "quantizer.text=$none" --set "gradient.codec='f32'")
    $qtl demo --out "$run" "${sets[@]}" > /dev/null
  done
done
$qtl compare --out "$out/table.md" "${runs[@]}"
