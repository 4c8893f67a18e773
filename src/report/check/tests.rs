//! Each check with answers that pass and answers that fail.
#![allow(clippy::unwrap_used)]

use super::*;

fn check(toml: &str) -> Check {
    toml::from_str::<RawCheck>(toml).unwrap().check().unwrap()
}

fn judged(answer: &str) -> Judged<'_> {
    Judged { answer, finish: FinishReason::Stop, cached: Some(0) }
}

fn result(toml: &str, answer: &str) -> (Verdict, String) {
    let result = check(toml).judge(judged(answer), &mut |_, _| unreachable!());
    (result.verdict, result.detail)
}

fn verdicts(toml: &str, pass: &[&str], fail: &[&str]) {
    for answer in pass {
        assert_eq!(result(toml, answer).0, Verdict::Pass, "{toml}: {answer}");
    }
    for answer in fail {
        let (verdict, why) = result(toml, answer);
        assert_eq!(verdict, Verdict::Fail, "{toml}: {answer}");
        assert!(!why.is_empty(), "{toml}: {answer}: a failure has a reason");
    }
}

#[test]
fn texts_are_found_by_any_and_by_all() {
    verdicts("contains = 'Paris'", &["It is PARIS.", "paris"], &["Lyon", ""]);
    verdicts("contains = 'Paris'\ncase-sensitive = true", &["Paris"], &["paris"]);
    verdicts("contains = ['a', 'b']", &["ab"], &["a", "c"]);
    verdicts("contains = ['2', 'two']\nmatch = 'any'\nwhole-words = true", &["2 apples", "Two."], &["12", "three"]);
    verdicts("contains = \"can't\"", &["We can’t."], &["We can."]);
    verdicts("not-contains = ['yes', 'sure']", &["no"], &["Yes!", "sure"]);
    verdicts("not-contains = ['a', 'b']\nmatch = 'all'", &["a", "b", "c"], &["a b"]);
    assert_eq!(result("contains = ['a', 'b']", "a").1, "“b” is missing");
    assert_eq!(result("not-contains = ['a', 'b']", "x b").1, "it contains “b”");
}

#[test]
fn a_statement_is_not_asserted_if_each_sentence_with_it_denies_it_or_leaves_it_open() {
    let check = "not-asserted = ['some roses', 'fade']";
    verdicts(check, &["We can’t say that some roses fade.", "Roses are red."], &["No. So some ROSES fade."]);
    assert_eq!(result(check, "No. So some ROSES fade.").1, "it says “so some roses fade.”");
}

#[test]
fn limits_count_words_characters_and_lines() {
    verdicts("max-words = 2", &["one two", ""], &["one two three"]);
    verdicts("max-characters = 4", &["人工智能", " abcd\n"], &["人工智能。"]);
    verdicts("lines = 3", &["a\nb\n\nc"], &["a\nb", "a\nb\nc\nd"]);
    assert_eq!(result("max-words = 2", "one two three").1, "it has 3 words");
}

#[test]
fn language_is_a_share_of_the_letters() {
    verdicts("language = 'han'\nmin-share = 0.6", &["人工智能(AI)"], &["人工 intelligence", "12"]);
    verdicts("language = 'latin'", &["Hello"], &["人工智能"]);
}

#[test]
fn code_must_define_the_name_in_a_block() {
    let pass = "```python\ndef factorial(n):\n    return 1\n```";
    verdicts("defines = 'factorial'", &[pass], &["def factorial(n): return 1", "```python\nprint(factorial(3))\n```"]);
}

#[test]
fn json_and_exact_match_look_at_the_whole_answer() {
    verdicts("json = true", &["{\"a\": [1]}", "```json\n{}\n```"], &["{a}", "Here: {}", ""]);
    verdicts("exact = ['OK', 'OK.']", &[" OK\n", "OK."], &["ok", "OK!", "OK. Done."]);
}

#[test]
fn an_answer_ends_by_itself_if_the_model_ended_it_and_nothing_follows() {
    verdicts("ends-by-itself = true", &["OK"], &["OK\nUser: more", "OK<|im_end|>"]);
    let cut = Judged { finish: FinishReason::Length, ..judged("OK") };
    let result = check("ends-by-itself = true").judge(cut, &mut |_, _| unreachable!());
    assert_eq!((result.verdict, result.detail.as_str()), (Verdict::Fail, "it was cut off at the token limit"));
}

#[test]
fn syllables_are_shown_and_decide_nothing() {
    let (verdict, detail) = result("syllables = [5, 7, 5]", "An old silent pond\nA frog jumps into the pond\nSplash");
    assert_eq!((verdict, detail.as_str()), (Verdict::Shown, "about 5-7-1: not as wanted"));
}

#[test]
fn cached_tokens_are_counted() {
    let with = |cached| {
        let judged = Judged { cached, ..judged("x") };
        check("min-cached = 3").judge(judged, &mut |_, _| unreachable!()).verdict
    };
    assert_eq!((with(Some(3)), with(Some(2)), with(None)), (Verdict::Pass, Verdict::Fail, Verdict::NotRun));
}

#[test]
fn python_is_passed_to_the_runner_with_the_answer() {
    let mut seen = Vec::new();
    let mut run = |answer: &str, code: &str| {
        seen.push((answer.to_owned(), code.to_owned()));
        (Verdict::NotRun, "without --run-code".to_owned())
    };
    let result = check("python = 'assert f(0) == 1'").judge(judged("code"), &mut run);
    assert_eq!((result.verdict, result.check.as_str()), (Verdict::NotRun, "Python: assert f(0) == 1"));
    assert_eq!(seen, [("code".to_owned(), "assert f(0) == 1".to_owned())]);
}

#[test]
fn the_syllogism_passes_only_if_the_conclusion_is_denied() {
    let scenarios = crate::report::Scenarios::built_in().unwrap();
    let checks = &scenarios.list[2].turns[0].checks;
    let passes = |answer: &str| {
        checks.iter().all(|check| check.judge(judged(answer), &mut |_, _| unreachable!()).verdict == Verdict::Pass)
    };
    for answer in [
        "No. The flowers that fade quickly may all be other flowers than roses.",
        "We can’t conclude that, because some flowers are not roses.",
        "It does not follow: the premises say nothing about roses.",
        "This conclusion is not necessarily true.",
    ] {
        assert!(passes(answer), "{answer}");
    }
    for answer in [
        "No, no. Some flowers, like some roses, can fade quickly.",
        "Yes, some roses fade quickly.",
        "We can conclude that some roses fade quickly.",
        "Roses are flowers and some flowers fade quickly. Therefore, some roses fade quickly.",
        "I know roses.",
        "No doubt: we can conclude that some roses fade quickly.",
        "",
    ] {
        assert!(!passes(answer), "{answer}");
    }
}
