"""Makes the pictures of README.md from real runs: data/pictures/report.png and data/pictures/terminal.svg.

    cargo build --release && python scripts/pictures.py [--program target/release/surprisal] [--work FOLDER] [--chromium PROGRAM]

The first is a part of the report of configs/compare_ngram_to_neural.toml, one seed, as a browser shows it at 1000 pixels; the
second what `surprisal train` prints, drawn as text. Both are of the embedded stories: about four minutes on two cores. With --work
the runs are kept, and finished ones are not made again.

Neither shows a time, so both are the same whenever they are made, but for the fonts of the report.

Needs `pip install playwright pillow` and a Chromium: the one of --chromium, else a `chromium`, `chromium-browser` or `google-chrome` on
the path, else the one that `playwright install chromium` has brought.
"""

import argparse
import html
import io
import pathlib
import re
import shutil
import subprocess
import tempfile

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = ROOT / "data" / "pictures"
MOST_BYTES = 80_000

# Of the terminal's picture: its width; pixels a character, a line and around them; colours.
COLUMNS = 132
ACROSS, DOWN, AROUND = 7.2, 17, 14
PAPER, INK, SOFT, GOOD, BRIGHT = "#14181d", "#d5dae0", "#8b96a2", "#5fc98a", "#6cb2f5"
# A line that begins or ends so, and its colour.
COLOURS = [
    (r"\$ ", BRIGHT),
    (r"baseline |\s*epoch ", SOFT),
    (r".* best$", GOOD),
    (r"validation: |\s+= H\(p\)", BRIGHT),
]


def colour(line):
    return next((colour for pattern, colour in COLOURS if re.match(pattern, line)), INK)


def drawn(lines):
    """Lines of a terminal as SVG; each has the width of its characters, whichever font there is."""
    width = AROUND * 2 + ACROSS * max(map(len, lines))
    height = AROUND * 2 + DOWN * len(lines)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
        ' font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="12">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
    ]
    for index, line in enumerate(lines):
        if line.strip():
            svg.append(
                f'<text x="{AROUND}" y="{AROUND + DOWN * index + 12}" fill="{colour(line)}" xml:space="preserve"'
                f' textLength="{ACROSS * len(line):.1f}" lengthAdjust="spacingAndGlyphs">{html.escape(line, quote=False)}</text>'
            )
    return "\n".join([*svg, "</svg>", ""])


def terminal(program, work):
    """What the shortest of all commands prints, up to its last number; the run is made anew each time."""
    shutil.rmtree(work / "train", ignore_errors=True)
    (work / "train").mkdir(parents=True)
    ran = subprocess.run(
        [program, "train"], cwd=work / "train", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=True
    )
    lines = ran.stdout.split("\n")
    last = max(index for index, line in enumerate(lines) if re.match(r"\s+= H\(p\)", line))
    # As a terminal of so many columns wraps them.
    wrapped = [line[at : at + COLUMNS] for line in lines[: last + 1] for at in range(0, max(len(line), 1), COLUMNS)]
    return drawn(["$ surprisal train", *wrapped])


def report(program, work, chromium):
    """The loss of every variant, and what it is made of."""
    config = ROOT / "configs" / "compare_ngram_to_neural.toml"
    subprocess.run([program, "compare", config, "--seeds", "1", "--out", work / "ladder", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.goto((work / "ladder" / "report.html").as_uri())
        first, last = page.locator("figure").first.bounding_box(), page.locator("#parts").bounding_box()
        clip = {"x": 0, "y": first["y"] - 16, "width": 1000, "height": last["y"] + last["height"] - first["y"] + 32}
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
        browser.close()
    small = io.BytesIO()
    picture.convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target" / "release" / "surprisal")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--chromium", default=next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None))
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or pathlib.Path(temporary)).resolve()
        made = {"report.png": report(program, work, arguments.chromium), "terminal.svg": terminal(program, work).encode()}
    for name, picture in made.items():
        assert len(picture) < MOST_BYTES, f"{name} has {len(picture):,} bytes"
        (PICTURES / name).write_bytes(picture)
        print(f"{PICTURES / name}: {len(picture):,} bytes")


if __name__ == "__main__":
    main()
