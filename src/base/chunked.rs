//! A queue of any length that never does much at once.
//!
//! One piece of memory would be copied as a whole whenever it has to double: millions of entries of a log, in one step.
//! Here the queue goes on in another chunk, and gives a chunk back once it is empty.

use std::collections::VecDeque;

/// Items of a chunk.
const CHUNK: usize = 1024;

#[derive(Clone, Debug)]
pub struct ChunkedQueue<T> {
    /// None is empty; all but the first and the last are full.
    chunks: VecDeque<VecDeque<T>>,
}

impl<T> Default for ChunkedQueue<T> {
    fn default() -> ChunkedQueue<T> {
        ChunkedQueue { chunks: VecDeque::new() }
    }
}

impl<T> ChunkedQueue<T> {
    pub fn len(&self) -> usize {
        let [first, last] = [self.chunks.front(), self.chunks.back()].map(|chunk| chunk.map_or(0, VecDeque::len));
        match self.chunks.len() {
            0 | 1 => first,
            chunks => first + (chunks - 2) * CHUNK + last,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    pub fn back(&self) -> Option<&T> {
        self.chunks.back()?.back()
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        let (chunk, within) = self.place_of(at);
        self.chunks.get(chunk)?.get(within)
    }

    /// From the one at `at` on.
    pub fn iter_from(&self, at: usize) -> impl Iterator<Item = &T> {
        let (first, within) = self.place_of(at.min(self.len()));
        let chunks = self.chunks.range(first.min(self.chunks.len())..).enumerate();
        chunks.flat_map(move |(number, chunk)| chunk.range(if number == 0 { within } else { 0 }..))
    }

    /// The chunk in which it is, or would be, and its place there.
    fn place_of(&self, at: usize) -> (usize, usize) {
        let first = self.chunks.front().map_or(0, VecDeque::len);
        match at.checked_sub(first) {
            Some(behind) => (1 + behind / CHUNK, behind % CHUNK),
            None => (0, at),
        }
    }

    pub fn push_back(&mut self, item: T) {
        match self.chunks.back_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(last) => last.push_back(item),
            None => {
                let mut chunk = VecDeque::with_capacity(CHUNK);
                chunk.push_back(item);
                self.chunks.push_back(chunk);
            }
        }
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.chunks.front_mut()?;
        let item = first.pop_front();
        if first.is_empty() {
            self.chunks.pop_front();
        }
        item
    }

    pub fn pop_back(&mut self) -> Option<T> {
        let last = self.chunks.back_mut()?;
        let item = last.pop_back();
        if last.is_empty() {
            self.chunks.pop_back();
        }
        item
    }
}

impl<T> FromIterator<T> for ChunkedQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> ChunkedQueue<T> {
        let mut queue = ChunkedQueue::default();
        items.into_iter().for_each(|item| queue.push_back(item));
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    #[test]
    fn it_does_what_a_queue_of_the_standard_library_does() {
        for seed in 0..8 {
            let mut random = Random::new(seed);
            let (mut queue, mut model) = (ChunkedQueue::default(), VecDeque::new());
            for round in 0..400 {
                let (count, way) = (random.below(2 * CHUNK as u64), random.below(4));
                for number in 0..count {
                    match way {
                        0 => assert_eq!(queue.pop_front(), model.pop_front()),
                        1 => assert_eq!(queue.pop_back(), model.pop_back()),
                        _ => {
                            queue.push_back(number);
                            model.push_back(number);
                        }
                    }
                }
                let place = format!("seed {seed}, round {round}");
                assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()), "{place}");
                assert_eq!((queue.front(), queue.back()), (model.front(), model.back()), "{place}");
                let at = random.below(model.len() as u64 + 2) as usize;
                assert_eq!(queue.get(at), model.get(at), "{place}, {at}");
                assert!(queue.iter_from(at).eq(model.range(at.min(model.len())..)), "{place}, from {at}");
            }
        }
    }

    #[test]
    fn no_chunk_ever_grows_and_what_is_empty_is_given_back() {
        let mut queue: ChunkedQueue<usize> = (0..10 * CHUNK).collect();
        let capacity = queue.chunks[0].capacity();
        assert_eq!(queue.chunks.len(), 10);
        for number in 0..100 * CHUNK {
            queue.push_back(number);
            queue.pop_front();
        }
        assert!(queue.chunks.iter().all(|chunk| chunk.capacity() == capacity));
        assert!(queue.chunks.len() <= 11, "{} chunks", queue.chunks.len());
        while queue.pop_back().is_some() {}
        assert!(queue.chunks.is_empty());
    }
}
