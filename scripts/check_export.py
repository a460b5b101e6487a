#!/usr/bin/env python3
"""Whether `transformers` reads what `surprisal export --format hf` writes, and the other way round.

    cargo build --release
    /path/to/venv/bin/python scripts/check_export.py        (a virtual environment with PyTorch and transformers)
    ... scripts/check_export.py TEXT FOLDER...              only `surprisal eval FOLDER TEXT` against PyTorch

For GPT-2's layout and Llama's: trains a small model for some steps, exports it, loads the folder with AutoModelForCausalLM and
AutoTokenizer, and compares the logits at some places of a text, its mean surprisal and a hundred greedy tokens; also over a text of many windows, evaluated
from the exported folder. A model of lines has to stop in `generate`. Then has transformers write folders of random weights, whole, padded, in shards and in
half precision, evaluates them, and trains on from one.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
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


def encoded(folder, text):
    """The ids of a text, and the number of tokens, by the library."""
    path = os.path.join(folder, "tokenizer.json")
    if os.path.exists(path):
        tokenizer = Tokenizer.from_file(path)
    else:
        tokenizer = ByteLevelBPETokenizer(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"))
    return tokenizer.encode(text, add_special_tokens=False).ids, tokenizer.get_vocab_size()


def windows(path, text):
    """Evaluates a folder on a text of many windows, by PyTorch in f32 and by the program."""
    ids, vocabulary = encoded(path, text)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    block = model.config.max_position_embeddings
    stride = (block + 1) // 2
    # The first token follows nothing; rows of padding are no tokens.
    nats, at = torch.tensor(float(vocabulary)).log().double(), 1
    while at < len(ids):
        end = min(len(ids), at + (block if at == 1 else stride))
        start = max(0, end - 1 - block)
        with torch.no_grad():
            log_probs = model(torch.tensor([ids[start:end - 1]])).logits[0, :, :vocabulary].log_softmax(-1)
        nats -= log_probs[at - 1 - start:].gather(1, torch.tensor(ids[at:end])[:, None]).double().sum()
        at = end
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        ours = surprisal("eval", path, file.name)[-1]["eval"]
    difference = abs(ours["nats_per_token"] - nats.item() / len(ids))
    print(json.dumps({"evaluated": os.path.basename(path), "model": type(model).__name__, "tokens": len(ids),
                      "nats_per_token": nats.item() / len(ids), "difference": difference}), flush=True)
    return difference < 1e-4 and ours["tokens"] == len(ids)


def folders(folder):
    """Folders of GPT-2 and Llama by transformers, with the tokens of an exported run."""
    text = surprisal("sample", os.path.join(folder, "gpt2"), "--tokens", "1500", "--seed", "8")[-1]["text"]
    passed = []
    for name in LAYOUTS:
        exported = os.path.join(folder, name + "_hf")
        passed.append(windows(exported, text))
        model = AutoModelForCausalLM.from_pretrained(exported)
        rows = model.get_input_embeddings().num_embeddings
        for kind, options in {"padded": {}, "sharded": {"max_shard_size": "60KB"}, "bf16": {}, "f16": {}}.items():
            if kind == "padded":
                model.resize_token_embeddings(rows + 7)
            if kind in ("bf16", "f16"):
                model = model.to({"bf16": torch.bfloat16, "f16": torch.float16}[kind])
            path = os.path.join(folder, f"{name}_{kind}")
            model.save_pretrained(path, **options)
            with open(os.path.join(exported, "tokenizer.json")) as tokenizer, \
                    open(os.path.join(path, "tokenizer.json"), "w") as copy:
                copy.write(tokenizer.read())
            passed.append(windows(path, text))
    return all(passed)


def stops(folder):
    """A model of lines starts and stops at its marks in `generate`, and draws no <unk>."""
    run, out = os.path.join(folder, "lines"), os.path.join(folder, "lines_hf")
    surprisal("train", "--out", run, *settings([*SMALL, "data.unit=line", "train.block_size=128"]))
    surprisal("export", run, "--format", "hf", "--out", out)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    marks = {name: (getattr(model.config, name), getattr(model.generation_config, name), getattr(tokenizer, name))
             for name in ("bos_token_id", "eos_token_id")}
    torch.manual_seed(1)
    start = tokenizer("The", return_tensors="pt")
    drawn = [model.generate(**start, max_new_tokens=120, do_sample=True)[0].tolist() for _ in range(20)]
    eos = tokenizer.eos_token_id
    # After the mark nothing follows but its padding.
    ended = sum(eos in ids[1:] for ids in drawn)
    runs_on = [ids for ids in drawn if eos in ids and set(ids[ids.index(eos):]) != {eos}]
    unknown = sum(tokenizer.unk_token_id in ids for ids in drawn)
    print(json.dumps({"marks": marks, "ended_of_20": ended, "runs_on": len(runs_on), "with_unk": unknown,
                      "for_example": tokenizer.decode(drawn[0])}), flush=True)
    return ended > 0 and not runs_on and not unknown and all(len(set(ids)) == 1 and None not in ids for ids in marks.values())


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
    if len(sys.argv) > 2:
        with open(sys.argv[1]) as file:
            text = file.read()
        passed = [windows(path, text) for path in sys.argv[2:]]
        sys.exit(not all(passed))
    with tempfile.TemporaryDirectory() as folder:
        passed = [check(layout, folder) for layout in LAYOUTS] + [folders(folder), stops(folder), train_on(folder)]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
