#!/usr/bin/env bash
# OpenELM-270M with SigLIP-so400m at full size and random weights: writes the model (2.7 GB), trains one split step in two
# processes over loopback TLS, and compares the peak memory of each process (VmHWM) with what `inspect` predicts for as
# many rows of text as the step had. Fails if either is off by more than 15 %.
#   runs/full_size.sh [OUT] [--set FIELD=VALUE ...]
# Needs 8 GB of memory and 8 GB of disk; some minutes on 2 cores. QTL names a program that is already built.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/full-size}
recipe=recipes/full-size.toml
sets=("${@:2}")
qtl=${QTL:-}
if [ -z "$qtl" ]; then
  cargo build --release --quiet
  qtl=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/qtinyllava
fi
mkdir -p "$out"
rm -rf "$out"/{client,server,certs}

if [ ! -f "$out/model/config.json" ]; then
  mkdir -p "$out/start"
  cp recipes/full-size/config.json "$out/start"
  "$qtl" data tokenizer --out "$out/start" --tokens 32000
  "$qtl" data random-model --config "$out/start" --out "$out/model"
fi
[ -f "$out/data/llava.json" ] || "$qtl" data scenes --out "$out/data" --seed 7 --count 8
"$qtl" certs --out "$out/certs" --server-name localhost > /dev/null

watch() { # pid, file: the highest VmHWM seen until the process ends
  while kill -0 "$1" 2> /dev/null; do
    sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$1/status" 2> /dev/null > "$2.new" && [ -s "$2.new" ] && mv "$2.new" "$2"
    sleep 0.1
  done
}
"$qtl" serve --model "$out/model" --recipe $recipe "${sets[@]}" --run "$out/server" --listen 127.0.0.1:0 --once \
  --tls "$out/certs/server" > "$out/serve.log" &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
watch $server "$out/server.kb" &
until address=$(sed -n 's/^listening on //p' "$out/serve.log") && [ -n "$address" ]; do
  kill -0 $server
  sleep 0.2
done
"$qtl" train --model "$out/model" --recipe $recipe "${sets[@]}" --run "$out/client" --connect "${address/127.0.0.1/localhost}" \
  --tls "$out/certs/client" --data "$out/data/llava.json" &
client=$!
watch $client "$out/client.kb"
wait $client
wait $server

rows=$(sed -n '1s/.*"rows_text":\([0-9]*\).*/\1/p' "$out/client/metrics.jsonl")
inspect() { "$qtl" inspect "$out/model" --recipe $recipe "${sets[@]}" --text-tokens "$rows" "$@"; }
inspect
[ "$(wc -l < "$out/client/metrics.jsonl")" = 1 ] && column=one_step || column=training
inspect --json > "$out/inspect.json"
far=0
for side in client server; do
  predicted=$(tr -d ' \n' < "$out/inspect.json" | sed "s/.*\"$side\":{\([^}]*\)}.*/\1/;s/.*\"$column\":\([0-9]*\).*/\1/")
  awk -v side=$side -v kb="$(cat "$out/$side.kb")" -v predicted="$predicted" 'BEGIN {
    measured = kb * 1024
    off = 100 * (predicted / measured - 1)
    printf "%s: predicted %.2f GB, measured %.2f GB, off by %+.1f %%\n", side, predicted / 1e9, measured / 1e9, off
    exit off > 15 || off < -15
  }' || far=1
done
exit $far
