"""The step of `train --local` in PyTorch, for runs/speed.py: the model of a directory's config.json (SigLIP, an MLP of two layers,
Llama) with random weights. The tower is frozen and without a graph; its features go through the connector and are rounded to
four levels, straight through; the language model (SDPA) reads them before the tokens of text; loss, gradients, clipping, and AdamW
(fused) on all but the tower. Prints one JSON line: seconds of the steps from end to end, processor seconds per step, peak memory.

LEAN does what our program does as well: no tower block behind the selected layer, and a head on the supervised rows only.
"""

import argparse, json, resource, time
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("config", help="config.json of the model directory")
options.add_argument("--batch", type=int, required=True)
options.add_argument("--text", type=int, required=True, help="tokens of text per sample")
options.add_argument("--supervised", type=int, required=True, help="how many of these, the last ones, have a target")
options.add_argument("--steps", type=int, required=True)
options.add_argument("--threads", type=int, required=True)
options.add_argument("--lean", action="store_true")
options.add_argument("--device", default="cpu")
options.add_argument("--bf16", action="store_true", help="products in bfloat16 by autocast; weights stay in 32 bits")
args = options.parse_args()
torch.manual_seed(1)
torch.set_num_threads(args.threads)
torch.set_default_device(args.device)
card = args.device.startswith("cuda")

model = json.load(open(args.config))
ours = {"model_type", "architectures", "dtype", "torch_dtype", "transformers_version"}
fields = lambda part: {name: value for name, value in model[part].items() if name not in ours}
vision, text = SiglipVisionConfig(**fields("vision_config")), LlamaConfig(**fields("text_config"))
tower = SiglipVisionModel(vision).eval().requires_grad_(False)
language = LlamaForCausalLM(text)
language.set_attn_implementation("sdpa")
connector = nn.Sequential(nn.Linear(vision.hidden_size, text.hidden_size), nn.GELU(), nn.Linear(text.hidden_size, text.hidden_size))
layer = model.get("vision_feature_layer", -2)
first = int(model.get("vision_feature_select_strategy", "patch") == "patch")
if args.lean and layer < -1:
    encoder = getattr(tower, "vision_model", tower).encoder
    encoder.layers = encoder.layers[: layer + 1]
    layer = -1
trained = [*language.parameters(), *connector.parameters()]
optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)


def rounded(x):
    """Four levels within three deviations; the gradient passes."""
    width = 3 * x.detach().std()
    levels = ((x / width).clamp(-1, 1) * 1.5 - 0.5).round() + 0.5
    return x + (levels / 1.5 * width - x).detach()


def losses():
    pixels = torch.randn(args.batch, 3, vision.image_size, vision.image_size)
    ids = torch.randint(text.vocab_size, (args.batch, args.text))
    with torch.no_grad():
        features = tower(pixels, output_hidden_states=True).hidden_states[layer][:, first:]
    rows = torch.cat([rounded(connector(features)), language.get_input_embeddings()(ids)], 1)
    if args.lean:
        hidden = language.model(inputs_embeds=rows, use_cache=False).last_hidden_state
        logits = language.lm_head(hidden[:, -args.supervised - 1 : -1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, -args.supervised :].flatten())
    else:
        labels = torch.full(rows.shape[:2], -100)
        labels[:, -args.supervised :] = ids[:, -args.supervised :]
        loss = language(inputs_embeds=rows, labels=labels, use_cache=False).loss
    return loss


def step():
    with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.bf16):
        loss = losses()
    loss.backward()
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if card:
        torch.cuda.synchronize()


step()
seconds, cpu, last = [], time.process_time(), time.perf_counter()
for _ in range(args.steps - 1):
    step()
    now = time.perf_counter()
    seconds.append(now - last)
    last = now
print(json.dumps({
    "seconds": seconds,
    "cpu": (time.process_time() - cpu) / len(seconds),
    "peak": torch.cuda.max_memory_allocated() if card else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "version": torch.__version__,
}))
