"""Opens reports in a real headless browser and checks what they promise. Needs `pip install playwright` and a Chromium.

    python scripts/check_report.py FOLDER/report.html ... [--shots FOLDER] [--chromium /usr/bin/chromium]

No error on the console, no request but the file itself, under 3 MB, no sideways scrolling of the page, figures that fit and can be
read, tables that are whole on a desktop, that stand under their headings and sort, tooltips on the coloured text by mouse and by
keyboard, readable without scripts, printable on few pages. With --shots it leaves pictures of both themes at
phone and desktop width, to be looked at.
"""

import argparse
import pathlib
import re

from playwright.sync_api import sync_playwright

parser = argparse.ArgumentParser()
parser.add_argument("reports", nargs="+", type=pathlib.Path)
parser.add_argument("--shots", type=pathlib.Path)
parser.add_argument("--chromium", default="/usr/bin/chromium")
arguments = parser.parse_args()


def sorts(page):
    """Clicks every heading of every table twice and looks at the order."""
    tables = page.locator("table.sortable")
    for t in range(tables.count()):
        table = tables.nth(t)
        heads = table.locator("th button")
        assert heads.count() > 1, "headings are buttons"
        for column in range(heads.count()):
            for direction in ["ascending", "descending"]:
                heads.nth(column).click()
                assert table.locator("th").nth(column).get_attribute("aria-sort") == direction
                cells = table.locator(f"tbody tr td:nth-child({column + 1})")
                values = [float(v) for v in cells.evaluate_all("all => all.map(c => c.dataset.value).filter(v => v)")]
                assert values == sorted(values, reverse=direction == "descending"), (column, direction, values)
        page.keyboard.press("Tab")


def tooltips(page):
    heats = page.locator(".heat")
    assert heats.count() >= 1, "a passage is coloured"
    tip = page.locator("#tip")
    for h in range(heats.count()):
        spans = heats.nth(h).locator("span")
        assert spans.count() > 100, spans.count()
        for i in [0, 7, spans.count() // 2]:
            span = spans.nth(i)
            span.scroll_into_view_if_needed()
            span.hover()
            assert tip.is_visible() and ("nats" in tip.inner_text() or "probability zero" in tip.inner_text()), tip.inner_text()
            box, view = tip.bounding_box(), page.viewport_size
            assert box["x"] >= 0 and box["x"] + box["width"] <= view["width"] + 1, (box, view)
        before = tip.inner_text()
        heats.nth(h).focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert tip.is_visible() and tip.inner_text() != before, "arrows move the tooltip"
        page.keyboard.press("Escape")
        assert tip.is_hidden()


def fits(page, width):
    """Every figure that is shown is shown whole, in letters of nine pixels or more; tables are cut on a phone alone."""
    figures = page.locator("figure svg:visible")
    assert figures.count() >= 2
    for i in range(figures.count()):
        cut, letters = figures.nth(i).evaluate(
            """svg => {
                const [own, outer] = [svg.getBoundingClientRect(), svg.closest("figure").getBoundingClientRect()];
                const texts = [...svg.querySelectorAll("text")].map(text => text.getBoundingClientRect());
                const scale = own.width / svg.viewBox.baseVal.width;
                const sizes = [...svg.querySelectorAll("text")].map(text => parseFloat(getComputedStyle(text).fontSize) * scale);
                const cut = own.right > outer.right + 1 || texts.some(box => box.left < own.left - 1 || box.right > own.right + 1);
                return [cut, Math.min(...sizes)];
            }"""
        )
        assert not cut and letters >= 9, (i, cut, letters)
    for i in range(page.locator(".scroll").count()):
        hidden = page.locator(".scroll").nth(i).evaluate("box => box.scrollWidth - box.clientWidth")
        assert width < 1000 or hidden <= 0, f"table {i} is cut by {hidden} pixels"
        columns = page.locator(".scroll").nth(i).evaluate(
            """box => [...box.querySelectorAll("th")].map((head, column) =>
                [head, box.querySelector(`tbody tr td:nth-child(${column + 1})`)].map(cell => getComputedStyle(cell).textAlign))"""
        )
        assert all(head == cell for head, cell in columns), columns


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
    for report in arguments.reports:
        report = report.resolve()
        size = report.stat().st_size
        assert size < 3_000_000, f"{report} has {size} bytes"
        url = report.as_uri()
        for theme in ["light", "dark"]:
            for name, width, height in [("desktop", 1280, 900), ("phone", 390, 844)]:
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
                page = context.new_page()
                said, asked = [], []
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.on("request", lambda request: asked.append(request.url))
                page.goto(url)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
                ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
                light = sum(map(int, paper[4:-1].split(",")[:3])) > 382
                assert light == (theme == "light"), (theme, paper)
                assert page.locator("h1").count() == 1
                fits(page, width)
                if arguments.shots:
                    arguments.shots.mkdir(parents=True, exist_ok=True)
                    stem = f"{report.parent.name}-{theme}-{name}.png"
                    page.screenshot(path=arguments.shots / stem, full_page=True)
                sorts(page)
                tooltips(page)
                assert not said, said
                assert [u for u in asked if u != url and not u.startswith("data:")] == [], asked
                context.close()
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(url)
        assert "nats per token" in page.inner_text("main")
        assert page.locator(".heat span").first.get_attribute("title"), "tooltips without scripts are titles"
        page.emulate_media(media="print")
        printed = page.pdf(print_background=True)
        assert printed.startswith(b"%PDF")
        pages, variants = len(re.findall(rb"/Type\s*/Page\b", printed)), page.locator(".calibration").count()
        assert 0 < pages <= 6 + variants / 3, f"{pages} pages for {variants} models"
        context.close()
        print(f"{report}: {size:,} bytes, {pages} pages printed, all checks passed")
    browser.close()
