//! The one place that knows what a majority is.
//!
//! Commit, votes, CheckQuorum and read rounds all ask the same question: which value has a majority reached? While a
//! membership change is under way it takes a majority of the old set and one of the new set (Raft dissertation,
//! section 4.3). Learners never count.

use crate::base::{Member, Members};

/// The highest value that a majority of the voters (and, if there are any, of the outgoing ones) has reached.
/// `value` says what a member has reached; `None`: it counts for nothing. No voters at all reach nothing.
pub(super) fn reached<T: Ord>(members: &Members, value: impl Fn(&Member) -> Option<T>) -> Option<T> {
    let of_set = |set: &[Member]| {
        let mut values: Vec<T> = set.iter().filter_map(&value).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.into_iter().nth(set.len() / 2)
    };
    let incoming = of_set(&members.voters)?;
    if members.outgoing.is_empty() {
        return Some(incoming);
    }
    Some(incoming.min(of_set(&members.outgoing)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, NodeId};

    fn members(voters: u32, outgoing: &[u32], learners: &[u32]) -> Members {
        let member = |id: u32| Member { id: NodeId::new(id).unwrap(), instance: None, address: "".into() };
        let set = |ids: &[u32]| ids.iter().copied().map(member).collect();
        Members {
            cluster: ClusterId(1),
            voters: (1..=voters).map(member).collect(),
            outgoing: set(outgoing),
            learners: set(learners),
        }
    }

    /// The members 1, 2, ... have reached `values`; 0 counts for nothing.
    fn of(members: &Members, values: &[u64]) -> Option<u64> {
        reached(members, |member| values.get(member.id.get() as usize - 1).copied().filter(|value| *value > 0))
    }

    #[test]
    fn the_median_decides_at_every_size() {
        assert_eq!(of(&members(1, &[], &[]), &[7]), Some(7));
        assert_eq!(of(&members(2, &[], &[]), &[7, 5]), Some(5));
        assert_eq!(of(&members(3, &[], &[]), &[9, 2, 5]), Some(5));
        assert_eq!(of(&members(4, &[], &[]), &[9, 8, 5, 1]), Some(5));
        assert_eq!(of(&members(5, &[], &[]), &[1, 9, 3, 8, 2]), Some(3));
        assert_eq!(of(&members(7, &[], &[]), &[1, 2, 3, 4, 5, 6, 7]), Some(4));
    }

    #[test]
    fn less_than_a_majority_reaches_nothing() {
        assert_eq!(of(&members(3, &[], &[]), &[9, 0, 0]), None);
        assert_eq!(of(&members(4, &[], &[]), &[9, 9, 0, 0]), None);
        assert_eq!(of(&members(0, &[], &[1]), &[9]), None);
    }

    #[test]
    fn a_joint_change_needs_a_majority_of_both_sets() {
        let joint = members(3, &[3, 4, 5], &[]);
        assert_eq!(of(&joint, &[9, 9, 1, 1, 4]), Some(1));
        assert_eq!(of(&joint, &[9, 9, 1, 6, 4]), Some(4));
        assert_eq!(of(&joint, &[9, 9, 9, 0, 0]), None);
    }

    #[test]
    fn learners_never_count() {
        assert_eq!(of(&members(3, &[], &[4, 5]), &[9, 0, 0, 9, 9]), None);
    }
}
