//! What the host answers: `1 ` or `0 `, and a value or a text (rpcout.c).

/// A well-formed reply. The rest is raw: it may be binary, and carries no NUL by contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `1 `: executed.
    Accepted(&'a [u8]),
    /// `0 `: understood and rejected.
    Refused(&'a [u8]),
}

impl<'a> Reply<'a> {
    /// Reads a reply; `None` when it has neither prefix.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes {
            [b'1', b' ', rest @ ..] => Some(Self::Accepted(rest)),
            [b'0', b' ', rest @ ..] => Some(Self::Refused(rest)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn row_20_malformed_replies() {
        for bytes in [
            b"".as_slice(),
            b"1",
            b"0",
            b"1x",
            b"10",
            b"2 ok",
            b"\0\0\0",
            b" 1 ",
            b"\xff\xfe",
            b"OK ",
        ] {
            assert_eq!(Reply::parse(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_rest_is_raw() {
        assert_eq!(Reply::parse(b"1 "), Some(Reply::Accepted(b"")));
        assert_eq!(Reply::parse(b"1 a\0\xff"), Some(Reply::Accepted(b"a\0\xff")));
        assert_eq!(
            Reply::parse(b"0 Unknown command"),
            Some(Reply::Refused(b"Unknown command"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            match Reply::parse(&bytes) {
                Some(Reply::Accepted(rest)) => prop_assert_eq!([b"1 ".as_slice(), rest].concat(), bytes),
                Some(Reply::Refused(rest)) => prop_assert_eq!([b"0 ".as_slice(), rest].concat(), bytes),
                None => prop_assert!(!bytes.starts_with(b"1 ") && !bytes.starts_with(b"0 ")),
            }
        }
    }
}
