//! Commands about folders: LIST, STATUS, SELECT, EXAMINE, UNSELECT, CLOSE, CREATE; and the news of the selected one.

use super::command::Token;
use super::session::{ARGUMENT_ERROR, Selected, Session};
use super::utf7;
use super::wire::Hangup;
use crate::mailbox::Flags;
use crate::record::locked;

impl Session {
    pub(super) async fn list(&mut self, tag: &str, name: &str, arguments: &[Token]) -> Result<(), Hangup> {
        if name == "LSUB" && locked(&self.shared.world).exchange.imap4rev2 {
            return self.bad(tag, "Command Error. 12").await;
        }
        let [reference, pattern] = arguments else { return self.bad(tag, ARGUMENT_ERROR).await };
        let (Some(reference), Some(pattern)) = (reference.text(), pattern.text()) else { return self.bad(tag, ARGUMENT_ERROR).await };
        if pattern.is_empty() {
            self.wire.put_line(&format!("* {name} (\\Noselect) \"/\" \"\"")).await?;
            return self.ok(tag, &format!("{name} completed.")).await;
        }
        let pattern = format!("{reference}{pattern}");
        let names: Vec<String> =
            self.with_mailbox(|mailbox| mailbox.folders.iter().map(|folder| utf7::encode(&folder.name)).collect()).unwrap_or_default();
        for folder in names.iter().filter(|folder| matches(&pattern, folder)) {
            let children = names.iter().any(|other| other.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')));
            let attributes = if children { "\\HasChildren" } else { "\\HasNoChildren" };
            let shown = if folder == "INBOX" { "\\Marked " } else { "" };
            let folder_name = if folder.contains([' ', '(', ')', '"']) { format!("\"{folder}\"") } else { folder.clone() };
            self.wire.put_line(&format!("* {name} ({shown}{attributes}) \"/\" {folder_name}")).await?;
        }
        self.ok(tag, &format!("{name} completed.")).await
    }

    pub(super) async fn status(&mut self, tag: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let [wire_name, Token::List(items)] = arguments else { return self.bad(tag, ARGUMENT_ERROR).await };
        let Some(name) = folder_name(wire_name) else { return self.bad(tag, ARGUMENT_ERROR).await };
        let values = self.with_mailbox(|mailbox| {
            let folder = mailbox.existing_folder(&name)?;
            let mut values = Vec::new();
            for item in items {
                let item = item.atom().unwrap_or_default().to_ascii_uppercase();
                let value = match item.as_str() {
                    "MESSAGES" => folder.messages.len(),
                    "RECENT" => 0,
                    "UIDNEXT" => folder.reported_uid_next.unwrap_or(folder.uid_next) as usize,
                    "UIDVALIDITY" => folder.uid_validity as usize,
                    "UNSEEN" => folder.messages.iter().filter(|stored| !stored.flags.contains(Flags::SEEN)).count(),
                    _ => return Some(None),
                };
                values.push(format!("{item} {value}"));
            }
            Some(Some(values.join(" ")))
        });
        match values.flatten() {
            None => self.no(tag, &format!("{name} doesn't exist.")).await,
            Some(None) => self.bad(tag, ARGUMENT_ERROR).await,
            Some(Some(values)) => {
                self.wire.put_line(&format!("* STATUS \"{}\" ({values})", utf7::encode(&name))).await?;
                self.ok(tag, "STATUS completed.").await
            }
        }
    }

    pub(super) async fn select(&mut self, tag: &str, command: &str, arguments: &[Token]) -> Result<(), Hangup> {
        self.selected = None;
        let [wire_name] = arguments else { return self.bad(tag, ARGUMENT_ERROR).await };
        let Some(name) = folder_name(wire_name) else { return self.bad(tag, ARGUMENT_ERROR).await };
        let read_only = command == "EXAMINE" || self.with_mailbox(|mailbox| mailbox.read_only).unwrap_or_default();
        let opened = self.with_mailbox(|mailbox| {
            let folder = mailbox.existing_folder(&name)?;
            let unseen = folder.messages.iter().position(|stored| !stored.flags.contains(Flags::SEEN));
            let mut changes = folder.changes.subscribe();
            changes.mark_unchanged();
            let selected =
                Selected { name: folder.name.clone(), uid_validity: folder.uid_validity, read_only, view: folder.uids(), changes };
            Some((selected, unseen, folder.reported_uid_next.unwrap_or(folder.uid_next)))
        });
        let Some((selected, unseen, uid_next)) = opened.flatten() else {
            return self.no(tag, &format!("{name} doesn't exist.")).await;
        };
        let flags = "\\Seen \\Answered \\Flagged \\Deleted \\Draft $MDNSent";
        let mut lines = format!("* {} EXISTS\r\n* 0 RECENT\r\n* FLAGS ({flags})\r\n", selected.view.len());
        lines.push_str(&if read_only {
            "* OK [PERMANENTFLAGS ()] Permanent flags\r\n".to_owned()
        } else {
            format!("* OK [PERMANENTFLAGS ({flags})] Permanent flags\r\n")
        });
        if let Some(place) = unseen {
            lines.push_str(&format!("* OK [UNSEEN {0}] Is the first unseen message\r\n", place + 1));
        }
        lines.push_str(&format!("* OK [UIDVALIDITY {}] UIDVALIDITY value\r\n", selected.uid_validity));
        lines.push_str(&format!("* OK [UIDNEXT {uid_next}] The next unique identifier value\r\n"));
        self.selected = Some(selected);
        self.wire.put(lines.as_bytes()).await?;
        self.ok(tag, &format!("[{}] {command} completed.", if read_only { "READ-ONLY" } else { "READ-WRITE" })).await
    }

    pub(super) async fn unselect(&mut self, tag: &str, command: &str) -> Result<(), Hangup> {
        if command == "CLOSE" {
            self.with_folder(|folder, selected| {
                if !selected.read_only {
                    folder.messages.retain(|stored| !stored.flags.contains(Flags::DELETED));
                }
            });
        }
        self.selected = None;
        self.ok(tag, &format!("{command} completed.")).await
    }

    pub(super) async fn create(&mut self, tag: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let Some(name) = arguments.first().and_then(folder_name) else { return self.bad(tag, ARGUMENT_ERROR).await };
        self.with_mailbox(|mailbox| mailbox.folder(&name).uid_validity);
        self.ok(tag, "CREATE completed.").await
    }

    /// Tells what has changed in the selected folder since the client was last told: EXPUNGE from the end, then EXISTS.
    /// Gives the number announced, if there was news of arrivals, with the folder's UIDNEXT.
    pub(super) async fn report_changes(&mut self) -> Result<Option<(u32, u32)>, Hangup> {
        if self.selected.is_none() {
            return Ok(None);
        }
        if !self.selected.as_mut().is_some_and(|selected| selected.changes.has_changed().unwrap_or(true)) {
            return Ok(None);
        }
        let Some((uids, uid_next)) = self.with_folder(|folder, _| (folder.uids(), folder.uid_next)) else {
            return Err(self.moved_away().await);
        };
        let Some(selected) = self.selected.as_mut() else { return Ok(None) };
        selected.changes.mark_unchanged();
        let known = selected.view.len();
        let mut lines = String::new();
        let mut kept = known;
        for (place, uid) in selected.view.iter().enumerate().rev() {
            if uids.binary_search(uid).is_err() {
                lines.push_str(&format!("* {} EXPUNGE\r\n", place + 1));
                kept -= 1;
            }
        }
        let arrived = uids.len() > kept;
        let exists = u32::try_from(uids.len()).unwrap_or(u32::MAX);
        if arrived || kept < known {
            lines.push_str(&format!("* {exists} EXISTS\r\n"));
        }
        selected.view = uids;
        self.wire.put(lines.as_bytes()).await?;
        Ok(arrived.then_some((exists, uid_next)))
    }
}

/// A folder's name from the wire; `None` if it is not modified UTF-7.
pub(super) fn folder_name(token: &Token) -> Option<String> {
    utf7::decode(token.text()?)
}

/// LIST patterns: `*` spans everything, `%` stops at a slash. INBOX in any case.
fn matches(pattern: &str, name: &str) -> bool {
    fn go(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((wild @ (b'*' | b'%'), rest)) => (0..=name.len())
                .take_while(|end| *wild == b'*' || !name.get(..*end).unwrap_or_default().contains(&b'/'))
                .any(|end| go(rest, name.get(end..).unwrap_or_default())),
            Some((byte, rest)) => name.split_first().is_some_and(|(first, others)| first == byte && go(rest, others)),
        }
    }
    pattern.eq_ignore_ascii_case(name) && name == "INBOX" || pattern.len() < 256 && go(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_rfc_9051_says() {
        for (pattern, name, expected) in [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("a/%", "a/b", true),
            ("inbox", "INBOX", true),
            ("a*c", "abd", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
