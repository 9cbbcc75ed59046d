//! Several sinks behind one mailbox: a mailbox in memory, sinks that answer as they are told, and what reaches whom over drains, failures and
//! restarts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::drain::{Drained, Failure, Pass, SetSize};
use super::fan::{Branch, Fan};
use super::held::Held;
use super::settle::Settling;
use super::view::View;
use super::*;
use crate::cursor::{Holder, OwedReason, UidSet};
use crate::sink::{self, Delivery, Outcome, Promise, Receipt, Sink};
use crate::source::{Access, Day, Head, Intake, Opened, Settle, Source, Wake};

/// A mailbox of messages that each hold their UID as text.
struct Mailbox(UidSet);

async fn opened(session: &mut Mailbox, held: &mut Held, order: &Collector) -> Result<View, crate::source::Error> {
    let opened = session.open("INBOX", Access::Examine).await?;
    View::opened(session, "INBOX", &opened, held, order, Timestamp::now()).await
}

impl Source for Mailbox {
    async fn open(&mut self, _folder: &str, _access: Access) -> Result<Opened, crate::source::Error> {
        Ok(Opened { uid_validity: 1, uid_next: Some(self.0.last().unwrap_or(0) + 1), exists: self.0.len() as u32, read_only: true })
    }

    async fn list(&mut self, low: u32, high: u32) -> Result<UidSet, crate::source::Error> {
        Ok(self.0.intersection(&UidSet::from_range(low, high)))
    }

    async fn list_day(&mut self, low: u32, high: u32, _day: Day) -> Result<UidSet, crate::source::Error> {
        self.list(low, high).await
    }

    async fn fetch<I: Intake>(&mut self, uids: &UidSet, intake: &mut I) -> Result<(), crate::source::Error> {
        for uid in uids.iter().collect::<Vec<_>>() {
            let body = format!("Message-ID: <{uid}@x>\r\n\r\n{uid}");
            let head = Head { uid, internal_date: None, size: body.len() as u64 };
            intake.whole(head, body.into()).await.map_err(|_| crate::source::Error::Stopped)?;
        }
        Ok(())
    }

    async fn settle(&mut self, _uids: &UidSet, _how: &Settle) -> Result<(), crate::source::Error> {
        Ok(())
    }

    async fn unsettled(&mut self, _uids: &UidSet, _how: &Settle) -> Result<UidSet, crate::source::Error> {
        Ok(UidSet::new())
    }

    async fn wait(&mut self, _max: Duration, _interrupt: impl Future<Output = ()> + Send) -> Result<Wake, crate::source::Error> {
        Ok(Wake::Elapsed)
    }

    async fn close(self) {}
}

/// How a test sink answers.
#[derive(Clone, Debug, Default)]
enum Mood {
    #[default]
    Takes,
    /// Refuses these UIDs.
    Refuses(UidSet),
    RefusesAll,
    Down,
}

/// Keeps what it accepted, by UID, with how often.
#[derive(Debug)]
struct Told {
    promise: Promise,
    mood: Mutex<Mood>,
    accepted: Mutex<BTreeMap<u32, u32>>,
    offered: Mutex<u64>,
    order: Arc<Mutex<Vec<(&'static str, u32)>>>,
    name: &'static str,
}

impl Told {
    fn counts(&self) -> BTreeMap<u32, u32> {
        self.accepted.lock().unwrap().clone()
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

impl Sink for Told {
    fn promise(&self) -> Promise {
        self.promise
    }

    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Receipt> {
        Box::pin(async move {
            if let Promise::AtLeastOnce { at_once } = self.promise {
                assert!(batch.len() <= at_once);
            }
            let mood = self.mood.lock().unwrap().clone();
            let answer = |delivery: &Delivery| {
                let sink::Body::Memory(bytes) = &delivery.body else { panic!() };
                let uid: u32 = std::str::from_utf8(bytes).unwrap().rsplit('\n').next().unwrap().parse().unwrap();
                *self.offered.lock().unwrap() += 1;
                match &mood {
                    Mood::Refuses(uids) if uids.contains(uid) => Outcome::Rejected(Arc::new(sink::Error::Rejected { code: 422 })),
                    Mood::RefusesAll => Outcome::Rejected(Arc::new(sink::Error::Rejected { code: 403 })),
                    Mood::Down => Outcome::Deferred(Arc::new(sink::Error::Timeout)),
                    Mood::Takes | Mood::Refuses(_) => {
                        *self.accepted.lock().unwrap().entry(uid).or_default() += 1;
                        self.order.lock().unwrap().push((self.name, uid));
                        Outcome::Accepted
                    }
                }
            };
            Receipt::of(batch.iter().map(answer).collect())
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), sink::Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Keeps one cursor as its JSON, as a real store would.
#[derive(Debug, Default)]
struct Store(Mutex<Option<String>>);

impl CursorStore for Store {
    fn load<'a>(&'a self, _id: &'a CollectorId) -> BoxFuture<'a, Result<Option<(Cursor, Version)>, StoreError>> {
        let stored = self.0.lock().unwrap().as_ref().map(|json| (serde_json::from_str(json).unwrap(), Version(String::new())));
        Box::pin(std::future::ready(Ok(stored)))
    }

    fn save<'a>(
        &'a self,
        _id: &'a CollectorId,
        cursor: &'a Cursor,
        _version: Option<&'a Version>,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        *self.0.lock().unwrap() = Some(serde_json::to_string(cursor).unwrap());
        Box::pin(std::future::ready(Ok(Version(String::new()))))
    }

    fn pace(&self) -> Duration {
        Duration::ZERO
    }

    fn holder(&self) -> Option<Holder> {
        None
    }
}

struct Stage {
    mailbox: UidSet,
    sinks: HashMap<&'static str, Arc<Told>>,
    names: Vec<&'static str>,
    fan: Arc<Fan>,
    store: Store,
    order: Collector,
    log: Arc<Mutex<Vec<(&'static str, u32)>>>,
}

const ONE_EFFECT: Promise = Promise::OneEffect;
const ONE_BY_ONE: Promise = Promise::AtLeastOnce { at_once: 1 };
const EIGHT: Promise = Promise::AtLeastOnce { at_once: 8 };

impl Stage {
    fn new(messages: u32, sinks: &[(&'static str, Promise)]) -> Self {
        let log = Arc::default();
        let told = |(name, promise): &(&'static str, Promise)| {
            let order = Arc::clone(&log);
            let told =
                Told { promise: *promise, mood: Mutex::default(), accepted: Mutex::default(), offered: Mutex::default(), order, name };
            (*name, Arc::new(told))
        };
        let id = CollectorId { namespace: "office".into(), name: "a".into(), uid: "1".into() };
        let credential = entra::Credential {
            name: "app".into(),
            tenant_id: "t".into(),
            client_id: "c".into(),
            proof: entra::Proof::Secret("s".into()),
            cloud: entra::Cloud::Public,
            secret_expiration: None,
        };
        let order = Collector {
            id,
            generation: 1,
            mailbox: "a@contoso.fr".into(),
            protocol: Protocol::Imap,
            folders: vec!["INBOX".into()],
            credential: Arc::new(credential),
            interval: Duration::from_secs(300),
            schedule: None,
            push: false,
            selection: Selection::default(),
            max_message_bytes: 1 << 20,
            after_delivery: None,
            sinks: Vec::new(),
            requested_at: None,
            verb: None,
        };
        let mut stage = Self {
            mailbox: UidSet::from_range(1, messages),
            sinks: sinks.iter().map(told).collect(),
            names: sinks.iter().map(|(name, _)| *name).collect(),
            fan: Arc::new(Fan::new(Vec::new(), None)),
            store: Store::default(),
            order,
            log: Arc::clone(&log),
        };
        stage.restart();
        stage
    }

    /// The process begins anew; the order may name other sinks.
    fn restart(&mut self) {
        let branches = self.names.iter().map(|name| Branch::new(name, Arc::clone(&self.sinks[name]) as Arc<dyn Sink>)).collect();
        self.fan = Arc::new(Fan::new(branches, None));
    }

    /// One session: open, and passes until everything is done or a sink stops it.
    async fn attempt(&mut self) -> Result<u64, Failure> {
        let mut held = Held::load(&self.store, &self.order.id).await?;
        held.cursor.serve(&self.fan.names());
        self.fan.remember(held.cursor.refused_of_late(Timestamp::now()));
        let mut session = Mailbox(self.mailbox.clone());
        let mut view = opened(&mut session, &mut held, &self.order).await?;
        let (mut size, cancel, mut tell) = (SetSize::default(), CancellationToken::new(), |_: &Drained, _| {});
        let mut collected = 0;
        loop {
            let mut settling = Settling::default();
            let mut pass = Pass {
                order: &self.order,
                fan: &self.fan,
                store: &self.store,
                size: &mut size,
                settling: &mut settling,
                cancel: &cancel,
                tell: &mut tell,
            };
            let drained = pass.run(&mut session, &mut view, &mut held).await;
            if drained.is_err() {
                held.save(&self.store, &self.order.id).await?;
            }
            let drained = drained?;
            collected += drained.collected;
            if !drained.more {
                return Ok(collected);
            }
            view.look(&mut session, &mut held, &self.order, Timestamp::now()).await?;
        }
    }

    async fn cursor(&self) -> Cursor {
        self.store.load(&self.order.id).await.unwrap().unwrap().0
    }

    async fn owed(&self) -> Vec<(u32, OwedReason, u32)> {
        let cursor = self.cursor().await;
        let owed = cursor.folder("INBOX").unwrap().owed().values();
        owed.map(|owed| (owed.uid, owed.reason, owed.attempts)).collect()
    }

    /// As if the pause of every owed message were over.
    async fn make_due(&self) {
        let json = self.store.0.lock().unwrap().clone().unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
        for owed in value.pointer_mut("/folders/0/owed").and_then(|owed| owed.as_array_mut()).into_iter().flatten() {
            owed["next"] = "2020-01-01T00:00:00Z".into();
        }
        *self.store.0.lock().unwrap() = Some(value.to_string());
    }

    /// Each of `sinks` accepted each of the first `messages` once.
    fn assert_once(&self, messages: u32, sinks: &[&str]) {
        for name in sinks {
            assert_eq!(self.sinks[name].counts(), (1..=messages).map(|uid| (uid, 1)).collect(), "{name}");
        }
    }
}

fn sink_of(failure: &Failure) -> (&str, &sink::Error) {
    let Failure::Sink(fault) = failure else { panic!("{failure}") };
    (&fault.name, &fault.error)
}

#[tokio::test]
async fn every_sink_gets_every_message_once_and_those_of_one_effect_come_first() {
    let mut stage = Stage::new(500, &[("relay", ONE_BY_ONE), ("drop", ONE_EFFECT), ("hook", EIGHT), ("s3", ONE_EFFECT)]);
    assert_eq!(stage.attempt().await.unwrap(), 500);
    stage.assert_once(500, &["relay", "drop", "hook", "s3"]);
    let log = stage.log.lock().unwrap().clone();
    let place = |name, uid| log.iter().position(|entry| *entry == (name, uid)).unwrap();
    for uid in 1..=500 {
        let first = place("drop", uid).max(place("s3", uid));
        assert!(first < place("relay", uid) && place("relay", uid) < place("hook", uid), "{uid}");
    }
    assert!(stage.owed().await.is_empty());
    assert_eq!(stage.attempt().await.unwrap(), 0);
}

#[tokio::test]
async fn one_that_is_down_for_hours_leaves_no_second_copy_in_the_others_and_a_bounded_backlog() {
    let mut stage = Stage::new(3_000, &[("drop", ONE_EFFECT), ("relay", ONE_BY_ONE), ("hook", EIGHT)]);
    stage.sinks["hook"].set(Mood::Down);
    let mut offered = 0;
    for attempt in 0..50 {
        let failure = stage.attempt().await.unwrap_err();
        assert_eq!(sink_of(&failure).0, "hook");
        // One slice is offered an attempt, not one request for each message that waits.
        let now = *stage.sinks["hook"].offered.lock().unwrap();
        assert!(now - offered <= 8, "{now}");
        offered = now;
        let owed = stage.owed().await;
        assert!(!owed.is_empty() && owed.len() <= 512, "{}", owed.len());
        assert!(owed.iter().all(|(_, reason, attempts)| (*reason, *attempts) == (OwedReason::Deferred, 0)), "{owed:?}");
        if attempt == 25 {
            stage.restart();
        }
    }
    assert!(stage.sinks["drop"].counts().values().chain(stage.sinks["relay"].counts().values()).all(|copies| *copies == 1));
    assert!(stage.cursor().await.stored_bytes() < 64 << 10);
    stage.sinks["hook"].set(Mood::Takes);
    stage.attempt().await.unwrap();
    stage.assert_once(3_000, &["drop", "relay", "hook"]);
    assert!(stage.owed().await.is_empty());
    assert_eq!(stage.cursor().await.quarantined(), 0);
}

#[tokio::test]
async fn one_that_refuses_everything_quarantines_no_more_than_five_over_restarts() {
    let mut stage = Stage::new(4_000, &[("drop", ONE_EFFECT), ("hook", EIGHT)]);
    stage.sinks["hook"].set(Mood::RefusesAll);
    stage.attempt().await.unwrap_err();
    let at_first = stage.cursor().await.owed();
    assert!(at_first <= 512, "{at_first}");
    for attempt in 0..60 {
        let failure = stage.attempt().await.unwrap_err();
        let (name, error) = sink_of(&failure);
        assert!(name == "hook" && matches!(error, sink::Error::RefusesAll { .. }), "{failure}");
        stage.make_due().await;
        if attempt % 7 == 0 {
            stage.restart();
        }
    }
    let cursor = stage.cursor().await;
    assert_eq!(cursor.quarantined(), 5);
    assert!(cursor.owed() <= at_first, "{} of {at_first}", cursor.owed());
    assert!(stage.sinks["drop"].counts().values().all(|copies| *copies == 1));
    // When it takes mail again, all but the five arrive.
    stage.sinks["hook"].set(Mood::Takes);
    stage.attempt().await.unwrap();
    assert_eq!(stage.sinks["hook"].counts().len(), 3_995);
    assert!(stage.sinks["hook"].counts().values().all(|copies| *copies == 1));
}

#[tokio::test]
async fn a_lone_sink_that_refuses_everything_is_told_apart_as_well() {
    for promise in [ONE_EFFECT, ONE_BY_ONE] {
        let mut stage = Stage::new(1_000, &[("hook", promise)]);
        stage.sinks["hook"].set(Mood::RefusesAll);
        for _ in 0..30 {
            assert!(matches!(sink_of(&stage.attempt().await.unwrap_err()).1, sink::Error::RefusesAll { .. }));
            stage.make_due().await;
        }
        assert_eq!((stage.cursor().await.quarantined(), stage.owed().await.len()), (5, 0));
        stage.sinks["hook"].set(Mood::Takes);
        stage.attempt().await.unwrap();
        assert_eq!(stage.sinks["hook"].counts().len(), 995);
    }
}

#[tokio::test]
async fn a_message_that_one_sink_refuses_reaches_the_others_once_and_is_quarantined_after_five_tries() {
    let mut stage = Stage::new(100, &[("drop", ONE_EFFECT), ("hook", EIGHT), ("relay", ONE_BY_ONE)]);
    stage.sinks["hook"].set(Mood::Refuses(UidSet::from_range(7, 8)));
    for attempt in 1..=5 {
        stage.attempt().await.unwrap();
        let owed = stage.owed().await;
        if attempt < 5 {
            assert_eq!(owed, [(7, OwedReason::Rejected, attempt), (8, OwedReason::Rejected, attempt)]);
        }
        stage.make_due().await;
    }
    assert_eq!((stage.cursor().await.quarantined(), stage.owed().await.len()), (2, 0));
    stage.assert_once(100, &["drop", "relay"]);
    assert_eq!(stage.sinks["hook"].counts().len(), 98);
    let cursor = stage.cursor().await;
    // Whoever replays them knows who has them: the first and the third sink.
    assert!(cursor.folder("INBOX").unwrap().quarantined().iter().all(|quarantined| quarantined.has == 0b101));
}

#[tokio::test]
async fn many_refusals_in_one_place_do_not_block_what_comes_after() {
    let mut stage = Stage::new(7, &[("drop", ONE_EFFECT), ("hook", ONE_BY_ONE)]);
    stage.sinks["hook"].set(Mood::Refuses(UidSet::from_range(1, 7)));
    stage.attempt().await.unwrap_err();
    stage.mailbox = UidSet::from_range(1, 60);
    for _ in 0..12 {
        let _ = stage.attempt().await;
        stage.make_due().await;
    }
    assert_eq!((stage.cursor().await.quarantined(), stage.owed().await.len()), (7, 0));
    assert_eq!(stage.sinks["hook"].counts().len(), 53);
    stage.assert_once(60, &["drop"]);
}

#[tokio::test]
async fn a_sink_that_is_renamed_removed_or_added_leaves_nothing_stuck() {
    let begin = async || {
        let mut stage = Stage::new(200, &[("drop", ONE_EFFECT), ("relay", ONE_BY_ONE), ("hook", EIGHT)]);
        stage.sinks["hook"].set(Mood::Down);
        stage.attempt().await.unwrap_err();
        assert!(!stage.owed().await.is_empty());
        stage
    };
    // Removed: what waited for it is done, without another copy anywhere.
    let mut stage = begin().await;
    stage.names = vec!["relay", "drop"];
    stage.restart();
    stage.attempt().await.unwrap();
    stage.assert_once(200, &["drop", "relay"]);
    assert!(stage.owed().await.is_empty());
    // Another in its place: it gets what was owed to the old one, and all from then on.
    let mut stage = begin().await;
    stage.names = vec!["drop", "relay", "new"];
    let new = Stage::new(0, &[("new", EIGHT)]).sinks.remove("new").unwrap();
    stage.sinks.insert("new", new);
    stage.restart();
    stage.attempt().await.unwrap();
    stage.assert_once(200, &["drop", "relay", "new"]);
    // Added when all is done: mail from then on.
    let mut stage = Stage::new(200, &[("drop", ONE_EFFECT)]);
    stage.attempt().await.unwrap();
    let new = Stage::new(0, &[("new", EIGHT)]).sinks.remove("new").unwrap();
    stage.sinks.insert("new", new);
    stage.names = vec!["drop", "new"];
    stage.mailbox = UidSet::from_range(1, 210);
    stage.restart();
    stage.attempt().await.unwrap();
    assert_eq!(stage.sinks["new"].counts(), (201..=210).map(|uid| (uid, 1)).collect());
    stage.assert_once(210, &["drop"]);
}
