#!/usr/bin/env python3
"""Whether `transformers` reads what `surprisal export --format hf` writes, and the other way round.

    cargo build --release
    /path/to/venv/bin/python scripts/check_export.py        (a virtual environment with PyTorch and transformers)

For GPT-2's layout and Llama's: trains a small model for some steps, exports it, loads the folder with AutoModelForCausalLM and
AutoTokenizer, and compares the logits at some places of a text, its mean surprisal and a hundred greedy tokens. Then has transformers write a GPT-2 folder
of random weights, and trains on from it.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
BLOCK = 256
SMALL = ["model.n_layer=2", "model.n_head=4", "model.n_embd=64", f"train.block_size={BLOCK}", "train.steps=60",
         "train.batch_size=8", "optim.warmup=5"]
LAYOUTS = {
    "gpt2": ["model.bias=true"],
    "llama": ["model.norm=rms", "model.position=rope", "model.activation=swiglu", "model.n_kv_head=2", "model.tied=false"],
}


def surprisal(*arguments):
    command = [BINARY, *arguments, "--json", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}\n{ran.stderr}")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def settings(pairs):
    return [argument for pair in pairs for argument in ("--set", pair)]


def check(layout, folder):
    run, out = os.path.join(folder, layout), os.path.join(folder, layout + "_hf")
    surprisal("train", "--out", run, *settings(SMALL + LAYOUTS[layout]))
    surprisal("export", run, "--format", "hf", "--out", out)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out).double(), AutoTokenizer.from_pretrained(out)

    # One window: each token after the first from all before it.
    text = surprisal("sample", run, "--tokens", str(BLOCK - 20), "--seed", "7")[-1]["text"]
    path = os.path.join(folder, "text.txt")
    with open(path, "w") as file:
        file.write(text)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        logits = model(ids).logits
    log_probs = logits.log_softmax(-1)
    apart = 0.0
    for number in (2, 3, 50, ids.shape[1]):  # tokens count from 1; the first follows nothing
        step = surprisal("explain", run, "--text", text, "--step", str(number), "--top", str(logits.shape[-1]))[-1]
        assert len(step["rows"]) == logits.shape[-1], step
        apart = max(apart, *(abs(row["z"] - logits[0, number - 2, row["id"]].item()) for row in step["rows"]))
    nats = -log_probs[0, :-1].gather(1, ids[0, 1:, None]).sum().item()
    evaluated = surprisal("eval", run, path)[-1]["eval"]
    # The first token, which nothing comes before, is scored as one of the vocabulary.
    first = torch.tensor(float(log_probs.shape[-1])).log().item() if evaluated["tokens"] == ids.shape[1] else 0.0
    ours = evaluated["nats_per_token"] * evaluated["tokens"] - first
    difference = abs(ours - nats) / (ids.shape[1] - 1)

    prompt = text[:20]
    greedy = surprisal("sample", run, "--prompt", prompt, "--tokens", "100", "--temperature", "0")[-1]["text"]
    start = torch.tensor([tokenizer(prompt)["input_ids"]])
    mask = torch.ones_like(start)
    theirs = model.generate(start, attention_mask=mask, max_new_tokens=100, do_sample=False, eos_token_id=None, pad_token_id=0)
    same = tokenizer.decode(theirs[0], clean_up_tokenization_spaces=False) == greedy
    line = {"layout": layout, "model": type(model).__name__, "difference_of_logits": apart,
            "difference_in_nats_per_token": difference, "same_100_greedy_tokens": same}
    print(json.dumps(line), flush=True)
    return apart < 1e-4 and difference < 1e-4 and same


def train_on(folder):
    """From a GPT-2 folder of transformers."""
    vocabulary = 256
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=vocabulary, n_positions=BLOCK, n_embd=48, n_layer=2, n_head=3, resid_pdrop=0.0,
                        embd_pdrop=0.0, attn_pdrop=0.0)
    start = os.path.join(folder, "start")
    GPT2LMHeadModel(config).save_pretrained(start)
    run = os.path.join(folder, "on")
    events = surprisal("train", "--out", run, *settings([f"model.init_from={start}", "tokenizer.kind=byte",
                                                       f"train.block_size={BLOCK}",
                                                       "train.batch_size=8", "train.steps=30", "optim.warmup=5"]))
    nats = events[-1]["eval"]["nats_per_token"]
    print(json.dumps({"trained_on_from": "GPT2LMHeadModel", "nats_per_token": nats}), flush=True)
    return nats < 4.0


def main():
    with tempfile.TemporaryDirectory() as folder:
        passed = [check(layout, folder) for layout in LAYOUTS] + [train_on(folder)]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
