//! The options that all client commands share.

use std::time::Duration;

use clap::Args;

use super::node_args::{number_within, process_seed};
use super::peers::Address;
use crate::api::ReadBy;
use crate::client::{Client, ClientSettings};

/// Addresses, separated by commas, for all who ask; one that is empty counts as unset.
pub const SERVERS_VARIABLE: &str = "RAFTKV_SERVERS";
/// What the option for them is called within.
pub const SERVERS: &str = "servers";

#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    #[command(flatten)]
    pub list: ServerList,

    #[command(flatten)]
    pub answers: AnswerArgs,
}

#[derive(Args, Clone, Debug)]
pub struct ServerList {
    /// Nodes to ask, separated by commas; one is enough, it names the others
    #[arg(long = "server", value_name = "HOST:PORT,...", env = SERVERS_VARIABLE, value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:5001", value_parser = server)]
    pub servers: Vec<Address>,
}

#[derive(Args, Clone, Debug)]
pub struct AnswerArgs {
    /// How long a command may take in all, retries included, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = number_within(1..=3_600_000))]
    pub timeout_ms: u64,

    /// Print answers as JSON, an object a line: bytes as a string, or as {"hex": "..."} when they are not UTF-8
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct ReadArgs {
    /// Who may answer reads: the leader, or the node that is asked first, whether it leads or not. Both are
    /// linearizable
    #[arg(long = "read", value_name = "leader|any", default_value = "leader")]
    pub read_by: ReadBy,
}

impl AnswerArgs {
    pub fn settings(&self) -> ClientSettings {
        ClientSettings {
            timeout: Duration::from_millis(self.timeout_ms),
            seed: process_seed(),
            ..ClientSettings::default()
        }
    }
}

impl ServerArgs {
    pub fn client(&self) -> Client {
        Client::new(addresses(&self.list.servers), self.answers.settings())
    }

    /// One for reads.
    pub fn reader(&self, read: ReadArgs) -> Client {
        let settings = ClientSettings { read_by: read.read_by, ..self.answers.settings() };
        Client::new(addresses(&self.list.servers), settings)
    }
}

/// The variable is named too: who set it long ago does not see it in the command.
fn server(text: &str) -> Result<Address, String> {
    text.parse().map_err(|why| format!("{why} (--server or RAFTKV_SERVERS)"))
}

pub fn addresses(servers: &[Address]) -> Vec<String> {
    servers.iter().map(ToString::to_string).collect()
}
