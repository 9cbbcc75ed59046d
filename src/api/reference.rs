//! The page of the documentation on kinds and fields, made from the schemas. Pure: no I/O, no clock.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};

use super::crds::crds;

/// Every kind that a person writes, with each field of its `spec`, and those of its `status`; in Markdown.
pub fn kinds_page() -> String {
    let mut page = "# Kinds and fields\n\n<!-- Made by `cargo xtask docs` from the CRDs; do not edit. -->\n\n\
                    `kubectl explain mailboxcollector.spec` says the same. A field that this version does not serve yet is refused by name \
                    (`Accepted=False`), never ignored.\n"
        .to_owned();
    for crd in crds() {
        let names = &crd.spec.names;
        for version in &crd.spec.versions {
            let Some(schema) = version.schema.as_ref().and_then(|validation| validation.open_api_v3_schema.as_ref()) else { continue };
            let _ = write!(page, "\n## {}\n\n`{}/{}`", names.kind, crd.spec.group, version.name);
            if let Some(short) = names.short_names.as_ref().filter(|short| !short.is_empty()) {
                let _ = write!(page, ", short `{}`", short.join("`, `"));
            }
            let _ = writeln!(page, ". {}", schema.description.as_deref().unwrap_or_default());
            for (part, schema) in schema.properties.iter().flatten().filter(|(part, _)| ["spec", "status"].contains(&part.as_str())) {
                let _ = write!(page, "\n| {part} | type | what |\n|---|---|---|\n");
                fields(&mut page, "", schema);
            }
        }
    }
    page
}

fn fields(page: &mut String, parent: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let path = format!("{parent}{name}");
        let item = match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item),
            Some(JSONSchemaPropsOrArray::Schemas(_)) | None => None,
        };
        let type_ = field.type_.as_deref().unwrap_or("any");
        let type_ = match item {
            Some(item) => format!("list of {}", item.type_.as_deref().unwrap_or("any")),
            None => type_.to_owned(),
        };
        let required = if required { ", required" } else { "" };
        let what = field.description.as_deref().unwrap_or_default().replace('|', "\\|").replace('<', "\\<").replace('\n', " ");
        let _ = writeln!(page, "| `{path}` | {type_}{required} | {what} |");
        match item {
            Some(item) => fields(page, &format!("{path}[]."), item),
            None => fields(page, &format!("{path}."), field),
        }
    }
}
