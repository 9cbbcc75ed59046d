//! A checklist: every step of the set-up of one mailbox, in order, with how it stands; as text and for programs. Pure: no I/O, no clock.

use serde::Serialize;

use super::evidence::Evidence;
use crate::collect::NamedSink;
use crate::diagnosis::{Confidence, Language, Reason, SetupStep};

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Done, as far as can be seen from here.
    Ok,
    /// Missed, or done wrongly.
    Failed,
    /// A step before it must be done first.
    NotReached,
    /// What was answered does not tell.
    CannotBeKnown,
}

impl State {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NotReached => "notReached",
            Self::CannotBeKnown => "cannotBeKnown",
        }
    }

    fn title(self, language: Language) -> &'static str {
        match self {
            Self::Ok => language.choose("ok", "fait"),
            Self::Failed => language.choose("failed", "échec"),
            Self::NotReached => language.choose("not reached", "non atteint"),
            Self::CannotBeKnown => language.choose("cannot be known", "indéterminé"),
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub step: SetupStep,
    /// The folder or the sink that it is about, where there may be several.
    pub subject: Option<String>,
    /// How it stands.
    pub state: State,
    /// The reason that `status` would bear, where it failed.
    pub reason: Option<Reason>,
    /// How sure that is.
    pub confidence: Option<Confidence>,
    /// What was seen.
    pub evidence: Option<Evidence>,
    /// What to do.
    pub remedy: Option<String>,
}

/// What a checklist comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every step is done, but for what cannot be known from here.
    Ok,
    /// No step was found missing, but not all could be reached: a passing trouble.
    Incomplete,
    /// A step was missed.
    Failed,
}

/// Every step of the set-up of one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checklist {
    /// Namespace of the collector.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The mailbox.
    pub mailbox: String,
    /// The steps, in order.
    pub lines: Vec<Line>,
}

impl Checklist {
    /// Nothing is known yet.
    pub(super) fn new(namespace: &str, name: &str, mailbox: &str, folders: &[String], sinks: &[NamedSink]) -> Self {
        let line =
            |step, subject| Line { step, subject, state: State::NotReached, reason: None, confidence: None, evidence: None, remedy: None };
        let mut lines = Vec::new();
        for step in SetupStep::ALL {
            match step {
                SetupStep::Folder if !folders.is_empty() => lines.extend(folders.iter().map(|folder| line(step, Some(folder.clone())))),
                SetupStep::Sink if !sinks.is_empty() => lines.extend(sinks.iter().map(|sink| line(step, Some(sink.name.clone())))),
                _ => lines.push(line(step, None)),
            }
        }
        Self { namespace: namespace.to_owned(), name: name.to_owned(), mailbox: mailbox.to_owned(), lines }
    }

    /// The steps `from..to` stand as `state`.
    pub(super) fn mark(&mut self, from: SetupStep, to: SetupStep, state: State, evidence: &Evidence) {
        for line in self.lines.iter_mut().filter(|line| (from..to).contains(&line.step)) {
            line.state = state;
            line.evidence = Some(evidence.clone());
        }
    }

    /// The line of a step, and of one folder or sink where it has several.
    pub(super) fn line(&mut self, step: SetupStep, subject: Option<&str>) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.step == step && (subject.is_none() || line.subject.as_deref() == subject))
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        let any = |state| self.lines.iter().any(|line| line.state == state);
        if any(State::Failed) {
            Verdict::Failed
        } else if any(State::NotReached) || self.lines.iter().any(|line| line.reason.is_some()) {
            Verdict::Incomplete
        } else {
            Verdict::Ok
        }
    }

    /// The reason of the first step that failed.
    pub fn reason(&self) -> Option<Reason> {
        self.lines.iter().find(|line| line.state == State::Failed).and_then(|line| line.reason)
    }

    /// For a person: one line a step, with evidence and remedy below those that are not done.
    pub fn text(&self, language: Language) -> String {
        let widest = State::ALL.map(|state| state.title(language).chars().count()).into_iter().max().unwrap_or_default();
        let colon = language.choose(": ", " : ");
        let mut text = format!("{}/{} {}\n", self.namespace, self.name, self.mailbox);
        for (index, line) in self.lines.iter().enumerate() {
            let subject = line.subject.as_ref().map(|subject| format!("{colon}{subject}")).unwrap_or_default();
            let state = line.state.title(language);
            text += &format!("  {:>2}. [{state:^widest$}] {}{subject}", index + 1, line.step.title(language));
            let evidence = line.evidence.as_ref().map(|evidence| evidence.text(language));
            match (line.state, evidence) {
                (State::Ok, Some(evidence)) => text += &format!(" ({evidence})\n"),
                (_, Some(evidence)) => text += &format!("\n      {}{colon}{evidence}\n", language.choose("seen", "constat")),
                (_, None) => text += "\n",
            }
            if let Some(reason) = line.reason {
                let sure = line.confidence.map(|confidence| format!(" ({})", confidence.title(language))).unwrap_or_default();
                text += &format!("      {}{colon}{}{sure}\n", language.choose("reason", "raison"), reason.as_str());
            }
            if let Some(remedy) = &line.remedy {
                text += &format!("      {}{colon}{remedy}\n", language.choose("to do", "à faire"));
            }
        }
        text + "  " + self.conclusion(language) + "\n"
    }

    fn conclusion(&self, language: Language) -> &'static str {
        match self.verdict() {
            Verdict::Ok => language.choose("Everything is in order.", "Tout est en ordre."),
            Verdict::Incomplete => language.choose(
                "No step was found missing, but not all could be checked; try again later.",
                "Aucune étape ne manque, mais toutes n'ont pu être vérifiées ; réessayez plus tard.",
            ),
            Verdict::Failed => language.choose(
                "Do what stands beside the first failure, then check again.",
                "Faites ce qui est indiqué au premier échec, puis vérifiez de nouveau.",
            ),
        }
    }

    /// For programs; keys and values that are names are the same in every language.
    pub fn json(&self, language: Language) -> impl Serialize + use<> {
        let steps = self.lines.iter().map(|line| JsonStep {
            step: line.step.as_str(),
            title: line.step.title(language),
            subject: line.subject.clone(),
            state: line.state.as_str(),
            reason: line.reason.map(Reason::as_str),
            confidence: line.confidence.map(Confidence::as_str),
            evidence: line.evidence.as_ref().map(|evidence| evidence.text(language)),
            remedy: line.remedy.clone(),
        });
        Json {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            mailbox: self.mailbox.clone(),
            ok: self.verdict() == Verdict::Ok,
            reason: self.reason().map(Reason::as_str),
            steps: steps.collect(),
        }
    }
}

impl State {
    const ALL: [Self; 4] = [Self::Ok, Self::Failed, Self::NotReached, Self::CannotBeKnown];
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    namespace: String,
    name: String,
    mailbox: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    steps: Vec<JsonStep>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonStep {
    step: &'static str,
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}
