//! Front mode: clients talk to Luge for everything, and notice it nowhere but in sliding sync.

#![recursion_limit = "256"]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use luge_e2e::harness::account::{PASSWORD, escaped};
use luge_e2e::harness::raw::SIMPLIFIED;
use luge_e2e::harness::stack::{SharedStack, Stack, synapse_is_the_target};
use reqwest::{Method, Response};
use serde_json::{Value, json};

static SERVERS: SharedStack = SharedStack::new();

/// Synapse offers these to clients here, and Luge cannot serve them through sync.
const MASKED: [&str; 3] = ["org.matrix.msc4306", "org.matrix.msc4262", "org.matrix.msc4354"];

async fn servers() -> Result<Stack> {
    SERVERS.get(true).await
}

fn nothing() -> Duration {
    Duration::ZERO
}

/// Goal: a client that asks whether the server has sliding sync is told so, and is not told of
/// features that depend on sync and that Luge does not serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_offer_sliding_sync_and_mask_what_cannot_be_served() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let path = "/_matrix/client/versions";
    let features = async |url: &str, token: Option<&str>| -> Result<Value> {
        let mut request = stack.http().get(format!("{url}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        Ok(request.send().await?.error_for_status()?.json::<Value>().await?)
    };
    let upstream = features(stack.homeserver_url(), None).await?;
    for token in [None, Some(alice.token.as_str())] {
        let versions = features(stack.url(), token).await?;
        let unstable = &versions["unstable_features"];
        ensure!(unstable["org.matrix.simplified_msc3575"] == true, "{versions}");
        ensure!(versions["versions"] == upstream["versions"], "{versions} is not {upstream}");
        if synapse_is_the_target() {
            continue;
        }
        for feature in MASKED {
            ensure!(
                unstable.get(feature).is_none_or(|offered| offered == false),
                "{feature} is offered"
            );
        }
        ensure!(unstable["org.matrix.e2e_cross_signing"] == true, "too much is masked: {versions}");
    }
    ensure!(
        upstream["unstable_features"]["org.matrix.msc4306"] == true,
        "nothing to mask: {upstream}"
    );
    Ok(())
}

/// Goal: an SDK that believes what the log-in or the well-known document says ends up at Luge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_in_and_well_known_lead_to_the_front() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let login = stack
        .http()
        .post(format!("{}/_matrix/client/v3/login", stack.url()))
        .json(&json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": alice.name },
            "password": PASSWORD,
        }))
        .send()
        .await?;
    ensure!(login.status() == 200, "log-in: {}", login.status());
    let login: Value = login.json().await?;
    let named = login["well_known"]["m.homeserver"]["base_url"].as_str();
    ensure!(named.is_none_or(|url| url.trim_end_matches('/') == stack.url()), "{login}");
    ensure!(login["access_token"].is_string() && login["user_id"] == alice.user_id, "{login}");

    let well_known: Value = stack
        .http()
        .get(format!("{}/.well-known/matrix/client", stack.url()))
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let named = well_known["m.homeserver"]["base_url"].as_str().unwrap_or_default();
    ensure!(named.trim_end_matches('/') == stack.url(), "{well_known}");
    Ok(())
}

/// Goal: bodies much larger than a sync request pass in both directions, byte for byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_media_passes_both_ways_unchanged() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(3 * 1024 * 1024 + 1)
    .collect();
    let uploaded: Value = stack
        .http()
        .post(format!("{}/_matrix/media/v3/upload?filename=a%20b.bin", stack.url()))
        .bearer_auth(&alice.token)
        .header("content-type", "application/octet-stream")
        .body(bytes.clone())
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let address = uploaded["content_uri"].as_str().context("no address for the upload")?;
    let media = address.strip_prefix("mxc://").context("not a media address")?;
    let downloaded = stack
        .http()
        .get(format!("{}/_matrix/client/v1/media/download/{media}", stack.url()))
        .bearer_auth(&alice.token)
        .send()
        .await?
        .error_for_status()?;
    ensure!(downloaded.headers()["content-type"] == "application/octet-stream");
    ensure!(downloaded.bytes().await? == bytes, "the download is not what was uploaded");
    Ok(())
}

/// Goal: what Luge has no part in is answered as the homeserver answers it, errors included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_are_answered_by_the_homeserver() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let paths = [
        "/_matrix/client/v3/no/such/thing?with=a%2Fquery",
        "/_matrix/client/v3/capabilities",
        "/_matrix/client/v3/pushrules/",
        "/_matrix/client/v3/profile/%40nobody%3Alocalhost",
        "/_matrix/client/v3/devices",
    ];
    for path in paths {
        let ask = async |url: &str| -> Result<(u16, Value)> {
            let request = stack.http().get(format!("{url}{path}")).bearer_auth(&alice.token);
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            let mut body: Value = answer.json().await?;
            // Changes with each request.
            for device in body["devices"].as_array_mut().into_iter().flatten() {
                device["last_seen_ts"].take();
            }
            Ok((status, body))
        };
        let (here, there) = (ask(stack.url()).await?, ask(stack.homeserver_url()).await?);
        ensure!(here == there, "{path}: {here:?}, but the homeserver says {there:?}");
    }
    Ok(())
}

/// Goal: a browser is allowed to post to sliding sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_may_ask_before_it_posts() -> Result<()> {
    let stack = servers().await?;
    let answer = stack
        .http()
        .request(Method::OPTIONS, format!("{}{SIMPLIFIED}?timeout=0", stack.url()))
        .header("origin", "https://app.example.org")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
        .send()
        .await?;
    ensure!(matches!(answer.status().as_u16(), 200 | 204), "{}", answer.status());
    ensure!(header(&answer, "access-control-allow-origin") == "*");
    ensure!(header(&answer, "access-control-allow-methods").contains("POST"));
    let headers = header(&answer, "access-control-allow-headers").to_lowercase();
    for needed in ["authorization", "content-type"] {
        ensure!(headers.contains(needed), "{headers} lacks {needed}");
    }
    Ok(())
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Posts to sliding sync and fails unless the answer is this error, with what every error carries.
async fn refused(
    stack: &Stack,
    token: Option<&str>,
    query: &str,
    body: impl Into<reqwest::Body>,
    wanted: (u16, &str),
) -> Result<()> {
    let mut request = stack.http().post(format!("{}{SIMPLIFIED}{query}", stack.url())).body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let kind = header(&answer, "content-type").to_owned();
    let origin = header(&answer, "access-control-allow-origin").to_owned();
    let body: Value = answer.json().await.context("the error is not JSON")?;
    let context = format!("{query}: {status} {kind} {origin} {body}, not {wanted:?}");
    ensure!((status, body["errcode"].as_str().unwrap_or_default()) == wanted, context);
    ensure!(body["error"].is_string(), context);
    ensure!(kind.starts_with("application/json") && origin == "*", context);
    Ok(())
}

/// Goal: each refusal has the status and the code by which clients decide what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_carry_the_codes_that_clients_act_on() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let token = Some(alice.token.as_str());
    refused(&stack, None, "", "{}", (401, "M_MISSING_TOKEN")).await?;
    refused(&stack, Some("syt_bm9ib2R5_unknown"), "", "{}", (401, "M_UNKNOWN_TOKEN")).await?;
    refused(&stack, token, "", "{not json", (400, "M_NOT_JSON")).await?;
    refused(&stack, token, "", "", (400, "M_NOT_JSON")).await?;
    refused(&stack, token, "", "[]", (400, "M_BAD_JSON")).await?;
    refused(&stack, token, "?timeout=soon", "{}", (400, "M_INVALID_PARAM")).await?;
    if !synapse_is_the_target() {
        refused(&stack, token, "", r#"{"lists":5}"#, (400, "M_BAD_JSON")).await?;
        let large = json!({ "txn_id": "x".repeat(2 * 1024 * 1024) }).to_string();
        refused(&stack, token, "", large, (413, "M_TOO_LARGE")).await?;
    }
    for foreign in ["25/s989_123_4", "garbage", "1", "%00", "0/0", "99999999999999999999"] {
        // Synapse says M_INVALID_PARAM or worse to some of these, and clients then ask for ever.
        if !synapse_is_the_target() {
            let query = format!("?pos={foreign}");
            refused(&stack, token, &query, "{}", (400, "M_UNKNOWN_POS")).await?;
        }
    }
    Ok(())
}

/// Goal: another method than POST is refused as such.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_methods_are_refused() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let url = format!("{}{SIMPLIFIED}", stack.url());
        let answer =
            stack.http().request(method.clone(), url).bearer_auth(&alice.token).send().await?;
        ensure!(answer.status() == 405, "{method}: {}", answer.status());
        let body: Value = answer.json().await?;
        ensure!(body["errcode"] == "M_UNRECOGNIZED", "{method}: {body}");
    }
    Ok(())
}

/// Goal: positions belong to one device: another device of the same user cannot use them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_devices_position_is_unknown() -> Result<()> {
    let stack = servers().await?;
    if synapse_is_the_target() {
        // Its positions of connections without rooms are good for anybody.
        return Ok(());
    }
    let alice = stack.account("alice").await?;
    let (other, bob) = (alice.another_device().await?, stack.account("bob").await?);
    let body = json!({ "lists": { "all": {
        "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [],
    } } });
    let first = alice.sliding(stack.url()).sync("one", body.clone(), None, nothing()).await?;
    let pos = first.pos()?;
    for device in [&other, &bob] {
        let answer =
            device.sliding(stack.url()).sync("one", body.clone(), Some(pos), nothing()).await?;
        ensure!(answer.status == 400 && answer.errcode() == "M_UNKNOWN_POS", "{}", answer.value);
    }
    let next = alice.sliding(stack.url()).sync("one", body, Some(pos), nothing()).await?;
    ensure!(next.status == 200, "its own device's position was lost: {}", next.value);
    Ok(())
}

/// Goal: after a log-out through Luge, the token gets nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logged_out_token_is_refused() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let client = alice.sliding(stack.url());
    let first = client.sync("one", json!({}), None, nothing()).await?;
    ensure!(first.status == 200, "{}", first.value);
    alice.at(stack.url()).call(Method::POST, "logout", &json!({})).await?;
    let next = client.sync("one", json!({}), Some(first.pos()?), nothing()).await?;
    ensure!(next.status == 401 && next.errcode() == "M_UNKNOWN_TOKEN", "{}", next.value);
    Ok(())
}

/// Goal: a refreshed token goes on where the old one was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refreshed_token_inherits_the_connection() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let front = alice.at(stack.url());
    let login = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": alice.name },
        "password": PASSWORD,
        "refresh_token": true,
    });
    let session = front.call(Method::POST, "login", &login).await?;
    let token = session["access_token"].as_str().context("no token")?;
    let refresh = session["refresh_token"].as_str().context("no refresh token")?;
    let room = alice.create_room(json!({ "name": "Kept" })).await?;
    let body = json!({ "lists": { "all": {
        "ranges": [[0, 9]], "timeline_limit": 5, "required_state": [],
    } } });
    let old = alice.with_token(token).sliding(stack.url());
    let mut connection = old.connection("one");
    connection.until("the room", &body, |answer| answer.room(&room).map(drop)).await?;
    let answer = front.call(Method::POST, "refresh", &json!({ "refresh_token": refresh })).await?;
    let token = answer["access_token"].as_str().context("no new token")?;
    let event = alice.send(&room, "after the refresh").await?;
    let new = alice.with_token(token).sliding(stack.url());
    let mut continued = new.connection("one");
    continued.pos = connection.pos;
    let (entry, _) = continued
        .until("the message", &body, |answer| {
            let mut events = answer.timeline(&room).iter();
            events.any(|found| found["event_id"] == event).then(|| answer.room(&room).cloned())
        })
        .await?;
    ensure!(entry.is_some_and(|entry| entry["initial"] != true), "the room was sent anew");
    Ok(())
}

/// Goal: uploaded one-time keys show in the next sync, so that no client uploads them twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploaded_keys_are_counted() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let body = json!({ "extensions": { "e2ee": { "enabled": true } } });
    let mut connection = alice.sliding(stack.url()).connection("encryption");
    connection.next(&body, nothing()).await?;
    let keys: serde_json::Map<String, Value> = (0..7)
        .map(|number| {
            let key = json!({ "key": format!("key{number}"), "signatures": {} });
            (format!("signed_curve25519:AAAA{number}"), key)
        })
        .collect();
    let upload = json!({ "one_time_keys": keys });
    alice.at(stack.url()).call(Method::POST, "keys/upload", &upload).await?;
    let answer = connection.next(&body, nothing()).await?;
    let counts = &answer.value["extensions"]["e2ee"]["device_one_time_keys_count"];
    ensure!(counts["signed_curve25519"] == 7, "{}", answer.value);
    Ok(())
}

/// Goal: a client that still uses the classic sync gets it through Luge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classic_sync_passes_through() -> Result<()> {
    let stack = servers().await?;
    let alice = stack.account("alice").await?;
    let room = alice.create_room(json!({ "name": "Classic" })).await?;
    let front = alice.at(stack.url());
    let first = front.call(Method::GET, "sync?timeout=0", &Value::Null).await?;
    ensure!(first["rooms"]["join"][&room].is_object(), "{first}");
    let since = first["next_batch"].as_str().context("no next_batch")?;
    let event = front.send(&room, "through the front").await?;
    let path = format!("sync?timeout=30000&since={}", escaped(since));
    let next = front.call(Method::GET, &path, &Value::Null).await?;
    let events = next["rooms"]["join"][&room]["timeline"]["events"].as_array();
    ensure!(events.is_some_and(|events| events.iter().any(|found| found["event_id"] == event)));
    Ok(())
}
