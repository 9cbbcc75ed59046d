//! What people paste: no value, however hostile, becomes more than one word; the script is PowerShell to a grammar of it and to what the
//! cmdlets' pages say of their parameters.

use super::*;

const APP: &str = "11111111-2222-3333-4444-555555555555";

fn onboarding() -> Onboarding {
    Onboarding {
        tenant: "contoso.onmicrosoft.com".into(),
        client_id: APP.into(),
        object_id: Some("99999999-8888-7777-6666-555555555555".into()),
        mailboxes: vec!["factures@contoso.fr".into(), "o'brien@contoso.fr".into()],
        protocol: Protocol::Imap,
        namespace: "office".into(),
        secret: "azure-app".into(),
    }
}

const HOSTILE: [&str; 12] = [
    "'; Remove-Mailbox -Identity x; '",
    "\u{2019}; Remove-Mailbox x; \u{2018}",
    "\u{201a}; rm x; \u{201b}",
    "$(rm -rf ~)@contoso.fr",
    "`rm -rf ~`@contoso.fr",
    "a\"b@contoso.fr",
    "a\nb: c@contoso.fr",
    "a\r\n# b@contoso.fr",
    "#>@contoso.fr",
    "{script}@contoso.fr",
    "--% & del",
    "' --from-file=/etc/passwd '",
];

#[test]
fn what_cannot_be_meant_is_refused_with_the_flag_and_never_repeated() {
    let base = onboarding;
    for (changed, expected) in [
        (Onboarding { client_id: "Zk8Q~canary".into(), ..base() }, "--client-id"),
        (Onboarding { object_id: Some("canary".into()), ..base() }, "--object-id"),
        (Onboarding { tenant: "canary".into(), ..base() }, "--tenant"),
        (Onboarding { tenant: "canary'.com".into(), ..base() }, "--tenant"),
        (Onboarding { mailboxes: vec![], ..base() }, "--mailbox"),
        (Onboarding { mailboxes: vec!["canary".into()], ..base() }, "--mailbox"),
        (Onboarding { namespace: "Canary".into(), ..base() }, "--namespace"),
        (Onboarding { secret: "canary;".into(), ..base() }, "--secret"),
    ] {
        let error = changed.check().unwrap_err().to_string();
        assert!(error.contains(expected) && !error.to_lowercase().contains("canary"), "{error}");
    }
    assert_eq!(base().check(), Ok(()));
    let accented = Onboarding { tenant: APP.into(), mailboxes: vec!["comptabilité@contoso.fr".into()], object_id: None, ..base() };
    assert_eq!(accented.check(), Ok(()));
}

/// Names and parameters of the cmdlets that the script calls, from Microsoft's page on each.
const CMDLETS: [(&str, &[&str]); 15] = [
    ("Get-Module", &["ListAvailable", "Name"]),
    ("Install-Module", &["Name", "Scope"]),
    ("Import-Module", &["Name"]),
    ("Connect-ExchangeOnline", &["Organization"]),
    ("Get-ServicePrincipal", &["Identity"]),
    ("New-ServicePrincipal", &["AppId", "ObjectId", "DisplayName"]),
    ("Remove-ServicePrincipal", &["Identity"]),
    ("Add-MailboxPermission", &["Identity", "User", "AccessRights", "AutoMapping"]),
    ("Get-MailboxPermission", &["Identity"]),
    ("Set-CASMailbox", &["Identity", "ImapEnabled", "PopEnabled"]),
    ("Get-CASMailbox", &["Identity"]),
    ("Where-Object", &[]),
    ("Format-List", &["Property"]),
    ("Format-Table", &["Property"]),
    ("Read-Host", &["Prompt"]),
];

struct Parsed {
    /// Kinds and texts of the leaves.
    leaves: Vec<(String, String)>,
}

fn parsed(script: &str) -> Parsed {
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
    let tree = parser.parse(script, None).unwrap();
    assert!(!tree.root_node().has_error(), "{}\n{script}", tree.root_node().to_sexp());
    let mut leaves = Vec::new();
    let mut nodes = vec![tree.root_node()];
    while let Some(node) = nodes.pop() {
        if node.kind() == "command" || node.child_count() == 0 || node.kind() == "verbatim_string_characters" {
            leaves.push((node.kind().to_owned(), node.utf8_text(script.as_bytes()).unwrap().to_owned()));
        }
        let mut cursor = node.walk();
        nodes.extend(node.children(&mut cursor));
    }
    Parsed { leaves }
}

impl Parsed {
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.leaves.iter().filter(move |(leaf, _)| leaf == kind).map(|(_, text)| text.as_str())
    }
}

#[test]
fn the_script_is_powershell_and_calls_cmdlets_as_their_pages_say() {
    for language in [Language::En, Language::Fr] {
        for object_id in [onboarding().object_id, None] {
            let script = Onboarding { object_id, ..onboarding() }.script(language);
            let parsed = parsed(&script);
            let mut called = BTreeSet::new();
            for command in parsed.of("command") {
                let name = command.split_whitespace().next().unwrap();
                let (name, parameters) = CMDLETS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{command}"));
                called.insert(*name);
                // A script block has operators of its own.
                for word in command.split_whitespace().filter(|word| word.starts_with('-') && *name != "Where-Object") {
                    assert!(parameters.contains(&word.trim_start_matches('-')), "{word} of {name}");
                }
            }
            for needed in ["New-ServicePrincipal", "Add-MailboxPermission", "Set-CASMailbox", "Get-MailboxPermission", "Get-CASMailbox"] {
                assert!(called.contains(needed), "{needed}");
            }
            assert!(!script.contains("-ServiceId '") && script.contains("'o''brien@contoso.fr'"), "{script}");
        }
    }
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
    for wrong in ["New-ServicePrincipal -AppId 'a", "foreach ($a in $b { }", "if (-not $a) { Get-Module"] {
        assert!(parser.parse(wrong, None).unwrap().root_node().has_error(), "the grammar takes everything: {wrong}");
    }
}

#[test]
fn a_hostile_value_stays_one_word_of_powershell() {
    let calls = |onboarding: &Onboarding| parsed(&onboarding.script(Language::Fr)).of("command").count();
    let expected = calls(&onboarding());
    for hostile in HOSTILE {
        let all = Onboarding {
            tenant: hostile.into(),
            client_id: hostile.into(),
            object_id: Some(hostile.into()),
            mailboxes: vec![hostile.into(), hostile.into()],
            ..onboarding()
        };
        assert_eq!(calls(&all), expected, "{hostile}: {}", all.script(Language::Fr));
        let word = script::powershell(hostile);
        let kept: String = hostile.chars().filter(|character| !character.is_control()).collect();
        let inner = word.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
        let quotes = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];
        let mut undone = inner.to_owned();
        for quote in quotes {
            assert_eq!(inner.matches(quote).count(), 2 * kept.matches(quote).count());
            undone = undone.replace(&format!("{quote}{quote}"), &quote.to_string());
        }
        assert_eq!(undone, kept);
    }
}

#[test]
fn a_hostile_value_stays_one_word_of_the_shell_and_one_scalar_of_yaml() {
    for hostile in HOSTILE {
        let kept: String = hostile.chars().filter(|character| !character.is_control()).collect();
        let printed = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", script::posix(hostile))]).output().unwrap();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), kept);
        let all = Onboarding { tenant: hostile.into(), mailboxes: vec![hostile.into()], ..onboarding() };
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&all.manifests(Language::En)).unwrap();
        assert_eq!(documents.len(), 2, "{hostile}");
        assert_eq!(documents[0]["stringData"]["tenantId"], kept.as_str());
        assert_eq!(documents[1]["spec"]["mailbox"], kept.as_str());
    }
}

#[test]
fn the_guide_has_the_steps_in_order_the_outdated_forms_and_ends_with_the_three_values() {
    for (language, steps) in [
        (
            Language::En,
            [
                "Create the app",
                "tenant ID",
                "Create a secret",
                "Add the permission",
                "Grant admin consent",
                "enterprise application's object ID",
                "the module",
                "New-ServicePrincipal",
                "its identity",
                "Add-MailboxPermission",
                "three values",
            ],
        ),
        (
            Language::Fr,
            [
                "Créez l'application",
                "ID du locataire",
                "Créez un secret",
                "Ajoutez l'autorisation",
                "Accordez le consentement",
                "ID d'objet de l'application d'entreprise",
                "le module",
                "New-ServicePrincipal",
                "son identité",
                "Add-MailboxPermission",
                "trois valeurs",
            ],
        ),
    ] {
        let guide = onboarding().guide(language);
        for (number, step) in (1..).zip(steps) {
            let line = guide.split(&format!("\n{number}. **")).nth(1).unwrap_or_else(|| panic!("no step {number}"));
            assert!(line.split("\n\n").next().unwrap().contains(step), "step {number} is not {step}");
        }
        for word in ["-ServiceId", "-DisplayName", "24 m", "adminconsent?client_id=11111111-", "'o''brien@contoso.fr'"] {
            assert!(guide.contains(word), "{word}");
        }
        for name in guide.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
            assert!(name.is_empty() || !name.chars().all(char::is_alphabetic), "{name} was not filled in");
        }
        let last = guide.lines().rfind(|line| !line.starts_with("```")).unwrap();
        for word in ["kubectl create secret generic", "clientId=", "clientSecret=", "tenantId="] {
            assert!(last.contains(word), "{last}");
        }
    }
}

#[test]
fn a_value_is_never_taken_for_a_place_to_fill_in() {
    let mailboxes = vec!["{manifests}@contoso.fr".into(), "{script}{app}@contoso.fr".into()];
    let hostile = Onboarding { mailboxes, ..onboarding() };
    assert_eq!(hostile.check(), Ok(()), "Exchange allows braces in an address");
    let guide = hostile.guide(Language::En);
    assert_eq!(guide.matches("kind: Secret").count(), 1);
    assert_eq!(guide.matches("Connect-ExchangeOnline -Organization '").count(), 1);
    assert!(guide.contains("    '{manifests}@contoso.fr',\n    '{script}{app}@contoso.fr'\n"), "{guide}");
}

#[test]
fn manifests_are_what_the_operator_accepts_and_no_two_have_one_name() {
    let mailboxes = ["a.b@x.fr", "a-b@x.fr", "a_b@y.fr", "Éé@x.fr"].map(String::from).into();
    let manifests = Onboarding { mailboxes, ..onboarding() }.manifests(Language::En);
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&manifests).unwrap();
    let names: Vec<_> = documents[1..].iter().map(|document| document["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a-b", "a-b-2", "a-b-3", "mailbox"]);
    for document in &documents[1..] {
        let collector: crate::api::MailboxCollector = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(collector.spec.credentials.secret_ref.unwrap().name, "azure-app");
    }
}
