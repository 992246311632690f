#!/usr/bin/env bash
# Tokens per second of `chat` beside llama.cpp and transformers, in turn, on one question to a language model as the hub has it (a
# Llama with a chat template, as SmolLM2-135M-Instruct). Prints a table; a ratio above 1 says that ours is faster. Nothing else should
# be running.
#
#   runs/generation.sh MODEL [OUT]        OUT is runs/generation by default
#   INSTALL=1 runs/generation.sh MODEL    puts PyTorch, transformers, gguf and llama-cpp-python (which is compiled) into OUT/venv first
#
# PYTHON names an interpreter that has them. QTL is the program, ROUNDS how often each takes its turn (3), THREADS how many each may
# use, TOKENS how long the answer is (128).
set -euo pipefail
model=$(realpath "${1:?usage: runs/generation.sh MODEL_DIR [OUT]}")
cd "$(dirname "$0")/.."
out=${2:-runs/generation}
if [ -z "${QTL:-}" ]; then
  cargo build --release --quiet
  QTL=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/qtinyllava
fi
mkdir -p "$out"
if [ -n "${INSTALL:-}" ]; then
  python3 -m venv "$out/venv"
  "$out/venv/bin/pip" install --quiet --no-cache-dir torch transformers gguf llama-cpp-python
  PYTHON=$out/venv/bin/python
fi
"${PYTHON:-python3}" runs/generation.py "$QTL" "$model" "$out" | tee "$out/table.md"
