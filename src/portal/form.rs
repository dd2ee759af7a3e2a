//! Queries and forms (`application/x-www-form-urlencoded`), decoded once.
//!
//! A name that is given twice counts as not given: whoever writes `rd=…&rd=…` hopes that two readers
//! take different ones. Pure.

use std::borrow::Cow;

use crate::secret::Secret;

/// The sign-in form.
#[derive(Debug, Default)]
pub struct SignInForm {
    /// The log-in name.
    pub username: String,
    /// The password.
    pub password: Option<Secret<String>>,
    /// Whether the session is to outlive the browser.
    pub remember: bool,
    /// Where the person is going, and by which method they asked.
    pub way: Way,
}

impl SignInForm {
    /// Reads the form; what is missing is empty, what is unknown is ignored.
    pub fn read(body: &[u8]) -> SignInForm {
        SignInForm {
            username: value(body, "username").unwrap_or_default().into_owned(),
            password: value(body, "password")
                .filter(|password| !password.is_empty())
                .map(|it| Secret::new(it.into_owned())),
            remember: value(body, "remember").is_some_and(|it| it == "on"),
            way: Way::read(body),
        }
    }
}

/// Where a person is going (`rd`), and the method of the request that was stopped (`rm`), as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The return address; not checked. Empty if there is none.
    pub rd: String,
    /// The method; not checked. Empty if there is none.
    pub rm: String,
}

impl Way {
    /// Reads `rd` and `rm` from a query or a form.
    pub fn read(encoded: &[u8]) -> Way {
        Way {
            rd: value(encoded, "rd").unwrap_or_default().into_owned(),
            rm: value(encoded, "rm").unwrap_or_default().into_owned(),
        }
    }

    /// As a query, with its `?`; empty if there is nothing to say.
    pub fn as_query(&self) -> String {
        if self.rd.is_empty() {
            return String::new();
        }
        let mut query = form_urlencoded::Serializer::for_suffix(String::from("?"), 1);
        query.append_pair("rd", &self.rd);
        if !self.rm.is_empty() {
            query.append_pair("rm", &self.rm);
        }
        query.finish()
    }
}

/// The one value of `name`.
fn value<'a>(encoded: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let mut values = form_urlencoded::parse(encoded).filter(|(key, _)| key == name).map(|(_, value)| value);
    let first = values.next();
    if values.next().is_some() { None } else { first }
}

#[cfg(test)]
mod tests {
    use super::{SignInForm, Way};

    #[test]
    fn a_form_is_read() {
        let form = SignInForm::read(
            b"username=j%C3%B6hn+doe&password=a%26b%3D%2B&remember=on&rd=https%3A%2F%2Fa%2F&rm=POST&x=y",
        );
        assert_eq!(form.username, "jöhn doe");
        assert_eq!(form.password.unwrap().expose(), "a&b=+");
        assert!(form.remember);
        assert_eq!(form.way, Way { rd: "https://a/".to_owned(), rm: "POST".to_owned() });

        let empty = SignInForm::read(b"username=john&password=");
        assert!(empty.password.is_none() && !empty.remember && empty.way == Way::default());
    }

    #[test]
    fn what_is_given_twice_is_not_given() {
        assert_eq!(
            Way::read(b"rd=https%3A%2F%2Fa%2F&rd=https%3A%2F%2Fb%2F&rm=GET"),
            Way { rd: String::new(), rm: "GET".to_owned() }
        );
        assert!(SignInForm::read(b"username=a&username=b&password=x").username.is_empty());
        assert!(SignInForm::read(b"password=a&password=b").password.is_none());
    }

    #[test]
    fn a65_a_query_is_decoded_once_and_written_back_as_it_was() {
        let way = Way::read(b"rd=https%253A%252F%252Fevil.com&rm=GET");
        assert_eq!(way.rd, "https%3A%2F%2Fevil.com");
        assert_eq!(way.as_query(), "?rd=https%253A%252F%252Fevil.com&rm=GET");
        assert_eq!(Way::default().as_query(), "");
    }

    #[test]
    fn a105_a_password_does_not_print() {
        assert!(!format!("{:?}", SignInForm::read(b"password=hunter2")).contains("hunter2"));
    }
}
