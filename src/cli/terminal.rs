//! The prompt itself: line editing, history in a file of the user's own, completion of verbs.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::termios::{QueueSelector, tcflush};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::output::complain;

const PROMPT: &str = "raftkv> ";
/// Lines of history that are kept.
const HISTORY_LINES_MAX: usize = 1000;
const VERBS: [&str; 11] = ["ANY", "DELETE", "EXIT", "GET", "HELP", "LIST", "PING", "PUT", "QUIT", "SCRUB", "STATUS"];
const LIST_WORDS: [&str; 2] = ["AFTER", "LIMIT"];

/// What came of asking for a line.
pub enum Ask {
    Line(String),
    /// Ctrl-C, or bytes that are no text: the line is gone, the session goes on.
    Cleared,
    /// Ctrl-D on an empty line.
    End,
}

pub struct Terminal {
    editor: Editor<Verbs, FileHistory>,
    history: Option<PathBuf>,
}

impl Terminal {
    /// A history that can't be read or written is said once, and done without.
    pub fn open() -> io::Result<Terminal> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY_LINES_MAX)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(io::Error::other)?
            .history_ignore_space(true)
            .build();
        let mut editor = Editor::with_config(config).map_err(io::Error::other)?;
        editor.set_helper(Some(Verbs));
        let history = history_path(|name| std::env::var_os(name).map(PathBuf::from)).filter(|path| {
            let opened = prepare(path).and_then(|()| editor.load_history(path).map_err(io::Error::other));
            opened.map_err(|error| complain(&format!("history is not kept, {}: {error}", path.display()))).is_ok()
        });
        Ok(Terminal { editor, history })
    }

    pub fn ask(&mut self) -> io::Result<Ask> {
        match self.editor.readline(PROMPT) {
            Ok(line) => {
                self.remember(&line);
                Ok(Ask::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Ask::Cleared),
            Err(ReadlineError::Eof) => Ok(Ask::End),
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                // What is left of the line was never meant as a command of its own; lines pasted behind it go too.
                let _ = tcflush(io::stdin(), QueueSelector::IFlush);
                complain("the line is not UTF-8 and was not run; write other bytes as \\xHH in double quotes");
                Ok(Ask::Cleared)
            }
            Err(ReadlineError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// At once, so that it outlives a session that is killed.
    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        let Some(path) = self.history.as_ref().filter(|_| added) else { return };
        if let Err(error) = self.editor.append_history(path) {
            complain(&format!("history is not kept, {}: {error}", path.display()));
            self.history = None;
        }
    }
}

/// `$XDG_STATE_HOME/raftkv/history`, else `~/.local/state/raftkv/history`; a relative XDG_STATE_HOME counts as
/// unset (XDG base directory specification).
fn history_path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state =
        state.or_else(|| variable("HOME").filter(|home| home.is_absolute()).map(|home| home.join(".local/state")));
    state.map(|state| state.join("raftkv/history"))
}

/// The folder is 0700 and the file 0600, whatever they were: values that were typed stand in it.
fn prepare(history: &Path) -> io::Result<()> {
    let folder = history.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(history)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// Completes the verbs, in the case in which they were begun.
struct Verbs;

/// Where the word under the cursor begins, and what it may become.
fn complete(line: &str, cursor: usize) -> (usize, Vec<String>) {
    let typed = &line[..cursor];
    let start = typed.rfind(' ').map_or(0, |space| space + 1);
    let word = &typed[start..];
    let verb = typed.split(' ').find(|word| !word.is_empty()).unwrap_or_default();
    let words: &[&str] = if typed[..start].trim().is_empty() {
        &VERBS
    } else if verb.eq_ignore_ascii_case("LIST") && !word.is_empty() {
        &LIST_WORDS
    } else {
        &[]
    };
    let upper = word.to_ascii_uppercase();
    let lowercase = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
    let cased = |word: &&str| if lowercase { word.to_ascii_lowercase() } else { (*word).to_string() };
    let matching = words.iter().filter(|candidate| candidate.starts_with(&upper));
    (start, matching.map(cased).map(|word| format!("{word} ")).collect())
}

impl Completer for Verbs {
    type Candidate = String;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(line, cursor))
    }
}

impl Hinter for Verbs {
    type Hint = String;
}
impl Highlighter for Verbs {}
impl Validator for Verbs {}
impl Helper for Verbs {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_complete_in_any_case() {
        assert_eq!(complete("pu", 2), (0, vec!["put ".to_string()]));
        assert_eq!(complete("P", 1), (0, vec!["PING ".to_string(), "PUT ".to_string()]));
        assert_eq!(complete("Li", 2), (0, vec!["LIST ".to_string()]));
        assert_eq!(complete("q", 1), (0, vec!["quit ".to_string()]));
        assert_eq!(complete("", 0).1.len(), VERBS.len());
        assert_eq!(complete("list a li", 9), (7, vec!["limit ".to_string()]));
        assert_eq!(complete("PUT p", 5), (4, vec![]), "keys are not completed");
        assert_eq!(complete("x", 1), (0, vec![]));
    }

    #[test]
    fn history_lies_in_the_users_state_folder() {
        let path = |state: Option<&str>, home: Option<&str>| {
            history_path(|name| if name == "HOME" { home } else { state }.map(PathBuf::from))
        };
        assert_eq!(path(Some("/s"), Some("/h")), Some("/s/raftkv/history".into()));
        assert_eq!(path(None, Some("/h")), Some("/h/.local/state/raftkv/history".into()));
        assert_eq!(path(Some("relative"), Some("/h")), Some("/h/.local/state/raftkv/history".into()));
        assert_eq!(path(None, None), None);
    }

    #[test]
    fn the_history_can_be_read_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let history = folder.path().join("state/raftkv/history");
        std::fs::create_dir_all(history.parent().unwrap()).unwrap();
        std::fs::write(&history, "PUT a 1\n").unwrap();
        prepare(&history).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&history), 0o600);
        assert_eq!(mode(history.parent().unwrap()), 0o700);
        assert_eq!(std::fs::read(&history).unwrap(), b"PUT a 1\n");
    }
}
