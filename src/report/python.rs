//! Runs the Python code of an answer, with limits: `python3 -I` in an empty folder, with little CPU time and memory, an
//! empty environment, no standard input, no network where the kernel lets a user cut it, and an end after [`LIMIT`].
//!
//! The code runs as the user who started chatnap and can read and write what that user may: only `--run-code` runs it.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::data::Verdict;
use super::measures;
use crate::engine::source::CancelFlag;

/// Longest time of a run.
const LIMIT: Duration = Duration::from_secs(10);

/// Sets the limits, then becomes the program: 5 s of CPU time, 1 GB of memory, files of at most 1 MB, no core file.
const WITH_LIMITS: &str = "ulimit -t 5; ulimit -v 1000000; ulimit -f 1000; ulimit -c 0; exec \"$@\"";

/// Most bytes of standard error that are read.
const MOST_OUTPUT: u64 = 64 << 10;

/// What this machine has to run code.
#[derive(Debug)]
pub(super) struct Python {
    /// `None`: there is no Python.
    interpreter: Option<PathBuf>,
    cuts_network: bool,
    limit: Duration,
}

impl Python {
    /// Looks for the interpreter, and whether the network can be cut.
    pub(super) fn find() -> Self {
        let own: Vec<_> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        // A system's own interpreter first: those of version managers need the user's environment.
        let folders = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from).into_iter().chain(own);
        let interpreter = folders.map(|folder| folder.join("python3")).find(|path| path.is_file());
        let mut test = Command::new("unshare");
        test.args(["-rn", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let cuts_network = test.status().is_ok_and(|status| status.success());
        Self { interpreter, cuts_network, limit: LIMIT }
    }

    /// Whether code that it runs has no network; for a note in the report.
    pub(super) fn cuts_network(&self) -> bool {
        self.cuts_network
    }

    /// Runs the code of `answer` and then `test`.
    pub(super) fn check(&self, answer: &str, test: &str, stop: &CancelFlag) -> (Verdict, String) {
        let Some(interpreter) = &self.interpreter else { return (Verdict::NotRun, "python3 was not found".into()) };
        let Some(code) = code_of(answer) else { return (Verdict::Fail, "there is no code".into()) };
        let program = format!("{code}\n\n{test}\n");
        match self.run(interpreter, &program, stop) {
            Ok(Ended::By(status, _)) if status.success() => (Verdict::Pass, String::new()),
            Ok(Ended::By(status, stderr)) => (Verdict::Fail, reason(status, &stderr)),
            Ok(Ended::TooLate) => (Verdict::Fail, format!("it did not end within {} s", self.limit.as_secs())),
            Ok(Ended::Stopped) => (Verdict::NotRun, "it was interrupted".into()),
            Err(error) => (Verdict::NotRun, format!("python3 could not be started: {error}")),
        }
    }

    fn run(&self, interpreter: &Path, program: &str, stop: &CancelFlag) -> std::io::Result<Ended> {
        let (code, empty) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let file = code.path().join("answer.py");
        std::fs::write(&file, program)?;
        let mut command = Command::new("sh");
        command.args(["-c", WITH_LIMITS, "sh"]);
        if self.cuts_network {
            command.args(["unshare", "-rn", "--"]);
        }
        command.arg(interpreter).arg("-I").arg(&file).current_dir(empty.path());
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/local/bin").env("HOME", empty.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let stderr = child.stderr.take();
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            // What was read before an error is enough. Dropping the pipe ends a program that writes more.
            let _ = stderr.map(|stderr| stderr.take(MOST_OUTPUT).read_to_end(&mut read));
            String::from_utf8_lossy(&read).into_owned()
        });
        let ended = self.wait(&mut child, stop);
        kill(&child);
        let status = child.wait()?;
        let stderr = reader.join().unwrap_or_default();
        Ok(ended.unwrap_or(Ended::By(status, stderr)))
    }

    /// Waits until the process ends; `None`, or why it has to be killed.
    fn wait(&self, child: &mut Child, stop: &CancelFlag) -> Option<Ended> {
        let begun = Instant::now();
        // An error is that of the `wait` that follows.
        while let Ok(None) = child.try_wait() {
            if stop.is_cancelled() {
                return Some(Ended::Stopped);
            }
            if begun.elapsed() >= self.limit {
                return Some(Ended::TooLate);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

enum Ended {
    /// With its standard error.
    By(ExitStatus, String),
    TooLate,
    Stopped,
}

/// Ends the process and those that it started. They are gone already if the program ended in order.
fn kill(child: &Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

/// The code of an answer: its Python blocks, else all of its blocks, else the answer itself if it looks like code.
fn code_of(answer: &str) -> Option<String> {
    let blocks = measures::code_blocks(answer);
    let is_python = |language: &str| ["python", "python3", "py"].contains(&language.to_lowercase().as_str());
    let own: Vec<_> = blocks.iter().filter(|block| is_python(block.language)).map(|block| block.code).collect();
    if !own.is_empty() {
        return Some(own.join("\n"));
    }
    if !blocks.is_empty() {
        return Some(blocks.iter().map(|block| block.code).collect::<Vec<_>>().join("\n"));
    }
    let looks_like_code = answer.lines().any(|line| line.starts_with("def ") || line.starts_with("import "));
    looks_like_code.then(|| answer.to_owned())
}

/// The last line of what Python wrote, which names the error, or how it ended.
fn reason(status: ExitStatus, stderr: &str) -> String {
    use std::os::unix::process::ExitStatusExt;
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().chars().take(200).collect());
    match (status.signal(), last) {
        (Some(signal), _) => format!("it was ended by signal {signal}: it took too much CPU time or wrote too much"),
        (None, Some(line)) => line,
        (None, None) => format!("it ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Sure:\n```python\ndef f(n):\n    return 1 if n == 0 else n * f(n - 1)\n```\nThat is all.";

    fn check(answer: &str, test: &str) -> (Verdict, String) {
        Python::find().check(answer, test, &CancelFlag::default())
    }

    #[test]
    fn code_is_that_of_python_blocks() {
        assert_eq!(code_of("```sh\nls\n```\n```python\nx = 1\n```").as_deref(), Some("x = 1\n"));
        assert_eq!(code_of("```\nx = 1\n```").as_deref(), Some("x = 1\n"));
        assert_eq!(code_of("def f(): pass").as_deref(), Some("def f(): pass"));
        assert_eq!(code_of("I cannot write code."), None);
    }

    #[test]
    fn right_code_passes_and_wrong_code_fails_with_pythons_reason() {
        assert_eq!(check(GOOD, "assert f(5) == 120"), (Verdict::Pass, String::new()));
        let (verdict, why) = check(GOOD, "assert f(5) == 121, f'f(5) = {f(5)}'");
        assert_eq!((verdict, why.as_str()), (Verdict::Fail, "AssertionError: f(5) = 120"));
        let (verdict, why) = check("```python\ndef f(n:\n```", "f(1)");
        assert!(verdict == Verdict::Fail && why.contains("SyntaxError"), "{why}");
        assert_eq!(check("no code", "f(1)"), (Verdict::Fail, "there is no code".into()));
    }

    #[test]
    fn code_sees_an_empty_folder_and_no_environment() {
        let answer = "```python\nimport os\n```";
        let test = "assert os.listdir('.') == [], os.listdir('.')\n\
                    assert set(os.environ) <= {'PATH', 'HOME', 'PWD', 'OLDPWD', 'SHLVL', '_', 'LC_CTYPE'}, list(os.environ)";
        assert_eq!(check(answer, test), (Verdict::Pass, String::new()));
    }

    #[test]
    fn memory_time_and_output_are_limited() {
        let (verdict, why) = check("```python\nx = bytearray(3_000_000_000)\n```", "");
        assert!(verdict == Verdict::Fail && why.contains("MemoryError"), "{why}");
        let python = Python { limit: Duration::from_millis(300), ..Python::find() };
        let (verdict, why) = python.check("```python\nimport time\n```", "time.sleep(60)", &CancelFlag::default());
        assert!(verdict == Verdict::Fail && why.starts_with("it did not end within"), "{why}");
        let flood = "```python\nimport sys\n```";
        assert_eq!(check(flood, "while True: sys.stderr.write('x' * 4096)").0, Verdict::Fail);
    }

    #[test]
    fn a_network_that_is_cut_cannot_be_reached() {
        let python = Python::find();
        if !python.cuts_network() {
            return;
        }
        let test = "try:\n    socket.create_connection(('127.0.0.1', 9), timeout=1)\nexcept OSError as error:\n    \
                    assert error.errno == 101, error\nelse:\n    assert False";
        let found = python.check("```python\nimport socket\n```", test, &CancelFlag::default());
        assert_eq!(found, (Verdict::Pass, String::new()));
    }

    #[test]
    fn without_an_interpreter_or_after_a_stop_nothing_is_judged() {
        let python = Python { interpreter: None, cuts_network: false, limit: LIMIT };
        assert_eq!(python.check(GOOD, "", &CancelFlag::default()).0, Verdict::NotRun);
        let stop = CancelFlag::default();
        stop.cancel();
        let (verdict, _) = Python::find().check("```python\nimport time\n```", "time.sleep(60)", &stop);
        assert_eq!(verdict, Verdict::NotRun);
    }
}
