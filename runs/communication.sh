#!/usr/bin/env bash
# What every quantizer and every gradient codec costs on the wire, at the paper's shape and on the demo's features: bits
# both ways, in messages and at the socket of a connection over TLS on this machine, side information, distortion, coding
# time, step times on nine lines. About 4 minutes on one core.
#
#   runs/communication.sh                 into runs/communication: table.md, communication.json
#
# QTL is the program; further arguments go to it (see `qtinyllava bench communication --help`).
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
out=${1:-runs/communication}
shift || true
mkdir -p "$out"
RAYON_NUM_THREADS=1 $qtl bench communication --json "$out/communication.json" --markdown "$out/table.md" "$@"
