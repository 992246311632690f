#!/usr/bin/env bash
# What it costs to cut the demo's model elsewhere than at the language model's input: in front of the connector, behind the first block, or with the labels at
# the client and hidden states of 2, 4 and 16 levels (at the widths of least error for normal features), or its last block too.
# Accuracy, bytes of both directions, seconds. Same base, same data, same steps, 3 seeds; about 2 minutes per run on 2 cores.
# A first and a last block at the client need a model of three blocks, and the demo's has two.
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
fsq() { echo "quantizer.hidden={kind='fsq',levels=$1,width=$2,statistics='channel'}"; }
declare -A sets=(
  [input]="split.bottom_blocks=0"
  [input-all-rows]="quantizer.text_rows='all'"
  [connector]="split.connector='server'"
  [block1]="split.bottom_blocks=1"
  [labels]="split.labels='client'"
  [hidden2]="split.labels='client' $(fsq 2 0.8)"
  [hidden4]="split.labels='client' $(fsq 4 1.5)"
  [hidden16]="split.labels='client' $(fsq 16 2.5)"
  [top1-hidden4]="split.labels='client' split.top_blocks=1 $(fsq 4 1.5)"
)
runs=()
for seed in $(seq 1 "${SEEDS:-3}"); do
  for name in input input-all-rows connector block1 labels hidden2 hidden4 hidden16 top1-hidden4; do
    run="$out/$name-seed$seed"
    runs+=("$run")
    [ -f "$run/summary.json" ] && continue
    echo "== $run" >&2
    # shellcheck disable=SC2046,SC2086 # words of the setting and of DEMO are arguments
    $qtl demo --out "$run" $(printf -- '--set %s ' ${sets[$name]}) --set "seed=$seed" ${DEMO:-} > /dev/null
    rm -rf "$run"/{train,test,base,checkpoint,client/checkpoints,server/checkpoints}
  done
done
$qtl compare --out "$out/table.md" "${runs[@]}"
