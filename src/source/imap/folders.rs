//! Folders without opening them: LIST and STATUS (RFC 9051 sections 6.3.9 and 6.3.11).

use super::text;
use super::wire::{Reply, Transport, Wire};
use crate::source::{Error, Marks, Refusal, Step};

const STEP: Step = Step::Open;
/// Names kept of one LIST.
const NAMES: usize = 1_000;
/// Longest name kept, in bytes: longer ones cannot stand in a work order.
const LONGEST_NAME: usize = 2_048;

/// See [`crate::source::Source::folders`].
pub(super) async fn names<S: Transport>(wire: &mut Wire<S>) -> Result<Vec<String>, Error> {
    wire.command(STEP, r#"LIST "" "*""#).await?;
    let mut names = Vec::new();
    let answer = wire.answer(STEP, |reply| {
        if let Reply::List { delimiter, name, selectable: true } = reply
            && names.len() < NAMES
            && name.len() <= LONGEST_NAME
        {
            names.extend(text::folder_name(&name, delimiter));
        }
    });
    answer.await?.accepted(STEP)?;
    Ok(names)
}

/// See [`crate::source::Source::marks`].
pub(super) async fn marks<S: Transport>(wire: &mut Wire<S>, folder: &str) -> Result<Option<Marks>, Error> {
    let name = wire.folder(folder);
    wire.command(STEP, &format!("STATUS {name} (UIDVALIDITY UIDNEXT MESSAGES)")).await?;
    let mut marks = Marks::default();
    let answer = wire.answer(STEP, |reply| {
        if let Reply::Status(told) = reply {
            marks = told;
        }
    });
    let answer = answer.await?;
    if answer.refusal() == Some(Refusal::No) {
        return Ok(None);
    }
    answer.accepted(STEP).map(|_| Some(marks))
}
