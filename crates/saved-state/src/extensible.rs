//! A value that knows its length, so that later versions may append fields to it inside a list.

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use std::fmt;
use std::marker::PhantomData;

/// Saved as a length and the value's postcard bytes; bytes behind what the reader knows are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extensible<T>(pub T);

impl<T: Serialize> Serialize for Extensible<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&postcard::to_stdvec(&self.0).map_err(S::Error::custom)?)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Extensible<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Inner(PhantomData))
    }
}

struct Inner<T>(PhantomData<T>);

impl<T: DeserializeOwned> Visitor<'_> for Inner<T> {
    type Value = Extensible<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a saved value")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        postcard::take_from_bytes(bytes).map(|(value, _)| Extensible(value)).map_err(E::custom)
    }
}
