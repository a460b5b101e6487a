"""Training: the program's bits, events, and stopping."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import PROGRAM, TINY, sentences

import surprisal_lm

STEPS = {"train.steps": 20, "eval.every_steps": 20, "sample.tokens": 20}


def weights(run: object) -> bytes:
    return Path(str(run), "model", "weights.safetensors").read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


def test_the_default_model_has_the_programs_bits(tmp_path):
    model = surprisal_lm.train(set=STEPS, out=tmp_path / "python")
    set_ = [word for key, value in STEPS.items() for word in ("--set", f"{key}={value}")]
    subprocess.run([PROGRAM, "train", *set_, "--out", tmp_path / "program", "--quiet"], check=True)
    assert files(tmp_path / "python") == files(tmp_path / "program")
    assert (tmp_path / "python/config.toml").read_bytes() == (tmp_path / "program/config.toml").read_bytes()
    assert model.finished and model.result["steps"] == 20 and model.kind == "transformer"


def test_a_time_without_a_model_has_its_settings_chosen(tmp_path, text):
    events = []
    few = {"sample.tokens": 0}
    chosen = surprisal_lm.train(text, budget=3, set=few, out=tmp_path / "chosen", on_event=events.append)
    notes = [event["text"] for event in events if event["event"] == "note" and "text" in event]
    assert "characters" in notes[0] and any("passes over the text" in note for note in notes), notes
    assert chosen.kind == "mixture" and "[mixture]" in (tmp_path / "chosen/config.toml").read_text()
    default = surprisal_lm.train(text, model="transformer", budget=0.3, set=few, out=tmp_path / "default")
    assert default.kind == "transformer"


def test_every_form_of_text_gives_the_same_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = sentences(400)
    text = "".join(f"{line}\n" for line in lines)
    Path("text.txt").write_text(text, "utf-8")
    forms = [text, text.encode(), lines, (line.encode() for line in lines), Path("text.txt"), [Path("text.txt")]]
    models = [surprisal_lm.train(form, model="witten_bell", set={"model.order": 3}) for form in forms]
    losses = [model.evaluate()["nats_per_token"] for model in models]
    assert len(set(losses)) == 1 and models[0].order == 3
    assert sorted(path.suffix for path in Path("runs").iterdir() if path.is_file()) == [".txt"]
    with pytest.raises(surprisal_lm.UsageError, match="name of a file"):
        surprisal_lm.train("text.txt")
    with pytest.raises(TypeError):
        surprisal_lm.train(3)
    with pytest.raises(TypeError):
        surprisal_lm.train(["a line", 3])
    with pytest.raises(surprisal_lm.UsageError, match="empty"):
        surprisal_lm.train([])


def test_every_form_of_config_gives_the_same_model(tmp_path, text):
    Path(tmp_path, "tiny.toml").write_text(TINY)
    sections = {
        "model": {"kind": "transformer", "n_layer": 1, "n_head": 2, "n_embd": 32},
        "train": {"steps": 30, "batch_size": 8, "block_size": 32},
    }
    forms = [TINY, sections, tmp_path / "tiny.toml"]
    for number, form in enumerate(forms):
        surprisal_lm.train(text, model=form, out=tmp_path / str(number))
    assert files(tmp_path / "0") == files(tmp_path / "1") == files(tmp_path / "2")
    bigram = surprisal_lm.train(text, model="bigram", set={"train.steps": 2}, out=tmp_path / "bigram")
    assert bigram.kind == "bigram"


def test_events_come_in_order_and_exceptions_go_through(tmp_path, text):
    events = []
    surprisal_lm.train(text, model=TINY, out=tmp_path / "run", on_event=events.append)
    names = [event["event"] for event in events]
    assert names.index("texts") < names.index("start") < names.index("planned") < names.index("progress")
    assert names[-1] == "result" and names.count("progress") == 30
    assert [event["step"] for event in events if event["event"] == "progress"] == list(range(1, 31))

    def fails(event):
        if event["event"] == "progress":
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        surprisal_lm.train(text, model=TINY, out=tmp_path / "failed", on_event=fails)


def test_a_run_that_is_stopped_is_a_model_and_goes_on_to_the_same_bits(tmp_path, text, run):
    def stops(event):
        return event["event"] != "progress" or event["step"] < 10

    out = tmp_path / "stopped"
    stopped = surprisal_lm.train(text, model=TINY, out=out, on_event=stops, progress=False)
    assert not stopped.finished and stopped.result is None
    assert stopped.score(["the cat"])[0] > 0
    resumed = surprisal_lm.train(resume=True, out=out)
    assert resumed.finished and files(out) == files(Path(run.path))
    # A finished run is given as it is.
    assert surprisal_lm.train(resume=True, out=out).finished


def test_an_interrupt_stops_after_the_step_with_a_model(tmp_path, text):
    code = f"""
        import os, signal, surprisal_lm
        def press(event):
            if event["event"] == "progress" and event["step"] == 5:
                os.kill(os.getpid(), signal.SIGINT)
        model = surprisal_lm.train({os.fspath(text)!r} and __import__("pathlib").Path({os.fspath(text)!r}),
            model={TINY!r}, set={{"train.steps": 100000}}, out={os.fspath(tmp_path / "run")!r}, on_event=press)
        print(model.finished, model.score(["the cat"])[0] > 0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "False True\n"), done.stderr
    assert "stopped" in done.stderr and "resume=True" in done.stderr


def test_an_interrupt_before_there_is_a_model_is_raised(tmp_path, text):
    def press(event):
        if event["event"] == "texts":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # the main thread looks for signals meanwhile

    with pytest.raises(KeyboardInterrupt):
        model = surprisal_lm.train(
            text, model=TINY, set={"train.steps": 100000}, out=tmp_path / "run", on_event=press, progress=False
        )
        pytest.fail(f"there is a model after all: {model.result}")


def test_nothing_is_printed_without_a_terminal(tmp_path, text, capfd):
    surprisal_lm.train(text, model=TINY, out=tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_the_bar_of_a_terminal_is_one_line_that_goes(tmp_path, text):
    pty = pytest.importorskip("pty")
    code = f"""
        import pathlib, surprisal_lm
        surprisal_lm.train(pathlib.Path({os.fspath(text)!r}), model={TINY!r}, out={os.fspath(tmp_path / "run")!r})
    """
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=child)
    os.close(child)
    seen = b""
    while True:
        try:
            part = os.read(parent, 1 << 16)
        except OSError:
            break
        if not part:
            break
        seen += part
    assert process.wait() == 0
    lines = seen.decode().replace("\r\n", "\n").split("\n")
    assert any("validation" in line and "nats per token" in line for line in lines), seen
    assert "steps, train nll" in seen.decode() and lines[-1].split("\r")[-1].strip() == ""


def test_the_bar_of_a_notebook_is_one_output(monkeypatch):
    from surprisal_lm import _progress

    shown = []

    class Handle:
        def update(self, content, raw):
            shown.append(content["text/plain"])

    def display(content, raw, display_id=None):
        shown.append(content["text/plain"])
        return Handle()

    monkeypatch.setattr(_progress, "_notebook", lambda: display)
    monkeypatch.setattr(_progress, "_EVERY", 0.0)
    bar = _progress.Bar(None)
    bar({"event": "planned", "length": 10.0, "unit": "steps"})
    for step in (1, 10):
        bar({"event": "progress", "step": step, "progress": step / 10, "train_nll": 1.0,
             "tokens_per_second": 1e4, "train_seconds": 1.0})
    assert len(shown) == 2 and shown[1].startswith("100 % [====================] 10/10 steps")
