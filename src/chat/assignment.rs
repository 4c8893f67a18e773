//! Parses what follows `/set`.

/// A key and its value, in any of the spellings `KEY`, `KEY VALUE`, `KEY = VALUE`, and with Ollama's `parameter` before it.
/// The key is empty if there is none, the value `None`.
pub(super) fn parse(argument: &str) -> (&str, Option<String>) {
    let words = argument.split_once(char::is_whitespace);
    let argument = words.filter(|(first, _)| *first == "parameter").map_or(argument, |(_, rest)| rest.trim());
    let end = argument.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(argument.len());
    let (key, value) = argument.split_at(end);
    let value = value.trim();
    let value = unquoted(value.strip_prefix('=').unwrap_or(value).trim());
    let key = if key == "parameter" && value.is_empty() { "" } else { key };
    (key, (!value.is_empty()).then(|| value.to_owned()))
}

/// `text` without one pair of quotes around it.
fn unquoted(text: &str) -> &str {
    let inner = |quote: &str| text.strip_prefix(quote)?.strip_suffix(quote);
    inner("\"\"\"").or_else(|| inner("\"")).or_else(|| inner("'")).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_understands_several_spellings() {
        for (text, key, value) in [
            ("", "", None),
            ("parameter", "", None),
            ("temperature", "temperature", None),
            ("temperature 0.2", "temperature", Some("0.2")),
            ("temperature=0.2", "temperature", Some("0.2")),
            ("temperature = 0.2", "temperature", Some("0.2")),
            ("parameter temperature 0.2", "temperature", Some("0.2")),
            ("parameter num_ctx 4096", "num_ctx", Some("4096")),
            ("theme 'my theme'", "theme", Some("my theme")),
            ("system \"Be brief.\"", "system", Some("Be brief.")),
            ("system \"\"\"Be\nbrief.\"\"\"", "system", Some("Be\nbrief.")),
        ] {
            assert_eq!(parse(text), (key, value.map(str::to_owned)), "{text:?}");
        }
    }
}
