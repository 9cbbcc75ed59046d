//! What each reason means, in a sentence, and the page of the documentation on conditions and reasons, made from the table. Pure: no I/O, no
//! clock.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt::Write as _;
use std::time::Duration;

use super::saying::Saying;
use super::{Condition, Context, Known, Language, Reason, Retry, Status, table, text};

/// What a reason means.
pub fn meaning(reason: Reason, language: Language) -> &'static str {
    let (english, french) = match reason {
        Reason::Collecting => ("The last look was complete.", "La dernière consultation était complète."),
        Reason::Suspended => ("spec.suspend is set.", "spec.suspend est activé."),
        Reason::Progressing => (
            "The object is new or was changed, and is tried for the first time.",
            "L'objet est nouveau ou modifié, et essayé pour la première fois.",
        ),
        Reason::ProgressingWithRetry => ("Trouble that lasts; it is tried again.", "Une panne qui dure ; de nouveaux essais suivent."),
        Reason::NotYetTried => ("This stage has not been reached yet.", "Cette étape n'a pas encore été atteinte."),
        Reason::InvalidSpec => (
            "A field of the object is wrong, or asks for something that this version does not do.",
            "Un champ de l'objet est erroné, ou demande ce que cette version ne fait pas.",
        ),
        Reason::MailboxNotAllowed => ("The AppRegistration does not allow this mailbox.", "L'AppRegistration n'autorise pas cette boîte."),
        Reason::MailboxConflict => {
            ("Another MailboxCollector already settles the same folder.", "Un autre MailboxCollector traite déjà le même dossier.")
        }
        Reason::SinkNotEnabled => (
            "The operator was started without the option that this sink needs.",
            "L'opérateur a été démarré sans l'option dont cette destination a besoin.",
        ),
        Reason::WorkloadIdentityNotEnabled => (
            "The operator was installed without workloadIdentity.enabled, so it makes no tokens of service accounts.",
            "L'opérateur a été installé sans workloadIdentity.enabled et ne crée donc pas de jeton de compte de service.",
        ),
        Reason::SecretNotFound => ("There is no such Secret in the namespace.", "Ce Secret n'existe pas dans l'espace de noms."),
        Reason::SecretKeyMissing => ("A key of the Secret is missing, empty or wrong.", "Une clé du Secret manque, est vide ou erronée."),
        Reason::SecretNotOptedIn => (
            "The Secret is of a type that is never read, or lacks the label by which its owner agrees.",
            "Le Secret est d'un type qui n'est jamais lu, ou n'a pas le label par lequel son propriétaire l'autorise.",
        ),
        Reason::AppRegistrationNotFound => {
            ("There is no such AppRegistration in the namespace.", "Cet AppRegistration n'existe pas dans l'espace de noms.")
        }
        Reason::TenantNotFound => ("The tenant ID or the cloud is wrong.", "L'ID du locataire ou le cloud est erroné."),
        Reason::ApplicationNotFound => (
            "The application ID is wrong, or belongs to another tenant.",
            "L'ID d'application est erroné, ou appartient à un autre locataire.",
        ),
        Reason::SecretIdInsteadOfValue => {
            ("The secret's ID was stored instead of its value.", "L'ID de secret a été enregistré à la place de sa valeur.")
        }
        Reason::SecretInvalid => ("The secret is empty, or none of the app's.", "Le secret est vide, ou n'est pas celui de l'application."),
        Reason::SecretExpired => ("The secret has expired.", "Le secret a expiré."),
        Reason::CertificateNotRegistered => (
            "The certificate was not uploaded to the app registration.",
            "Le certificat n'a pas été chargé dans l'inscription d'application.",
        ),
        Reason::ApplicationDisabled => ("The enterprise application is disabled.", "L'application d'entreprise est désactivée."),
        Reason::ConditionalAccessBlocked => {
            ("A Conditional Access policy blocks the app.", "Une stratégie d'accès conditionnel bloque l'application.")
        }
        Reason::EnterpriseApplicationMissing => {
            ("The app has no enterprise application in the tenant.", "L'application n'a pas d'application d'entreprise dans le locataire.")
        }
        Reason::FederatedCredentialMismatch => (
            "No federated credential matches, or the clock is wrong.",
            "Aucune information d'identification fédérée ne correspond, ou l'horloge est fausse.",
        ),
        Reason::PermissionOrConsentMissing => (
            "The permission was not added, or consent was not granted.",
            "L'autorisation n'a pas été ajoutée, ou le consentement n'a pas été accordé.",
        ),
        Reason::WrongPermission => {
            ("Another permission was granted than the one needed.", "Une autre autorisation que celle qui est nécessaire a été accordée.")
        }
        Reason::EntraUnavailable => {
            ("Microsoft Entra is busy, out of order or out of reach.", "Microsoft Entra est surchargé, en panne ou injoignable.")
        }
        Reason::ServicePrincipalNotRegistered => (
            "New-ServicePrincipal was not run in Exchange, or with another object ID.",
            "New-ServicePrincipal n'a pas été exécuté dans Exchange, ou avec un autre ID d'objet.",
        ),
        Reason::AccessMissingOrProtocolDisabled => (
            "FullAccess is missing, or the protocol is off for the mailbox.",
            "Le droit FullAccess manque, ou le protocole est désactivé pour la boîte.",
        ),
        Reason::AuthenticationRefused => (
            "Exchange refuses the log-in to this mailbox, although the token is right.",
            "Exchange refuse la connexion à cette boîte, bien que le jeton soit bon.",
        ),
        Reason::FolderNotFound => ("The mailbox has no such folder.", "La boîte n'a pas ce dossier."),
        Reason::FolderReadOnly => (
            "spec.afterDelivery would change the folder, which the app may only read.",
            "spec.afterDelivery doit modifier le dossier, que l'application peut seulement lire.",
        ),
        Reason::SettlingNotSupported => {
            ("The server lacks what spec.afterDelivery needs.", "Le serveur n'offre pas ce dont spec.afterDelivery a besoin.")
        }
        Reason::MailboxTooLargeForPOP3 => (
            "The mailbox holds more messages than can be kept track of over POP3.",
            "La boîte contient plus de messages que POP3 ne permet d'en suivre.",
        ),
        Reason::Throttled => ("Exchange asks to wait.", "Exchange demande d'attendre."),
        Reason::ConnectionFailed => {
            ("The connection could not be made, or broke.", "La connexion n'a pas pu être établie, ou a été coupée.")
        }
        Reason::RefusedAfterSuccess => ("Exchange refuses what it allowed before.", "Exchange refuse ce qu'il permettait auparavant."),
        Reason::SinkAddressNotAllowed => (
            "The sink's address is not among those that the operator allows.",
            "L'adresse de la destination n'est pas parmi celles que l'opérateur autorise.",
        ),
        Reason::SinkAuthenticationFailed => ("The sink refuses our credentials.", "La destination refuse nos identifiants."),
        Reason::SinkRejects => ("The sink refuses whatever it is given.", "La destination refuse tout ce qu'elle reçoit."),
        Reason::SinkUnavailable => ("The sink cannot take mail for now.", "La destination ne peut rien recevoir pour le moment."),
        Reason::QuarantineFull => {
            ("Too many messages failed; collecting is stopped.", "Trop de messages ont échoué ; la collecte est arrêtée.")
        }
        Reason::SettleBacklogFull => (
            "Too many delivered messages wait to be moved or deleted; collecting is stopped.",
            "Trop de messages remis attendent d'être déplacés ou supprimés ; la collecte est arrêtée.",
        ),
        Reason::CursorUnreadable => (
            "What is remembered of the mailbox cannot be read; nothing is collected.",
            "Ce qui est mémorisé de la boîte est illisible ; rien n'est collecté.",
        ),
        Reason::ExpiresIn60Days => ("The credential ends within 60 days.", "Le secret ou le certificat expire dans les 60 jours."),
        Reason::ExpiresIn30Days => ("The credential ends within 30 days.", "Le secret ou le certificat expire dans les 30 jours."),
        Reason::ExpiresIn14Days => ("The credential ends within 14 days.", "Le secret ou le certificat expire dans les 14 jours."),
        Reason::ExpiresIn7Days => ("The credential ends within 7 days.", "Le secret ou le certificat expire dans les 7 jours."),
        Reason::ExpiresIn1Day => ("The credential ends within a day.", "Le secret ou le certificat expire dans la journée."),
        Reason::ExpirationTimeStale => (
            "The declared end has passed, and the credential still works: correct the date.",
            "La date d'expiration déclarée est passée, et le secret fonctionne encore : corrigez la date.",
        ),
        Reason::MessagesQuarantined => (
            "Some messages could not be collected; they are untouched on the server.",
            "Des messages n'ont pu être collectés ; ils sont intacts sur le serveur.",
        ),
    };
    language.choose(english, french)
}

/// The page on conditions and reasons, in Markdown: every reason with what it says of its condition, and what the product tells a person.
pub fn page(language: Language) -> String {
    let heading = language.choose(
        "# Conditions and reasons\n\n<!-- Made by `cargo xtask docs` from src/diagnosis; do not edit. -->\n\n\
         `kubectl describe mailboxcollector NAME` shows conditions. Each has a reason, one of those below, and a message that says what to do, \
         with your own ids filled in. `Ready` bears the reason of the first stage that fails. `Stalled` says that a person must act; it is tried \
         again all the same, for the cure happens in Entra or Exchange.\n\n\
         Words in braces stand for your values, `…` for what a server or the system said.\n",
        "# Conditions et raisons\n\n<!-- Made by `cargo xtask docs` from src/diagnosis; do not edit. -->\n\n\
         `kubectl describe mailboxcollector NOM` montre les conditions. Chacune porte une raison, l'une de celles ci-dessous, et un message qui dit \
         quoi faire, avec vos propres identifiants. `Ready` porte la raison de la première étape qui échoue. `Stalled` dit qu'une personne doit \
         agir ; les essais continuent néanmoins, car la solution se trouve dans Entra ou Exchange.\n\n\
         Dans un cluster, les messages sont en anglais ; `mailbox-collector check --lang fr` les donne en français. Les mots entre accolades \
         remplacent vos valeurs, `…` ce qu'a dit un serveur ou le système.\n",
    );
    let mut page = heading.to_owned();
    let mut current = None;
    for reason in Reason::ALL {
        let condition = reason.conditions().first().copied().unwrap_or(Condition::Ready);
        if current.replace(condition) != Some(condition) {
            let _ = write!(page, "\n## {}\n", condition.as_str());
        }
        let status = reason.status().as_str();
        let _ = write!(page, "\n### {}\n\n`{}={status}`. {}", reason.as_str(), condition.as_str(), meaning(*reason, language));
        if let Some(stalls) = stalls(*reason, language) {
            let _ = write!(page, " {stalls}");
        }
        page.push('\n');
        for saying in Saying::samples().iter().filter(|saying| table::row(saying).reason == *reason) {
            let row = table::row(saying);
            let _ = write!(page, "\n- {}", braced(&text(saying, &placeholders(), language)));
            if let Retry::Slow { every } = row.retry {
                let minutes = every.as_secs() / 60;
                let _ = match language {
                    Language::En => write!(page, " *Tried again every {minutes} min.*"),
                    Language::Fr => write!(page, " *Nouvel essai toutes les {minutes} min.*"),
                };
            }
        }
        if Saying::samples().iter().any(|saying| table::row(saying).reason == *reason) {
            page.push('\n');
        }
    }
    page
}

fn stalls(reason: Reason, language: Language) -> Option<String> {
    if reason.status() == Status::True {
        return None;
    }
    Some(match (reason.stalls_after(), language) {
        (None, Language::En) => "Never `Stalled`: it passes by itself.".to_owned(),
        (None, Language::Fr) => "Jamais `Stalled` : cela passe de soi-même.".to_owned(),
        (Some(Duration::ZERO), Language::En) => "`Stalled` at once.".to_owned(),
        (Some(Duration::ZERO), Language::Fr) => "`Stalled` aussitôt.".to_owned(),
        (Some(after), Language::En) => format!("`Stalled` after {} min.", after.as_secs() / 60),
        (Some(after), Language::Fr) => format!("`Stalled` après {} min.", after.as_secs() / 60),
    })
}

/// Values that are plain words for a command line; [`braced`] makes placeholders of them.
fn placeholders() -> Context<'static> {
    Context {
        mailbox: "ZmailboxZ",
        role: "IMAP.AccessAsApp",
        tenant_id: "ZtenantIdZ",
        client_id: "ZclientIdZ",
        object_id: Some("ZobjectIdZ"),
        credential_name: "ZsecretZ",
        secret_looks_like_guid: false,
        worked_before: false,
        folder: "ZfolderZ",
        authority: "https://login.microsoftonline.com",
        imap_host: "outlook.office365.com:993",
        known: Known::default(),
    }
}

/// For Markdown, in which a bare `<` begins a tag.
fn braced(text: &str) -> String {
    let mut text = text.replace('<', "\\<");
    for word in ["mailbox", "tenantId", "clientId", "objectId", "secret", "folder"] {
        text = text.replace(&format!("Z{word}Z"), &format!("{{{word}}}"));
    }
    text
}
