//! Times `curl` against Luge and against Synapse's own sliding sync: the same account of the same
//! Synapse, turn by turn in one run.
//!
//! `cargo run -p luge-e2e --example compare -- [ROOMS] [ROUNDS]`; `LUGE_E2E_BINARY` names a release
//! build of Luge, without which the debug build is timed.
#![recursion_limit = "256"]
#![expect(clippy::print_stdout, reason = "this program's purpose is its table")]

use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use luge_e2e::harness::account::Account;
use luge_e2e::harness::luge::Luge;
use luge_e2e::harness::synapse::{Synapse, SynapseOptions};
use serde_json::{Value, json};

const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rooms: usize = arguments.next().map_or(Ok(300), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(15), |text| text.parse())?;
    let synapse =
        Synapse::start(SynapseOptions { native_sliding_sync: true, experiments: false }).await?;
    let http = reqwest::Client::new();
    let account = Account::register(&http, synapse.url(), "comparer").await?;
    make_rooms(&account, rooms).await?;
    let mut luge = Luge::start(synapse.url()).await?;
    let token = account.token.clone();
    let contact = curl(luge.url(), &token, "contact", None, &body("contact", 19))?;
    println!("first contact with Luge, Synapse's first /sync included: {:.1} ms", contact.0);

    let mut table: Vec<(&str, Vec<f64>, Vec<f64>)> =
        ["first, 20 rooms", "all others", "nothing new"]
            .map(|name| (name, Vec::new(), Vec::new()))
            .into();
    for round in 0..rounds {
        for (column, url) in [luge.url(), synapse.url()].into_iter().enumerate() {
            let times = one_round(url, &token, &format!("r{round}"), rooms)?;
            for (row, time) in table.iter_mut().zip(times) {
                if column == 0 { row.1.push(time) } else { row.2.push(time) }
            }
        }
    }
    println!("{rooms} rooms, {rounds} rounds, median (least) in ms, curl's time_total");
    println!("{:<18}{:>20}{:>20}{:>10}", "response", "Luge", "Synapse", "ratio");
    for (name, luge, synapse) in &mut table {
        let (ours, theirs) = (median(luge), median(synapse));
        let shown = |(median, least): (f64, f64)| format!("{median:.2} ({least:.2})");
        println!("{name:<18}{:>20}{:>20}{:>10.0}", shown(ours), shown(theirs), theirs.0 / ours.0);
    }
    luge.stop().await
}

/// Rooms with names and a few messages.
async fn make_rooms(account: &Account, count: usize) -> Result<()> {
    stream::iter(0..count)
        .map(|number| async move {
            let room = account.create_room(json!({"name": format!("Room {number}")})).await?;
            for text in ["one", "two", "three"] {
                account.send(&room, text).await?;
            }
            anyhow::Ok(())
        })
        .buffer_unordered(8)
        .try_collect::<()>()
        .await
}

/// What Element X asks for, of the rooms up to `last`.
fn body(conn_id: &str, last: usize) -> Value {
    json!({
        "conn_id": conn_id,
        "lists": {"all_rooms": {"ranges": [[0, last]], "timeline_limit": 1, "filters": {},
            "required_state": [["m.room.name", ""], ["m.room.encryption", ""],
                ["m.room.member", "$LAZY"], ["m.room.member", "$ME"], ["m.room.topic", ""],
                ["m.room.avatar", ""], ["m.room.canonical_alias", ""],
                ["m.room.power_levels", ""], ["m.room.join_rules", ""],
                ["m.room.tombstone", ""], ["m.room.create", ""],
                ["m.room.history_visibility", ""], ["m.space.child", "*"]]}},
        "extensions": {"account_data": {"enabled": true}, "receipts": {"enabled": true},
            "typing": {"enabled": true}}
    })
}

fn one_round(url: &str, token: &str, conn_id: &str, rooms: usize) -> Result<[f64; 3]> {
    let (first, pos) = curl(url, token, conn_id, None, &body(conn_id, 19))?;
    let all = body(conn_id, rooms.saturating_sub(1));
    let (others, pos) = curl(url, token, conn_id, Some(&pos), &all)?;
    let (_, pos) = curl(url, token, conn_id, Some(&pos), &all)?;
    let (nothing, _) = curl(url, token, conn_id, Some(&pos), &all)?;
    Ok([first, others, nothing])
}

/// One request; its time in milliseconds and its `pos`.
fn curl(
    url: &str,
    token: &str,
    conn_id: &str,
    pos: Option<&str>,
    body: &Value,
) -> Result<(f64, String)> {
    let query = pos.map_or(String::new(), |pos| format!("&pos={pos}"));
    let output = Command::new("curl")
        .args(["-s", "-X", "POST", "-w", "\n%{http_code} %{time_total}"])
        .args(["-H", &format!("Authorization: Bearer {token}")])
        .args(["-H", "Content-Type: application/json", "-d", &body.to_string()])
        .arg(format!("{url}{PATH}?timeout=0{query}"))
        .output()
        .context("curl is not on PATH")?;
    let text = String::from_utf8(output.stdout)?;
    let (answer, outcome) = text.rsplit_once('\n').context("curl said nothing")?;
    let (status, seconds) = outcome.split_once(' ').context("curl gave no time")?;
    ensure!(status == "200", "{conn_id}: {answer}");
    let answer: Value = serde_json::from_str(answer)?;
    let pos = answer["pos"].as_str().context("no pos")?.to_owned();
    Ok((seconds.parse::<f64>()? * 1000.0, pos))
}

/// The median and the least.
fn median(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}
