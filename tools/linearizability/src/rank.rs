//! Which of several operations is tried first. It decides how soon an order is found, never whether one exists.
//!
//! With revisions, theirs. Without, a put and the gets that found its value stand together, so that the value must hold
//! from the earliest of their answers to the latest of their invocations, if that is later; such spans, of one
//! key, have the order of their beginnings, and nothing else is put within one (the zones of Gibbons and Korach:
//! "Testing shared memories", SIAM J. Comput. 1997).

use std::collections::HashMap;

use crate::history::History;
use crate::model::{Kind, Step, UNREAD};

/// Sets the rank of each.
pub fn set(steps: &mut [Step], history: &History) {
    let revisions: Option<Vec<u64>> = steps.iter().map(|step| history.records()[step.record].revision).collect();
    match revisions {
        Some(revisions) => {
            for (step, revision) in steps.iter_mut().zip(revisions) {
                step.rank = revision.saturating_mul(2).saturating_add(u64::from(!step.kind.is_write()));
            }
        }
        None => by_spans(steps),
    }
}

/// When a value must have been put, and until when it is found.
struct Span {
    key: usize,
    put_invoked_ns: u64,
    from_ns: u64,
    to_ns: u64,
}

fn by_spans(steps: &mut [Step]) {
    let spans = spans(steps);
    let mut long: HashMap<usize, Vec<(u64, u64)>> = HashMap::new();
    for span in spans.values().filter(|span| span.from_ns < span.to_ns) {
        long.entry(span.key).or_default().push((span.from_ns, span.to_ns));
    }
    long.values_mut().for_each(|spans| spans.sort_unstable());
    // Twice the time leaves room right before each.
    for step in steps {
        step.rank = step.completed_ns.saturating_mul(2);
        let value = match step.kind {
            Kind::Put { value, .. } | Kind::Get { value, .. } => value,
            _ => UNREAD,
        };
        let span = spans.get(&value);
        if let Some(span) = span.filter(|span| span.from_ns < span.to_ns) {
            if step.kind.is_write() {
                step.rank = span.from_ns.saturating_mul(2);
            }
            continue;
        }
        let (by_ns, since_ns) =
            span.map_or((step.completed_ns, step.invoked_ns), |span| (span.from_ns, span.put_invoked_ns));
        if step.kind.is_write() {
            step.rank = by_ns.saturating_mul(2);
            let within = step.kind.key().and_then(|key| long.get(&key)).and_then(|spans| {
                let before = spans.partition_point(|(from_ns, _)| *from_ns < by_ns);
                before.checked_sub(1).map(|at| spans[at])
            });
            if let Some((from_ns, to_ns)) = within
                && by_ns <= to_ns
                && since_ns <= from_ns
            {
                step.rank = from_ns.saturating_mul(2).saturating_sub(1);
            }
        }
    }
}

/// The spans of the values that were put once.
fn spans(steps: &[Step]) -> HashMap<usize, Span> {
    let mut puts: HashMap<usize, u32> = HashMap::new();
    for step in steps {
        if let Kind::Put { value, .. } = step.kind {
            *puts.entry(value).or_default() += 1;
        }
    }
    let mut spans = HashMap::new();
    for step in steps {
        let (Kind::Put { key, value } | Kind::Get { key, value }) = step.kind else { continue };
        if value == UNREAD || puts.get(&value) != Some(&1) {
            continue;
        }
        let span = spans.entry(value).or_insert(Span { key, put_invoked_ns: 0, from_ns: u64::MAX, to_ns: 0 });
        if step.kind.is_write() {
            span.put_invoked_ns = step.invoked_ns;
        }
        span.from_ns = span.from_ns.min(step.completed_ns);
        span.to_ns = span.to_ns.max(step.invoked_ns);
    }
    spans
}
