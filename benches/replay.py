#!/usr/bin/env python3
"""Answers many prompts in the interface (warm, after releases, edits and branches) and in one-shots (cold), greedy and
seeded, then computes every stored answer again: `chatnap replay --all` must find all of them identical.

    benches/replay.py CHATNAP MODEL [--answers N] [--tokens N] [--device D]

Needs Python alone. Prints `figure<TAB>name<TAB>value` lines; exit status 1 if an answer differs.
"""

import argparse
import json
import os
import pty
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

QUESTIONS = [
    "Name a color.",
    "用中文说一句话。",
    "Write one line of Rust.",
    "Tell me about the sea, in as many words as you like, and do not stop before you have said everything.",
    "Why?",
    "List three animals.",
]


def environment(home):
    paths = {f"XDG_{kind}_HOME": os.path.join(home, kind.lower()) for kind in ("CONFIG", "DATA", "STATE")}
    return {**os.environ, **paths, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}


class Interface:
    """The interface under a pseudo-terminal; its output is read and dropped."""

    def __init__(self, command, home):
        self.store = os.path.join(home, "data", "chatnap", "conversations.db")
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment(home))
        threading.Thread(target=self.drain, daemon=True).start()
        time.sleep(1)

    def drain(self):
        while True:
            select.select([self.terminal], [], [])
            try:
                if not os.read(self.terminal, 65536):
                    return
            except OSError:
                return

    def type(self, text):
        os.write(self.terminal, text.encode())
        time.sleep(0.15)
        os.write(self.terminal, b"\r")

    def answered(self):
        if not os.path.exists(self.store):
            return 0
        try:
            with sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=5) as db:
                return db.execute("SELECT count(*) FROM turns WHERE answer_ids IS NOT NULL").fetchone()[0]
        except sqlite3.OperationalError:
            return 0

    def ask(self, text, limit=300):
        before, deadline = self.answered(), time.monotonic() + limit
        self.type(text)
        while self.answered() == before:
            if time.monotonic() > deadline:
                sys.exit(f"no answer to {text!r} within {limit} s")
            time.sleep(0.03)
        time.sleep(0.1)

    def close(self):
        self.type("/quit")
        os.waitpid(self.pid, 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("chatnap")
    parser.add_argument("model")
    parser.add_argument("--answers", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    home = tempfile.mkdtemp(prefix="chatnap-replay.")
    flags = ["-m", args.model, "--device", args.device, "--max-tokens", str(args.tokens)]
    cold = args.answers // 5
    chat = Interface([args.chatnap, *flags, "--idle-window", "never"], home)
    for number in range(args.answers - cold):
        anew = number % 12 == 11
        if anew:
            chat.type("/new")
            time.sleep(0.3)
        if number % 4 == 0:
            chat.type(f"/set temperature {0 if number % 8 == 0 else 1.5}")
            time.sleep(0.1)
        if number % 9 == 8:
            chat.type("/release")
            time.sleep(0.5)
        chat.ask("/retry" if number % 5 == 4 and not anew else f"{QUESTIONS[number % len(QUESTIONS)]} ({number})")
    chat.close()
    for number in range(cold):
        sampling = ["--temperature", "0"] if number % 2 else ["--temperature", "1.5", "--seed", str(number)]
        going_on = ["-c"] if number % 3 else []
        command = [args.chatnap, *flags, *sampling, *going_on, "-p", QUESTIONS[number % len(QUESTIONS)]]
        subprocess.run(command, env=environment(home), check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    listed = subprocess.run([args.chatnap, "conversations", "list", "--format", "json"], env=environment(home), check=True,
                            capture_output=True, text=True).stdout
    answers = identical = 0
    for conversation in json.loads(listed):
        command = [args.chatnap, "replay", conversation["conversation"], "--all", "--format", "json", "--device", args.device]
        ran = subprocess.run(command, env=environment(home), capture_output=True, text=True)
        found, _ = json.JSONDecoder().raw_decode(ran.stdout) if ran.stdout else ([], 0)
        if not found:
            print(f"FAIL {conversation['conversation']}: {ran.stderr}")
        for answer in found:
            answers += 1
            identical += answer["identical"]
            if not answer["identical"]:
                print("FAIL", json.dumps(answer, ensure_ascii=False))
    print(f"figure\tanswers repeated\t{answers}\nfigure\tanswers identical\t{identical}")
    shutil.rmtree(home)
    sys.exit(0 if answers >= args.answers * 0.9 and identical == answers else 1)


if __name__ == "__main__":
    main()
