//! What is asked, and in which order: a stream of operations that is the same for the same seed.

use bytes::Bytes;
use clap::ValueEnum;
use raftkv::api::Request;
use raftkv::base::{Operation, Random};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Every key as often as any other
    Uniform,
    /// Few keys most of the time (exponent 0.99), scattered over the key space
    Zipf,
    /// One after the other, again from the first
    Sequential,
}

/// What to ask; not when or where.
#[derive(Clone, Debug)]
pub struct Plan {
    pub keys: u64,
    pub value_bytes: usize,
    pub distribution: Distribution,
    /// 0: only writes, 1: only reads.
    pub read_share: f64,
    pub seed: u64,
    /// The name of a run that is recorded: its keys are its own, so that they are absent at first, and each value is
    /// put once, so that a read tells which put it found.
    pub run: Option<String>,
}

/// Draws operations by a plan.
#[derive(Debug)]
pub struct Mixer {
    plan: Plan,
    random: Random,
    zipf: Option<Zipf>,
    sequence: u64,
    value: Bytes,
}

impl Mixer {
    pub fn new(plan: Plan) -> Mixer {
        let mut random = Random::new(plan.seed);
        let zipf = (plan.distribution == Distribution::Zipf).then(|| Zipf::new(plan.keys));
        // Letters, so that the line protocol writes them bare; drawn, so that no disk or link compresses them away.
        let letter = |_| b'a' + u8::try_from(random.below(26)).expect("26 fits");
        let value: Vec<u8> = (0..plan.value_bytes).map(letter).collect();
        Mixer { plan, random, zipf, sequence: 0, value: value.into() }
    }

    pub fn draw(&mut self) -> Request {
        let rank = match self.plan.distribution {
            Distribution::Zipf => {
                let fraction = self.fraction();
                let rank = self.zipf.as_ref().map_or(0, |zipf| zipf.rank(fraction));
                scatter(rank, self.plan.keys)
            }
            Distribution::Sequential => self.sequence % self.plan.keys,
            Distribution::Uniform => self.random.below(self.plan.keys),
        };
        self.sequence += 1;
        // 16 bytes, as what is compared goes by.
        let key = match &self.plan.run {
            None => format!("load/{rank:011}").into(),
            Some(run) => format!("load/{run}/{rank:010}").into(),
        };
        if self.plan.read_share > 0.0 && self.fraction() < self.plan.read_share {
            Request::Get { key, revision: None }
        } else {
            Request::Write(Operation::Put { key, value: self.value() })
        }
    }

    fn value(&self) -> Bytes {
        if self.plan.run.is_none() {
            return self.value.clone();
        }
        let mut value = format!("{}-", self.sequence).into_bytes();
        value.extend_from_slice(self.value.get(value.len()..).unwrap_or_default());
        value.into()
    }

    /// In 0..1, with all the bits that a double holds.
    fn fraction(&mut self) -> f64 {
        (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Ranks next to each other become keys far from each other, so that the frequent ones share no page by accident.
fn scatter(rank: u64, keys: u64) -> u64 {
    Random::new(rank).next() % keys
}

/// Zipf's law with exponent 0.99 (Gray et al.: "Quickly generating billion-record synthetic databases", SIGMOD
/// 1994, section 3.3; as YCSB does it).
#[derive(Debug)]
struct Zipf {
    keys: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    const EXPONENT: f64 = 0.99;

    fn new(keys: u64) -> Zipf {
        let zeta = |keys: u64| (1..=keys).map(|rank| (rank as f64).powf(-Zipf::EXPONENT)).sum::<f64>();
        let all = zeta(keys);
        let n = keys as f64;
        let eta = (1.0 - (2.0 / n).powf(1.0 - Zipf::EXPONENT)) / (1.0 - zeta(keys.min(2)) / all);
        Zipf { keys: n, zeta: all, alpha: 1.0 / (1.0 - Zipf::EXPONENT), eta }
    }

    /// 0 is the most frequent.
    fn rank(&self, fraction: f64) -> u64 {
        let scaled = fraction * self.zeta;
        if scaled < 1.0 || self.keys < 2.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(Zipf::EXPONENT) || self.keys < 3.0 {
            return 1;
        }
        let rank = self.keys * (self.eta * fraction - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.keys as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixer(distribution: Distribution, read_share: f64) -> Mixer {
        Mixer::new(Plan { keys: 100, value_bytes: 8, distribution, read_share, seed: 3, run: None })
    }

    fn key(request: &Request) -> &Bytes {
        match request {
            Request::Get { key, .. } | Request::Write(Operation::Put { key, .. }) => key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let (mut a, mut b) = (mixer(Distribution::Zipf, 0.5), mixer(Distribution::Zipf, 0.5));
        assert!((0..1000).all(|_| a.draw() == b.draw()));
    }

    #[test]
    fn a_recorded_run_has_its_own_keys_and_puts_each_value_once() {
        let mut mixer = mixer(Distribution::Uniform, 0.0);
        mixer.plan.run = Some("a".to_string());
        let mut values = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let Request::Write(Operation::Put { key, value }) = mixer.draw() else {
                panic!("only puts were asked for")
            };
            assert!(key.starts_with(b"load/a/"), "{key:?}");
            assert_eq!(value.len(), 8);
            assert!(values.insert(value));
        }
    }

    #[test]
    fn the_read_share_is_kept() {
        let reads = |share| {
            let mut mixer = mixer(Distribution::Uniform, share);
            (0..10_000).filter(|_| !mixer.draw().is_write()).count()
        };
        assert_eq!((reads(0.0), reads(1.0)), (0, 10_000));
        assert!((2300..2700).contains(&reads(0.25)), "{}", reads(0.25));
    }

    #[test]
    fn sequential_visits_each_key_once_a_round() {
        let mut mixer = mixer(Distribution::Sequential, 0.0);
        let keys: std::collections::BTreeSet<Bytes> = (0..100).map(|_| key(&mixer.draw()).clone()).collect();
        assert_eq!(keys.len(), 100);
    }

    #[test]
    fn zipf_prefers_few_and_stays_within_the_keys() {
        for keys in [1, 2, 3, 1000] {
            let (zipf, mut random) = (Zipf::new(keys), Random::new(1));
            let ranks: Vec<u64> =
                (0..10_000).map(|_| zipf.rank(random.below(1 << 30) as f64 / (1 << 30) as f64)).collect();
            assert!(ranks.iter().all(|rank| *rank < keys), "{keys}");
            let first = ranks.iter().filter(|rank| **rank == 0).count();
            assert!(first > 1000, "{keys}: rank 0 came {first} times of 10,000");
        }
    }
}
