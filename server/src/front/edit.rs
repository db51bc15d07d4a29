//! The few answers that are changed on their way back. What is not understood stays untouched, and
//! so does every value that is not named here.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::route::Route;

/// What tells clients that there is sliding sync.
const SLIDING_SYNC: &str = "org.matrix.simplified_msc3575";
/// Features that clients would then expect in sync answers, and would miss: thread subscriptions,
/// profile updates, sticky events, threads.
const NOT_SERVED: [&str; 8] = [
    "org.matrix.msc4306",
    "org.matrix.msc4308",
    "io.element.msc4306",
    "io.element.msc4308",
    "org.matrix.msc4262",
    "org.matrix.msc4354",
    "org.matrix.msc4480",
    "org.matrix.msc4360",
];
/// Where clients once looked for a sliding sync proxy: not beside this one.
const OTHER_PROXY: &str = "org.matrix.msc3575.proxy";

type Object = BTreeMap<String, Box<RawValue>>;

/// The changed body of an answer; `None` where nothing is to be changed.
pub(super) fn answer(route: &Route, body: &[u8], public_url: Option<&str>) -> Option<Vec<u8>> {
    let mut object: Object = serde_json::from_slice(body).ok()?;
    match route {
        Route::Versions => announce(&mut object)?,
        Route::WellKnown => redirect(&mut object, public_url)?,
        Route::Login => {
            let mut well_known = inner(&object, "well_known")?;
            redirect(&mut well_known, public_url)?;
            object.insert("well_known".to_owned(), to_raw_value(&well_known).ok()?);
        }
        _ => return None,
    }
    serde_json::to_vec(&object).ok()
}

/// In an answer to `/versions`.
fn announce(versions: &mut Object) -> Option<()> {
    let mut features = inner(versions, "unstable_features").unwrap_or_default();
    features.insert(SLIDING_SYNC.to_owned(), to_raw_value(&true).ok()?);
    for name in NOT_SERVED {
        if let Some(value) = features.get_mut(name) {
            *value = to_raw_value(&false).ok()?;
        }
    }
    versions.insert("unstable_features".to_owned(), to_raw_value(&features).ok()?);
    Some(())
}

/// In a `well_known` object; `None` if nothing in it is ours to change.
fn redirect(well_known: &mut Object, public_url: Option<&str>) -> Option<()> {
    let removed = well_known.remove(OTHER_PROXY).map(drop);
    let moved = public_url.zip(inner(well_known, "m.homeserver")).and_then(|(url, mut place)| {
        place.insert("base_url".to_owned(), to_raw_value(url).ok()?);
        well_known.insert("m.homeserver".to_owned(), to_raw_value(&place).ok()?);
        Some(())
    });
    removed.or(moved)
}

fn inner(object: &Object, name: &str) -> Option<Object> {
    serde_json::from_str(object.get(name)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn edited(route: &Route, body: &Value, url: Option<&str>) -> Option<Value> {
        let body = serde_json::to_vec(body).unwrap();
        answer(route, &body, url).map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn versions_gain_sliding_sync_and_lose_what_is_not_served() {
        let body = json!({"versions": ["v1.11"], "unstable_features": {
            "org.matrix.msc4306": true, "org.matrix.e2e_cross_signing": true }});
        let want = json!({"versions": ["v1.11"], "unstable_features": {
            "org.matrix.msc4306": false, "org.matrix.e2e_cross_signing": true,
            "org.matrix.simplified_msc3575": true }});
        assert_eq!(edited(&Route::Versions, &body, None), Some(want));
        for features in
            [json!({"versions": []}), json!({"versions": [], "unstable_features": null})]
        {
            let want = json!({"versions": [],
                "unstable_features": {"org.matrix.simplified_msc3575": true}});
            assert_eq!(edited(&Route::Versions, &features, None), Some(want));
        }
    }

    #[test]
    fn each_feature_that_sync_does_not_serve_is_masked() {
        let names = "4306 4308 4262 4354 4480 4360".split(' ');
        for name in names.map(|number| format!("org.matrix.msc{number}")) {
            for offered in [json!(true), json!(false), json!("yes")] {
                let body = json!({"unstable_features": {&name: offered}});
                let edited = edited(&Route::Versions, &body, None).unwrap();
                assert_eq!(edited["unstable_features"][&name], false, "{name}");
            }
        }
        let unknown = edited(&Route::Versions, &json!({"unstable_features": {}}), None).unwrap();
        let features = unknown["unstable_features"].as_object().unwrap();
        assert_eq!(features.len(), 1, "what is not offered is not named: {unknown}");
    }

    #[test]
    fn well_known_points_here_and_keeps_the_rest() {
        let body = json!({"m.homeserver": {"base_url": "https://old/", "x": 1},
            "m.identity_server": {"base_url": "https://vector.im"},
            "org.matrix.msc3575.proxy": {"url": "https://proxy"}});
        let want = json!({"m.homeserver": {"base_url": "https://new", "x": 1},
            "m.identity_server": {"base_url": "https://vector.im"}});
        assert_eq!(edited(&Route::WellKnown, &body, Some("https://new")), Some(want.clone()));
        let login = json!({"access_token": "t", "well_known": body});
        let want = json!({"access_token": "t", "well_known": want});
        assert_eq!(edited(&Route::Login, &login, Some("https://new")), Some(want));
    }

    #[test]
    fn nothing_to_change_is_no_change() {
        let url = Some("https://new");
        for body in [
            json!({"access_token": "t"}),
            json!({"well_known": null}),
            json!({"well_known": {"m.homeserver": "x"}}),
            json!([]),
        ] {
            assert_eq!(edited(&Route::Login, &body, url), None, "{body}");
        }
        assert_eq!(edited(&Route::WellKnown, &json!({"m.homeserver": {}}), None), None);
        assert_eq!(answer(&Route::Versions, b"<html>", None), None);
        assert_eq!(answer(&Route::Versions, b"", None), None);
    }

    #[test]
    fn numbers_are_kept_as_they_were_written() {
        let body = br#"{"unstable_features":{},"big":12345678901234567890123,"exact":1.10}"#;
        let edited = String::from_utf8(answer(&Route::Versions, body, None).unwrap()).unwrap();
        assert!(edited.contains("12345678901234567890123") && edited.contains("1.10"), "{edited}");
    }
}
