#!/usr/bin/env python3
"""Compares `qtinyllava chat --text-only` with transformers: conversations of several turns, with and without a system turn,
every answer greedy. Fails at the first answer that is not the same text.

    pip install torch transformers jinja2
    runs/chat_check.py MODEL_DIR [PROGRAM]

PROGRAM is `qtinyllava` unless given.
"""
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LONGEST = 40
TALKS = [
    (None, ["Name three colours of the rainbow.", "Which of them is your favourite?", "Why?"]),
    ("You are a pirate. Answer in one sentence.", ["Who are you?", "Where is your ship?"]),
    (None, ["Wie heißt die Hauptstadt von Österreich? 🙂", "What is 2 + 2?"]),
]

directory = sys.argv[1]
program = sys.argv[2] if len(sys.argv) > 2 else "qtinyllava"
tokenizer = AutoTokenizer.from_pretrained(directory)
model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
answers = 0
for system, questions in TALKS:
    messages = [{"role": "system", "content": system}] if system else []
    expected = ""
    for question in questions:
        messages.append({"role": "user", "content": question})
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        out = model.generate(**prompt, max_new_tokens=LONGEST, do_sample=False)
        answer = tokenizer.decode(out[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True).strip()
        messages.append({"role": "assistant", "content": answer})
        expected += answer + "\n"
        answers += 1
    command = [program, "chat", directory, "--text-only", "--longest", str(LONGEST)]
    command += ["--system", system] if system else []
    got = subprocess.run(command, input="\n".join(questions) + "\n", capture_output=True, text=True, check=True)
    print(got.stderr.strip())
    if got.stdout != expected:
        sys.exit(f"transformers:\n{expected}\nqtinyllava:\n{got.stdout}")
print(f"{answers} answers of {len(TALKS)} conversations are the same")
