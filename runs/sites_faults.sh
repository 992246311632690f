#!/usr/bin/env bash
# Three sites over mutual TLS, two of which are killed: one comes back within the patience, so that all go back to the last checkpoint,
# the other one later than that, so that two go on without it. Prints who took part in how many steps, one line per change.
#
#   runs/sites_faults.sh [OUT]        runs/sites_faults by default; about 2 minutes on 2 cores
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-target/release/qtinyllava}
[ -x "$qtl" ] || cargo build --release --quiet
out=${1:-runs/sites_faults}
names=(north south west)
base=$PWD/crates/qtinyllava/assets/demo-base
rm -rf "$out"
mkdir -p "$out"
$qtl data scenes --out "$out/train" --count 300 > /dev/null
python3 - "$out" "${names[@]}" <<'P'
import json, sys
out, names = sys.argv[1], sys.argv[2:]
scenes = json.load(open(f"{out}/train/llava.json"))
for i, name in enumerate(names):
    json.dump(scenes[i::len(names)], open(f"{out}/{name}.json", "w"))
P
for name in "${names[@]}"; do
  key=$($qtl certs --out "$out/certs" --client "$name" | grep -oE 'its key is [0-9a-f]{64}' | cut -d' ' -f4)
  printf '[[site]]\nname = "%s"\nkeys = ["%s"]\n' "$name" "$key" >> "$out/roster.toml"
done
{ cat recipes/demo.toml; printf '\n[sites]\ncount = 3\naverage_every = 10\nquorum = 2\npatience_s = 8\n'; } > "$out/recipe.toml"
set=(--set "train.steps=${STEPS:-500}" --set train.save_every=10 --set quantizer.calibration_batches=4 --set train.batch=2)
$qtl serve --model "$base" --recipe "$out/recipe.toml" "${set[@]}" --run "$out/server" --sites "$out/roster.toml" --listen 127.0.0.1:0 \
  --tls "$out/certs/server" --once > "$out/serve.txt" 2> "$out/serve.log" &
server=$! address=""
while [ -z "$address" ]; do sleep 0.2; kill -0 $server; address=$(grep -oE '127.0.0.1:[0-9]+' "$out/serve.txt" || true); done
begin() { # NAME: starts the site's client, as process $!
  $qtl train --model "$base" --recipe "$out/recipe.toml" "${set[@]}" --run "$out/$1" --connect "$address" --tls "$out/certs/$1" \
    --data "$out/$1.json" --images "$out/train/images" --share connector,quantizer > /dev/null 2>> "$out/$1.log" &
}
done_until() { # STEP: waits until that one is done
  while [ ! -f "$out/server/rounds.jsonl" ] || [ "$(wc -l < "$out/server/rounds.jsonl")" -lt "$1" ]; do sleep 0.1; done
}
begin north; north=$!
begin south; south=$!
begin west; west=$!
done_until 45
kill -9 $south; wait $south 2> /dev/null || true
echo "south killed after $(tail -n1 "$out/server/rounds.jsonl")"
begin south; south=$!
done_until 90
kill -9 $west; wait $west 2> /dev/null || true
echo "west killed after $(tail -n1 "$out/server/rounds.jsonl")"
done_until 130
begin west; west=$!
wait $north $south $west $server
grep -h "go on from\|gone on" "$out"/*.log || true
sed -E 's/.*"sites"://; s/}$//' "$out/server/rounds.jsonl" | uniq -c
