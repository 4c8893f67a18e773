//! What answers were computed from, the answer cache, loads and releases.

use std::sync::Arc;

use super::*;
use crate::clock::Timestamp;
use crate::protocol::{DeviceInfo, DeviceKind, EngineEvent, Kernels, ModelInfo, SamplingParams, Span, Trace};

pub(super) fn trace() -> Trace {
    Trace {
        model_hash: "ab".repeat(32),
        template_hash: "cd".repeat(32),
        build: "1.0.0 (0123)".into(),
        device: DeviceInfo { kind: DeviceKind::Cuda, name: "GPU".into() },
        variant: "sm_90".into(),
        sampling: SamplingParams { seed: Some(1 << 52), top_k: 7, ..SamplingParams::default() },
        prompt: vec![1, 128_000, u32::MAX],
        answer: vec![0, 2],
        spans: vec![
            Span { kept: 2, rows: 5, kernels: Kernels::Fresh },
            Span { kept: 1, rows: 1, kernels: Kernels::Step },
        ],
    }
}

/// An ending with times of each token.
pub(super) fn timed() -> Ending {
    let Ending::Finished { usage, timing: Some(timing), .. } = finished() else { panic!("not finished") };
    let inter_token = vec![Duration::from_micros(5), Duration::from_micros(70_000)];
    Ending::Finished { reason: FinishReason::Stop, usage, timing: Some(Timing { inter_token, ..timing }) }
}

fn traced(store: &mut Store) -> (ConversationId, TurnId) {
    let mut talk = Conversation::new(new_conversation_id(), None);
    let id = talk.ask(None, "one?", "tiny");
    save(store, &talk, id);
    talk.turn_mut(id).unwrap().answer =
        Answer { text: "1".into(), ending: timed(), trace: Some(Arc::new(trace())), ..Answer::default() };
    save(store, &talk, id);
    (talk.id, id)
}

#[test]
fn trace_and_token_times_are_stored_and_read() {
    let home = Home::new();
    let (conversation, turn) = traced(&mut home.open());
    let mut store = home.open();
    store.load(&conversation).unwrap();
    assert_eq!(store.trace(&conversation, turn).unwrap(), Some(trace()));
    let origin = store.origins(&conversation).unwrap().remove(0);
    assert_eq!((origin.gaps_us, origin.sampling), (vec![5, 70_000], Some(trace().sampling)));
    assert_eq!(origin.trace, Some(trace()));
}

#[test]
fn damaged_trace_is_none_and_the_turn_stays() {
    let home = Home::new();
    let (conversation, turn) = traced(&mut home.open());
    for damage in
        ["prompt_ids = x'80'", "spans = '{'", "device = NULL", "sampling = 'no'", "answer_ids = x'ffffffffff7f'"]
    {
        let db = Connection::open(home.data().join(DATABASE)).unwrap();
        let before: Vec<u8> = db.query_row("SELECT prompt_ids FROM turns", [], |row| row.get(0)).unwrap();
        db.execute_batch(&format!("CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM turns; UPDATE turns SET {damage}"))
            .unwrap();
        let mut store = Store::open_to_read(&home.data()).unwrap().unwrap();
        assert_eq!(store.load(&conversation).unwrap().turn(turn).unwrap().answer.text, "1");
        assert_eq!(store.trace(&conversation, turn).unwrap(), None, "{damage}");
        drop(store);
        db.execute_batch(
            "UPDATE turns SET (prompt_ids, spans, device, sampling, answer_ids) =
               (SELECT prompt_ids, spans, device, sampling, answer_ids FROM kept)",
        )
        .unwrap();
        let after: Vec<u8> = db.query_row("SELECT prompt_ids FROM turns", [], |row| row.get(0)).unwrap();
        assert_eq!(before, after);
    }
}

#[test]
fn cached_answer_is_found_until_the_cache_is_cleared_or_the_turn_deleted() {
    let home = Home::new();
    let mut store = home.open();
    let (conversation, turn) = traced(&mut store);
    assert_eq!(store.cached("key").unwrap(), None);
    store.set_request(&conversation, turn, "key").unwrap();
    let found = store.cached("key").unwrap().unwrap();
    assert_eq!((found.text.as_str(), found.complete, found.trace), ("1", true, Some(trace())));
    assert_eq!(store.cached("other").unwrap(), None);
    store.set_removed(&conversation, turn, true).unwrap();
    assert_eq!(store.cached("key").unwrap(), None, "a deleted turn answers nothing");
    store.set_removed(&conversation, turn, false).unwrap();
    assert_eq!(store.clear_cache().unwrap(), 1);
    assert_eq!((store.cached("key").unwrap(), store.clear_cache().unwrap()), (None, 0));
    assert_eq!(store.load(&conversation).unwrap().turns().len(), 1);
}

#[test]
fn loads_are_listed_with_their_ends() {
    let home = Home::new();
    let mut store = home.open();
    let device = DeviceInfo { kind: DeviceKind::Cpu, name: "CPU".into() };
    let first = store.loaded("tiny", &device, 300, 1 << 20).unwrap();
    let second = store.loaded("tiny", &device, 0, 5).unwrap();
    store.held(first).unwrap();
    store.released(first, Some(12)).unwrap();
    let loads = store.loads().unwrap();
    assert_eq!(loads.len(), 2);
    assert_eq!(loads[0].loaded_ms, Some(loads[0].asked_ms + 300));
    assert_eq!((loads[0].released_ms, loads[0].energy_mj), (loads[0].seen_ms, Some(12)));
    assert_eq!((loads[1].released_ms, loads[1].energy_mj), (None, None));
    assert_eq!(loads[1].device, Some(device));
    store.released(second, None).unwrap();
    assert!(store.loads().unwrap().iter().all(|load| load.released_ms.is_some()));
}

#[test]
fn load_log_stores_loads_and_releases_as_the_engine_tells_them() {
    let home = Home::new();
    let handle = StoreHandle::start(home.data(), |_| ()).unwrap();
    let (log, at) = (LoadLog::default(), Timestamp::default());
    let info = ModelInfo { name: "tiny".into(), ..ModelInfo::default() };
    let loaded = EngineEvent::Loaded { info, took: Duration::from_millis(250), at };
    log.note(&handle, &EngineEvent::Released { freed: 1, energy_mj: None, at });
    log.note(&handle, &loaded);
    log.note(&handle, &EngineEvent::Released { freed: 1, energy_mj: Some(7), at });
    log.note(&handle, &loaded);
    drop(handle);
    let mut store = home.open();
    let loads = store.loads().unwrap();
    let ends: Vec<_> = loads.iter().map(|load| (load.released_ms.is_some(), load.energy_mj)).collect();
    assert_eq!(ends, [(true, Some(7)), (false, None)]);
    assert_eq!((loads[0].model.as_str(), loads[0].loaded_ms), ("tiny", Some(loads[0].asked_ms + 250)));
    let handle = StoreHandle::start(home.data(), |_| ()).unwrap();
    let next = LoadLog::default();
    next.note(&handle, &loaded);
    next.released(&handle, None);
    next.released(&handle, None);
    drop(handle);
    store = home.open();
    assert_eq!(store.loads().unwrap().iter().filter(|load| load.released_ms.is_some()).count(), 2);
}
