#!/usr/bin/env python3
"""Plays chatnap against llama-server and vLLM, which serve the starter model. `servers.sh` calls it and says what it needs.

Needs Python alone. A proxy between the two writes down what crosses the wire, counts the prompts, and closes nothing.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import gpu_tui
from gpu_tui import Program

QUESTIONS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "用一句话解释什么是人工智能。",
    "Write a Python function that returns the factorial of n.",
    "Name three planets and one fact about each. 🪐",
]
LONG = "Tell me a very long story about the sea. Do not stop before you have said everything."
FAILED = []


def check(what, good, why=""):
    print(f"{'ok  ' if good else 'FAIL'} {what}{': ' + why if why and not good else ''}", flush=True)
    if not good:
        FAILED.append(what)


def figure(name, value):
    print(f"figure\t{name}\t{value}", flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, patience=5):
    with urllib.request.urlopen(url, timeout=patience) as answer:
        return json.load(answer)


class Server:
    """A server in a process of its own."""

    def __init__(self, name, command, port, log):
        self.name, self.port, self.log = name, port, log
        self.command = [part.replace("PORT", str(port)) for part in command]
        self.url = f"http://127.0.0.1:{port}"
        self.process = None
        # Further fields of a request that is not chatnap's.
        self.extra = {}

    def start(self, wait=True, patience=600):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        begin = time.monotonic()
        while wait and not self.is_ready():
            if self.process.poll() is not None or time.monotonic() - begin > patience:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    sys.exit(f"{self.name} did not start:\n{log.read()[-2000:]}")
            time.sleep(0.1)
        return time.monotonic() - begin

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def is_working(self):
        """Whether a prompt is worked on."""
        if self.name == "llama-server":
            return any(slot["is_processing"] for slot in get(f"{self.url}/slots"))
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            running = re.findall(r"^vllm:num_requests_running\{[^}]*\} ([0-9.]+)", answer.read().decode(), re.M)
        return any(float(count) > 0 for count in running)

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None


class Tap:
    """A proxy that keeps the bytes of both directions."""

    def __init__(self, port):
        self.target, self.exchanges = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            kept = (bytearray(), bytearray())
            self.exchanges.append(kept)
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for source, sink, copy in ((client, server, kept[0]), (server, client, kept[1])):
                threading.Thread(target=pump, args=(source, sink, copy), daemon=True).start()

    def prompts(self):
        return sum(sent.count(b"POST /v1/chat/completions HTTP") for sent, _ in self.exchanges)


def pump(source, sink, copy):
    try:
        while data := source.recv(65536):
            copy += data
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Client:
    """chatnap with a home of its own."""

    def __init__(self, chatnap, starter, home):
        self.chatnap, self.starter, self.home = os.path.abspath(chatnap), starter, home
        places = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
        self.environment = {**os.environ, **{name: f"{home}/{name}" for name in places}}
        self.environment |= {"TERM": "xterm-256color", "LANG": "C.UTF-8"}

    def command(self, where, *arguments):
        """`where`: an address of a server; None: the own engine on the CPU."""
        engine = ["--server", where] if where else ["-m", self.starter, "--device", "cpu", "--offline"]
        return [self.chatnap, *engine, *arguments]

    def start(self, where, *arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(self.command(where, *arguments), env=self.environment, text=True, **pipes)

    def ask(self, where, question, *arguments, status=0):
        """The JSON object of an answer."""
        program = self.start(where, "-p", question, "--format", "json", *arguments)
        out, err = program.communicate(timeout=600)
        if program.returncode != status:
            check(f"{question[:30]!r} ends with {status}", False, f"{program.returncode}: {err[-400:]}")
        return json.loads(out) if out.strip() else {}


# Two engines round differently; a difference is taken for that if the server finds both tokens about as likely, in nats.
NEAR = 1.0
GREEDY = ("--temperature", "0", "--repeat-penalty", "1", "--max-tokens", "64")


def common(one, other):
    return len(os.path.commonprefix([one, other]))


def gap(server, question, text, own):
    """Where the server's own text leaves `own`: how much less likely than its choice the server finds the own engine's next
    characters there, in nats; None if it does not name them among its likeliest tokens."""
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 64, "logprobs": True,
            "top_logprobs": 20, "stream": False}
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(body | server.extra).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        tokens = json.load(answer)["choices"][0]["logprobs"]["content"]
    written, difference = "", common(text, own)
    for token in tokens:
        if len(written) + len(token["token"]) > difference:
            rest = own[len(written):]
            near = [other["logprob"] for other in token["top_logprobs"] if other["token"] and rest.startswith(other["token"])]
            return round(token["logprob"] - max(near), 2) if near else None
        written += token["token"]
    return None


def same_answers(client, server, tap, name):
    """Texts and counts of the own engine and of the server."""
    same = total = 0
    for question in QUESTIONS:
        own, theirs = client.ask(None, question, *GREEDY), client.ask(tap.url, question, *GREEDY)
        if "usage" not in own or "usage" not in theirs:
            check(f"{name}: {question!r} is answered", False, str((own, theirs)))
            continue
        equal = own["answer"] == theirs["answer"]
        same, total = same + equal, total + 1
        prompt = [answer["usage"]["prompt_tokens"] for answer in (own, theirs)]
        check(f"{name}: prompt tokens of {question!r}", prompt[0] == prompt[1], str(prompt))
        completion = [answer["usage"]["completion_tokens"] for answer in (own, theirs)]
        if equal:
            # vLLM counts the token that ends an answer, chatnap and llama-server do not.
            end = 1 if name == "vllm" and theirs["finish_reason"] == "stop" else 0
            check(f"{name}: completion tokens of {question!r}", completion[0] + end == completion[1], str(completion))
            check(f"{name}: finish reason of {question!r}", own["finish_reason"] == theirs["finish_reason"])
        else:
            at = common(own["answer"], theirs["answer"])
            figure(f"{name} first difference, {question!r}", f"character {at}: own {own['answer'][at:at + 30]!r}, "
                   f"server {theirs['answer'][at:at + 30]!r}")
            nats = gap(server, question, theirs["answer"], own["answer"])
            figure(f"{name} gap there, nats", nats)
            check(f"{name}: {question!r} differs where both tokens are about as likely", nats is not None and nats < NEAR)
        if question == QUESTIONS[0]:
            device = theirs["device"]
            check(f"{name}: the device is the server", device["kind"] == "server" and device["name"] == tap.url, str(device))
        if question == QUESTIONS[3]:
            for who, answer in (("own engine", own), ("server", theirs)):
                timing = answer["timing"]
                figure(f"{name} {who}", f"TTFT {timing['ttft_ms']} ms, {timing['tokens_per_second']} tok/s")
    figure(f"{name} same texts", f"{same} of {total}")


def second_turn(client, tap, name):
    first = client.ask(tap.url, "I have 3 apples.", *GREEDY)
    second = client.ask(tap.url, "I ate 1. How many do I have now?", "--conversation", first["conversation"], *GREEDY)
    cached = second["usage"]["cached_tokens"]
    figure(f"{name} cached tokens of a second turn", "unknown" if cached is None else cached)
    check(f"{name}: the second turn has a longer prompt",
          second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"])


def cancelled(client, server, tap, name):
    program = client.start(tap.url, "-p", LONG, "--format", "json", "--max-tokens", "4000", "--temperature", "0")
    begin = time.monotonic()
    while not server.is_working() and time.monotonic() - begin < 60:
        time.sleep(0.02)
    check(f"{name}: the server works on a long answer", server.is_working())
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    begin = time.monotonic()
    while server.is_working() and time.monotonic() - begin < 20:
        time.sleep(0.005)
    took = time.monotonic() - begin
    out, _ = program.communicate(timeout=60)
    figure(f"{name} cancel to idle server ms", round(took * 1000))
    check(f"{name}: Ctrl-C stops the server's work within 1 s", took < 1)
    answer = json.loads(out) if out.strip() else {}
    check(f"{name}: the text so far is kept", bool(answer.get("answer")) and answer.get("finish_reason") == "cancelled",
          out[:200])
    check(f"{name}: Ctrl-C exits with 130", program.returncode == 130, str(program.returncode))


def overflow(client, tap, name):
    program = client.start(tap.url, "-p", "word " * 6000, "--format", "json")
    out, err = program.communicate(timeout=300)
    error = (json.loads(out) if out.strip() else {}).get("error", {})
    check(f"{name}: a prompt beyond the context is an error of its own", program.returncode == 5, f"{program.returncode}: {err[-300:]}")
    figure(f"{name} overflow", str(error.get("message", ""))[:160])


def two_clients(client, tap, name):
    alone = [client.ask(tap.url, question, *GREEDY).get("answer") for question in QUESTIONS[:2]]
    programs = [client.start(tap.url, "-p", question, "--format", "json", *GREEDY) for question in QUESTIONS[:2]]
    together = [json.loads(program.communicate(timeout=300)[0] or "{}").get("answer") for program in programs]
    check(f"{name}: two clients at once are answered", all(together), str(together))
    figure(f"{name} two clients, same texts as alone", sum(a == b for a, b in zip(alone, together)))


def interface(client, server, tap, name):
    command = client.command(tap.url, "--max-tokens", "400", "--temperature", "0")
    program = Program(command, client.environment)
    try:
        begin = time.monotonic()
        check(f"{name}: the first frame", program.wait("the first frame", lambda s: "Ask anything" in s) is not None)
        figure(f"{name} interface, start to first frame s", f"{time.monotonic() - begin:.3f}")
        program.type("What is the capital of France?")
        program.wait("the prompt", lambda s: "France?" in s)
        program.type("\r")
        check(f"{name}: the interface shows the figures of an answer",
              program.wait("figures", lambda s: gpu_tui.last_figures(s) is not None) is not None)
        print(program.screen.text(), flush=True)
        program.type(LONG)
        program.wait("the prompt", lambda s: "everything." in s)
        program.type("\r")
        begin = time.monotonic()
        while not server.is_working() and time.monotonic() - begin < 30:
            program.look(0.02)
        program.type("\x1b")
        begin = time.monotonic()
        while server.is_working() and time.monotonic() - begin < 20:
            program.look(0.01)
        check(f"{name}: Esc stops the server's work", time.monotonic() - begin < 1)
        if name == "llama-server":
            asleep = program.wait("the server's sleep", lambda s: "asleep" in s)
            check(f"{name}: the interface tells that the server sleeps", asleep is not None)
            check(f"{name}: asking did not wake it", get(f"{server.url}/props")["is_sleeping"] is True)
            program.type("Thank you.")
            program.wait("the prompt", lambda s: "Thank you." in s)
            before = gpu_tui.last_figures(program.screen.text())
            program.type("\r")
            woken = program.wait("an answer", lambda s: gpu_tui.last_figures(s) not in (None, before))
            check(f"{name}: a prompt wakes it", woken is not None)
            figure(f"{name} asleep to figures s", f"{woken or 0:.2f}")
        program.type("\x04")
        time.sleep(0.5)
    finally:
        os.kill(program.pid, signal.SIGKILL)
        os.waitpid(program.pid, 0)


def sleep_and_wake(client, server, tap, name):
    begin = time.monotonic()
    while not get(f"{server.url}/props")["is_sleeping"] and time.monotonic() - begin < 30:
        time.sleep(0.2)
    check(f"{name}: the server went to sleep", get(f"{server.url}/props")["is_sleeping"])
    answer = client.ask(tap.url, QUESTIONS[0], *GREEDY)
    check(f"{name}: a sleeping server answers", bool(answer.get("answer")))
    if "timing" in answer:
        timing = answer["timing"]
        figure(f"{name} asleep", f"wait {timing['wait_ms']} ms, TTFT {timing['ttft_ms']} ms, total {timing['total_ms']} ms")


def wake(client, server, seconds, name):
    """A prompt is asked before the server is started: by a one-shot and in the interface."""
    server.stop()
    one = client.start(server.url, "-p", QUESTIONS[0], "--format", "json", *GREEDY)
    program = Program(client.command(server.url, "--temperature", "0", "--max-tokens", "64"), client.environment)
    try:
        begin = time.monotonic()
        program.wait("the first frame", lambda s: "Ask anything" in s)
        program.type("Why is the sky blue?")
        program.wait("the prompt", lambda s: "sky blue?" in s)
        program.type("\r")
        seen = set()
        while time.monotonic() - begin < seconds:
            program.look(0.2)
            found = re.search(r"waiting[^\n]*?(\d+)(?:\.\d)? s", program.screen.text())
            if found:
                seen.add(int(found.group(1)))
        print(program.screen.text(), flush=True)
        check(f"{name}: the interface shows the wait", len(seen) >= min(seconds - 3, 5), str(sorted(seen)))
        server.start(wait=False)
        gpu_tui.PATIENCE = 120.0
        check(f"{name}: the prompt of the interface is answered",
              program.wait("figures", lambda s: gpu_tui.last_figures(s) is not None) is not None)
        print(program.screen.text(), flush=True)
    finally:
        os.kill(program.pid, signal.SIGKILL)
        os.waitpid(program.pid, 0)
    out, err = one.communicate(timeout=120)
    answer = json.loads(out) if out.strip() else {}
    check(f"{name}: the prompt of the one-shot is answered", one.returncode == 0 and bool(answer.get("answer")), err[-300:])
    if "timing" in answer:
        figure(f"{name} started after {seconds} s", f"wait {answer['timing']['wait_ms']} ms, TTFT {answer['timing']['ttft_ms']} ms")


def record(tap, folder, name):
    """Writes the first streamed answer and the list of models, as they crossed the wire."""
    os.makedirs(folder, exist_ok=True)
    for what, start in (("chat", b"POST /v1/chat/completions HTTP"), ("models", b"GET /v1/models HTTP")):
        for sent, received in tap.exchanges:
            if sent.startswith(start) and b" 200 " in received[:20]:
                with open(f"{folder}/{name}-{what}.http", "wb") as file:
                    file.write(received)
                break


def play(client, server, tap, name, seconds, folder):
    figure(f"{name} start s", f"{server.start():.1f}")
    same_answers(client, server, tap, name)
    second_turn(client, tap, name)
    cancelled(client, server, tap, name)
    overflow(client, tap, name)
    two_clients(client, tap, name)
    if name == "llama-server":
        sleep_and_wake(client, server, tap, name)
    interface(client, server, tap, name)
    if folder:
        record(tap, folder, name)
    if seconds:
        wake(client, server, seconds, name)
    server.stop()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--chatnap", required=True)
    options.add_argument("--llama-server")
    options.add_argument("--vllm", metavar="FOLDER")
    options.add_argument("--wake", type=int, default=0, metavar="SECONDS")
    options.add_argument("--record", metavar="FOLDER")
    options = options.parse_args()
    model = "SmolLM2-135M-Instruct.Q4_1.gguf"
    pulled = subprocess.run([options.chatnap, "models", "pull", "smollm2-135m"], capture_output=True, text=True, check=False)
    located = subprocess.run([options.chatnap, "models", "path", "smollm2-135m"], capture_output=True, text=True, check=False)
    starter = located.stdout.strip()
    if not os.path.exists(starter):
        sys.exit(f"the starter model {model} cannot be had: {pulled.stderr}{located.stderr}")
    home = tempfile.mkdtemp(prefix="chatnap-servers-")
    servers = []
    try:
        if options.llama_server:
            # Repacked Q4_1 weights end in a segmentation fault on some processors with AVX-512.
            command = [options.llama_server, "-m", starter, "--port", "PORT", "--host", "127.0.0.1", "-c", "8192", "-np", "2",
                       "--sleep-idle-seconds", "5", "--jinja", "--alias", "smollm2-135m", "-t", str(os.cpu_count()), "--no-repack"]
            servers.append(("llama-server", starter, command))
        if options.vllm:
            command = [os.environ.get("VLLM", "vllm"), "serve", options.vllm, "--port", "PORT", "--host", "127.0.0.1",
                       "--max-model-len", "4096", "--enable-prompt-tokens-details", "--served-model-name", "smollm2-135m", "--enforce-eager"]
            servers.append(("vllm", options.vllm, command))
        for name, own, command in servers:
            server = Server(name, command, free_port(), f"{home}/{name}.log")
            try:
                play(Client(options.chatnap, own, f"{home}/{name}"), server, Tap(server.port), name, options.wake, options.record)
            finally:
                server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(f"{len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
