//! Whole answers as bytes, cut anywhere.

use super::*;

/// Answer, reasoning, ending and counts of a body in packets of `size` bytes.
fn read(body: &str, size: usize) -> (String, String, Ending, Counts) {
    let mut answer = Answer::new(None);
    let mut texts: Vec<_> = body.as_bytes().chunks(size).flat_map(|packet| answer.push(packet)).collect();
    let (last, ending) = answer.end(true);
    texts.extend(last);
    let of = |wanted: Channel| {
        texts.iter().filter(|(channel, _)| *channel == wanted).map(|(_, text)| text.as_str()).collect::<String>()
    };
    (of(Channel::Answer), of(Channel::Reasoning), ending, answer.counts())
}

fn delta(content: &str) -> String {
    format!("data: {}\n\n", serde_json::json!({"choices": [{"index": 0, "delta": {"content": content}}]}))
}

fn finish(reason: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]}}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";

#[track_caller]
fn expect(body: &str, answer: &str, reasoning: &str, ending: Ending) {
    for size in [1, 2, 7, 64, body.len().max(1)] {
        let (text, thought, end, _) = read(body, size);
        assert_eq!((text.as_str(), thought.as_str(), &end), (answer, reasoning, &ending), "packets of {size}: {body}");
    }
}

/// A4.10.
#[test]
fn answer_is_complete_with_a_reason_or_with_done_and_interrupted_without_both() {
    let text = delta("Hi ") + &delta("é🦀");
    let stop = finish("stop");
    expect(&format!("{text}{stop}{DONE}"), "Hi é🦀", "", Ending::Stop);
    expect(&format!("{text}{stop}"), "Hi é🦀", "", Ending::Stop);
    expect(&format!("{text}{DONE}"), "Hi é🦀", "", Ending::Other(None));
    expect(&text, "Hi é🦀", "", Ending::Interrupted);
    expect("", "", "", Ending::Interrupted);
    expect(&format!("{text}{stop}{DONE}{}", delta("more")), "Hi é🦀", "", Ending::Stop);
}

/// A4.10: bytes that are cut in the middle of a frame.
#[test]
fn frame_that_is_cut_off_is_not_text() {
    expect(&format!("{}data: {{\"choices\":[{{\"del", delta("a")), "a", "", Ending::Interrupted);
}

/// A4.11.
#[test]
fn reasons_are_told_apart() {
    let cases = [
        ("stop", Ending::Stop),
        ("eos", Ending::Stop),
        ("tool_calls", Ending::Stop),
        ("length", Ending::Length),
        ("abort", Ending::Interrupted),
        ("content_filter", Ending::Other(Some("content_filter".into()))),
        ("error", Ending::Failed("the server ended the answer with an error".into())),
    ];
    for (reason, ending) in cases {
        expect(&format!("{}{}{DONE}", delta("a"), finish(reason)), "a", "", ending);
    }
    let together = "data: {\"choices\":[{\"delta\":{\"content\":\"end\"},\"finish_reason\":\"stop\"}]}\n\n";
    expect(&format!("{together}{DONE}"), "end", "", Ending::Stop);
}

/// A4.12: usage in every place.
#[test]
fn counts_are_found_in_every_place() {
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2}"#;
    let apart = format!("{}{}data: {{\"choices\":[],{usage}}}\n\n{DONE}", delta("a"), finish("stop"));
    let last = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\"finish_reason\":\"stop\"}}],{usage}}}\n\n{DONE}"
    );
    let totals =
        format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":1}}}}\n\n{apart}");
    let nulls = format!("data: {{\"choices\":[],\"usage\":null}}\n\n{apart}");
    for body in [apart, last, totals, nulls] {
        let (_, _, ending, counts) = read(&body, 5);
        assert_eq!((ending, counts.prompt, counts.completion), (Ending::Stop, Some(3), Some(2)), "{body}");
    }
    let none = read(&format!("{}{}{DONE}", delta("a"), finish("stop")), 5).3;
    assert_eq!(none, Counts::default());
}

/// A4.14.
#[test]
fn reasoning_is_split_off_by_field_or_by_marks() {
    let field = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\",\"reasoning_content\":\"hm\"}}]}\n\n";
    expect(
        &format!("{field}{}{}{DONE}", delta("<think> is a mark"), finish("stop")),
        "<think> is a mark",
        "hm",
        Ending::Stop,
    );
    let marks = delta("<thi") + &delta("nk>\nhm</thi") + &delta("nk>\n\nYes");
    expect(&format!("{marks}{}", finish("stop")), "Yes", "hm", Ending::Stop);
    expect(&format!("{field}{}", finish("stop")), "", "hm", Ending::Stop);
}

/// A4.14.
#[test]
fn tool_call_is_shown() {
    let call = |json: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{json}]}}}}]}}\n\n");
    let first = call(r#"{"index":0,"function":{"name":"now","arguments":"{\"zone\""}}"#);
    let second = call(r#"{"index":0,"function":{"arguments":":\"UTC\"}"}}"#);
    let expected = "[The model asked to call a tool, which chatnap has not: now {\"zone\":\"UTC\"}]\n";
    expect(&format!("{first}{second}{}{DONE}", finish("tool_calls")), expected, "", Ending::Stop);
}

/// A4.15.
#[test]
fn error_ends_the_answer_and_keeps_the_text_before() {
    let failed = |text: &str| Ending::Failed(text.to_owned());
    let error = "data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n";
    expect(&format!("{error}{DONE}"), "", "", failed("boom"));
    expect(&format!("{}{error}{DONE}", delta("so far")), "so far", "", failed("boom"));
    expect(
        &format!("{}error: {{\"code\":500,\"message\":\"boom\"}}\n\n", delta("so far")),
        "so far",
        "",
        failed("boom"),
    );
    expect(
        &format!("{}event: error\ndata: {{\"message\":\"boom\"}}\n\n", delta("so far")),
        "so far",
        "",
        failed("boom"),
    );
    expect("{\"error\":\"boom\"}", "", "", failed("boom"));
    expect("{\"detail\":\"boom\"}\n", "", "", failed("boom"));
    expect("<html><title>Busy</title>", "", "", failed("a web page: Busy"));
}

/// A4.16.
#[test]
fn stream_without_any_text_is_no_answer() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9000,\"completion_tokens\":0}}\n\n";
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    expect(&format!("{role}{}{usage}{DONE}", finish("stop")), "", "", Ending::Empty);
    expect(&format!("{usage}{DONE}"), "", "", Ending::Empty);
    expect(DONE, "", "", Ending::Empty);
    // ollama's error in mid-stream: an empty frame, and then nothing.
    expect(role, "", "", Ending::Interrupted);
}

/// A4.17.
#[test]
fn answer_that_is_no_stream_is_taken_whole() {
    let choice = r#"{"index":0,"message":{"role":"assistant","content":"<think>hm</think>Hi"},"finish_reason":"stop"}"#;
    let body =
        format!("\n{{\"id\":\"x\",\"choices\":[{choice}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2}}}}");
    expect(&body, "Hi", "hm", Ending::Stop);
    assert_eq!(read(&body, 4).3.completion, Some(2));
    expect(r#"{"choices":[{"message":{"content":"Hi"}}]}"#, "Hi", "", Ending::Other(None));
    expect(r#"{"choices":[{"mess"#, "", "", Ending::Failed(r#"{"choices":[{"mess"#.into()));
    expect(r#"{"models":[]}"#, "", "", Ending::Failed(r#"this is no answer of a chat: {"models":[]}"#.into()));
}

/// A4.9.
#[test]
fn endless_frame_is_an_error() {
    let mut answer = Answer::new(None);
    answer.push(b"data: ");
    let packet = vec![b'x'; 1 << 20];
    while !answer.is_over() {
        answer.push(&packet);
    }
    assert_eq!(answer.end(false).1, Ending::Failed("the server sent a frame that is too long to read".into()));
}

/// A4.9: text that would steer a terminal passes unchanged; the front ends sanitise it.
#[test]
fn control_characters_are_text() {
    expect(&format!("{}{}", delta("a\u{0}\u{1b}[2Jb"), finish("stop")), "a\u{0}\u{1b}[2Jb", "", Ending::Stop);
}
