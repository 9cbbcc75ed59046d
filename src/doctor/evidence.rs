//! What was seen at a step, and the words for it in both languages. What a server or the system said stays in its own words. Pure: no I/O,
//! no clock.

use crate::diagnosis::Language;
use crate::{entra, sink, source};

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Validation found nothing wrong.
    SpecAccepted,
    /// Validation refused, in its own (English) words.
    Refused(String),
    /// Tenant id, client id and secret were read from the Secret of this name.
    SecretRead(String),
    /// Entra answered.
    EntraAnswered,
    /// Entra refused at a later step.
    EntraWentOn,
    /// In which order Entra checks is not documented.
    OrderUnknown,
    /// Entra issued a token.
    TokenIssued,
    /// The token's roles.
    Roles(Vec<String>),
    /// The token is the same whether the permission or only consent is missing.
    PermissionOrConsent,
    /// The token cannot be read.
    TokenOpaque,
    /// Exchange answered.
    ExchangeAnswered,
    /// Exchange took the log-in.
    LoggedIn,
    /// Exchange says the same whatever is wrong with the address.
    AddressOrAccess,
    /// Exchange opened the mailbox.
    MailboxOpened,
    /// The folder is there, with this many messages.
    FolderOpened(u32),
    /// The sink would take mail.
    SinkReady,
    /// The sink is the operator's, out of reach from here.
    SinkElsewhere,
    /// What Entra answered.
    Token(entra::Error),
    /// What the token says.
    Claims(entra::Claims),
    /// What Exchange answered.
    Source(source::Error),
    /// What the sink answered.
    Sink(String),
}

impl Evidence {
    pub(super) fn sink(error: &sink::Error) -> Self {
        Self::Sink(error.to_string())
    }

    /// For a person.
    pub fn text(&self, language: Language) -> String {
        let plain = |english: &str, french: &str| language.choose(english, french).to_owned();
        match self {
            Self::SpecAccepted => plain("every field can be used", "tous les champs sont utilisables"),
            Self::SecretRead(name) => match language {
                Language::En => format!("Secret {name} has tenantId, clientId and clientSecret"),
                Language::Fr => format!("le Secret {name} contient tenantId, clientId et clientSecret"),
            },
            Self::EntraAnswered => plain("Entra answers", "Entra répond"),
            Self::EntraWentOn => plain("Entra took it and refused later", "Entra l'a accepté et a refusé plus loin"),
            Self::OrderUnknown => plain("Entra may not have looked at it yet", "Entra ne l'a peut-être pas encore examiné"),
            Self::TokenIssued => plain("Entra issued a token", "Entra a émis un jeton"),
            Self::Roles(roles) => match language {
                Language::En => format!("the token has {}", roles.join(", ")),
                Language::Fr => format!("le jeton porte {}", roles.join(", ")),
            },
            Self::PermissionOrConsent => plain(
                "the token is the same whether the permission is missing or only consent",
                "le jeton est le même si l'autorisation manque ou si seul le consentement manque",
            ),
            Self::TokenOpaque => plain("the token cannot be read", "le jeton n'est pas lisible"),
            Self::ExchangeAnswered => plain("Exchange answers", "Exchange répond"),
            Self::LoggedIn => plain("Exchange took the log-in", "Exchange a accepté la connexion"),
            Self::AddressOrAccess => {
                plain("Exchange says the same of an unknown address", "Exchange dit la même chose d'une adresse inconnue")
            }
            Self::MailboxOpened => plain("Exchange opened the mailbox", "Exchange a ouvert la boîte"),
            Self::FolderOpened(messages) => match language {
                Language::En => format!("messages: {messages}"),
                Language::Fr => format!("messages : {messages}"),
            },
            Self::SinkReady => plain("it would take mail", "elle accepterait le courrier"),
            Self::SinkElsewhere => plain(
                "the operator's folder is out of reach from here; give --file-sink-root to check one of this machine",
                "le dossier de l'opérateur est hors d'atteinte d'ici ; indiquez --file-sink-root pour vérifier celui de cette machine",
            ),
            Self::Refused(words) | Self::Sink(words) => words.clone(),
            Self::Token(error) => token(error, language),
            Self::Claims(claims) => claims_text(claims, language),
            Self::Source(error) => source_text(error, language),
        }
    }
}

fn token(error: &entra::Error, language: Language) -> String {
    match (error, language) {
        (entra::Error::Refused { status, error, text, .. }, Language::Fr) => format!("Entra a répondu {status} {error} : {text}"),
        (entra::Error::Unreachable { authority, text }, Language::Fr) => format!("{authority} : {text}"),
        (entra::Error::Busy { status, .. }, Language::Fr) => format!("Entra a répondu HTTP {status}"),
        (other, _) => other.to_string(),
    }
}

fn claims_text(claims: &entra::Claims, language: Language) -> String {
    let audience = claims.audience.as_deref().unwrap_or("?");
    let roles = claims.roles.as_deref().unwrap_or_default().join(", ");
    let none = language.choose("none", "aucun");
    let roles = if roles.is_empty() { none } else { roles.as_str() };
    match language {
        Language::En => format!("a token for {audience}; roles: {roles}"),
        Language::Fr => format!("un jeton pour {audience} ; rôles : {roles}"),
    }
}

fn source_text(error: &source::Error, language: Language) -> String {
    match (error, language) {
        (source::Error::Refused { text, .. }, Language::En) => format!("Exchange answered: {text}"),
        (source::Error::Refused { text, .. }, Language::Fr) => format!("Exchange a répondu : {text}"),
        (source::Error::Timeout(_), Language::Fr) => "pas de réponse à temps".to_owned(),
        (source::Error::Closed(_), Language::Fr) => "le serveur a fermé la connexion".to_owned(),
        (source::Error::Connection { text, .. }, Language::Fr) => text.clone(),
        (other, _) => other.to_string(),
    }
}
