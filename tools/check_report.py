"""Looks at the pages of `quarry inspect --html` in headless Chromium (see tools/check-report)."""

import json
import pathlib
import subprocess
import sys
import tempfile

from playwright.sync_api import sync_playwright

from browser import Opened, check

ROOT = pathlib.Path(__file__).resolve().parent.parent


def names(page):
    return page.locator("#tensors tbody tr:not(.detail):visible th").all_inner_texts()


def marks(page, chart):
    return page.locator(f"#{chart} .mark").count()


def check_charts(page, report):
    tensors = report["tensors"]
    sized = {(t["role"], t["layer"]) for t in tensors if t["logical_bytes"]}
    check(marks(page, "treemap") == len(sized), "marks of the treemap")
    erring = [
        t for t in tensors
        if t["error"] and t["layer"] is not None and t["role"] not in ("norm", "bias", "other", "column-scales")
    ]
    check(marks(page, "error-nmse") == len(erring), "marks of the errors")
    check(marks(page, "error-cosine") == len(erring), "marks of the cosines")
    weighted = [t for t in erring if t["error"].get("weighted_error") is not None]
    check(marks(page, "error-weighted") == len(weighted), "marks of the weighted errors")
    drawn = {
        (r["file"], r["kind"], r["name"]) for r in report["layout"]["regions"]
        if r["kind"] != "padding" and r["bytes"]
    }
    check(page.locator("[id^=bytes-] .mark").count() == len(drawn), "marks of the byte map")
    page.locator("#treemap .mark").first.focus()
    page.keyboard.press("End")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    check(label and page.locator("#treemap .readout").inner_text() == label, "keys in a chart")


def check_table(page, report):
    tensors = report["tensors"]
    check(len(names(page)) == len(tensors), "rows of the table")
    header = page.locator("#tensors thead th", has_text="size").first
    sizes = "[...document.querySelectorAll('#tensors tbody tr td:nth-child(7)')].map(c => +c.dataset.v)"
    expected = sorted(t["logical_bytes"] for t in tensors)
    header.locator("button").press("Enter")
    check(header.get_attribute("aria-sort") == "ascending", "aria-sort")
    check(page.evaluate(sizes) == expected, "ascending sizes")
    header.locator("button").click()
    check(header.get_attribute("aria-sort") == "descending", "aria-sort once more")
    check(page.evaluate(sizes) == expected[::-1], "descending sizes")
    role = tensors[0]["role"]
    page.select_option("#role", role)
    check(len(names(page)) == sum(t["role"] == role for t in tensors), "filter by role")
    page.select_option("#role", "")
    part = tensors[-1]["name"][-9:].upper()
    page.fill("#name", part)
    check(len(names(page)) == sum(part.lower() in t["name"].lower() for t in tensors), "filter by name")
    page.fill("#name", "")


def check_histogram(page, name, quantized):
    page.fill("#name", name)
    button = page.locator("#tensors tbody tr:visible th button").first
    check(page.locator(".histogram").count() == 0, "histograms before anybody asked")
    button.press("Enter")
    check(page.locator(".histogram").count() == (3 if quantized else 1), "histograms on demand")
    check(page.locator(".histogram").first.locator("rect").count() == 21, "bins of values")
    check(button.get_attribute("aria-expanded") == "true", "aria-expanded")
    button.press("Enter")
    check(page.locator(".histogram").count() == 0, "histograms that were closed")
    button.press("Enter")
    page.fill("#name", "")


def look(browser, quarry, model, page, tensor, pictures):
    run = lambda *options: subprocess.run(
        [quarry, "inspect", model, *options], check=True, capture_output=True, text=True).stdout
    run("--html", page)
    report = json.loads(run("--tensors", "--layout", "--json"))
    picture = lambda kind: str(pictures / f"{page.stem}-{kind}.png")
    with Opened(browser, page.as_uri(), viewport={"width": 1280, "height": 900}) as opened:
        light = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        check_charts(opened.page, report)
        check_table(opened.page, report)
        check_histogram(opened.page, tensor, report["kind"] == "slab")
        if pictures:
            opened.page.screenshot(path=picture("light"), full_page=True)
    with Opened(browser, page.as_uri(), viewport={"width": 1280, "height": 900}, color_scheme="dark") as opened:
        dark = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        check(light == "rgb(255, 255, 255)" and dark != light, f"schemes: {light}, {dark}")
        if pictures:
            opened.page.screenshot(path=picture("dark"), full_page=True)
    with Opened(browser, page.as_uri(), viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as opened:
        opened.page.locator("#tensors tbody th button").first.tap()
        width = opened.page.evaluate("document.documentElement.scrollWidth")
        check(width <= 390, f"the page is {width} wide on a phone of 390")
        if pictures:
            opened.page.screenshot(path=picture("phone"), full_page=True)
    print(f"{report['kind']}: {page.stat().st_size} bytes, {len(report['tensors'])} tensors")


def main(chromium, quarry, pictures=None):
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = pathlib.Path(folder)
        pebble = ROOT / "Sources/Pebble/Checkpoint"
        slab = folder / "pebble.slab"
        subprocess.run([quarry, "convert", pebble, "-o", slab], check=True, capture_output=True)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pictures = pictures and pathlib.Path(pictures)
        down = "model.layers.0.mlp.down_proj.weight"
        for model, tensor in [
            (slab, down), (pebble, down),
            (ROOT / "Tests/Goldens/gguf/tiny.gguf", "token_embd.weight"),
        ]:
            look(browser, quarry, model, folder / f"{model.name}.html", tensor, pictures)
        browser.close()


main(*sys.argv[1:])
