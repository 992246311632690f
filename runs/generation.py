"""The measuring of runs/generation.sh: generation.py PROGRAM MODEL OUT. Needs torch, transformers, gguf and llama-cpp-python.

Tokens per second are those after the first, which comes with reading the prompt: as `chat` counts them.
"""

import os, re, subprocess, sys, time
from pathlib import Path

import gguf, llama_cpp, numpy, torch
import transformers as hf
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

PROGRAM, MODEL, OUT = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
THREADS = int(os.environ.get("THREADS", len(os.sched_getaffinity(0))))
ROUNDS, TOKENS = int(os.environ.get("ROUNDS", 3)), int(os.environ.get("TOKENS", 128))
QUESTION = "Write a long story about a fox and a river."

hf.logging.set_verbosity_error()
hf.logging.disable_progress_bar()
torch.set_num_threads(THREADS)
tokenizer = AutoTokenizer.from_pretrained(MODEL)
asked = [{"role": "user", "content": QUESTION}]
prompt = list(tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"])


def write_gguf(path, kind):
    """The model as llama.cpp reads it: a Llama with token numbers instead of a tokenizer."""
    config = AutoConfig.from_pretrained(MODEL)
    state = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16).state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    for name, value in state.items():
        block = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        if block:
            target = f"blk.{block[1]}.{names[block[2]]}.weight"
        else:
            target = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                      "lm_head.weight": "output.weight"}[name]
        if target == "output.weight" and config.tie_word_embeddings:
            continue
        if block and block[2] in ("self_attn.q_proj", "self_attn.k_proj"):
            # Pairs of a rotation lie side by side there.
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            value = value.reshape(heads, 2, -1, value.shape[1]).transpose(1, 2).reshape(value.shape)
        if value.dim() == 1:
            writer.add_tensor(target, value.float().numpy())
        elif kind == "f16":
            writer.add_tensor(target, value.half().numpy())
        else:
            numbers = value.contiguous().view(torch.uint16).numpy().view(numpy.uint8)
            writer.add_tensor(target, numbers, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def timed(step):
    """Calls `step` with a token for the next one: the tokens, and how many come in a second after the first."""
    tokens = [step(prompt)]
    start = time.perf_counter()
    while len(tokens) < TOKENS:
        tokens.append(step(tokens[-1:]))
    return tokens, (TOKENS - 1) / (time.perf_counter() - start)


def llama(kind):
    path = OUT / f"{kind}.gguf"
    if not path.exists():
        write_gguf(path, kind)
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)

    def step(ids):
        model.eval(ids)
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        return int(numpy.ctypeslib.as_array(logits, (model.n_vocab(),)).argmax())

    return timed(step)


def transformers(dtype):
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype).eval()
    cache = None

    def step(ids):
        nonlocal cache
        with torch.inference_mode():
            out = model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        return int(out.logits[0, -1].argmax())

    return timed(step)


def ours(env):
    command = [PROGRAM, "chat", str(MODEL), "--text-only", "--longest", str(TOKENS), "--prompt", QUESTION]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ, **env))
    count, rate = re.search(r"(\d+) tokens: .* then ([\d.]+) tokens/s", said.stderr).groups()
    if int(count) != TOKENS:
        sys.exit(f"the answer ended after {count} tokens: ask for fewer by TOKENS")
    return said.stdout.strip(), float(rate)


WAYS = {
    "qtinyllava, as the file has it": lambda: ours({"RAYON_NUM_THREADS": str(THREADS)}),
    "llama.cpp, bf16": lambda: llama("bf16"),
    "llama.cpp, f16": lambda: llama("f16"),
    "transformers, bf16": lambda: transformers(torch.bfloat16),
    "transformers, f32": lambda: transformers(torch.float32),
}
best, text = dict.fromkeys(WAYS, 0.0), {}
for _ in range(ROUNDS):
    for name, way in WAYS.items():
        answer, rate = way()
        best[name] = max(best[name], rate)
        text[name] = answer if isinstance(answer, str) else tokenizer.decode(answer, skip_special_tokens=True).strip()
mine = next(iter(WAYS))
print(f"| {TOKENS} tokens, {THREADS} threads, best of {ROUNDS} | tokens/s | ours to it | the same answer |\n|---|---:|---:|---|")
for name in WAYS:
    print(f"| {name} | {best[name]:.1f} | {best[mine] / best[name]:.2f} | {'yes' if text[name] == text[mine] else 'no'} |")
