//! Commands that find, mark, move and remove messages: SEARCH, STORE, COPY, MOVE, EXPUNGE, APPEND.

use super::command::{NumberSet, Token};
use super::folders::folder_name;
use super::session::{ARGUMENT_ERROR, Selected, Session};
use super::wire::Hangup;
use crate::civil::day_of_search_date;
use crate::mailbox::{Flags, Folder, Stored};
use crate::message::Message;

impl Session {
    pub(super) async fn search(&mut self, tag: &str, command: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let mut arguments = arguments;
        if let [charset, name, rest @ ..] = arguments
            && charset.is("CHARSET")
        {
            if !name.text().is_some_and(|name| name.eq_ignore_ascii_case("US-ASCII")) {
                return self.no(tag, "[BADCHARSET (US-ASCII)] The specified charset is not supported.").await;
            }
            arguments = rest;
        }
        let by_uid = command == "UID SEARCH";
        let found = self.with_folder(|folder, selected| {
            let keys = keys(arguments, folder, selected)?;
            let numbers: Vec<String> = selected
                .view
                .iter()
                .enumerate()
                .filter_map(|(place, uid)| {
                    let stored = folder.stored(*uid)?;
                    let sequence = u32::try_from(place + 1).ok()?;
                    keys.iter().all(|key| key.holds(sequence, stored)).then(|| if by_uid { uid.to_string() } else { sequence.to_string() })
                })
                .collect();
            Some(numbers)
        });
        match found {
            None => Err(self.moved_away().await),
            Some(None) => self.bad(tag, ARGUMENT_ERROR).await,
            Some(Some(numbers)) => {
                let separator = if numbers.is_empty() { "" } else { " " };
                self.wire.put_line(&format!("* SEARCH{separator}{}", numbers.join(" "))).await?;
                self.report_changes().await?;
                self.ok(tag, "SEARCH completed.").await
            }
        }
    }

    pub(super) async fn store(&mut self, tag: &str, command: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let [set, item, values] = arguments else { return self.bad(tag, ARGUMENT_ERROR).await };
        let item = item.atom().unwrap_or_default().to_ascii_uppercase();
        let (operation, silent) = item.strip_suffix(".SILENT").map_or((item.as_str(), false), |operation| (operation, true));
        let names = if let Token::List(names) = values { names.as_slice() } else { std::slice::from_ref(values) };
        let flags = names.iter().filter_map(Token::atom).fold(Flags::default(), |flags, name| flags.with(Flags::named(name)));
        if !matches!(operation, "FLAGS" | "+FLAGS" | "-FLAGS") {
            return self.bad(tag, ARGUMENT_ERROR).await;
        }
        if self.selected.as_ref().is_some_and(|selected| selected.read_only) {
            return self.bad(tag, "Command received in Invalid state.").await;
        }
        let lines = self.with_folder(|folder, selected| {
            let chosen = chosen(set, command, selected)?;
            let mut lines = String::new();
            for (sequence, uid) in chosen {
                let Some(stored) = folder.stored(uid) else { continue };
                stored.flags = match operation {
                    "+FLAGS" => stored.flags.with(flags),
                    "-FLAGS" => stored.flags.without(flags),
                    _ => flags,
                };
                if !silent {
                    lines.push_str(&format!("* {sequence} FETCH (FLAGS {} UID {uid})\r\n", stored.flags.text()));
                }
            }
            Some(lines)
        });
        match lines {
            None => Err(self.moved_away().await),
            Some(None) => self.bad(tag, ARGUMENT_ERROR).await,
            Some(Some(lines)) => {
                self.wire.put(lines.as_bytes()).await?;
                self.ok(tag, "STORE completed.").await
            }
        }
    }

    pub(super) async fn copy(&mut self, tag: &str, command: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let [set, target] = arguments else { return self.bad(tag, ARGUMENT_ERROR).await };
        let Some(target) = folder_name(target) else { return self.bad(tag, ARGUMENT_ERROR).await };
        let moves = command.ends_with("MOVE");
        let verb = if moves { "MOVE" } else { "COPY" };
        if moves && self.selected.as_ref().is_some_and(|selected| selected.read_only) {
            return self.bad(tag, "Command received in Invalid state.").await;
        }
        let picked = self.with_folder(|folder, selected| {
            let chosen = chosen(set, command, selected)?;
            Some(
                chosen
                    .into_iter()
                    .filter_map(|(_, uid)| folder.stored(uid).map(|stored| (uid, stored.message.clone(), stored.flags)))
                    .collect::<Vec<_>>(),
            )
        });
        let picked = match picked {
            None => return Err(self.moved_away().await),
            Some(None) => return self.bad(tag, ARGUMENT_ERROR).await,
            Some(Some(picked)) => picked,
        };
        let placed = self.with_mailbox(|mailbox| {
            let folder = mailbox.existing_folder(&target)?;
            let placed: Vec<u32> = picked.iter().map(|(_, message, flags)| folder.append_shared(message.clone(), *flags)).collect();
            Some((folder.uid_validity, placed))
        });
        let Some((validity, placed)) = placed.flatten() else {
            return self.no(tag, &format!("[TRYCREATE] {target} doesn't exist.")).await;
        };
        let numbers = |uids: &mut dyn Iterator<Item = u32>| uids.map(|uid| uid.to_string()).collect::<Vec<_>>().join(",");
        let sources = numbers(&mut picked.iter().map(|(uid, ..)| *uid));
        let targets = numbers(&mut placed.iter().copied());
        let code = if placed.is_empty() { String::new() } else { format!("[COPYUID {validity} {sources} {targets}] ") };
        if moves {
            if !code.is_empty() {
                self.wire.put_line(&format!("* OK {code}")).await?;
            }
            self.with_folder(|folder, _| folder.expunge(|uid| picked.iter().any(|(moved, ..)| *moved == uid)));
            self.report_changes().await?;
            self.ok(tag, "MOVE completed.").await
        } else {
            self.ok(tag, &format!("{code}{verb} completed.")).await
        }
    }

    pub(super) async fn expunge(&mut self, tag: &str, command: &str, arguments: &[Token]) -> Result<(), Hangup> {
        if self.selected.as_ref().is_some_and(|selected| selected.read_only) {
            return self.bad(tag, "Command received in Invalid state.").await;
        }
        let set = match (command, arguments) {
            ("EXPUNGE", []) => None,
            ("UID EXPUNGE", [set]) => Some(set),
            _ => return self.bad(tag, ARGUMENT_ERROR).await,
        };
        let done = self.with_folder(|folder, selected| {
            let largest = selected.view.last().copied().unwrap_or(0);
            let set = match set {
                Some(set) => Some(NumberSet::parse(set.atom()?, largest)?),
                None => None,
            };
            let deleted: Vec<u32> =
                folder.messages.iter().filter(|stored| stored.flags.contains(Flags::DELETED)).map(|stored| stored.uid).collect();
            Some(folder.expunge(|uid| deleted.binary_search(&uid).is_ok() && set.as_ref().is_none_or(|set| set.contains(uid))))
        });
        match done {
            None => Err(self.moved_away().await),
            Some(None) => self.bad(tag, ARGUMENT_ERROR).await,
            Some(Some(_)) => {
                self.report_changes().await?;
                self.ok(tag, "EXPUNGE completed.").await
            }
        }
    }

    pub(super) async fn append(&mut self, tag: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let (Some(name), Some(Token::Text(bytes))) = (arguments.first().and_then(folder_name), arguments.last()) else {
            return self.bad(tag, ARGUMENT_ERROR).await;
        };
        let flags = arguments.iter().find_map(|argument| if let Token::List(names) = argument { Some(names.as_slice()) } else { None });
        let flags =
            flags.unwrap_or_default().iter().filter_map(Token::atom).fold(Flags::default(), |flags, name| flags.with(Flags::named(name)));
        let message = Message::raw_rerendered(bytes.clone());
        let placed = self.with_mailbox(|mailbox| {
            let folder = mailbox.existing_folder(&name)?;
            Some((folder.uid_validity, folder.append_shared(message.into(), flags)))
        });
        match placed.flatten() {
            None => self.no(tag, &format!("[TRYCREATE] {name} doesn't exist.")).await,
            Some((validity, uid)) => {
                self.report_changes().await?;
                self.ok(tag, &format!("[APPENDUID {validity} {uid}] APPEND completed.")).await
            }
        }
    }
}

/// The messages of the view that a set names, as (sequence number, UID). `None` for a broken set.
pub(super) fn chosen(set: &Token, command: &str, selected: &Selected) -> Option<Vec<(u32, u32)>> {
    let by_uid = command.starts_with("UID ");
    let largest = if by_uid { selected.view.last().copied().unwrap_or(0) } else { u32::try_from(selected.view.len()).ok()? };
    let set = NumberSet::parse(set.atom()?, largest)?;
    let all = (1..).zip(selected.view.iter().copied());
    Some(all.filter(|(sequence, uid)| set.contains(if by_uid { *uid } else { *sequence })).collect())
}

enum Key {
    Everything,
    Flag(Flags, bool),
    Uids(NumberSet),
    Sequences(NumberSet),
    Header(String, String),
    SinceDay(i64),
    BeforeDay(i64),
    Not(Box<Key>),
}

impl Key {
    fn holds(&self, sequence: u32, stored: &Stored) -> bool {
        match self {
            Self::Everything => true,
            Self::Flag(flag, wanted) => stored.flags.contains(*flag) == *wanted,
            Self::Uids(set) => set.contains(stored.uid),
            Self::Sequences(set) => set.contains(sequence),
            Self::Header(name, value) => has_header(&stored.message, name, value),
            Self::SinceDay(day) => stored.message.date().div_euclid(86_400) >= *day,
            Self::BeforeDay(day) => stored.message.date().div_euclid(86_400) < *day,
            Self::Not(key) => !key.holds(sequence, stored),
        }
    }
}

/// `None` for what Exchange does not take (KEYWORD, RETURN, …).
fn keys(arguments: &[Token], folder: &Folder, selected: &Selected) -> Option<Vec<Key>> {
    let mut keys = Vec::new();
    let mut rest = arguments.iter();
    while !rest.as_slice().is_empty() {
        keys.push(key(&mut rest, folder, selected)?);
    }
    (!keys.is_empty()).then_some(keys)
}

fn key(rest: &mut std::slice::Iter<'_, Token>, folder: &Folder, selected: &Selected) -> Option<Key> {
    let word = rest.next()?.atom()?.to_ascii_uppercase();
    let flag = |name: &str, wanted| Key::Flag(Flags::named(&format!("\\{name}")), wanted);
    Some(match word.as_str() {
        "ALL" => Key::Everything,
        "SEEN" | "ANSWERED" | "FLAGGED" | "DELETED" | "DRAFT" => flag(&word, true),
        "UNSEEN" | "UNANSWERED" | "UNFLAGGED" | "UNDELETED" | "UNDRAFT" => flag(word.strip_prefix("UN")?, false),
        "UID" => Key::Uids(NumberSet::parse(rest.next()?.atom()?, folder.messages.last().map_or(0, |stored| stored.uid))?),
        "HEADER" => Key::Header(rest.next()?.text()?.to_owned(), rest.next()?.text()?.to_owned()),
        "SINCE" => Key::SinceDay(day_of_search_date(rest.next()?.text()?)?),
        "BEFORE" => Key::BeforeDay(day_of_search_date(rest.next()?.text()?)?),
        "NOT" => Key::Not(Box::new(key(rest, folder, selected)?)),
        set => Key::Sequences(NumberSet::parse(set, u32::try_from(selected.view.len()).ok()?)?),
    })
}

fn has_header(message: &Message, name: &str, value: &str) -> bool {
    let header = message.render_header(1);
    String::from_utf8_lossy(&header).lines().any(|line| {
        line.split_once(':').is_some_and(|(found, text)| {
            found.eq_ignore_ascii_case(name) && text.to_ascii_lowercase().contains(&value.to_ascii_lowercase())
        })
    })
}
