//! What was read once, so that one packet meets one state of each entry however often it asks.

use std::cell::OnceCell;

/// Answers by key; they stay where they are, and may be borrowed as long as it lives. Meant for a few dozen.
pub(super) struct Memo<K, V> {
    first: Place<K, V>,
}

type Place<K, V> = OnceCell<Box<Answer<K, V>>>;

struct Answer<K, V> {
    key: K,
    value: Option<V>,
    next: Place<K, V>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { first: OnceCell::new() }
    }
}

impl<K: PartialEq, V> Memo<K, V> {
    /// The answer to `key`, by `read` if nobody asked before.
    pub(super) fn get_or(&self, key: K, read: impl FnOnce(&K) -> Option<V>) -> Option<&V> {
        let mut place = &self.first;
        while let Some(answer) = place.get() {
            if answer.key == key {
                return answer.value.as_ref();
            }
            place = &answer.next;
        }
        let value = read(&key);
        place.get_or_init(|| Box::new(Answer { key, value, next: OnceCell::new() })).value.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_read_once() {
        let memo = Memo::default();
        let first = memo.get_or(1, |_| Some("one"));
        assert_eq!(memo.get_or(2, |_| None), None);
        assert_eq!(memo.get_or(1, |_| panic!("read again")), first);
        assert_eq!(memo.get_or(2, |_| panic!("read again")), None);
        assert_eq!((first, memo.get_or(3, |_| Some("three"))), (Some(&"one"), Some(&"three")));
    }
}
