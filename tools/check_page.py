"""Uses the page of `quarry serve` in headless Chromium (see tools/check-page)."""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

from playwright.sync_api import expect, sync_playwright

from browser import Opened, check

HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'>\u202eevil\u2066" + "x" * 2000


@contextlib.contextmanager
def server(program, *arguments):
    """The address of a server of the bundled model."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [program, "serve", "--port", "0", "--data", folder, "--context", "4096", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait()


def fill(page, **values):
    for name, value in values.items():
        page.fill(f"#input-{name}", str(value))


def run(page, status="succeeded"):
    page.click("#inputs .main")
    expect(page.locator("#status")).to_have_text(status, timeout=60000)


def check_run(page):
    fill(page, prompt="Name a stone.", max_tokens=40, seed=5, temperature=0.7)
    run(page)
    first = page.locator("#output").inner_text()
    check(first.strip(), "there is output")
    expect(page.locator("#speed")).to_contain_text("tokens/s")
    page.click("summary:has-text('Prediction as JSON')")
    prediction = json.loads(page.locator("#prediction").inner_text())
    check("".join(prediction["output"]) == page.evaluate("document.getElementById('output').textContent"),
          "the output is that of the prediction")
    check(prediction["input"]["seed"] == 5, "inputs arrive as they are")
    run(page)
    check(page.locator("#output").inner_text() == first, "the same seed says the same")


def check_cancel(page):
    page.click("#reset")
    fill(page, prompt="Tell me everything.", max_tokens=3900, min_tokens=3900)
    # The bundled model would be done before a driver could click.
    page.evaluate("""() => {
      const observer = new MutationObserver(() => {
        if (!document.getElementById("output").textContent) return;
        observer.disconnect();
        document.getElementById("cancel").click();
      });
      observer.observe(document.getElementById("output"), {childList: true});
    }""")
    page.click("#inputs .main")
    expect(page.locator("#status")).to_have_text("canceled", timeout=10000)
    expect(page.locator("#inputs .main")).to_be_enabled()


def check_errors(page):
    page.click("#reset")
    fill(page, messages="[{")
    page.click("#inputs .main")
    expect(page.locator("#notice")).to_contain_text("messages")
    expect(page.locator("#input-messages")).to_be_focused()
    page.click("#reset")
    fill(page, prompt="x", temperature=-1)
    page.click("#inputs .main")
    expect(page.locator("#notice")).to_contain_text("temperature")


def check_code_and_list(page):
    page.click("#reset")
    fill(page, prompt="It's \"quoted\"")
    page.click("summary:has-text('The same call as code')")
    for language in ["curl", "Python", "JavaScript", "Swift"]:
        page.click(f"#languages button:has-text('{language}')")
        expect(page.locator("#code")).to_contain_text("quoted")
    page.click("#languages button:has-text('curl')")
    done = subprocess.run(["bash", "-c", page.locator("#code").inner_text()], capture_output=True, text=True)
    check(json.loads(done.stdout)["input"]["prompt"] == "It's \"quoted\"", "the curl call works")
    page.click("summary:has-text('Earlier predictions')")
    expect(page.locator("#predictions li").first).to_be_visible()
    page.locator("#predictions button", has_text="Name a stone").first.click()
    expect(page.locator("#status")).to_have_text("succeeded")
    check(page.input_value("#input-prompt") == "Name a stone.", "an earlier prediction fills the form")


def check_link(browser, page):
    """The address that a prediction has for people shows it."""
    prediction = json.loads(page.locator("#prediction").inner_text())
    with Opened(browser, prediction["urls"]["web"]) as opened:
        expect(opened.page.locator("#prediction-id")).to_have_text(prediction["id"])
        check(opened.page.input_value("#input-prompt") == prediction["input"]["prompt"], "a link to a prediction")


def check_hostile(page):
    """A prompt that says what no page should believe, shown wherever the page shows it."""
    page.click("#reset")
    fill(page, prompt=HOSTILE, max_tokens=5)
    run(page)
    page.route("**/stream*", lambda route: route.fulfill(
        content_type="text/event-stream",
        body="event: output\nid: 1\ndata: " + HOSTILE + "\n\nevent: done\nid: 2\ndata: {}\n\n"))
    run(page)
    check(HOSTILE in page.evaluate("document.getElementById('output').textContent"), "it is shown as text")
    check(page.locator("#output script, #output img").count() == 0, "it is no markup")
    check(page.evaluate("window.hit") is None, "it does not run")
    check(page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "lines break")
    page.unroute("**/stream*")


def check_chat(page):
    page.click("#tab-chat")
    for turn in ["Hello!", "And again?"]:
        page.fill("#message", turn)
        page.press("#message", "Control+Enter")
        expect(page.locator("#chat-stop")).to_be_disabled(timeout=60000)
        expect(page.locator("#messages .assistant .text").last).not_to_be_empty()
    check(page.locator("#messages li").count() == 4, "turns of a chat")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        content_type="text/event-stream", body="".join(
            f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n"
            for delta in [
                {"role": "assistant", "reasoning_content": "Hm."}, {"content": HOSTILE},
                {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "weather", "arguments": "{}"}}]},
            ]) + "data: [DONE]\n\n"))
    page.fill("#message", "Once more")
    page.press("#message", "Control+Enter")
    last = page.locator("#messages .assistant").last
    expect(last.locator("pre")).to_have_text("weather {}")
    check(last.locator("details .text").evaluate("e => e.textContent") == "Hm.", "thoughts are folded")
    check(last.locator("script, img").count() == 0 and page.evaluate("window.hit") is None, "text is text")
    page.unroute("**/v1/chat/completions")
    page.click("#chat-new")
    check(page.locator("#messages li").count() == 0, "a new chat is empty")


def check_model(page):
    page.focus("#tab-chat")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#model")).to_be_visible()
    listing = page.evaluate("fetch('/inspect').then(answer => answer.json())")
    marks = [t for t in listing["tensors"] if t["layer"] is not None and t["nmse"]]
    expect(page.locator("#errors circle")).to_have_count(len(marks))
    expect(page.locator("#roles tbody tr")).to_have_count(len(listing["roles"]))


def check_key(browser, program):
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("secret\n")
        keys.flush()
        with server(program, "--api-key-file", keys.name) as address:
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            page.fill("#key", "secret")
            page.press("#key", "Enter")
            expect(page.locator("#input-prompt")).to_be_visible()
            context.close()


def main():
    chromium, program = sys.argv[1:3]
    pictures = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with sync_playwright() as playwright, server(program) as address:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def picture(page, name):
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=pictures / f"{name}.png", full_page=True)

        with Opened(browser, address) as opened:
            page = opened.page
            expect(page.locator("#input-prompt")).to_be_visible(timeout=60000)
            for part in [check_run, check_cancel]:
                part(page)
            picture(page, "run")
            check_errors(page)
            # The browser itself notes answers that are errors: of the model that loads, of a wrong input.
            noted = [text for text in opened.errors if "503" not in text and "422" not in text]
            check(not noted, f"console: {noted}")
            opened.errors.clear()
            check_code_and_list(page)
            check_link(browser, page)
            check_hostile(page)
            picture(page, "hostile")
            check_chat(page)
            check_model(page)
            picture(page, "model")
        for name, options in {
            "dark": {"color_scheme": "dark"},
            "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
        }.items():
            with Opened(browser, address, **options) as opened:
                page = opened.page
                expect(page.locator("#input-prompt")).to_be_visible(timeout=60000)
                for view in ["run", "chat", "model"]:
                    page.click(f"#tab-{view}")
                    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
                    check(not wide, f"{view} is wider than the window ({name})")
                    picture(page, f"{view}-{name}")
        check_key(browser, program)
        browser.close()
    print("check-page: passed")


main()
