#!/usr/bin/env python3
"""Measures the interface: drives chatnap's TUI in a pseudo-terminal with a scripted model.

    tui_speed.py CHATNAP [--turns 5000] [--conversations 10000]

Needs only Python's standard library. Prints `figure<TAB>tui NAME<TAB>VALUE`: time to the first frame, to the last answer of
a long stored conversation, of Ctrl-Home, PgUp and PgDn in it, of the list of conversations and of each key of a search in
it, from a key to the screen; and the processor time of drawing while an answer of 400 and of 1,600 tokens (one character
each) a second streams, as paragraphs, as one open paragraph and as one open code block. The share of a core is that of the
interface's thread; the scripted model has another.
"""
import argparse
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import sqlite3
import statistics
import struct
import subprocess
import tempfile
import termios
import time

PATIENCE = 30.0
SIZE = (50, 120)
HOLD = 6.0


class Program:
    """The program in its terminal."""

    def __init__(self, command, environment, answers):
        self.begun = time.monotonic()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        self.bytes = 0
        self.answers = answers

    def read(self, seconds):
        """Output that arrives within `seconds`; empty if there is none."""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return b""
        try:
            data = os.read(self.terminal, 1 << 16)
        except OSError:
            raise SystemExit("FAIL the program has ended") from None
        self.bytes += len(data)
        # As most terminals do: the background, then the device attributes, which end the query.
        if b"\x1b]11;?" in data and self.answers:
            os.write(self.terminal, b"\x1b]11;rgb:1010/1010/1010\x1b\\\x1b[?62;22c")
        return data

    def wait(self, piece):
        """Seconds until the output holds `piece`."""
        begin, seen = time.monotonic(), b""
        while time.monotonic() - begin < PATIENCE:
            seen += self.read(0.05)
            if piece in seen:
                return time.monotonic() - begin
        raise SystemExit(f"FAIL never saw {piece!r}")

    def type(self, text):
        os.write(self.terminal, text.encode())

    def settle(self):
        """Reads until 0.15 s without output."""
        while self.read(0.15):
            pass

    def echo(self, letter):
        """Seconds from a key to its letter on the screen; no answer contains the letter."""
        begin = time.monotonic()
        self.type(letter)
        self.wait(letter.encode())
        return time.monotonic() - begin

    def frame(self, keys):
        """Seconds from a key to the end of the frame that it causes, while nothing else is drawn."""
        begin = time.monotonic()
        self.type(keys)
        seen = b""
        while time.monotonic() - begin < PATIENCE:
            seen += self.read(0.05)
            # The end of a synchronised update with something in it.
            if any(len(part) > 40 for part in seen.split(b"\x1b[?2026l")[:-1]):
                return time.monotonic() - begin
        raise SystemExit(f"FAIL nothing was drawn after {keys!r}")

    def seconds(self):
        """Processor time of the interface's thread so far."""
        # The main thread draws; the scripted model has a thread of its own.
        with open(f"/proc/{self.pid}/task/{self.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def figure(name, value):
    print(f"figure\ttui {name}\t{value}", flush=True)


def times(name, values):
    values = sorted(values)
    at95 = values[min(len(values) - 1, int(len(values) * 0.95))]
    figure(name, f"{statistics.median(values) * 1000:.1f} ms median, p95 {at95 * 1000:.1f}, max {values[-1] * 1000:.1f}")


KINDS = {
    "paragraphs": "Some **bold** words of answer {n}, and `code{n}` in a sentence that ends after {n} words.\\n\\n",
    "open paragraph": "Some **bold** words of answer {n}, and `code{n}` in a sentence that ends after {n} words. ",
    "open code block": "    let value{n} = compute(&input, {n}); // comment {n}\\n",
}


def script(kind, rate):
    """A scripted model that writes `rate` tokens of one character a second for longer than they are measured."""
    # Each line differs: otherwise most of a scrolled screen would not be written.
    parts = int(rate * HOLD * 2) // len(KINDS[kind]) + 1
    text = "".join(KINDS[kind].replace("{n}", str(n)) for n in range(parts))
    begin = "```rust\\n" if "code" in kind else ""
    return f'token_ms = {1000 / rate}\ncontext_length = 100000\nfallback = "{begin}{text}"\n'


class Bench:
    def __init__(self, options):
        self.chatnap = os.path.abspath(options.chatnap)
        self.turns, self.conversations = options.turns, options.conversations
        self.home = tempfile.mkdtemp(prefix="chatnap-speed-")
        places = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
        self.environment = {**os.environ, **{name: f"{self.home}/{name}" for name in places}}
        self.environment |= {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
        self.model('fallback = "Short."\n')

    def model(self, text):
        with open(f"{self.home}/model.toml", "w", encoding="utf-8") as file:
            file.write(text)

    def command(self, *arguments):
        return [self.chatnap, "-m", f"scripted:{self.home}/model.toml", *arguments]

    def start(self, *arguments, answers=True):
        return Program(self.command(*arguments), self.environment, answers)

    def first_frames(self, name, answers=True):
        values = []
        for _ in range(10):
            program = self.start(answers=answers)
            program.wait(b"Ask anything")
            values.append(time.monotonic() - program.begun)
            program.end()
        times(name, values)

    def streaming(self):
        self.first_frames("first frame, empty store")
        self.first_frames("first frame, a terminal that does not tell its background", answers=False)
        for kind in KINDS:
            for rate in (400, 1600):
                self.streams(kind, rate)

    def keys(self, name, program):
        values = []
        for n in range(60):
            values.append(program.echo("жюящшцэд"[n % 8]))
            time.sleep(0.03)
        times(name, values)

    def streams(self, kind, rate):
        self.model(script(kind, rate))
        program = self.start("--context-length", "100000")
        program.wait(b"Ask anything")
        program.type("go on then")
        program.settle()
        program.type("\r")
        # Long enough that an open paragraph is long.
        self.drain(program, HOLD / 2)
        before, sent, begin = program.seconds(), program.bytes, time.monotonic()
        self.drain(program, HOLD)
        took = time.monotonic() - begin
        share, rate_out = (program.seconds() - before) / took, (program.bytes - sent) / took
        figure(f"{kind}, {rate} tokens/s", f"{share * 100:.1f} % of a core, {rate_out / 1000:.0f} kB/s")
        self.keys(f"key to screen, {kind}, {rate} tokens/s", program)
        program.end()

    def drain(self, program, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            program.read(0.02)

    def fill(self):
        """Makes a stored conversation long: copies its one turn."""
        subprocess.run(self.command("-p", "How long?", "-q"), env=self.environment, check=True, capture_output=True)
        found = [f"{path}/{name}" for path, _, names in os.walk(self.home) for name in names if name.endswith((".db", ".sqlite"))]
        store = sqlite3.connect(found[0])
        store.row_factory = sqlite3.Row
        first = dict(store.execute("select * from turns order by key desc limit 1").fetchone())
        names = ", ".join(first)
        for n in range(1, self.turns):
            answer = f"Answer {n} has **two** paragraphs.\n\n- one\n- two\n\n```rust\nlet x = {n};\n```\n"
            changed = {"key": first["key"] + n, "parent": first["key"] + n - 1, "prompt": f"Question {n}?", "answer": answer}
            values = list((first | changed).values())
            store.execute(f"insert into turns ({names}) values ({', '.join('?' * len(values))})", values)
        store.execute("update conversations set head = ? where id = ?", (first["key"] + self.turns - 1, first["conversation"]))
        store.commit()
        store.close()

    def long(self):
        self.fill()
        values, tops = [], []
        for _ in range(5):
            program = self.start("-c")
            program.wait(f"Question {self.turns - 1}?".encode())
            values.append(time.monotonic() - program.begun)
            program.settle()
            tops.append(program.frame("\x1b[1;5H"))
            program.end()
        times(f"-c, {2 * self.turns:,} messages", values)
        times(f"Ctrl-Home, {2 * self.turns:,} messages", tops)
        program = self.start("-c")
        program.wait(f"Question {self.turns - 1}?".encode())
        program.settle()
        times("PgUp there", [program.frame("\x1b[5~") for _ in range(40)])
        program.frame("\x1b[1;5H")
        program.settle()
        times("PgDn after Ctrl-Home", [program.frame("\x1b[6~") for _ in range(40)])
        program.end()

    def many(self):
        """Imports conversations of two turns with texts that differ."""
        words = "sky rain rust kernel garden river lamp stone paper cloud bread engine forest mirror copper".split()
        path = f"{self.home}/many.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for n in range(self.conversations):
                pick = [words[(n * step + step) % len(words)] for step in (1, 3, 7, 11)]
                texts = [f"About {pick[0]} and {pick[1]} {n}?", f"The {pick[2]} is {pick[3]}, number {n}. " * 8]
                texts += [f"And what of {pick[3]}?", f"It is like {pick[1]} in a {pick[0]}. " * 8]
                roles = ["user", "assistant"] * 2
                messages = [{"role": role, "content": text} for role, text in zip(roles, texts)]
                file.write(json.dumps({"messages": messages}) + "\n")
        subprocess.run(self.command("conversations", "import", path), env=self.environment, check=True, capture_output=True)
        # The search index is filled in the background.
        program = self.start()
        self.drain(program, 20)
        program.end()
        self.first_frames(f"first frame, {self.conversations:,} conversations")
        lists, keys = [], []
        for _ in range(5):
            program = self.start()
            program.wait(b"Ask anything")
            program.settle()
            begin = time.monotonic()
            program.type("\x13")
            # A title, which the list is the first to show there.
            program.wait(b"About ")
            lists.append(time.monotonic() - begin)
            program.settle()
            for letter in "copper gar":
                keys.append(program.frame(letter))
                time.sleep(0.2)
            program.end()
        times(f"list of {self.conversations:,} conversations", lists)
        times("key of a search in it", keys)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chatnap")
    parser.add_argument("--turns", type=int, default=5000)
    parser.add_argument("--conversations", type=int, default=10000)
    options = parser.parse_args()
    # Each with a store of its own.
    for part in (Bench.streaming, Bench.many, Bench.long):
        bench = Bench(options)
        try:
            part(bench)
        finally:
            shutil.rmtree(bench.home, ignore_errors=True)


if __name__ == "__main__":
    main()
