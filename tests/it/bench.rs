//! `chatnap bench`: the fields that scripts rely on, and tests that run at the depth of their name or not at all.

use crate::run::Home;
use crate::support::starter_model;

#[test]
fn every_decode_row_says_what_a_token_reads_and_what_share_of_the_limit_that_is() {
    let home = Home::new();
    let file = starter_model();
    let model = file.to_str().unwrap();
    let tests = ["bench", "-m", model, "--test", "pp8,tg2,tg2@40", "--repeat", "1", "--device", "cpu"];
    let ran = home.run(&[&tests[..], &["--format", "json"]].concat());
    assert_eq!(ran.code(), 0, "{ran:?}");
    let told = ran.json();
    assert!(told["machine"]["read_bytes_per_second"].as_u64().unwrap() > 100_000_000, "{told}");
    // As much as the deepest test takes, whatever the context for chats is: 40, 2 more, and a step ahead.
    assert_eq!(told["model"]["context_length"], 44);
    let results = told["results"].as_array().unwrap();
    let names: Vec<_> = results.iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp8", "tg2", "tg2@40"]);
    assert!(results[0]["bytes_per_token"].is_null() && results[0]["share_of_read_bandwidth"].is_null());
    let bytes = |row: usize| results[row]["bytes_per_token"].as_u64().unwrap();
    let size = file.metadata().unwrap().len();
    // The embedding makes the logits too, so a token reads the whole file but its vocabulary.
    assert!((size * 9 / 10..size).contains(&bytes(1)) && bytes(2) > bytes(1), "{told}");
    for row in &results[1..] {
        let speed = row["tokens_per_second"].as_f64().unwrap() * row["bytes_per_token"].as_f64().unwrap();
        assert!((row["read_bytes_per_second"].as_f64().unwrap() / speed - 1.0).abs() < 0.01, "{row}");
        // Where other programs ran while the bandwidth was measured, a step may seem to read more than there is.
        let (read, all) = (&row["read_bytes_per_second"], &told["machine"]["read_bytes_per_second"]);
        let share = read.as_f64().unwrap() / all.as_f64().unwrap();
        match row["share_of_read_bandwidth"].as_f64() {
            Some(told) => assert!((told - share).abs() < 0.01, "{row}"),
            None => assert!(share > 1.0, "{row}"),
        }
    }
}

#[test]
fn a_test_that_is_too_deep_for_the_model_is_refused_with_the_numbers() {
    let home = Home::new();
    let file = starter_model();
    let ran = home.run(&["bench", "-m", file.to_str().unwrap(), "--test", "tg4@9000", "--device", "cpu"]);
    assert_eq!(ran.code(), 2, "{ran:?}");
    assert!(ran.stderr.contains("9006") && ran.stderr.contains("8192"), "{}", ran.stderr);
}
