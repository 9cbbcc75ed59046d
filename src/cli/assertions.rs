//! A service account's token from a file, as a pod has one: for `collect` and `check`, never for the operator, which serves many tenants.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use secrecy::SecretString;

use crate::entra::{AssertionError, AssertionSource, ServiceAccount};

/// The variable that Azure's webhook for workload identity sets in pods.
const AZURE: &str = "AZURE_FEDERATED_TOKEN_FILE";
/// A longer file is no token, in bytes.
const LONGEST: usize = 16 * 1024;
const DEADLINE: Duration = Duration::from_secs(5);

/// Where the token is.
#[derive(Debug, Args)]
pub(super) struct TokenFile {
    /// File with a service account's token for the audience api://AzureADTokenExchange, for AppRegistrations with workloadIdentity; read
    /// again for each token request [default: the variable AZURE_FEDERATED_TOKEN_FILE]
    #[arg(long, env = "MAILBOX_COLLECTOR_FEDERATED_TOKEN_FILE", value_name = "FILE", help_heading = "Microsoft")]
    federated_token_file: Option<PathBuf>,
}

impl TokenFile {
    /// The file as a source of assertions.
    pub(super) fn source(&self) -> Arc<dyn AssertionSource> {
        let from_azure = || std::env::var_os(AZURE).filter(|path| !path.is_empty()).map(PathBuf::from);
        Arc::new(FileAssertions(self.federated_token_file.clone().or_else(from_azure)))
    }
}

#[derive(Debug)]
struct FileAssertions(Option<PathBuf>);

impl AssertionSource for FileAssertions {
    fn assertion<'a>(&'a self, _: &'a ServiceAccount) -> BoxFuture<'a, Result<SecretString, AssertionError>> {
        async {
            let path = self.0.clone().ok_or(AssertionError::NoSource)?;
            let shown = path.display().to_string();
            let file = |text: String| AssertionError::File { path: shown.clone(), text };
            // Its kubelet replaces it now and then, hence no copy is kept.
            let read = tokio::task::spawn_blocking(move || std::fs::read(path));
            let bytes = match tokio::time::timeout(DEADLINE, read).await {
                Ok(Ok(read)) => read.map_err(|error| file(error.to_string()))?,
                Ok(Err(_)) => return Err(AssertionError::Unavailable("the reading thread panicked".to_owned())),
                Err(_) => return Err(file("it could not be read in time".to_owned())),
            };
            let text = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
            let fits = |text: &String| text.len() <= LONGEST && text.split('.').count() == 3 && text.bytes().all(|b| b.is_ascii_graphic());
            let token = text.filter(fits).ok_or_else(|| file("it holds no token (three parts with dots between)".to_owned()))?;
            Ok(SecretString::from(token))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[tokio::test]
    async fn the_file_is_read_each_time_and_what_is_no_token_is_named_without_quoting_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = FileAssertions(Some(path.clone()));
        let account = ServiceAccount { namespace: "office".into(), name: "mail".into() };
        assert!(matches!(source.assertion(&account).await, Err(AssertionError::File { .. })));
        for token in ["a.b.c", "d.e.f"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(source.assertion(&account).await.unwrap().expose_secret(), token);
        }
        std::fs::write(&path, "canary").unwrap();
        let error = source.assertion(&account).await.unwrap_err().to_string();
        assert!(error.contains("holds no token") && !error.contains("canary"), "{error}");
        assert_eq!(FileAssertions(None).assertion(&account).await.unwrap_err(), AssertionError::NoSource);
    }
}
