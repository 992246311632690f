#!/usr/bin/env bash
# Compares the scorers' convention `lmms-eval` with lmms-eval itself: 500 answers per benchmark from a grammar of quirks.
#   runs/other_scorers.sh [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install --no-deps lmms-eval==0.7.3
"$work/venv/bin/pip" -q install numpy pandas pyyaml
qtl=${QTL:-target/release/qtinyllava}
for seed in $(seq "$seeds"); do
  echo "seed $seed: ours, lmms-eval"
  "$work/venv/bin/python" runs/other_scorers.py "$qtl" "$work/$seed" "$seed"
done
