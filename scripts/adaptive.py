#!/usr/bin/env python3
"""Adaptive evaluation and compression beside zpaq -m5, xz, zstd and gzip, on texts of one's own.

For each text: nats per character of its last tenth, read after the rest, by a model that learns while it reads, alone
and (with --network BUDGET) beside a network that was trained for so long on the rest; zpaq's figure is the size of
both parts minus the size of the first. Then the sizes and times of the last tenth alone, both ways.

    scripts/adaptive.py TEXT... [--program target/release/surprisal] [--network 140s] [--seeds 1,2,3]
"""
import argparse, json, math, os, pathlib, shutil, subprocess, tempfile, time


def timed(*command):
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    return time.perf_counter() - start, done.stdout


def zpaq(file, archive, folder):
    archive.unlink(missing_ok=True)
    seconds, _ = timed("zpaq", "add", archive, file, "-method", "5", "-threads", "1")
    back = folder / "back"
    undone, _ = timed("zpaq", "extract", archive, "-to", back, "-force", "-threads", "1")
    return archive.stat().st_size, seconds, undone


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+", type=pathlib.Path)
    parser.add_argument("--program", default=pathlib.Path(__file__).parent.parent / "target/release/surprisal")
    parser.add_argument("--network", metavar="BUDGET")
    parser.add_argument("--seeds", default="1")
    given = parser.parse_args()
    config = pathlib.Path(__file__).parent.parent / "configs/shakespeare_speedrun.toml"
    has_zpaq = shutil.which("zpaq")
    for text in given.texts:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            whole = text.read_text()
            cut = int(0.9 * len(whole))
            parts = {"rest": whole[:cut], "both": whole, "last": whole[cut:]}
            for part, content in parts.items():
                (folder / part).write_text(content)
            characters = len(whole) - cut

            def run(*arguments):
                seconds, out = timed(given.program, *arguments, "--json", "--quiet")
                return seconds, json.loads(out.splitlines()[-1])

            print(f"\n## {text.name}: {characters:,} characters after {cut:,}\n")
            print("| adaptive | nats per character | seconds |\n|---|---|---|")
            run("train", folder / "both", "--set", "model.kind=uniform", "--out", folder / "none")
            seconds, result = run("eval", folder / "none", "--adapt", "--adapt-on-train")
            print(f"| no network | {result['eval']['nats_per_token']:.4f} | {seconds:.1f} |", flush=True)
            for seed in given.seeds.split(",") if given.network else []:
                net = folder / f"net{seed}"
                run("train", config, folder / "both", "--budget", given.network, "--set", f"train.seed={seed}", "--out", net)
                frozen, alone = run("eval", net)
                seconds, result = run("eval", net, "--adapt", "--adapt-on-train")
                own = f"(the network alone, frozen, {alone['eval']['nats_per_token']:.4f})"
                nats = result["eval"]["nats_per_token"]
                print(f"| network, seed {seed} {own} | {nats:.4f} | {seconds:.1f} |", flush=True)
            if has_zpaq:
                # zpaq chooses its model by the power of two below the size: both parts are put above the same one.
                length = (folder / "rest").stat().st_size
                above = 1 << length.bit_length()
                noise = os.urandom(above - length if (folder / "both").stat().st_size >= above else 0)
                for part in ("rest", "both"):
                    (folder / part).write_bytes(noise + (folder / part).read_bytes())
                sizes = [zpaq(folder / part, folder / f"{part}.zpaq", folder) for part in ("rest", "both")]
                nats = (sizes[1][0] - sizes[0][0]) * 8 * math.log(2) / characters
                print(f"| zpaq -m5 | {nats:.4f} | {sizes[1][1]:.1f} |")
            print("\n| the last tenth alone | bytes | seconds | seconds back |\n|---|---|---|---|")
            last, out = folder / "last", folder / "last.sz"
            seconds, result = run("compress", last, "--out", out)
            undone, _ = run("decompress", out, "--out", folder / "again")
            assert (folder / "again").read_bytes() == last.read_bytes()
            print(f"| surprisal | {result['compressed_bytes']:,} | {seconds:.1f} | {undone:.1f} |")
            if has_zpaq:
                size, seconds, undone = zpaq(last, folder / "last.zpaq", folder)
                print(f"| zpaq -m5 | {size:,} | {seconds:.1f} | {undone:.1f} |")
            for other, size in result["others"].items():
                print(f"| {other} | {size:,} | | |")


main()
