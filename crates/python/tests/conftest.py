import random
import signal
import sys
from pathlib import Path

import pytest

import surprisal_lm

FIXTURES = Path(__file__).parents[2] / "formats/tests/fixtures/kenlm"
PROGRAM = Path(sys.executable).with_name("surprisal")


@pytest.fixture(autouse=True)
def interrupts_are_heard() -> None:
    """Sets Python's own handler: a shell starts what runs in the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def sentences(count: int, seed: int = 1) -> list[str]:
    """Sentences of a few words with some structure, and some rare ones."""
    chance = random.Random(seed)
    nouns, verbs = ["cat", "dog", "mouse", "house", "straße"], ["sees", "hears", "likes"]
    made = []
    for _ in range(count):
        rare = [f"w{chance.randrange(200)}"] if chance.random() < 0.2 else []
        noun, other = chance.choice(nouns), chance.choice(nouns)
        made.append(" ".join(["the", *rare, noun, chance.choice(verbs), "the", other, "."]))
    return made


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def text(folder: Path) -> Path:
    path = folder / "text.txt"
    path.write_text("".join(f"{line}\n" for line in sentences(3000)), "utf-8")
    return path


@pytest.fixture(scope="session")
def heldout(folder: Path) -> Path:
    path = folder / "heldout.txt"
    path.write_text("".join(f"{line}\n" for line in sentences(200, seed=2)), "utf-8")
    return path


@pytest.fixture(scope="session")
def counted(folder: Path, text: Path) -> dict[str, Path]:
    """One model as an ARPA file and as an .ngram file."""
    files = {suffix: folder / f"counted.{suffix}" for suffix in ("arpa", "ngram")}
    surprisal_lm.count(text, list(files.values()), order=4)
    return files


@pytest.fixture(scope="session")
def run(folder: Path, text: Path) -> surprisal_lm.Model:
    """A small transformer, briefly trained."""
    return surprisal_lm.train(text, model=TINY, out=folder / "run")


TINY = """
[model]
kind = "transformer"
n_layer = 1
n_head = 2
n_embd = 32
[train]
steps = 30
batch_size = 8
block_size = 32
"""
