//! `chatnap bench`: the JSON fields that scripts rely on, and tests that run at exactly the depth in their name.

use crate::run::Home;
use crate::support::starter_model;

#[test]
fn decode_rows_have_bytes_per_token_and_bandwidth_share() {
    let home = Home::new();
    let file = starter_model();
    let model = file.to_str().unwrap();
    let tests = ["bench", "-m", model, "--test", "pp8,tg2,tg2@40", "--repeat", "1", "--device", "cpu"];
    let ran = home.run(&[&tests[..], &["--format", "json"]].concat());
    assert_eq!(ran.code(), 0, "{ran:?}");
    let told = ran.json();
    assert!(told["machine"]["read_bytes_per_second"].as_u64().unwrap() > 100_000_000, "{told}");
    // The context fits the deepest test: 40 tokens, 2 generated, 2 for a decoder that is one step ahead.
    assert_eq!(told["model"]["context_length"], 44);
    let results = told["results"].as_array().unwrap();
    let names: Vec<_> = results.iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp8", "tg2", "tg2@40"]);
    assert!(results[0]["bytes_per_token"].is_null() && results[0]["share_of_read_bandwidth"].is_null());
    let bytes = |row: usize| results[row]["bytes_per_token"].as_u64().unwrap();
    let size = file.metadata().unwrap().len();
    // The embedding is also the output matrix, so a token reads the whole file except the vocabulary.
    assert!((size * 9 / 10..size).contains(&bytes(1)) && bytes(2) > bytes(1), "{told}");
    for row in &results[1..] {
        let speed = row["tokens_per_second"].as_f64().unwrap() * row["bytes_per_token"].as_f64().unwrap();
        assert!((row["read_bytes_per_second"].as_f64().unwrap() / speed - 1.0).abs() < 0.01, "{row}");
        // If other programs ran during the measurement of the bandwidth, a step may exceed the measured limit.
        let (read, all) = (&row["read_bytes_per_second"], &told["machine"]["read_bytes_per_second"]);
        let share = read.as_f64().unwrap() / all.as_f64().unwrap();
        match row["share_of_read_bandwidth"].as_f64() {
            Some(told) => assert!((told - share).abs() < 0.01, "{row}"),
            None => assert!(share > 1.0, "{row}"),
        }
    }
}

#[test]
fn test_deeper_than_the_context_is_refused_with_the_numbers() {
    let home = Home::new();
    let file = starter_model();
    let ran = home.run(&["bench", "-m", file.to_str().unwrap(), "--test", "tg4@9000", "--device", "cpu"]);
    assert_eq!(ran.code(), 2, "{ran:?}");
    assert!(ran.stderr.contains("9006") && ran.stderr.contains("8192"), "{}", ran.stderr);
}
