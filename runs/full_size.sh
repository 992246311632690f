#!/usr/bin/env bash
# OpenELM-270M with SigLIP-so400m at full size and random weights: writes the model (2.8 GB), trains one split step in two
# processes over loopback TLS, and compares the peak memory of each process (VmHWM) with what `inspect` predicted.
# Needs 12 GB of memory and 15 GB of disk; some minutes on 2 cores. QTL names another build of the program.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/full-size}
recipe=recipes/full-size.toml
[ -n "${QTL:-}" ] || { cargo build --release --quiet; QTL=target/release/qtinyllava; }
mkdir -p "$out"
rm -rf "$out"/{client,server,certs}

if [ ! -f "$out/model/config.json" ]; then
  mkdir -p "$out/start"
  cp recipes/full-size/config.json "$out/start"
  "$QTL" data tokenizer --out "$out/start"
  "$QTL" data random-model --config "$out/start" --out "$out/model"
fi
[ -f "$out/data/llava.json" ] || "$QTL" data scenes --out "$out/data" --seed 7 --count 8
"$QTL" inspect "$out/model" --recipe $recipe
"$QTL" inspect "$out/model" --recipe $recipe --json > "$out/inspect.json"
"$QTL" certs --out "$out/certs" --server-name localhost > /dev/null

watch() { # pid, file: the highest VmHWM seen until the process ends
  while kill -0 "$1" 2> /dev/null; do
    sed -n 's/^VmHWM: *\([0-9]*\) kB/\1/p' "/proc/$1/status" 2> /dev/null > "$2.new" && [ -s "$2.new" ] && mv "$2.new" "$2"
    sleep 0.1
  done
}
"$QTL" serve --model "$out/model" --recipe $recipe --run "$out/server" --listen 127.0.0.1:0 --once \
  --tls "$out/certs/server" > "$out/serve.log" &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
watch $server "$out/server.kb" &
until address=$(sed -n 's/^listening on //p' "$out/serve.log") && [ -n "$address" ]; do
  kill -0 $server
  sleep 0.2
done
"$QTL" train --model "$out/model" --recipe $recipe --run "$out/client" --connect "${address/127.0.0.1/localhost}" \
  --tls "$out/certs/client" --data "$out/data/llava.json" &
client=$!
watch $client "$out/client.kb"
wait $client
wait $server

for side in client server; do
  kb=$(cat "$out/$side.kb")
  predicted=$(tr -d ' \n' < "$out/inspect.json" | sed "s/.*\"$side\":{\([^}]*\)}.*/\1/;s/.*\"one_step\":\([0-9]*\).*/\1/")
  awk -v side=$side -v kb="$kb" -v predicted="$predicted" 'BEGIN {
    measured = kb * 1024
    printf "%s: predicted %.2f GB, measured %.2f GB, off by %+.1f %%\n", side, predicted / 1e9, measured / 1e9,
      100 * (predicted / measured - 1)
  }'
done
