#!/usr/bin/env bash
# Code for cards, tested without one: the feature `wgpu` on Mesa's software Vulkan (Debian: mesa-vulkan-drivers and libvulkan1; or LVP=FILE,
# the ICD file of an unpacked one, with its libraries in LD_LIBRARY_PATH). Builds into target/wgpu, which takes a while the first time,
# then compares that device with the CPU, within tolerances and never bit for bit:
#   1. `qtinyllava devices`;
#   2. the model's tests (1 to 5 minutes): golden cases, quantizers, gradient codecs, fused operations against plain ones (their own tolerances);
#   3. 20 steps of the demo on either, the same recipe and scenes: the loss of every step and the bytes on the wire.
#
#   runs/wgpu.sh            all of it
#   runs/wgpu.sh tests      1 and 2
# Prints what it found and ends with 0 if all agreed; with 2, and a sentence, where there is no such driver. BIN and TESTS name a program
# and a test binary that were built elsewhere; DEVICE another device than wgpu, as gpu.sh has it.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-wgpu}
what=${1:-all}
out=${OUT:-runs/$device}
[ -z "${LVP:-}" ] || export VK_ICD_FILENAMES=$LVP VK_DRIVER_FILES=$LVP

if [ "$device" = wgpu ] && [ -z "${VK_ICD_FILENAMES:-}" ] && ! ls /usr/share/vulkan/icd.d/*.json > /dev/null 2>&1; then
  echo "skipped: no Vulkan driver here, so no test of the code for cards (Debian: apt-get install mesa-vulkan-drivers libvulkan1)"
  exit 2
fi
if [ -z "${BIN:-}" ]; then
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/wgpu}
  build=(cargo --config runs/wgpu.toml build --locked -p qtinyllava -p qtl-model --bins --test it --features "qtinyllava/$device")
  "${build[@]}"
  BIN=$CARGO_TARGET_DIR/debug/qtinyllava
  TESTS=$("${build[@]}" --message-format=json 2> /dev/null | grep -o '"executable":"[^"]*/it-[^"]*"' | cut -d'"' -f4 | while read -r it; do
    if "$it" --list 2> /dev/null | grep '^llm::golden' > /dev/null; then echo "$it"; fi
  done)
fi
BIN=$(realpath "$BIN")

"$BIN" devices
"$BIN" devices | grep -q "^ *$device:0 .*works" || { echo "$device does not work here"; exit 1; }

# What computes the same in any order. Left out are what compares bits of one device with another's, reads files and nothing else, or keeps
# types that this device has not (bf16 and 4-bit bases, which the program refuses by name).
names=(device:: golden_llm golden_vision golden_connector golden_full_model golden_sharded quant:: gradient:: repeats::)
skip=(--skip smollm2)
export BURN_DEVICE=$device QTL_GOLDEN=${QTL_GOLDEN:-$PWD/fixtures/golden}
"$TESTS" "${names[@]}" "${skip[@]}"
unset BURN_DEVICE
[ "$what" = tests ] && exit 0

rm -rf "$out"
mkdir -p "$out"
for one in cpu "$device"; do
  start=$SECONDS
  "$BIN" demo --device "$one" --out "$out/$one" --train-scenes 200 --test-scenes 8 --set train.steps=20 --set train.save_every=20 \
    --set quantizer.calibration_batches=4 > "$out/$one.txt" 2> "$out/$one.err" || { tail -n 5 "$out/$one.err"; exit 1; }
  echo "$one: 20 steps of the demo, and its answers, in $((SECONDS - start)) s"
done
python3 - "$out" "$device" <<'PY'
import json, sys
out, device = sys.argv[1:]
def steps(name):
    lines = [json.loads(line) for line in open(f"{out}/{name}/client/metrics.jsonl")]
    return [line for line in lines if line.get("loss") is not None]
cpu, other = steps("cpu"), steps(device)
assert len(cpu) == len(other) == 20, (len(cpu), len(other))
worst = max(abs(a["loss"] - b["loss"]) / max(1.0, abs(a["loss"])) for a, b in zip(cpu, other))
sent = [sum(line["bytes_up"] + line["bytes_down"] for line in all) for all in (cpu, other)]
more = abs(sent[1] / sent[0] - 1)
print(f"loss, first and last step: cpu {cpu[0]['loss']:.4f} {cpu[-1]['loss']:.4f}, {device} {other[0]['loss']:.4f} {other[-1]['loss']:.4f}")
print(f"largest difference of a step's loss: {worst:.2e} (at most 2e-2: a symbol that falls to the other side changes what follows)")
print(f"bytes on the wire: cpu {sent[0]}, {device} {sent[1]}, {100 * more:.2f} % apart (at most 1 %)")
sys.exit(worst > 2e-2 or more > 0.01)
PY
