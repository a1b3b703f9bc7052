//! Histories of which it is known whether they are linearizable, as text.

use linearizability::{Checked, History, Limits, Operation, Outcome, Violation, check, read};

fn verdict(text: &str) -> Result<Checked, Violation> {
    check(&read(text.as_bytes()).unwrap(), Limits::default())
}

fn passes(text: &str) {
    if let Err(violation) = verdict(text) {
        panic!("{violation}");
    }
}

/// Fails by the search, and not at a glance.
#[track_caller]
fn fails(text: &str) -> String {
    match verdict(text) {
        Err(violation @ Violation::NotLinearizable(_)) => violation.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Fails at a glance.
#[track_caller]
fn contradicts(text: &str, expected: &str) {
    match verdict(text) {
        Err(Violation::Contradiction { why, .. }) => assert!(why.contains(expected), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_empty_history_passes() {
    passes("\n# nothing\n");
}

#[test]
fn a_read_that_overlaps_a_write_may_find_it_or_not() {
    let write = "1 0 1 put \"k\" \"old\" -> ok\n1 10 30 put \"k\" \"new\" -> ok\n";
    passes(&format!("{write}2 20 40 get \"k\" -> \"old\""));
    passes(&format!("{write}2 20 40 get \"k\" -> \"new\""));
}

#[test]
fn a_stale_read_fails() {
    let message = fails(
        "1 0 10 put \"k\" \"old\" -> ok\n\
         1 20 30 put \"k\" \"new\" -> ok\n\
         2 40 50 get \"k\" -> \"old\"",
    );
    assert!(message.contains("the longest order has 2 of 3 operations"), "{message}");
    assert!(message.contains("\"k\" = \"new\""), "{message}");
    assert!(message.contains("2 40 50 get \"k\" -> \"old\""), "{message}");
}

#[test]
fn a_value_once_read_is_not_unread_again() {
    fails(
        "1 0 1 put \"k\" \"old\" -> ok\n1 10 100 put \"k\" \"new\" -> ok\n\
         2 20 30 get \"k\" -> \"new\"\n3 40 50 get \"k\" -> \"old\"",
    );
}

#[test]
fn operations_at_one_nanosecond_are_not_ordered() {
    passes("1 0 10 put \"k\" \"v\" -> ok\n2 10 20 get \"k\" -> nil");
    fails("1 0 10 put \"k\" \"v\" -> ok\n2 11 20 get \"k\" -> nil");
}

#[test]
fn calls_at_one_instant_are_ordered() {
    let mut history = History::new();
    let put = history.invoke(1, 5, Operation::Put { key: "k".into(), value: "v".into() });
    history.complete(put, 5, Outcome::Put, None);
    let get = history.invoke(1, 5, Operation::Get { key: "k".into() });
    history.complete(get, 5, Outcome::Value(None), None);
    assert!(matches!(check(&history, Limits::default()), Err(Violation::NotLinearizable(_))));
}

#[test]
fn a_delete_that_is_applied_twice_fails() {
    // The second answer can't be that of the first delete.
    fails("1 0 10 put \"k\" \"v\" -> ok\n1 20 30 delete \"k\" -> existed\n2 40 50 delete \"k\" -> existed");
}

#[test]
fn a_put_that_is_applied_twice_fails() {
    // Again after the delete: its key is back.
    let twice = "1 0 10 put \"k\" \"v\" -> ok\n2 20 30 delete \"k\" -> existed\n";
    fails(&format!("{twice}3 40 50 get \"k\" -> \"v\""));
    fails(&format!("{twice}3 40 50 list \"\" - 0 -> keys \"k\" end"));
}

#[test]
fn a_lost_acknowledged_write_fails() {
    fails("1 0 10 put \"k\" \"v\" -> ok\n2 20 30 get \"k\" -> nil");
    fails("1 0 10 put \"k\" \"v\" -> ok\n2 20 30 list \"\" - 0 -> keys end");
}

#[test]
fn an_answer_to_another_client_fails() {
    // The two answers are exchanged.
    contradicts(
        "1 0 10 put \"a\" \"1\" -> ok\n1 11 12 put \"b\" \"2\" -> ok\n\
         2 20 30 get \"a\" -> \"2\"\n3 20 30 get \"b\" -> \"1\"",
        "nobody put this value under this key",
    );
    contradicts("2 20 30 get \"a\" -> ok", "another question");
    contradicts("2 20 30 put \"a\" \"b\" -> existed", "another question");
}

#[test]
fn a_read_from_the_future_fails() {
    contradicts("2 0 10 get \"k\" -> \"v\"\n1 20 30 put \"k\" \"v\" -> ok", "only put later");
    contradicts("2 0 10 delete \"k\" -> existed\n1 20 30 put \"k\" \"v\" -> ok", "had not been put");
    contradicts("2 0 10 list \"\" - 0 -> keys \"k\" end\n1 20 30 put \"k\" \"v\" -> ok", "had not been put");
}

#[test]
fn a_page_torn_between_two_states_fails() {
    // a is deleted before b is put, so that no state holds both; each key alone is in order.
    let writes = "1 0 10 put \"a\" \"1\" -> ok\n1 20 30 delete \"a\" -> existed\n1 40 50 put \"b\" \"2\" -> ok\n";
    fails(&format!("{writes}2 5 60 list \"\" - 0 -> keys \"a\" \"b\" end"));
    passes(&format!("{writes}2 5 60 list \"\" - 0 -> keys \"a\" end"));
    passes(&format!("{writes}2 5 60 list \"\" - 0 -> keys \"b\" end"));
    passes(&format!("{writes}2 5 60 list \"\" - 0 -> keys end"));
}

#[test]
fn two_pages_that_disagree_on_the_order_of_two_writes_fail() {
    let writes = "1 0 100 put \"a\" \"1\" -> ok\n2 0 100 put \"b\" \"2\" -> ok\n";
    fails(&format!("{writes}3 10 90 list \"\" - 0 -> keys \"a\" end\n4 10 90 list \"\" - 0 -> keys \"b\" end"));
}

#[test]
fn a_page_says_nothing_of_keys_that_it_does_not_cover() {
    let writes = "1 0 1 put \"a\" \"1\" -> ok\n1 2 3 put \"b1\" \"1\" -> ok\n1 4 5 put \"b2\" \"1\" -> ok\n";
    passes(&format!("{writes}2 10 11 list \"b\" - 0 -> keys \"b1\" \"b2\" end"));
    passes(&format!("{writes}2 10 11 list \"\" \"b1\" 0 -> keys \"b2\" end"));
    passes(&format!("{writes}2 10 11 list \"\" - 2 -> keys \"a\" \"b1\" more"));
    fails(&format!("{writes}2 10 11 list \"\" - 2 -> keys \"a\" \"b1\" end"));
    fails(&format!("{writes}2 10 11 list \"b\" - 2 -> keys \"b1\" \"b2\" more"));
    fails(&format!("{writes}2 10 11 list \"\" - 2 -> keys \"a\" \"b2\" end"));
    contradicts(&format!("{writes}2 10 11 list \"b\" - 0 -> keys \"a\" end"), "not asked for");
    contradicts(&format!("{writes}2 10 11 list \"b\" - 0 -> keys \"b2\" \"b1\" end"), "ascending");
    contradicts(&format!("{writes}2 10 11 list \"b\" - 0 -> keys \"b1\" \"b1\" end"), "ascending");
    contradicts(&format!("{writes}2 10 11 list \"\" - 1 -> keys \"a\" \"b1\" more"), "more keys");
}

#[test]
fn an_open_write_may_take_effect_at_any_later_time_or_never() {
    let open = "1 0 - put \"k\" \"v\" -> unknown\n";
    passes(open);
    passes(&format!("{open}2 10 11 get \"k\" -> nil"));
    passes(&format!("{open}2 10 11 get \"k\" -> \"v\""));
    passes(&format!("{open}2 10 11 get \"k\" -> nil\n2 20 21 get \"k\" -> \"v\""));
    fails(&format!("{open}2 10 11 get \"k\" -> \"v\"\n2 20 21 get \"k\" -> nil"));
    contradicts("2 10 11 get \"k\" -> \"v\"\n1 20 - put \"k\" \"v\" -> unknown", "only put later");
}

#[test]
fn an_open_write_takes_effect_once() {
    let text = "1 0 - put \"k\" \"v\" -> unknown\n2 10 11 get \"k\" -> \"v\"\n2 20 21 delete \"k\" -> existed\n";
    passes(text);
    fails(&format!("{text}2 30 31 get \"k\" -> \"v\""));
    passes(&format!("1 0 - put \"k\" \"v\" -> unknown\n{text}2 30 31 get \"k\" -> \"v\""));
}

#[test]
fn of_two_open_writes_that_would_do_the_one_is_taken_that_is_not_needed_later() {
    let open = |value| format!("1 0 - put \"k\" \"{value}\" -> unknown\n");
    let reads = "2 10 11 delete \"k\" -> existed\n2 20 21 get \"k\" -> \"a\"\n2 30 31 get \"k\" -> \"b\"\n";
    passes(&[open("a"), open("b"), open("b"), reads.to_string()].concat());
    passes(&[open("a"), open("a"), open("b"), reads.to_string()].concat());
    fails(&[open("a"), open("b"), reads.to_string()].concat());
}

#[test]
fn a_page_may_show_an_open_write_though_another_would_do() {
    // x would do for the first page, and is then missing for the second.
    passes(
        "1 0 - put \"k\" \"x\" -> unknown\n1 0 - put \"k\" \"a\" -> unknown\n\
         2 10 11 list \"\" - 0 -> keys \"k\" end\n2 20 21 get \"k\" -> \"a\"\n\
         2 30 31 delete \"k\" -> existed\n2 40 41 list \"\" - 0 -> keys \"k\" end",
    );
}

#[test]
fn an_open_delete_may_explain_what_is_missing() {
    let text = "1 0 1 put \"k\" \"v\" -> ok\n2 2 - delete \"k\" -> unknown\n";
    passes(&format!("{text}3 10 11 list \"\" - 0 -> keys end"));
    passes(&format!("{text}3 10 11 delete \"k\" -> absent"));
    passes(&format!("{text}3 10 11 delete \"k\" -> existed"));
    fails(&format!("{text}3 10 11 get \"k\" -> nil\n3 20 21 get \"k\" -> \"v\""));
}

#[test]
fn a_failed_write_has_no_effect() {
    contradicts("1 0 5 put \"k\" \"v\" -> failed\n2 10 11 get \"k\" -> \"v\"", "nobody put");
    passes("1 0 5 put \"k\" \"v\" -> failed\n2 10 11 get \"k\" -> nil");
}

#[test]
fn a_read_without_an_answer_says_nothing() {
    passes("1 0 - get \"k\" -> unknown\n1 5 - list \"\" - 0 -> unknown\n2 10 11 put \"k\" \"v\" -> ok");
}

#[test]
fn revisions_must_be_unique_agree_with_time_and_explain_the_values() {
    contradicts("1 0 5 put \"a\" \"1\" -> ok @1\n2 0 5 put \"b\" \"2\" -> ok @1", "the same revision");
    contradicts("1 0 5 put \"a\" \"1\" -> ok @2\n2 6 9 put \"b\" \"2\" -> ok @1", "no later revision");
    contradicts("1 0 5 put \"a\" \"1\" -> ok @2\n2 6 9 get \"b\" -> nil @1", "no later revision");
    contradicts("1 0 5 put \"a\" \"1\" -> ok @1\n2 0 9 get \"a\" -> nil @1", "at its revision");
    contradicts("1 0 5 put \"a\" \"1\" -> ok @1\n2 0 9 list \"\" - 0 -> keys end @2", "at its revision");
    passes("1 0 5 put \"a\" \"1\" -> ok @1\n2 0 9 get \"a\" -> nil @0\n2 10 11 list \"\" - 0 -> keys \"a\" end @1");
    passes("1 0 - put \"a\" \"1\" -> unknown\n2 0 9 get \"a\" -> nil @0\n2 10 11 get \"a\" -> \"1\" @1");
}

#[test]
fn a_limit_that_is_reached_is_a_failure() {
    let history =
        read(&b"1 0 9 put \"k\" \"a\" -> ok\n2 0 9 put \"k\" \"b\" -> ok\n3 0 9 get \"k\" -> \"a\""[..]).unwrap();
    assert!(check(&history, Limits::default()).is_ok());
    for limits in [Limits { steps_max: 1, ..Limits::default() }, Limits { memory_bytes_max: 1, ..Limits::default() }] {
        let violation = check(&history, limits).unwrap_err();
        assert!(matches!(violation, Violation::Undecided { .. }), "{violation}");
        assert!(violation.to_string().starts_with("undecided, which is a failure"), "{violation}");
    }
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    for (line, why) in [
        ("x 0 1 get \"k\" -> nil", "the client is a number"),
        ("1 5 4 get \"k\" -> nil", "answered before it is invoked"),
        ("1 0 1 take \"k\" -> nil", "none of put"),
        ("1 0 1 get k -> nil", "double quotes"),
        ("1 0 1 get \"k -> nil", "no closing quote"),
        ("1 0 1 get \"\\n\" -> nil", "backslash"),
        ("1 0 1 get \"\\x+1\" -> nil", "backslash"),
        ("1 0 1 get \"k\"\"k\" -> nil", "right behind a string"),
        ("1 0 1 get \"k\" nil", "-> should be"),
        ("1 0 1 get \"k\" ->", "it ends where the outcome"),
        ("1 0 - get \"k\" -> nil", "is unknown"),
        ("1 0 1 get \"k\" -> unknown", "no time of an answer"),
        ("1 0 - put \"k\" \"\" -> failed", "has a time"),
        ("1 0 1 list \"\" - 0 -> keys \"k\"", "ends with end or more"),
        ("1 0 1 get \"k\" -> nil 5", "no revision"),
        ("1 0 1 get \"k\" -> nil @5 6", "behind the revision"),
        ("18446744073709551616 0 1 get \"k\" -> nil", "the client is a number"),
    ] {
        let error = read(format!("# first\n{line}\n").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 2: ") && error.contains(why), "{line}: {error}");
    }
    assert!(read(&b"\xff"[..]).unwrap_err().to_string().contains("no text"));
}

#[test]
fn the_examples_of_the_documentation_are_histories() {
    let readme = include_str!("../../../README.md");
    let (_, example) = readme.split_once("# client, invoked and completed").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let history = read(format!("#{example}").as_bytes()).unwrap();
    assert_eq!(history.records().len(), 4);
    assert!(check(&history, Limits::default()).is_ok());
    let essay = include_str!("../src/lib.rs");
    let (_, grammar) = essay.split_once("# The file").unwrap();
    let example = grammar.split("```").nth(3).unwrap();
    let lines: String =
        example.lines().skip(1).map(|line| line.trim_start_matches("//! ").to_string() + "\n").collect();
    assert_eq!(read(lines.trim_end_matches("//!\n").as_bytes()).unwrap().records().len(), 3);
}

#[test]
fn bytes_of_any_kind_have_a_text() {
    let all: Vec<u8> = (0..=255).collect();
    let operation = Operation::Put { key: all.clone().into(), value: all.into() };
    let mut history = History::new();
    history.invoke(7, 1, operation);
    let line = history.records()[0].to_string();
    assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
    assert_eq!(line.parse(), Ok(history.records()[0].clone()));
}
