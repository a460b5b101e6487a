"""Holds calibration against implementations that are not ours, on the same predictions: expected calibration error by the package
`uncertainty-calibration` (equal mass) and by numpy (equal width), the Brier score by scikit-learn, the temperature by scipy.
Needs `pip install uncertainty-calibration scikit-learn scipy`.

    cargo build --release && python scripts/check_calibration.py [target/release/surprisal]

The predictions are those of `explain --json`, every probability of every token; what is checked is `eval --calibration`.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import calibration
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.metrics import brier_score_loss

surprisal = sys.argv[1] if len(sys.argv) > 1 else "target/release/surprisal"
surprisal = str(pathlib.Path(surprisal).resolve())
BINS = 15


def run(*arguments, cwd):
    done = subprocess.run([surprisal, *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def equal_width(confidence, right):
    """Σ over bins of |Σ right − Σ confidence| / N, bins (k/15, (k + 1)/15], by numpy's own digitize."""
    which = np.clip(np.digitize(confidence, np.linspace(0, 1, BINS + 1), right=True) - 1, 0, BINS - 1)
    gaps = [abs(right[which == k].sum() - confidence[which == k].sum()) for k in range(BINS)]
    return sum(gaps) / len(right)


def equal_mass(confidence, right):
    """The package's equal-mass bins; its error with p = 1 is the expected calibration error."""
    data = [(float(c), float(r)) for c, r in zip(confidence, right)]
    size = len(data) // BINS
    assert size * BINS == len(data), "the same number in each bin, so that nobody has to choose where the rest goes"
    edges = calibration.get_equal_bins(list(confidence), num_bins=BINS)
    return calibration.utils.plugin_ce(calibration.utils.bin(data, edges), power=1)


def measure(q, targets):
    confidence, right = q.max(1), (q.argmax(1) == targets).astype(float)
    onehot = np.eye(q.shape[1])[targets]
    classes = [brier_score_loss(onehot[:, k], q[:, k]) for k in range(q.shape[1])]
    return {
        "ece": equal_width(confidence, right),
        "ece_equal_mass": equal_mass(confidence, right),
        "brier": float(np.sum(classes)),
    }


worst = {}
with tempfile.TemporaryDirectory() as folder:
    # 3000 characters: twice 1500, which is 15 bins of 100.
    run("train", "--set", "data.train_fraction=0.05", "--set", "train.steps=400", "--set", "model.n_layer=1", "--set",
        "model.n_embd=32", "--set", "sample.tokens=0", "--out", "model", "--json", "--quiet", cwd=folder)
    text = run("sample", "model", "--tokens", "3000", "--temperature", "1", "--seed", "3", "--json", cwd=folder)["text"]
    # The model's own text at temperature 1 would be perfectly calibrated; every third word is turned around.
    words = text.split(" ")
    text = " ".join(word[::-1] if i % 3 == 0 else word for i, word in enumerate(words))[:3000]
    pathlib.Path(folder, "text.txt").write_text(text)
    told = run("explain", "model", "--text", text, "--top", "1000", "--json", cwd=folder)["tokens"]
    ours = run("eval", "model", "text.txt", "--calibration", "--json", cwd=folder)["calibration"]
    names = sorted({guess["token"] for guess in told[0]["likeliest"]})
    index = {name: i for i, name in enumerate(names)}
    q = np.zeros((len(told), len(names)))
    for row, token in zip(q, told):
        for guess in token["likeliest"]:
            row[index[guess["token"]]] = guess["probability"]
    targets = np.array([index[token["token"]] for token in told])
    assert len(told) == 3000 and np.allclose(q.sum(1), 1, atol=1e-5)
    half = len(told) // 2
    logits = np.log(q)

    theirs = measure(q[half:], targets[half:])
    for key, value in theirs.items():
        worst[key] = abs(ours[key] - value)

    def nll(log_t):
        z = logits[:half] / np.exp(log_t)
        return -(z[np.arange(half), targets[:half]] - logsumexp(z, axis=1)).mean()

    temperature = float(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-12}).x))
    worst["temperature (relative)"] = abs(ours["scaled"]["temperature"] / temperature - 1)
    z = logits[half:] / ours["scaled"]["temperature"]
    scaled = measure(np.exp(z - logsumexp(z, axis=1, keepdims=True)), targets[half:])
    for key, value in scaled.items():
        worst[f"{key}, scaled"] = abs(ours["scaled"][key] - value)

for key, difference in worst.items():
    print(f"{key:<24} differs by {difference:.1e}")
    limit = 1e-5 if key.startswith("temperature") else 1e-6  # a minimum is known to the root of the precision
    assert difference < limit, f"{key} differs by {difference}"
print(f"ECE {ours['ece']:.6f}, equal mass {ours['ece_equal_mass']:.6f}, Brier {ours['brier']:.6f}, T {temperature:.6f}")
