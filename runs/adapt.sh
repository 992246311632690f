#!/usr/bin/env bash
# A task that needs the way back: the demo's recipe on pictures in inverted colours, which its base has never seen. A client
# that learns nothing (tower, connector, token embedding and quantizers frozen, so that no gradient that comes back is used)
# is the row to compare with: what a method gains over it is what its gradients were worth.
#
#   none    16-bit features, 32-bit gradients
#   demo    the demo's recipe
#   few     few bytes: pictures in 88 bits a row by 64 principal components, text rows told by how they differ from the last ones
#           of their tokens, a tenth of the gradients' rows
#   frozen  the demo's recipe with a client that learns nothing
#
#   runs/adapt.sh                          every row, 3 seeds, into runs/adapt
#   runs/adapt.sh runs/adapt demo frozen   these rows only
#   PLAIN=1 runs/adapt.sh runs/plain       the same rows on the demo's own pictures
#
# Runs that have a summary.json are not repeated, an interrupted one goes on. QTL is the program, SEEDS the number of seeds,
# DEMO are further arguments of every `demo`. About a minute per run on 2 idle cores; prints a table and writes table.md.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
out=${1:-runs/adapt}
shift || true
declare -A row=(
  [demo]=""
  [few]="quantizer.image={kind='pca',dims=64,bits=88.0} quantizer.text_deltas=true messages.layout='packed' gradient.codec={kind='rows',keep=0.1,tiled={bits=6,tile=128,even=1.0}}"
  [none]="quantizer.image={kind='none'} quantizer.text={kind='none'} gradient.codec='f32'"
  [frozen]="tune.connector='frozen' tune.embed_tokens='frozen' tune.quantizer='frozen'"
)
order=(none demo few frozen)
methods=("$@")
[ ${#methods[@]} -gt 0 ] || methods=("${order[@]}")
inverted=(--inverted)
[ -z "${PLAIN:-}" ] || inverted=()

runs=()
for seed in $(seq 1 "${SEEDS:-3}"); do
  for method in "${methods[@]}"; do
    fields=${row[$method]?"is no row; there are: ${order[*]}"}
    run="$out/$method-seed$seed"
    runs+=("$run")
    [ -f "$run/summary.json" ] && continue
    echo "== $run" >&2
    sets=(--set "seed=$seed")
    for field in $fields; do sets+=(--set "$field"); done
    # shellcheck disable=SC2086 # words of DEMO are arguments
    $qtl demo --out "$run" "${inverted[@]}" "${sets[@]}" ${DEMO:-} > /dev/null
    # What is left of a run is its report; the pictures are the same for all.
    rm -rf "$run"/{train,test,base,checkpoint,client/checkpoints,server/checkpoints}
  done
done
against=()
[[ " ${methods[*]} " != *" none "* ]] || against=(--against none)
$qtl compare --out "$out/table.md" "${against[@]}" "${runs[@]}"
