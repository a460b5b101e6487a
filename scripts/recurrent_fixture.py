#!/usr/bin/env python3
"""What PyTorch's nn.LSTM and nn.GRU compute, for the tests: writes crates/model/tests/fixtures/recurrent.json.

    /path/to/venv/bin/python scripts/recurrent_fixture.py

A model is an embedding `wte`, two layers `rnn` and a linear `head`, with weights that f32 holds exactly, computed in float64.
It reads two windows that follow each other; the second starts from the state after the first, detached. Kept are its weights,
the tokens, the state after each window ("state", (layers, B, H), h and for an LSTM c), the logits of both windows, and the mean
negative log-likelihood of the second window's targets with its gradients.
"""
import json
import os

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATH = os.path.join(ROOT, "crates", "model", "tests", "fixtures", "recurrent.json")
V, C, H, B, T, LAYERS = 7, 5, 6, 3, 4, 2


class Model(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.wte = torch.nn.Embedding(V, C)
        self.rnn = kind(C, H, LAYERS, batch_first=True)
        self.head = torch.nn.Linear(H, V)

    def forward(self, ids, state):
        h, state = self.rnn(self.wte(ids), state)
        return self.head(h), state


def parts(state):
    """[h] or [h, c], each (layers, B, H)."""
    return list(state) if isinstance(state, tuple) else [state]


def case(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    model = Model(kind).double()
    for parameter in model.parameters():
        values = torch.rand(parameter.shape, generator=generator, dtype=torch.float32) * 1.6 - 0.8
        parameter.data = values.double()
    ids = torch.randint(0, V, (B, 2 * T + 1), generator=generator)
    first, state = model(ids[:, :T], None)
    after_first = [part.detach() for part in parts(state)]
    start = tuple(after_first) if len(after_first) == 2 else after_first[0]
    second, state = model(ids[:, T:2 * T], start)
    loss = torch.nn.functional.cross_entropy(second.reshape(-1, V), ids[:, T + 1:].reshape(-1))
    loss.backward()
    return {
        "cell": kind.__name__.lower(),
        "weights": {name: parameter.detach().tolist() for name, parameter in model.named_parameters()},
        "ids": ids.tolist(),
        "windows": [
            {"logits": first.tolist(), "state": [part.tolist() for part in after_first]},
            {"logits": second.tolist(), "state": [part.tolist() for part in parts(state)]},
        ],
        "loss": loss.item(),
        "gradients": {name: parameter.grad.tolist() for name, parameter in model.named_parameters()},
    }


def main():
    sizes = {"vocab_size": V, "n_embd": C, "n_hidden": H, "rows": B, "steps": T, "n_layer": LAYERS}
    cases = [case(torch.nn.LSTM, 1), case(torch.nn.GRU, 2)]
    os.makedirs(os.path.dirname(PATH), exist_ok=True)
    with open(PATH, "w") as file:
        lines = ",\n".join(json.dumps(c) for c in cases)
        file.write('{"about": "scripts/recurrent_fixture.py, PyTorch %s", "sizes": %s, "cases": [\n%s\n]}\n'
                   % (torch.__version__.split("+")[0], json.dumps(sizes), lines))


if __name__ == "__main__":
    main()
