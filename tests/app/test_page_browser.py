"""The page in headless Chromium: live, on a phone, in the dark, by keyboard, with hostile words, without its peer."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import browser_support
import pytest
from browser_support import Page, open_page, run_browser, skip_where_it_starves
from network_support import in_trio
from page_support import COIN, HOSTILE, FakeState, Size, make_round, serving_page

from flock_chain.tally import SCORE_LIMIT
from flock_p2p.page.log_tail import Tail

LIVE = "document.querySelector('#link')?.textContent === 'Live'"
WIDTH = "document.scrollingElement.scrollWidth"
SHADE = "getComputedStyle(document.querySelector('main > section')).opacity"
PROBES = (Path(browser_support.__file__).parent / "page_probes.js").read_text()
# The least contrast of text against what is behind it, and where: what the eye needs is 4.5.
CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = (element) => { for (let e = element; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 250) return c; } return rgba(getComputedStyle(document.body).backgroundColor); };
  let least = [99, ''];
  for (const element of document.querySelectorAll('body *')) {
    if (![...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !element.checkVisibility() || element.closest('svg, .skip, .loading, noscript')) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`];
  }
  return least;
})()"""  # noqa: E501 - a program of its own


@pytest.fixture(scope="module")
def browser() -> Iterator[str]:
    with run_browser() as address:
        skip_where_it_starves(address)
        yield address


@asynccontextmanager
async def showing(browser: str, fake: FakeState, width: int = 1280) -> AsyncIterator[tuple[Page, int]]:
    async with open_page(browser) as page, serving_page(fake) as port:
        await page.resize(width, 800)
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.wait(LIVE)
        await page.wait("document.querySelectorAll('.loading').length === 0")
        yield page, port


async def check_clean(page: Page, port: int) -> None:
    """Nothing failed, nothing was refused, and nothing was asked of anybody else."""
    assert page.errors == []
    assert all(url.startswith((f"http://127.0.0.1:{port}/", f"ws://127.0.0.1:{port}/")) for url in page.requested)


@in_trio(240)
async def test_the_page_shows_the_peer_goes_on_by_itself_and_fits_a_phone_and_the_dark(browser: str) -> None:
    fake = FakeState()
    async with showing(browser, fake) as (page, port):
        assert "Round 12 of 16" in await page.text("#task-body") and "480" in await page.text("#cards")
        assert "4.5 coins slashed" in await page.text("#rounds-body")
        assert await page.ask("document.querySelectorAll('#plots-body canvas').length") == 6
        assert await page.ask("document.querySelectorAll('#peers-body svg .node').length") >= 6
        fake.sections["round"] = make_round(12, fake.size)
        fake.log = Tail(1, 10, ({"id": 500, "at": None, "level": None, "source": None, "text": "a line of now"},))
        await page.wait("document.querySelector('#log-body').innerText.includes('a line of now')")
        await page.wait("!document.querySelector('#rounds-body details').innerText.includes('running')")
        for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 360), ("light", 360)):
            await page.prefer(prefers_color_scheme=scheme)
            await page.resize(width, 760)
            await page.wait(f"innerWidth === {width} && {WIDTH} <= {width}")
            least, where = await page.ask(CONTRAST)
            assert least >= 4.5, (scheme, width, where, least)
        await page.ask("document.querySelector('#events').scrollIntoView({ behavior: 'instant' })")
        link = "document.querySelector('nav a[aria-current=location]')"
        await page.wait(f"{link}.hash === '#events' && {link}.getBoundingClientRect().right <= 360")
        await check_clean(page, port)


@in_trio(240)
async def test_everything_works_by_keyboard_and_has_a_name(browser: str) -> None:
    fake = FakeState()
    async with showing(browser, fake) as (page, _):
        await page.press("Tab")
        assert await page.ask("document.activeElement.className") == "skip"
        assert await page.ask("document.activeElement.getBoundingClientRect().top >= 0")
        await page.press("Enter")
        await page.wait("document.activeElement.id === 'main'")
        await page.ask("document.querySelector('#theme').focus()")
        assert "3px" in await page.ask("getComputedStyle(document.activeElement).outline")
        await page.press("Enter")
        ring = """((a, s = getComputedStyle(a)) => a.getBoundingClientRect().top - parseFloat(s.outlineOffset)
          - parseFloat(s.outlineWidth) >= a.closest('nav').getBoundingClientRect().top)"""
        assert await page.ask(f"document.querySelector('nav a').focus(), {ring}(document.activeElement)"), "cut off"
        assert await page.ask("[document.documentElement.dataset.theme, localStorage['flock-theme']]") == ["light"] * 2
        opened = "document.querySelectorAll('#rounds-body details')[1].open"
        await page.ask("document.querySelectorAll('#rounds-body summary')[1].focus()")
        await page.press("Enter")
        assert await page.ask(opened) is True
        tables = "[...document.querySelectorAll('.scroll, .limited, .lines')]"
        assert await page.ask(f"{tables}.every((e) => e.tabIndex === 0 && e.getAttribute('aria-label'))")
        await check_regions_keep_focus_and_place(page, fake)
        landmarks = "['header', 'nav', 'main', 'footer'].every((n) => document.querySelectorAll(n).length === 1)"
        assert await page.ask(landmarks)
        assert await page.ask(
            "[...document.querySelectorAll('section')].every((e) => e.ariaLabelledByElements?.length !== 0)"
        )
        await page.prefer(prefers_reduced_motion="reduce")
        assert (
            await page.ask("getComputedStyle(document.querySelector('.steps li[aria-current]')).animationName")
            == "none"
        )


async def check_regions_keep_focus_and_place(page: Page, fake: FakeState) -> None:
    """Whoever reads in a part that is drawn anew with each block stays where they are."""
    await page.resize(360, 800)  # where tables are wider than the page
    for label in ("Connected peers", "Participants of the task"):
        region = f"document.querySelector('[aria-label=\"{label}\"]')"
        await page.ask(f"void (window.seen = {region}, seen.focus(), seen.scrollLeft = 30)")
        first = fake.sections["task"]["participants"][0]
        fake.sections["task"] = fake.sections["task"] | {
            "participants": [first | {"missed": first["missed"] + 1}, *fake.sections["task"]["participants"][1:]]
        }
        fake.sections["peers"] = fake.sections["peers"] | {"count": fake.sections["peers"]["count"] + 1}
        await page.wait(f"{region} !== seen")
        assert await page.ask(f"[document.activeElement === {region}, {region}.scrollLeft]") == [True, 30], label
    await page.resize(1280, 800)


@in_trio(240)
async def test_words_of_strangers_stay_words_at_every_limit(browser: str) -> None:
    async with showing(browser, FakeState(Size.largest()), 360) as (page, port):
        for part in ("#task-body", "#stakes-body", "#log-body"):
            assert HOSTILE[:30] in await page.ask(f"document.querySelector('{part}').textContent"), part
        assert HOSTILE[:30] in await page.ask("document.title")  # as text, and nobody changed it
        assert await page.ask("document.querySelectorAll('main img, main script, main [onerror]').length") == 0
        assert await page.ask(WIDTH) == 360
        assert await page.ask("document.querySelectorAll('#rounds-body details').length") <= 256
        refused = (
            "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken' } catch { return 'refused' } })()"
        )
        assert await page.ask(refused) == "refused"  # by the page's policy, whatever its scripts do
        page.errors.clear()
        await check_clean(page, port)


@in_trio(240)
async def test_a_peer_that_is_gone_is_said_to_be_and_found_again_when_it_comes_back(browser: str) -> None:
    async with open_page(browser) as page:
        async with serving_page(FakeState()) as port:
            await page.goto(f"http://127.0.0.1:{port}/")
            await page.wait(LIVE)
            assert await page.ask(SHADE) == "1"
        await page.wait("document.querySelector('#gone').innerText.includes('does not answer')")
        assert await page.ask(SHADE) == "0.65"
        assert "trying again" in await page.text("#gone") and await page.text("#link") == "Peer gone"
        assert "Round 12" in await page.text("#task-body")  # as it was then
        async with serving_page(FakeState(Size(rounds=20)), port):
            await page.ask("document.querySelector('#gone button').click()")
            await page.wait("document.querySelector('#task-body').innerText.includes('Round 20')")
            assert await page.text("#gone") == "" and await page.text("#link") == "Live"
            assert await page.ask(SHADE) == "1"


@in_trio(240)
async def test_numbers_have_their_units_and_a_peer_with_nothing_to_show_says_what_will_come(browser: str) -> None:
    fake = FakeState()
    nothing = {"task": None, "last": 0, "rounds": [], "slashes_since": 1}
    fake.sections |= {
        "task": None, "round": None, "rounds": nothing, "measured": {"task": None, "losses": [], "audits": []},
        "events": {"since": 1, "rows": []}, "transfers": {"count": 0, "rows": []},
        "peers": {"count": 0, "rows": [], "away": [], "away_count": 0}, "tasks": {"count": 0, "tasks": []},
    }  # fmt: skip
    fake.log = Tail()
    async with showing(browser, fake) as (page, port):
        for part, words in (
            ("#task-body", "No task yet"), ("#rounds-body", "No round yet"), ("#peers-body", "Nobody is connected"),
            ("#transfers-body", "Nothing is being fetched"), ("#events-body", "No news yet"),
            ("#log-body", "No line yet"), ("#plots-body", "No round was tallied yet"),
        ):  # fmt: skip
            assert words in await page.text(part), part
        said = await page.ask(
            "import('/page/format.js').then((f) => [f.coins('45' + '0'.repeat(17)), f.coins('1'), "
            "f.coins('-15' + '0'.repeat(17)), f.coins('1234567' + '0'.repeat(18)), f.inCoins('1' + '0'.repeat(18)), "
            "f.bytes(999), f.bytes(2160000), f.seconds(3725), f.ppm(-1397), f.ppm(20000)])"
        )
        thousands = "1\u2009234\u2009567"
        assert said[:5] == ["4.5", "<0.0001", "−1.5", thousands, "1 coin"]
        assert said[5:] == ["999 B", "2.16 MB", "1 h 2 min", "−0.14 %", "+2.00 %"]
        assert "Balance in coins\n991\nvalidator" in await page.text("#cards")
        await check_clean(page, port)


@in_trio(240)
async def test_no_coin_is_lost_on_the_page_and_bond_pay_and_rate_of_the_task_are_shown(browser: str) -> None:
    fake = FakeState()
    fake.sections["peer"] |= {"balance": str(10**21 - 1)}
    async with showing(browser, fake) as (page, port):
        cards, stakes = await page.text("#cards"), await page.text("#stakes-body")
        assert "Balance in coins\n999.99…\nvalidator · 5 more bonded to task 1" in cards
        title = "[...document.querySelectorAll('#cards dd')].find((e) => e.innerText.startsWith('999')).title"
        assert await page.ask(title) == f"999.{'9' * 18} coins" and f"exactly 999.{'9' * 18}" in stakes
        assert "Earned in this task\n3.3333 coins\n1.6666 coins in round 9 · " in stakes
        assert "A round adds\n1.5 times the mean" in await page.text("#task-body")
        fake.sections["task"] |= {"server_lr_thousandths": 1_000, "participants": [], "name": "of the mean"}
        lost = {"task": 1, "round": 8, "why": "trainer: the process was killed by signal 9"}
        fake.sections["measured"] = fake.sections["measured"] | {"pay": None, "skipped": lost}
        await page.wait("document.querySelector('#task-body').innerText.includes('of the mean')")
        await page.wait("!document.querySelector('#cards').innerText.includes('bonded')")
        assert "A round adds" not in await page.text("#task-body")
        assert "nothing by this peer's seats yet" in await page.text("#stakes-body")
        assert f"skipped round 8 {lost['why']}" in await page.text("#task-body")
        await check_clean(page, port)


@in_trio(240)
async def test_a_proposer_without_a_proposal_trains_as_long_as_there_is_time_unless_it_skips_the_round(
    browser: str,
) -> None:
    """A peer that had skipped its round stood as "training" until the round was over."""
    fake = FakeState()
    task, others = fake.sections["task"], fake.sections["task"]["proposers"][1:]
    mine = {"account": fake.sections["peer"]["account"], "committed": False, "revealed": False, "held": False}
    fake.sections["task"] = task | {"phase": "COMMIT", "proposers": [mine | {"verdict": "NONE"}, *others]}
    async with showing(browser, fake) as (page, port):
        assert "training" in await page.text(".seats") and "This peer trains: step" in await page.text("#task-body")
        lost = {"task": task["task"], "round": task["round"], "why": "privacy: the limit is 5.00"}
        fake.sections["measured"] = fake.sections["measured"] | {"skipped": lost}
        await page.wait("document.querySelector('.seats').innerText.includes('skips this round')")
        said = await page.text("#task-body")
        assert "This peer trains: step" not in said and "training" not in await page.text(".seats")
        fake.sections["task"] = fake.sections["task"] | {"phase": "REVEAL"}
        await page.wait("document.querySelector('.seats').innerText.includes('missed')")
        assert "skips this round" not in await page.text(".seats")
        await check_clean(page, port)


@in_trio(240)
async def test_what_is_left_in_ended_tasks_stands_under_stakes_with_the_orders_that_fetch_it(browser: str) -> None:
    """`status` told of a bond in an ended task, and the page of none."""
    fake = FakeState()
    none = {"bond": "0", "unbonding": "0", "free_in": 0, "claimable": "0", "pot": "0"}
    async with showing(browser, fake) as (page, port):
        assert "ended tasks" not in await page.text("#stakes-body")
        fake.sections["left"] = [
            {**none, "task": 9, "bond": str(5 * COIN), "claimable": str(COIN)},
            {**none, "task": 7, "unbonding": str(COIN // 2), "free_in": 125},
            {**none, "task": 2, "unbonding": "1", "pot": str(28 * COIN)},
        ]
        await page.wait("document.querySelector('#stakes-body').innerText.includes('is left in ended tasks, below')")
        words = "(e) => [...e.children].map((each) => each.innerText).join(' | ')"
        assert await page.ask(f"[...document.querySelectorAll('.left li')].map({words})") == [
            "Task 9 | 5 coins bonded | task leave --task 9 begins to take it back",
            "Task 9 | 1 coin earned and not claimed | task claim --task 9 pays it out",
            "Task 7 | 0.5 coins unbonding | task withdraw --task 7 pays it out in 2 min 5 s of chain time",
            "Task 2 | <0.0001 coins unbonding | task withdraw --task 2 pays it out now",
            "Task 2 | 28 coins of its pot | task pot --task 2 takes it back",
        ]
        for scheme, width in (("light", 1280), ("dark", 360)):
            await page.prefer(prefers_color_scheme=scheme)
            await page.resize(width, 760)
            await page.wait(f"innerWidth === {width} && {WIDTH} <= {width}")
            least, where = await page.ask(CONTRAST)
            assert least >= 4.5, (scheme, width, where, least)
        fake.sections["left"] = []
        await page.wait("document.querySelector('.left') === null")
        await check_clean(page, port)


@in_trio(240)
async def test_what_was_refused_unread_hides_no_other_change_in_the_plot(browser: str) -> None:
    fake = FakeState(Size(rounds=4))
    fake.sections["rounds"]["rounds"][0]["proposers"][1]["median"] = SCORE_LIMIT
    async with showing(browser, fake) as (page, port):
        await page.ask("document.querySelector('#plots-body details summary').click()")
        await page.wait("document.querySelector('#plots-body table') !== null")
        numbers = await page.text("#plots-body table")
        assert "over +1.5 %" in numbers and "-0.78 %" in numbers and "100000" not in numbers
        assert "named from 25 %" in await page.text("#plots-body")
        await check_clean(page, port)


@in_trio(240)
async def test_a_round_that_waits_for_participants_is_not_counted_among_those_that_are_shown(browser: str) -> None:
    fake = FakeState(Size(rounds=4))
    fake.sections["rounds"]["rounds"][-1]["proposers"] = []
    async with showing(browser, fake) as (page, port):
        shown = await page.ask("document.querySelectorAll('#rounds-body details.round').length")
        assert f"All {shown} rounds." in await page.text("#rounds-body")
        await check_clean(page, port)


@in_trio(240)
async def test_another_task_is_shown_when_it_is_chosen_and_by_the_pages_address(browser: str) -> None:
    fake = FakeState()
    fake.sections["tasks"]["tasks"] = [
        row | {"task": number} for number, row in enumerate(fake.sections["tasks"]["tasks"][:3], 1)
    ]
    async with showing(browser, fake) as (page, port):
        assert await page.ask("document.querySelectorAll('#task-number option').length") == 4
        pick = """(n) => {
          const e = document.querySelector('#task-number');
          e.focus(); e.value = n; e.dispatchEvent(new Event('change'));
        }"""
        await page.ask(f"({pick})('2')")
        await page.wait("document.querySelector('#task-body').innerText.includes('of task 2')")
        assert await page.ask("[location.search, document.activeElement.id]") == ["?task=2", "task-number"]
        assert "All 3 rounds" in await page.text("#rounds-body") and "Round 12" not in await page.text("#rounds-body")
        fake.sections["chain"] = fake.sections["chain"] | {"height": 481}
        await page.wait("document.querySelector('#cards').innerText.includes('481')")  # a new block changes no choice
        assert "of task 2" in await page.text("#task-body")
        await page.ask(f"({pick})('')")
        await page.wait("document.querySelector('#task-body').innerText.includes('Round 12 of 16')")
        assert await page.ask("location.search") == "" and "Round 11" in await page.text("#rounds-body")
        for number, words in (("3", "of task 3"), ("9", "there is no task 9"), ("x", "Round 12 of 16")):
            await page.goto(f"http://127.0.0.1:{port}/?task={number}")
            await page.wait(f"document.querySelector('#task-body').innerText.includes('{words}')")
        assert [each for each in page.errors if "400" not in each] == []


@in_trio(240)
async def test_another_peer_at_the_same_address_is_not_mixed_with_the_one_before(browser: str) -> None:
    fake = FakeState()
    async with showing(browser, fake) as (page, _):
        assert await page.ask("(window.before = 1)") == 1
        fake.sections["peer"] = fake.sections["peer"] | {"genesis": "bb" * 32}
        await page.wait("window.before === undefined")  # begun anew
        await page.wait(LIVE)


async def probe(page: Page, name: str, *arguments: Any) -> Any:
    return await page.ask(f"probes.{name}({', '.join(map(json.dumps, arguments))})")


@in_trio(240)
async def test_the_pages_modules_keep_focus_bounds_tasks_and_connections_apart(browser: str) -> None:
    async with showing(browser, FakeState(Size(rounds=4))) as (page, port):
        await page.ask(f"void (window.probes = {PROBES})")
        await check_connection(page)
        await check_lists(page)
        await check_gathered(page)
        await check_shown(page)
        late = await probe(page, "lateAnswers")
        assert late["left"] == 0 and late["between"] is None and late["chosen"] == 3 and late["failure"]
        assert late["asked"][1:3] == ["/api/task?task=2", "/api/task?task=3"]
        await check_clean(page, port)


async def check_connection(page: Page) -> None:
    """Each row: state, milliseconds to the next try, reason, sockets opened so far."""
    seen = await probe(page, "connection")
    assert seen["started"] == ["connecting", 0, "", 1] and seen["heard"] == [1, 3]
    assert seen["silent for less"] == ["live", 0, "", 1]
    assert seen["silent"] == ["gone", 500, "It has said nothing for 40 seconds.", 1]
    assert seen["waiting"][0] == "gone" and seen["waiting"][3] == 1
    assert seen["again"][3] == seen["late words"][3] == 2 and seen["late words"][0] == "gone"
    assert seen["why it ended"] == "It said: why."
    assert seen["delays"] == [1000, 2000, 4000, 8000, 10_000, 10_000]
    assert seen["after it was heard again"][:2] == ["gone", 500]
    assert seen["opened"] == 1  # the try that was asked for is in place of the one that was waited for


async def check_lists(page: Page) -> None:
    """Each row: its text, whether it is unfolded, whether it has the focus."""
    seen = await probe(page, "lists")
    new, first = ["new", False, False], ["a", False, False]
    assert seen["kept"] == [new, first, ["b", True, True]] and seen["isSame"]
    assert seen["changed"] == [new, ["changed", True, True], first]
    assert seen["moved"] == [first, ["changed", True, True], new]
    assert seen["left"] == [["changed again", True, False], new]  # nobody is sent where they were before
    assert seen["byItself"] == [True, True, False] and seen["byHand"] == [False, False]


async def check_gathered(page: Page) -> None:
    """Each look: the task shown, how many of its rounds, the first, the last."""
    seen = await probe(page, "gathered")
    assert seen["many"] == [[1, 256, 45, 300], 400, 500]
    assert seen["coming"] == [[None, 0, None, None], None, 0]  # nothing of the task before under this one's number
    assert seen["here"] == [2, 3, 7, 9] and seen["failed"] == [[2, 3, 7, 9], "why"]
    assert seen["own"] == [1, 256, 45, 300]
    assert seen["next"] == [[4, 2, 1, 2], 1] and seen["another"] == [False, True]


async def check_shown(page: Page) -> None:
    said = await page.ask(
        "import('/page/status.js?fresh').then(({ showLink }) => { showLink({ state: 'gone', again: 0 }); "
        "const said = document.querySelector('#gone').innerText; showLink({ state: 'live' }); return said; })"
    )
    assert "The peer does not answer. It has not answered since this page was opened. Trying again now." in said
    warned = await probe(
        page, "warned", [
            {}, {"not_signing": "its log is behind"}, {"is_silent": True}, {"is_silent": True, "has_quorum": False},
            {"clock_offset": 4.0}, {"clock_offset": -9.0}, {"clock_offset": 9.0}, {"validators": 3},
            {"stops_before": 7}, {"sync": {"height": 3, "target": 9, "eta_seconds": 2}},
        ],
    )  # fmt: skip
    words = (
        "", "does not sign blocks: its log is behind", "",
        "a third or more of the stake are not connected to this peer (1 validator: ", "", "about 9 s behind the other",
        "about 9 s ahead of the other", "Only 3 validators", "cannot go on from epoch 7 on",
        "block 3 of 9, about 2 s left",
    )  # fmt: skip
    for said, wanted in zip(warned, words, strict=True):
        assert len(said) == bool(wanted) and wanted in "".join(said), (wanted, said)
    assert await probe(page, "map", [13, 14, 60]) == [[14, 14], [15, 0], [40, 0]]  # and one validator that is away
    log = await probe(page, "log")
    assert log["grave"] == [60, "ERROR", "WARNING"] and log["all"] == [119, "ERROR", "INFO", "WARNING"]
    assert log["atEnd"] <= 1 and log["above"] == 0
    over = "the phase's time is over, the next block ends it"
    assert [each.partition(" · ")[2] for each in await probe(page, "deadlines", [0, 20, 70])] == [
        "this phase ends in at most 1 min 0 s", "this phase ends in at most 40 s", over
    ]  # fmt: skip
