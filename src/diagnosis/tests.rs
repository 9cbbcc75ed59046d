//! The diagnosis table: what was said, and what it means. Rows by the numbers of the reference's section 10; each with where its words were
//! seen.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::*;
use crate::entra::{Claims, Error as Token};
use crate::sink::Error as Sink;
use crate::source::{Error as Source, Extension, Refusal, Step};

const APP: &str = "11111111-2222-3333-4444-555555555555";
const OBJECT: &str = "99999999-8888-7777-6666-555555555555";

fn context() -> Context<'static> {
    Context {
        mailbox: "factures@contoso.fr",
        role: "IMAP.AccessAsApp",
        tenant_id: "contoso.onmicrosoft.com",
        client_id: APP,
        object_id: Some(OBJECT),
        credential_name: "azure-app",
        secret_looks_like_guid: false,
        worked_before: false,
        folder: "INBOX",
        authority: "https://login.microsoftonline.com",
        imap_host: "outlook.office365.com:993",
        known: Known::default(),
    }
}

fn aadsts(code: Option<u32>, error: &str) -> Token {
    let (trace_id, correlation_id) = (Some("0f".into()), Some("3b".into()));
    Token::Refused {
        status: 401,
        error: error.into(),
        code,
        text: "AADSTS: in Entra's words".into(),
        trace_id,
        correlation_id,
        shown: None,
    }
}

fn said(step: Step, refusal: Refusal, text: &str) -> Source {
    Source::Refused { step, refusal, code: None, text: text.into() }
}

fn slow(minutes: u64) -> Retry {
    Retry::Slow { every: Duration::from_secs(minutes * 60) }
}

fn back_off(seconds: Option<u64>) -> Retry {
    Retry::BackOff { at_least: seconds.map(Duration::from_secs) }
}

#[test]
fn each_refusal_of_entra_names_the_step_that_was_missed() {
    let guid = Context { secret_looks_like_guid: true, ..context() };
    // Codes and texts: Microsoft's error code page where listed there, else the thread named.
    for (row, code, context, reason, remedy) in [
        (2, 90002, context(), Reason::TenantNotFound, "'Directory (tenant) ID'"), // azure-cli #22145
        (2, 900023, context(), Reason::TenantNotFound, "Tenant contoso.onmicrosoft.com is unknown"), // caddy-dns/azure #3
        (2, 900382, context(), Reason::TenantNotFound, "check the cloud"),
        (3, 700016, context(), Reason::ApplicationNotFound, "'Application (client) ID'"), // wazuh #27069
        (3, 700011, context(), Reason::ApplicationNotFound, APP),
        (4, 7000229, context(), Reason::EnterpriseApplicationMissing, "az ad sp create --id 11111111"), // azure-sdk-for-net #46762
        (5, 7000215, guid, Reason::SecretIdInsteadOfValue, "holds the client secret's ID, not its Value"), // teams-toolkit #8621
        (6, 7000215, context(), Reason::SecretInvalid, "Key clientSecret of Secret azure-app is not a valid secret"), // sap-automation #418
        (6, 70002, context(), Reason::SecretInvalid, "azure-app"),
        (7, 7000222, context(), Reason::SecretExpired, "24 months"), // vsts-release-aas #119
        (7, 7000222, guid, Reason::SecretExpired, "has expired"),
        (8, 7000216, context(), Reason::SecretInvalid, "Key clientSecret of Secret azure-app is empty"), // azure-docs #30777
        (8, 7000218, context(), Reason::SecretInvalid, "is empty"),
        (8, 900144, context(), Reason::SecretInvalid, "is empty"),
        (9, 700027, context(), Reason::CertificateNotRegistered, "Upload its public part"), // keycloak #19425
        (10, 700024, context(), Reason::FederatedCredentialMismatch, "clock"),              // MSAL-java #984
        (11, 70021, context(), Reason::FederatedCredentialMismatch, "exactly"),             // azure-workload-identity #616
        (11, 700213, context(), Reason::FederatedCredentialMismatch, "exactly"),            // Azure/login #482
        (12, 70011, context(), Reason::WrongPermission, "scope"),
        (12, 1002012, context(), Reason::WrongPermission, "scope"), // azure-docs #99862
        (13, 500011, context(), Reason::PermissionOrConsentMissing, "subscription of Exchange Online"),
        (13, 650056, context(), Reason::PermissionOrConsentMissing, "'Grant admin consent'"),
        (14, 7000112, context(), Reason::ApplicationDisabled, "'Enabled for users to sign in' = Yes"), // psoxy #74
        (15, 53003, context(), Reason::ConditionalAccessBlocked, "egress addresses"),                  // BotBuilder-dotnet #6759
        (15, 530032, context(), Reason::ConditionalAccessBlocked, "workload identities"),
    ] {
        let diagnosis = diagnose(&Failure::Token(&aadsts(Some(code), "invalid_client")), &context);
        assert_eq!(
            (diagnosis.condition, diagnosis.reason, diagnosis.retry),
            (Condition::TokenHealthy, reason, slow(5)),
            "row {row}: {code}"
        );
        assert!(diagnosis.message.contains(remedy), "row {row}: {code}: {}", diagnosis.message);
    }
}

#[test]
fn an_unknown_refusal_is_read_by_oauths_own_word_or_shown_as_it_is() {
    for (code, error, reason) in [
        (Some(4_711), "invalid_client", Reason::SecretInvalid),
        (None, "unauthorized_client", Reason::ApplicationNotFound),
        (None, "invalid_scope", Reason::WrongPermission),
        (None, "invalid_resource", Reason::PermissionOrConsentMissing),
        (Some(4_711), "interaction_required", Reason::EntraUnavailable),
    ] {
        assert_eq!(diagnose(&Failure::Token(&aadsts(code, error)), &context()).reason, reason, "{error}");
    }
    let shown = diagnose(&Failure::Token(&aadsts(None, "interaction_required")), &context()).message;
    assert!(shown.contains("interaction_required") && shown.contains("in Entra's words"), "{shown}");
}

#[test]
fn what_is_wrong_with_the_way_to_entra_passes_and_blames_nobody() {
    let unreachable = Token::Unreachable { authority: "login.microsoftonline.com:443".into(), text: "dns error".into() };
    let busy = |retry_after| Token::Busy { status: 429, code: None, retry_after };
    for (row, error, retry, remedy) in [
        (1, unreachable, back_off(None), "Allow egress"),
        (16, busy(Some(Duration::from_secs(60))), back_off(Some(60)), "HTTP 429"), // MSAL.NET #2855
        (16, busy(None), back_off(None), "tried again"),
        (16, Token::Malformed("x"), back_off(None), "holds no token"),
    ] {
        let diagnosis = diagnose(&Failure::Token(&error), &context());
        assert_eq!((diagnosis.reason, diagnosis.retry), (Reason::EntraUnavailable, retry), "row {row}");
        assert_eq!(diagnosis.reason.status(), Status::Unknown);
        assert!(diagnosis.message.contains(remedy), "row {row}: {}", diagnosis.message);
    }
}

fn claims(audience: &str, roles: Option<&[&str]>, delegated: bool) -> Claims {
    let roles = roles.map(|roles| roles.iter().map(|role| (*role).to_owned()).collect());
    Claims { audience: Some(audience.into()), roles, delegated, readable: true, ..Claims::default() }
}

#[test]
fn a_token_that_exchange_would_refuse_is_known_before_it_is_used() {
    let exchange = "https://outlook.office365.com";
    // Entra issues tokens without any role: Microsoft, "Access tokens". Audiences: MailKit #1811, #1337. Delegated: MailKit #1733.
    for (row, claims, expected) in [
        (0, claims(exchange, Some(&["SMTP.SendAsApp", "IMAP.AccessAsApp"]), false), None),
        (0, claims("https://ps.outlook.com", Some(&["IMAP.AccessAsApp"]), false), None),
        (0, claims("00000002-0000-0ff1-ce00-000000000000", Some(&["IMAP.AccessAsApp"]), false), None),
        (0, claims("https://Outlook.Office365.com/", Some(&["IMAP.AccessAsApp"]), false), None),
        (0, Claims::default(), None),
        (
            17,
            claims("https://graph.microsoft.com", Some(&["IMAP.AccessAsApp"]), false),
            Some((Reason::WrongPermission, "https://graph.microsoft.com")),
        ),
        (18, claims(exchange, None, true), Some((Reason::WrongPermission, "not Delegated"))),
        (19, claims(exchange, None, false), Some((Reason::PermissionOrConsentMissing, "'Grant admin consent'"))),
        (19, claims(exchange, Some(&[]), false), Some((Reason::PermissionOrConsentMissing, "IMAP.AccessAsApp"))),
        (
            20,
            claims(exchange, Some(&["POP.AccessAsApp"]), false),
            Some((Reason::WrongPermission, "has POP.AccessAsApp, but IMAP needs IMAP.AccessAsApp")),
        ),
    ] {
        assert_eq!(check_claims(&claims, "IMAP.AccessAsApp"), expected.is_none(), "row {row}: {claims:?}");
        let Some((reason, remedy)) = expected else { continue };
        let diagnosis = diagnose(&Failure::Claims(&claims), &context());
        assert_eq!((diagnosis.condition, diagnosis.reason, diagnosis.retry), (Condition::TokenHealthy, reason, slow(5)), "row {row}");
        assert!(diagnosis.message.contains(remedy), "row {row}: {}", diagnosis.message);
    }
}

#[test]
fn what_exchange_refuses_means_what_its_place_and_history_say() {
    let never = context();
    let worked = Context { worked_before: true, ..context() };
    let pop = Context { role: "POP.AccessAsApp", ..context() };
    let filed = Context { folder: "Factures/À traiter", ..context() };
    let not_connected = "User is authenticated but not connected.";
    use Refusal::{Bad, Bye, No};
    for (row, error, context, reason, retry, remedy) in [
        // "Authenticate an IMAP, POP or SMTP connection using OAuth".
        (
            22,
            said(Step::Authenticate, No, "AUTHENTICATE failed."),
            never,
            Reason::ServicePrincipalNotRegistered,
            slow(5),
            "New-ServicePrincipal -AppId 11111111-2222-3333-4444-555555555555 -ObjectId 99999999-8888-7777-6666-555555555555",
        ),
        // phinit.de, 2025-12-23.
        (
            22,
            said(
                Step::Authenticate,
                No,
                "AUTHENTICATE failed. Error=\"AuthFailed:LogonDenied-None-OAuthLog:AuthExc_Auth Failed. [FR3P281CA0157]\"",
            ),
            never,
            Reason::ServicePrincipalNotRegistered,
            slow(5),
            "Get-ServicePrincipal",
        ),
        (22, said(Step::Authenticate, No, "AUTHENTICATE failed."), worked, Reason::RefusedAfterSuccess, back_off(None), "service incident"),
        (
            22,
            said(Step::Authenticate, No, "anything"),
            pop,
            Reason::AuthenticationRefused,
            slow(5),
            "Set-CASMailbox -Identity factures@contoso.fr -PopEnabled $true",
        ),
        // Get-IMAPAccessToken.ps1 line 206; node-imap #523.
        (
            24,
            said(Step::Probe, Bad, not_connected),
            never,
            Reason::AccessMissingOrProtocolDisabled,
            slow(5),
            "Add-MailboxPermission -Identity factures@contoso.fr -User $sp.Identity -AccessRights FullAccess; Set-CASMailbox -Identity factures@contoso.fr -ImapEnabled $true",
        ),
        (24, said(Step::Open, No, not_connected), never, Reason::AccessMissingOrProtocolDisabled, slow(5), "FullAccess"),
        (25, said(Step::Probe, Bad, not_connected), worked, Reason::RefusedAfterSuccess, back_off(None), "it worked before"),
        // email-oauth2-proxy #191, imapsync #198 and #272.
        (
            27,
            said(Step::Fetch, Bad, "Request is throttled. Suggested Backoff Time: 92415 milliseconds"),
            never,
            Reason::Throttled,
            Retry::BackOff { at_least: Some(Duration::from_millis(92_415)) },
            "up to 2 min",
        ),
        (27, said(Step::Authenticate, No, "Request is throttled."), never, Reason::Throttled, back_off(None), "throttles"),
        // aioimaplib #83, imap-backup #198.
        (28, said(Step::List, Bye, "Session invalidated - AccessTokenExpired"), never, Reason::ConnectionFailed, Retry::AtOnce, "new one"),
        (
            31,
            said(Step::Authenticate, Bad, "Command Argument Error. 11"),
            never,
            Reason::ConnectionFailed,
            back_off(None),
            "Command Argument Error",
        ),
        (31, said(Step::List, No, "The specified charset is not supported."), never, Reason::ConnectionFailed, back_off(None), "charset"),
        // node-imap #561; imapflow lib/handler/parser-instance.js.
        (
            32,
            said(Step::Wait, Bye, "Connection is closed. 13"),
            never,
            Reason::ConnectionFailed,
            back_off(None),
            "Connection is closed. 13",
        ),
        (32, said(Step::Authenticate, No, "Server Unavailable. 15"), never, Reason::ConnectionFailed, back_off(None), "Server Unavailable"),
        (
            33,
            Source::Connection { step: Step::Tls, text: "invalid peer certificate: UnknownIssuer".into() },
            never,
            Reason::ConnectionFailed,
            back_off(None),
            "TLS with outlook.office365.com:993 failed: invalid peer certificate",
        ),
        (
            0,
            Source::Connection { step: Step::Connect, text: "Connection refused (os error 111)".into() },
            never,
            Reason::ConnectionFailed,
            back_off(None),
            "Allow egress",
        ),
        (0, Source::Connection { step: Step::Fetch, text: "reset".into() }, never, Reason::ConnectionFailed, back_off(None), "broke"),
        (0, Source::Timeout(Step::Open), never, Reason::ConnectionFailed, back_off(None), "in time"),
        (0, Source::Closed(Step::Open), never, Reason::ConnectionFailed, back_off(None), "closed"),
        (
            0,
            Source::Protocol { step: Step::Fetch, what: "a literal of 4 GB" },
            never,
            Reason::ConnectionFailed,
            back_off(None),
            "a literal of 4 GB",
        ),
        (0, Source::HalfUsed, never, Reason::ConnectionFailed, back_off(None), "given up"),
        (0, Source::Stopped, never, Reason::SinkUnavailable, back_off(None), "nothing is lost"),
        // RFC 5530; Dovecot's words.
        (
            0,
            Source::Refused { step: Step::Open, refusal: No, code: Some("NONEXISTENT".into()), text: "x".into() },
            filed,
            Reason::FolderNotFound,
            slow(15),
            "no folder 'Factures/À traiter'",
        ),
        (0, said(Step::Open, No, "Factures/A traiter doesn't exist."), filed, Reason::FolderNotFound, slow(15), "spec.folders"),
        // RFC 9051 section 6.3.12's code; Exchange's words.
        (
            0,
            Source::Refused { step: Step::Settle, refusal: No, code: Some("TRYCREATE".into()), text: "x".into() },
            Context { folder: "Traités", ..never },
            Reason::FolderNotFound,
            slow(15),
            "no folder 'Traités', into which spec.afterDelivery moves mail. Make the folder",
        ),
        (0, said(Step::Settle, Bad, "Command Error. 12"), never, Reason::ConnectionFailed, back_off(None), "Command Error"),
        (0, Source::ReadOnly, never, Reason::FolderReadOnly, slow(5), "Add-MailboxPermission -Identity factures@contoso.fr"),
        (0, Source::Unsupported(Extension::UidPlus), never, Reason::SettlingNotSupported, slow(15), "does not offer UIDPLUS"),
        (0, Source::Unsupported(Extension::Move), never, Reason::SettlingNotSupported, slow(15), "afterDelivery: {action: Delete}"),
        (0, said(Step::Open, No, "INBOX doesn't exist."), never, Reason::ConnectionFailed, back_off(None), "doesn't exist"),
        (
            0,
            Source::Refused { step: Step::Open, refusal: No, code: Some("SERVERBUG".into()), text: "does not exist".into() },
            filed,
            Reason::ConnectionFailed,
            back_off(None),
            "does not exist",
        ),
    ] {
        let diagnosis = diagnose(&Failure::Source(&error), &context);
        assert_eq!((diagnosis.reason, diagnosis.retry), (reason, retry), "row {row}: {error}");
        assert_eq!(diagnosis.reason.conditions(), [diagnosis.condition], "row {row}: {error}");
        assert!(diagnosis.message.contains(remedy), "row {row}: {error}: {}", diagnosis.message);
    }
}

#[test]
fn what_is_known_of_others_tells_apart_what_exchange_says_alike() {
    let refused = said(Step::Authenticate, Refusal::No, "AUTHENTICATE failed.");
    let not_connected = said(Step::Probe, Refusal::Bad, "User is authenticated but not connected.");
    let unavailable = said(Step::Authenticate, Refusal::No, "Protocol error. Connection is closed. 10");
    let known = |others| Known { others, ..Known::default() };
    let pop = Context { role: "POP.AccessAsApp", ..context() };
    let probed = |probe| Known { imap_probe: Some(probe), ..Known::default() };
    use super::SetupStep as S;
    for (row, error, context, reason, step, confidence, words) in [
        (
            21,
            &refused,
            Context { known: Known { tenants: Some(("t-1", "t-2")), ..Known::default() }, ..context() },
            Reason::AuthenticationRefused,
            S::MailboxAddress,
            Confidence::Medium,
            "factures@contoso.fr lies in tenant t-2, the app's token is for tenant t-1",
        ),
        (
            22,
            &refused,
            Context { known: Known { tenants: Some(("T-1", "t-1")), ..Known::default() }, ..context() },
            Reason::ServicePrincipalNotRegistered,
            S::ServicePrincipal,
            Confidence::Medium,
            "New-ServicePrincipal",
        ),
        (
            23,
            &refused,
            Context { known: known(Others::Work(Some("ventes@contoso.fr"))), ..context() },
            Reason::AuthenticationRefused,
            S::MailboxAddress,
            Confidence::Medium,
            "the app opens ventes@contoso.fr",
        ),
        (
            23,
            &refused,
            Context { known: known(Others::Work(None)), ..context() },
            Reason::AuthenticationRefused,
            S::MailboxAddress,
            Confidence::Medium,
            "the app opens another mailbox",
        ),
        (
            24,
            &not_connected,
            Context { known: known(Others::Work(None)), ..context() },
            Reason::AccessMissingOrProtocolDisabled,
            S::MailboxAccess,
            Confidence::Medium,
            "Add-MailboxPermission",
        ),
        (
            25,
            &not_connected,
            Context { worked_before: true, known: known(Others::Work(None)), ..context() },
            Reason::RefusedAfterSuccess,
            S::MailboxAccess,
            Confidence::Low,
            "over 30 minutes",
        ),
        (
            26,
            &not_connected,
            Context { worked_before: true, known: known(Others::AllRefused), ..context() },
            Reason::RefusedAfterSuccess,
            S::ExchangeReachable,
            Confidence::Medium,
            "probably an incident",
        ),
        (
            24,
            &not_connected,
            Context { known: known(Others::AllRefused), ..context() },
            Reason::AccessMissingOrProtocolDisabled,
            S::MailboxAccess,
            Confidence::Medium,
            "FullAccess",
        ),
        // MailKit #1948: POP and tokens of more than 4,096 characters.
        (
            29,
            &unavailable,
            Context { known: Known { token_bytes: Some(5_120), ..Known::default() }, ..pop },
            Reason::AuthenticationRefused,
            S::Role,
            Confidence::Medium,
            "this one has 5120",
        ),
        (30, &refused, pop, Reason::AuthenticationRefused, S::ServicePrincipal, Confidence::Low, "does not say why"),
        (
            30,
            &refused,
            Context { known: probed(ImapProbe::Opens), ..pop },
            Reason::AccessMissingOrProtocolDisabled,
            S::MailboxAccess,
            Confidence::High,
            "-PopEnabled $true",
        ),
        (
            22,
            &refused,
            Context { known: probed(ImapProbe::LogInRefused), ..pop },
            Reason::ServicePrincipalNotRegistered,
            S::ServicePrincipal,
            Confidence::Medium,
            "New-ServicePrincipal",
        ),
        (
            24,
            &refused,
            Context { known: probed(ImapProbe::NotConnected), ..pop },
            Reason::AccessMissingOrProtocolDisabled,
            S::MailboxAccess,
            Confidence::Medium,
            "-PopEnabled $true",
        ),
    ] {
        let found = find(&Failure::Source(error), &context, Language::En);
        assert_eq!((found.diagnosis.reason, found.step, found.confidence), (reason, Some(step), confidence), "row {row}");
        assert!(found.diagnosis.message.contains(words), "row {row}: {}", found.diagnosis.message);
        assert_eq!(table::row(&mailbox::failed(error, &context)).number, row, "{}", found.diagnosis.message);
    }
}

#[test]
fn the_table_has_every_case_of_the_list_and_every_reason_a_case_or_another_origin() {
    let rows: Vec<_> = Saying::samples().iter().map(table::row).collect();
    let numbers: BTreeSet<u8> = rows.iter().map(|row| row.number).filter(|number| *number > 0).collect();
    assert_eq!(numbers, (1..=33).collect());
    // Said by validation, by the drain, by the controller or by the clock; never found out from a server's answer.
    let elsewhere =
        [Condition::Accepted, Condition::CredentialExpiring, Condition::QuarantineNotEmpty, Condition::Reconciling, Condition::Ready];
    let others = ["NotYetTried", "MailboxTooLargeForPOP3"];
    for reason in Reason::ALL {
        let here = rows.iter().any(|row| row.reason == *reason);
        let there = elsewhere.contains(&reason.conditions()[0]) || others.contains(&reason.as_str());
        let both = ["QuarantineFull", "SettleBacklogFull", "CursorUnreadable"].contains(&reason.as_str());
        assert!(here != there || both, "{}: in the table {here}, elsewhere {there}", reason.as_str());
    }
    for row in rows {
        let passing = !matches!(row.retry, Retry::Slow { .. });
        // What passes by itself never makes a person act; only an answer that nobody knows is tried slowly and never stalls.
        assert!(!passing || row.reason.stalls_after().is_none(), "{row:?}");
    }
}

#[test]
fn both_languages_say_everything_and_never_the_same() {
    for saying in Saying::samples() {
        let [english, french] = [Language::En, Language::Fr].map(|language| text(&saying, &context(), language));
        assert_ne!(english, french);
        assert!(french.len() <= LONGEST_MESSAGE && english.len() <= LONGEST_MESSAGE, "{french}");
        // Whatever is to be pasted or clicked is the same in both.
        for word in english.split_whitespace().filter(|word| word.starts_with('-') && word.len() > 3 || word.contains("$sp")) {
            assert!(french.contains(word.trim_end_matches([';', '.', ','])), "{word} is not in {french}");
        }
        for id in [APP, OBJECT, "factures@contoso.fr"] {
            assert_eq!(english.contains(id), french.contains(id), "{id}: {english} / {french}");
        }
    }
    for reason in Reason::ALL {
        assert_ne!(reference::meaning(*reason, Language::En), reference::meaning(*reason, Language::Fr));
    }
    for step in SetupStep::ALL {
        assert_ne!(step.title(Language::En), step.title(Language::Fr));
    }
    assert!(SetupStep::ALL.is_sorted());
}

#[test]
fn a_sink_that_waiting_does_not_cure_is_told_apart_from_one_that_is_busy() {
    let io = |kind: io::ErrorKind| Sink::Io { operation: "linkat", path: "ns/factures".into(), source: kind.into() };
    for (error, reason, retry, remedy) in [
        (io(io::ErrorKind::StorageFull), Reason::SinkUnavailable, back_off(None), "'ns/factures' is full"),
        (io(io::ErrorKind::QuotaExceeded), Reason::SinkUnavailable, back_off(None), "quota"),
        (io(io::ErrorKind::ReadOnlyFilesystem), Reason::SinkUnavailable, back_off(None), "read-only"),
        (io(io::ErrorKind::PermissionDenied), Reason::SinkRejects, slow(5), "fsGroup"),
        (io(io::ErrorKind::NotADirectory), Reason::SinkRejects, slow(5), "symbolic link"),
        (io(io::ErrorKind::Other), Reason::SinkUnavailable, back_off(None), "linkat"),
        (Sink::NotADirectory { path: "ns/factures".into() }, Reason::SinkRejects, slow(5), "'ns/factures' is not a plain directory"),
        (Sink::Gone, Reason::SinkUnavailable, back_off(None), "ended"),
        (Sink::Timeout, Reason::SinkUnavailable, back_off(None), "in time"),
        (Sink::SpoolFull { wanted: 1, quota: 2 }, Reason::SinkUnavailable, back_off(None), "--spool-bytes"),
        (
            Sink::AddressNotAllowed { host: "ged.local".into(), address: [10, 0, 0, 7].into(), port: 8443 },
            Reason::SinkAddressNotAllowed,
            slow(5),
            "--set 'sinks.allowCIDRs={10.0.0.7/32}' --set 'sinks.allowPorts={8443}'",
        ),
        (Sink::AuthenticationRefused { code: 401 }, Reason::SinkAuthenticationFailed, slow(5), "secretRef"),
        (Sink::Rejected { code: 413 }, Reason::SinkRejects, slow(5), "code 413"),
        (
            Sink::RefusesAll { last: std::sync::Arc::new(Sink::Rejected { code: 403 }) },
            Reason::SinkRejects,
            slow(5),
            "message after message (code 403)",
        ),
        (Sink::Unfit { what: "a bare CR or LF" }, Reason::SinkRejects, slow(5), "bare CR"),
        (
            Sink::Unavailable { step: "POST", code: Some(503), text: String::new(), retry_after: Some(Duration::from_secs(60)) },
            Reason::SinkUnavailable,
            back_off(Some(60)),
            "code 503",
        ),
        (
            Sink::Unavailable { step: "connect", code: None, text: "Connection refused".into(), retry_after: None },
            Reason::SinkUnavailable,
            back_off(None),
            "Connection refused",
        ),
    ] {
        let diagnosis = diagnose(&Failure::Sink { name: "drop", error: &error }, &context());
        assert_eq!((diagnosis.condition, diagnosis.reason, diagnosis.retry), (Condition::SinkReady, reason, retry), "{error}");
        assert!(diagnosis.message.starts_with("Sink drop: ") && diagnosis.message.contains(remedy), "{error}: {}", diagnosis.message);
    }
}

#[test]
fn throttling_is_read_from_every_form_of_it() {
    for (text, expected) in [
        ("Request is throttled. Suggested Backoff Time: 92415 milliseconds", Some(Some(92_415))),
        ("REQUEST IS THROTTLED. SUGGESTED BACKOFF TIME:299961 MILLISECONDS", Some(Some(299_961))),
        ("Suggested Backoff Time: 5 milliseconds", Some(Some(1_000))),
        ("Suggested Backoff Time: 99999999999999999999999 milliseconds", Some(Some(3_600_000))),
        ("Suggested Backoff Time: soon", Some(None)),
        ("Request is throttled.", Some(None)),
        ("Request is throttled. Suggested Backoff Time: -1", Some(None)),
        ("AUTHENTICATE failed.", None),
        ("", None),
    ] {
        let expected = expected.map(|wait| Throttle { wait: wait.map(Duration::from_millis) });
        assert_eq!(throttle(text), expected, "{text}");
    }
}

#[test]
fn without_an_object_id_the_message_says_where_it_stands() {
    let context = Context { object_id: None, ..context() };
    let message = diagnose(&Failure::Source(&said(Step::Authenticate, Refusal::No, "AUTHENTICATE failed.")), &context).message;
    assert!(message.contains("-ObjectId <Object ID>") && message.contains("Enterprise applications"), "{message}");
}

#[test]
fn a_command_to_paste_holds_an_address_as_one_word() {
    let failure = said(Step::Probe, Refusal::Bad, "User is authenticated but not connected.");
    for (mailbox, word) in [
        ("a.b-c_d@contoso.fr", "-Identity a.b-c_d@contoso.fr "),
        ("o'brien@contoso.fr", "-Identity 'o''brien@contoso.fr' "),
        ("o\u{2019}b@contoso.fr", "-Identity 'o\u{2019}\u{2019}b@contoso.fr' "),
        ("$(calc)@contoso.fr", "-Identity '$(calc)@contoso.fr' "),
        ("-x@contoso.fr", "-Identity '-x@contoso.fr' "),
        ("a;b@contoso.fr", "-Identity 'a;b@contoso.fr' "),
    ] {
        let message = diagnose(&Failure::Source(&failure), &Context { mailbox, ..context() }).message;
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn the_same_trouble_gives_the_same_message_each_time() {
    let message = |text: &str| diagnose(&Failure::Source(&said(Step::List, Refusal::No, text)), &context()).message;
    assert_eq!(message("Odd. [AM0PR01.outlook.com 2026-01-02]"), message("Odd. [FR3P281 2026-01-03]"));
    let throttled = |milliseconds: u32| message(&format!("Request is throttled. Suggested Backoff Time: {milliseconds} milliseconds"));
    assert_eq!(throttled(89_117), throttled(92_415));
    let refused = |trace: &str| Token::Refused {
        status: 401,
        error: "x".into(),
        code: None,
        text: "y".into(),
        trace_id: Some(trace.into()),
        correlation_id: None,
        shown: None,
    };
    let [one, other] = ["0f", "3b"].map(|trace| diagnose(&Failure::Token(&refused(trace)), &context()).message);
    assert_eq!(one, other);
}

#[test]
fn a_message_is_bounded_and_in_one_line() {
    let long = "é\r\n".repeat(5_000);
    let languages = [Language::En, Language::Fr];
    for failure in [
        Failure::Source(&said(Step::List, Refusal::No, &long)),
        Failure::Source(&Source::Connection { step: Step::Tls, text: long.clone() }),
        Failure::Token(&aadsts(None, &long)),
        Failure::Sink { name: "drop", error: &Sink::NotADirectory { path: long.clone() } },
        Failure::Claims(&claims(&long, None, false)),
    ] {
        let context = Context { mailbox: &long, ..context() };
        for message in languages.map(|language| find(&failure, &context, language).diagnosis.message) {
            assert!(message.len() <= LONGEST_MESSAGE && !message.contains(['\r', '\n']), "{message}");
        }
    }
}

/// Design, section 7: type and status, reasons, the delay before Stalled in seconds (`None`: never).
#[test]
fn the_reasons_are_those_of_the_api_and_behave_as_it_says() {
    type Row = (Condition, Status, Option<u64>, &'static [&'static str]);
    let table: [Row; 18] = [
        (Condition::Ready, Status::True, None, &["Collecting", "Suspended"]),
        (Condition::Ready, Status::Unknown, None, &["Progressing"]),
        (
            Condition::Accepted,
            Status::False,
            Some(0),
            &["InvalidSpec", "MailboxNotAllowed", "MailboxConflict", "SinkNotEnabled", "WorkloadIdentityNotEnabled"],
        ),
        (
            Condition::Accepted,
            Status::False,
            Some(120),
            &["SecretNotFound", "SecretKeyMissing", "SecretNotOptedIn", "AppRegistrationNotFound"],
        ),
        (
            Condition::TokenHealthy,
            Status::False,
            Some(0),
            &[
                "TenantNotFound",
                "ApplicationNotFound",
                "SecretIdInsteadOfValue",
                "SecretInvalid",
                "SecretExpired",
                "CertificateNotRegistered",
                "ApplicationDisabled",
                "ConditionalAccessBlocked",
            ],
        ),
        (
            Condition::TokenHealthy,
            Status::False,
            Some(3_600),
            &["EnterpriseApplicationMissing", "FederatedCredentialMismatch", "PermissionOrConsentMissing", "WrongPermission"],
        ),
        (Condition::TokenHealthy, Status::Unknown, None, &["EntraUnavailable"]),
        (
            Condition::MailboxAccessible,
            Status::False,
            Some(3_600),
            &["ServicePrincipalNotRegistered", "AccessMissingOrProtocolDisabled", "AuthenticationRefused"],
        ),
        (
            Condition::MailboxAccessible,
            Status::False,
            Some(0),
            &["FolderNotFound", "FolderReadOnly", "SettlingNotSupported", "MailboxTooLargeForPOP3"],
        ),
        (Condition::MailboxAccessible, Status::Unknown, None, &["Throttled", "ConnectionFailed", "RefusedAfterSuccess"]),
        (Condition::SinkReady, Status::False, Some(120), &["SinkAddressNotAllowed", "SinkAuthenticationFailed", "SinkRejects"]),
        (Condition::SinkReady, Status::False, None, &["SinkUnavailable"]),
        (Condition::Ready, Status::False, Some(0), &["QuarantineFull", "SettleBacklogFull", "CursorUnreadable"]),
        (
            Condition::CredentialExpiring,
            Status::True,
            None,
            &["ExpiresIn60Days", "ExpiresIn30Days", "ExpiresIn14Days", "ExpiresIn7Days", "ExpiresIn1Day", "ExpirationTimeStale"],
        ),
        (Condition::QuarantineNotEmpty, Status::True, None, &["MessagesQuarantined"]),
        (Condition::Reconciling, Status::True, None, &["ProgressingWithRetry"]),
        (Condition::TokenHealthy, Status::Unknown, None, &["NotYetTried"]),
        (Condition::Stalled, Status::True, None, &[]),
    ];
    let mut seen = BTreeSet::new();
    for (condition, status, stalls_after, names) in table {
        for name in names {
            let reason = Reason::ALL.iter().find(|reason| reason.as_str() == *name).unwrap_or_else(|| panic!("no reason {name}"));
            assert_eq!(reason.conditions()[0], condition, "{name}");
            assert_eq!(reason.status(), status, "{name}");
            assert_eq!(reason.stalls_after(), stalls_after.map(Duration::from_secs), "{name}");
            seen.insert(*name);
        }
    }
    assert_eq!(seen, Reason::ALL.iter().map(|reason| reason.as_str()).collect());
}

#[test]
fn missing_folders_are_told_with_the_names_nearest_to_them() {
    let missing =
        |name: &str, nearest: &[&str]| MissingFolder { name: name.into(), nearest: nearest.iter().map(|&n| n.to_owned()).collect() };
    let several = [missing("Factures/A traiter", &["Factures/À traiter", "Factures"]), missing("Sent", &[]), missing("Old", &[])];
    let diagnosis = diagnose(&Failure::Folders(&several), &context());
    assert_eq!((diagnosis.condition, diagnosis.reason, diagnosis.retry), (Condition::MailboxAccessible, Reason::FolderNotFound, slow(15)));
    for words in
        ["no folder 'Factures/A traiter'", "Nearest to it: 'Factures/À traiter', 'Factures'", "Nor has it 'Sent', 'Old'", "spec.folders"]
    {
        assert!(diagnosis.message.contains(words), "{}", diagnosis.message);
    }
    let long = vec![missing(&"x".repeat(2_000), &["y", "z"]); 64];
    assert!(diagnose(&Failure::Folders(&long), &context()).message.ends_with("collected meanwhile."), "nothing is cut off at the end");
}
