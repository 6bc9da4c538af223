//! Paths of the control socket, and those of HTTP.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Serialize;

use super::accept::Peer;
use super::protocol::{CANCEL, COMMAND, Envelope, HELLO, Hello, REQUEST_LEN_MAX, STOP, VERSION, VERSION_HEADER};
use super::service::Service;
use crate::error::{Error, ErrorKind};

/// What the control socket answers.
pub fn control(service: Arc<Service>) -> Router {
    Router::new()
        .route(COMMAND, post(command))
        .route(CANCEL, post(cancel))
        .route(STOP, post(stop))
        .route(HELLO, get(hello))
        .layer(DefaultBodyLimit::max(REQUEST_LEN_MAX))
        .with_state(service)
}

/// What HTTP answers: nothing that changes anything.
pub fn http(service: Arc<Service>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(service)
}

async fn command(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let theirs = headers.get(VERSION_HEADER).and_then(|version| version.to_str().ok());
    if theirs != Some(VERSION) {
        let message = format!("cannot ask the daemon: it has version {VERSION}, this is {}", theirs.unwrap_or("none"));
        let error =
            Error::new(ErrorKind::Failed, message).with_hint("`filesync stop` ends it, and `serve` starts anew");
        return json(StatusCode::UPGRADE_REQUIRED, &error);
    }
    let envelope: Envelope = match serde_json::from_slice(&body) {
        Ok(envelope) => envelope,
        Err(error) => {
            let error = Error::new(ErrorKind::Usage, format!("cannot understand the request: {error}"));
            return json(StatusCode::BAD_REQUEST, &error);
        }
    };
    match service.take_on(envelope, peer.pid) {
        Some(lines) => Response::new(Body::new(lines)),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn cancel(State(service): State<Arc<Service>>, body: String) -> StatusCode {
    if service.cancel(&body) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

async fn stop(State(service): State<Arc<Service>>) -> Response {
    service.stop();
    hello(State(service)).await
}

async fn hello(State(service): State<Arc<Service>>) -> Response {
    let http = service.http.map(|address| address.to_string());
    json(StatusCode::OK, &Hello { version: VERSION.to_owned(), pid: std::process::id(), http })
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(service): State<Arc<Service>>) -> Response {
    // The store may be about to be opened anew.
    match tokio::task::spawn_blocking(move || service.ready()).await.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    // It looks into the index.
    let metrics = tokio::task::spawn_blocking(move || service.metrics()).await;
    match metrics {
        Ok(text) => ([("content-type", "text/plain; version=0.0.4")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => (status, [("content-type", "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
