//! Which collectors have a mailbox in common: an index over what the watch has seen, so that the change of one is told to the others, and none
//! of them is looked for among ten thousand. Decides nothing. No I/O, no clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Key;

/// Collectors by mailbox (in lower case). Objects that cannot be read have none.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    by_mailbox: HashMap<String, BTreeSet<Key>>,
    by_key: HashMap<Key, String>,
}

impl Mailboxes {
    /// An object was seen with this mailbox, or is gone (`None`). Gives the others whose mailbox it has, or had.
    pub(crate) fn changed(&self, key: &Key, mailbox: Option<&str>) -> BTreeSet<Key> {
        let mut index = self.lock();
        let mut neighbours = BTreeSet::new();
        if let Some(before) = index.by_key.remove(key)
            && let Some(keys) = index.by_mailbox.get_mut(&before)
        {
            keys.remove(key);
            neighbours.extend(keys.iter().cloned());
            if keys.is_empty() {
                index.by_mailbox.remove(&before);
            }
        }
        if let Some(mailbox) = mailbox.map(plain) {
            let keys = index.by_mailbox.entry(mailbox.clone()).or_default();
            neighbours.extend(keys.iter().cloned());
            keys.insert(key.clone());
            index.by_key.insert(key.clone(), mailbox);
        }
        neighbours
    }

    /// The collectors of this mailbox, in any case.
    pub(crate) fn of(&self, mailbox: &str) -> BTreeSet<Key> {
        self.lock().by_mailbox.get(&plain(mailbox)).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn plain(mailbox: &str) -> String {
    mailbox.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_mailbox_is_told_of_the_others_change_and_end() {
        let key = |name: &str| Key { namespace: "t".into(), name: name.into() };
        let names = |keys: BTreeSet<Key>| keys.into_iter().map(|key| key.name).collect::<Vec<_>>();
        let index = Mailboxes::default();
        for (name, mailbox, expected) in [
            ("a", Some("A@contoso.fr"), vec![]),
            ("b", Some("a@Contoso.fr"), vec!["a"]),
            ("c", Some("rh@contoso.fr"), vec![]),
            ("a", Some("a@contoso.fr"), vec!["b"]),
            ("c", Some("a@contoso.fr"), vec!["a", "b"]),
            ("b", None, vec!["a", "c"]),
            ("b", None, vec![]),
            ("a", Some("rh@contoso.fr"), vec!["c"]),
        ] {
            assert_eq!(names(index.changed(&key(name), mailbox)), expected, "{name} {mailbox:?}");
        }
        assert_eq!((names(index.of("A@CONTOSO.FR")), names(index.of("b@x"))), (vec!["c".to_owned()], vec![]));
    }
}
