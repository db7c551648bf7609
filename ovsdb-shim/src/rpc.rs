//! JSON-RPC 1.0 over a byte stream: RFC 7047 section 4. Objects follow each other without any delimiter.

use bytes::{Buf, BytesMut};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Longest message taken from a server. A database of 10,000 ports is some 20 MB.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Why a peer's bytes cannot be understood. The connection is of no further use then.
#[derive(Debug, Error)]
pub enum RpcError {
    #[error("message longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    #[error("not a JSON object at {0:?}")]
    NotAnObject(char),
    #[error("error parsing stream: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not a JSON-RPC message")]
    NotAMessage,
}

/// One message. `id` of a notification is null.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Request { method: String, params: Value, id: Value },
    Reply { id: Value, result: Result<Value, Value> },
}

impl Message {
    pub fn parse(text: &[u8]) -> Result<Message, RpcError> {
        let mut object: Map<String, Value> = serde_json::from_slice(text)?;
        let mut take = |key: &str| object.remove(key).unwrap_or(Value::Null);
        let (method, id) = (take("method"), take("id"));
        match (method, take("error"), take("result")) {
            (Value::String(method), Value::Null, Value::Null) => {
                Ok(Message::Request { method, params: take("params"), id })
            }
            (Value::Null, _, _) if id.is_null() => Err(RpcError::NotAMessage),
            (Value::Null, Value::Null, result) => Ok(Message::Reply { id, result: Ok(result) }),
            (Value::Null, error, _) => Ok(Message::Reply { id, result: Err(error) }),
            _ => Err(RpcError::NotAMessage),
        }
    }
}

/// The text of a request.
pub(crate) fn request(method: &str, params: Value, id: u64) -> String {
    json!({"method": method, "params": params, "id": id}).to_string()
}

/// The text of a successful reply.
pub(crate) fn reply(result: Value, id: Value) -> String {
    json!({"result": result, "error": null, "id": id}).to_string()
}

/// Cuts a byte stream into the texts of JSON objects.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Bytes of the buffer already looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole object, if all of it is there. After an error the stream is lost.
    pub fn next_object(&mut self) -> Result<Option<BytesMut>, RpcError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if self.depth == 0 && byte.is_ascii_whitespace() {
                self.buffer.advance(1);
                continue;
            }
            self.scanned += 1;
            if self.scanned > MESSAGE_BYTES_MAX {
                return Err(RpcError::TooLong);
            }
            if self.step(byte)? {
                return Ok(Some(self.buffer.split_to(std::mem::take(&mut self.scanned))));
            }
        }
        Ok(None)
    }

    /// Looks at one byte; true at the end of an object.
    fn step(&mut self, byte: u8) -> Result<bool, RpcError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'{' | b'[' if self.depth > 0 || byte == b'{' => self.depth += 1,
            _ if self.depth == 0 => return Err(RpcError::NotAnObject(char::from(byte))),
            b'"' => self.in_string = true,
            b'}' | b']' => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            _ => {}
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages() {
        let echo = Message::parse(br#"{"method":"echo","params":[],"id":"echo"}"#).unwrap();
        assert!(matches!(echo, Message::Request { ref method, .. } if method == "echo"));
        let ok = Message::parse(br#"{"id":1,"result":{},"error":null}"#).unwrap();
        assert_eq!(ok, Message::Reply { id: json!(1), result: Ok(json!({})) });
        let failed = Message::parse(br#"{"id":1,"result":null,"error":"no"}"#).unwrap();
        assert_eq!(failed, Message::Reply { id: json!(1), result: Err(json!("no")) });
        for bad in ["{}", "[]", r#"{"result":1}"#, r#"{"method":"m","result":1}"#, "{x}"] {
            assert!(Message::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn not_an_object() {
        for bad in ["x", "[", "\"", "]"] {
            let mut f = Framer::default();
            f.push(bad.as_bytes());
            assert!(f.next_object().is_err(), "{bad}");
        }
    }

    proptest! {
        /// However the stream is cut into reads, the same objects come out.
        #[test]
        fn cuts_do_not_matter(values in proptest::collection::vec("[a{}\\[\\]\"\\\\é]{0,8}", 1..6),
                              size in 1usize..20) {
            let texts: Vec<String> = values.iter().map(|v| json!({"k": [v]}).to_string()).collect();
            let stream = texts.join(" \n");
            let (mut f, mut got) = (Framer::default(), vec![]);
            for chunk in stream.as_bytes().chunks(size) {
                f.push(chunk);
                while let Some(object) = f.next_object().unwrap() {
                    got.push(String::from_utf8(object.to_vec()).unwrap());
                }
            }
            prop_assert_eq!(got, texts);
        }
    }
}
