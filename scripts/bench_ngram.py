#!/usr/bin/env python3
"""N-gram models side by side with KenLM: alternating rounds on one machine, medians and ratios, wall time and memory.

    cargo build --release
    scripts/bench_ngram.py --kenlm DIR_OF_LMPLZ [--score TEXT] [--memory 80% --memory 1G] TEXT...

Measured: text to ARPA; text to a file that can be queried; scoring a text with it, whole process; sizes of the files,
exact and with 8-bit values. Prints one JSON line a measurement, then a Markdown table. lmplz takes its memory from -S,
not from the text: give it several, it is measured with each and the table has a row for each. Needs Python alone;
KenLM's programs are found in --kenlm or on PATH. Time and memory are the kernel's for each process (wait4): a
measurement of several processes has the sum of their times and the largest of their peaks.
"""
import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Every command that is measured. {…} are filled in; "<" and ">" give a step its standard input and output.
# A measurement is a list of steps, each a list of words.
COUNT = [
    "{surprisal}", "count", "{text}", "--order", "{order}", "--threads", "{threads}", "--literal-specials", "skip", "--out",
]
SURPRISAL = {
    "arpa": [[*COUNT, "{out}.arpa"]],
    "model": [[*COUNT, "{out}.ngram"]],
    "model8": [[*COUNT, "{out}.8.ngram", "--quantize", "8"]],
    "score": [["{surprisal}", "eval", "{out}.ngram", "{score}", "--json", ">", "{out}.score"]],
    "score8": [["{surprisal}", "eval", "{out}.8.ngram", "{score}", "--json", ">", "{out}.score8"]],
}
LMPLZ = [
    "{kenlm}lmplz", "-o", "{order}", "-S", "{memory}", "-T", "{work}", "--skip_symbols", "--discount_fallback",
    "<", "{text}", ">", "{out}.arpa",
]
KENLM = {
    "arpa": [LMPLZ],
    "model": [LMPLZ, ["{kenlm}build_binary", "-T", "{work}/", "trie", "{out}.arpa", "{out}.trie"]],
    "probing": [["{kenlm}build_binary", "probing", "{out}.arpa", "{out}.probing"]],
    "trie8": [["{kenlm}build_binary", "-q", "8", "-b", "8", "-T", "{work}/", "trie", "{out}.arpa", "{out}.8.trie"]],
    "score": [["{kenlm}query", "-v", "summary", "{out}.probing", "<", "{score}", ">", "{out}.score"]],
    "score_trie": [["{kenlm}query", "-v", "summary", "{out}.trie", "<", "{score}", ">", "{out}.score_trie"]],
    "score8": [["{kenlm}query", "-v", "summary", "{out}.8.trie", "<", "{score}", ">", "{out}.score8"]],
}
# What a score says of perplexity, out-of-vocabulary words included.
KENLM_PERPLEXITY = re.compile(r"Perplexity including OOVs:\s*(\S+)")


class Failed(Exception):
    """A command that did not end well."""


def run(steps, names):
    """Wall seconds, CPU seconds and peak bytes of a measurement."""
    wall = cpu = peak = 0
    for step in steps:
        words = [word.format(**names) for word in step]
        source = target = subprocess.DEVNULL
        if ">" in words:
            target = open(words[words.index(">") + 1], "wb")
            words = words[: words.index(">")]
        if "<" in words:
            source = open(words[words.index("<") + 1], "rb")
            words = words[: words.index("<")]
        with tempfile.TemporaryFile() as errors:
            start = time.perf_counter()
            try:
                process = subprocess.Popen(words, stdin=source, stdout=target, stderr=errors)
            except OSError as error:
                raise Failed(f"{words[0]}: {error}") from error
            _, status, usage = os.wait4(process.pid, 0)
            wall += time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        for file in (source, target):
            if file is not subprocess.DEVNULL:
                file.close()
        if process.returncode != 0:
            raise Failed(f"{' '.join(words)}: exit {process.returncode}: {' '.join(said[-3:])}")
        cpu += usage.ru_utime + usage.ru_stime
        # Kilobytes on Linux, bytes on macOS.
        peak = max(peak, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    return wall, cpu, peak


def tokens(path):
    """How many tokens a scoring has: words between KenLM's separators, and one end for each line."""
    words = lines = 0
    with open(path, "rb") as text:
        for line in text:
            words += sum(1 for word in re.split(rb"[\0\t\n\r ]+", line) if word)
            lines += 1
    return words + lines


def perplexity(path, theirs):
    """What the program wrote, or nothing if it says nothing that is understood."""
    try:
        with open(path, encoding="utf-8", errors="replace") as output:
            text = output.read()
        if theirs:
            return float(KENLM_PERPLEXITY.search(text).group(1))
        last = json.loads(text.strip().splitlines()[-1])
        return last.get("eval", last)["perplexity_including_oov"]
    except (OSError, ValueError, KeyError, IndexError, AttributeError):
        return None


class Bench:
    def __init__(self, arguments, work):
        self.arguments, self.work, self.rows = arguments, work, []

    def names(self, contender, text, memory=""):
        kenlm = os.path.join(self.arguments.kenlm, "") if self.arguments.kenlm else ""
        out = os.path.join(self.work, f"{os.path.basename(text)}.{contender}")
        return {
            "surprisal": self.arguments.surprisal, "kenlm": kenlm, "text": text, "out": out, "work": self.work,
            "memory": memory, "score": self.arguments.score or "", "order": self.arguments.order,
            "threads": self.arguments.threads,
        }

    def side_by_side(self, what, text, contenders, makes=(), extra=lambda name, median: {}):
        """Alternates the contenders, which make files that end so; the first is what the others are divided by. Gives the
        medians by name."""
        times = {name: [] for name, _, _ in contenders}
        for _ in range(self.arguments.rounds):
            for name, steps, names in contenders:
                if times[name] is None:
                    continue
                for end in makes:  # what replaces a file waits until it is on the disk; others do not
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(names["out"] + end)
                os.sync()  # nobody's time goes to what another one wrote
                try:
                    times[name].append(run(steps, names))
                except Failed as failure:
                    times[name] = None
                    print(f"{what}, {name}: left out: {failure}", file=sys.stderr)
        done, base = {}, None
        for name, _, _ in contenders:
            if not times[name]:
                continue
            wall, cpu, peak = (statistics.median(column) for column in zip(*times[name]))
            base = base or (name, wall, peak)
            row = {
                "case": what, "text": os.path.basename(text), "name": name, "rounds": len(times[name]),
                "wall_seconds": round(wall, 4), "wall_all": [round(t[0], 4) for t in times[name]],
                "cpu_seconds": round(cpu, 4), "peak_bytes": peak, "against": base[0],
                "wall_ratio": round(wall / base[1], 4), "memory_ratio": round(peak / base[2], 4), **extra(name, wall),
            }
            self.emit(row)
            done[name] = row
        return done

    def emit(self, row):
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def size(self, text, name, path, against=None):
        if os.path.exists(path):
            size = os.path.getsize(path)
            row = {"case": "size", "text": os.path.basename(text), "name": name, "file_bytes": size}
            if against:
                row.update(against=against[0], size_ratio=round(size / against[1], 4))
            self.emit(row)
            return name, size
        return against

    def text(self, text):
        for path in filter(None, (text, self.arguments.score)):
            with open(path, "rb") as file:  # into the page cache
                while file.read(1 << 24):
                    pass
        ours = self.names("surprisal", text)
        theirs = [(f"lmplz -S {m}", self.names("kenlm", text, m)) for m in self.arguments.memory]
        wanted = self.arguments.only
        if "arpa" in wanted:
            contenders = [(name, KENLM["arpa"], names) for name, names in theirs]
            self.side_by_side("arpa", text, contenders + [("surprisal", SURPRISAL["arpa"], ours)], [".arpa"])
        if "model" in wanted:
            contenders = [(f"{name} + build_binary trie", KENLM["model"], names) for name, names in theirs]
            contenders.append(("surprisal", SURPRISAL["model"], ours))
            self.side_by_side("model", text, contenders, [".arpa", ".trie", ".ngram"])
        if not {"score", "size"} & set(wanted):
            return
        kenlm = theirs[-1][1]
        have = lambda names, end: os.path.exists(names["out"] + end)
        for which, names, made, end in (
            (KENLM["arpa"], kenlm, "arpa", ".arpa"), (KENLM["model"][1:], kenlm, "trie", ".trie"),
            (KENLM["probing"], kenlm, "probing", ".probing"), (KENLM["trie8"], kenlm, "trie8", ".8.trie"),
            (SURPRISAL["model"], ours, "model", ".ngram"), (SURPRISAL["model8"], ours, "model8", ".8.ngram"),
        ):
            if not have(names, end):
                try:
                    run(which, names)
                except Failed as failure:
                    print(f"{made}: not made: {failure}", file=sys.stderr)
        if "size" in wanted:
            self.size(text, "probing", kenlm["out"] + ".probing")
            trie = self.size(text, "trie", kenlm["out"] + ".trie")
            for name, path in (
                ("trie, 8 bits", kenlm["out"] + ".8.trie"), ("surprisal", ours["out"] + ".ngram"),
                ("surprisal, 8 bits", ours["out"] + ".8.ngram"),
            ):
                self.size(text, name, path, trie)
        if "score" in wanted and self.arguments.score:
            count = tokens(self.arguments.score)

            def extra(name, wall):
                is_ours, bits8 = name.startswith("surprisal"), "8 bits" in name
                end = ".score8" if bits8 else ".score_trie" if name == "trie" else ".score"
                names = ours if is_ours else kenlm
                return {
                    "tokens": count, "tokens_per_second": round(count / wall),
                    "perplexity": perplexity(names["out"] + end, not is_ours),
                }

            self.side_by_side(
                "score", text,
                [("probing", KENLM["score"], kenlm), ("surprisal", SURPRISAL["score"], ours),
                 ("trie", KENLM["score_trie"], kenlm), ("trie, 8 bits", KENLM["score8"], kenlm),
                 ("surprisal, 8 bits", SURPRISAL["score8"], ours)],
                extra=extra,
            )

    def table(self):
        print("\n| text | case | program | wall, s | ratio | peak, MB | ratio | more |")
        print("|---|---|---|---:|---:|---:|---:|---|")
        for row in self.rows:
            more = []
            if "file_bytes" in row:
                more.append(f"{row['file_bytes'] / 1e6:.1f} MB")
            if "size_ratio" in row:
                more.append(f"{row['size_ratio']:.3f} of the {row['against']}")
            if "tokens_per_second" in row:
                more.append(f"{row['tokens_per_second'] / 1e6:.2f} M tokens/s")
            if row.get("perplexity") is not None:
                more.append(f"perplexity {row['perplexity']:.4f}")
            cell = lambda key, form: form.format(row[key]) if key in row else ""
            peak = f"{row['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in row else ""
            print(
                f"| {row['text']} | {row['case']} | {row['name']} | {cell('wall_seconds', '{:.2f}')} "
                f"| {cell('wall_ratio', '{:.3f}')} | {peak} | {cell('memory_ratio', '{:.3f}')} | {', '.join(more)} |"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    parser.add_argument("--kenlm", default="", help="the folder of lmplz, build_binary and query; default: PATH")
    parser.add_argument("--surprisal", default=os.path.join(ROOT, "target", "release", "surprisal"))
    parser.add_argument("--score", help="the text to score")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of surprisal; lmplz uses what it finds")
    parser.add_argument("--memory", action="append", help="lmplz -S, once or more; default: 80%%, its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="arpa,model,size,score", help="some of arpa,model,size,score")
    parser.add_argument("--work", help="a folder for the files; default: a temporary one")
    arguments = parser.parse_args()
    arguments.memory = arguments.memory or ["80%"]
    arguments.only = arguments.only.split(",")
    program = os.path.join(arguments.kenlm, "lmplz") if arguments.kenlm else "lmplz"
    if not shutil.which(program):
        parser.error(f"there is no {program}; build KenLM and name its folder with --kenlm")
    missing = [text for text in arguments.texts + [arguments.score] if text and not os.path.isfile(text)]
    if missing:
        parser.error(f"no such text: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="bench_ngram.", dir=arguments.work) as work:
        bench = Bench(arguments, work)
        for text in arguments.texts:
            bench.text(text)
        bench.table()


if __name__ == "__main__":
    main()
