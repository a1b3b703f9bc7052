//! A seed that fails is run again with less in it, for as long as the same property breaks: what is left is what it
//! takes.
//!
//! First each kind of fault is left out in turn, then there are fewer clients. Every run is another one, since what is
//! left out draws no chance; so it does not find the least that fails, but mostly much less than the seed had.

use std::fmt;

use super::plan::{Nemesis, Plan};

/// A kind of fault that a plan can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nemesis(Nemesis),
    Lose,
    Overtake,
    Repeat,
    DelayLong,
    DieVoting,
}

impl Part {
    fn all() -> impl Iterator<Item = Part> {
        let others = [Part::Lose, Part::Overtake, Part::Repeat, Part::DelayLong, Part::DieVoting];
        Nemesis::ALL.into_iter().map(Part::Nemesis).chain(others)
    }

    fn is_in(self, plan: &Plan) -> bool {
        match self {
            Part::Nemesis(nemesis) => plan.nemeses.contains(&nemesis),
            Part::Lose => plan.network.lose > 0,
            Part::Overtake => plan.network.overtake > 0,
            Part::Repeat => plan.network.repeat > 0,
            Part::DelayLong => plan.network.delay_long > 0,
            Part::DieVoting => plan.dies_voting > 0,
        }
    }

    fn take_from(self, plan: &mut Plan) {
        match self {
            Part::Nemesis(nemesis) => plan.nemeses.retain(|other| *other != nemesis),
            Part::Lose => plan.network.lose = 0,
            Part::Overtake => plan.network.overtake = 0,
            Part::Repeat => plan.network.repeat = 0,
            Part::DelayLong => plan.network.delay_long = 0,
            Part::DieVoting => plan.dies_voting = 0,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Nemesis(nemesis) => write!(f, "{nemesis:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What is left out of a seed's plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    without: Vec<Part>,
    clients: Option<usize>,
}

impl Cuts {
    /// As they are written behind `--without` and `--clients`.
    pub fn read(without: Option<&str>, clients: Option<usize>) -> Result<Cuts, String> {
        let named = |name: &str| Part::all().find(|part| part.to_string() == name);
        let unknown = |name: &str| {
            let all: Vec<String> = Part::all().map(|part| part.to_string()).collect();
            format!("no fault is called {name:?}; there are {}", all.join(", "))
        };
        let names = without.into_iter().flat_map(|names| names.split(','));
        let without = names.map(|name| named(name).ok_or_else(|| unknown(name))).collect::<Result<_, _>>()?;
        Ok(Cuts { without, clients })
    }

    pub fn apply(&self, plan: &mut Plan) {
        self.without.iter().for_each(|part| part.take_from(plan));
        plan.clients = self.clients.unwrap_or(plan.clients).clamp(1, plan.clients);
    }

    fn and(&self, part: Part) -> Cuts {
        Cuts { without: [&self.without[..], &[part]].concat(), ..self.clone() }
    }
}

/// As arguments of `tools/sim`.
impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without.is_empty() {
            let names: Vec<String> = self.without.iter().map(Part::to_string).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        self.clients.map_or(Ok(()), |clients| write!(f, " --clients {clients}"))
    }
}

/// The most that can be left out of `plan`, as far as trying one after the other tells. `still_fails`: whether a run
/// breaks the same property.
pub fn shrink(plan: &Plan, still_fails: impl Fn(&Cuts) -> bool) -> Cuts {
    let mut cuts = Cuts::default();
    for part in Part::all().filter(|part| part.is_in(plan)) {
        let fewer = cuts.and(part);
        if still_fails(&fewer) {
            cuts = fewer;
        }
    }
    let mut clients = plan.clients;
    while clients > 1 {
        clients /= 2;
        let fewer = Cuts { clients: Some(clients), ..cuts.clone() };
        if !still_fails(&fewer) {
            break;
        }
        cuts = fewer;
    }
    cuts
}
