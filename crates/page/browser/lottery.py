#!/usr/bin/env python3
"""The lottery's page in a real headless Chromium, with a real lottery-server. It is run as browser.py is."""

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from browser import PROGRAMS, PageTest
from chromium import PATIENCE, wait_for
from store import free_port

SOURCES = Path(__file__).resolve().parents[2] / "tp0/src/lottery"
LORCA = "Santiago Lionel,Lorca,30904465,1999-03-17,2201"
WINNER = "Ana,Paz,21689196,2000-02-29,7574"
# An agency's name may hold anything but a comma, a colon and what a terminal acts on.
HOSTILE = "<img src=x onerror=document.title=1>"


class Lottery:
    """A server whose draw waits for so many agencies. It ends with the block of `with`."""

    def __init__(self, agencies):
        self.agencies = agencies
        self.opened = contextlib.ExitStack()
        self.folder = Path(self.opened.enter_context(tempfile.TemporaryDirectory()))
        self.port, page = free_port(), free_port()
        self.address = f"http://127.0.0.1:{page}"
        self.command = [Path(PROGRAMS).resolve() / "lottery-server", "--page", f"127.0.0.1:{page}"]

    def __enter__(self):
        settings = {"SERVER_PORT": str(self.port), "SERVER_IP": "127.0.0.1", "NUMBER_OF_CLIENTS": str(self.agencies)}
        out = self.opened.enter_context(open(self.folder / "log", "wb"))
        self.process = subprocess.Popen(self.command, cwd=self.folder, env={**os.environ, **settings}, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.opened.callback(self.end)
        wait_for(f"the page at {self.address}", self.is_up)
        return self

    def __exit__(self, *_):
        self.opened.close()

    def end(self):
        self.process.kill()
        self.process.wait()

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError("lottery-server has ended: " + (self.folder / "log").read_text()[-2000:])
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(self.address + "/livez", timeout=PATIENCE):
            return True

    def agency(self, name):
        return self.opened.enter_context(Agency(name, self.port))


class Agency:
    """A connection of an agency."""

    def __init__(self, name, port):
        self.name = name
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.replies = self.stream.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.replies.close()
        self.stream.close()

    def ask(self, message):
        """Sends the message, and returns the first line of the reply."""
        self.stream.sendall(f"{self.name}:{message}\r\n".encode())
        return self.replies.readline().decode().strip()

    def send(self, *bets):
        return self.ask("4:" + "".join(f"{bet}\n" for bet in bets))


class LotteryPage(PageTest):
    def test_a_lottery_is_seen_from_its_first_bet_to_its_draw(self):
        with Lottery(2) as lottery:
            self.chromium.open(lottery.address)
            self.chromium.wait_text("#verdict-text", "Aún no hay apuestas; el sorteo espera a 2 agencias")
            first, second = lottery.agency("1"), lottery.agency(HOSTILE)
            self.assertEqual([first.send(LORCA, WINNER), second.send(LORCA), first.send("nada")], ["server:0", "server:0", "server:1"])
            self.chromium.wait("two agencies", "return document.querySelectorAll('[data-agency]').length === 2")
            # A name is text, and nothing else.
            self.assertIn(HOSTILE, self.chromium.texts("[data-agency] a"))
            self.assertEqual(self.chromium.run("return document.querySelectorAll('main img').length"), 0)
            self.chromium.wait_text(".events-card li", "envía algo que se rechaza: no es un mensaje o una apuesta válida")
            self.chromium.wait_text(".counts-card li", "Ahora en bets.csv3")
            self.assertEqual(first.ask("5"), "server:0")
            self.chromium.wait_text("#verdict-text", "1 de 2 agencias terminaron; se reciben apuestas")
            self.chromium.wait_text(".drum .much", "1 / 2")
            self.assert_everywhere("sending")
            self.assertEqual(second.ask("5"), "server:0")
            self.chromium.wait_text("#verdict-text", "Sorteo realizado: 1 apuesta ganadora")
            self.assertEqual(first.ask("6"), f"server:3:1,{WINNER}")
            self.chromium.wait_text("[data-agency='1'] small", "tiene sus ganadores")
            self.assertNotIn("21689196", self.chromium.texts("body")[0], "the page tells who has won")
            self.assert_everywhere("drawn")
            self.chromium.open(f"{lottery.address}/?lang=en#agencia=1")
            self.chromium.wait_text("#verdict-text", "The draw is held: 1 winning bet")
            self.chromium.wait("the agency of the link", "return document.querySelector('[data-selected][data-agency]')?.dataset.agency === '1'")
            self.assert_quiet()
            requests = self.chromium.requests()
            self.assertGreater(len(requests), 8)
            self.assertEqual([url for url in requests if not url.startswith(f"{lottery.address}/")], [])

    def assert_everywhere(self, when):
        """It can be read in both themes, and it fits on a desk and in a hand."""
        self.chromium.screenshot(f"lottery-{when}")
        self.assert_readable(when)
        self.chromium.resize(360, 740)
        self.assert_fits(when)
        self.chromium.screenshot(f"lottery-{when}-360", whole=True)
        self.chromium.resize(1280, 800)

    def test_many_agencies_are_a_grid_and_counts(self):
        with Lottery(70) as lottery:
            for number in range(70):
                self.assertEqual(lottery.agency(str(number)).send(LORCA), "server:0")
            self.chromium.open(lottery.address)
            self.chromium.wait("64 agencies", "return document.querySelectorAll('.grid li').length === 64")
            self.chromium.wait_text(".star-card p", "Y además: 6 que envían, 0 que terminaron.")
            self.assert_readable("many")
            self.assert_quiet()

    def test_all_that_can_happen_has_words(self):
        """The words of the program are read in its source, so that a new one cannot be forgotten here."""
        event, frame, board = ((SOURCES / name).read_text() for name in ("event.rs", "frame.rs", "board.rs"))

        def variants(source, name):
            body = re.search(rf"enum {name} \{{(.*?)\n\}}", source, re.S)[1]
            found = re.findall(r"^    ([A-Z]\w*)[,(\s{]", body, re.M)
            self.assertGreater(len(found), 2, name)
            return [re.sub(r"(?<!^)([A-Z])", r"-\1", variant).lower() for variant in found]

        wanted = [f"cause.{word}" for name in ("RefusedCause", "BrokenCause") for word in variants(event, name)]
        wanted += [f"event.{word}" for word in re.findall(r'Self::\w+(?:\(_\))? => "([a-z-]+)"', event)]
        wanted += [f"state.{word}" for word in variants(board, "AgencyState")]
        wanted += [f"{kind}.{word}" for kind in ("verdict", "advice") for word in re.findall(r'\("(?:ok|info|warn|bad)", "([a-z-]+)"\)', frame)]
        wanted += [f"{kind}.{word}" for kind in ("good", "warning") for word in set(re.findall(r'(?:of_all\(|rule: )"([a-z-]+)"', frame))]
        self.assertGreater(len(wanted), 30)
        with Lottery(1) as lottery:
            self.chromium.open(lottery.address)
            words = self.chromium.driver.execute_async_script("import('/lottery-words.js').then((module) => arguments[0](Object.keys(module.words)))")
        self.assertEqual([key for key in wanted if key not in words], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
