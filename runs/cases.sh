#!/usr/bin/env bash
# Walks a folder of cases and prints a table: case, what is expected, what it got. A case is a folder with a run.sh, whose comment
# `# expected: ...` says what is right, and which prints its findings; it finds the program in QTL.
#
#   QTL=target/release/qtinyllava runs/cases.sh DIR                 the table, and each case's whole output below OUT
#   OUT=runs/cases LIMIT=600 runs/cases.sh DIR peft-bin eval-files  these cases only, so many seconds each
set -uo pipefail
dir=$(realpath "${1:?"give the folder of the cases"}")
shift
cd "$(dirname "$0")/.."
QTL=$(realpath "${QTL:-target/release/qtinyllava}")
[ -x "$QTL" ] || { echo "$QTL is no program; build it, or name it in QTL" >&2; exit 1; }
export QTL
out=${OUT:-runs/cases}
mkdir -p "$out"
cases=("$@")
[ ${#cases[@]} -gt 0 ] || mapfile -t cases < <(cd "$dir" && for run in */run.sh; do dirname "$run"; done)

cell() { tr '\n' ' ' | tr -s ' ' | sed 's/|/\\|/g' | cut -c1-"$1"; }
echo "| case | expected | got | exit | seconds |"
echo "|---|---|---|---:|---:|"
for case in "${cases[@]}"; do
  run="$dir/$case/run.sh"
  [ -f "$run" ] || { echo "$run: no such case" >&2; continue; }
  start=$SECONDS
  timeout "${LIMIT:-300}" bash "$run" > "$out/$case.txt" 2>&1
  code=$?
  expected=$(sed -n 's/^# expected: //p' "$run" | head -n 1 | cell 300)
  got=$(grep -v '^report: \|^expected: \|^got:' "$out/$case.txt" | cell 1500)
  echo "| $case | $expected | $got | $code | $((SECONDS - start)) |"
done
