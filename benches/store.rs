//! Times lists and searches of many stored conversations.
//!
//!     cargo run --release --example store [CONVERSATIONS]
//!
//! Fills a new store in a temporary folder, 10,000 conversations of two turns and about 2 kB without an argument, and
//! prints `figure<TAB>store NAME<TAB>VALUE`. Words are distributed as in a natural text: the n-th most frequent one
//! occurs 1/n times as often as the first. Each time is the median and the longest of 20 calls.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use chatnap::store::{Store, read_conversations};

const VOCABULARY: usize = 20_000;
const CALLS: usize = 20;

/// A fixed sequence of random numbers: all runs have the same texts.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn text(&mut self, words: usize) -> String {
        let mut text = String::new();
        for _ in 0..words {
            // The inverse of the distribution function of 1/n.
            let rank = ((VOCABULARY as f64).powf(self.next()) as usize).min(VOCABULARY) - 1;
            text += &word(rank);
            text += if self.next() < 0.1 { ". " } else { " " };
        }
        text
    }
}

/// The word of this rank: frequent words are short.
fn word(rank: usize) -> String {
    const SYLLABLES: [&str; 20] = [
        "the", "an", "my", "ste", "ri", "ous", "va", "st", "in", "ly", "co", "de", "pro", "mo", "to", "re", "ka", "lu",
        "pe", "习",
    ];
    let mut word = SYLLABLES[rank % 20].to_owned();
    let mut rest = rank / 20;
    while rest > 0 {
        word += SYLLABLES[rest % 20];
        rest /= 20;
    }
    word
}

fn figure(name: &str, mut call: impl FnMut() -> usize) {
    let mut found = 0;
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|_| {
            let begin = Instant::now();
            found = call();
            begin.elapsed()
        })
        .collect();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "figure\tstore {name}\t{:.1} ms, longest {:.1}; {found} found",
        ms(times[CALLS / 2]),
        ms(times[CALLS - 1])
    );
}

fn main() {
    let count = std::env::args().nth(1).map_or(10_000, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("data")).unwrap().store;
    let mut random = Random(1);
    let lines = (0..count).map(|_| {
        let (first, second) = (random.text(12), random.text(20));
        let (one, two) = (random.text(120), random.text(180));
        format!(
            r#"{{"turns": [{{"prompt": "{first}", "answer": "{one}", "state": "stop"}},
                {{"prompt": "{second}", "answer": "{two}", "state": "stop", "parent": 0}}]}}"#
        )
        .replace('\n', " ")
            + "\n"
    });
    let found = read_conversations(&lines.collect::<String>()).unwrap();
    let begin = Instant::now();
    store.import(&found).unwrap();
    println!("figure\tstore import of {count}\t{:.2} s", begin.elapsed().as_secs_f64());
    figure("list", || store.list().unwrap().len());
    figure("search without an index", || store.search("vast mysterious", 50).unwrap().len());
    let begin = Instant::now();
    store.index_all(Duration::from_secs(600)).unwrap();
    println!("figure\tstore index\t{:.2} s", begin.elapsed().as_secs_f64());
    let queries =
        ["m", "my", "mys", "myste", "mysterious", "vast mysterious", "the", "the an my", "\"the an\"", "习", "ri习"];
    for query in queries {
        figure(&format!("search {query}"), || store.search(query, 50).unwrap().len());
    }
    let size = folder.path().join("data/conversations.db").metadata().unwrap().len();
    println!("figure\tstore size\t{:.1} MB", size as f64 / 1e6);
    drop(store);
    figure("open", || Store::open(&folder.path().join("data")).map(|opened| opened.notices.len()).unwrap());
}
