#!/usr/bin/env python3
"""Whether the `gguf` package and llama.cpp read what `surprisal export --format gguf` writes.

    cargo build --release
    python3 -m venv venv && venv/bin/pip install gguf numpy llama-cpp-python    (llama.cpp is compiled: some minutes)
    venv/bin/python scripts/check_gguf.py

For GPT-2's layout and Llama's, of characters and of BPE: trains a small model for some steps and exports it as GGUF and as a
Hugging Face folder. The tensors of both must be equal, the rows of Llama's queries and keys in llama.cpp's order. Then llama.cpp
computes the log-probabilities of a text (f32, also in the key-value cache), which must be within 1e-3 of those of `explain`, and
its tokens must be those of the run.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy
from gguf import GGUFReader
from llama_cpp import Llama

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
BLOCK = 64
SMALL = ["model.n_layer=2", "model.n_head=4", "model.n_embd=32", f"train.block_size={BLOCK}", "train.steps=40",
         "train.batch_size=8", "optim.warmup=5"]
LLAMA = ["model.norm=rms", "model.position=rope", "model.activation=swiglu", "model.n_kv_head=2", "model.tied=false"]
RUNS = {
    "gpt2": ["model.bias=true"],
    "gpt2 of bpe": ["model.bias=false", "tokenizer.kind=bpe", "tokenizer.vocab_size=400"],
    "llama": LLAMA,
    "llama of lines": [*LLAMA, "model.bias=true", "data.unit=line"],
}
GPT2_NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm",
              "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
LLAMA_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
               "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
               "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
               "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def surprisal(*arguments):
    command = [BINARY, *arguments, "--json", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}\n{ran.stderr}")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def safetensors(path):
    with open(path, "rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    for name, about in header.items():
        start, end = about["data_offsets"]
        yield name, numpy.frombuffer(data[start:end], "<f4").reshape(about["shape"])


def expected(name, tensor, config):
    """The name and values in GGUF of a tensor in Hugging Face's layout."""
    module, kind = name.rsplit(".", 1)
    layer = next((part for part in module.split(".") if part.isdigit()), None)
    names = GPT2_NAMES if config["model_type"] == "gpt2" else LLAMA_NAMES
    module = module.split(f".{layer}.", 1)[-1].removeprefix("transformer.").removeprefix("model.")
    if config["model_type"] == "gpt2" and module.split(".")[-1].startswith("c_") and kind == "weight":
        tensor = tensor.T
    if module in ("self_attn.q_proj", "self_attn.k_proj"):
        heads = config["num_attention_heads" if module.endswith("q_proj") else "num_key_value_heads"]
        halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, -1)
        tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
    return (f"blk.{layer}." if layer else "") + names[module] + "." + kind, tensor


def check(name, folder):
    run = os.path.join(folder, name.replace(" ", "_"))
    surprisal("train", "--out", run, *[word for pair in SMALL + RUNS[name] for word in ("--set", pair)])
    surprisal("export", run, "--format", "hf", "--out", run + "_hf")
    surprisal("export", run, "--out", run + ".gguf")

    with open(os.path.join(run + "_hf", "config.json")) as file:
        config = json.load(file)
    read = {tensor.name: tensor for tensor in GGUFReader(run + ".gguf").tensors}
    exported = [expected(*tensor, config) for tensor in safetensors(os.path.join(run + "_hf", "model.safetensors"))]
    assert sorted(read) == sorted(known for known, _ in exported), sorted(read)
    for known, values in exported:
        assert numpy.array_equal(numpy.asarray(read[known].data).reshape(values.shape), values), known

    text = surprisal("sample", run, "--tokens", "40", "--seed", "3")[-1]["text"].split("\n")[0][:48].rstrip()
    tokens = surprisal("explain", run, "--text", text)[-1]["tokens"]
    llama = Llama(run + ".gguf", n_ctx=BLOCK, logits_all=True, type_k=0, type_v=0, flash_attn=False, verbose=False)
    is_line = "data.unit=line" in RUNS[name]
    ids = llama.tokenize(text.encode(), add_bos=is_line, special=False)
    llama.eval(ids)
    scores = numpy.asarray(llama.scores[: len(ids)], dtype=numpy.float64)
    log_probs = scores - numpy.logaddexp.reduce(scores, axis=1, keepdims=True)
    theirs = [-log_probs[place - 1, ids[place]] for place in range(1, len(ids))]
    ours = [token["nats"] for token in tokens][0 if is_line else 1:][: len(theirs)]
    assert len(ours) == len(theirs) > 3, (len(ours), len(theirs))
    apart = max(abs(a - b) for a, b in zip(ours, theirs))
    assert llama.detokenize(ids).decode() == text, (llama.detokenize(ids), text)
    assert apart < 1e-3, apart
    print(f"{name}: {len(exported)} tensors are equal; {len(ours)} tokens are within {apart:.1e} nats of llama.cpp's")


with tempfile.TemporaryDirectory() as folder:
    for name in RUNS:
        check(name, folder)
