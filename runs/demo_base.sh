#!/usr/bin/env bash
# Trains the demo's small base from nothing, once per seed, scores each on 2,000 scenes of a seed that nothing else uses, and
# puts the first where the program carries it (crates/qtinyllava/assets/demo-base). About 8 minutes a seed on 2 cores.
# QTL is the program, SEEDS the seeds of the weights and of the order; the first argument is a directory to work in.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/base}
seeds=(${SEEDS:-7 17 27})
read -ra qtl <<< "${QTL:-cargo run --release --quiet --}"

[ -f "$out/data/llava.json" ] || "${qtl[@]}" data scenes --split practice --out "$out/data" --seed 7 --count 24000
[ -f "$out/relations/llava.json" ] || "${qtl[@]}" data scenes --split practice --relations --out "$out/relations" --seed 7 --count 24000
[ -f "$out/test/captions.json" ] || "${qtl[@]}" data scenes --split test --relations --out "$out/test" --seed 2026 --count 2000
mkdir -p "$out/start"
cp recipes/demo-base/*.json "$out/start"
"${qtl[@]}" data tokenizer --out "$out/start"

base() { # seed
  local dir=$out/seed-$1
  stage() { # recipe, seed, model to start from, name, data
    "${qtl[@]}" train --local --model "$3" --recipe "recipes/$1.toml" --set "seed=$2" --run "$dir/run-$4" --data "$out/$5/llava.json"
    "${qtl[@]}" merge --client "$dir/run-$4" --model "$3" --out "$dir/$4" "${@:6}"
  }
  "${qtl[@]}" align --model "$out/start" --recipe recipes/demo-base-1-align.toml --set "seed=$1" --out "$dir/aligned"
  stage demo-base-2-look "$1" "$dir/aligned" look data
  stage demo-base-3-talk "$(($1 + 1))" "$dir/look" talk data --bf16
  stage demo-base-4-relate "$(($1 + 2))" "$dir/talk" relate relations --bf16
  "${qtl[@]}" eval --checkpoint "$dir/relate" --data "$out/test" --json "$dir/scores.json"
}
for seed in "${seeds[@]}"; do
  [ -f "$out/seed-$seed/scores.json" ] || base "$seed"
done
mkdir -p crates/qtinyllava/assets/demo-base
shipped=$out/seed-${seeds[0]}/relate
cp "$shipped"/*.json "$shipped/model.safetensors" crates/qtinyllava/assets/demo-base/
