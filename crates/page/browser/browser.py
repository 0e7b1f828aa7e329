#!/usr/bin/env python3
"""The live page in a real headless Chromium, with real programs.

    browser.py target/debug [TEST…]

Needs Debian's chromium and chromium-driver, and the packages of requirements.txt. PAGE_SCREENSHOTS may name a folder for pictures.
"""

import sys
import time
import unittest

from selenium.webdriver.common.keys import Keys

import pretend
from chromium import Chromium, wait_for
from pretend import Pretender
from store import Store

PROGRAMS = sys.argv.pop(1) if len(sys.argv) > 1 else "target/debug"
HOSTILE = """<img src=x onerror="document.title='taken'">"""
STATES = {"available": "ok", "draining": "wait", "connecting": "info", "suspect": "warn", "not-operative": "bad"}
CAUSES = ["no-answer", "closed", "cannot-connect", "reply-timeout", "refused", "protocol", "registry"]
EVENTS = ["joined", "back", "restarted", "connected", "suspect", "not-operative", "name-refused", "disk-full", "not-held"]
RULES = ["silence", "fewer-than-replicas", "slow", "disk-full-soon", "not-held"]
VERDICTS = ["saving", "fewer-than-expected", "too-few", "none-available", "silence"]
LIVE = "return document.getElementById('connection').dataset.state === 'live'"
SHOWN_IDS = "return [...document.querySelectorAll('[data-id]')].map((row) => row.dataset.id)"
CONFIRMED = "return [...document.querySelectorAll('[data-confirmed]')].map((row) => Number(row.dataset.confirmed))"
LEVEL = "return document.querySelector('[data-node=' + arguments[0] + ']')?.dataset.level === arguments[1]"


class PageTest(unittest.TestCase):
    """A test with a browser that all tests share."""

    @classmethod
    def setUpClass(cls):
        if not hasattr(PageTest, "shared"):
            PageTest.shared = Chromium()
            unittest.addModuleCleanup(PageTest.shared.quit)
        cls.chromium = PageTest.shared

    def setUp(self):
        self.chromium.reset()

    def assert_quiet(self, but=()):
        """Nothing was written to the console, except lines that have one of these words."""
        lines = [line for line in self.chromium.console() if not any(word in line for word in but)]
        self.assertEqual(lines, [])

    def assert_readable(self, where):
        for scheme in ("light", "dark"):
            self.chromium.emulate(scheme)
            found = self.chromium.tool("faint", 4.5)
            self.assertGreater(found["looked"], 5, where)
            self.assertEqual(found["problems"], [], f"{where}, {scheme}")
        self.chromium.emulate()

    def assert_fits(self, where):
        found = self.chromium.tool("tooWide")
        self.assertEqual((found["scrolls"], found["found"]), (False, []), where)


class RealStore(PageTest):
    """Against a headnode and datanodes."""

    def test_twenty_puts_are_twenty_rows_and_nothing_else_is_asked_for(self):
        with Store(PROGRAMS) as store:
            self.chromium.open(store.address)
            self.chromium.run("window.loadedOnce = true")
            ids = store.put(*[f"mensaje {number}" for number in range(18)], HOSTILE, "<script>document.title='taken'</script>")
            self.chromium.wait("20 rows", "return document.querySelectorAll('[data-id]').length === 20")
            self.assertEqual(self.chromium.run(SHOWN_IDS), ids[::-1])
            self.assertTrue(self.chromium.run("return window.loadedOnce"), "the page was loaded again")
            self.assert_sums(store, 20)
            # What a message says is text, and nothing else.
            self.assertIn(HOSTILE, self.chromium.texts(".said"))
            self.assertEqual(self.chromium.run("return document.querySelectorAll('main img, main script').length"), 0)
            self.assertNotIn("taken", self.chromium.driver.title)
            links = self.chromium.run("return [...document.querySelectorAll('footer a')].map((link) => link.href)")
            self.assertIn("datanode1", store.fetch(links[0].removeprefix(store.address)))
            self.chromium.screenshot("light")
            self.assert_quiet()
            requests = self.chromium.requests()
            self.assertGreater(len(requests), 8)
            self.assertEqual([url for url in requests if not url.startswith(f"{store.address}/")], [])

    def assert_sums(self, store, puts):
        """What the datanodes have confirmed is what was put, and what the registry has."""
        confirmed = wait_for("all confirmations", lambda: (counts := self.chromium.run(CONFIRMED)) and sum(counts) == puts and counts)
        status = store.status()
        self.assertEqual(status["messages"], puts)
        self.assertEqual(sorted(confirmed), sorted(node["records"] for node in status["datanodes"]))

    def test_a_killed_datanode_is_suspect_then_not_operative_then_back(self):
        with Store(PROGRAMS) as store:
            self.chromium.open(store.address)
            self.chromium.wait("datanode2 available", LEVEL, "datanode2", "ok")
            store.put("antes")
            store.kill("datanode2")
            killed = time.monotonic()
            self.chromium.wait("suspect", LEVEL, "datanode2", "warn", seconds=2)
            self.assertIn("sospechoso: ", self.chromium.texts("[data-node=datanode2] small")[0])
            store.put(*(f"mientras {number}" for number in range(5)))
            self.chromium.wait("not operative", LEVEL, "datanode2", "bad", seconds=9 - (time.monotonic() - killed))
            self.assertIn("no operativo: ", self.chromium.texts("[data-node=datanode2] small")[0])
            self.assertIn("2 de 3 operativos", self.chromium.wait_text("#verdict-text", "se guardan mensajes"))
            self.assertIn("datanode2", self.chromium.texts("#verdict-advice")[0])
            self.chromium.screenshot("datanode-down")
            self.chromium.emulate("dark")
            self.chromium.screenshot("datanode-down-dark")
            self.assert_readable("a datanode is down")
            store.start_datanode(2)
            self.chromium.wait("datanode2 is back", LEVEL, "datanode2", "ok")
            self.chromium.wait_text("#verdict-text", "3 de 3 operativos; se guardan mensajes")
            said = [text.split("datanode2")[1].split(":")[0].split(";")[0].split("(")[0].strip() for text in self.chromium.texts(".events-card li") if "datanode2" in text]
            self.assertEqual(said[::-1][2:], ["sospechoso", "no operativo", "vuelve", "conectado"])
            self.assert_sums(store, store.puts)
            self.assert_quiet()

    def test_the_page_goes_on_after_the_headnode_was_killed(self):
        with Store(PROGRAMS) as store:
            self.chromium.open(store.address)
            ids = store.put(*(f"antes {number}" for number in range(8)))
            self.chromium.wait("8 rows", "return document.querySelectorAll('[data-id]').length === 8")
            self.chromium.run("window.loadedOnce = true")
            store.kill("headnode")
            self.chromium.wait_text("#connection", "sin conexión", seconds=5)
            self.assertIn("Sin conexión", self.chromium.texts("#verdict-text")[0])
            self.assertEqual(self.chromium.run("return document.getElementById('verdict').dataset.level"), "lost")
            self.chromium.wait("the age", "return document.getElementById('connection').dataset.age")
            self.chromium.screenshot("lost")
            self.assert_readable("no connection")
            store.start_headnode()
            wait_for("all datanodes", lambda: store.status()["available"] == 3)
            ids += store.put(*(f"después {number}" for number in range(12)))
            self.chromium.wait("20 rows", "return document.querySelectorAll('[data-id]').length === 20")
            self.assertEqual(self.chromium.run(SHOWN_IDS), ids[::-1], "without a gap or a repeat")
            self.assertTrue(self.chromium.run("return window.loadedOnce"), "the page was loaded again")
            self.chromium.wait_text(".events-card .restart", "empezó de nuevo")
            self.assertEqual(sum(wait_for("12 confirmations", lambda: (counts := self.chromium.run(CONFIRMED)) and sum(counts) == 12 and counts)), 12)
            self.assert_quiet(but=["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"])

    def test_a_silent_headnode_is_noticed_and_nothing_is_missed(self):
        with Store(PROGRAMS) as store:
            self.chromium.open(store.address)
            ids = store.put("antes")
            self.chromium.wait("1 row", "return document.querySelectorAll('[data-id]').length === 1")
            store.freeze("headnode")
            self.chromium.wait_text("#connection", "sin conexión", seconds=10)
            store.thaw("headnode")
            # More at once than a frame holds.
            ids += store.put_at_once(*(f"de golpe {number}" for number in range(40)))
            self.chromium.wait("41 rows", "return document.querySelectorAll('[data-id]').length === 41")
            self.assertEqual(sorted(self.chromium.run(SHOWN_IDS)), sorted(ids))
            self.chromium.wait("live", LIVE)
            self.assert_quiet()

    def test_without_permission_no_text_of_a_message_leaves_the_headnode(self):
        with Store(PROGRAMS, flags=()) as store:
            self.chromium.open(store.address)
            store.put("muy secreto")
            self.chromium.wait_text("[data-id]", "texto oculto")
            self.assertNotIn("secreto", self.chromium.driver.page_source + store.fetch("/api/frame") + store.fetch("/api/recent?since=0"))

    def test_seven_tabs_and_seven_windows_are_live(self):
        with Store(PROGRAMS, datanodes=1) as store:
            driver = self.chromium.driver
            for kind in ("tab", "window"):
                with self.subTest(kind):
                    self.chromium.reset()
                    self.chromium.open(store.address)
                    while len(driver.window_handles) < 7:
                        driver.switch_to.new_window(kind)
                        self.chromium.open(store.address)
                    for handle in driver.window_handles:
                        driver.switch_to.window(handle)
                        self.chromium.command("Page.bringToFront")
                        self.chromium.wait("live", LIVE)
                        before = self.chromium.run("return document.getElementById('view').dataset.frame")
                        self.chromium.wait("the next frame", "return document.getElementById('view').dataset.frame !== arguments[0]", before)
                    self.assert_quiet()

    def test_pages_that_are_seen_share_one_connection(self):
        with Store(PROGRAMS, datanodes=1) as store:
            driver = self.chromium.driver
            self.chromium.open(store.address)
            self.chromium.requests()
            driver.switch_to.new_window("window")
            self.chromium.open(store.address)
            first, second = driver.window_handles
            states = "return [document.hidden, document.getElementById('connection').dataset.state]"
            for handle in (first, second):
                driver.switch_to.window(handle)
                self.assertEqual(self.chromium.run(states), [False, "live"])
            self.assertEqual([url for url in self.chromium.requests() if url.endswith("/events")], [])
            # The page that was connected goes, and the other one connects.
            driver.switch_to.window(first)
            driver.close()
            driver.switch_to.window(second)
            before = self.chromium.run("return document.getElementById('view').dataset.frame")
            self.chromium.wait("the next frame", "return document.getElementById('view').dataset.frame !== arguments[0]", before)
            wait_for("a connection of its own", lambda: any(url.endswith("/events") for url in self.chromium.requests()))

    def test_what_moves_and_what_does_not(self):
        with Store(PROGRAMS, flags=("--page-messages", "--interval", "1s")) as store:
            self.chromium.open(store.address)
            seen = set()

            def all_kinds():
                store.put("Hola")
                seen.update(self.chromium.tool("moving"))
                return {"dot", "ring", "ring answer"} <= seen

            wait_for("dots and rings", all_kinds)
            self.chromium.wait("they go away", "return document.querySelectorAll('.dot').length === 0")
            store.freeze("datanode1")
            wait_for("dashed rings", lambda: "ring retry" in self.chromium.tool("moving"))
            store.thaw("datanode1")
            self.chromium.wait("datanode1 is back", LEVEL, "datanode1", "ok")
            self.chromium.emulate(motion="reduce")
            self.assert_rest(store, "reduced motion")
            lines = "return document.querySelectorAll('.flow[stroke-width]').length"
            self.chromium.wait("no line when nothing is put", f"{lines} === 0")
            store.put("Hola")
            self.chromium.wait("a line instead of a dot", f"{lines} === 1")
            wait_for("the counts go on", lambda: sum(self.chromium.run(CONFIRMED)) == store.puts)
            self.chromium.emulate()
            self.chromium.hide(True)
            self.assert_rest(store, "hidden")
            self.assertLess(sum(self.chromium.run(CONFIRMED)), store.puts, "a page that nobody sees gets frames")
            self.assertEqual(self.chromium.driver.title, "headnode", "a page that nobody sees tells how things are")
            self.chromium.hide(False)
            wait_for("the counts go on", lambda: sum(self.chromium.run(CONFIRMED)) == store.puts)
            self.assertIn("3 de 3 operativos", self.chromium.driver.title)
            self.assert_quiet()

    def assert_rest(self, store, why):
        """Nothing moves, whatever is put."""
        # What has begun may end.
        wait_for("rest", lambda: self.chromium.tool("moving") == [])
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            store.put("Hola")
            self.assertEqual(self.chromium.tool("moving"), [], why)

    def test_pause_and_steps_back_show_what_was(self):
        with Store(PROGRAMS) as store:
            self.chromium.open(store.address)
            store.put("uno")
            self.chromium.wait("1 row", "return document.querySelectorAll('[data-id]').length === 1")
            self.chromium.press("p")
            self.chromium.wait_text("#connection", "en pausa")
            paused = self.chromium.run("return document.getElementById('view').dataset.frame")
            store.put("dos", "tres")
            self.chromium.wait("later frames", "return Number(document.getElementById('moment').max) > Number(document.getElementById('moment').value) + 2")
            self.assertEqual(self.chromium.run("return [document.getElementById('view').dataset.frame, document.querySelectorAll('[data-id]').length]"), [paused, 1])
            self.chromium.screenshot("paused")
            self.assert_readable("paused")
            self.chromium.press(Keys.ARROW_LEFT)
            number = int(paused.split(":")[1])
            self.assertLess(int(self.chromium.run("return document.getElementById('view').dataset.frame").split(":")[1]), number)
            self.chromium.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
            self.assertGreater(int(self.chromium.run("return document.getElementById('view').dataset.frame").split(":")[1]), number)
            self.chromium.press(Keys.ESCAPE)
            self.chromium.wait("live again, with 3 rows", f"return document.querySelectorAll('[data-id]').length === 3 && (() => {{ {LIVE} }})()")
            self.assert_quiet()

    def test_a_keyboard_reaches_everything(self):
        with Store(PROGRAMS) as store:
            self.chromium.open(store.address)
            store.put("Hola")
            self.chromium.wait("1 row", "return document.querySelectorAll('[data-id]').length === 1")
            reached = []
            for _ in range(60):
                self.chromium.press(Keys.TAB)
                focus = self.chromium.tool("focused")
                if focus["isBody"] or (reached and focus["id"] == "skip"):
                    break
                self.assertTrue(focus["isMarked"], f"the focus is not seen: {focus}")
                reached.append(focus["id"] or focus["name"])
            for wanted in ("skip", "pause", "theme", "language", "help-open", "datanode1", "datanode3", "Datanodes", "Sucesos (UTC)", "Últimos mensajes (UTC)", "Comprobaciones", "hearbeat_server.txt"):
                self.assertIn(wanted, reached)
            self.press_keys(store)
            self.assert_quiet()

    def press_keys(self, store):
        chromium = self.chromium
        chromium.press("?")
        self.assertTrue(chromium.run("return document.getElementById('help').open"))
        self.assertEqual(chromium.tool("focused")["name"], "Cerrar")
        chromium.screenshot("help")
        self.assert_readable("help")
        chromium.press(Keys.ESCAPE)
        self.assertFalse(chromium.run("return document.getElementById('help').open"))
        chromium.run("document.querySelector('[data-node=datanode2] a').focus()")
        chromium.press(Keys.ENTER)
        chromium.wait_text(".panel h2", "datanode2")
        self.assertTrue(chromium.driver.current_url.endswith("/#nodo=datanode2"))
        chromium.screenshot("node")
        self.assert_readable("one datanode")
        chromium.press(Keys.ESCAPE)
        chromium.wait("all datanodes", "return document.querySelector('.panel').hidden")
        themes = []
        for _ in range(3):
            chromium.press("t")
            themes.append(chromium.run("return document.documentElement.dataset.theme"))
        self.assertEqual(themes, ["light", "dark", "auto"])
        chromium.driver.get(f"{store.address}/#nodo=datanode3")
        chromium.wait_text(".panel h2", "datanode3")
        chromium.press("l")
        chromium.wait_text("#verdict-text", "3 of 3 operative; messages are saved")
        self.assertTrue(chromium.driver.current_url.endswith("/?lang=en#nodo=datanode3"))
        self.assertEqual(chromium.run("return document.documentElement.lang"), "en")
        chromium.wait_text(".panel h2", "datanode3")

    def test_a_narrow_page_and_a_dark_one(self):
        with Store(PROGRAMS) as store:
            store.put("Hola", "x" * 5000, HOSTILE)
            for language in ("", "?lang=en"):
                self.chromium.resize(1280, 800)
                self.chromium.open(f"{store.address}/{language}")
                self.chromium.wait("3 rows", "return document.querySelectorAll('[data-id]').length === 3")
                self.assert_fits("wide")
                self.assertLessEqual(self.chromium.run("return document.documentElement.scrollHeight"), 800, "one screen shows all")
                self.chromium.screenshot(f"wide{language[6:]}")
                self.assert_readable("wide")
                self.chromium.resize(360, 740)
                self.chromium.wait("a narrow page", "return innerWidth === 360")
                self.assert_fits("narrow")
                self.chromium.click("[data-node=datanode1] a")
                self.chromium.wait_text(".panel h2", "datanode1")
                self.assert_fits("narrow, one datanode")
                self.chromium.click("#pause")
                self.chromium.click("#help-open")
                self.assert_fits("narrow, paused, help")
                self.chromium.screenshot(f"narrow-help{language[6:]}")
                self.chromium.click("#help button")
                self.chromium.click("#live")
                self.chromium.click(".panel button")
                self.chromium.screenshot(f"narrow{language[6:]}", whole=True)
            self.chromium.resize(1280, 800)
            self.chromium.emulate("dark")
            self.chromium.screenshot("dark")
            colours = self.chromium.run("return ['body', '.card'].map((selector) => getComputedStyle(document.querySelector(selector)).backgroundColor)")
            self.assertEqual(colours, ["rgb(17, 21, 27)", "rgb(26, 32, 41)"])
            self.assert_quiet()


class PretendedStore(PageTest):
    """Against frames that real programs do not bring about in a test."""

    def test_more_than_64_datanodes_are_a_grid_with_the_worst_first(self):
        nodes = [pretend.node(900, "not-operative", cause="no-answer"), pretend.node(77, "suspect", cause="reply-timeout"), *(pretend.node(number) for number in range(1, 63))]
        frame = pretend.frame(nodes, more={"available": 935, "connecting": 0, "suspect": 0, "not-operative": 1}, known=1000, expected=1000, operative=998, available=997,
                              verdict={"level": "warn", "code": "fewer-than-expected"})
        with Pretender(frame) as server:
            server.answers["/api/node?name=datanode999"] = {"node": pretend.node(999, records=12345)}
            self.chromium.open(server.address)
            self.assertEqual(self.chromium.texts(".grid b")[:3], ["datanode900", "datanode77", "datanode1"])
            self.assertEqual(len(self.chromium.texts(".grid li")), 64)
            self.assertIn("935 disponible", self.chromium.texts(".star-card .scroll p")[0])
            self.chromium.screenshot("grid")
            self.assert_readable("grid")
            # A datanode that the frame has not.
            self.chromium.run("location.hash = 'nodo=datanode999'")
            self.chromium.wait_text(".panel figure", "12.345")
            self.chromium.run("location.hash = 'nodo=nadie'")
            self.chromium.wait_text(".panel h2", "no hay ningún datanode con este nombre")
            self.chromium.resize(360, 740)
            self.chromium.run("location.hash = ''")
            self.assert_fits("grid")
            self.assert_quiet(but=["404"])

    def test_state_is_colour_and_shape_and_word(self):
        nodes = [pretend.node(number, state) for number, state in enumerate(STATES, 1)]
        with Pretender(pretend.frame(nodes)) as server:
            self.chromium.open(server.address)
            marks = "return [...document.querySelectorAll('.star .node')].map((node) => [getComputedStyle(node.querySelector('path')).fill, node.querySelector('path').getAttribute('d'), node.querySelector('.word').textContent])"
            for different in zip(*self.chromium.run(marks)):
                self.assertEqual(len(set(different)), len(STATES), different)
            self.chromium.screenshot("states")

    def test_above_twenty_messages_a_second_lines_are_as_wide_as_the_rate(self):
        nodes = [pretend.node(1), pretend.node(2), pretend.node(3)]
        with Pretender(pretend.frame(nodes)) as server:
            self.chromium.open(server.address)

            def grow():
                for node, count in zip(nodes, (2, 20, 200)):
                    node["confirmed"] += count
                server.frame["puts"]["ok"] += 222
                return self.chromium.run("return [...document.querySelectorAll('.flow')].map((line) => Number(line.getAttribute('stroke-width')))")

            widths = wait_for("three lines", lambda: (widths := grow()) and 0 < widths[0] < widths[1] < widths[2] and widths)
            self.assertEqual(self.chromium.run("return document.querySelectorAll('.dot').length"), 0, widths)
            self.chromium.screenshot("lines")

    def test_every_word_of_the_server_is_known_in_both_languages(self):
        nodes = [pretend.node(number, state, cause=cause) for number, (state, cause) in enumerate([(state, cause) for state in list(STATES)[1:] for cause in CAUSES], 1)]
        events = [{"n": number, "time": pretend.now(), "node": "datanode1", "what": what, "cause": CAUSES[number % len(CAUSES)], "count": number} for number, what in enumerate(EVENTS, 1)]
        warnings = [{"rule": rule, "node": "datanode1", "value": 7} for rule in RULES]
        # A word of the server that the page does not know is shown as it is. Some of them are English words, too.
        coded = {*STATES, *CAUSES, *EVENTS, *RULES, *VERDICTS}
        for language, raw in ("", coded), ("?lang=en", {word for word in coded if "-" in word}):
            words = [*raw, "undefined", "NaN", "{"]
            for rules in ([], warnings):
                frame = pretend.frame(nodes, warnings=rules, events={"last": len(events), "new": events[-6:]})
                with Pretender(frame) as server:
                    server.answers["/api/events?since=0"] = {"run": frame["run"], "events": events}
                    self.chromium.open(f"{server.address}/{language}")
                    self.chromium.wait("all events", "return document.querySelectorAll('.events-card li').length === arguments[0]", len(EVENTS))
                    for code in VERDICTS:
                        before = self.chromium.run("return document.getElementById('view').dataset.frame")
                        server.frame["verdict"] = {"level": "bad", "code": code}
                        self.chromium.wait("that verdict", "return Number(document.getElementById('view').dataset.frame.split(':')[1]) > Number(arguments[0].split(':')[1]) + 1", before)
                        seen = self.chromium.run("return document.body.textContent")
                        self.assertEqual([word for word in words if word in seen], [], f"{code} {language}")
                    self.assert_quiet()
                    self.chromium.screenshot(f"warnings{language[6:]}{len(rules)}")

    def test_charts_begin_with_the_history_and_go_on_with_the_frames(self):
        # A name that objects in JavaScript have, too.
        node = {**pretend.node(1), "name": "__proto__"}
        with Pretender(pretend.frame([node])) as server:

            def grow():
                node["confirmed"] += 10
                server.frame["puts"]["ok"] += 10

            history = {"run": server.frame["run"], "step_s": 1, "series": {"puts": [None, 50, 50, 50], "available": [1, 1, 1, 1]}, "nodes": {"__proto__": {"confirmed": [None, 50, 50, 50]}}}
            server.before_frame = grow
            server.answers["/api/history"] = lambda: {**history, "time": pretend.now()}
            self.chromium.open(f"{server.address}/#nodo=__proto__")
            points = "return document.querySelector('.panel .line0').getAttribute('d').split(/[ML]/).length - 1"
            self.assertEqual(self.chromium.wait("the history", points), 3)
            self.chromium.wait("five more samples", f"{points} === 8")
            self.assertEqual(len([url for url in self.chromium.requests() if url.endswith("/api/history")]), 2)
            # 10 in each period, as far as a busy machine keeps it.
            top = self.chromium.texts(".panel .chart figcaption span:last-child")[0]
            self.assertTrue(20 < float(top.removeprefix("máx. ").removesuffix("/s").replace(",", ".")) < 100, top)
            self.assert_quiet()

    def test_a_page_that_is_refused_tries_again(self):
        with Pretender(pretend.frame([pretend.node(1)])) as server:
            server.refusals = 2
            self.chromium.driver.get(server.address)
            self.chromium.wait_text("#connection", "sin conexión, se reintenta")
            self.chromium.wait("live", LIVE)
            self.assertEqual(server.refusals, 0)
            self.assert_quiet(but=["503"])

    def test_the_verdict_is_announced_only_when_it_changes(self):
        nodes = [pretend.node(1), pretend.node(2)]
        with Pretender(pretend.frame(nodes)) as server:
            self.chromium.open(server.address)
            self.assertEqual(self.chromium.run("const words = document.getElementById('verdict-words'); return [words.getAttribute('role'), words.getAttribute('aria-live')]"), ["status", "polite"])
            self.chromium.run("window.changes = 0; new MutationObserver(() => { window.changes += 1; }).observe(document.getElementById('verdict-words'), { subtree: true, childList: true, characterData: true })")
            later = "return Number(document.getElementById('view').dataset.frame.split(':')[1]) > arguments[0]"
            self.chromium.wait("later frames", later, server.number + 5)
            self.assertEqual(self.chromium.run("return window.changes"), 0)
            nodes[1].update(state="not-operative", cause="closed")
            server.frame = pretend.frame(nodes, verdict={"level": "warn", "code": "fewer-than-expected"})
            self.chromium.wait_text("#verdict-text", "1 de 2 operativos")
            self.assertGreater(self.chromium.run("return window.changes"), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
