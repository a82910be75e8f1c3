//! Any requests to the API's router: an answer to each, refusals change nothing and are one line,
//! and what is in force afterwards can be exported and imported without a change.
#![no_main]

use axum::http::StatusCode;
use libfuzzer_sys::{Corpus, fuzz_target};
use netroute_fuzz::agent::{Agent, Answer};
use netroute_fuzz::routes::{one_line, survive_an_export, survive_the_state_file};
use netroute_user::api::path;
use netroute_user::api::types::{ErrorView, ImportView, RouteEntry};
use tokio::runtime::{Builder, Runtime};

thread_local!(static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime"));

const MOST_REQUESTS: usize = 8;

// Requests with a zero byte between them; each begins with a line `METHOD PATH`, the rest is its body.
fuzz_target!(|data: &[u8]| -> Corpus {
    let mut agent = Agent::default();
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut served = 0;
            for request in data.split(|&byte| byte == 0).take(MOST_REQUESTS) {
                served += usize::from(one(&mut agent, request).await.is_some());
            }
            if served == 0 {
                return Corpus::Reject;
            }
            afterwards(&mut agent).await;
            Corpus::Keep
        })
    })
});

async fn one(agent: &mut Agent, request: &[u8]) -> Option<()> {
    let mut parts = request.splitn(2, |&byte| byte == b'\n');
    let (method, uri) = std::str::from_utf8(parts.next()?).ok()?.split_once(' ')?;
    let body = parts.next().unwrap_or_default();
    let before = agent.sources.cli.clone();
    let Answer { status, body } = agent.serve(method, uri, body).await?;
    assert!(status.is_success() || status.is_client_error(), "{status}");
    if method == "GET" || !status.is_success() {
        assert_eq!(agent.sources.cli, before, "{method} {uri} with {status} changed the routes");
    }
    if status == StatusCode::UNPROCESSABLE_ENTITY
        && let Ok(ErrorView { message }) = serde_json::from_slice(&body)
    {
        one_line(&message);
    }
    Some(())
}

/// What is in force goes out and comes in again.
async fn afterwards(agent: &mut Agent) {
    let routes: Vec<_> = agent.sources.cli.values().cloned().collect();
    survive_the_state_file(&routes, None);
    let exported = agent.serve("GET", path::EXPORT, b"").await.expect("an export");
    let entries: Vec<RouteEntry> = serde_json::from_slice(&exported.body).expect("entries");
    assert_eq!(entries.len(), routes.len());
    survive_an_export(&entries);
    let lines: Vec<_> = entries.iter().map(|entry| serde_json::to_string(entry).expect("JSON")).collect();
    let imported = agent.serve("POST", path::IMPORT, lines.join("\n").as_bytes()).await.expect("an import");
    let view: ImportView = serde_json::from_slice(&imported.body).expect("what the import changed");
    assert_eq!((view.added, view.changed), (0, 0), "an export comes in without a change");
    assert_eq!(agent.sources.cli.values().cloned().collect::<Vec<_>>(), routes);
}
