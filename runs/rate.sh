#!/usr/bin/env bash
# What the rate term of the loss buys: the demo with weights of the estimated bits per element, accuracy against bytes.
# Statistics are `calibrated`, so that what the term shrinks stays small. About 3 minutes per run on 2 cores.
#
#   runs/rate.sh                          weights 0, 0.003, 0.01, 0.03, 0.1, one seed, into runs/rate
#   runs/rate.sh runs/rate 0 0.02         these weights only
#   SEEDS=3 runs/rate.sh                  three seeds
#
# Runs that have a summary.json are not repeated, an interrupted one goes on. QTL is the program, DEMO are further
# arguments of every `demo`. The table is printed and written to table.md in the output directory.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
out=${1:-runs/rate}
shift || true
weights=("$@")
[ ${#weights[@]} -gt 0 ] || weights=(0 0.003 0.01 0.03 0.1)

runs=()
for seed in $(seq 1 "${SEEDS:-1}"); do
  for weight in "${weights[@]}"; do
    run="$out/rate$weight-seed$seed"
    runs+=("$run")
    [ -f "$run/summary.json" ] && continue
    echo "== $run" >&2
    sets=(--set "seed=$seed")
    for modality in image text; do
      sets+=(--set "quantizer.$modality.statistics=calibrated" --set "quantizer.$modality.rate=$weight")
    done
    # shellcheck disable=SC2086 # words of DEMO are arguments
    $qtl demo --out "$run" "${sets[@]}" ${DEMO:-} > /dev/null
    # What is left of a run is its report; the pictures are the same for all.
    rm -rf "$run"/{train,test,base,checkpoint,client/checkpoints,server/checkpoints}
  done
done
$qtl compare --out "$out/table.md" "${runs[@]}"
