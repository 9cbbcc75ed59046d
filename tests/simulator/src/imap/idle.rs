//! IDLE (RFC 2177) as Exchange does it: pushes of EXISTS and EXPUNGE, an expired token told only in answer to DONE.

use super::session::{Session, Strike};
use super::wire::Hangup;
use crate::fault::IdleFault;
use crate::record::{Announcement, unix_nanoseconds};

impl Session {
    pub(super) async fn idle(&mut self, tag: &str) -> Result<(), Hangup> {
        let faults = std::mem::take(&mut self.plan.idle);
        if faults.contains(&IdleFault::ExistsBeforePlus) {
            let exists = self.selected.as_ref().map_or(0, |selected| selected.view.len());
            self.wire.put_line(&format!("* {exists} EXISTS")).await?;
        }
        self.wire.put_line("+ IDLE accepted, awaiting DONE command.").await?;
        self.wire.flush().await?;
        if faults.contains(&IdleFault::EndsUnasked) {
            return self.ok(tag, "IDLE completed.").await;
        }
        let silent = faults.contains(&IdleFault::Silent);
        let line = loop {
            if !silent {
                self.push().await?;
            }
            let line = match &mut self.selected {
                Some(selected) if !silent => {
                    let mut changes = selected.changes.clone();
                    tokio::select! {
                        line = self.wire.line() => line?,
                        changed = changes.changed() => {
                            if changed.is_err() {
                                return Err(self.moved_away().await);
                            }
                            continue;
                        }
                    }
                }
                _ => self.wire.line().await?,
            };
            break line;
        };
        if !line.eq_ignore_ascii_case(b"DONE") {
            return self.bad(tag, "Command Error. 12").await;
        }
        self.shared.record.command("DONE");
        if faults.contains(&IdleFault::DoneUnanswered) {
            return Err(self.wire.stall().await);
        }
        if self.strike(tag, "DONE").await? == Strike::Answered {
            return Ok(());
        }
        if self.user.as_ref().is_some_and(|user| self.token_expired(user)) {
            return Err(self.wire.bye("Session invalidated - AccessTokenExpired").await);
        }
        self.ok(tag, "IDLE completed.").await
    }

    async fn push(&mut self) -> Result<(), Hangup> {
        let news = self.report_changes().await?;
        if let Some((exists, uid_next)) = news
            && let (Some(user), Some(selected)) = (&self.user, &self.selected)
        {
            self.shared.record.announcement(Announcement {
                mailbox: user.mailbox.clone(),
                folder: selected.name.clone(),
                exists,
                uid_next,
                unix_nanoseconds: unix_nanoseconds(),
            });
        }
        self.wire.flush().await
    }
}
