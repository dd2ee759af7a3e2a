//! A value that must not be seen: a password, a key, a cookie.
//!
//! It prints as `***`, is wiped when dropped, and is compared in constant time. Reading it takes the
//! word `expose`, so that every place that does can be found by searching for it.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A secret of type `T`.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes charge of `value`.
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value itself. It must not be logged, printed or stored as it is.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Secret<T>) -> bool {
        self.0.as_ref().ct_eq(other.0.as_ref()).into()
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Secret<T> {
        Secret(value)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(format!("{:?}", Some(secret)), "Some(***)");
    }

    #[test]
    fn equal_secrets_are_equal() {
        assert_eq!(Secret::new(String::from("a")), Secret::new(String::from("a")));
        assert_ne!(Secret::new(String::from("a")), Secret::new(String::from("ab")));
    }
}
