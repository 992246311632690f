#!/usr/bin/env bash
# What a picture itself costs, and how the demo's base reads it: JPEG and WebP over their qualities, without training on them.
# Codes of the cut layer are to be had for fewer bytes at equal answers, or they are not worth their trouble.
#
#   runs/pictures.sh [OUT]        # into runs/pictures; prints a table and writes it to table.md
#
# PYTHON names an interpreter with pillow (runs/pictures.py), QTL the program, SCENES the number of test scenes (seed 102),
# WAYS the formats and qualities. What was evaluated is not evaluated again.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
python=${PYTHON:-python3}
out=${1:-runs/pictures}
base=crates/qtinyllava/assets/demo-base
ways=${WAYS:-png:0 jpeg:75 jpeg:30 jpeg:10 webp:75 webp:50 webp:20 webp:5 webp:0}
mkdir -p "$out"
[ -d "$out/test" ] || $qtl data scenes --out "$out/test" --split test --seed 102 --count "${SCENES:-400}" --relations > /dev/null
for way in $ways; do
  [ -f "$out/${way/:/-}.json" ] && continue
  "$python" runs/pictures.py "$out/test" "$out/as" "${way%:*}" "${way#*:}" > "$out/${way/:/-}.bytes"
  $qtl eval --checkpoint "$base" --data "$out/as" --json "$out/${way/:/-}.json" > /dev/null
  rm -rf "$out/as"
done
"$python" - "$out" $ways <<'P' | tee "$out/table.md"
import json
import sys
from pathlib import Path

out, forms = Path(sys.argv[1]), ["pope", "vqa", "mme", "gqa", "caption"]
print("| picture | bytes | " + " | ".join(forms) + " |\n|---|---:|" + "---:|" * len(forms))
for way in sys.argv[2:]:
    name = way.replace(":", "-")
    scores = json.loads((out / f"{name}.json").read_text())
    row = [f"{scores[form]:.1f}" for form in forms]
    print(f"| {way.replace(':', ' ')} | {(out / (name + '.bytes')).read_text().strip()} | " + " | ".join(row) + " |")
P
