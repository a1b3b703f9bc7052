//! `raftkv node`: from the options to a running node.

use std::process::ExitCode;

use super::Exit;
use super::node_args::NodeArgs;
use super::output::complain;

/// Checks the options, then runs the node until it is told to stop.
pub fn run_node(args: NodeArgs) -> ExitCode {
    let warnings = match args.check() {
        Ok(warnings) => warnings,
        Err(sentence) => {
            complain(&sentence);
            return Exit::NodeConfiguration.into();
        }
    };
    for warning in warnings {
        complain(&warning);
    }
    complain("this build has no node");
    Exit::NodeConfiguration.into()
}
