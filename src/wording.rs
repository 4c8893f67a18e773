//! Small helps for sentences: nouns that agree with their count, dates, and the known word that a mistyped one comes
//! nearest to. Pure.

/// `noun` as it stands after `count`: `answer` after 1, `answers` after any other number. For regular nouns.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// Whether a larger `--context-length` than this would help, for a model that was made for so many tokens.
pub fn larger_context(context_length: usize, trained: usize) -> String {
    if trained > context_length {
        format!("A larger --context-length holds more, up to the {trained} tokens that this model was made for.")
    } else {
        format!("The context cannot be larger: this model was made for {trained} tokens.")
    }
}

/// `text` without the user names and passwords of the addresses in it: `https://me:secret@host/x` → `https://host/x`.
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

/// Bytes of the user info, `@` included, at the start of what follows `://`.
fn user_info(address: &str) -> usize {
    let authority = &address[..address.find(['/', '?', '#', '\\']).unwrap_or(address.len())];
    if let Some(at) = authority.rfind('@') {
        return at + 1;
    }
    // A password with an unescaped `/`, `#` or `?` looks like a port that is no number.
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = authority.ends_with(']') || port.bytes().all(|b| b.is_ascii_digit());
    if is_port { 0 } else { address.rfind('@').map_or(0, |at| at + 1) }
}

/// `2026-11-22 10:34 UTC`, by Howard Hinnant's `civil_from_days` (chrono-compatible low-level date algorithms).
pub fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let days = seconds / 86400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

/// The known word that differs from `word` in the fewest letters, where those are few beside the rest.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond this nobody mistyped a name, and the distance costs the product of the lengths.
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let few = |known: &str| (known.len() / 3).max(2).min(known.len() / 2);
    let near = known.map(|known| (distance(word, known), known)).filter(|(distance, known)| *distance <= few(known));
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Levenshtein's distance in bytes.
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_across_leap_years() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_827_640_000), "2000-02-29 12:34 UTC");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28 23:59 UTC");
        assert_eq!(utc(1_795_343_640_000), "2026-11-22 10:34 UTC");
    }

    #[test]
    fn passwords_in_addresses_are_not_shown() {
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
    fn only_one_is_singular() {
        let said: Vec<_> = [0, 1, 2].iter().map(|count| format!("{count} {}", plural(*count, "answer"))).collect();
        assert_eq!(said, ["0 answers", "1 answer", "2 answers"]);
    }

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not_forced() {
        let known = ["MODEL", "THEME", "THREADS"];
        assert_eq!(nearest("MODLE", known.into_iter()), Some("MODEL"));
        assert_eq!(nearest("THREAD", known.into_iter()), Some("THREADS"));
        assert_eq!(nearest("X", known.into_iter()), None);
        assert_eq!(nearest("", known.into_iter()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
