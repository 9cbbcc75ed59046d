//! The harness itself, on the real API server: it serves, it refuses what a ServiceAccount may not do, and the audit log tells.

use std::process::{Command, Stdio};

use crate::support::{cluster, namespace};

#[test]
fn the_audit_log_shows_a_refused_write_of_a_service_account() {
    let namespace = namespace("audit");
    cluster().kubectl(&["create", "serviceaccount", "nobody", "--namespace", &namespace]).unwrap();
    let kubeconfig = cluster().service_account_kubeconfig(&namespace, "nobody").unwrap();
    let refused = Command::new(cluster().programs().path("kubectl"))
        .env("KUBECONFIG", kubeconfig)
        .args(["create", "configmap", "forbidden", "--namespace", &namespace])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Forbidden") || String::from_utf8_lossy(&refused.stderr).contains("forbidden")
    );
    let writes = cluster().audit_writes(&format!("system:serviceaccount:{namespace}:nobody")).unwrap();
    assert_eq!(writes, [("create".to_owned(), "configmaps".to_owned(), 403)]);
}
