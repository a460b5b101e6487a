#!/usr/bin/env python3
"""Thirty clients of one `surprisal serve`, and how long its answers take.

    python3 scripts/load_page.py --program target/release/surprisal [--clients 30] [--seconds 300] [--modules FOLDER]

Half of the clients watch one shared run, the others each learn a bigram of a text of their own by gradient descent; all of them
have a live stream, and ask for a screen's numbers every second or so. With the node_modules of check_page.mjs in FOLDER, three more
clients are browsers that go from screen to screen. Prints the median and the 99th percentile of the answers, those of the first
tenth of the time by themselves, the memory of the server over the time, and every error; fails where the median is above 200 ms or
an answer was an error.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True, type=pathlib.Path)
parser.add_argument("--clients", type=int, default=30)
parser.add_argument("--seconds", type=float, default=300)
parser.add_argument("--modules", type=pathlib.Path)
arguments = parser.parse_args()

folder = tempfile.TemporaryDirectory()
program = str(arguments.program.resolve())
server = subprocess.Popen([program, "serve"], cwd=folder.name, stdout=subprocess.PIPE, text=True)
address = server.stdout.readline().strip()
# Until then every client's own text is counted for the first time.
counted = time.monotonic() + arguments.seconds / 10
end = time.monotonic() + arguments.seconds
first, times, events, errors, memory = [], [], [0], [], []
lock = threading.Lock()


def ask(path, body=None, timed=True):
    started = time.monotonic()
    request = urllib.request.Request(address + "api/" + path, data=body)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read())
    except Exception as error:  # every kind of failure is one
        with lock:
            errors.append(f"{path}: {error}")
        return {}
    if timed:
        with lock:
            now = time.monotonic()
            (first if now < counted else times).append(now - started)
    return found


def stream(path):
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address + "api/" + path, timeout=60) as lines:
                for line in lines:
                    if line.startswith(b"data: "):
                        json.loads(line[6:])
                        with lock:
                            events[0] += 1
                    if time.monotonic() > end:
                        return
        except Exception as error:
            with lock:
                errors.append(f"{path}: {error}")
            return


def client(number, shared):
    rng = random.Random(number)
    words = ["the", "cat", "dog", "sees", "likes", "river", "hill", "and", "small", f"name{number}"]
    text = "\n".join(" ".join(rng.choices(words, k=8)) for _ in range(400))
    text_id = ask(f"texts?name=own{number}", text.encode(), timed=False).get("id", "stories")
    live = f"runs/live?names={shared}" if number % 2 else f"descent/live?text={urllib.parse.quote(text_id)}&lr=5"
    threading.Thread(target=stream, args=(live,), daemon=True).start()
    paths = [
        lambda: f"grid?text={text_id}&smoothing=add_k&k={rng.choice([0.01, 0.1, 1, 3])}",
        lambda: f"step?text={text_id}&written=the+cat&model=5gram",
        lambda: f"surprise?text={text_id}&written=the+small+dog+sees&models=bigram,5gram",
        lambda: f"grid/sample?text={text_id}&seed={rng.randrange(1000)}",
        lambda: "runs",
        lambda: f"descent?text={text_id}&steps=50",
    ]
    while time.monotonic() < end:
        ask(rng.choice(paths)())
        time.sleep(rng.uniform(0.5, 1.5))


shared = ask("runs", timed=False)[0]["name"]
threads = [threading.Thread(target=client, args=(number, shared), daemon=True) for number in range(arguments.clients)]
for thread in threads:
    thread.start()
browsers = []
if arguments.modules:
    check = str(pathlib.Path(__file__).with_name("check_page.mjs"))
    command = ["node", check, "--address", address, "--modules", str(arguments.modules), "--seconds", str(arguments.seconds)]
    browsers = [subprocess.Popen(command) for _ in range(3)]
while time.monotonic() < end:
    time.sleep(min(10, max(0.1, end - time.monotonic())))
    with open(f"/proc/{server.pid}/status", encoding="utf-8") as status:
        memory.append(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS")))
for thread in threads:
    thread.join(timeout=70)
for browser in browsers:
    if browser.wait(timeout=120) != 0:
        errors.append("a browser has found an error")
server.terminate()
server.wait(timeout=60)


def said(times):
    times.sort()
    late = times[int(0.99 * (len(times) - 1))]
    return f"median {1000 * statistics.median(times):.1f} ms, 99th percentile {1000 * late:.0f} ms, longest {1000 * times[-1]:.0f} ms"


median = statistics.median(first + times)
print(f"{arguments.clients} clients and {len(browsers)} browsers, {arguments.seconds:.0f} s, {os.cpu_count()} cores: {len(first + times)} answers, {events[0]} live events")
print(f"the first tenth, in which all texts are counted: {said(first)}\nlater: {said(times)}")
print(f"memory {memory} MB, {len(errors)} errors {sorted(set(errors))[:5]}")
sys.exit(1 if errors or median > 0.2 else 0)
