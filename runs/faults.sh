#!/usr/bin/env bash
# Short runs on this machine, each with one fault: what, on which side, in which phase. Every row must end in the weights and
# losses of an undisturbed run, bit for bit, or in an error that is named and that the same commands resume from.
# Usage: runs/faults.sh [PROGRAM] [ROWS], ROWS being a part of the rows' names; writes runs/faults/table.md and what each
# row's processes said.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-target/release/qtinyllava}
[ -x "$program" ] || { echo "no $program: cargo build --release first, or name another program" >&2; exit 1; }
exec python3 runs/faults.py "$program" "${2:-}"
