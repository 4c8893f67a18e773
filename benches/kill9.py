#!/usr/bin/env python3
"""Kills chatnap repeatedly with SIGKILL while it answers and checks the stored conversations.

    kill9.py CHATNAP [--kills 1000] [--model scripted] [--seed 1] [--keep]

Half of the kills hit a one-shot run (`-p`, stdout is a pipe), half the TUI in a pseudo-terminal. Most come at a random
moment of a streaming answer, one in ten at a random moment after the start of the process, so that opening the database
and storing the question are hit, too. All kills share one data folder, so each start finds the state of the previous
kill. Checked after each kill, from another process:

  - the question of an answer that was shown is stored;
  - `PRAGMA integrity_check` returns ok;
  - the stored answer is a prefix of the generated one, at most 250 ms behind the shown text. The lag of a kill is the
    time from showing the first word that is not stored to the kill; 0 if all shown text is stored;
  - the next start reports no damaged file and marks the answer as interrupted.

`--model scripted` plays a script of numbered words; any other name is a real model, for which only one-shot runs are
killed (the text is compared byte for byte). Needs only Python's standard library. Prints the figures and exits with 1 if
a check failed. 1,000 kills take about 15 minutes; `--kills 200` is a quick check.
"""
import argparse
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

from gpu_tui import Program

ALLOWED_MS = 250
WORD = re.compile(r"\ba(\d{4})\b")
# 1,600 words of 6 bytes, one token per 2 ms: about 12 ms per word. Every third answer pauses after 25 words.
WORDS = " ".join(f"a{n:04}" for n in range(1600))
SCRIPT = f"""token_ms = 2
context_length = 16384
fallback = "{WORDS}"
[[answer]]
when = "pause"
text = "{WORDS}"
pause_after = 150
pause_ms = 3000
"""


def last_word(text):
    """The number of the last whole word, -1 if there is none."""
    found = WORD.findall(text)
    return max(map(int, found)) if found else -1


class Shown:
    """The times at which the shown part of the answer grew, with its length."""

    def __init__(self):
        self.moments = []

    def note(self, amount):
        if not self.moments or amount > self.moments[-1][1]:
            self.moments.append((time.monotonic(), amount))

    def most(self):
        return self.moments[-1][1] if self.moments else -1

    def first_beyond(self, stored):
        """The time at which more than `stored` was first shown; None if it never was."""
        return next((at for at, amount in self.moments if amount > stored), None)


class Run:
    def __init__(self, options):
        self.options = options
        self.home = tempfile.mkdtemp(prefix="chatnap-kill9-")
        self.scripted = options.model == "scripted"
        self.environment = dict(os.environ, TERM="xterm-256color", LANG="C.UTF-8")
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            self.environment[name] = f"{self.home}/{name}"
        model = options.model
        if self.scripted:
            model = f"scripted:{self.home}/model.toml"
            with open(f"{self.home}/model.toml", "w", encoding="utf-8") as script:
                script.write(SCRIPT)
        self.command = [options.chatnap, "-m", model, "--offline", "--context-length", "16384" if self.scripted else "2048"]
        self.database = f"{self.home}/XDG_DATA_HOME/chatnap/conversations.db"
        self.lags, self.failures, self.lost, self.damaged, self.unmarked = [], [], 0, 0, 0
        self.pending = []

    def fail(self, text):
        self.failures.append(text)
        print(f"FAIL {text}", flush=True)

    def amount(self, text):
        return last_word(text) if self.scripted else len(text.encode())

    def moment(self):
        """Seconds from the first shown word to the kill; None: a random moment after the start."""
        return None if random.random() < 0.1 else random.uniform(0.0, 1.5)

    def question(self, number):
        return f"question {number:04}" + (" pause" if number % 3 == 0 else "")

    def one_shot(self, number):
        child = subprocess.Popen(
            [*self.command, "-p", self.question(number), "--max-tokens", "9000" if self.scripted else "600"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        shown, text = Shown(), b""
        wait = self.moment()
        deadline = time.monotonic() + (random.uniform(0.0, 0.4) if wait is None else 60.0)
        while time.monotonic() < deadline:
            if not select.select([child.stdout], [], [], min(0.01, max(0.0, deadline - time.monotonic())))[0]:
                continue
            data = os.read(child.stdout.fileno(), 65536)
            if not data:
                break
            text += data
            if wait is not None and not shown.moments:
                deadline = time.monotonic() + wait
            shown.note(self.amount(text.decode(errors="replace")))
        killed = time.monotonic()
        child.send_signal(signal.SIGKILL)
        rest, warnings = child.communicate()
        text += rest
        if rest:
            shown.note(self.amount(text.decode(errors="replace")))
        self.check_warnings(number, warnings.decode(errors="replace"))
        return shown, killed, text.decode(errors="replace")

    def interface(self, number):
        program = Program(self.command, self.environment)
        shown, wait = Shown(), self.moment()
        deadline = time.monotonic() + (random.uniform(0.0, 0.6) if wait is None else 60.0)
        asked = False
        while time.monotonic() < deadline:
            if not program.look(0.01):
                break
            text = program.screen.text()
            if not asked and "Ask anything" in text:
                program.type(self.question(number))
                program.type("\r")
                asked = True
            amount = last_word(text)
            if amount >= 0:
                if wait is not None and not shown.moments:
                    deadline = time.monotonic() + wait
                shown.note(amount)
        killed = time.monotonic()
        os.kill(program.pid, signal.SIGKILL)
        while select.select([program.terminal], [], [], 0)[0] and program.look(0):
            shown.note(last_word(program.screen.text()))
        os.waitpid(program.pid, 0)
        os.close(program.terminal)
        if "damaged" in program.screen.text():
            self.fail(f"kill {number}: the TUI reports a damaged file")
        return shown, killed, ""

    def check_warnings(self, number, text):
        if "warning" in text or "kept as" in text:
            self.fail(f"kill {number}: {text.strip()}")

    def check(self, number, shown, killed, text):
        question = self.question(number)
        if not os.path.exists(self.database):
            if shown.moments:
                self.lost += 1
                self.fail(f"kill {number}: there is no database")
            return
        verdict, found, states = self.read(question)
        if verdict != "ok":
            self.damaged += 1
            return self.fail(f"kill {number}: integrity_check: {verdict}")
        if shown.moments:
            # This start reached an answer, so it must have marked the answers that earlier kills interrupted.
            for one in self.pending:
                if states.get(one) != "interrupted":
                    self.unmarked += 1
                    self.fail(f"kill {number}: the next start left {one!r} as {states.get(one)}")
            self.pending = []
        if not found:
            if shown.moments:
                self.lost += 1
                self.fail(f"kill {number}: the question is not stored, though {shown.most()} of its answer was shown")
            return
        answer, state = found[0]
        if state == "pending":
            self.pending.append(question)
        elif not (state == "stop" and shown.most() >= 0) and state != "length":
            self.fail(f"kill {number}: the answer is stored as {state}")
        if self.scripted and not WORDS.startswith(answer):
            self.fail(f"kill {number}: the stored answer differs: {answer[-40:]!r}")
        if not self.scripted and not (text.startswith(answer.strip()) or answer.startswith(text.strip())):
            self.fail(f"kill {number}: the stored answer differs")
        beyond = shown.first_beyond(self.amount(answer))
        lag = 0.0 if beyond is None else max(0.0, (killed - beyond) * 1000)
        if shown.moments:
            self.lags.append(lag)
        if lag > ALLOWED_MS:
            self.fail(f"kill {number}: {lag:.0f} ms behind: {shown.most()} shown, {self.amount(answer)} stored")

    def read(self, question):
        """Reads a copy of the database, because the next start must find it as the kill left it."""
        with tempfile.TemporaryDirectory() as folder:
            for ending in ("", "-wal"):
                if os.path.exists(self.database + ending):
                    shutil.copy(self.database + ending, f"{folder}/copy.db{ending}")
            db = sqlite3.connect(f"{folder}/copy.db")
            try:
                verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
                found = db.execute("SELECT answer, state FROM turns WHERE prompt = ?", [question]).fetchall()
                return verdict, found, dict(db.execute("SELECT prompt, state FROM turns").fetchall())
            except sqlite3.DatabaseError as error:
                return str(error), [], {}
            finally:
                db.close()

    def marked_at_last(self):
        """Checks that one more start marks the answer that the last kill interrupted."""
        subprocess.run([*self.command, "-p", "the last one", "--max-tokens", "3"], env=self.environment,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        db = sqlite3.connect(self.database)
        left = db.execute("SELECT count(*) FROM turns WHERE state = 'pending'").fetchone()[0]
        db.close()
        if left:
            self.unmarked += left
            self.fail(f"{left} answers are still pending after the last start")

    def all(self):
        begin = time.monotonic()
        for number in range(self.options.kills):
            both = self.scripted and number % 2 == 1
            shown, killed, text = self.interface(number) if both else self.one_shot(number)
            self.check(number, shown, killed, text)
            if (number + 1) % 50 == 0:
                print(f"{number + 1} kills, {time.monotonic() - begin:.0f} s", flush=True)
        self.marked_at_last()
        return self.summary()

    def summary(self):
        lags = sorted(self.lags)
        at = lambda share: lags[min(len(lags) - 1, int(len(lags) * share))] if lags else 0.0
        figures = [("kills", self.options.kills), ("kills while an answer was shown", len(lags)),
                   ("lag p50 ms", f"{at(0.5):.0f}"), ("lag p99 ms", f"{at(0.99):.0f}"), ("lag max ms", f"{at(1.0):.0f}"),
                   ("questions lost", self.lost), ("databases damaged", self.damaged),
                   ("not marked as interrupted", self.unmarked), ("checks failed", len(self.failures))]
        for name, value in figures:
            print(f"figure\tkill9 {name}\t{value}")
        if not lags:
            self.fail("no kill hit an answer")
        return 1 if self.failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chatnap")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the data folder")
    options = parser.parse_args()
    options.chatnap = os.path.abspath(options.chatnap)
    random.seed(options.seed)
    run = Run(options)
    try:
        code = run.all()
    finally:
        if options.keep:
            print(f"kept: {run.home}")
        else:
            shutil.rmtree(run.home, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
