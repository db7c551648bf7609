//! JSON-RPC 1.0 as `ovs-appctl` speaks it: JSON objects one after the other on a stream, without framing.

use serde_json::{Map, Value};
use thiserror::Error;

/// Bytes of one message, at most. A connection that sends more is closed.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Why a connection cannot go on. There is no way to find the next message, so it is closed, without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    #[error("message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    #[error("error parsing stream: {0}")]
    Syntax(String),
    #[error("message is not a JSON object")]
    NotObject,
    #[error("received bad JSON-RPC message: {0}")]
    NotRequest(&'static str),
    #[error("received unexpected {0} message")]
    Unexpected(&'static str),
}

/// A request: JSON-RPC's `method`, `params` and `id` (any JSON value but null).
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    pub params: Vec<Value>,
    pub id: Value,
}

impl Call {
    /// The arguments, if all are strings.
    pub fn args(&self) -> Option<Vec<String>> {
        self.params.iter().map(|p| p.as_str().map(str::to_owned)).collect()
    }
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    scan: Scan,
}

/// Where in a message the scanner is; `at` bytes of the buffer were looked at.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Looks for the end of the object that starts at the buffer's first byte.
    fn object_end(&mut self, buffer: &[u8]) -> Option<usize> {
        for (i, &byte) in buffer.iter().enumerate().skip(self.at) {
            if self.step(byte) {
                return Some(i + 1);
            }
        }
        self.at = buffer.len();
        None
    }

    /// Takes one byte; true if it closes the outermost bracket.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl Decoder {
    /// Adds bytes as they came from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole request, `None` if more bytes are needed. After an error the stream is lost.
    pub fn next_call(&mut self) -> Result<Option<Call>, ProtocolError> {
        if self.scan.at == 0 {
            let blank = self.buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            self.buffer.drain(..blank);
        }
        match self.buffer.first() {
            None => return Ok(None),
            Some(b'{') => {}
            Some(_) => return Err(ProtocolError::NotObject),
        }
        let Some(end) = self.scan.object_end(&self.buffer) else {
            return if self.buffer.len() > MAX_MESSAGE { Err(ProtocolError::TooLong) } else { Ok(None) };
        };
        if end > MAX_MESSAGE {
            return Err(ProtocolError::TooLong);
        }
        self.scan = Scan::default();
        let message: Vec<u8> = self.buffer.drain(..end).collect();
        let object = serde_json::from_slice(&message).map_err(|e| ProtocolError::Syntax(e.to_string()))?;
        parse_call(object).map(Some)
    }
}

/// Sorts a message into JSON-RPC's kinds; only a request is welcome here.
fn parse_call(mut object: Map<String, Value>) -> Result<Call, ProtocolError> {
    use ProtocolError::{NotRequest, Unexpected};
    let mut take = |key| object.shift_remove(key).filter(|v| !v.is_null());
    let (method, params, id) = (take("method"), take("params"), take("id"));
    let (result, error) = (take("result"), take("error"));
    if !object.is_empty() {
        return Err(NotRequest("unexpected member"));
    }
    let Some(method) = method else {
        return Err(match (result, error) {
            (Some(_), None) => Unexpected("reply"),
            (None, Some(_)) => Unexpected("error"),
            _ => NotRequest("invalid JSON-RPC message"),
        });
    };
    if result.is_some() || error.is_some() {
        return Err(NotRequest("a request has neither result nor error"));
    }
    let Value::String(method) = method else { return Err(NotRequest("\"method\" is not JSON string")) };
    let Some(Value::Array(params)) = params else { return Err(NotRequest("\"params\" must be JSON array")) };
    let id = id.ok_or(Unexpected("notification"))?;
    Ok(Call { method, params, id })
}

/// The bytes of a reply. A text that is not empty ends with a newline.
pub fn encode_reply(id: Value, reply: Result<String, String>) -> Vec<u8> {
    let line = |mut text: String| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Value::String(text)
    };
    let (result, error) = match reply {
        Ok(text) => (line(text), Value::Null),
        Err(text) => (Value::Null, line(text)),
    };
    let members = [("error", error), ("id", id), ("result", result)];
    let object: Map<String, Value> = members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Value::Object(object).to_string().into_bytes()
}

/// Fuzz entry: any bytes, cut anywhere (the first byte says how), end in requests or one error.
pub fn fuzz(data: &[u8]) {
    let Some((&step, rest)) = data.split_first() else { return };
    let mut decoder = Decoder::default();
    for chunk in rest.chunks(usize::from(step).max(1)) {
        decoder.push(chunk);
        loop {
            match decoder.next_call() {
                Ok(Some(call)) => {
                    drop(encode_reply(call.id.clone(), call.args().map(|a| a.concat()).ok_or(call.method)))
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn decode(bytes: &[u8]) -> Result<Vec<Call>, ProtocolError> {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        let mut calls = Vec::new();
        while let Some(call) = decoder.next_call()? {
            calls.push(call);
        }
        Ok(calls)
    }

    #[test]
    fn two_requests_in_one_read() {
        let calls =
            decode(br#"{"id":0,"method":"a","params":["}\"{"]} {"params":[1],"method":"b","id":"x"}"#);
        let calls = calls.unwrap();
        assert_eq!(calls[0], Call { method: "a".into(), params: vec![json!("}\"{")], id: json!(0) });
        assert_eq!(calls[0].args(), Some(vec!["}\"{".to_owned()]));
        assert_eq!((calls[1].id.clone(), calls[1].args()), (json!("x"), None));
    }

    #[test]
    fn what_is_not_a_request_ends_the_connection() {
        use ProtocolError::*;
        for (text, error) in [
            ("garbage", NotObject),
            ("[]", NotObject),
            (r#"{"id":null,"method":"a","params":[]}"#, Unexpected("notification")),
            (r#"{"id":1,"result":"x","error":null}"#, Unexpected("reply")),
            (r#"{"id":1,"method":3,"params":[]}"#, NotRequest("\"method\" is not JSON string")),
            (r#"{"id":1,"method":"a","params":{}}"#, NotRequest("\"params\" must be JSON array")),
            (r#"{"id":1,"method":"a","params":[],"zz":1}"#, NotRequest("unexpected member")),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(error), "{text}");
        }
        assert!(matches!(decode(br#"{"id"}"#), Err(Syntax(_))));
        assert!(matches!(decode(b"{]"), Err(Syntax(_))));
        assert!(matches!(
            decode(&[b"{\"a\":".repeat(500), b"1".to_vec(), b"}".repeat(500)].concat()),
            Err(Syntax(_))
        ));
        assert_eq!(decode(&[b"{\"".to_vec(), vec![b'a'; MAX_MESSAGE]].concat()), Err(TooLong));
    }

    #[test]
    fn replies_end_with_a_newline() {
        let text = |r| String::from_utf8(encode_reply(json!(7), r)).unwrap();
        assert_eq!(text(Ok("x".into())), r#"{"error":null,"id":7,"result":"x\n"}"#);
        assert_eq!(text(Ok(String::new())), r#"{"error":null,"id":7,"result":""}"#);
        assert_eq!(text(Err("bad\n".into())), r#"{"error":"bad\n","id":7,"result":null}"#);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_calls(method in ".*", args in prop::collection::vec(".*", 0..4), step in 1usize..20) {
            let message = json!({"method": method, "params": args, "id": 3}).to_string();
            let whole = decode(message.as_bytes()).unwrap();
            prop_assert_eq!(whole[0].args(), Some(args));
            let mut decoder = Decoder::default();
            let mut cut = Vec::new();
            for chunk in message.as_bytes().chunks(step) {
                decoder.push(chunk);
                cut.extend(decoder.next_call().unwrap());
            }
            prop_assert_eq!(whole, cut);
        }

        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&data);
        }

        #[test]
        fn any_json_like_bytes_are_survived(data in r#"[{}\[\]":,a0\\ ]{0,80}"#) {
            fuzz(data.as_bytes());
        }
    }
}
