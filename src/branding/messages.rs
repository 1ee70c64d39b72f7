//! Fluent files: what each message needs, and what is wrong with those of an operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use fluent_bundle::FluentResource;
use fluent_syntax::ast::{
    CallArguments, Entry, Expression, InlineExpression, Pattern, PatternElement,
};

use super::{folder::LocaleFile, fragments::line_of};

/// The files in `locales/` of this project, compiled in: each with its name.
macro_rules! files_of {
    ($language:literal: $($name:literal)+) => {
        &[$((
            concat!($name, ".ftl"),
            include_str!(concat!("../../locales/", $language, "/", $name, ".ftl")),
        )),+]
    };
}

pub(super) type Files = &'static [(&'static str, &'static str)];

/// The built-in languages.
pub(super) const OURS: [(&str, Files); 2] = [
    (
        "en",
        files_of!("en": "account" "admin" "admin-clients" "admin-modules" "admin-operation"
            "admin-users" "common" "consent" "device" "email" "factors" "landing" "mail" "profile"
            "self-service" "services" "upstream"),
    ),
    (
        "ru",
        files_of!("ru": "account" "admin" "admin-clients" "admin-modules" "admin-operation"
            "admin-users" "common" "consent" "device" "email" "factors" "landing" "mail" "profile"
            "self-service" "services" "upstream"),
    ),
];

/// The variable that every message knows.
pub(super) const BRAND: &str = "brand";

/// What a message or a term refers to.
#[derive(Default)]
struct Uses<'s> {
    variables: BTreeSet<&'s str>,
    messages: BTreeSet<&'s str>,
    terms: BTreeSet<&'s str>,
    functions: BTreeSet<&'s str>,
}

impl<'s> Uses<'s> {
    fn of(pattern: &Pattern<&'s str>) -> Self {
        let mut uses = Self::default();
        uses.pattern(pattern);
        uses
    }

    fn pattern(&mut self, pattern: &Pattern<&'s str>) {
        for element in &pattern.elements {
            if let PatternElement::Placeable { expression } = element {
                self.expression(expression);
            }
        }
    }

    fn expression(&mut self, expression: &Expression<&'s str>) {
        match expression {
            Expression::Inline(inline) => self.inline(inline),
            Expression::Select { selector, variants } => {
                self.inline(selector);
                variants.iter().for_each(|variant| self.pattern(&variant.value));
            }
        }
    }

    fn inline(&mut self, inline: &InlineExpression<&'s str>) {
        match inline {
            InlineExpression::StringLiteral { .. } | InlineExpression::NumberLiteral { .. } => {}
            InlineExpression::VariableReference { id } => _ = self.variables.insert(id.name),
            InlineExpression::MessageReference { id, .. } => _ = self.messages.insert(id.name),
            InlineExpression::TermReference { id, arguments, .. } => {
                self.terms.insert(id.name);
                self.arguments(arguments.as_ref());
            }
            InlineExpression::FunctionReference { id, arguments } => {
                self.functions.insert(id.name);
                self.arguments(Some(arguments));
            }
            InlineExpression::Placeable { expression } => self.expression(expression),
        }
    }

    fn arguments(&mut self, arguments: Option<&CallArguments<&'s str>>) {
        if let Some(CallArguments { positional, named }) = arguments {
            positional.iter().for_each(|one| self.inline(one));
            named.iter().for_each(|one| self.inline(&one.value));
        }
    }
}

/// The ids of all messages, each with its variables, as the English files have them.
pub(super) fn known() -> &'static BTreeMap<String, BTreeSet<String>> {
    static KNOWN: LazyLock<BTreeMap<String, BTreeSet<String>>> = LazyLock::new(|| {
        let mut known = BTreeMap::new();
        for (_, text) in OURS[0].1 {
            for entry in whole(text).entries() {
                if let Entry::Message(message) = entry {
                    let variables = message.value.as_ref().map(|value| Uses::of(value).variables);
                    let variables = variables.unwrap_or_default().into_iter().map(str::to_owned);
                    known.insert(message.id.name.to_owned(), variables.collect());
                }
            }
        }
        known
    });
    &KNOWN
}

/// A built-in file. A test rejects broken ones.
pub(super) fn whole(text: &str) -> FluentResource {
    FluentResource::try_new(text.to_owned()).unwrap_or_else(|(resource, _)| resource)
}

/// The messages of the operator in one language.
pub(super) struct Messages {
    pub resources: Vec<FluentResource>,
    /// Where each message is, for later problems.
    pub places: BTreeMap<String, String>,
}

/// Parses and checks the files of a language.
///
/// # Errors
/// Every problem, with file and line.
pub(super) fn parse(files: &[LocaleFile]) -> Result<Messages, Vec<String>> {
    let mut problems = vec![];
    let mut parsed = vec![];
    for LocaleFile { name, text } in files {
        match FluentResource::try_new(text.clone()) {
            Ok(resource) => parsed.push((name, resource)),
            Err((_, errors)) => problems.extend(errors.into_iter().map(|error| {
                format!("{name}, line {}: {}", line_of(text, error.pos.start), error.kind)
            })),
        }
    }
    let (mut places, mut terms) = (BTreeMap::new(), BTreeSet::new());
    for (file, resource) in &parsed {
        for entry in resource.entries() {
            let (id, name) = match entry {
                Entry::Message(message) => (message.id.name, message.id.name.to_owned()),
                Entry::Term(term) => {
                    terms.insert(term.id.name);
                    (term.id.name, format!("-{}", term.id.name))
                }
                _ => continue,
            };
            let place = format!("{file}, line {}", line(resource.source(), id));
            if let Some(before) = places.insert(name.clone(), place.clone()) {
                problems.push(format!("{place}: {name} is defined before, in {before}"));
            }
        }
    }
    for (file, resource) in &parsed {
        let place = |id: &str| format!("{file}, line {}", line(resource.source(), id));
        for entry in resource.entries() {
            let (id, value) = match entry {
                Entry::Message(message) => {
                    let id = message.id.name;
                    if !message.attributes.is_empty() {
                        problems.push(format!("{}: {id}: attributes have no effect", place(id)));
                    }
                    let Some(value) = &message.value else {
                        problems.push(format!("{}: {id} has no text", place(id)));
                        continue;
                    };
                    (id, value)
                }
                Entry::Term(term) => (term.id.name, &term.value),
                _ => continue,
            };
            let uses = Uses::of(value);
            let mut wrong = |what: String| problems.push(format!("{}: {id}: {what}", place(id)));
            if let (Entry::Message(_), Some(variables)) = (entry, known().get(id)) {
                for unknown in uses.variables.iter().filter(|name| !variables.contains(**name)) {
                    if *unknown != BRAND {
                        let mut names: Vec<&str> = variables.iter().map(String::as_str).collect();
                        names.push(BRAND);
                        let names = names.join(", $");
                        wrong(format!("unknown variable ${unknown}; there are ${names}"));
                    }
                }
            }
            for name in &uses.functions {
                wrong(format!("there is no function {name}"));
            }
            for name in uses.terms.iter().filter(|name| !terms.contains(**name)) {
                wrong(format!("there is no term -{name} in this language"));
            }
            for name in &uses.messages {
                if !places.contains_key(*name) && !known().contains_key(*name) {
                    wrong(format!("there is no message {name}"));
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Messages { resources: parsed.into_iter().map(|(_, resource)| resource).collect(), places })
}

/// The line of an id, which is a part of the source.
fn line(source: &str, id: &str) -> usize {
    let at = (id.as_ptr() as usize).saturating_sub(source.as_ptr() as usize);
    line_of(source, at)
}
