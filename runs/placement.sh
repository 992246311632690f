#!/usr/bin/env bash
# What it costs to cut the demo's model behind its first block instead of at the language model's input: accuracy, bytes of both
# directions, seconds. Same base, same data, same steps, 3 seeds; about 2 minutes per run on 2 cores.
#
#   runs/placement.sh [OUT]        runs/placement by default; prints a table and writes it to table.md
#   SEEDS=1 runs/placement.sh      one seed
#
# Where text rows of one token cross once depends on the cut, so the first setting is measured both ways. Runs that have a
# summary.json are not repeated. QTL is the program, DEMO are further arguments of every `demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
out=${1:-runs/placement}
declare -A sets=(
  [input]="split.bottom_blocks=0"
  [input-all-rows]="quantizer.text_rows='all'"
  [block1]="split.bottom_blocks=1"
)
runs=()
for seed in $(seq 1 "${SEEDS:-3}"); do
  for name in input input-all-rows block1; do
    run="$out/$name-seed$seed"
    runs+=("$run")
    [ -f "$run/summary.json" ] && continue
    echo "== $run" >&2
    # shellcheck disable=SC2086 # words of DEMO are arguments
    $qtl demo --out "$run" --set "${sets[$name]}" --set "seed=$seed" ${DEMO:-} > /dev/null
    rm -rf "$run"/{train,test,base,checkpoint,client/checkpoints,server/checkpoints}
  done
done
$qtl compare --out "$out/table.md" "${runs[@]}"
