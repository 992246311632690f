#!/usr/bin/env python3
"""Pictures of a test folder as a lossy format keeps them.

    pip install pillow
    runs/pictures.py TEST OUT FORMAT QUALITY

Copies TEST to OUT with every picture encoded as FORMAT (png, jpeg, webp) at QUALITY and decoded again, and prints the mean number of
bytes of an encoded picture.
"""
import io
import shutil
import sys
from pathlib import Path

from PIL import Image

test, out, form, quality = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
options = {"png": {"optimize": True}, "jpeg": {"quality": quality, "optimize": True}, "webp": {"quality": quality, "method": 6}}[form]
shutil.rmtree(out, ignore_errors=True)
shutil.copytree(test, out)
sizes = []
for path in sorted((out / "images").iterdir()):
    encoded = io.BytesIO()
    Image.open(path).convert("RGB").save(encoded, form, **options)
    sizes.append(encoded.tell())
    Image.open(encoded).convert("RGB").save(path, "png")
print(f"{sum(sizes) / len(sizes):.0f}")
