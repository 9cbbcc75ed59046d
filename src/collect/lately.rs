//! How the mailboxes of each app fared lately, which tells apart what Exchange says alike: an app that opens another mailbox is registered,
//! and when all that worked are refused at once, Exchange is at fault. One for a process, forgotten with it. Pure: no I/O, no clock.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Collector;
use crate::diagnosis::Others;

/// Mailboxes remembered at most; further ones are not noted. A sample is enough.
const MOST: usize = 4_096;
/// How long ago an app may have opened a mailbox to be called registered.
const WORKS: SignedDuration = SignedDuration::from_hours(24);
/// Refusals within this time are at once.
const AT_ONCE: SignedDuration = SignedDuration::from_mins(15);
/// So many mailboxes refused at once are an incident.
const INCIDENT: usize = 3;

/// What is remembered of each mailbox: the last opening or refusal.
#[derive(Debug, Default)]
pub struct Lately {
    apps: HashMap<App, HashMap<Name, Fared>>,
    count: usize,
}

/// Tenant and client id.
type App = (String, String);
/// Namespace and name of the collector.
type Name = (String, String);

#[derive(Debug)]
struct Fared {
    mailbox: String,
    at: Timestamp,
    opened: bool,
}

impl Lately {
    /// The app opened this mailbox.
    pub fn opened(&mut self, order: &Collector, now: Timestamp) {
        self.note(order, now, true);
    }

    /// This mailbox, which had worked, was refused.
    pub fn refused(&mut self, order: &Collector, now: Timestamp) {
        self.note(order, now, false);
    }

    /// How other mailboxes of the same app fare. An address is told within the namespace only.
    pub fn others(&self, order: &Collector, now: Timestamp) -> Others<'_> {
        let Some(mailboxes) = self.apps.get(&app(order)) else { return Others::Unknown };
        let refused: Vec<Timestamp> =
            mailboxes.values().filter(|fared| !fared.opened && now.duration_since(fared.at) <= AT_ONCE).map(|fared| fared.at).collect();
        let first = refused.iter().min().copied();
        let opened_since = |first: Timestamp| mailboxes.values().any(|fared| fared.opened && fared.at >= first);
        if refused.len() >= INCIDENT && first.is_some_and(|first| !opened_since(first)) {
            return Others::AllRefused;
        }
        let me = name(order);
        let works = |(other, fared): &(&Name, &Fared)| **other != me && fared.opened && now.duration_since(fared.at) <= WORKS;
        let mut working = mailboxes.iter().filter(works).peekable();
        if working.peek().is_none() {
            return Others::Unknown;
        }
        // The same one at each attempt: a message that changes is a write of status.
        Others::Work(working.filter(|((namespace, _), _)| *namespace == me.0).map(|(_, fared)| fared.mailbox.as_str()).min())
    }

    fn note(&mut self, order: &Collector, now: Timestamp, opened: bool) {
        if self.count >= MOST {
            self.forget_old(now);
        }
        let full = self.count >= MOST;
        let mailboxes = self.apps.entry(app(order)).or_default();
        match mailboxes.get_mut(&name(order)) {
            Some(fared) => (fared.at, fared.opened) = (now, opened),
            None if full => {}
            None => {
                mailboxes.insert(name(order), Fared { mailbox: order.mailbox.clone(), at: now, opened });
                self.count += 1;
            }
        }
    }

    fn forget_old(&mut self, now: Timestamp) {
        for mailboxes in self.apps.values_mut() {
            mailboxes.retain(|_, fared| now.duration_since(fared.at) <= WORKS);
        }
        self.apps.retain(|_, mailboxes| !mailboxes.is_empty());
        self.count = self.apps.values().map(HashMap::len).sum();
    }
}

fn app(order: &Collector) -> App {
    (order.credential.tenant_id.clone(), order.credential.client_id.clone())
}

fn name(order: &Collector) -> Name {
    (order.id.namespace.clone(), order.id.name.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::collect::CollectorId;
    use crate::entra::{Cloud, Credential};

    fn order(namespace: &str, name: &str, client: &str) -> Collector {
        let credential = Credential {
            name: "azure-app".into(),
            tenant_id: "t".into(),
            client_id: client.into(),
            proof: crate::entra::Proof::Secret("s".into()),
            cloud: Cloud::Public,
            secret_expiration: None,
        };
        Collector {
            id: CollectorId { namespace: namespace.into(), name: name.into(), uid: name.into() },
            generation: 1,
            mailbox: format!("{name}@contoso.fr"),
            folders: vec!["INBOX".into()],
            credential: Arc::new(credential),
            interval: Duration::from_secs(300),
            push: true,
            max_message_bytes: 1,
            after_delivery: None,
            sinks: Vec::new(),
            requested_at: None,
        }
    }

    fn minute(minute: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
    }

    #[test]
    fn another_mailbox_of_the_same_app_shows_that_it_is_registered() {
        let mut lately = Lately::default();
        let (new, ventes) = (order("office", "new", "app"), order("office", "ventes", "app"));
        lately.opened(&new, minute(0));
        assert_eq!(lately.others(&new, minute(1)), Others::Unknown, "it is no other of itself");
        lately.opened(&ventes, minute(1));
        lately.opened(&order("office", "achats", "app"), minute(2));
        assert_eq!(lately.others(&new, minute(3)), Others::Work(Some("achats@contoso.fr")));
        assert_eq!(lately.others(&order("elsewhere", "new", "app"), minute(3)), Others::Work(None), "no address beyond the namespace");
        assert_eq!(lately.others(&order("office", "new", "other-app"), minute(3)), Others::Unknown);
        assert_eq!(lately.others(&new, minute(25 * 60)), Others::Unknown, "a day later nothing is known any more");
    }

    #[test]
    fn several_refused_at_once_and_none_opened_is_an_incident() {
        let mut lately = Lately::default();
        let orders: Vec<_> = ["a", "b", "c", "d"].map(|name| order("office", name, "app")).into();
        orders.iter().for_each(|order| lately.opened(order, minute(0)));
        lately.refused(&orders[0], minute(60));
        lately.refused(&orders[1], minute(61));
        assert_eq!(lately.others(&orders[1], minute(61)), Others::Work(Some("c@contoso.fr")), "two are not all");
        lately.refused(&orders[2], minute(62));
        assert_eq!(lately.others(&orders[2], minute(62)), Others::AllRefused);
        assert_eq!(lately.others(&orders[2], minute(78)), Others::Work(Some("d@contoso.fr")), "no more at once");
        lately.opened(&orders[3], minute(63));
        assert_eq!(lately.others(&orders[2], minute(64)), Others::Work(Some("d@contoso.fr")), "one that opens ends it");
    }

    #[test]
    fn memory_is_bounded_and_old_entries_give_way() {
        let mut lately = Lately::default();
        for number in 0..MOST + 10 {
            lately.opened(&order("office", &format!("m{number}"), "app"), minute(0));
        }
        assert_eq!(lately.count, MOST);
        lately.opened(&order("office", "late", "app"), minute(25 * 60));
        assert_eq!(lately.count, 1);
    }
}
