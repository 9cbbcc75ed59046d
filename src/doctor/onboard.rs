//! The guide for somebody who sets up a tenant: every step in the portal, the link for consent, the PowerShell script, the manifests, and the three
//! values to hand over. Pure: no I/O, no clock.

use std::collections::BTreeSet;

use super::script;
use crate::diagnosis::Language;

/// Longest value, in bytes; an address has at most 320.
const LONGEST: usize = 320;

/// Why no guide can be written. The value is not repeated: it may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an id of Entra's.
    #[error("{0} is not an id such as 11111111-2222-3333-4444-555555555555; copy it from the page that the guide names")]
    Id(&'static str),
    /// Neither an id nor a domain.
    #[error("--tenant is neither a tenant id nor a domain such as contoso.onmicrosoft.com")]
    Tenant,
    /// Not an address.
    #[error("--mailbox is not an address such as invoices@contoso.com")]
    Mailbox,
    /// None was given.
    #[error("no --mailbox; give at least one")]
    NoMailbox,
    /// Not a name that Kubernetes takes.
    #[error("{0} is not a Kubernetes name: lower-case letters, digits and '-', at most 63")]
    Name(&'static str),
}

/// The protocol that mail is collected by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// IMAP.
    #[default]
    Imap,
}

impl Protocol {
    /// The application permission.
    pub fn role(self) -> &'static str {
        match self {
            Self::Imap => "IMAP.AccessAsApp",
        }
    }

    pub(super) fn switches(self) -> &'static str {
        match self {
            Self::Imap => "-ImapEnabled $true",
        }
    }
}

/// What is known of a tenant to set up; checked by [`Onboarding::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onboarding {
    /// Directory (tenant) id, or a verified domain.
    pub tenant: String,
    /// Application (client) id.
    pub client_id: String,
    /// The enterprise application's object id, where it is known.
    pub object_id: Option<String>,
    /// The mailboxes.
    pub mailboxes: Vec<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// Namespace of the manifests.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
}

impl Onboarding {
    /// Whether a guide can be written for these values.
    ///
    /// # Errors
    /// Names the first value that cannot be meant.
    pub fn check(&self) -> Result<(), Error> {
        if !is_guid(&self.client_id) {
            return Err(Error::Id("--client-id"));
        }
        if self.object_id.as_ref().is_some_and(|id| !is_guid(id)) {
            return Err(Error::Id("--object-id"));
        }
        if !is_guid(&self.tenant) && !is_domain(&self.tenant) {
            return Err(Error::Tenant);
        }
        if self.mailboxes.is_empty() {
            return Err(Error::NoMailbox);
        }
        if !self.mailboxes.iter().all(|mailbox| is_address(mailbox)) {
            return Err(Error::Mailbox);
        }
        for (flag, name) in [("--namespace", &self.namespace), ("--secret", &self.secret)] {
            if !is_name(name) {
                return Err(Error::Name(flag));
            }
        }
        Ok(())
    }

    /// Where an administrator grants consent to the permissions of the registration (Microsoft, "Admin consent on the Microsoft identity
    /// platform").
    pub fn consent_url(&self) -> String {
        format!("https://login.microsoftonline.com/{}/adminconsent?client_id={}", percent(&self.tenant), percent(&self.client_id))
    }

    /// The PowerShell script.
    pub fn script(&self, language: Language) -> String {
        script::script(self, language)
    }

    /// The line that hands over the three values.
    pub fn hand_over(&self, language: Language) -> String {
        format!(
            "kubectl create secret generic {} --namespace {} --from-literal=clientId={} --from-literal=clientSecret={} --from-literal=tenantId={}",
            script::posix(&self.secret),
            script::posix(&self.namespace),
            script::posix(&self.client_id),
            script::posix(language.choose("<secret value>", "<valeur du secret>")),
            script::posix(&self.tenant)
        )
    }

    /// A MailboxCollector for each mailbox, and the Secret's line at the end.
    pub fn manifests(&self, language: Language) -> String {
        let mut taken = BTreeSet::new();
        let mut text = String::new();
        for mailbox in &self.mailboxes {
            let name = unused(&resource_name(mailbox), &mut taken);
            text += &format!(
                "---\napiVersion: mailbox-collector.io/v1alpha1\nkind: MailboxCollector\nmetadata:\n  name: {name}\n  namespace: {}\nspec:\n  \
                 mailbox: {}\n  credentials:\n    secretRef:\n      name: {}\n  sinks:\n  - name: drop\n    file:\n      path: {name}\n      format: \
                 EML\n",
                script::yaml(&self.namespace),
                script::yaml(mailbox),
                script::yaml(&self.secret)
            );
        }
        let secret = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {}\n  namespace: {}\nstringData:\n  clientId: {}\n  clientSecret: {}\n  tenantId: \
             {}\n",
            script::yaml(&self.secret),
            script::yaml(&self.namespace),
            script::yaml(&self.client_id),
            script::yaml(language.choose("<secret value>", "<valeur du secret>")),
            script::yaml(&self.tenant)
        );
        let note = language.choose(
            "# The Secret, or this line in its place, which writes the value to no file:",
            "# Le Secret, ou à sa place cette ligne, qui n'écrit la valeur dans aucun fichier :",
        );
        format!("{secret}{text}{note}\n# {}\n", self.hand_over(language))
    }

    /// The whole guide, in Markdown.
    pub fn guide(&self, language: Language) -> String {
        let object_id = self.object_id.as_deref().unwrap_or(language.choose("<Object ID>", "<ID d'objet>"));
        let mailbox = self.mailboxes.first().map(|mailbox| script::powershell(mailbox)).unwrap_or_default();
        script::fill(
            language.choose(include_str!("guide.en.md"), include_str!("guide.fr.md")),
            &[
                ("role", self.protocol.role()),
                ("namespace", &self.namespace),
                ("switches", self.protocol.switches()),
                ("consentUrl", &self.consent_url()),
                ("tenant", &self.tenant),
                ("clientId", &self.client_id),
                ("objectId", object_id),
                ("handOver", &self.hand_over(language)),
                ("mailbox", &mailbox),
                ("script", self.script(language).trim_end()),
                ("manifests", self.manifests(language).trim_end()),
            ],
        )
    }
}

/// The guide as a page of the documentation: that of an example's tenant.
pub fn page(language: Language) -> String {
    let example = Onboarding {
        tenant: "contoso.onmicrosoft.com".to_owned(),
        client_id: "11111111-1111-1111-1111-111111111111".to_owned(),
        object_id: Some("22222222-2222-2222-2222-222222222222".to_owned()),
        mailboxes: vec![language.choose("invoices@contoso.com", "factures@contoso.fr").to_owned()],
        protocol: Protocol::Imap,
        namespace: "office".to_owned(),
        secret: "azure-app".to_owned(),
    };
    let note = language.choose(
        "<!-- Made by `cargo xtask docs` from src/doctor/guide.en.md; do not edit. -->\n\nWith your own values: `mailbox-collector onboard --tenant … \
         --client-id … --mailbox …`.\n\n",
        "<!-- Made by `cargo xtask docs` from src/doctor/guide.fr.md; do not edit. -->\n\nAvec vos propres valeurs : `mailbox-collector onboard --lang fr \
         --tenant … --client-id … --mailbox …`.\n\n",
    );
    example.guide(language).replacen("\n\n", &format!("\n\n{note}"), 1)
}

fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// Any local part that may stand unquoted, or in another script: what it holds is escaped wherever it is written.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let plain = |character: char| !character.is_control() && !character.is_whitespace() && !"\"(),:;<>@[\\]".contains(character);
    text.len() <= LONGEST && !local.is_empty() && local.chars().all(plain) && is_domain(domain)
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

/// A Kubernetes name made of the part before `@`.
fn resource_name(mailbox: &str) -> String {
    let local = mailbox.split('@').next().unwrap_or_default().to_lowercase();
    let plain = |character: char| if character.is_ascii_lowercase() || character.is_ascii_digit() { character } else { '-' };
    let name: String = local.chars().map(plain).take(50).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "mailbox".to_owned() } else { name.to_owned() }
}

fn unused(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = std::iter::once(name.to_owned()).chain((2_u32..).map(|number| format!("{name}-{number}")));
    let free = numbered.into_iter().find(|candidate| !taken.contains(candidate)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// For a URL (RFC 3986 section 2.3).
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
