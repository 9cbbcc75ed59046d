//! Two collectors of one mailbox where one moves, marks or deletes what the other still has to collect: the younger is not accepted (law 4).
//! Pure: no I/O, no clock.

use super::mail::same_folder;
use super::{Error, INBOX, Options, spec};
use crate::api::MailboxCollector;

/// What of a collector matters to others of its mailbox.
struct Claim<'a> {
    /// Age, then name: the older goes first. Objects from files have no age.
    rank: (Option<jiff::Timestamp>, &'a str, &'a str),
    mailbox: String,
    folders: Vec<&'a str>,
    settles: bool,
}

impl<'a> Claim<'a> {
    /// `None` for one that collects nothing by itself: suspended, going, or not valid.
    fn of(object: &'a MailboxCollector, options: &Options) -> Option<Self> {
        if object.spec.suspend == Some(true) || object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let valid = spec(object, options).ok()?;
        let folders: Vec<&str> = object.spec.folders.iter().flatten().map(|folder| folder.name.as_str()).collect();
        let metadata = &object.metadata;
        Some(Self {
            rank: (
                metadata.creation_timestamp.as_ref().map(|time| time.0),
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default(),
            ),
            mailbox: valid.mailbox,
            folders: if folders.is_empty() { vec![INBOX] } else { folders },
            settles: valid.after_delivery.is_some(),
        })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let share = || self.folders.iter().any(|folder| other.folders.iter().any(|theirs| same_folder(folder, theirs)));
        self.mailbox == other.mailbox && (self.settles || other.settles) && share()
    }
}

/// Why `object` must not be collected beside `others` (itself among them, or not), if it must not. An older one that is not accepted itself
/// stands in nobody's way.
pub fn conflict<'a>(object: &MailboxCollector, others: impl Iterator<Item = &'a MailboxCollector>, options: &Options) -> Option<Error> {
    let own = Claim::of(object, options)?;
    let mut older: Vec<Claim<'_>> = others.filter_map(|other| Claim::of(other, options)).filter(|other| other.rank < own.rank).collect();
    older.retain(|other| other.mailbox == own.mailbox);
    older.sort_by(|one, other| one.rank.cmp(&other.rank));
    let mut accepted: Vec<Claim<'_>> = Vec::new();
    for claim in older {
        if !accepted.iter().any(|before| before.overlaps(&claim)) {
            accepted.push(claim);
        }
    }
    let other = accepted.into_iter().find(|claim| claim.overlaps(&own))?;
    // What another namespace has is none of this one's business (law 10).
    let name = (other.rank.1 == own.rank.1).then(|| other.rank.2.to_owned());
    Some(Error::MailboxConflict { other: name, settles: other.settles })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(namespace: &str, name: &str, minute: u32, folders: &[&str], action: &str) -> MailboxCollector {
        let folders: Vec<_> = folders.iter().map(|folder| json!({"name": folder})).collect();
        let after = if action == "Move" { json!({"action": "Move", "folder": "Archive"}) } else { json!({"action": action}) };
        let mut value = json!({
            "apiVersion": "mailbox-collector.io/v1alpha1", "kind": "MailboxCollector",
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": format!("2026-11-25T08:{minute:02}:00Z")},
            "spec": {"mailbox": "Factures@contoso.fr", "credentials": {"secretRef": {"name": "app"}}, "afterDelivery": after,
                "sinks": [{"name": "drop", "file": {"path": "x"}}]},
        });
        if !folders.is_empty() {
            value["spec"]["folders"] = json!(folders);
        }
        serde_json::from_value(value).unwrap()
    }

    fn refused(objects: &[MailboxCollector]) -> Vec<String> {
        let options = Options { file_sink: true, ..Options::default() };
        let each = objects.iter().filter_map(|object| {
            let Error::MailboxConflict { other, .. } = conflict(object, objects.iter(), &options)? else { panic!("another error") };
            Some(format!("{} by {}", object.metadata.name.as_deref().unwrap(), other.as_deref().unwrap_or("another namespace")))
        });
        each.collect()
    }

    #[test]
    fn the_younger_of_two_that_overlap_is_refused_where_one_of_them_settles() {
        let a = |action| object("t", "a", 1, &[], action);
        let rows: Vec<(Vec<MailboxCollector>, &[&str])> = vec![
            (vec![a("Keep"), object("t", "b", 2, &[], "Keep")], &[]),
            (vec![a("Keep"), object("t", "b", 2, &["inbox"], "Delete")], &["b by a"]),
            (vec![a("Delete"), object("t", "b", 2, &["INBOX"], "Keep")], &["b by a"]),
            (vec![a("Move"), object("u", "b", 2, &[], "Keep")], &["b by another namespace"]),
            (vec![object("t", "b", 2, &[], "Keep"), a("MarkSeen")], &["b by a"]),
            // Of one age: by name.
            (vec![object("t", "b", 1, &[], "Keep"), a("MarkSeen")], &["b by a"]),
            // One that is refused itself stands in nobody's way.
            (vec![a("Delete"), object("t", "b", 2, &[], "Move"), object("t", "c", 3, &[], "Keep")], &["b by a", "c by a"]),
        ];
        for (objects, expected) in rows {
            assert_eq!(refused(&objects), expected);
        }
    }

    #[test]
    fn one_that_is_suspended_going_or_of_another_mailbox_stands_in_nobodys_way() {
        let other = object("t", "b", 2, &[], "Keep");
        let mut suspended = object("t", "a", 1, &[], "Delete");
        suspended.spec.suspend = Some(true);
        let mut going = object("t", "a", 1, &[], "Delete");
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        let mut elsewhere = object("t", "a", 1, &[], "Delete");
        elsewhere.spec.mailbox = "rh@contoso.fr".into();
        let mut wrong = object("t", "a", 1, &[], "Delete");
        wrong.spec.interval = Some("soon".into());
        for older in [suspended, going, elsewhere, wrong] {
            assert!(refused(&[older, other.clone()]).is_empty());
        }
    }
}
