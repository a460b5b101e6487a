#!/usr/bin/env python3
"""Counting in bounded memory: time, peak memory and temporary disk for texts of several sizes, beside lmplz where there is one.

    cargo build --release
    scripts/bench_memory.py [--lmplz FILE] [--memory 1G] [--sizes 0.25 0.5 1 2] [--rounds 1] [--work DIR]

The text is made here, from a seed: sentences of a small grammar whose words are drawn by Zipf's law, and of which every other one
says again what was said before, so that the number of different n-grams grows with the text as it does in real text. Programs
alternate; a round is one run of each. Prints one JSON line a measurement, then a Markdown table of medians. Time and memory are
the kernel's for the process (wait4); the disk is the largest sum of sizes in the folder of temporary files, looked at ten times a
second. With --check, the file is compared with that of counting in memory. `bench_memory.py --text FILE --bytes N` only writes the
text. Needs Python alone.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The words of each class (determiners, nouns, adjectives, verbs, prepositions, adverbs): how many, and Zipf's exponent.
CLASSES = {"D": (12, 0.8), "N": (60000, 1.05), "A": (20000, 1.0), "V": (15000, 1.0), "P": (30, 0.9), "R": (3000, 1.0)}
# A sentence is a sequence of classes; the first are the most frequent.
SENTENCES = ["DNVDN", "DANVDN", "DNVPDN", "DNRVDAN", "DANVPDAN", "DNVDNPDN", "NVRDN", "DNPDNVDAN", "RDNVDN", "DAANVRPDN"]
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in ("a", "e", "i", "o", "u", "ai", "ou")]


def word(number):
    """The word of a number: its digits are syllables."""
    spelled = ""
    while True:
        spelled += SYLLABLES[number % len(SYLLABLES)]
        number //= len(SYLLABLES)
        if number == 0:
            return spelled


def zipf(count, exponent, shift=2.7):
    """Cumulative weights of Zipf and Mandelbrot's law."""
    sums, total = [], 0.0
    for rank in range(count):
        total += 1.0 / (rank + shift) ** exponent
        sums.append(total)
    return sums


def write_text(path, size, seed=1):
    """Writes about `size` bytes. The text of a smaller size is the start of that of a larger one."""
    chance = random.Random(seed)
    words, first = {}, 0
    for name, (count, exponent) in CLASSES.items():
        words[name] = ([word(first + i) for i in range(count)], zipf(count, exponent))
        first += count
    weights = zipf(len(SENTENCES), 1.0, 1.0)

    def sentences(count):
        kinds = chance.choices(SENTENCES, cum_weights=weights, k=count)
        needed = {name: sum(kind.count(name) for kind in kinds) for name in CLASSES}
        drawn = {name: iter(chance.choices(words[name][0], cum_weights=words[name][1], k=needed[name])) for name in CLASSES}
        return [" ".join(next(drawn[name]) for name in kind) for kind in kinds]

    said, ranks = sentences(200_000), zipf(200_000, 0.9, 5.0)
    with open(path, "wb") as out:
        while out.tell() < size:
            new, again = sentences(20_000), chance.choices(said, cum_weights=ranks, k=10_000)
            lines = []
            for i, old in enumerate(again):
                rest = new[2 * i + 1] if i % 3 == 0 else ""
                lines.append(f"{new[2 * i]}{' , ' + old if i % 2 else ' . '}{rest}\n")
            out.write("".join(lines).encode())


def disk(folder):
    """The bytes of the files in a folder, of which some may be gone by now."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def open_files(process):
    """The bytes of files without a name that the process has open: lmplz removes its own at once."""
    total, seen = 0, set()
    try:
        for name in os.listdir(f"/proc/{process}/fd"):
            path = f"/proc/{process}/fd/{name}"
            if os.readlink(path).endswith("(deleted)"):
                state = os.stat(path)
                if state.st_ino not in seen:
                    seen.add(state.st_ino)
                    total += state.st_blocks * 512
    except (FileNotFoundError, PermissionError):
        pass
    return total


def measure(command, text, out, temp):
    """Seconds, peak memory in bytes and temporary bytes of one run."""
    os.makedirs(temp, exist_ok=True)
    most, ended = [0], threading.Event()
    started = time.monotonic()
    with open(text, "rb") as source, open(out if command[0].endswith("lmplz") else os.devnull, "wb") as target:
        process = subprocess.Popen(command, stdin=source, stdout=target, stderr=subprocess.DEVNULL)

    def look():
        while not ended.wait(0.1):
            most[0] = max(most[0], disk(temp) + open_files(process.pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    ended.set()
    watcher.join()
    if status != 0:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return {"seconds": round(seconds, 2), "peak": usage.ru_maxrss * 1024, "disk": most[0], "file": os.path.getsize(out)}


def same(one, other):
    """Whether two files have the same bytes."""
    with open(one, "rb") as a, open(other, "rb") as b:
        while True:
            left, right = a.read(1 << 20), b.read(1 << 20)
            if left != right:
                return False
            if not left:
                return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surprisal", default=os.path.join(ROOT, "target/release/surprisal"))
    parser.add_argument("--lmplz", help="KenLM's lmplz, built with its defaults")
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--order", default="5")
    parser.add_argument("--sizes", nargs="+", type=float, default=[0.25, 0.5, 1, 2], help="in GB")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--work", help="a folder on a disk with room for the text, the temporary files and two models")
    parser.add_argument("--check", action="store_true", help="compare with the file of counting in memory")
    parser.add_argument("--text", help="only write the text to this file")
    parser.add_argument("--bytes", type=float, default=4e8)
    arguments = parser.parse_args()
    if arguments.text:
        write_text(arguments.text, int(arguments.bytes))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        text, out, temp = (os.path.join(work, name) for name in ("text.txt", "model.arpa", "temp"))
        for size in arguments.sizes:
            write_text(text, int(size * 1e9))
            programs = {
                "surprisal": [
                    arguments.surprisal, "count", text, "--order", arguments.order, "--threads", arguments.threads,
                    "--memory", arguments.memory, "--temp", temp, "--out", out,
                ],
            }
            if arguments.lmplz:
                programs["lmplz"] = [
                    arguments.lmplz, "-o", arguments.order, "-S", arguments.memory, "-T", temp + "/", "--discount_fallback",
                ]
            found = {name: [] for name in programs}
            for _ in range(arguments.rounds):
                for name, command in programs.items():
                    found[name].append(measure(command, text, out, temp))
                    print(json.dumps({"size": size, "program": name, **found[name][-1]}), flush=True)
                    if arguments.check and name == "surprisal":
                        memory = os.path.join(work, "memory.arpa")
                        at = programs[name].index("--memory")
                        subprocess.run([*programs[name][:at], "--out", memory], check=True, stderr=subprocess.DEVNULL)
                        if not same(out, memory):
                            sys.exit("other bytes than in memory")
                        os.remove(memory)
                    os.remove(out)
                    shutil.rmtree(temp, ignore_errors=True)
            rows.append((size, {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}))
    print(f"\nOrder {arguments.order}, --memory {arguments.memory}, {arguments.threads} threads\n")
    print("| text | program | time | peak memory | temporary disk | ARPA file | time beside lmplz |")
    print("|---|---|---|---|---|---|---|")
    for size, programs in rows:
        for name, run in programs.items():
            ratio = f"{run['seconds'] / programs['lmplz']['seconds']:.2f}" if "lmplz" in programs else ""
            print(
                f"| {size:g} GB | {name} | {run['seconds']:.1f} s | {run['peak'] / 2**20:.0f} MiB | {run['disk'] / 2**20:.0f} MiB "
                f"| {run['file'] / 1e9:.2f} GB | {ratio} |"
            )


if __name__ == "__main__":
    main()
