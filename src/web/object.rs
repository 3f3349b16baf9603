//! JSON input that must be an object. A struct alone would also be read from an array of its values, whose meaning
//! would change with each added field. Does not know any body or frame.

use std::{fmt, marker::PhantomData, ops::Deref};

use actix_web::{Error, FromRequest, HttpRequest, dev::Payload, web};
use futures_util::future::LocalBoxFuture;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A value that was read from an object.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// The body of a request, an object. As an extractor it fails as [`web::Json`] does.
pub struct Body<T>(pub T);

impl<T> Body<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Body<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let read = web::Json::<Object<T>>::from_request(request, payload);
        Box::pin(async move { Ok(Self(read.await?.into_inner().0)) })
    }
}

/// Describes an error in terms of JSON; serde's own are in terms of Rust.
pub fn in_words(error: &serde_json::Error) -> String {
    const WORDS: [(&str, &str); 9] = [
        ("expected u8", "expected a whole number from 0"),
        ("expected u16", "expected a whole number from 0"),
        ("expected u32", "expected a whole number from 0"),
        ("expected u64", "expected a whole number from 0"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("invalid type: floating point", "invalid type: number"),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
    ];
    let told = error.to_string();
    let told = match told.rsplit_once("expected struct ") {
        Some((before, behind)) => {
            let place = behind.find(" at line").and_then(|at| behind.get(at..)).unwrap_or_default();
            format!("{before}expected an object{place}")
        }
        None => told,
    };
    WORDS.iter().fold(told, |told, (rust, json)| told.replace(rust, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        rows: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        cols: f64,
        #[serde(default)]
        inner: Option<Inner>,
    }

    fn read(text: &str) -> Result<Outer, String> {
        serde_json::from_str::<Object<Outer>>(text).map(|object| object.0).map_err(|error| in_words(&error))
    }

    #[test]
    fn only_an_object_is_one() {
        let outer = read(r#"{"cols":80,"inner":{"rows":24}}"#).unwrap();
        assert!((outer.cols - 80.0).abs() < f64::EPSILON && outer.inner.unwrap().rows == 24);
        for (text, words) in [
            ("[80]", "invalid type: list, expected an object at line 1"),
            ("7", "expected an object"),
            (r#"{"cols":1,"inner":{"rows":1.5}}"#, "invalid type: number `1.5`, expected a whole number from 0"),
            (r#"{"cols":"x"}"#, "expected a number at line 1 column"),
            (r#"{"cols":1,"inner":7}"#, "expected an object at line 1 column"),
            (r#"{"cols":1,"inner":{"rows":-1}}"#, "expected a whole number from 0 at line 1 column"),
            (r#"{"cols":1,"rows":1}"#, "unknown field `rows`"),
            (r#"{"cols":1} x"#, "trailing characters"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
