//! `raftkv client`: the prompt, and the same line by line for input that is not a terminal.

use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use clap::Args;
use serde_json::json;

use super::common::{AnswerArgs, ReadArgs, ServerArgs, addresses};
use super::output::{self, Format, complain};
use super::peers::Address;
use super::terminal::{Ask, Terminal};
use super::{Exit, VERSION, scrub, status};
use crate::api;
use crate::api::{ErrorCode, Outcome, ReadBy, Request};
use crate::base::NodeId;
use crate::base::limits::LINE_BYTES_MAX;
use crate::client::{Client, ClientSettings, Error, Page};
use crate::wire::{self, LineCommand};

const HELP: &str = "\
PUT key value...                       store; one space ends the key, the rest of the line is the value
GET key                                the value, or (nil)
DELETE key                             OK, or (nil) if it was absent
LIST [prefix] [LIMIT n] [AFTER key]    keys in order, or (empty)
ANY GET key, ANY LIST ...              the same, answered by the node that is asked, whether it leads or not
STATUS                                 all nodes
SCRUB                                  has all nodes look for damage, and waits for them
PING                                   PONG, if a node answers
QUIT, EXIT, Ctrl-D                     leave; Ctrl-C clears the line or ends a wait
A key or value may stand in double quotes, with \\n \\r \\t \\\" \\\\ \\xHH for bytes: PUT \"a key\" \"\"
Errors: ERR code sentence. With outcome_unknown a write may have been applied; with all others it was not.
";

/// A prompt for the cluster; input that is not a terminal is run line by line
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  raftkv client                                       the node at 127.0.0.1:5001, or RAFTKV_SERVERS
  raftkv client 127.0.0.1:5001 127.0.0.1:5002
  printf 'PUT a 1\\nGET a\\n' | raftkv client 127.0.0.1:5001

History is kept in $XDG_STATE_HOME/raftkv/history, else ~/.local/state/raftkv/history.
Exit status: the worst of all commands: 0 done, 1 refused, 3 unreachable, 4 outcome unknown.")]
pub struct ClientArgs {
    /// Nodes to ask; they go before --server, and replace RAFTKV_SERVERS
    #[arg(value_name = "HOST:PORT")]
    addresses: Vec<Address>,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    read: ReadArgs,

    /// Whether the servers come from the command line, and not from the variable, which may name another cluster
    #[arg(skip)]
    pub servers_given: bool,

    /// Print values and keys as bytes, unquoted, also to a terminal
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub fn run(args: ClientArgs) -> Exit {
    let mut servers = args.addresses;
    if servers.is_empty() || args.servers_given {
        servers.extend(args.server.list.servers);
    }
    converse(addresses(&servers), &args.server.answers, args.read.read_by, args.raw)
}

/// Takes commands from standard input until it ends; gives the worst exit status of them (of a person at a
/// terminal, who saw the errors, only whether the session itself worked).
pub fn converse(servers: Vec<String>, answers: &AnswerArgs, read_by: ReadBy, raw: bool) -> Exit {
    let format = match (answers.json, raw) {
        (true, _) => Format::Json,
        (false, true) => Format::Raw,
        (false, false) => Format::Text,
    };
    let interrupt = Arc::new(AtomicBool::new(false));
    let mut settings = ClientSettings { read_by, ..answers.settings() };
    let at_terminal = io::stdin().is_terminal();
    if at_terminal {
        settings.interrupt = Some(interrupt.clone());
    }
    let mut session = Session::new(Client::new(servers, settings), format);
    let ended = match at_terminal {
        true => at_prompt(&mut session, &interrupt),
        false => line_by_line(&mut session, &mut io::stdin().lock(), &mut io::stdout()),
    };
    match ended {
        Ok(()) if at_terminal => Exit::Done,
        Ok(()) => session.worst,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => session.worst,
        Err(error) => {
            complain(&error.to_string());
            session.worst.max(Exit::Refused)
        }
    }
}

fn at_prompt(session: &mut Session, interrupt: &Arc<AtomicBool>) -> io::Result<()> {
    let registered = signal_hook::flag::register(signal_hook::consts::SIGINT, interrupt.clone())?;
    session.greet();
    let mut terminal = Terminal::open()?;
    loop {
        match terminal.ask()? {
            Ask::Line(lines) => {
                interrupt.store(false, Ordering::Relaxed);
                if session.run_lines(&lines, interrupt)? == Flow::Leave {
                    break;
                }
            }
            Ask::Cleared => {}
            Ask::End => break,
        }
    }
    signal_hook::low_level::unregister(registered);
    Ok(())
}

/// A line longer than any command ends it: what follows could be anything.
fn line_by_line(session: &mut Session, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        Read::take(&mut *input, LINE_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let ended = line.pop_if(|byte| *byte == b'\n').is_some();
        line.pop_if(|byte| *byte == b'\r');
        if line.len() > LINE_BYTES_MAX {
            let message = format!("the line passes {LINE_BYTES_MAX} bytes, the limit; what follows is not read");
            let error = Error::Refused(api::Error::new(ErrorCode::LineTooLong, message));
            return session.fail(&error, out);
        }
        if session.run_line(&line, out)? == Flow::Leave || !ended {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    GoOn,
    Leave,
}

/// The commands of one sitting, over one client.
struct Session {
    client: Client,
    format: Format,
    worst: Exit,
    /// Whom the person was told to be the leader.
    leader: Option<NodeId>,
}

impl Session {
    fn new(client: Client, format: Format) -> Session {
        Session { client, format, worst: Exit::Done, leader: None }
    }

    /// Says where one is, to a person.
    fn greet(&mut self) {
        println!("raftkv {}. HELP shows the commands.", *VERSION);
        if let Err(error) = self.client.connect() {
            complain(&error.to_string());
            return;
        }
        self.leader = self.client.leader().map(|leader| leader.id);
        let leader = self.leader.map_or("no leader yet".to_string(), |id| format!("node {id} leads"));
        match self.client.server() {
            Some((address, Some(id))) => println!("Connected to node {id} at {address}; {leader}."),
            Some((address, None)) => println!("Connected to {address}; {leader}."),
            None => {}
        }
    }

    /// What a terminal pasted at once comes as one: each of its lines is a command, as if it had been typed. Ctrl-C
    /// gives up those that are left.
    fn run_lines(&mut self, lines: &str, interrupt: &AtomicBool) -> io::Result<Flow> {
        for line in lines.lines() {
            if self.run_line(line.as_bytes(), &mut io::stdout())? == Flow::Leave {
                return Ok(Flow::Leave);
            }
            if interrupt.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(Flow::GoOn)
    }

    /// Runs one command; its answer goes to `out`. An error is `out`'s.
    fn run_line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<Flow> {
        if line.trim_ascii().eq_ignore_ascii_case(b"exit") {
            return Ok(Flow::Leave);
        }
        if line.trim_ascii().eq_ignore_ascii_case(b"scrub") {
            self.worst = self.worst.max(scrub::pass(&mut self.client, None, self.format == Format::Json));
            return Ok(Flow::GoOn);
        }
        match wire::parse_line(line) {
            Ok(LineCommand::Quit) => return Ok(Flow::Leave),
            command => self.run_command(command, out)?,
        }
        out.flush()?;
        self.maybe_tell_leader();
        Ok(Flow::GoOn)
    }

    fn run_command(&mut self, command: Result<LineCommand, api::Error>, out: &mut dyn Write) -> io::Result<()> {
        match command {
            Ok(LineCommand::Empty | LineCommand::Quit) => Ok(()),
            Ok(LineCommand::Help) if self.format == Format::Json => writeln!(out, "{}", json!({ "help": HELP })),
            Ok(LineCommand::Help) => out.write_all(HELP.as_bytes()),
            Ok(LineCommand::Ping) => self.ping(out),
            Ok(LineCommand::Request { request: Request::Status, .. }) => self.status(out),
            Ok(LineCommand::Request { request, read_by }) => {
                match self.reading_by(read_by, |repl| repl.client.call(&request)) {
                    Ok(outcome) => out.write_all(&output::outcome(outcome, self.format)),
                    Err(error) => self.fail(&error, out),
                }
            }
            Ok(LineCommand::ListAll { prefix, after, limit, read_by }) => {
                self.reading_by(read_by, |repl| repl.list(prefix, after, limit, out))
            }
            Err(error) => self.fail(&Error::Refused(error), out),
        }
    }

    /// ANY holds for its own line. Without one it is as the settings have it, which may be the same.
    fn reading_by<T>(&mut self, read_by: ReadBy, ask: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.client.settings().read_by;
        if read_by == ReadBy::Any {
            self.client.set_read_by(ReadBy::Any);
        }
        let answered = ask(self);
        self.client.set_read_by(before);
        answered
    }

    fn fail(&mut self, error: &Error, out: &mut dyn Write) -> io::Result<()> {
        self.worst = self.worst.max(Exit::from(error));
        out.write_all(&output::failure(error, self.format))
    }

    fn ping(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.client.call(&Request::Status) {
            Ok(_) if self.format == Format::Json => writeln!(out, "{}", json!({ "pong": true })),
            Ok(_) => out.write_all(b"PONG\n"),
            Err(error) => self.fail(&error, out),
        }
    }

    fn status(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let census = self.client.census();
        self.worst = self.worst.max(status::verdict(&census));
        match self.format {
            Format::Json => writeln!(out, "{}", output::census_json(&census)),
            Format::Text | Format::Raw => out.write_all(status::table(&census).as_bytes()),
        }
    }

    fn list(
        &mut self,
        prefix: Bytes,
        after: Option<Bytes>,
        limit: Option<usize>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut first = true;
        for page in self.client.list_all(prefix, after, limit) {
            match page {
                Ok(Page { keys, .. }) if keys.is_empty() && !first => {}
                Ok(Page { revision, keys, more }) => {
                    out.write_all(&output::outcome(Outcome::Keys { revision, keys, more }, self.format))?;
                }
                Err(error) => return self.fail(&error, out),
            }
            first = false;
        }
        Ok(())
    }

    /// On standard error, so that answers stay what they are.
    fn maybe_tell_leader(&mut self) {
        let now = self.client.leader().map(|leader| leader.id);
        if now.is_some() && now != self.leader {
            if let (Some(before), Some(now)) = (self.leader, self.client.leader()) {
                let mut note = BytesMut::new();
                wire::write_value(now.address.as_bytes(), &mut note);
                let address = String::from_utf8_lossy(&note).trim_end().to_string();
                complain(&format!("node {} at {address} leads now; before it was node {before}", now.id));
            }
            self.leader = now;
        }
    }
}
