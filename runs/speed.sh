#!/usr/bin/env bash
# Seconds per training step of `train --local` beside the same step in PyTorch (runs/speed_twin.py), in turn, on two workloads: a SigLIP
# of 12 blocks of 768 frozen before a Llama of 8 blocks of 768 with 32,000 tokens that learns in full, and the demo's step. Prints a
# table; a ratio above 1 says that ours is faster. About 4 minutes on 2 cores; nothing else should be running.
#
#   runs/speed.sh [OUT]            runs/speed by default
#   INSTALL=1 runs/speed.sh        puts PyTorch and transformers into OUT/venv first (6 GB)
#
# PYTHON names an interpreter that has both; without either, ours is measured alone. QTL is the program, ROUNDS how often each takes
# its turn (3), THREADS how many each may use, DEVICE what computes (cpu), ONLY=mid or demo one workload, SETS further fields of the recipe ("train.recompute='always'").
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/speed}
if [ -z "${QTL:-}" ]; then
  cargo build --release --quiet
  QTL=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/qtinyllava
fi
mkdir -p "$out/start"
if [ -n "${INSTALL:-}" ]; then
  python3 -m venv "$out/venv"
  "$out/venv/bin/pip" install --quiet --no-cache-dir torch transformers
  PYTHON=$out/venv/bin/python
fi
if [ ! -f "$out/mid/config.json" ]; then
  cp runs/speed.config.json "$out/start/config.json"
  "$QTL" data tokenizer --out "$out/start" --tokens 32000
  "$QTL" data random-model --config "$out/start" --out "$out/mid"
fi > "$out/log"
[ -f "$out/data/llava.json" ] || "$QTL" data scenes --out "$out/data" --seed 7 --count 300 >> "$out/log" 2>&1
python3 runs/speed.py "$QTL" "${PYTHON:-}" "$out" | tee "$out/table.md"
