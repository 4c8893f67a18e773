#!/usr/bin/env python3
"""Drives chatnap's TUI in a pseudo-terminal and measures memory: load, answer, countdown, release, reload, and a prompt
before the idle release, which reuses the KV cache.

    gpu_tui.py CHATNAP MODEL [ARGUMENT...]

Needs only Python's standard library. On a machine with an NVIDIA GPU the memory is the GPU's (nvidia-smi, which reads
NVML); otherwise, or with `--device cpu`, it is the resident set of the process. Prints `figure<TAB>NAME<TAB>VALUE` and
`ok`/`FAIL` lines, and the screen after each answer and each release.
"""
import codecs
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unicodedata

COLUMNS, ROWS = 100, 30
PATIENCE = 60.0
SEQUENCE = re.compile(r"\x1b(?:\[([?>=<]?)([0-9;:]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B]|[=>78cDEHM])")


class Screen:
    """A minimal terminal emulator: cursor movement, clearing and wide characters; no scrolling, no attributes."""

    def __init__(self):
        self.cells = [[" "] * COLUMNS for _ in range(ROWS)]
        self.row = self.column = 0
        self.pending = ""
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, data):
        text = self.pending + self.decode(data)
        self.pending, at = "", 0
        while at < len(text):
            if text[at] == "\x1b":
                match = SEQUENCE.match(text, at)
                if match:
                    at = match.end()
                    self.control(match)
                elif len(text) - at < 64:
                    self.pending = text[at:]
                    return
                else:
                    at += 1
            else:
                self.put(text[at])
                at += 1

    def control(self, match):
        private, numbers, final = match.groups()
        if private or not final:
            return
        values = [int(n) if n.isdigit() else 0 for n in numbers.split(";")]
        first = values[0] or 1
        if final in "Hf":
            self.row, self.column = first - 1, (values[1] if len(values) > 1 and values[1] else 1) - 1
        elif final == "A":
            self.row -= first
        elif final == "B":
            self.row += first
        elif final == "C":
            self.column += first
        elif final == "D":
            self.column -= first
        elif final == "G":
            self.column = first - 1
        elif final == "d":
            self.row = first - 1
        elif final == "J" and values[0] in (2, 3):
            self.cells = [[" "] * COLUMNS for _ in range(ROWS)]
        elif final == "J":
            self.cells[self.row][self.column:] = [" "] * (COLUMNS - self.column)
            self.cells[self.row + 1:] = [[" "] * COLUMNS for _ in range(ROWS - self.row - 1)]
        elif final == "K" and values[0] == 0:
            self.cells[self.row][self.column:] = [" "] * (COLUMNS - self.column)
        self.row, self.column = min(max(self.row, 0), ROWS - 1), min(max(self.column, 0), COLUMNS - 1)

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row = min(self.row + 1, ROWS - 1)
        elif char >= " " and not unicodedata.combining(char):
            wide = 2 if unicodedata.east_asian_width(char) in "WF" else 1
            if self.column + wide <= COLUMNS:
                self.cells[self.row][self.column:self.column + wide] = [char] + [""] * (wide - 1)
            self.column = min(self.column + wide, COLUMNS - 1)

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)


class Program:
    """The child process in its terminal, with the history of its screen texts."""

    def __init__(self, command, environment):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.screen = Screen()
        self.screens = []
        self.over = False

    def look(self, seconds):
        """Feeds output that arrives within `seconds` to the screen; False if the program has ended."""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return True
        try:
            # Small reads, so that short-lived screens are recorded.
            data = os.read(self.terminal, 512)
        except OSError:
            return False
        self.screen.feed(data)
        text = self.screen.text()
        if not self.screens or self.screens[-1] != text:
            self.screens.append(text)
        return bool(data)

    def wait(self, what, right):
        """Waits until `right` is true for the screen text. Returns the seconds, or None after PATIENCE seconds."""
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENCE:
            if right(self.screen.text()):
                took = time.monotonic() - begin
                self.settle()
                return took
            if not self.look(0.05):
                break
        print(f"FAIL never saw {what}:\n{self.screen.text()}")
        return None

    def settle(self):
        """Reads the rest of the frame: until 30 ms without output, at most 0.2 s."""
        begin = time.monotonic()
        while time.monotonic() - begin < 0.2 and select.select([self.terminal], [], [], 0.03)[0]:
            if not self.look(0):
                return

    def type(self, text):
        os.write(self.terminal, text.encode())


def last_figures(text):
    """The figures line of the last answer on the screen, or None; without stale cells beside it."""
    found = re.findall(r"TTFT .*? completion tokens(?: · load [0-9.]+ m?s)?", text)
    return found[-1] if found else None


def gpu_memory():
    """MiB in use on the first GPU, by all processes."""
    asked = ["nvidia-smi", "-i", "0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0])


def gpu_processes():
    asked = ["nvidia-smi", "-i", "0", "--query-compute-apps=pid,used_memory", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "none"


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return int(re.search(r"VmRSS:\s*(\d+)", status.read()).group(1)) // 1024


class Play:
    def __init__(self, program, on_gpu):
        self.program, self.on_gpu, self.failed = program, on_gpu, False

    def memory(self):
        return gpu_memory() if self.on_gpu else resident(self.program.pid)

    def check(self, what, good):
        print(f"{'ok  ' if good else 'FAIL'} {what}")
        self.failed |= not good

    def figure(self, name, value):
        print(f"figure\ttui {name}\t{value}")

    def picture(self, name):
        print(f"-- {name}\n{self.program.screen.text()}")

    def ask(self, number, prompt):
        """Types a prompt, sends it and waits for its figures."""
        program, since = self.program, len(self.program.screens)
        figures = last_figures(program.screen.text())
        program.type(prompt)
        typed = program.wait("the prompt", lambda s: prompt in s)
        self.check(f"turn {number}: the prompt is in the composer", typed is not None)
        program.type("\r")
        answered = program.wait("the answer's figures", lambda s: last_figures(s) not in (None, figures))
        self.check(f"turn {number}: answered", answered is not None)
        self.figure(f"turn {number} sent to answered s", f"{answered or 0:.2f}")
        screens = program.screens[since:]
        # A small model finishes a short answer within a few frames.
        self.check(f"turn {number}: the answer streamed", len(screens) > 3)
        self.figure(f"turn {number}", (last_figures(program.screen.text()) or "no figures").strip())
        return screens

    def cold_turn(self, number, prompt):
        screens = self.ask(number, prompt)
        self.check(f"turn {number}: the load was shown", any("loading" in screen for screen in screens))
        percents = sorted({int(n) for screen in screens for n in re.findall(r"loading (\d+) %", screen)})
        self.figure(f"turn {number} percents of the load seen", ",".join(map(str, percents)) or "none")

    def warm_turn(self, number, prompt):
        screens = self.ask(number, prompt)
        self.check(f"turn {number}: nothing was loaded", not any("loading" in screen for screen in screens))
        cached = re.search(r"(\d+) cached", last_figures(self.program.screen.text()) or "")
        self.check(f"turn {number}: the conversation before it was cached", cached is not None and int(cached.group(1)) > 0)

    def release(self, number, before):
        program = self.program
        counts = program.wait("the countdown", lambda s: "releases in" in s)
        self.check(f"turn {number}: the countdown runs", counts is not None)
        loaded = self.memory()
        self.picture(f"turn {number}, answered")
        released = program.wait("the release", lambda s: "cold, released" in s)
        self.check(f"turn {number}: released", released is not None)
        said = re.search(r"cold, released (\S+ \S+)", program.screen.text())
        time.sleep(0.3)
        after = self.memory()
        self.picture(f"turn {number}, released")
        self.figure(f"turn {number} countdown and release s", f"{released or 0:.2f}")
        self.figure(f"turn {number} MiB before / loaded / after", f"{before} / {loaded} / {after}")
        self.figure(f"turn {number} released", said.group(1) if said else "nothing")
        if self.on_gpu:
            self.figure(f"turn {number} processes on the GPU after", gpu_processes())
            self.check(f"turn {number}: GPU memory is back within 16 MiB", after <= before + 16)
        else:
            self.check(f"turn {number}: most of the memory is back", loaded - after > (loaded - before) * 0.8)


def main():
    chatnap, model, *rest = sys.argv[1:]
    home = tempfile.mkdtemp(prefix="chatnap-tui-")
    places = {name: f"{home}/{name}" for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **places, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    command = [chatnap, "-m", model, "--idle-window", "3s", "--max-tokens", "100", "--offline", *rest]
    on_gpu = shutil.which("nvidia-smi") is not None and "cpu" not in rest
    play = Play(Program(command, environment), on_gpu)
    program = play.program
    try:
        first = program.wait("the first frame", lambda s: "Ask anything" in s)
        play.check("the first frame is drawn", first is not None)
        play.figure("start to first frame s", f"{first or 0:.3f}")
        before = play.memory()
        play.cold_turn(1, "Why is the sky blue?")
        play.release(1, before)
        between = play.memory()
        play.cold_turn(2, "And at night?")
        play.warm_turn(3, "Thank you.")
        play.release(3, between)
        program.type("\x04")
        begin, ended, status = time.monotonic(), 0, 0
        while ended == 0 and time.monotonic() - begin < 5:
            if not program.look(0.05):
                time.sleep(0.02)
            ended, status = os.waitpid(program.pid, os.WNOHANG)
        play.check("Ctrl-D exits with 0", ended == program.pid and os.waitstatus_to_exitcode(status) == 0)
        program.over = ended == program.pid
    finally:
        if not program.over:
            os.kill(program.pid, 9)
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(1 if play.failed else 0)


if __name__ == "__main__":
    main()
