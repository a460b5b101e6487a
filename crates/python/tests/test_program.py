"""The wheel is the program, too."""

import signal
import subprocess
import sys
import time

from conftest import PROGRAM, TINY

import surprisal_lm


def test_it_answers_and_fails_as_the_program_does(tmp_path):
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True)
    assert version.stdout == f"surprisal {surprisal_lm.__version__}\n" and version.returncode == 0
    wrong = subprocess.run([PROGRAM, "eval", "none"], capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: ")
    usage = subprocess.run([PROGRAM, "trian"], capture_output=True, text=True)
    assert usage.returncode == 2 and "train" in usage.stderr
    module = subprocess.run([sys.executable, "-m", "surprisal_lm", "--version"], capture_output=True, text=True)
    assert module.stdout == version.stdout


def test_it_starts_at_once():
    took = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([PROGRAM, "--version"], check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    # 0.1 s on a machine with nothing else to do.
    assert min(took) < 0.3, took


def test_an_interrupt_saves_a_checkpoint(tmp_path, text):
    (tmp_path / "tiny.toml").write_text(TINY)
    command = [PROGRAM, "train", "tiny.toml", text, "--set", "train.steps=100000", "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run/metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and '"step"' in metrics.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in printed and "stopped by a signal" in printed
    assert not surprisal_lm.Model.load(tmp_path / "run").finished
