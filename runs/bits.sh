#!/usr/bin/env bash
# The paper's central table at the demo's scale: accuracy per question form and bytes of both directions, for every
# quantizer of the cut layer, mean and deviation over seeds. About 2 minutes per run on 2 cores, 18 x 3 runs.
#
#   runs/bits.sh                          everything, 3 seeds, into runs/bits
#   runs/bits.sh runs/bits fsq2 none      these methods only
#   SEEDS=1 runs/bits.sh                  one seed
#   DEMO="--train-scenes 40 --test-scenes 4 --set train.steps=3" runs/bits.sh /tmp/bits      does everything run?
#
# Runs that have a summary.json are not repeated, an interrupted one goes on. QTL is the program, DEMO are further
# arguments of every `demo`. The table is printed and written to table.md in the output directory,
# bytes against accuracy as a drawing to frontier.svg.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
out=${1:-runs/bits}
shift || true

fsq="statistics='channel', penalty=0.02"
# Widths with the least error at equal steps for a Gaussian; topk keeps what the reference keeps at "2 bits".
declare -A spec=(
  [none]="{kind='none'}"
  [fsq1]="{kind='fsq', levels=2, width=0.8, $fsq}"
  [fsq2]="{kind='fsq', levels=4, width=1.5, $fsq}"
  [fsq3]="{kind='fsq', levels=8, width=2.05, $fsq}"
  [fsq4]="{kind='fsq', levels=16, width=2.5, $fsq}"
  [fsq2-paper]="{kind='fsq', levels=4, width=3.0, statistics='batch', penalty=0.25}"
  [ecsq1]="{kind='ecsq', bits=1.0, penalty=0.02}"
  [ecsq2]="{kind='ecsq', bits=2.0, penalty=0.02}"
  [nf2]="{kind='normal_float', bits=2}"
  [nf4]="{kind='normal_float', bits=4}"
  [topk]="{kind='topk', keep=0.125}"
  [rand-topk]="{kind='rand_topk', keep=0.125}"
  [splitfc2]="{kind='splitfc', bits=2.0}"
  [fedbat]="{kind='fedbat'}"
  [pca]="{kind='pca', dims=32, bits=48.0}"
  [vq]="{kind='vq', dims=32, codes=1024}"
  [rvq]="{kind='rvq', dims=32, stages=4, codes=256}"
  [pq]="{kind='pq', dims=32, groups=4, codes=256}"
)
order=(none fsq1 fsq2 fsq3 fsq4 fsq2-paper ecsq1 ecsq2 nf2 nf4 topk rand-topk splitfc2 fedbat pca vq rvq pq)
methods=("$@")
[ ${#methods[@]} -gt 0 ] || methods=("${order[@]}")

runs=()
for seed in $(seq 1 "${SEEDS:-3}"); do
  for method in "${methods[@]}"; do
    quantizer=${spec[$method]:?"is no method; there are: ${order[*]}"}
    run="$out/$method-seed$seed"
    runs+=("$run")
    [ -f "$run/summary.json" ] && continue
    echo "== $run" >&2
    # shellcheck disable=SC2086 # words of DEMO are arguments
    $qtl demo --out "$run" --set "quantizer.image=$quantizer" --set "quantizer.text=$quantizer" --set "seed=$seed" \
      ${DEMO:-} > /dev/null
    # What is left of a run is its report; the pictures are the same for all.
    rm -rf "$run"/{train,test,base,checkpoint,client/checkpoints,server/checkpoints}
  done
done
$qtl compare --out "$out/table.md" --svg "$out/frontier.svg" "${runs[@]}"
