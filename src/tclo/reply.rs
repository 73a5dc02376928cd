//! The one encoder of replies: `OK ` or `ERROR ` and a text (rpcChannel.c).

/// The answer to one TCLO request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `OK ` and a result, mostly empty.
    Ok(Vec<u8>),
    /// `ERROR ` and a text.
    Error(String),
}

impl Reply {
    /// `OK `.
    pub const fn ok() -> Self {
        Self::Ok(Vec::new())
    }

    /// The bytes for the channel, without trailing NUL.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ok(result) => [b"OK ".as_slice(), result].concat(),
            Self::Error(text) => [b"ERROR ".as_slice(), text.as_bytes()].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_result_is_three_bytes() {
        assert_eq!(Reply::ok().encode(), b"OK ");
        assert_eq!(Reply::Ok(b"ATR toolbox".to_vec()).encode(), b"OK ATR toolbox");
        assert_eq!(
            Reply::Error("Unknown Command".into()).encode(),
            b"ERROR Unknown Command"
        );
    }
}
