#!/usr/bin/env bash
# Trains the demo's small base from nothing and puts it where the program carries it
# (crates/qtinyllava/assets/demo-base). About 15 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/base}
qtl() { cargo run --release --quiet -- "$@"; }

[ -f "$out/data/llava.json" ] || qtl data scenes --out "$out/data" --seed 7 --count 24000
[ -f "$out/test/captions.json" ] || qtl data scenes --out "$out/test" --split test --seed 9 --count 400
mkdir -p "$out/start"
cp recipes/demo-base/*.json "$out/start"
qtl data tokenizer --out "$out/start"

qtl align --model "$out/start" --recipe recipes/demo-base-1-align.toml --out "$out/aligned"
stage() { # recipe, model to start from, name
  qtl train --local --model "$2" --recipe "recipes/$1.toml" --run "$out/run-$3" --data "$out/data/llava.json"
  qtl merge --client "$out/run-$3" --model "$2" --out "$out/$3" ${4:-}
  qtl eval --checkpoint "$out/$3" --data "$out/test"
}
stage demo-base-2-look "$out/aligned" look
stage demo-base-3-talk "$out/look" talk
stage demo-base-4-judge "$out/talk" judge --bf16
mkdir -p crates/qtinyllava/assets/demo-base
cp "$out"/judge/*.json "$out/judge/model.safetensors" crates/qtinyllava/assets/demo-base/
