#!/usr/bin/env bash
# A prepared run of at most 8 minutes on a machine with one NVIDIA GPU and no network. NOT RUN YET: no such machine has been at hand.
#
#   runs/gpu.sh pack           here: builds with cuda, fusion and autotune (release) and writes runs/gpu.tar, all that travels (at most 64 MiB)
#   tar -xf gpu.tar && gpu/runs/gpu.sh run        there: everything below; results in gpu/out
#
# There it looks for the driver, NVRTC and the CUDA headers (CUDA_PATH, or the Python packages of them), then:
#   1. devices and conformance, and 20 steps of the demo on the CPU and the GPU, within tolerances (runs/wgpu.sh with DEVICE=cuda);
#   2. 20 steps killed in the middle and gone on with against 20 undisturbed: whether the bits are the same on this GPU;
#   3. the table of runs/speed.sh on the GPU, f32 and bf16, beside PyTorch (SDPA) if the machine's python3 has torch and transformers;
#   4. the GPU's memory while the steps ran.
set -euo pipefail
cd "$(dirname "$0")/.."
most=$((64 << 20))

pack() {
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/gpu}
  build=(cargo build --release --locked -p qtinyllava -p qtl-model --bins --test it --features qtinyllava/cuda,qtinyllava/fusion,qtinyllava/autotune)
  "${build[@]}"
  tests=$("${build[@]}" --message-format=json 2> /dev/null | grep -o '"executable":"[^"]*/it-[^"]*"' | cut -d'"' -f4 | while read -r it; do
    if "$it" --list 2> /dev/null | grep '^llm::golden' > /dev/null; then echo "$it"; fi
  done)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/gpu/bin"
  cp "$CARGO_TARGET_DIR/release/qtinyllava" "$work/gpu/bin/qtinyllava"
  cp "$tests" "$work/gpu/bin/model-tests"
  strip "$work/gpu/bin/"*
  xz -T0 "$work/gpu/bin/"*
  cp -r --parents runs/gpu.sh runs/wgpu.sh runs/speed.sh runs/speed.py runs/step_ends.py runs/speed_twin.py runs/speed.config.json recipes fixtures/golden \
    crates/qtinyllava/assets/demo-base "$work/gpu"
  tar -C "$work" -cf runs/gpu.tar gpu
  size=$(stat -c %s runs/gpu.tar)
  echo "runs/gpu.tar: $((size >> 20)) MiB"
  [ "$size" -le "$most" ] || { echo "that is more than 64 MiB"; exit 1; }
}

run() {
  command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader \
    || { echo "no NVIDIA driver here (nvidia-smi is missing or fails)"; exit 2; }
  # Where the toolkit is not installed, what PyTorch brings along.
  if [ ! -d "${CUDA_PATH:-/usr/local/cuda}/include" ]; then
    found=$(python3 -c 'import glob, sysconfig; print("\n".join(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/include/cuda_runtime.h")))' | head -n 1)
    [ -z "$found" ] || export CUDA_PATH=${found%/include/cuda_runtime.h}
  fi
  libraries=$(python3 -c 'import glob, sysconfig; print(":".join({p.rsplit("/", 1)[0] for p in glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib/libnvrtc.so*")}))' || true)
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}:$libraries
  unxz -kf bin/*.xz
  chmod +x bin/qtinyllava bin/model-tests
  mkdir -p out
  nvidia-smi --query-gpu=timestamp,memory.used,utilization.gpu --format=csv,noheader,nounits -lms 500 > out/memory.csv &
  watch=$!
  trap 'kill $watch' EXIT
  export BIN=$PWD/bin/qtinyllava TESTS=$PWD/bin/model-tests DEVICE=cuda QTL=$PWD/bin/qtinyllava
  OUT=out/demo timeout 240 runs/wgpu.sh all 2>&1 | tee out/conformance.txt || echo "conformance: failed, see above"
  again 2>&1 | tee out/again.txt || true
  python=
  python3 -c 'import torch, transformers' 2> /dev/null && python=python3
  for kind in "" "train.activation='bf16'"; do
    echo "activations: ${kind:-f32}"
    SETS=$kind ROUNDS=1 PYTHON=$python timeout 150 runs/speed.sh out/speed || echo "no table"
  done 2>&1 | tee out/table.md
  awk -F, '{ if ($2 > m) m = $2 } END { print "most memory in use on the card:", m, "MiB" }' out/memory.csv
}

# Whether a run that was killed ends in the same bits here.
again() {
  [ -f out/demo/cpu/train/llava.json ] || { echo "again: no scenes"; return 1; }
  train=("$BIN" train --local --device cuda --model crates/qtinyllava/assets/demo-base --recipe recipes/demo.toml --data out/demo/cpu/train/llava.json
    --set train.steps=20 --set train.save_every=5 --set quantizer.calibration_batches=2)
  rm -rf out/whole out/killed
  "${train[@]}" --run out/whole 2> /dev/null
  "${train[@]}" --run out/killed 2> /dev/null &
  process=$!
  until [ -d out/killed/checkpoints/step-00000010 ] || ! kill -0 $process 2> /dev/null; do sleep 0.05; done
  kill -9 $process 2> /dev/null || true
  wait $process 2> /dev/null || true
  "${train[@]}" --run out/killed 2> /dev/null
  for side in . server; do
    cmp "out/whole/$side/checkpoints/step-00000020/model.safetensors" "out/killed/$side/checkpoints/step-00000020/model.safetensors" \
      && echo "again: $side has the same bits" || echo "again: $side has other bits"
  done
}

case "${1:-}" in
  pack | run) "$1" ;;
  *) sed -n '2,12p' "$0" && exit 1 ;;
esac
