"""The report in a browser: from the file system, without network, by mouse, keyboard and touch."""

import re

import pytest
from finished_run import PARAMETERS, write_run

from extracter.reporting.report.report import report

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run")
    run = write_run(folder, ("set14",))
    return report(**run, out=folder / "report", preset="demo", parameters=PARAMETERS).as_uri()


@pytest.fixture
def opened(page, address):
    """The report, opened without network; whatever it asks for beside its own file is an error."""
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.goto(address)
    yield page
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert [url for url in asked if url.startswith("file:")] == [address]


def test_every_picture_and_table_is_there(opened):
    opened.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    pictures = opened.locator("img").all()
    assert len(pictures) > 20
    for picture in pictures:
        if picture.evaluate("(img) => img.closest('.tip') === null"):
            assert picture.evaluate("(img) => img.complete && img.naturalWidth > 0")
            assert picture.get_attribute("alt")
    for drawing in opened.locator("[role=img]").all():
        assert re.search(r"\d", drawing.get_attribute("aria-label"))
        hidden = drawing.evaluate("(one) => one.closest('.drawn-by-script') !== null")
        assert (drawing.evaluate("(one) => one.getBoundingClientRect().height") > 20) != hidden
    for table in ("table1_metrics", "table2_parameters", "table2_modules", "table3_kernels", "table4_references"):
        assert opened.locator(f"#table-{table} tbody tr").count() > 0


@pytest.mark.parametrize("size", [None, PHONE])
def test_nothing_is_wider_than_the_window(opened, size):
    if size:
        opened.set_viewport_size(size)
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_dark_mode_keeps_text_readable(opened):
    script = "getComputedStyle(document.body)[name]"
    for scheme, dark in (("light", False), ("dark", True)):
        opened.emulate_media(color_scheme=scheme)
        ink, paper = (
            [int(n) for n in re.findall(r"\d+", opened.evaluate(script.replace("name", f"'{name}'")))[:3]]
            for name in ("color", "backgroundColor")
        )
        assert (sum(paper) < 300) == dark
        assert abs(sum(ink) - sum(paper)) > 400
        drawn = opened.evaluate("getComputedStyle(document.querySelector('#figure-gains text')).fill")
        assert drawn == opened.evaluate("getComputedStyle(document.body).color")


def test_tables_sort_by_click_and_by_key(opened):
    table = opened.locator("#table-table1_metrics")
    head = table.locator("thead button", has_text="Set14")

    def column() -> list[float]:
        values = table.locator("tbody tr").evaluate_all("(rows) => rows.map((row) => row.cells[5].dataset.value)")
        return [float(value) for value in values if value is not None]

    head.click()
    assert column() == sorted(column(), reverse=True)
    assert table.locator("th[aria-sort=descending]").count() == 1
    head.focus()
    opened.keyboard.press("Enter")
    assert column() == sorted(column())
    assert table.locator("th[aria-sort=ascending]").count() == 1


def divider(page) -> float:
    return page.evaluate("parseFloat(document.querySelector('.stage').style.getPropertyValue('--at'))")


def test_the_comparer_by_mouse_keyboard_and_touch(opened):
    stage = opened.locator("#comparer .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 40, steps=5)
    opened.mouse.up()
    assert divider(opened) == pytest.approx(80, abs=5)
    before = divider(opened)
    for _ in range(3):
        opened.keyboard.press("ArrowLeft")
    assert divider(opened) == before - 3
    clip = opened.locator("#comparer .over").evaluate("(img) => getComputedStyle(img).clipPath")
    assert f"{before - 3:g}%" in clip
    opened.keyboard.press("f")
    assert opened.locator("[name=flicker]").get_attribute("aria-pressed") == "true"
    seen = set()
    for _ in range(8):
        seen.add(divider(opened))
        opened.wait_for_timeout(250)
    assert seen >= {0, 100}
    opened.locator("[name=flicker]").click()
    assert divider(opened) == before - 3


def test_the_comparer_shows_what_is_chosen(opened):
    opened.locator("#comparer [name=right]").select_option("hr")
    opened.locator("#comparer [name=left]").select_option("released")
    opened.locator("#comparer [name=example]").select_option(index=2)
    assert "HR (original)" in opened.locator("#comparer .over").get_attribute("alt")
    alt = opened.locator("#comparer .under").get_attribute("alt")
    assert "released" in alt
    assert re.search(r"\d\d\.\d\d dB / 0\.\d{3}", alt)
    sources = [opened.locator(f"#comparer .{part}").get_attribute("src") for part in ("under", "over")]
    assert sources[0] != sources[1]
    assert opened.locator("#comparer .said").inner_text().startswith("Left: Extracter-rec, released")


def test_the_comparer_by_touch(browser, address):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    stage = page.locator("#comparer .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 60)
    assert divider(page) == pytest.approx(25, abs=6)
    context.close()


def test_points_of_the_scatter_show_their_image(opened):
    svg = opened.locator("#scatter svg")
    svg.scroll_into_view_if_needed()
    point = opened.locator("#scatter .point").first.bounding_box()
    opened.mouse.move(point["x"] + 4, point["y"] + 4)
    tip = opened.locator("#scatter .tip")
    assert tip.evaluate("(one) => getComputedStyle(one).visibility") == "visible"
    assert tip.locator("img").evaluate("(img) => img.decode().then(() => img.naturalWidth)") > 20
    said = opened.locator("#scatter .said")
    first = said.inner_text()
    assert re.search(r"TTSR-rec \d+\.\d\d dB", first)
    svg.focus()
    opened.keyboard.press("ArrowRight")
    assert said.inner_text() != first
    opened.locator("#scatter [name=x]").select_option("bicubic")
    assert opened.locator("#scatter .point").count() == 4
    assert "Bicubic, PSNR (dB)" in svg.text_content()
