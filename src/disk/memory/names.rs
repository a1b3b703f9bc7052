//! The names on a disk in memory: as a process sees them, and as they are durable. Pure.
//!
//! A change of a name is seen at once, and durable with the next sync of its folder. What was not synced when the power
//! goes is lost from the latest change back: file systems keep the order in which names were changed, and nothing else.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use super::super::disk::folder_of;

/// Files by number, which whoever owns the table gives them.
#[derive(Clone, Debug, Default)]
pub struct NameTable {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// Changes of `live` that are not in `durable`, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Clone, Debug)]
enum Change {
    Set(String, Node),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn folder(&self) -> &str {
        let (Change::Set(name, _) | Change::Rename(_, name) | Change::Remove(name)) = self;
        folder_of(name)
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Change::Set(name, node) => {
                names.insert(name.clone(), *node);
            }
            Change::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Change::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl NameTable {
    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<usize> {
        match self.live.get(name) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// Ascending by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        files(&self.live)
    }

    /// Those that a loss of power would bring back, too.
    pub fn all_files(&self) -> impl Iterator<Item = usize> {
        files(&self.live).chain(files(&self.durable)).map(|(_, file)| file)
    }

    /// Whether `name` is a folder; the root always is.
    fn check_folder(&self, name: &str) -> Result<(), ErrorKind> {
        match self.live.get(name) {
            Some(Node::Folder) => Ok(()),
            None if name.is_empty() => Ok(()),
            _ => Err(ErrorKind::NotFound),
        }
    }

    /// `name` is `file` from now on. The answer is the file that had the name before.
    pub fn create(&mut self, name: &str, file: usize) -> Result<Option<usize>, ErrorKind> {
        self.check_folder(folder_of(name))?;
        let replaced = self.file(name);
        self.change(Change::Set(name.to_string(), Node::File(file)));
        Ok(replaced)
    }

    pub fn create_folder(&mut self, name: &str) -> Result<(), ErrorKind> {
        match self.live.get(name) {
            Some(Node::Folder) => {}
            Some(Node::File(_)) => return Err(ErrorKind::AlreadyExists),
            None => self.change(Change::Set(name.to_string(), Node::Folder)),
        }
        Ok(())
    }

    /// The answer is the file that had the name `to` before.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<Option<usize>, ErrorKind> {
        self.file(from).ok_or(ErrorKind::NotFound)?;
        let replaced = self.file(to);
        self.change(Change::Rename(from.to_string(), to.to_string()));
        Ok(replaced)
    }

    /// The file that had the name.
    pub fn remove(&mut self, name: &str) -> Result<usize, ErrorKind> {
        let file = self.file(name).ok_or(ErrorKind::NotFound)?;
        self.change(Change::Remove(name.to_string()));
        Ok(file)
    }

    /// The names in a folder, ascending, without the folder's own.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, ErrorKind> {
        self.check_folder(folder)?;
        let inside = self.live.keys().filter(|name| folder_of(name) == folder);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_string()).collect())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    /// What was changed in a folder is durable.
    pub fn sync(&mut self, folder: &str) {
        for change in self.unsynced.extract_if(.., |change| change.folder() == folder) {
            change.apply(&mut self.durable);
        }
    }

    /// Changes that are not durable.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The power goes: of the changes that are not durable, the first `kept` are there afterwards.
    pub fn lose_power(&mut self, kept: usize) {
        for change in self.unsynced.drain(..).take(kept) {
            change.apply(&mut self.durable);
        }
        self.live = self.durable.clone();
    }

    /// The name was never there.
    pub fn forget(&mut self, name: &str) {
        self.live.remove(name);
        self.durable.remove(name);
    }
}

fn files(names: &BTreeMap<String, Node>) -> impl Iterator<Item = (&str, usize)> {
    names.iter().filter_map(|(name, node)| match node {
        Node::File(file) => Some((name.as_str(), *file)),
        Node::Folder => None,
    })
}
