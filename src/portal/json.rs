//! The JSON that the API takes.
//!
//! Unknown members are ignored, as existing clients send some.

use serde::{Deserialize, Deserializer};

use crate::secret::Secret;

/// `POST /api/firstfactor`.
#[derive(Debug, Deserialize)]
pub struct FirstFactor {
    /// The log-in name: a user name, or whatever else the back end takes.
    pub username: String,
    /// The password.
    #[serde(deserialize_with = "secret")]
    pub password: Secret<String>,
    /// Whether the session is to outlive the browser.
    #[serde(rename = "keepMeLoggedIn", default, deserialize_with = "or_default")]
    pub remember: bool,
    /// Where to go afterwards.
    #[serde(rename = "targetURL", default, deserialize_with = "or_default")]
    pub target: String,
    /// The method of the request that led here.
    #[serde(rename = "requestMethod", default, deserialize_with = "or_default")]
    pub method: String,
}

/// `POST /api/logout`.
#[derive(Debug, Default, Deserialize)]
pub struct Logout {
    /// Where to go afterwards.
    #[serde(rename = "targetURL", default, deserialize_with = "or_default")]
    pub target: String,
}

/// `POST /api/checks/safe-redirection`.
#[derive(Debug, Deserialize)]
pub struct SafeRedirection {
    /// The address asked about.
    pub uri: String,
}

/// `null` counts as absent, as in the clients' own language.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::{FirstFactor, Logout};

    #[test]
    fn a_sign_in_is_read_as_existing_clients_write_it() {
        let full = br#"{"username":"john","password":"p","keepMeLoggedIn":true,"targetURL":"https://a.example.com/",
            "requestMethod":"GET","flow":"","userCode":null,"somethingNew":{"a":[1]}}"#;
        let read: FirstFactor = serde_json::from_slice(full).unwrap();
        assert_eq!((read.username.as_str(), read.password.expose().as_str(), read.remember), ("john", "p", true));
        assert_eq!((read.target.as_str(), read.method.as_str()), ("https://a.example.com/", "GET"));

        let bare = br#"{"username":"john","password":"p","targetURL":null,"keepMeLoggedIn":null}"#;
        let read: FirstFactor = serde_json::from_slice(bare).unwrap();
        assert_eq!((read.remember, read.target.as_str(), read.method.as_str()), (false, "", ""));
    }

    #[test]
    fn what_is_no_sign_in_is_refused() {
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"username":"john"}"#,
            r#"{"password":"p"}"#,
            r#"{"username":null,"password":"p"}"#,
            r#"{"username":"john","password":["p"]}"#,
            r#"{"username":"john","username":"mary","password":"p"}"#,
            r#"{"username":"john","password":"p"} trailing"#,
            "username=john&password=p",
        ] {
            assert!(serde_json::from_slice::<FirstFactor>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a105_a_password_does_not_print() {
        let read: FirstFactor = serde_json::from_slice(br#"{"username":"john","password":"hunter2"}"#).unwrap();
        assert!(!format!("{read:?}").contains("hunter2"));
    }

    #[test]
    fn a_log_out_needs_no_target() {
        assert_eq!(serde_json::from_slice::<Logout>(b"{}").unwrap().target, "");
    }
}
