//! Random histories of a server, a sink and a collector that crashes: laws 1 and 2 as far as the cursor carries them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Cursor, Folder, Numbering, Owe, OwedReason, Recognised, UidSet};

const INBOX: &str = "INBOX";
/// Narrower than most histories, so that windows matter.
const WINDOW: u32 = 7;
/// Messages between two records.
const BATCH: usize = 3;

#[derive(Clone, Debug)]
enum Event {
    /// A message arrives; with `twin`, one whose bytes other messages share.
    Arrive {
        twin: Option<u8>,
    },
    /// A UID is given out, but listings show the message only five minutes later.
    ArriveUnseen,
    /// The n-th message is deleted by its owner.
    Expunge(usize),
    /// From now on delivered messages are deleted, or kept.
    Settling(bool),
    /// The mailbox is moved: another UIDVALIDITY, new UIDs.
    Renumber,
    Minutes(i64),
    Drain(Drain),
}

#[derive(Clone, Debug, Default)]
struct Drain {
    /// Steps (a listing, a fetch, a delivery, a record) until the process is killed.
    crash_at: Option<usize>,
    /// What becomes of the n-th message, in turn.
    outcomes: Vec<Fetched>,
    newest_first: bool,
    /// What the server does when it is asked to delete.
    obeys: Obedience,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Obedience {
    #[default]
    Deletes,
    /// OK, and every second message is still there.
    Half,
    /// OK, and nothing happened.
    Lies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetched {
    Accepted,
    Rejected,
    NotReceived,
    /// The sink takes nothing: the drain ends.
    Deferred,
}

type Serial = usize;
type Content = usize;

#[derive(Clone, Debug)]
struct Message {
    serial: Serial,
    content: Content,
    visible_from: Timestamp,
}

struct World {
    now: Timestamp,
    uid_validity: u32,
    uid_next: u32,
    messages: BTreeMap<u32, Message>,
    arrived: BTreeMap<Serial, Content>,
    /// The sink: names are content and placement, as the real ones are fingerprint and placement.
    files: BTreeSet<(Content, [u8; 8])>,
    /// Deliveries that the sink accepted, repeated ones too.
    deliveries: BTreeMap<Serial, usize>,
    /// What the sink durably holds for a message, whether the cursor knows it or not.
    held: BTreeSet<Serial>,
    given_up: BTreeSet<Serial>,
    /// Deleted by us, for they were delivered.
    settled: BTreeSet<Serial>,
    settling: bool,
    cursor: Cursor,
    stored: String,
    crashed: bool,
    renumbered: bool,
}

/// The process was killed.
struct Killed;

impl World {
    fn new() -> Self {
        let cursor = Cursor::default();
        Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            uid_validity: 1,
            uid_next: 1,
            messages: BTreeMap::new(),
            arrived: BTreeMap::new(),
            files: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            held: BTreeSet::new(),
            given_up: BTreeSet::new(),
            settled: BTreeSet::new(),
            settling: false,
            stored: serde_json::to_string(&cursor).unwrap(),
            cursor,
            crashed: false,
            renumbered: false,
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Arrive { twin } => self.arrive(*twin, self.now),
            Event::ArriveUnseen => self.arrive(None, self.now + SignedDuration::from_mins(5)),
            Event::Expunge(at) => {
                if let Some(uid) = self.messages.keys().nth(*at).copied() {
                    self.messages.remove(&uid);
                }
            }
            Event::Settling(settling) => self.settling = *settling,
            Event::Renumber => {
                self.renumbered = true;
                self.uid_validity += 1;
                // Not 1 to n: what is new must not look like what was.
                let moved = std::mem::take(&mut self.messages).into_values().zip(1u32..).map(|(message, at)| (at * 2, message));
                self.messages = moved.collect();
                self.uid_next = self.messages.keys().last().map_or(1, |uid| uid + 1);
            }
            Event::Minutes(minutes) => self.now += SignedDuration::from_mins(*minutes),
            Event::Drain(drain) => {
                if self.drain(drain).is_err() {
                    self.crashed = true;
                    self.cursor = serde_json::from_str(&self.stored).unwrap();
                }
            }
        }
        self.assert_nothing_passed();
    }

    fn arrive(&mut self, twin: Option<u8>, visible_from: Timestamp) {
        let serial = self.arrived.len();
        let content = twin.map_or(1_000 + serial, usize::from);
        self.arrived.insert(serial, content);
        self.messages.insert(self.uid_next, Message { serial, content, visible_from });
        self.uid_next += 1;
    }

    fn visible(&self, low: u32, high: u32) -> UidSet {
        self.messages.range(low..=high).filter(|(_, message)| message.visible_from <= self.now).map(|(uid, _)| *uid).collect()
    }

    fn placement(&self, uid: u32) -> [u8; 8] {
        (u64::from(self.uid_validity) << 32 | u64::from(uid)).to_be_bytes()
    }

    fn record(&mut self) {
        self.stored = serde_json::to_string(&self.cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&self.stored).unwrap(), self.cursor, "the stored form is the whole cursor");
    }

    fn folder(&mut self) -> &mut Folder {
        self.cursor.folder_mut(INBOX)
    }

    /// What `collect` does, in small: open, list, fetch, deliver, record.
    fn drain(&mut self, drain: &Drain) -> Result<(), Killed> {
        let mut steps = 0..drain.crash_at.unwrap_or(usize::MAX);
        let mut step = || steps.next().map(|_| ()).ok_or(Killed);
        let mut outcomes = drain.outcomes.iter().copied();
        let now = self.now;

        if !self.settling {
            let unsettled = self.folder().unsettled().clone();
            self.folder().settled(&unsettled);
        }
        let (uid_validity, uid_next) = (self.uid_validity, self.uid_next);
        if self.folder().opened(uid_validity, Some(uid_next), now) == Numbering::Doubtful {
            let _renumbered: Recognised = self.folder().recognised(uid_validity, Some(uid_next), &BTreeMap::new(), now);
        }
        let mut work = UidSet::new();
        let mut low = 1;
        while low < self.uid_next {
            step()?;
            let high = low + WINDOW - 1;
            let listed = self.visible(low, high);
            work = work.union(&self.folder().listed(low, high, &listed, now));
            low = high + 1;
        }
        work = work.union(&self.folder().due(now));
        let mut todo: Vec<u32> = work.iter().collect();
        if drain.newest_first {
            todo.reverse();
        }

        for batch in todo.chunks(BATCH) {
            let mut accepted = UidSet::new();
            for uid in batch {
                step()?;
                let Some(message) = self.messages.get(uid).cloned() else {
                    continue;
                };
                match outcomes.next().unwrap_or(Fetched::Accepted) {
                    Fetched::Accepted => {
                        self.deliver(*uid, &message);
                        accepted.insert(*uid);
                    }
                    Fetched::Deferred => {
                        self.delivered(&accepted);
                        self.record();
                        return Ok(());
                    }
                    Fetched::Rejected => self.owe(*uid, &message, OwedReason::Rejected),
                    Fetched::NotReceived => self.owe(*uid, &message, OwedReason::NotReceived),
                }
            }
            step()?;
            self.delivered(&accepted);
            step()?;
            self.record();
        }
        self.record();
        step()?;
        if self.settling {
            // Any of the two may be the last thing that a process does.
            let asked = self.folder().unsettled().clone();
            self.settle(&asked, drain.obeys);
            step()?;
            let still = self.visible(1, u32::MAX);
            self.folder().settled(&asked.difference(&still));
            step()?;
            self.record();
        }
        step()
    }

    fn delivered(&mut self, uids: &UidSet) {
        if self.settling {
            self.folder().delivered(uids);
        } else {
            self.folder().decide(uids);
        }
    }

    /// The server deletes. Only what the record, as it is stored, holds as delivered may be asked for.
    fn settle(&mut self, asked: &UidSet, obeys: Obedience) {
        let stored: Cursor = serde_json::from_str(&self.stored).unwrap();
        let recorded = stored.folder(INBOX).unwrap();
        for uid in asked.iter() {
            assert!(recorded.unsettled().contains(uid) && recorded.is_decided(uid), "UID {uid} is deleted and not recorded: {stored:?}");
            if obeys == Obedience::Lies || obeys == Obedience::Half && uid % 2 == 0 {
                continue;
            }
            if let Some(message) = self.messages.remove(&uid) {
                assert!(self.held.contains(&message.serial), "UID {uid} is deleted and nobody has it");
                assert!(!self.given_up.contains(&message.serial) || self.held.contains(&message.serial));
                self.settled.insert(message.serial);
            }
        }
    }

    fn deliver(&mut self, uid: u32, message: &Message) {
        let own = self.placement(uid);
        self.held.insert(message.serial);
        let epoch = self.uid_validity.to_be_bytes();
        if self.folder().must_reconcile(uid) {
            let old: Vec<[u8; 8]> =
                self.files.iter().filter(|file| file.0 == message.content && !file.1.starts_with(&epoch)).map(|file| file.1).collect();
            if !self.files.contains(&(message.content, own)) && old.iter().any(|placement| self.folder().claim(*placement)) {
                return;
            }
        }
        *self.deliveries.entry(message.serial).or_default() += 1;
        self.files.insert((message.content, own));
    }

    fn owe(&mut self, uid: u32, message: &Message, reason: OwedReason) {
        let now = self.now;
        match self.folder().owe(uid, reason, now) {
            Owe::Again { next } => assert!(next > now),
            Owe::Quarantined { attempts } => {
                assert_eq!(attempts, 5);
                self.given_up.insert(message.serial);
            }
        }
    }

    fn assert_nothing_passed(&self) {
        let stored: Cursor = serde_json::from_str(&self.stored).unwrap();
        for cursor in [&stored, &self.cursor] {
            let Some(folder) = cursor.folder(INBOX).filter(|folder| folder.uid_validity() == self.uid_validity) else { continue };
            for (uid, message) in &self.messages {
                let done = self.held.contains(&message.serial) || self.given_up.contains(&message.serial);
                assert!(done || !folder.is_decided(*uid), "UID {uid} is decided and nobody has it: {cursor:?}");
            }
        }
    }

    fn comes_to_rest(&mut self) {
        for _ in 0..10 {
            self.happens(&Event::Minutes(61));
            self.happens(&Event::Drain(Drain::default()));
        }
        // Above the newest message nothing can be told from a listing.
        let top = self.messages.keys().last().copied().unwrap_or(0);
        assert!(self.folder().undecided(top).is_empty());
        assert!(self.folder().owed().is_empty());
        assert!(self.folder().unsettled().is_empty());
        assert_eq!(self.cursor.full(), None);
        let mut copies: BTreeMap<Content, usize> = BTreeMap::new();
        for (content, _) in &self.files {
            *copies.entry(*content).or_default() += 1;
        }
        let mut present: BTreeMap<Content, usize> = BTreeMap::new();
        for serial in &self.settled {
            let content = self.arrived[serial];
            assert!(copies.contains_key(&content), "{serial} is deleted and its content is nowhere");
            // After a renumbering the copy of a message that is gone may stand for one of the very same bytes (law 2).
            if !self.renumbered {
                *present.entry(content).or_default() += 1;
            }
        }
        for message in self.messages.values().filter(|message| !self.given_up.contains(&message.serial)) {
            *present.entry(message.content).or_default() += 1;
        }
        for (content, messages) in present {
            let files = copies.get(&content).copied().unwrap_or(0);
            assert!(files >= messages, "{messages} messages of content {content} lie on the server, {files} files in the sink");
        }
        for (content, files) in &copies {
            let ever = self.arrived.values().filter(|other| *other == content).count();
            assert!(*files <= ever, "{files} files for {ever} messages of content {content}");
        }
        if !self.crashed && !self.renumbered {
            assert!(self.deliveries.values().all(|times| *times == 1), "delivered twice without a crash: {:?}", self.deliveries);
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![
        6 => Just(Fetched::Accepted),
        2 => Just(Fetched::Rejected),
        2 => Just(Fetched::NotReceived),
        1 => Just(Fetched::Deferred)
    ];
    let obeys = prop_oneof![4 => Just(Obedience::Deletes), 1 => Just(Obedience::Half), 1 => Just(Obedience::Lies)];
    let drain = (prop::option::weighted(0.4, 0usize..25), prop::collection::vec(outcome, 0..12), any::<bool>(), obeys)
        .prop_map(|(crash_at, outcomes, newest_first, obeys)| Event::Drain(Drain { crash_at, outcomes, newest_first, obeys }));
    prop_oneof![
        6 => prop::option::weighted(0.3, 0u8..2).prop_map(|twin| Event::Arrive { twin }),
        1 => Just(Event::ArriveUnseen),
        2 => (0usize..12).prop_map(Event::Expunge),
        1 => any::<bool>().prop_map(Event::Settling),
        1 => Just(Event::Renumber),
        2 => (0i64..90).prop_map(Event::Minutes),
        5 => drain,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_delivered_at_least_once_and_nothing_undelivered_is_passed(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::new();
        for event in &events {
            world.happens(event);
        }
        world.comes_to_rest();
    }

    #[test]
    fn without_crash_and_renumbering_every_message_is_delivered_exactly_once(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Renumber => {}
                Event::Drain(drain) => world.happens(&Event::Drain(Drain { crash_at: None, ..drain })),
                Event::Arrive { .. } | Event::ArriveUnseen | Event::Expunge(_) | Event::Settling(_) | Event::Minutes(_) => world.happens(&event),
            }
        }
        world.comes_to_rest();
        for message in world.messages.values() {
            let expected = usize::from(!world.given_up.contains(&message.serial));
            prop_assert_eq!(world.deliveries.get(&message.serial).copied().unwrap_or(0), expected);
        }
    }
}
