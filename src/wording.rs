//! Text helpers: plurals, byte counts, dates, URLs without credentials, and the known word nearest to a mistyped one.
//! Pure functions.

/// `noun` in the form for `count`: `answer` after 1, `answers` after any other number. For regular nouns.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// `98.4 MB`, `4.9 GB`: decimal units, as disks and the hub count.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 99.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A model's name for display: the last component of a path, any other name as it is; a server's address without its scheme.
pub fn short_name(model: &str) -> String {
    if let Some((model, server)) = model.rsplit_once('@').filter(|_| is_on_server(model)) {
        let server = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        return match model {
            "" => server.to_owned(),
            _ => format!("{}@{server}", short_name(model)),
        };
    }
    let is_path = model.starts_with(['/', '.', '~']) || model.starts_with("scripted:");
    match model.trim_end_matches('/').rsplit_once('/') {
        Some((_, last)) if is_path && !last.is_empty() => last.to_owned(),
        _ => model.to_owned(),
    }
}

/// Whether the name of a model is one of a server, `MODEL@SERVER`.
pub fn is_on_server(model: &str) -> bool {
    model.rsplit_once('@').is_some_and(|(_, server)| {
        let is_address = server.starts_with("http://") || server.starts_with("https://");
        !server.is_empty() && (is_address || !server.contains('/'))
    })
}

/// Advice whether a larger `--context-length` would help, for a model that was trained with `trained` tokens.
pub fn larger_context(context_length: usize, trained: usize) -> String {
    if trained > context_length {
        format!("A larger --context-length holds more, up to the {trained} tokens that this model was made for.")
    } else {
        format!("The context cannot be larger: this model was made for {trained} tokens.")
    }
}

/// `text` without user names and passwords in its URLs: `https://me:secret@host/x` → `https://host/x`.
pub fn without_user_info(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        let end = address.find(char::is_whitespace).unwrap_or(address.len());
        shown.push_str(before);
        rest = &address[user_info(&address[..end])..];
    }
    shown + rest
}

/// Length in bytes of the user info, with the `@`, at the start of `address`, the text after `://`.
fn user_info(address: &str) -> usize {
    let authority = &address[..address.find(['/', '?', '#', '\\']).unwrap_or(address.len())];
    if let Some(at) = authority.rfind('@') {
        return at + 1;
    }
    // A password with an unescaped `/`, `#` or `?` looks like a port that is not a number.
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = authority.ends_with(']') || port.bytes().all(|b| b.is_ascii_digit());
    if is_port { 0 } else { address.rfind('@').map_or(0, |at| at + 1) }
}

/// Formats milliseconds since 1970 as `2026-11-22 10:34 UTC`.
pub fn utc(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Formats milliseconds since 1970 in the system's time zone: `2026-11-22 11:34`.
pub fn local(ms: u64) -> String {
    zoned(ms, &jiff::tz::TimeZone::system())
}

fn zoned(ms: u64, zone: &jiff::tz::TimeZone) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// The known words within a small edit distance of `word`, nearest first.
pub fn near<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // Longer words are not typing errors, and the distance costs the product of the lengths.
    if word.is_empty() || word.len() > 64 {
        return Vec::new();
    }
    let few = |known: &str| (known.len() / 3).max(2).min(known.len() / 2);
    let distances = known.map(|known| (strsim::levenshtein(word, known), known));
    let mut found: Vec<_> = distances.filter(|(distance, known)| *distance <= few(known)).collect();
    found.sort_by_key(|(distance, _)| *distance);
    found.into_iter().map(|(_, known)| known).collect()
}

/// The first word of [`near`].
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    near(word, known).into_iter().next()
}

/// `12,345`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_for_display_is_short_and_tells_the_server() {
        let cases = [
            ("/a/b/model.gguf", "model.gguf"),
            ("owner/repo", "owner/repo"),
            ("org/m:1@https://me.modal.run", "org/m:1@me.modal.run"),
            ("/a/b/model.gguf@http://127.0.0.1:8080", "model.gguf@127.0.0.1:8080"),
            ("@http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("llama3.2@ollama", "llama3.2@ollama"),
        ];
        for (name, shown) in cases {
            assert_eq!(short_name(name), shown);
        }
    }

    #[test]
    fn utc_handles_leap_years() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_827_640_000), "2000-02-29 12:34 UTC");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28 23:59 UTC");
        assert_eq!(utc(1_795_343_640_000), "2026-11-22 10:34 UTC");
    }

    #[test]
    fn local_time_follows_the_zone() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(zoned(951_864_000_000, &zone), "2000-03-01 00:40");
        assert_eq!(zoned(0, &jiff::tz::TimeZone::UTC), "1970-01-01 00:00");
    }

    #[test]
    fn credentials_in_urls_are_removed() {
        for (text, shown) in [
            ("https://me:secret@host/x", "https://host/x"),
            ("https://secret@host", "https://host"),
            ("at https://me:s%40e@cret@host:8080/a@b, then http://x:y@z", "at https://host:8080/a@b, then http://z"),
            ("https://me:s/e#c?ret@host/x", "https://host/x"),
            ("http://[::1]:8080/a@b", "http://[::1]:8080/a@b"),
            ("http://[::1]/a@b", "http://[::1]/a@b"),
            ("https://host:8080/a@b.gguf me@host", "https://host:8080/a@b.gguf me@host"),
            ("http://a:b@http://c:d@e", "http://http://e"),
            ("no address", "no address"),
            ("://@", "://"),
        ] {
            assert_eq!(without_user_info(text), shown);
        }
    }

    #[test]
    fn plural_is_singular_only_for_one() {
        let said: Vec<_> = [0, 1, 2].iter().map(|count| format!("{count} {}", plural(*count, "answer"))).collect();
        assert_eq!(said, ["0 answers", "1 answer", "2 answers"]);
    }

    #[test]
    fn nearest_finds_close_words_and_rejects_distant_ones() {
        let known = ["MODEL", "THEME", "THREADS"];
        assert_eq!(nearest("MODLE", known.into_iter()), Some("MODEL"));
        assert_eq!(nearest("THREAD", known.into_iter()), Some("THREADS"));
        assert_eq!(nearest("X", known.into_iter()), None);
        assert_eq!(nearest("", known.into_iter()), None);
        assert_eq!(near("THEM", known.into_iter()), ["THEME"]);
    }

    #[test]
    fn bytes_have_one_decimal_and_decimal_units() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (98_400_000, "98.4 MB"),
            (999_999, "1.0 MB"),
            (15_900_000_000, "15.9 GB"),
            (143_650_000, "144 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn model_path_is_listed_by_its_last_part() {
        assert_eq!(short_name("/models/a/b.gguf"), "b.gguf");
        assert_eq!(short_name("./folder/"), "folder");
        assert_eq!(short_name("owner/repo"), "owner/repo");
        assert_eq!(short_name("/"), "/");
    }
}
