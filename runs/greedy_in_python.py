#!/usr/bin/env python3
"""Does transformers give the greedy answers that `qtinyllava chat` gives?

    pip install torch transformers safetensors pillow
    runs/greedy_in_python.py MODEL DIRECTORY TEST [PROGRAM]

MODEL: what `chat` answers from. DIRECTORY: the same model as `merge` wrote it, which is loaded with the modeling_qtinyllava.py
beside it, or as `export --to llava` wrote it, which is loaded as a plain LlavaForConditionalGeneration. TEST: what
`data scenes --split test` wrote; QUESTIONS of its questions are asked, a picture's at a time. Fails at an answer that differs.
For models of the template qa, whose prompt is the picture and the question.
"""
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

QUESTIONS = 60
LONGEST = 24

model_dir, directory, test = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
program = sys.argv[4] if len(sys.argv) > 4 else "qtinyllava"

asked = defaultdict(list)
pictures = sorted((test / "images").iterdir())
for question in json.loads((test / "vqav2_questions.json").read_text())["questions"]:
    asked[question["image_id"]].append(question["question"])
# As many pictures as there can be, and a caption of each.
each = QUESTIONS // min(len(asked), len(pictures), 12)
plan = []
for number, picture in enumerate(pictures[:12]):
    key = sorted(asked)[number]
    plan.append((picture, (["Describe the image."] + asked[key])[:each]))

config = json.loads((directory / "config.json").read_text())
plain = config["model_type"] == "llava"
if plain:
    model, info = LlavaForConditionalGeneration.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    processor = AutoProcessor.from_pretrained(directory)
else:
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, trust_remote_code=True, dtype=torch.float32, output_loading_info=True
    )
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    pictured = AutoImageProcessor.from_pretrained(directory, trust_remote_code=True)
trouble = {key: value for key, value in info.items() if value}
assert not any(trouble.values()), trouble
model.eval()


def answer(picture, question):
    picture = Image.open(picture).convert("RGB")
    if plain:
        talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        prompt = processor.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
        inputs = processor(images=picture, text=prompt, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
        return processor.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip()
    ids = model.prompt_ids(tokenizer, "<image>" + question)
    pixels = pictured(picture, return_tensors="pt").pixel_values
    ids = model.generate(ids, pixel_values=pixels, max_new_tokens=LONGEST, do_sample=False, eos_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(ids[0], skip_special_tokens=True).strip()


count, different = 0, []
for picture, questions in plan:
    command = [program, "chat", model_dir, "--image", str(picture), "--longest", str(LONGEST)]
    said = subprocess.run(command, input="\n".join(questions) + "\n", capture_output=True, text=True, check=True)
    for question, ours in zip(questions, said.stdout.splitlines(), strict=True):
        theirs = answer(picture, question)
        count += 1
        if theirs != ours.strip():
            different.append(f"{picture.name}: {question}\n  chat:         {ours}\n  transformers: {theirs}")
how = "as a plain LLaVA" if plain else "with modeling_qtinyllava.py"
print(f"{directory} {how}: {count - len(different)} of {count} answers are the same")
print("\n".join(different))
sys.exit(bool(different) or count < QUESTIONS)
