//! The prompt in a pseudo-terminal: what a person sees and types.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use common::{PATIENCE, Processes, RAFTKV, has, skip};

/// `raftkv client` on a terminal of its own, which `script` from util-linux makes.
struct Terminal {
    child: Child,
    seen: Arc<(Mutex<String>, Condvar)>,
    /// How much of `seen` was waited for already.
    read: usize,
}

impl Terminal {
    fn open(cluster: &Processes, state: &std::path::Path) -> Terminal {
        let command = format!("{RAFTKV} client {}", cluster.addresses().join(" "));
        let mut child = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .env("XDG_STATE_HOME", state)
            .env("TERM", "xterm")
            .env_remove("RAFTKV_SERVERS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("script starts");
        let seen = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let mut output = child.stdout.take().expect("it is piped");
        let shared = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                shared.0.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                shared.1.notify_all();
            }
        });
        let mut terminal = Terminal { child, seen, read: 0 };
        terminal.expect("> ");
        terminal
    }

    fn type_in(&mut self, keys: &str) {
        self.send(keys.as_bytes());
    }

    fn send(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().expect("it is piped").write_all(bytes).unwrap();
    }

    /// Waits until `text` stands behind what was waited for before.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let (lock, changed) = &*self.seen;
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut seen = lock.lock().unwrap();
        loop {
            if let Some(at) = seen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            assert!(!left.is_zero(), "{text:?} does not appear; the terminal shows {:?}", &seen[self.read..]);
            seen = changed.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Waits for the end; the exit status.
    fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended can't be killed, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_prompt_edits_remembers_completes_and_follows_the_leader() {
    if !has("script", "--version") {
        return skip(
            "the_prompt_edits_remembers_completes_and_follows_the_leader",
            "script (util-linux) is not installed",
        );
    }
    let mut cluster = Processes::start(3);
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();

    let mut terminal = Terminal::open(&cluster, state.path());
    terminal.type_in("PUT fruit ripe apple\r");
    terminal.expect("OK");
    terminal.type_in("GET fruit\r");
    terminal.expect("ripe apple");
    terminal.type_in("GET nothing\r");
    terminal.expect("(nil)");

    // Completion of verbs, in either case.
    terminal.type_in("DEL\t");
    terminal.expect("DELETE ");
    // Ctrl-C gives the line up, and the prompt goes on.
    terminal.type_in("\x03");
    terminal.expect("> ");
    terminal.type_in("GET fruit\r");
    terminal.expect("ripe apple");

    // Lines that were pasted are commands each: by a terminal that marks a paste, and by one that does not.
    terminal.type_in("\x1b[200~PUT pasted one\nGET pasted\n\x1b[201~\r");
    terminal.expect("OK\r\none\r\n");
    terminal.type_in("PUT pasted two\rGET pasted\rPUT pasted three\rGET pasted\r");
    for answer in ["OK\r\n", "\ntwo\r\n", "OK\r\n", "\nthree\r\n"] {
        terminal.expect(answer);
    }

    // What a terminal must not see is quoted.
    terminal.type_in("PUT bell \"\\x07\\x1b[2J\"\r");
    terminal.expect("OK");
    terminal.type_in("GET bell\r");
    terminal.expect("\"\\x07\\x1b[2J\"");

    // Bytes that are no text cost their line, all of it, and not the session.
    // The last one is longer than what is read at once.
    let long = [b"PUT caf\xe9", &[b' '; 2000][..], b"DELETE fruit\r"].concat();
    for line in [&b"GET \xe9\r"[..], b"PUT fruit \xff\r", &long] {
        terminal.send(line);
        terminal.expect("not UTF-8");
        terminal.expect("> ");
    }
    terminal.type_in("GET fruit\r");
    terminal.expect("ripe apple");

    // The leader is lost in mid-session: the next answers come from another one.
    let leader = cluster.leader();
    cluster.kill(leader);
    terminal.type_in("GET fruit\r");
    terminal.expect("ripe apple");
    terminal.type_in("PUT fruit pear\r");
    terminal.expect("OK");
    cluster.spawn(leader);

    // Ctrl-D leaves, cleanly.
    terminal.type_in("\x04");
    assert_eq!(terminal.end(), Some(0));

    // The history is kept for the next session, and for its owner alone.
    let history = state.path().join("raftkv/history");
    let mode = fs::metadata(&history).expect("the history is kept").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "the history has mode {mode:o}");
    let mut terminal = Terminal::open(&cluster, state.path());
    terminal.type_in("\x1b[A");
    terminal.expect("PUT fruit pear");
    terminal.type_in("\x03");
    terminal.expect("> ");
    terminal.type_in("QUIT\r");
    assert_eq!(terminal.end(), Some(0));
}
