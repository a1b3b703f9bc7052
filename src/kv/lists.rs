//! Lists that keep little room: most keys of a store lie in lists that rarely change.

/// A full list gets room for so many more.
pub const ROOM: usize = 4;

pub fn insert<T>(list: &mut Vec<T>, at: usize, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(ROOM);
    }
    list.insert(at, item);
}

pub fn remove<T>(list: &mut Vec<T>, at: usize) -> T {
    let item = list.remove(at);
    if list.capacity() - list.len() > 2 * ROOM {
        list.shrink_to(list.len() + ROOM);
    }
    item
}

pub fn split_off<T>(list: &mut Vec<T>, cut: usize) -> Vec<T> {
    let behind = list.split_off(cut);
    list.shrink_to_fit();
    behind
}

pub fn append<T>(list: &mut Vec<T>, more: Vec<T>) {
    list.reserve_exact(more.len());
    list.extend(more);
}
