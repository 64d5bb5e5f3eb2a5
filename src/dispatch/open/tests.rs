use super::*;

fn register() -> Arc<Register> {
    Arc::default()
}

fn id(text: &str) -> RequestId {
    RequestId::Text(text.into())
}

#[test]
fn an_entry_that_is_dropped_open_is_recorded_as_lost() {
    let register = register();
    drop(register.accept(id("a"), "queue", Instant::now()));
    let balance = register.balance();
    assert_eq!((balance.count(Verdict::Lost), balance.in_flight), (1, 0));
    assert!(balance.holds());
}

#[test]
fn a_request_that_goes_back_is_counted_as_accepted_and_as_returned() {
    let register = register();
    register.accept(id("a"), "queue", Instant::now()).give_back();
    let balance = register.balance();
    assert_eq!((balance.accepted, balance.returned, balance.in_flight), (1, 1, 0));
    assert!(balance.holds());
}

#[test]
fn what_is_open_is_counted_until_its_verdict_and_a_run_that_is_shared_is_nobodys() {
    let register = register();
    let entry = register.accept(id("a"), "queue", Instant::now());
    assert_eq!(register.balance().in_flight, 1);
    entry.close(Verdict::Timeout);
    assert_eq!((register.balance().in_flight, register.balance().count(Verdict::Timeout)), (0, 1));
}

#[test]
fn a_number_that_stands_for_another_call_finds_nothing() {
    let register = register();
    let first = register.accept(id("a"), "queue", Instant::now());
    let number = first.number();
    first.close(Verdict::Ok);
    let second = register.accept(id("b"), "queue", Instant::now());
    assert_eq!(number.place, second.number().place, "its place is used again");
    assert_eq!(register.stage(number), None);
    assert_eq!(register.advance(number, Stage::Waiting(7)), Ok(()));
    assert_eq!(register.stage(second.number()), Some(Stage::Moving));
}

#[test]
fn all_calls_of_one_id_are_found_in_whatever_order_they_end() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let register = register();
        let other = register.accept(id("b"), "queue", Instant::now());
        let mut calls: Vec<Option<Entry>> =
            (0..3).map(|_| Some(register.accept(id("a"), "http", Instant::now()))).collect();
        for (left, at) in (0..3).rev().zip(order) {
            calls[at].take().expect("it is open").close(Verdict::Ok);
            assert_eq!(register.find(&id("a")).len(), left, "{order:?}");
            assert_eq!(register.find(&id("b")).len(), 1, "{order:?}");
        }
        other.close(Verdict::Ok);
        assert!(register.book().by_id.newest(&id("a")).is_none());
    }
}

#[test]
fn whoever_moves_a_cancelled_call_on_hears_of_it() {
    let register = register();
    let entry = register.accept(id("a"), "queue", Instant::now());
    assert_eq!(register.advance(entry.number(), Stage::Waiting(1)), Ok(()));
    assert_eq!(register.cancel(&id("a")), [(entry.number(), Stage::Waiting(1))]);
    assert_eq!(register.advance(entry.number(), Stage::Moving), Err(Cancelled));
    entry.close(Verdict::Cancelled);
    assert_eq!(register.cancel(&id("a")), []);
}

#[test]
fn what_has_been_so_for_the_longest_time_is_shown_where_not_all_can_be() {
    let register = register();
    let entries: Vec<Entry> =
        (0..100).map(|number| register.accept(RequestId::Number(number), "queue", Instant::now())).collect();
    let start = Instant::now();
    let mut deadlines = crate::dispatch::deadlines::Deadlines::default();
    for (back, entry) in entries.iter().enumerate() {
        let since = start.checked_sub(Duration::from_secs(back as u64)).expect("the machine runs for longer");
        let alarm = deadlines.add(start, ());
        register.advance(entry.number(), Stage::Running { since, alarm }).expect("nobody has cancelled it");
    }
    let (running, queued) = register.record();
    assert_eq!((running.len(), &*running[0].id, &*running[63].id), (MOST_OPEN, "0000000099", "0000000036"));
    assert_eq!(queued, []);
}
