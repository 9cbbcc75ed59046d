//! The CustomResourceDefinitions as they are published: what the derived ones say, in the API server's normal form, as YAML.
//! Pure: no I/O, no clock. Writing the files is `cargo xtask crds`.
//!
//! Normal form, because GitOps tools compare a manifest with what the server stores and call a difference drift: what the server fills in
//! (list kind, conversion) is here already, and what it would leave out (`nullable`, titles, formats it does not know) is not.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::core::crd::v1::CustomResourceExt;
use serde_json::{Value, json};

use super::common::NEVER_OBSERVED;
use super::{AppRegistration, MailboxCollector, MailboxCursor};

/// The three definitions, in the server's normal form.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![definition::<MailboxCollector>(), definition::<AppRegistration>(), definition::<MailboxCursor>()]
}

/// All definitions as one stream of YAML documents, as `kubectl apply --server-side -f -` takes it.
pub fn crds_yaml() -> String {
    crds().iter().map(document).collect()
}

/// File name and content for each kind: what lies in `crds/` and, byte for byte, in `charts/mailbox-collector/files/crds/`.
pub fn crd_files() -> Vec<(&'static str, String)> {
    let names = ["mailboxcollectors.yaml", "appregistrations.yaml", "mailboxcursors.yaml"];
    names.into_iter().zip(crds().iter().map(document)).collect()
}

fn definition<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut crd = K::crd();
    // Descriptions contain `${…}` at most by accident, but Flux's substitution would eat it silently; Flux's own definitions carry this too.
    crd.metadata.annotations.get_or_insert_default().insert("kustomize.toolkit.fluxcd.io/substitute".into(), "disabled".into());
    crd.spec.conversion = Some(CustomResourceConversion { strategy: "None".into(), webhook: None });
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut()) {
            normalise(schema);
            let properties = schema.properties.get_or_insert_default();
            for (name, description) in [
                ("apiVersion", "APIVersion defines the versioned schema of this representation of an object."),
                ("kind", "Kind is a string value representing the REST resource this object represents."),
                ("metadata", ""),
            ] {
                properties.insert(
                    name.into(),
                    JSONSchemaProps {
                        type_: Some(if name == "metadata" { "object" } else { "string" }.into()),
                        description: Some(description.to_owned()).filter(|text| !text.is_empty()),
                        ..JSONSchemaProps::default()
                    },
                );
            }
            if let Some(status) = properties.get_mut("status") {
                // kstatus calls an object without any status finished; with this it is in progress from its first moment (as in Flux).
                status.default = serde_json::from_value(json!({"observedGeneration": NEVER_OBSERVED})).ok();
            }
        }
    }
    crd
}

/// Takes out, all the way down, what the server would drop or warn of.
fn normalise(schema: &mut JSONSchemaProps) {
    schema.nullable = None; // a null is then pruned before the rules see it, so that `has()` means "given"
    schema.title = None;
    schema.default = None;
    if schema.format.as_deref().is_some_and(|format| !matches!(format, "int32" | "int64" | "date-time")) {
        schema.format = None;
    }
    if let Some(text) = &mut schema.description {
        *text = text.replace('\n', " ");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(normalise);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        normalise(items);
    }
}

fn document(crd: &CustomResourceDefinition) -> String {
    // By way of a `Value`, whose keys are sorted as the server's are.
    let written = serde_json::to_value(crd).map_err(|error| error.to_string()).and_then(|mut value| {
        whole_numbers(&mut value);
        serde_saphyr::to_string(&value).map_err(|error| error.to_string())
    });
    match written {
        Ok(yaml) => format!("---\n{yaml}"),
        Err(error) => unreachable!("a CustomResourceDefinition has only string keys and finite numbers: {error}"),
    }
}

/// Bounds are floating-point numbers in the type, and the server writes `1`, not `1.0`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            // `1.0` is written as `1` by way of its text: no cast that could lose anything.
            let whole = number.to_string().strip_suffix(".0").and_then(|digits| digits.parse::<i64>().ok());
            if let Some(integer) = whole {
                *value = integer.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
