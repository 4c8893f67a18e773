//! Conversations that are written, read again and stored; forms of other programs; hostile files.

use std::sync::Arc;

use super::*;

fn exported(store: &mut Store, id: &ConversationId) -> serde_json::Value {
    let summary = store.list().unwrap().into_iter().find(|summary| summary.id == *id).unwrap();
    let conversation = store.load(id).unwrap();
    json(&summary, &conversation, &store.origins(id).unwrap())
}

fn only(text: &str) -> Conversation {
    let mut found = read_conversations(text).unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0).conversation
}

#[test]
fn exported_conversations_are_imported_without_loss() {
    let home = Home::new();
    let mut store = home.open();
    let mut talk = branched(&mut store);
    let mut sampled = record(&talk, TurnId(2));
    sampled.id = talk.ask(talk.head(), "sampled?", "tiny");
    let answer = &mut talk.turn_mut(sampled.id).unwrap().answer;
    (answer.ending, answer.trace) = (traces::timed(), Some(Arc::new(traces::trace())));
    let file = crate::conversation::Attachment { name: "a.txt".into(), text: "x\u{1b}".into() };
    talk.turn_mut(sampled.id).unwrap().files.push(file);
    sampled.turn = talk.turn(sampled.id).unwrap().clone();
    sampled.sampling = Some(crate::protocol::SamplingParams { seed: Some(u64::MAX), ..Default::default() });
    store.save(&sampled, Duration::from_secs(10)).unwrap();
    store.set_removed(&talk.id, TurnId(1), true).unwrap();
    store.set_draft(&talk.id, "half").unwrap();
    let other = branched(&mut store);
    store.rename(&other.id, "Greetings").unwrap();
    let before = [exported(&mut store, &talk.id), exported(&mut store, &other.id)];
    let array = serde_json::to_string_pretty(&before).unwrap();
    let lines = before.iter().map(|one| format!("{one}\n")).collect::<String>();
    for text in [array, lines] {
        let new = Home::new();
        let mut store = new.open();
        let found = read_conversations(&text).unwrap();
        assert_eq!(store.import(&found).unwrap(), [(talk.id.clone(), true), (other.id.clone(), true)]);
        let after = [exported(&mut store, &talk.id), exported(&mut store, &other.id)];
        assert_eq!(after, before);
        assert_eq!(store.load(&talk.id).unwrap().title, None, "a title that was made from the question");
        assert_eq!(store.import(&found).unwrap(), [(talk.id.clone(), false), (other.id.clone(), false)]);
        assert_eq!(store.search("sampled", 10).unwrap().len(), 1);
    }
}

#[test]
fn chatgpt_export_is_read_with_its_branches() {
    let text = r#"[{"title": "Tea", "create_time": 1700000000.5, "update_time": 1700000009, "current_node": "c2", "mapping": {
      "root": {"id": "root", "parent": null, "children": ["s"], "message": null},
      "s": {"parent": "root", "children": ["q"], "message": {"author": {"role": "system"}, "content": {"content_type": "text", "parts": [""]}}},
      "q": {"parent": "s", "children": ["a1", "a2"], "message": {"author": {"role": "user"}, "create_time": 1700000001,
        "content": {"content_type": "text", "parts": ["How long", {"asset": 1}, "does tea draw?"]}}},
      "a1": {"parent": "q", "children": [], "message": {"author": {"role": "assistant"}, "metadata": {"model_slug": "gpt-4"},
        "content": {"content_type": "text", "parts": ["Three minutes."]}}},
      "a2": {"parent": "q", "children": ["t"], "message": {"author": {"role": "assistant"}, "metadata": {"model_slug": "gpt-4o"},
        "content": {"content_type": "text", "parts": ["Let me look."]}}},
      "t": {"parent": "a2", "children": ["a3"], "message": {"author": {"role": "tool"}, "content": {"content_type": "text", "parts": ["x"]}}},
      "a3": {"parent": "t", "children": ["c2", "q"], "message": {"author": {"role": "assistant"},
        "content": {"content_type": "text", "parts": ["Four."]}}},
      "c2": {"parent": "a3", "children": [], "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Thanks"]}}}
    }}]"#;
    let talk = only(text);
    assert_eq!((talk.title.as_deref(), talk.system.as_deref()), (Some("Tea"), None));
    let texts: Vec<_> = talk.turns().iter().map(|turn| (turn.prompt.as_str(), turn.answer.text.as_str())).collect();
    let question = "How long\ndoes tea draw?";
    assert_eq!(texts, [(question, "Three minutes."), (question, "Let me look.\n\nFour."), ("Thanks", "")]);
    assert_eq!((talk.siblings(TurnId(0)).len(), talk.path()), (2, vec![TurnId(1), TurnId(2)]));
    assert_eq!(talk.turns()[1].model, "gpt-4o");
    let home = Home::new();
    let mut store = home.open();
    store.import(&read_conversations(text).unwrap()).unwrap();
    let listed = &store.list().unwrap()[0];
    assert_eq!((listed.created_ms, listed.changed_ms), (1_700_000_000_500, 1_700_000_009_000));
}

#[test]
fn lists_of_messages_are_read() {
    let list = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one?"},
      {"role": "assistant", "content": [{"type": "text", "text": "1"}]}, {"role": "user", "content": "two?"}]"#;
    let object = format!("{{\"messages\": {list}}}");
    let one_line = object.replace('\n', " ");
    for text in [list.to_owned(), object, format!("\u{feff}{one_line}\n")] {
        let talk = only(&text);
        assert_eq!(talk.system.as_deref(), Some("Be brief."));
        assert_eq!(talk.path(), [TurnId(0), TurnId(1)]);
        assert_eq!(talk.turn(TurnId(0)).unwrap().answer.text, "1");
        assert_eq!(talk.turn(TurnId(1)).unwrap().answer.ending, Ending::Interrupted);
    }
    assert_eq!(read_conversations(&format!("{one_line}\n\n{one_line}\n")).unwrap().len(), 2);
}

#[test]
fn file_that_is_no_conversation_is_refused_with_the_place() {
    let deep = "[".repeat(100_000);
    let cycle = r#"{"mapping": {"a": {"parent": "b", "children": ["b"]}, "b": {"parent": "a", "children": ["a"]}}}"#;
    let good = r#"{"turns": [{"prompt": "p", "state": "stop"}]}"#;
    let cases = [
        ("", "no conversation"),
        ("hello", "not JSON"),
        ("[]", "no conversation"),
        ("{}", "no conversation"),
        ("7", "no conversation"),
        (&deep, "not JSON"),
        (cycle, "no question"),
        (r#"{"turns": [{"prompt": "p"}]}"#, "state"),
        (r#"{"turns": [{"prompt": "p", "state": "odd"}]}"#, "turn 0: its \"state\" is \"odd\""),
        (r#"{"turns": [{"prompt": "p", "state": "stop", "parent": 0}]}"#, "parent"),
        (r#"{"turns": [], "head": 0}"#, "head"),
        (r#"{"messages": [{"role": "user"}]}"#, "message 1"),
        (r#"{"messages": 1}"#, "not a list"),
    ];
    for (text, expected) in cases {
        let why = read_conversations(text).unwrap_err();
        assert!(why.contains(expected), "{expected}: {why}");
    }
    let why = read_conversations(&format!("{good}\n{{\"turns\": 1}}\n")).unwrap_err();
    assert!(why.starts_with("line 2: "), "{why}");
    let odd_id = r#"{"conversation": "../../etc", "turns": [{"prompt": "p", "state": "pending"}]}"#;
    let home = Home::new();
    let mut store = home.open();
    let stored = store.import(&read_conversations(odd_id).unwrap()).unwrap();
    assert!(stored[0].1 && stored[0].0.0.len() == 12);
    assert_eq!(store.load(&stored[0].0).unwrap().turns()[0].answer.ending, Ending::Interrupted);
}
