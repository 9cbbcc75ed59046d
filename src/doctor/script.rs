//! Words for other programs: one value as one word of PowerShell, of a shell, of YAML; and the PowerShell script of a set-up. Values are escaped
//! here whatever was checked before. Pure: no I/O, no clock.

use super::onboard::Onboarding;
use crate::diagnosis::Language;

/// A single-quoted PowerShell string: nothing in it is expanded. PowerShell takes typographic quotes for the plain one
/// (about_Quoting_Rules), so each is doubled; control characters are left out.
pub(super) fn powershell(value: &str) -> String {
    let mut quoted = String::from("'");
    for character in value.chars().filter(|character| !character.is_control()) {
        if matches!(character, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
            quoted.push(character);
        }
        quoted.push(character);
    }
    quoted + "'"
}

/// A single-quoted word of a POSIX shell; control characters are left out.
pub(super) fn posix(value: &str) -> String {
    let kept: String = value.chars().filter(|character| !character.is_control()).collect();
    format!("'{}'", kept.replace('\'', r"'\''"))
}

/// A double-quoted scalar of YAML, which JSON's strings are (YAML 1.2 section 5.7); control characters are left out.
pub(super) fn yaml(value: &str) -> String {
    let kept: String = value.chars().filter(|character| !character.is_control()).collect();
    serde_json::Value::String(kept).to_string()
}

/// The script that registers the app in Exchange, lets it open the mailboxes, and reads back what it did. It may be run again.
pub(super) fn script(onboarding: &Onboarding, language: Language) -> String {
    let say = |english: &'static str, french: &'static str| language.choose(english, french);
    let object_id = match &onboarding.object_id {
        Some(id) => powershell(id),
        None => {
            let prompt = say(
                "Object ID shown under Enterprise applications (not under App registrations)",
                "ID d'objet affiché sous Applications d'entreprise (et non sous Inscriptions d'applications)",
            );
            format!("Read-Host -Prompt {}", powershell(prompt))
        }
    };
    let mailboxes: Vec<String> = onboarding.mailboxes.iter().map(|mailbox| format!("    {}", powershell(mailbox))).collect();
    let (tenant, app) = (powershell(&onboarding.tenant), powershell(&onboarding.client_id));
    let values = [
        ("purpose", say("Lets the app read these mailboxes.", "Permet à l'application de lire ces boîtes.")),
        (
            "run",
            say(
                "Run it in PowerShell as an administrator of Exchange Online. It may be run again.",
                "À exécuter dans PowerShell en tant qu'administrateur d'Exchange Online. Peut être exécuté de nouveau.",
            ),
        ),
        ("module", say("The module of Exchange Online", "Le module d'Exchange Online")),
        (
            "register",
            say(
                "Registers the app in Exchange. (-ObjectId was -ServiceId in older instructions; -DisplayName needs its dash.)",
                "Inscrit l'application dans Exchange. (-ObjectId s'appelait -ServiceId dans d'anciens guides ; -DisplayName exige son tiret.)",
            ),
        ),
        (
            "wrong",
            say(
                "Registered with another object id, which cannot be changed: removed, after you agree",
                "Inscrite avec un autre ID d'objet, qui ne peut être modifié : supprimée, après votre accord",
            ),
        ),
        ("allow", say("FullAccess and IMAP for each mailbox", "FullAccess et IMAP pour chaque boîte")),
        ("read", say("Reads back what was done", "Relit ce qui a été fait")),
        (
            "late",
            say(
                "A change takes effect within minutes, at times an hour.",
                "Un changement prend effet en quelques minutes, parfois en une heure.",
            ),
        ),
        ("switches", onboarding.protocol.switches()),
        ("tenant", &tenant),
        ("app", &app),
        ("object", &object_id),
        ("mailboxes", &mailboxes.join(",\n")),
    ];
    fill(SCRIPT, &values)
}

/// Puts values in place of their names in braces, in one pass: what stands in a value is never taken for a name.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text += before;
        match values.iter().find_map(|(name, value)| Some((value, after.strip_prefix(name)?.strip_prefix('}')?))) {
            Some((value, remaining)) => {
                text += value;
                rest = remaining;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text + rest
}

const SCRIPT: &str = r"# mailbox-collector. {purpose}
# {run}
$ErrorActionPreference = 'Stop'
$AppId = {app}
$ObjectId = {object}
$Mailboxes = @(
{mailboxes}
)

# {module}
if (-not (Get-Module -ListAvailable -Name ExchangeOnlineManagement)) {
    Install-Module -Name ExchangeOnlineManagement -Scope CurrentUser
}
Import-Module -Name ExchangeOnlineManagement
Connect-ExchangeOnline -Organization {tenant}

# {register}
$Principal = Get-ServicePrincipal | Where-Object { $_.AppId -eq $AppId }
if ($Principal -and $Principal.ObjectId -ne $ObjectId) {
    # {wrong}
    Remove-ServicePrincipal -Identity $Principal.Identity
    $Principal = $null
}
if (-not $Principal) {
    $Principal = New-ServicePrincipal -AppId $AppId -ObjectId $ObjectId -DisplayName 'mailbox-collector'
}

# {allow}
foreach ($Mailbox in $Mailboxes) {
    Add-MailboxPermission -Identity $Mailbox -User $Principal.Identity -AccessRights FullAccess -AutoMapping $false
    Set-CASMailbox -Identity $Mailbox {switches}
}

# {read}
Get-ServicePrincipal -Identity $Principal.Identity | Format-List -Property DisplayName, AppId, ObjectId
foreach ($Mailbox in $Mailboxes) {
    Get-MailboxPermission -Identity $Mailbox | Where-Object { $_.AccessRights -contains 'FullAccess' } | Format-Table -Property Identity, User, AccessRights
    Get-CASMailbox -Identity $Mailbox | Format-List -Property Name, ImapEnabled, PopEnabled
}
# {late}
";
