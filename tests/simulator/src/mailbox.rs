//! A mailbox with its rights, folders and messages. Pure but for the announcement to idling sessions: no I/O, no clock.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::fault::{Faults, FetchFault};
use crate::message::{Message, SharedMessage};

/// The folders that a French mailbox shows besides INBOX.
const DEFAULT_FOLDERS: [&str; 5] = ["Brouillons", "Courrier indésirable", "Éléments envoyés", "Éléments supprimés", "Factures/À traiter"];

/// A user or shared mailbox.
pub struct Mailbox {
    /// Its address, as an administrator writes it.
    pub address: Arc<str>,
    /// `Set-CASMailbox -ImapEnabled`.
    pub imap_enabled: bool,
    /// `Set-CASMailbox -PopEnabled`.
    pub pop_enabled: bool,
    /// Object ids of the service principals with FullAccess (`Add-MailboxPermission`).
    pub full_access: Vec<String>,
    /// So many of the next log-ins are "authenticated but not connected" although everything is right (a passing trouble of the server).
    pub refused_log_ins: u32,
    /// SELECT opens every folder read-only too.
    pub read_only: bool,
    /// Every FETCH gives the same bytes.
    pub stable_rendering: bool,
    /// RFC822.SIZE is off by up to so many percent.
    pub size_error_percent: u32,
    /// POP3's unique-ids where they are not the UIDs, by UID.
    pub unique_ids: HashMap<u32, String>,
    /// A POP3 session has it: every other one is refused until that ends.
    pub pop3_locked: bool,
    /// Faults that strike this mailbox.
    pub faults: Faults,
    pub(crate) folders: Vec<Folder>,
    pub(crate) connections: usize,
}

impl Mailbox {
    pub(crate) fn new(address: &str, full_access: &str, uid_validity: u32) -> Self {
        let mut mailbox = Self {
            address: address.into(),
            imap_enabled: true,
            pop_enabled: true,
            full_access: vec![full_access.to_owned()],
            refused_log_ins: 0,
            read_only: false,
            stable_rendering: false,
            size_error_percent: 7,
            unique_ids: HashMap::new(),
            pop3_locked: false,
            faults: Faults::default(),
            folders: vec![Folder::new("INBOX", uid_validity)],
            connections: 0,
        };
        for name in DEFAULT_FOLDERS {
            mailbox.folder(name);
        }
        mailbox
    }

    /// The folder of that UTF-8 name (INBOX in any case), made if it is not there.
    pub fn folder(&mut self, name: &str) -> &mut Folder {
        let position = self.folders.iter().position(|folder| same_name(&folder.name, name));
        let index = position.unwrap_or_else(|| {
            let validity = self.folders.iter().map(|folder| folder.uid_validity).max().unwrap_or(0).wrapping_add(1).max(1);
            self.folders.push(Folder::new(name, validity));
            self.folders.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was just found or pushed")]
        &mut self.folders[index]
    }

    /// Removes a folder with its messages; sessions that have it open find it gone.
    pub fn remove_folder(&mut self, name: &str) {
        self.folders.retain(|folder| !same_name(&folder.name, name));
    }

    /// What another client does: moves messages from one folder to another (made if it is not there), where they get new UIDs. Gives how many.
    pub fn move_messages(&mut self, from: &str, to: &str, uids: impl Fn(u32) -> bool) -> usize {
        let chosen =
            self.folder(from).messages.iter().filter(|stored| uids(stored.uid)).map(|stored| (stored.message.clone(), stored.flags));
        let chosen: Vec<_> = chosen.collect();
        for (message, flags) in chosen {
            self.folder(to).append_shared(message, flags);
        }
        self.folder(from).expunge(uids)
    }

    pub(crate) fn existing_folder(&mut self, name: &str) -> Option<&mut Folder> {
        self.folders.iter_mut().find(|folder| same_name(&folder.name, name))
    }
}

fn same_name(one: &str, other: &str) -> bool {
    one == other || one.eq_ignore_ascii_case("INBOX") && other.eq_ignore_ascii_case("INBOX")
}

/// A folder.
pub struct Folder {
    /// UTF-8.
    pub name: Arc<str>,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// The UID of the next message.
    pub uid_next: u32,
    /// Shown in place of `uid_next` (a server that goes back).
    pub reported_uid_next: Option<u32>,
    /// In order of UID.
    pub(crate) messages: Vec<Stored>,
    /// Raised at every arrival and removal; sessions wait on it.
    pub(crate) changes: watch::Sender<u64>,
}

/// A message in a folder.
pub(crate) struct Stored {
    pub(crate) uid: u32,
    pub(crate) flags: Flags,
    pub(crate) message: SharedMessage,
    /// Renderings given so far.
    pub(crate) renderings: u32,
    pub(crate) poison: Option<FetchFault>,
}

/// The five flags that Exchange keeps; keywords are not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const SEEN: Self = Self(1);
    pub(crate) const DELETED: Self = Self(8);
    const NAMES: [(&'static str, Self); 5] =
        [("\\Seen", Self(1)), ("\\Answered", Self(2)), ("\\Flagged", Self(4)), ("\\Deleted", Self(8)), ("\\Draft", Self(16))];

    /// An unknown name is no flag, as in Exchange.
    pub(crate) fn named(name: &str) -> Self {
        Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(Self(0), |(_, flag)| *flag)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn text(self) -> String {
        let names: Vec<&str> = Self::NAMES.iter().filter(|(_, flag)| self.contains(*flag)).map(|(name, _)| *name).collect();
        format!("({})", names.join(" "))
    }
}

impl Folder {
    fn new(name: &str, uid_validity: u32) -> Self {
        Self { name: name.into(), uid_validity, uid_next: 1, reported_uid_next: None, messages: Vec::new(), changes: watch::Sender::new(0) }
    }

    /// Puts a message in and announces it; gives its UID.
    pub fn append(&mut self, message: Message) -> u32 {
        self.append_shared(Arc::new(message), Flags::default())
    }

    pub(crate) fn append_shared(&mut self, message: SharedMessage, flags: Flags) -> u32 {
        let uid = self.uid_next;
        self.uid_next = self.uid_next.saturating_add(1);
        self.messages.push(Stored { uid, flags, message, renderings: 0, poison: None });
        self.announce();
        uid
    }

    /// Removes messages for good; gives how many there were.
    pub fn expunge(&mut self, uids: impl Fn(u32) -> bool) -> usize {
        let before = self.messages.len();
        self.messages.retain(|stored| !uids(stored.uid));
        let gone = before - self.messages.len();
        if gone > 0 {
            self.announce();
        }
        gone
    }

    /// The UIDs that exist, in order.
    pub fn uids(&self) -> Vec<u32> {
        self.messages.iter().map(|stored| stored.uid).collect()
    }

    /// The serial of each message, in order of UID.
    pub fn serials(&self) -> Vec<Option<u64>> {
        self.messages.iter().map(|stored| stored.message.serial()).collect()
    }

    /// The message bears `\Seen`.
    pub fn is_seen(&self, uid: u32) -> bool {
        self.messages.iter().any(|stored| stored.uid == uid && stored.flags.contains(Flags::SEEN))
    }

    /// What another client does: marks a message as read, or as unread.
    pub fn mark_seen(&mut self, uid: u32, seen: bool) {
        if let Some(stored) = self.stored(uid) {
            stored.flags = if seen { stored.flags.with(Flags::SEEN) } else { stored.flags.without(Flags::SEEN) };
        }
    }

    /// Plays this fault whenever the message is fetched, until `None` is set (a poison message).
    pub fn poison(&mut self, uid: u32, fault: Option<FetchFault>) {
        if let Some(stored) = self.messages.iter_mut().find(|stored| stored.uid == uid) {
            stored.poison = fault;
        }
    }

    /// A new UIDVALIDITY and new UIDs from `first_uid` on, in the same order: a mailbox that was moved. Open sessions notice it when they select again.
    pub fn renumber(&mut self, first_uid: u32) {
        self.uid_validity = self.uid_validity.wrapping_add(1).max(1);
        for (stored, uid) in self.messages.iter_mut().zip(first_uid..) {
            stored.uid = uid;
        }
        self.uid_next = self.messages.last().map_or(first_uid, |stored| stored.uid.saturating_add(1));
        self.announce();
    }

    pub(crate) fn stored(&mut self, uid: u32) -> Option<&mut Stored> {
        let index = self.messages.binary_search_by_key(&uid, |stored| stored.uid).ok()?;
        self.messages.get_mut(index)
    }

    fn announce(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_mailbox_has_another_validity_and_the_same_mail() {
        let mut mailbox = Mailbox::new("a@contoso.example", "oid", 14);
        for serial in 1..=3 {
            mailbox.folder("inbox").append(Message::office(serial));
        }
        mailbox.folder("INBOX").expunge(|uid| uid == 1);
        mailbox.folder("INBOX").renumber(1);
        let folder = mailbox.folder("INBOX");
        assert_eq!((folder.uid_validity, folder.uids(), folder.uid_next), (15, vec![1, 2], 3));
        assert_eq!(folder.serials(), [Some(2), Some(3)]);
    }

    #[test]
    fn a_keyword_is_not_stored() {
        assert_eq!(Flags::named("$Archived"), Flags::default());
        assert_eq!(Flags::named("\\seen").with(Flags::DELETED).text(), "(\\Seen \\Deleted)");
    }
}
