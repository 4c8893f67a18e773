//! Runs the real program in a pseudo-terminal and parses its output with the terminal emulator vt100.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// The timeout of every wait, longer than any step takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The question for the background's colour; each is written at once.
const ASK: &[u8] = b"\x1b]11;?";

struct Seen {
    parser: vt100::Parser,
    bytes: usize,
    /// Every byte that the program wrote.
    raw: Vec<u8>,
    /// How often the program asked for the background's colour.
    asked: usize,
    over: bool,
    /// The reader thread ends after its next read.
    vanished: bool,
    /// The reader thread pauses after its next read.
    stalled: bool,
}

/// A running program and the master side of its pseudo-terminal.
pub struct Tui {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    child: Program,
    master: Box<dyn MasterPty + Send>,
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
    terminal_before: String,
}

fn nonzero(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).unwrap()
}

/// A temporary home folder of one test, with a scripted model in it.
pub struct Home {
    pub folder: tempfile::TempDir,
}

impl Home {
    pub fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.toml"), script).unwrap();
        Self { folder }
    }

    pub fn script(&self) -> PathBuf {
        self.folder.path().join("model.toml")
    }

    fn environment(&self, command: &mut CommandBuilder) {
        command.env_clear();
        let home = self.folder.path();
        for (name, value) in [("PATH", std::env::var_os("PATH").unwrap()), ("HOME", home.into())] {
            command.env(name, value);
        }
        for (name, folder) in [("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")] {
            command.env(name, home.join(folder));
        }
        for (name, value) in [("TERM", "xterm-256color"), ("LANG", "C.UTF-8"), ("PS1", "shell> ")] {
            command.env(name, value);
        }
        command.cwd(home);
    }

    pub fn command(&self, arguments: &[&str]) -> CommandBuilder {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_chatnap"));
        if !arguments.contains(&"-m") {
            command.args(["-m", &format!("scripted:{}", self.script().display())]);
        }
        command.args(arguments);
        self.environment(&mut command);
        command
    }

    /// Starts the TUI in a terminal of 80×24 and waits for its first frame.
    pub fn start(&self, arguments: &[&str]) -> Tui {
        let mut tui = Tui::spawn(self.command(arguments), 80, 24);
        tui.wait_for("Ask anything");
        tui
    }

    /// Runs the program to its end and returns every byte that it wrote to the terminal.
    pub fn output(&self, arguments: &[&str]) -> Vec<u8> {
        let size = PtySize { rows: 24, cols: 200, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let _child = Program(pair.slave.spawn_command(self.command(arguments)).unwrap());
        drop(pair.slave);
        let mut bytes = Vec::new();
        // Reading from the pty fails with EIO after the program has exited.
        let _ = pair.master.try_clone_reader().unwrap().read_to_end(&mut bytes);
        bytes
    }

    /// Starts an interactive bash in a terminal of 80×24.
    pub fn shell(&self) -> Tui {
        let mut command = CommandBuilder::new("bash");
        command.args(["--norc", "--noprofile", "-i"]);
        self.environment(&mut command);
        Tui::spawn(command, 80, 24)
    }
}

impl Tui {
    pub fn spawn(command: CommandBuilder, columns: u16, rows: u16) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let terminal_before = format!("{:?}", pair.master.get_termios().unwrap());
        let child = Program(pair.slave.spawn_command(command).unwrap());
        drop(pair.slave);
        let parser = vt100::Parser::new(nonzero(rows), nonzero(columns), 0);
        let seen = Arc::new((
            Mutex::new(Seen {
                parser,
                bytes: 0,
                asked: 0,
                raw: Vec::new(),
                over: false,
                vanished: false,
                stalled: false,
            }),
            Condvar::new(),
        ));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let writer = Arc::new(Mutex::new(pair.master.take_writer().unwrap()));
        let (shared, answers) = (seen.clone(), writer.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            loop {
                let read = reader.read(&mut buffer).unwrap_or(0);
                let mut seen = shared.0.lock().unwrap();
                seen.parser.process(&buffer[..read]);
                seen.bytes += read;
                seen.raw.extend(&buffer[..read]);
                if buffer[..read].windows(4).any(|bytes| bytes == b"\x1b[6n") {
                    let (row, column) = seen.parser.screen().cursor_position();
                    let answer = format!("\x1b[{};{}R", row + 1, column + 1);
                    // The program may have ended.
                    let _ = answers.lock().unwrap().write_all(answer.as_bytes());
                }
                seen.asked += buffer[..read].windows(ASK.len()).filter(|bytes| *bytes == ASK).count();
                seen.over = read == 0 || seen.vanished;
                shared.1.notify_all();
                if seen.over {
                    return;
                }
                drop(shared.1.wait_while(seen, |seen| seen.stalled).unwrap());
            }
        });
        Self { seen, child, master: pair.master, writer, terminal_before }
    }

    pub fn type_text(&mut self, text: &str) -> &mut Self {
        let mut writer = self.writer.lock().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.flush().unwrap();
        drop(writer);
        self
    }

    /// Types a prompt, waits until the screen shows it and presses Enter.
    pub fn send(&mut self, text: &str) -> &mut Self {
        self.type_text(text).wait_for(text);
        self.type_text("\r")
    }

    pub fn paste(&mut self, text: &str) -> &mut Self {
        self.type_text(&format!("\x1b[200~{text}\x1b[201~"))
    }

    /// Waits until `right` returns true; panics with the screen's text after `PATIENCE` or at the end of the output.
    pub fn wait_until(&mut self, what: &str, right: impl Fn(&vt100::Screen) -> bool) -> &mut Self {
        let begin = Instant::now();
        let (lock, changed) = &*self.seen;
        let mut seen = lock.lock().unwrap();
        while !right(seen.parser.screen()) {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            if left.is_zero() || seen.over {
                let picture = seen.parser.screen().contents();
                drop(seen);
                panic!("never saw {what}:\n{picture}");
            }
            seen = changed.wait_timeout(seen, left).unwrap().0;
        }
        drop(seen);
        self
    }

    /// Waits until the program has asked for the background's colour `times` times, then answers `rgb`, such as
    /// `ffff/ffff/ffff`, before or after the device attributes.
    pub fn answer_background(&mut self, times: usize, rgb: &str) -> &mut Self {
        let begin = Instant::now();
        while self.seen.0.lock().unwrap().asked < times {
            assert!(begin.elapsed() < PATIENCE, "never asked for the background:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(1));
        }
        let (color, attributes) = (format!("\x1b]11;rgb:{rgb}\x07"), "\x1b[?62;22c");
        // At the start the attributes are asked for after the colour, later before it.
        let answer = if times == 1 { color + attributes } else { attributes.to_owned() + &color };
        self.type_text(&answer)
    }

    /// Whether the program has asked for the background's colour.
    pub fn has_asked(&self) -> bool {
        self.seen.0.lock().unwrap().asked > 0
    }

    pub fn wait_for(&mut self, text: &str) -> &mut Self {
        self.wait_until(text, |screen| screen.contents().contains(text))
    }

    /// Whether the program has written these bytes.
    pub fn has_written(&self, bytes: &str) -> bool {
        self.seen.0.lock().unwrap().raw.windows(bytes.len()).any(|part| part == bytes.as_bytes())
    }

    /// Everything that the program wrote.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap().raw).into_owned()
    }

    /// Waits until the program has written these bytes.
    pub fn wait_for_bytes(&mut self, bytes: &str) -> &mut Self {
        let begin = Instant::now();
        while !self.has_written(bytes) {
            assert!(begin.elapsed() < PATIENCE, "never written: {bytes:?}\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// Waits until the screen contains `text` at least `times` times.
    pub fn wait_for_times(&mut self, text: &str, times: usize) -> &mut Self {
        self.wait_until(&format!("{text} {times} times"), |screen| screen.contents().matches(text).count() >= times)
    }

    pub fn wait_until_gone(&mut self, text: &str) -> &mut Self {
        self.wait_until(&format!("no {text}"), |screen| !screen.contents().contains(text))
    }

    /// Whether the program writes nothing for `time`.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        let (lock, changed) = &*self.seen;
        let seen = lock.lock().unwrap();
        let before = seen.bytes;
        let (seen, _) = changed.wait_timeout_while(seen, time, |seen| seen.bytes == before).unwrap();
        seen.bytes == before
    }

    /// Waits until the program has written nothing for 500 ms: one frame may arrive in several reads.
    pub fn settle(&mut self) {
        let begin = Instant::now();
        while !self.is_silent_for(Duration::from_millis(500)) {
            assert!(begin.elapsed() < PATIENCE, "output never pauses:\n{}", self.text());
        }
    }

    pub fn screen(&self) -> vt100::Screen {
        self.seen.0.lock().unwrap().parser.screen().clone()
    }

    pub fn text(&self) -> String {
        self.screen().contents()
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.seen.0.lock().unwrap().parser.screen_mut().set_size(nonzero(rows), nonzero(columns));
        self.master.resize(PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.0.process_id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Stops reading, as over a stalled connection, and fills the pty's buffer by forcing redraws.
    pub fn stall(&mut self) {
        self.seen.0.lock().unwrap().stalled = true;
        for n in 0..40 {
            self.resize(200 + n % 2, 60);
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Resumes reading after `stall`.
    pub fn go_on(&mut self) {
        self.seen.0.lock().unwrap().stalled = false;
        self.seen.1.notify_all();
    }

    /// Waits for the exit of the process without reading its output; returns the exit code.
    pub fn wait_for_exit_unread(&mut self) -> u32 {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status.exit_code();
            }
            assert!(begin.elapsed() < PATIENCE, "no exit");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of the output and the exit of the process; returns the exit code.
    pub fn wait_for_exit(&mut self) -> u32 {
        {
            let (lock, changed) = &*self.seen;
            let seen = lock.lock().unwrap();
            let (seen, late) = changed.wait_timeout_while(seen, PATIENCE, |seen| !seen.over).unwrap();
            assert!(!late.timed_out(), "no exit:\n{}", seen.parser.screen().contents());
        }
        self.child.0.wait().unwrap().exit_code()
    }

    /// Closes the master side of the pty while the program writes; returns the exit code.
    pub fn vanish(self) -> u32 {
        let Self { seen, child, master, writer, .. } = self;
        // The reader thread ends at the next byte and drops the last of the three master handles.
        seen.0.lock().unwrap().vanished = true;
        drop((master, writer));
        let (sender, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut child = child;
            sender.send(child.0.wait().unwrap().exit_code()).unwrap();
        });
        ended.recv_timeout(PATIENCE).expect("still running without a terminal")
    }

    /// Asserts that screen modes, cursor and termios are as before the start.
    pub fn assert_restored(&self) {
        let screen = self.screen();
        assert!(!screen.alternate_screen(), "still in the alternate screen");
        assert!(!screen.bracketed_paste(), "still in bracketed paste");
        assert!(!screen.hide_cursor(), "the cursor is still hidden");
        assert_eq!(format!("{:?}", self.master.get_termios().unwrap()), self.terminal_before);
    }
}

/// A child process that is killed on drop, also if the test fails.
struct Program(Box<dyn Child + Send + Sync>);

impl Drop for Program {
    fn drop(&mut self) {
        // The error is ignored: after a successful test the process has already exited.
        let _ = self.0.kill();
    }
}

/// Runs a subcommand in this home; returns stdout followed by stderr.
pub fn output(home: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_chatnap"))
        .args(arguments)
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_CACHE_HOME", home.join("cache"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
