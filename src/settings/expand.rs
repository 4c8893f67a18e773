//! Expands `~` and variables in paths that no shell expands: those of config files and of environment variables.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// `~`, `~user`, `$NAME` and `${NAME}` expanded as Python's `os.path.expandvars(os.path.expanduser(path))` does, which
/// huggingface_hub applies to its folders. Unknown users and variables stay as written.
pub fn expand_path(path: &OsStr) -> PathBuf {
    expand(path, &|name| std::env::var_os(name), &home_of)
}

/// The home folder of the user `name`; of the current user if `name` is empty.
fn home_of(name: &str) -> Option<PathBuf> {
    if name.is_empty() {
        return std::env::home_dir();
    }
    #[cfg(unix)]
    return nix::unistd::User::from_name(name).ok()?.map(|user| user.dir);
    #[cfg(not(unix))]
    None
}

fn expand(
    path: &OsStr,
    variable: &dyn Fn(&str) -> Option<OsString>,
    home_of: &dyn Fn(&str) -> Option<PathBuf>,
) -> PathBuf {
    // A path that is not UTF-8 stays as it is.
    let Some(text) = path.to_str() else { return path.into() };
    let (user, below) = text.split_at(text.find('/').unwrap_or(text.len()));
    let home = user.strip_prefix('~').and_then(home_of).and_then(|home| home.into_os_string().into_string().ok());
    let text = match home {
        Some(home) => format!("{}{below}", home.trim_end_matches('/')),
        None => text.to_owned(),
    };
    let text = with_variables(&text, variable);
    // A home folder may be the root, which is empty after its slash is trimmed.
    if text.is_empty() && !path.is_empty() { "/".into() } else { text.into() }
}

/// One pass from left to right; values are not expanded again.
fn with_variables(text: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> OsString {
    let mut expanded = OsString::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, reference) = rest.split_at(at);
        expanded.push(before);
        let (name, length) = name(&reference[1..]);
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => expanded.push(value),
            None => expanded.push(&reference[..1 + length]),
        }
        rest = &reference[1 + length..];
    }
    expanded.push(rest);
    expanded
}

/// The name of a variable after its `$`, and its length in bytes with the braces; empty if there is none.
fn name(text: &str) -> (&str, usize) {
    if let Some((name, _)) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        return (name, name.len() + 2);
    }
    let length = text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    (&text[..length], length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of Python 3.11 with `HOME=/home/me`, `A=a`, `B=$A`, and a user `other`.
    #[test]
    fn path_expansion_matches_python() {
        let variable = |name: &str| match name {
            "A" => Some("a".into()),
            "B" => Some("$A".into()),
            _ => None,
        };
        let home_of = |name: &str| match name {
            "" => Some("/home/me".into()),
            "other" => Some("/home/other/".into()),
            "root" => Some("/".into()),
            _ => None,
        };
        for (path, expanded) in [
            ("~", "/home/me"),
            ("~/x", "/home/me/x"),
            ("~other/x", "/home/other/x"),
            ("~root", "/"),
            ("~root/x", "/x"),
            ("~nobody/x", "~nobody/x"),
            ("/x/~", "/x/~"),
            ("/$A/${A}b/$Ab", "/a/ab/$Ab"),
            ("~/$A", "/home/me/a"),
            ("$B/$", "$A/$"),
            ("${A", "${A"),
            ("${}/$NONE/${NONE}/$$A", "${}/$NONE/${NONE}/$a"),
            ("$é", "$é"),
            ("", ""),
        ] {
            assert_eq!(expand(OsStr::new(path), &variable, &home_of), PathBuf::from(expanded), "{path}");
        }
    }
}
