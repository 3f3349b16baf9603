//! The web UI, embedded when the binary is built. Holds nothing secret: it is public.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, ETag, EntityTag, HeaderValue, IfNoneMatch},
    },
    web::{self, Bytes},
};
use data_encoding::HEXLOWER;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;

use super::error::Problem;

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Built;

const INDEX: &str = "index.html";

/// The folder of files that Vite names after their content, so that a name never changes its meaning.
const HASHED: &str = "assets/";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Pulsegate</title>\
    <h1>Pulsegate runs, without its web UI</h1>\
    <p>This binary was built before the UI was. <code>cargo xtask run</code> builds both and starts the demo.</p>";

/// Answers paths that no other route has: with a file of the UI, or 404.
pub async fn serve(request: HttpRequest, if_none_match: web::Header<IfNoneMatch>) -> Result<HttpResponse, Problem> {
    let path = request.path().trim_start_matches('/');
    let path = if path.is_empty() { INDEX } else { path };
    let file = Built::get(path);
    if file.is_none() && path != INDEX {
        return Err(Problem::not_found("There is nothing here."));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Problem::method_not_allowed(HeaderValue::from_static("GET, HEAD")));
    }
    Ok(shown(path, file, &if_none_match))
}

/// Answers with the UI's page, for a path of its own.
pub async fn index(if_none_match: web::Header<IfNoneMatch>) -> HttpResponse {
    shown(INDEX, Built::get(INDEX), &if_none_match)
}

fn shown(path: &str, file: Option<EmbeddedFile>, known: &IfNoneMatch) -> HttpResponse {
    match file {
        Some(file) => answer(path, file, known),
        None => HttpResponse::Ok().content_type("text/html").body(NOT_BUILT),
    }
}

fn answer(path: &str, file: EmbeddedFile, known: &IfNoneMatch) -> HttpResponse {
    let tag = EntityTag::new_strong(HEXLOWER.encode(&file.metadata.sha256_hash()));
    let cache = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let unchanged = match known {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|known| known.weak_eq(&tag)),
    };
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(ETag(tag)).insert_header((header::CACHE_CONTROL, cache));
    if unchanged {
        return response.finish();
    }
    let body = match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    response.content_type(file.metadata.mimetype()).body(body)
}

#[cfg(test)]
mod tests {
    use actix_web::{body::to_bytes, http::StatusCode};

    use super::*;

    #[actix_rt::test]
    async fn a_binary_without_the_ui_says_what_builds_it() {
        let response = shown(INDEX, None, &IfNoneMatch::Any);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "text/html");
        let body = to_bytes(response.into_body()).await.unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("without its web UI") && text.contains("cargo xtask run"), "{text}");
    }
}
