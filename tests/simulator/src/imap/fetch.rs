//! FETCH: every body is rendered anew, logged by its digest, and sent in pieces that are shared with the store.
//! The faults of single messages are played here.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::command::Token;
use super::messages::chosen;
use super::session::{ARGUMENT_ERROR, Session};
use super::wire::Hangup;
use crate::civil;
use crate::fault::FetchFault;
use crate::mailbox::Flags;
use crate::message::{SharedMessage, mix, scan_in_progress, substitute};
use crate::record::Rendering;

/// One thing that a FETCH asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Uid,
    Flags,
    InternalDate,
    Size,
    Body { section: Section, peek: bool, shown: String, partial: Option<(usize, usize)> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Section {
    Whole,
    Header,
    Fields(Vec<String>),
    Text,
}

/// A message as taken from the folder, so that the world is not held while it is sent.
struct Picked {
    sequence: u32,
    uid: u32,
    flags: Flags,
    message: SharedMessage,
    number: u32,
    size_error_percent: u32,
    faults: Vec<FetchFault>,
    now_seen: bool,
}

impl Session {
    pub(super) async fn fetch(&mut self, tag: &str, command: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let [set, wanted] = arguments else { return self.bad(tag, ARGUMENT_ERROR).await };
        let Some(mut items) = items(wanted) else { return self.bad(tag, ARGUMENT_ERROR).await };
        if command == "UID FETCH" && !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        let picked = match self.pick(set, command, &items) {
            None => return Err(self.moved_away().await),
            Some(None) => return self.bad(tag, ARGUMENT_ERROR).await,
            Some(Some(picked)) => picked,
        };
        self.wire.fetching = true;
        for mut message in picked {
            // Sequence numbers after one that vanished are those that the client counts with by then.
            let place = self.selected.as_ref().and_then(|selected| selected.view.binary_search(&message.uid).ok());
            message.sequence = place.and_then(|place| u32::try_from(place + 1).ok()).unwrap_or(message.sequence);
            if let Some(FetchFault::RefusesFetch(text)) = message.faults.iter().find(|fault| matches!(fault, FetchFault::RefusesFetch(_))) {
                self.wire.fetching = false;
                return self.no(tag, text).await;
            }
            self.send(&message, &items).await?;
        }
        self.report_changes().await?;
        let done = self.ok(tag, "FETCH completed.").await;
        self.wire.fetching = false;
        done
    }

    fn pick(&self, set: &Token, command: &str, items: &[Item]) -> Option<Option<Vec<Picked>>> {
        let marks = items.iter().any(|item| matches!(item, Item::Body { peek: false, .. }));
        let renders = items.iter().any(|item| matches!(item, Item::Body { section: Section::Whole, .. }));
        let (stable, size_error_percent) = self.with_mailbox(|mailbox| (mailbox.stable_rendering, mailbox.size_error_percent))?;
        self.with_folder(|folder, selected| {
            let mut picked = Vec::new();
            for (sequence, uid) in chosen(set, command, selected)? {
                let Some(stored) = folder.stored(uid) else { continue };
                if renders && !stable {
                    stored.renderings += 1;
                }
                let now_seen = marks && !selected.read_only && !stored.flags.contains(Flags::SEEN);
                if now_seen {
                    stored.flags = stored.flags.with(Flags::SEEN);
                }
                let planned =
                    self.plan.fetch.iter().filter(|(only, _)| only.map_or(picked.is_empty(), |only| only == uid)).map(|(_, fault)| fault);
                let faults = planned.chain(stored.poison.as_ref()).cloned().collect();
                picked.push(Picked {
                    sequence,
                    uid,
                    flags: stored.flags,
                    message: stored.message.clone(),
                    number: if stable { 1 } else { stored.renderings.max(1) },
                    size_error_percent,
                    faults,
                    now_seen,
                });
            }
            Some(picked)
        })
    }

    async fn send(&mut self, message: &Picked, items: &[Item]) -> Result<(), Hangup> {
        let peeks = items.iter().any(|item| matches!(item, Item::Body { peek: true, .. }));
        let mut shape = Shape { shown_uid: Some(message.uid), ..Shape::default() };
        for fault in &message.faults {
            match fault {
                // Exchange: nothing under PEEK, a substitute without it.
                FetchFault::Skip if peeks => return Ok(()),
                FetchFault::Skip | FetchFault::Substitute => shape.body = Some(substitute(message.sequence as usize)),
                FetchFault::ScanInProgress => shape.body = Some(scan_in_progress(&message.message)),
                FetchFault::Nil => shape.instead = Some("NIL"),
                FetchFault::Empty => shape.body = Some(Bytes::new()),
                FetchFault::EmptyQuoted => shape.instead = Some("\"\""),
                FetchFault::UidAfterBody => shape.uid_last = true,
                FetchFault::WithoutUid => shape.shown_uid = None,
                FetchFault::FlagsOnly => {
                    let line = format!("* {} FETCH (FLAGS {} UID {})", message.sequence, message.flags.text(), message.uid);
                    return self.wire.put_line(&line).await;
                }
                FetchFault::OtherUid(uid) => shape.shown_uid = Some(*uid),
                FetchFault::ForeignBefore(uid) => {
                    let foreign = Shape {
                        shown_uid: Some(*uid),
                        body: Some(Bytes::from_static(b"Subject: foreign\r\n\r\nnot asked for\r\n")),
                        ..Shape::default()
                    };
                    self.answer(message, items, &foreign, message.number).await?;
                }
                FetchFault::Twice => {
                    let once = Shape { shown_uid: Some(message.uid), ..Shape::default() };
                    self.answer(message, items, &once, message.number + 1_000_000).await?;
                }
                FetchFault::InTwoReplies => {
                    self.answer(message, &[Item::Uid, Item::InternalDate], &shape, message.number).await?;
                    let rest: Vec<Item> = items.iter().filter(|item| **item != Item::InternalDate).cloned().collect();
                    return self.answer(message, &rest, &shape, message.number).await;
                }
                FetchFault::Before(bytes) => self.wire.put(bytes).await?,
                FetchFault::Vanishes => {
                    self.with_folder(|folder, _| folder.expunge(|uid| uid == message.uid));
                    return self.report_changes().await.map(drop);
                }
                FetchFault::EndMidBody => shape.end_mid_body = true,
                FetchFault::HugeLiteral(length) => shape.announced = Some(*length),
                FetchFault::WrongLength(difference) => shape.length_error = *difference,
                FetchFault::Garbage => self.wire.put(b"\x00\xff garbage ** ) ( {x}\r\n").await?,
                FetchFault::LongLine(length) => self.long_line(*length).await?,
                FetchFault::DeepParentheses(depth) => {
                    let line = format!(
                        "* {} FETCH (UID {} BODYSTRUCTURE {}{})",
                        message.sequence,
                        message.uid,
                        "(".repeat(*depth),
                        ")".repeat(*depth)
                    );
                    self.wire.put_line(&line).await?;
                }
                FetchFault::InternalDateNil => shape.date_nil = true,
                FetchFault::RefusesFetch(_) => {}
                FetchFault::EndsConnection => {
                    self.wire.flush().await?;
                    return Err(Hangup);
                }
            }
        }
        self.answer(message, items, &shape, message.number).await
    }

    async fn long_line(&mut self, length: usize) -> Result<(), Hangup> {
        let block = [b'x'; 8192];
        self.wire.put(b"* OK ").await?;
        let mut left = length;
        while left > 0 {
            let take = left.min(block.len());
            self.wire.put(block.get(..take).unwrap_or_default()).await?;
            left -= take;
        }
        self.wire.put(b"\r\n").await
    }

    /// One `* n FETCH (…)`.
    async fn answer(&mut self, message: &Picked, items: &[Item], shape: &Shape, number: u32) -> Result<(), Hangup> {
        let mut text = format!("* {} FETCH (", message.sequence);
        let mut first = true;
        let mut separated = |text: &mut String, word: &str| {
            if !std::mem::take(&mut first) {
                text.push(' ');
            }
            text.push_str(word);
        };
        let uid = shape.shown_uid.map(|uid| format!("UID {uid}"));
        for item in items {
            match item {
                Item::Uid if shape.uid_last => {}
                Item::Uid => {
                    if let Some(uid) = &uid {
                        separated(&mut text, uid);
                    }
                }
                Item::Flags => separated(&mut text, &format!("FLAGS {}", message.flags.text())),
                Item::InternalDate if shape.date_nil => separated(&mut text, "INTERNALDATE NIL"),
                Item::InternalDate => separated(&mut text, &format!("INTERNALDATE \"{}\"", civil::internal_date(message.message.date()))),
                Item::Size => separated(&mut text, &format!("RFC822.SIZE {}", estimated_size(message, number))),
                Item::Body { section, shown, partial, .. } => {
                    separated(&mut text, shown);
                    text.push(' ');
                    self.wire.put(text.as_bytes()).await?;
                    text.clear();
                    self.send_body(message, section, *partial, shape, number).await?;
                }
            }
        }
        if message.now_seen && !items.contains(&Item::Flags) {
            separated(&mut text, &format!("FLAGS {}", message.flags.text()));
        }
        if shape.uid_last
            && let Some(uid) = &uid
        {
            separated(&mut text, uid);
        }
        text.push_str(")\r\n");
        self.wire.put(text.as_bytes()).await
    }

    async fn send_body(
        &mut self,
        message: &Picked,
        section: &Section,
        partial: Option<(usize, usize)>,
        shape: &Shape,
        number: u32,
    ) -> Result<(), Hangup> {
        if let Some(instead) = shape.instead {
            return self.wire.put(instead.as_bytes()).await;
        }
        let mut pieces = match (&shape.body, section) {
            (Some(body), _) => vec![body.clone()],
            (None, Section::Whole) => message.message.render(number),
            (None, Section::Header) => vec![message.message.render_header(number).into()],
            (None, Section::Fields(names)) => vec![fields(&message.message.render_header(number), names).into()],
            (None, Section::Text) => {
                let whole = Bytes::from(message.message.render(number).concat());
                vec![whole.slice(message.message.render_header(number).len().min(whole.len())..)]
            }
        };
        if let Some((offset, length)) = partial {
            let whole = Bytes::from(pieces.concat());
            let start = offset.min(whole.len());
            pieces = vec![whole.slice(start..start.saturating_add(length).min(whole.len()))];
        }
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let announced = shape.announced.unwrap_or_else(|| length.saturating_add_signed(shape.length_error));
        self.wire.put(format!("{{{announced}}}\r\n").as_bytes()).await?;
        let logged = *section == Section::Whole && partial.is_none() && shape.body.is_none();
        let mut digest = Context::new(&SHA256);
        let end = if shape.end_mid_body { pieces.len() / 2 } else { pieces.len() };
        for (index, piece) in pieces.iter().enumerate() {
            if index == end {
                self.wire.put_piece(&piece.slice(..piece.len() / 2)).await?;
                self.wire.flush().await?;
                return Err(Hangup);
            }
            if logged {
                digest.update(piece);
                if index + 1 == pieces.len() {
                    // Before the last byte leaves: a client that has the message must find it in the log.
                    self.log(message, std::mem::replace(&mut digest, Context::new(&SHA256)), length);
                }
            }
            self.wire.put_piece(piece).await?;
        }
        if shape.announced.is_some() {
            self.wire.flush().await?;
            return Err(self.wire.stall().await);
        }
        Ok(())
    }

    fn log(&self, message: &Picked, digest: Context, length: u64) {
        let (Some(user), Some(selected)) = (&self.user, &self.selected) else { return };
        let mut sha256 = [0; 32];
        for (place, byte) in sha256.iter_mut().zip(digest.finish().as_ref()) {
            *place = *byte;
        }
        self.shared.record.rendering(Rendering {
            mailbox: user.mailbox.clone(),
            folder: selected.name.clone(),
            uid_validity: selected.uid_validity,
            uid: message.uid,
            serial: message.message.serial(),
            sha256,
            length,
        });
    }
}

/// How one answer deviates from the right one.
#[derive(Default)]
struct Shape {
    shown_uid: Option<u32>,
    uid_last: bool,
    body: Option<Bytes>,
    instead: Option<&'static str>,
    announced: Option<u64>,
    length_error: i64,
    date_nil: bool,
    end_mid_body: bool,
}

/// Exchange's sizes are estimates; ours are off by up to the percentage, up or down, the same for each message every time.
fn estimated_size(message: &Picked, number: u32) -> u64 {
    let size: u64 = message.message.render(number).iter().map(|piece| piece.len() as u64).sum();
    let span = u64::from(message.size_error_percent) * 2 + 1;
    let percent = 100 + mix(u64::from(message.uid)) % span;
    (size * percent / 100).saturating_sub(size * u64::from(message.size_error_percent) / 100)
}

fn fields(header: &[u8], names: &[String]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut keep = false;
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            keep = names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted.as_bytes()));
        }
        if keep {
            kept.extend_from_slice(line);
        }
    }
    kept.extend_from_slice(b"\r\n");
    kept
}

/// `None` for an item that Exchange does not take, or that we do not give (BODYSTRUCTURE, ENVELOPE).
fn items(wanted: &Token) -> Option<Vec<Item>> {
    let words = if let Token::List(words) = wanted { words.as_slice() } else { std::slice::from_ref(wanted) };
    let mut items = Vec::new();
    for word in words {
        let word = word.atom()?.to_ascii_uppercase();
        let body = |section, peek, shown: &str| Item::Body { section, peek, shown: shown.to_owned(), partial: None };
        match word.as_str() {
            "UID" => items.push(Item::Uid),
            "FLAGS" => items.push(Item::Flags),
            "INTERNALDATE" => items.push(Item::InternalDate),
            "RFC822.SIZE" => items.push(Item::Size),
            "FAST" => items.extend([Item::Flags, Item::InternalDate, Item::Size]),
            "RFC822" => items.push(body(Section::Whole, false, "RFC822")),
            "RFC822.HEADER" => items.push(body(Section::Header, true, "RFC822.HEADER")),
            "RFC822.TEXT" => items.push(body(Section::Text, false, "RFC822.TEXT")),
            _ => items.push(body_item(&word)?),
        }
    }
    (!items.is_empty()).then_some(items)
}

/// `BODY[…]` and `BODY.PEEK[…]`, with `<offset.length>`.
fn body_item(word: &str) -> Option<Item> {
    let (name, rest) = word.split_once('[')?;
    let (inside, after) = rest.rsplit_once(']')?;
    let section = match inside {
        "" => Section::Whole,
        "HEADER" => Section::Header,
        "TEXT" => Section::Text,
        fields => {
            let names = fields.strip_prefix("HEADER.FIELDS (")?.strip_suffix(')')?;
            Section::Fields(names.split(' ').map(str::to_owned).collect())
        }
    };
    let partial = match after {
        "" => None,
        range => {
            let (offset, length) = range.strip_prefix('<')?.strip_suffix('>')?.split_once('.')?;
            Some((offset.parse().ok()?, length.parse().ok()?))
        }
    };
    let shown_partial = partial.map(|(offset, _)| format!("<{offset}>")).unwrap_or_default();
    let shown = format!("BODY[{inside}]{shown_partial}");
    match name {
        "BODY" => Some(Item::Body { section, peek: false, shown, partial }),
        "BODY.PEEK" => Some(Item::Body { section, peek: true, shown, partial }),
        _ => None,
    }
}
