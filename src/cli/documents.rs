//! Reads MailboxCollector, AppRegistration and Secret documents from YAML files, as `kubectl apply -f` would. Judges nothing in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{AppRegistration, MailboxCollector};

/// A YAML file longer than this is refused, in bytes.
const LONGEST_FILE: u64 = 16 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{path:?}: {source}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} is longer than 16 MiB")]
    TooLong { path: PathBuf },
    #[error("{path:?}: {text}")]
    Yaml { path: PathBuf, text: String },
    #[error("{path:?}, document {number}: {text}")]
    Document { path: PathBuf, number: usize, text: String },
    #[error("no MailboxCollector in the files given; each collects one mailbox, see docs/examples")]
    NoCollector,
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Documents {
    pub collectors: Vec<MailboxCollector>,
    /// By namespace and name.
    pub secrets: BTreeMap<(String, String), Secret>,
    /// By namespace and name.
    pub apps: BTreeMap<(String, String), AppRegistration>,
}

/// Reads all files; `-` is standard input.
pub(super) fn read(files: &[PathBuf]) -> Result<Documents, Error> {
    let mut documents = Documents::default();
    for path in files {
        let text = read_text(path)?;
        let values: Vec<Value> = serde_saphyr::from_multiple(&text)
            // Only the place: the text around it may be a secret.
            .map_err(|error| Error::Yaml { path: path.clone(), text: error.without_snippet().to_string() })?;
        for (index, value) in values.into_iter().enumerate().filter(|(_, value)| !value.is_null()) {
            let error = |text: String| Error::Document { path: path.clone(), number: index + 1, text };
            documents.add(value).map_err(error)?;
        }
    }
    if documents.collectors.is_empty() {
        return Err(Error::NoCollector);
    }
    Ok(documents)
}

fn read_text(path: &Path) -> Result<String, Error> {
    use std::io::Read;
    let error = |source: std::io::Error| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(LONGEST_FILE + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).map_err(error)?.take(LONGEST_FILE + 1).read_to_string(&mut text)
    };
    if read.map_err(error)? as u64 > LONGEST_FILE { Err(Error::TooLong { path: path.to_owned() }) } else { Ok(text) }
}

impl Documents {
    fn add(&mut self, value: Value) -> Result<(), String> {
        let word = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (word("apiVersion").as_str(), word("kind").as_str()) {
            ("mailbox-collector.io/v1alpha1", "MailboxCollector") => {
                let mut collector: MailboxCollector = typed(value)?;
                check_name("metadata.name", &collector.name_any(), true)?;
                let namespace = collector.namespace().unwrap_or_else(|| "default".to_owned());
                check_name("metadata.namespace", &namespace, false)?;
                collector.metadata.namespace = Some(namespace);
                self.collectors.push(collector);
            }
            ("v1", "Secret") => {
                // Never the parser's words: they would quote a value.
                let shape = "a Secret's stringData is a map of texts (quote numbers), its data a map of base64";
                let mut secret: Secret = serde_json::from_value(value).map_err(|_| shape.to_owned())?;
                // `stringData` wins over `data`, as on the API server.
                for (key, text) in secret.string_data.take().unwrap_or_default() {
                    secret.data.get_or_insert_default().insert(key, k8s_openapi::ByteString(text.into_bytes()));
                }
                let namespace = secret.namespace().unwrap_or_else(|| "default".to_owned());
                self.secrets.insert((namespace, secret.name_any()), secret);
            }
            ("mailbox-collector.io/v1alpha1", "AppRegistration") => {
                let mut app: AppRegistration = typed(value)?;
                check_name("metadata.name", &app.name_any(), true)?;
                let namespace = app.namespace().unwrap_or_else(|| "default".to_owned());
                app.metadata.namespace = Some(namespace.clone());
                self.apps.insert((namespace, app.name_any()), app);
            }
            ("v1", "Namespace") => {}
            (version, kind) => {
                return Err(format!("kind {kind:?} of apiVersion {version:?} is not one of MailboxCollector, AppRegistration, Secret"));
            }
        }
        Ok(())
    }
}

fn typed<K: DeserializeOwned>(value: Value) -> Result<K, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Names become file names.
fn check_name(field: &str, name: &str, dots: bool) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.');
    if name.is_empty() || name.len() > 253 || !name.chars().all(fits) || name.starts_with(['.', '-']) {
        return Err(format!("{field} {name:.60?} is not a Kubernetes name: lower-case letters, digits and '-'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<Documents, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mail.yaml");
        std::fs::write(&path, yaml).unwrap();
        read(&[path]).map_err(|error| error.to_string())
    }

    const COLLECTOR: &str = "apiVersion: mailbox-collector.io/v1alpha1\nkind: MailboxCollector\nmetadata: {name: a, namespace: office}\nspec: {mailbox: a@contoso.fr, credentials: {secretRef: {name: app}}, sinks: [{name: drop, file: {path: in}}]}\n";

    #[test]
    fn collectors_and_secrets_are_read_and_string_data_counts() {
        let yaml = format!(
            "{COLLECTOR}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: app, namespace: office}}\nstringData: {{tenantId: t}}\n---\n"
        );
        let documents = check(&yaml).unwrap();
        assert_eq!(documents.collectors.len(), 1);
        let secret = &documents.secrets[&("office".to_owned(), "app".to_owned())];
        assert_eq!(secret.data.as_ref().unwrap()["tenantId"].0, b"t");
    }

    #[test]
    fn what_cannot_be_used_is_named_and_secrets_are_never_quoted() {
        let rows = [
            ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", "ConfigMap"),
            ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n", "no MailboxCollector"),
            ("kind: [unclosed\n", "mail.yaml"),
            (&COLLECTOR.replace("name: a,", "name: ../../etc,"), "metadata.name"),
        ];
        for (yaml, expected) in rows {
            let error = check(yaml).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = check("apiVersion: v1\nkind: Secret\nstringData: {clientSecret: 'canary-secret\n  x: [\n").unwrap_err();
        assert!(!error.contains("canary-secret"), "{error}");
    }
}
