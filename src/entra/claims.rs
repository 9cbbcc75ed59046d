//! What a token says of itself. For diagnosis only: nothing is verified, and a token that cannot be read is as good as any other (Microsoft
//! keeps the right to make them opaque). Pure: no I/O, no clock.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Claims;

/// Most roles remembered; an app for mail has a handful.
const MOST_ROLES: usize = 32;
/// Longest value remembered, in bytes.
const LONGEST: usize = 256;

/// Reads the payload of a JWT; `readable: false` where it is none.
pub(super) fn read(token: &str) -> Claims {
    let Some(claims) = payload(token) else { return Claims::default() };
    let text = |name: &str| claims.get(name).and_then(first_text);
    Claims {
        audience: text("aud"),
        object_id: text("oid"),
        app_id: text("appid").or_else(|| text("azp")),
        tenant_id: text("tid"),
        roles: claims.get("roles").map(|roles| texts(roles).take(MOST_ROLES).collect()),
        delegated: claims.contains_key("scp"),
        readable: true,
    }
}

/// One claim that is a text, or the first of a list.
pub(super) fn one(token: &str, name: &str) -> Option<String> {
    payload(token)?.get(name).and_then(first_text)
}

fn payload(token: &str) -> Option<serde_json::Map<String, Value>> {
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    let [_header, payload, _signature] = parts.as_slice() else { return None };
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(claims)) => Some(claims),
        _ => None,
    }
}

fn first_text(value: &Value) -> Option<String> {
    texts(value).next()
}

/// The texts in a claim that is a text or a list of texts; others and overlong ones are left out.
fn texts(value: &Value) -> impl Iterator<Item = String> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => std::slice::from_ref(value),
    };
    let plain = |text: &&str| text.len() <= LONGEST && !text.chars().any(char::is_control);
    values.iter().filter_map(Value::as_str).filter(plain).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn the_claims_of_an_app_only_token_are_read() {
        // The shape of a real one: MailKit issue 1811.
        let claims = read(&token(
            r#"{"aud":"https://outlook.office365.com","appid":"app","oid":"sp","tid":"tenant","roles":["IMAP.AccessAsApp","SMTP.SendAsApp"],"ver":"1.0"}"#,
        ));
        assert_eq!(
            claims,
            Claims {
                audience: Some("https://outlook.office365.com".into()),
                object_id: Some("sp".into()),
                app_id: Some("app".into()),
                tenant_id: Some("tenant".into()),
                roles: Some(vec!["IMAP.AccessAsApp".into(), "SMTP.SendAsApp".into()]),
                delegated: false,
                readable: true,
            }
        );
    }

    #[test]
    fn odd_claims_are_read_as_far_as_they_go() {
        let bare = Claims { readable: true, ..Claims::default() };
        for (payload, expected) in [
            ("{}", bare.clone()),
            (r#"{"aud":["a","b"],"azp":"app"}"#, Claims { audience: Some("a".into()), app_id: Some("app".into()), ..bare.clone() }),
            (r#"{"roles":[],"scp":"IMAP.AccessAsUser.All"}"#, Claims { roles: Some(vec![]), delegated: true, ..bare.clone() }),
            (r#"{"roles":"IMAP.AccessAsApp"}"#, Claims { roles: Some(vec!["IMAP.AccessAsApp".into()]), ..bare.clone() }),
            (r#"{"roles":[1,"b","c\u0007"],"oid":7}"#, Claims { roles: Some(vec!["b".into()]), ..bare.clone() }),
        ] {
            assert_eq!(read(&token(payload)), expected, "{payload}");
        }
        let many = format!(r#"{{"roles":[{}"x"]}}"#, r#""r","#.repeat(1_000));
        assert_eq!(read(&token(&many)).roles.map(|roles| roles.len()), Some(MOST_ROLES));
    }

    #[test]
    fn an_opaque_token_is_merely_unreadable() {
        for opaque in ["", "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA", "a.b.c", "a.!!.c", "..", "a.e30.c.d.e", &token("[]"), &token("{")] {
            assert_eq!(read(opaque), Claims::default(), "{opaque}");
        }
    }
}
