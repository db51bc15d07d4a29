//! What is changed in answers, and what is told of exchanges.

use http::{Request, Response, StatusCode};
use luge_io::http::Body;
use luge_server::front::FrontHint;
use serde_json::{Value, json as value};

use crate::setup::{Got, Setup, json, noise, on_each_driver};

const VERSIONS: &str = r#"{"versions":["v1.11"],"unstable_features":
    {"org.matrix.msc4354":true,"org.matrix.msc3440.stable":true}}"#;

fn versions(got: &Got) -> Response<Body> {
    let mut answer = json(200, VERSIONS);
    for (name, text) in [
        ("etag", "\"theirs\""),
        ("cache-control", "public, max-age=600"),
        ("vary", "Origin"),
        ("access-control-allow-origin", "*"),
    ] {
        answer.headers_mut().insert(name, text.parse().unwrap());
    }
    if got.headers.contains_key("if-none-match") {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    answer
}

fn parsed(answer: &Response<bytes::Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

#[test]
fn versions_name_sliding_sync_and_are_not_kept_for_other_users() {
    on_each_driver(|| async {
        let setup = Setup::start(versions);
        let request = Request::get(setup.uri("/_matrix/client/versions"))
            .header("authorization", "Bearer secret")
            .header("accept-encoding", "gzip, br")
            .header("if-none-match", "\"theirs\"")
            .body(Body::empty())
            .unwrap();
        let answer = setup.send(request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let want = value!({"versions": ["v1.11"], "unstable_features": {
            "org.matrix.msc4354": false, "org.matrix.msc3440.stable": true,
            "org.matrix.simplified_msc3575": true }});
        assert_eq!(parsed(&answer), want);
        let headers = answer.headers();
        assert_eq!(headers["content-length"], answer.body().len().to_string().as_str());
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(headers.get_all("vary").iter().any(|name| name == "Authorization"));
        assert!(!headers.contains_key("etag"));
        let got = setup.last();
        assert_eq!(got.headers["authorization"], "Bearer secret");
        assert_eq!(got.headers["accept-encoding"], "identity");
        let request = Request::get(setup.uri("/_matrix/client/versions?x=1"));
        let answer = setup.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers()["cache-control"], "public, max-age=600");
        assert_eq!(parsed(&answer), want);
        setup.end().await;
    });
}

#[test]
fn answer_that_cannot_be_edited_passes_as_it_is() {
    on_each_driver(|| async {
        let setup = Setup::with(
            |config| config.buffered_answer_bytes_max = 100_000,
            |got| match got.uri.query().unwrap() {
                "encoded" => {
                    let mut answer = json(200, VERSIONS);
                    answer.headers_mut().insert("content-encoding", "br".parse().unwrap());
                    answer
                }
                "failed" => json(500, VERSIONS),
                "list" => json(200, "[]"),
                "html" => json(200, "<html>"),
                _ => Response::new(Body::from(noise(300_000))),
            },
        );
        let ask = |query: &str| format!("/_matrix/client/versions?{query}");
        for (query, status, body) in [
            ("encoded", 200, VERSIONS.as_bytes()),
            ("failed", 500, VERSIONS.as_bytes()),
            ("list", 200, b"[]"),
            ("html", 200, b"<html>"),
            ("large", 200, &noise(300_000)),
        ] {
            let answer = setup.ask("GET", &ask(query), "").await;
            assert_eq!(answer.status(), status, "{query}");
            assert!(answer.body() == body, "{query}");
        }
        setup.end().await;
    });
}

#[test]
fn well_known_names_us_and_one_that_is_not_there_stays_so() {
    on_each_driver(|| async {
        let well_known = r#"{"m.homeserver":{"base_url":"https://old"},"x":1,
            "org.matrix.msc3575.proxy":{"url":"https://proxy"}}"#;
        let setup = Setup::start(move |got| {
            if got.uri.query().is_some() { json(404, "{}") } else { json(200, well_known) }
        });
        let path = "/.well-known/matrix/client";
        let answer = setup.ask("GET", path, "").await;
        let want = value!({"m.homeserver": {"base_url": setup.uri("")}, "x": 1});
        assert_eq!(parsed(&answer), want);
        let request = Request::get(setup.uri(path))
            .header("host", "m.example.org")
            .header("x-forwarded-proto", "https");
        let answer = setup.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(parsed(&answer)["m.homeserver"]["base_url"], "https://m.example.org");
        let missing = setup.ask("GET", "/.well-known/matrix/client?none", "").await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        assert_eq!(missing.body(), "{}");
        setup.end().await;
    });
}

#[test]
fn login_names_the_public_url_and_keeps_everything_else() {
    on_each_driver(|| async {
        let change = |config: &mut luge_server::front::FrontConfig| {
            config.public_url = Some("https://m.example.org".to_owned());
        };
        let setup = Setup::with(change, |got| match got.body.as_ref() {
            b"refused" => {
                json(403, r#"{"well_known":{"m.homeserver":{"base_url":"https://old"}}}"#)
            }
            b"plain" => json(200, r#"{"access_token": "t"}"#),
            _ => json(
                200,
                r#"{"access_token":"t","user_id":"@a:b","well_known":
                    {"m.homeserver":{"base_url":"https://old"}}}"#,
            ),
        });
        for path in ["/_matrix/client/v3/login", "/_matrix/client/r0/register?kind=user"] {
            let answer = setup.ask("POST", path, r#"{"type":"m.login.password"}"#).await;
            let want = value!({"access_token": "t", "user_id": "@a:b",
                "well_known": {"m.homeserver": {"base_url": "https://m.example.org"}}});
            assert_eq!(parsed(&answer), want);
            assert_eq!(setup.last().body, r#"{"type":"m.login.password"}"#);
            let plain = setup.ask("POST", path, "plain").await;
            assert_eq!(plain.body(), r#"{"access_token": "t"}"#);
            let refused = setup.ask("POST", path, "refused").await;
            assert_eq!(refused.status(), StatusCode::FORBIDDEN);
            assert!(String::from_utf8_lossy(refused.body()).contains("https://old"));
        }
        setup.end().await;
    });
}

/// What the front told of one exchange, by name and with what it holds beside the token.
fn told(hint: FrontHint) -> (String, String) {
    let (name, token, rest) = match hint {
        FrontHint::ClassicSync { token } => ("classic sync", token, String::new()),
        FrontHint::LoggedOut { token } => ("logged out", token, String::new()),
        FrontHint::LoggedOutEverywhere { token } => ("all logged out", token, String::new()),
        FrontHint::DevicesDeleted { token, device_ids } => ("deleted", token, device_ids.join(" ")),
        FrontHint::AccountClosed { token } => ("closed", token, String::new()),
        FrontHint::PasswordChanged { token } => ("password", token, String::new()),
        FrontHint::KeyCounts { token, counts } => ("counts", token, counts),
        FrontHint::Forgot { token, room_id } => ("forgot", token, room_id),
        FrontHint::MembershipChanged { token } => ("membership", token, String::new()),
        FrontHint::Refreshed { token, new_token } => {
            ("refreshed", token, new_token.as_str().to_owned())
        }
    };
    assert_eq!(token.as_str(), "secret");
    (name.to_owned(), rest)
}

const ENDPOINTS: [(&str, &str, &str, &str, &str); 12] = [
    ("POST", "logout", "", "logged out", ""),
    ("POST", "logout/all", "{}", "all logged out", ""),
    ("DELETE", "devices/A%20B", r#"{"auth":{}}"#, "deleted", "A B"),
    ("POST", "delete_devices", r#"{"devices":["A","B"]}"#, "deleted", "A B"),
    ("POST", "account/password", r#"{"new_password":"x"}"#, "password", ""),
    ("POST", "account/deactivate", "{}", "closed", ""),
    ("POST", "keys/upload", "{}", "counts", r#"{"signed_curve25519":7}"#),
    ("POST", "rooms/!a:b/forget", "{}", "forgot", "!a:b"),
    ("POST", "rooms/!a:b/leave", "{}", "membership", ""),
    ("POST", "join/%23a:b", "{}", "membership", ""),
    ("POST", "refresh", "{}", "refreshed", "new"),
    ("GET", "sync?timeout=0", "", "classic sync", ""),
];

#[test]
fn exchange_that_went_well_is_told_and_passes_untouched() {
    on_each_driver(|| async {
        let body = r#"{"one_time_key_counts":{"signed_curve25519":7}, "access_token":"new"}"#;
        let setup = Setup::start(move |_| json(200, body));
        for (method, endpoint, request, name, rest) in ENDPOINTS {
            let path = format!("/_matrix/client/v3/{endpoint}");
            let answer = setup.ask(method, &path, request).await;
            assert_eq!(answer.body(), body, "{endpoint}");
            assert_eq!(setup.last().body, request, "{endpoint}");
            let hints = setup.hints.take();
            assert_eq!(hints.len(), 1, "{endpoint}: {hints:?}");
            assert!(!format!("{hints:?}").contains("secret"));
            let hint = told(hints.into_iter().next().unwrap());
            assert_eq!(hint, (name.to_owned(), rest.to_owned()), "{endpoint}");
        }
        setup.end().await;
    });
}

#[test]
fn exchange_that_went_badly_is_not_told() {
    on_each_driver(|| async {
        let setup = Setup::start(|_| json(401, r#"{"flows":[],"session":"s"}"#));
        for (method, endpoint, request, name, _) in ENDPOINTS {
            let path = format!("/_matrix/client/v3/{endpoint}");
            let answer = setup.ask(method, &path, request).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            let hints = setup.hints.take();
            assert_eq!(hints.is_empty(), name != "classic sync", "{endpoint}: {hints:?}");
        }
        setup.end().await;
    });
}

/// A request that is looked into arrives as it was sent, whatever its framing and size.
#[test]
fn request_that_is_looked_into_arrives_whole() {
    on_each_driver(|| async {
        let change =
            |config: &mut luge_server::front::FrontConfig| config.buffered_request_bytes_max = 1000;
        let setup = Setup::with(change, |_| json(200, "{}"));
        let uri = setup.uri("/_matrix/client/v3/delete_devices");
        let small = r#"{"devices":["A"]}"#.to_owned();
        let large = format!(r#"{{"devices":["A"],"padding":"{}"}}"#, "x".repeat(200_000));
        for (body, chunked, hints) in
            [(&small, false, 1), (&small, true, 1), (&large, false, 0), (&large, true, 0)]
        {
            let (mut sender, streamed) = Body::channel(1);
            let sent = if chunked { streamed } else { Body::from(body.clone()) };
            let pieces: Vec<Vec<u8>> = body.as_bytes().chunks(9000).map(<[u8]>::to_vec).collect();
            let writer = luge_io::task::spawn(async move {
                if chunked {
                    for piece in pieces {
                        sender.send(piece).await.unwrap();
                    }
                }
                sender.finish();
            });
            let request = Request::post(&uri).header("authorization", "Bearer secret");
            setup.send(request.body(sent).unwrap()).await;
            writer.await;
            let got = setup.last();
            assert!(got.body == body.as_bytes());
            assert_eq!(got.headers.contains_key("content-length"), !chunked);
            assert_eq!(setup.hints.take().len(), hints);
        }
        setup.end().await;
    });
}
