#!/usr/bin/env bash
# Seconds of a training step of the demo between two processes over a line of 1, 10 and 100 Mbit/s each way and 20 ms there and back: `serve`
# and `train` over mutual TLS on this machine, with a relay between them that lets bytes through as such a line would. What the paper sends
# (one range for the batch, 4 levels), the first default (4 levels per channel), today's, and few components with few bits. Prints a table;
# about 5 minutes on 2 cores, and nothing else should be running.
#
#   runs/lines.sh [OUT]                         runs/lines by default
#   LINES="1 100" SETTINGS="paper demo" runs/lines.sh /tmp/lines        some of it
#
# QTL is the program, STEPS how many are timed (40) behind 5 that are not.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-target/release/qtinyllava}
[ -x "$qtl" ] || cargo build --release --quiet
out=${1:-runs/lines}
mkdir -p "$out"
[ -d "$out/certs" ] || "$qtl" certs --out "$out/certs" > "$out/log"
[ -f "$out/data/llava.json" ] || "$qtl" data scenes --out "$out/data" --seed 7 --count 400 >> "$out/log" 2>&1
python3 runs/lines.py "$qtl" "$out" | tee "$out/table.md"
