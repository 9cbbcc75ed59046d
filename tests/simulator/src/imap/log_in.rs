//! Greeting, capabilities and XOAUTH2, with Exchange's check of the token (exchange-online.md 3.1 to 3.5).

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::command::Token;
use super::session::{ARGUMENT_ERROR, Session, Strike, User};
use super::wire::Hangup;
use crate::entra::token::Claims;
use crate::record::{locked, unix_nanoseconds};
use crate::tenant::FrontEnd;

/// base64 of `SIMULATOR.STANDIN.PROD.OUTLOOK.COM` in UTF-16LE: Exchange shows its host so.
const HOST: &str = "UwBJAE0AVQBMAEEAVABPAFIALgBTAFQAQQBOAEQASQBOAC4AUABSAE8ARAAuAE8AVQBUAEwATwBPAEsALgBDAE8ATQA=";
const ROLE: &str = "IMAP.AccessAsApp";

impl Session {
    pub(super) async fn greet(&mut self) -> Result<(), Hangup> {
        let front_end = locked(&self.shared.world).exchange.front_end;
        self.wire
            .put_line(&match front_end {
                FrontEnd::Classic => format!("* OK The Microsoft Exchange IMAP4 service is ready. [{HOST}]"),
                FrontEnd::TcpProxy => format!(
                    "* OK Microsoft Exchange IMAP4 service ready. 0d1f5e52-6b4b-4f2a-9d3c-2f6f3a1b7c55 (tcpproxy/15.21.0406.000 BACKENDAUTHENTICATE) [{HOST}]"
                ),
            })
            .await?;
        self.wire.flush().await
    }

    pub(super) async fn capability(&mut self, tag: &str) -> Result<(), Hangup> {
        let (front_end, rev2) = {
            let world = locked(&self.shared.world);
            (world.exchange.front_end, world.exchange.imap4rev2)
        };
        let list = match (self.user.is_some(), front_end) {
            (false, FrontEnd::Classic) => {
                "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
            }
            (false, FrontEnd::TcpProxy) => {
                "IMAP4 IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
            }
            (true, _) if rev2 => {
                "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT ENABLE IMAP4rev2 CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE BACKENDAUTHENTICATE-IR CHILDREN IDLE NAMESPACE LITERAL+"
            }
            (true, _) => {
                "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE CHILDREN IDLE NAMESPACE LITERAL+"
            }
        };
        self.wire.put_line(&format!("* CAPABILITY {list}")).await?;
        self.ok(tag, "CAPABILITY completed.").await
    }

    pub(super) async fn id(&mut self, tag: &str) -> Result<(), Hangup> {
        self.wire.put_line("* ID (\"name\" \"Microsoft.Exchange.Imap4.Imap4Server\" \"version\" \"15.20\")").await?;
        self.ok(tag, "ID completed").await
    }

    pub(super) async fn authenticate(&mut self, tag: &str, arguments: &[Token]) -> Result<(), Hangup> {
        let encoded = match arguments {
            [mechanism, rest @ ..] if mechanism.is("XOAUTH2") => match rest {
                [] => {
                    self.wire.put_line("+ ").await?;
                    self.wire.flush().await?;
                    String::from_utf8_lossy(&self.wire.line().await?).into_owned()
                }
                [Token::Atom(encoded)] => encoded.clone(),
                _ => return self.bad(tag, ARGUMENT_ERROR).await,
            },
            _ => return self.no(tag, "AUTHENTICATE failed.").await,
        };
        if encoded == "*" {
            return self.bad(tag, "AUTHENTICATE cancelled.").await;
        }
        let user = self.verify(&encoded);
        // A mailbox's own faults strike the log-in too, whether or not it would have succeeded.
        let actions = {
            let mut world = locked(&self.shared.world);
            address_in(&encoded).and_then(|address| world.mailbox(&address).map(|mailbox| mailbox.faults.on_command("AUTHENTICATE")).ok())
        };
        if self.play(tag, actions.unwrap_or_default()).await? == Strike::Answered {
            return Ok(());
        }
        match user {
            Some(mut user) => {
                self.connect(&mut user);
                self.wire.mailbox = Some(user.mailbox.clone());
                self.user = Some(user);
                self.shared.record.log_ins.fetch_add(1, Ordering::Relaxed);
                self.ok(tag, "AUTHENTICATE completed.").await
            }
            None => self.refuse(tag).await,
        }
    }

    async fn refuse(&mut self, tag: &str) -> Result<(), Hangup> {
        let (challenge, detail) = {
            let world = locked(&self.shared.world);
            (world.exchange.authentication_challenge, world.exchange.authentication_failure_detail.clone())
        };
        if challenge {
            let json = r#"{"status":"400","schemes":"Bearer","scope":"https://outlook.office365.com/"}"#;
            self.wire.put_line(&format!("+ {}", BASE64_STANDARD.encode(json))).await?;
            self.wire.flush().await?;
            self.wire.line().await?;
        }
        self.no(tag, &format!("AUTHENTICATE failed.{}", detail.unwrap_or_default())).await
    }

    /// Everything that Exchange answers with the one string `AUTHENTICATE failed.`
    fn verify(&self, encoded: &str) -> Option<User> {
        let (address, token) = decode(encoded)?;
        let claims = self.shared.issuer.read(&token)?;
        let mut world = locked(&self.shared.world);
        let fresh = claims.expires > unix_nanoseconds() / 1_000_000_000 && claims.number >= world.entra.tokens_valid_from;
        let audience = claims.audience.trim_end_matches('/');
        if !fresh || !claims.roles.iter().any(|role| role == ROLE) {
            return None;
        }
        let tenant = world.tenant(&claims.tenant_id)?;
        let registered = tenant.exchange_service_principals.iter().any(|principal| {
            principal.app_id.eq_ignore_ascii_case(&claims.app_id) && principal.object_id.eq_ignore_ascii_case(&claims.object_id)
        });
        let ours = tenant.cloud.is_exchange(audience);
        let mailbox = tenant.mailboxes.get_mut(&address.to_lowercase())?;
        if !registered || !ours {
            return None;
        }
        let Claims { expires, number, object_id, .. } = claims;
        let connected = mailbox.imap_enabled && mailbox.full_access.iter().any(|holder| holder.eq_ignore_ascii_case(&object_id));
        Some(User { mailbox: mailbox.address.clone(), expires, token_number: number, connected })
    }

    /// What the backend adds: a passing refusal, the cap on connections.
    fn connect(&self, user: &mut User) {
        let mut world = locked(&self.shared.world);
        let cap = world.exchange.connections_per_mailbox;
        if let Ok(mailbox) = world.mailbox(&user.mailbox) {
            if mailbox.refused_log_ins > 0 {
                mailbox.refused_log_ins -= 1;
                user.connected = false;
            }
            user.connected &= mailbox.connections < cap;
            mailbox.connections += 1;
        }
    }
}

fn decode(encoded: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, rest) = decoded.strip_prefix("user=")?.split_once('\u{1}')?;
    let token = rest.strip_prefix("auth=Bearer ")?.strip_suffix("\u{1}\u{1}")?;
    Some((user.to_owned(), token.to_owned()))
}

fn address_in(encoded: &str) -> Option<String> {
    decode(encoded).map(|(address, _)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microsofts_own_test_vector_is_understood() {
        let encoded =
            "dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ==";
        assert_eq!(
            decode(encoded),
            Some(("test@contoso.onmicrosoft.com".to_owned(), "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA".to_owned()))
        );
    }
}
