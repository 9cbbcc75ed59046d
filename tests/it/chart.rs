//! The chart as Helm renders it, on the real API server: what it grants its ServiceAccount, and what it does not.

use std::process::{Command, Stdio};

use crate::support::{cluster, namespace};

/// (verb, resource, whether it is granted in the namespaces that are watched)
const RIGHTS: [(&str, &str, bool); 19] = [
    ("get", "mailboxcollectors.mailbox-collector.io", true),
    ("list", "mailboxcollectors.mailbox-collector.io", true),
    ("watch", "mailboxcollectors.mailbox-collector.io", true),
    ("patch", "mailboxcollectors.mailbox-collector.io/status", true),
    ("get", "mailboxcursors.mailbox-collector.io", true),
    ("create", "mailboxcursors.mailbox-collector.io", true),
    ("update", "mailboxcursors.mailbox-collector.io", true),
    ("get", "secrets", true),
    ("create", "events.events.k8s.io", true),
    ("patch", "events.events.k8s.io", true),
    ("update", "mailboxcollectors.mailbox-collector.io", false),
    ("delete", "mailboxcollectors.mailbox-collector.io", false),
    ("list", "mailboxcursors.mailbox-collector.io", false),
    ("watch", "mailboxcursors.mailbox-collector.io", false),
    ("delete", "mailboxcursors.mailbox-collector.io", false),
    ("list", "secrets", false),
    ("watch", "secrets", false),
    ("create", "secrets", false),
    ("get", "pods", false),
];

#[test]
fn in_cluster_mode_the_operator_may_do_its_work_everywhere_and_nothing_else() {
    let (system, tenant) = (namespace("system"), namespace("tenant"));
    let name = format!("mailbox-collector-{system}");
    cluster().install_chart(&name, &system, &[]).unwrap();
    check(&system, &name, &tenant, |granted| granted);
}

#[test]
fn in_namespaced_mode_it_may_do_its_work_there_and_nothing_elsewhere() {
    let (system, tenant, other) = (namespace("system"), namespace("tenant"), namespace("other"));
    let name = format!("mailbox-collector-{system}");
    cluster().install_chart(&name, &system, &[&format!("watchNamespaces={{{tenant}}}")]).unwrap();
    check(&system, &name, &tenant, |granted| granted);
    check(&system, &name, &other, |_| false);
}

#[test]
fn helm_finds_no_fault_and_refuses_an_unknown_value() {
    let lint = |values: &[&str]| {
        Command::new(cluster().programs().path("helm"))
            .env("HOME", cluster().folder())
            .args(["lint", "--strict"])
            .arg(xtask::root().join("charts/mailbox-collector"))
            .args(values)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let good = lint(&["--set", "fileSink.enabled=true"]);
    assert!(good.status.success(), "{}{}", String::from_utf8_lossy(&good.stdout), String::from_utf8_lossy(&good.stderr));
    let bad = lint(&["--set", "fileSinks.enabled=true"]);
    assert!(
        !bad.status.success() && String::from_utf8_lossy(&bad.stdout).contains("fileSinks"),
        "{}",
        String::from_utf8_lossy(&bad.stdout)
    );
}

fn check(system: &str, account: &str, namespace: &str, expected: impl Fn(bool) -> bool) {
    let user = format!("system:serviceaccount:{system}:{account}");
    // One request for each right, all in one kubectl.
    let mut reviews = String::new();
    for (verb, resource, _) in RIGHTS {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        reviews += &format!(
            "---\napiVersion: authorization.k8s.io/v1\nkind: SubjectAccessReview\nspec:\n  user: {user}\n  groups: [system:serviceaccounts, \"system:serviceaccounts:{system}\", system:authenticated]\n  resourceAttributes: {{verb: {verb}, group: \"{group}\", resource: {resource}, subresource: \"{subresource}\", namespace: {namespace}}}\n"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), reviews).unwrap();
    let path = "jsonpath={.status.allowed}{\"\\n\"}";
    let answer = cluster().kubectl(&["create", "--filename", file.path().to_str().unwrap(), "--output", path]).unwrap();
    let allowed: Vec<bool> = answer.lines().map(|line| line == "true").collect();
    assert_eq!(allowed.len(), RIGHTS.len(), "{answer}");
    for ((verb, resource, granted), allowed) in RIGHTS.into_iter().zip(allowed) {
        assert_eq!(allowed, expected(granted), "{verb} {resource} in {namespace}");
    }
}
