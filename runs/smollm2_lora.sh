#!/usr/bin/env bash
# Fine-tunes a real small language model split over loopback TLS with LoRA: 20 steps on generated scenes, behind a small
# fresh vision tower. Prints the losses of the first and last steps and the peak memory of both processes, and writes
# the adapter. Takes a Hugging Face directory of SmolLM2-135M-Instruct (or any Llama with a ChatML tokenizer).
#   runs/smollm2_lora.sh SmolLM2-135M-Instruct [OUT] [--set FIELD=VALUE ...]
set -euo pipefail
model=$(realpath "${1:?usage: runs/smollm2_lora.sh MODEL_DIR [OUT] [--set FIELD=VALUE ...]}")
cd "$(dirname "$0")/.."
out=${2:-runs/smollm2}
sets=("${@:3}")
# QTL names a program that is already built.
qtl=${QTL:-}
if [ -z "$qtl" ]; then
  cargo build --release --quiet
  qtl=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/qtinyllava
fi
recipe=recipes/smollm2-lora.toml
mkdir -p "$out"

[ -d "$out/base" ] || "$qtl" compose --language-model "$model" --vision-config recipes/small-siglip.json --out "$out/base"
[ -d "$out/data" ] || "$qtl" data scenes --out "$out/data" --seed 5 --count 200
[ -d "$out/certs" ] || "$qtl" certs --out "$out/certs" --server-name localhost --server-name 127.0.0.1
rm -rf "$out/client" "$out/server" "$out/serve.out"

"$qtl" serve --model "$out/base" --recipe $recipe "${sets[@]}" --run "$out/server" --listen 127.0.0.1:0 \
  --tls "$out/certs/server" --once > "$out/serve.out" &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
until address=$(sed -n 's/^listening on //p' "$out/serve.out") && [ -n "$address" ]; do
  kill -0 $server
  sleep 0.2
done
"$qtl" train --model "$out/base" --recipe $recipe "${sets[@]}" --run "$out/client" --connect "$address" \
  --tls "$out/certs/client" --data "$out/data/llava.json" &
client=$!
# Read while the processes live: VmHWM is the peak so far, VmRSS what is in use now. The peak includes loading, which passes
# through 32 bits unless the file holds bfloat16 and the recipe keeps fewer bits.
while kill -0 $client 2> /dev/null; do
  for side in client server; do
    { sed -n 's/^Vm\(HWM\|RSS\):[[:space:]]*\([0-9]*\) kB/\1 \2/p' "/proc/${!side}/status" > "$out/$side.memory.new" &&
      [ -s "$out/$side.memory.new" ] && mv "$out/$side.memory.new" "$out/$side.memory"; } 2> /dev/null || true
  done
  sleep 0.1
done
wait $client
wait $server

losses=$(sed 's/.*"loss":\([0-9.e-]*\).*/\1/' "$out/client/metrics.jsonl")
mean() { awk '{ s += $1 } END { printf "%.3f", s / NR }'; }
echo "loss: $(head -3 <<< "$losses" | mean) (first three steps) to $(tail -3 <<< "$losses" | mean) (last three)"
for side in client server; do
  awk -v side=$side '{ mib[$1] = $2 / 1024 } END { printf "%s: peak %.0f MiB, in training %.0f MiB\n", side, mib["HWM"], mib["RSS"] }' \
    "$out/$side.memory"
done
steps=$(sed 's/.*"compute":\([0-9.e-]*\).*/\1/' "$out/client/metrics.jsonl")
echo "computing: $(tail -10 <<< "$steps" | mean) s a step"
"$qtl" merge --client "$out/client" --server "$out/server" --model "$out/base" --adapter --out "$out/adapter"
