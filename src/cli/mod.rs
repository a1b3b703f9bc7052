//! Layer 5: the command line. Parses arguments, runs the command, gives the exit status.
//!
//! | status | a client command | a node |
//! |---|---|---|
//! | 0 | done, also `(nil)` and `(empty)` | stopped cleanly |
//! | 1 | refused, no leader, or damage found | |
//! | 2 | usage | usage |
//! | 3 | nobody can be reached, or nobody answered in time | |
//! | 4 | the outcome of a write is unknown | |
//! | 10, 11, 12 | | configuration, damaged data, input or output |

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{LazyLock, OnceLock};

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod common;
mod demo;
mod exit;
mod latency;
mod node;
pub mod node_args;
mod nodes;
mod oneshot;
mod output;
pub mod peers;
mod repl;
mod scrub;
mod status;
mod terminal;

use common::{SERVERS, SERVERS_VARIABLE};
pub use exit::Exit;

use crate::base::limits::DATA_FORMAT_VERSION;

/// What the binary was built from, as it says itself.
static COMMIT: OnceLock<&'static str> = OnceLock::new();

/// Version, commit and format of the data directory, as `--version` shows them.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = COMMIT.get().copied().unwrap_or("unknown");
    format!("{} (commit {commit}, data format {DATA_FORMAT_VERSION})", crate::VERSION)
});

/// A replicated key-value store on Raft: durable before acknowledged, linearizable, and quick about it.
#[derive(Parser, Debug)]
#[command(name = "raftkv", version = VERSION.as_str(), max_term_width = 120, after_help = "\
Examples:
  raftkv demo                                            three nodes on this machine, and a prompt
  raftkv node --id 1 --listen 127.0.0.1:5001             one node; see raftkv node --help for more of them
  raftkv 1 5001 2:localhost:5002 3:localhost:5003        the short form of node, data in ./data/node1
  raftkv client 127.0.0.1:5001                           a prompt
  raftkv put greeting 'hello world' && raftkv get greeting
  printf 'PUT a 1\\nGET a\\n' | nc -q1 127.0.0.1 5001      any node answers lines

Exit status: 0 done (also when a key is absent), 1 refused, 2 usage, 3 unreachable, 4 outcome unknown;
a node: 0 stopped cleanly, 10 configuration, 11 damaged data, 12 input or output failed.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Node(Box<node_args::NodeArgs>),
    Client(repl::ClientArgs),
    Put(oneshot::PutArgs),
    Get(oneshot::GetArgs),
    Delete(oneshot::DeleteArgs),
    List(oneshot::ListArgs),
    Status(status::StatusArgs),
    Scrub(scrub::ScrubArgs),
    Demo(demo::DemoArgs),
    /// Prints the completion script of a shell
    #[command(after_help = "Example:\n  raftkv completions bash > ~/.local/share/bash-completion/completions/raftkv")]
    Completions {
        shell: clap_complete::Shell,
    },
}

/// What is accepted where the variable that names servers has this value.
fn arguments_of(servers: Option<OsString>) -> clap::Command {
    let command = Arguments::command();
    if servers.is_none_or(|servers| !servers.is_empty()) {
        return command;
    }
    command.mut_subcommands(|sub| {
        let asks = sub.get_arguments().any(|argument| argument.get_id() == SERVERS);
        if asks { sub.mut_arg(SERVERS, |argument| argument.env(None::<&'static str>)) } else { sub }
    })
}

/// Runs the program, built from `commit`, with `arguments`, its own name first. Usage errors, `--help` and `--version`
/// end it at once.
pub fn main(arguments: impl IntoIterator<Item = OsString>, commit: &'static str) -> ExitCode {
    COMMIT.get_or_init(|| commit);
    let arguments = node_args::rewrite_original(arguments.into_iter().collect());
    let matches = arguments_of(std::env::var_os(SERVERS_VARIABLE)).get_matches_from(arguments);
    let parsed = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match parsed.command {
        Command::Node(args) => node::run_node(*args),
        Command::Client(mut args) => {
            let given = matches.subcommand().and_then(|(_, client)| client.value_source(SERVERS));
            args.servers_given = given == Some(ValueSource::CommandLine);
            repl::run(args).into()
        }
        Command::Put(args) => oneshot::put(args).into(),
        Command::Get(args) => oneshot::get(args).into(),
        Command::Delete(args) => oneshot::delete(args).into(),
        Command::List(args) => oneshot::list(args).into(),
        Command::Status(args) => status::run(args).into(),
        Command::Scrub(args) => scrub::run(args).into(),
        Command::Demo(args) => demo::run(args).into(),
        Command::Completions { shell } => completions(shell).into(),
    }
}

fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "raftkv", &mut script);
    output::emit(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    /// Walks all commands: an option without an explanation, or a number without its unit, is found here.
    #[test]
    fn every_option_says_what_it_does() {
        let mut command = Arguments::command();
        command.build();
        for sub in command.get_subcommands() {
            for argument in sub.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let (sub, name) = (sub.get_name(), argument.get_id());
                assert!(sub == "help" || sub == "completions" || !help.is_empty(), "{sub} {name} has no help");
                let unit = if name.as_str().ends_with("_ms") { "milliseconds" } else { "" };
                let unit = if name.as_str().ends_with("_mib") { "MiB" } else { unit };
                assert!(help.contains(unit), "{sub} {name} does not name its unit: {help}");
            }
        }
    }
}
