//! What was ever done to a host's power: orders with their answers and readings, what operators stated, how drills ended. Nothing is
//! written for it: it is read out of intents and audit records.

use halberd_core::fence::DeviceAttempt;
use halberd_core::id::{HostId, RecoveryId};
use halberd_core::text_enum;
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::error::Result;
use crate::transaction::{Read, all};
use crate::value::{Row, args};

text_enum! {
    /// What kind of act it was.
    pub enum FenceActKind {
        Off => "off",
        On => "on",
        /// An operator stated that the host is off.
        Stated => "stated",
        /// Taken as off without any fencing, as its segment says.
        Waived => "waived",
        /// A drill ended; its orders are acts of their own.
        Drill => "drill",
    }
}

/// One act.
#[derive(Clone, Debug, PartialEq)]
pub struct FenceAct {
    pub at: Stamp,
    pub kind: FenceActKind,
    /// Who or what wanted it, or what was said.
    pub text: String,
    pub recovery: Option<RecoveryId>,
    pub epoch: i64,
    /// Counts the orders of a recovery from 1; 0 for what is no order.
    pub attempt: i64,
    /// How it ended: the word of its intent, a drill's outcome; `None`: no answer is known.
    pub result: Option<String>,
    /// What the result says in words, where there are any.
    pub answer: Option<String>,
    /// Each session with a device, with its readings.
    pub attempts: Vec<DeviceAttempt>,
    /// When its answer was stored.
    pub ended_at: Option<Stamp>,
    /// Everything that is recorded of it.
    pub detail: Value,
}

/// The acts of a host before a moment (`None`: up to now), newest first: `limit` of them, and those of the same moment as the last. The
/// next page is what was before the last one's `at`.
pub async fn fence_history(
    mut on: impl Read,
    host: HostId,
    limit: u32,
    before: Option<Stamp>,
) -> Result<Vec<FenceAct>> {
    let before = before.unwrap_or(Stamp(i64::MAX));
    let most = limit.saturating_add(SAME_MOMENT);
    let sql = "SELECT * FROM intents WHERE host = ? AND effect IN ('power_off', 'power_on') AND created_at < ? \
               ORDER BY created_at DESC, id LIMIT ?";
    let orders = all(&mut on, sql, args![host, before, most]).await?;
    let sql = "SELECT a.what, a.text, a.detail, a.epoch, a.at, r.id FROM audit a JOIN recoveries r ON r.id = a.chain \
               WHERE r.host = ? AND a.what IN ('off_confirmed', 'fence_waived', 'drill_ended') AND a.at < ? \
               ORDER BY a.at DESC, a.sequence DESC LIMIT ?";
    let said = all(&mut on, sql, args![host, before, most]).await?;
    let mut acts = orders.iter().map(order).chain(said.iter().map(word)).collect::<Result<Vec<_>>>()?;
    acts.sort_by_key(|act| std::cmp::Reverse(act.at));
    let limit = limit as usize;
    if let Some(last) = limit.checked_sub(1).and_then(|last| acts.get(last)).map(|act| act.at) {
        acts.retain(|act| act.at >= last);
    } else if limit == 0 {
        acts.clear();
    }
    Ok(acts)
}

/// A commit writes a few acts of one host at most.
const SAME_MOMENT: u32 = 8;

fn order(row: &Row) -> Result<FenceAct> {
    let row = row.of("intents", "id");
    let kind = if row.text("effect")? == "power_on" { FenceActKind::On } else { FenceActKind::Off };
    let detail: Value = row.json("detail")?;
    let answered: Value = row.opt_json("result_detail")?.unwrap_or(Value::Null);
    let by = &detail["by"];
    let why = detail["why"].as_str().map(str::to_owned);
    let asked = || Some(format!("{} ({})", by["actor"].as_str()?, by["reason"].as_str().unwrap_or_default()));
    let said = &answered["answer"];
    let answer = said["note"].as_str().or_else(|| said["text"].as_str()).map(str::to_owned);
    Ok(FenceAct {
        at: row.stamp("created_at")?,
        kind,
        text: why.or_else(asked).unwrap_or_default(),
        recovery: row.opt_id("recovery")?,
        epoch: row.int("epoch")?,
        attempt: row.int("attempt")?,
        result: row.opt_string("result")?,
        answer,
        // An older version's document is shown without them rather than not at all.
        attempts: serde_json::from_value(answered["attempts"].clone()).unwrap_or_default(),
        ended_at: row.opt_stamp("resolved_at")?,
        detail,
    })
}

fn word(row: &Row) -> Result<FenceAct> {
    let row = row.of("audit", "text");
    let kind = match row.text("what")? {
        "drill_ended" => FenceActKind::Drill,
        "fence_waived" => FenceActKind::Waived,
        _ => FenceActKind::Stated,
    };
    let detail: Value = row.json("detail")?;
    let at = row.stamp("at")?;
    Ok(FenceAct {
        at,
        kind,
        text: row.string("text")?,
        recovery: Some(row.id("id")?),
        epoch: row.int("epoch")?,
        attempt: 0,
        result: detail["outcome"].as_str().map(str::to_owned),
        answer: None,
        attempts: Vec::new(),
        ended_at: Some(at),
        detail,
    })
}

#[cfg(test)]
mod tests {
    use halberd_core::audit::Entry;
    use halberd_core::runner::{Intent, Resolution};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::tests::{Kit, kit, later};
    use crate::{audit, intents, write};

    fn order(kit: &Kit, recovery: RecoveryId, effect: &str, attempt: i64, detail: Value) -> Intent {
        Intent {
            id: Uuid::new_v4(),
            recovery: Some(recovery),
            host: Some(kit.host),
            vmove: None,
            effect: effect.into(),
            open_key: None,
            epoch: 2,
            attempt,
            detail,
        }
    }

    #[tokio::test]
    async fn everything_done_to_a_hosts_power_newest_first_in_pages() {
        let kit = kit().await;
        let recovery = kit.open().await.id;
        let off = order(&kit, recovery, "power_off", 1, json!({"why": "failed (silence), permitted"}));
        let on = order(&kit, recovery, "power_on", 1, json!({"by": {"actor": "ann", "reason": "repaired"}}));
        let other = order(&kit, recovery, "disable", 1, json!({}));
        let attempt = json!({"level": 0, "device": "ipmi bmc", "token": null, "identity_matches": true, "order": "accepted",
            "readings": [{"power": "off", "at_ms": 700, "after_order": true}], "error": null, "took_ms": 1900});
        let ends = [
            Resolution { intent: off.id, result: "done".into(), detail: json!({"attempts": [attempt]}) },
            Resolution {
                intent: on.id,
                result: "unknown".into(),
                detail: json!({"answer": {"result": "unknown", "text": "no answer"}}),
            },
        ];
        write(&kit.db, async |tx| intents::record(tx, std::slice::from_ref(&off), &[], later(1)).await)
            .await
            .unwrap();
        write(&kit.db, async |tx| {
            intents::record(tx, &[on.clone(), other.clone()], &ends[..1], later(3)).await
        })
        .await
        .unwrap();
        write(&kit.db, async |tx| intents::record(tx, &[], &ends[1..], later(4)).await).await.unwrap();
        let said = [
            Entry::new(
                "off_confirmed",
                "ann states that cmp-01 is off: I saw it",
                json!({"actor": "ann", "serial": "S"}),
            ),
            Entry::new("host_judged", "no act", json!({})),
            Entry::new("drill_ended", "drill passed", json!({"outcome": "passed"})),
        ];
        for (at, entry) in (5..).zip(&said) {
            let chain = recovery.to_string();
            write(&kit.db, async |tx| {
                audit::append(tx, &chain, 1, std::slice::from_ref(entry), later(at)).await
            })
            .await
            .unwrap();
        }
        let acts = fence_history(&kit.db, kit.host, 10, None).await.unwrap();
        let told: Vec<(FenceActKind, &str)> = acts.iter().map(|act| (act.kind, act.text.as_str())).collect();
        assert_eq!(
            told,
            [
                (FenceActKind::Drill, "drill passed"),
                (FenceActKind::Stated, "ann states that cmp-01 is off: I saw it"),
                (FenceActKind::On, "ann (repaired)"),
                (FenceActKind::Off, "failed (silence), permitted"),
            ]
        );
        let last = &acts[3];
        assert_eq!((last.attempts.len(), last.attempts[0].readings[0].at_ms), (1, 700));
        assert_eq!(
            (last.result.as_deref(), last.ended_at, last.epoch, last.recovery),
            (Some("done"), Some(later(3)), 2, Some(recovery))
        );
        assert_eq!(
            (acts[2].result.as_deref(), acts[2].answer.as_deref()),
            (Some("unknown"), Some("no answer"))
        );
        assert_eq!(acts[0].result.as_deref(), Some("passed"));
        let mut paged = Vec::new();
        let mut before = None;
        while let Some(page) =
            Some(fence_history(&kit.db, kit.host, 1, before).await.unwrap()).filter(|page| !page.is_empty())
        {
            before = page.last().map(|act| act.at);
            paged.extend(page);
        }
        assert_eq!(paged, acts);
        let stranger = HostId(Uuid::new_v4());
        assert!(fence_history(&kit.db, stranger, 10, None).await.unwrap().is_empty());
        assert!(fence_history(&kit.db, kit.host, 0, None).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn acts_of_one_moment_stay_on_one_page() {
        let kit = kit().await;
        let recovery = kit.open().await.id;
        let twins = [1, 2].map(|attempt| order(&kit, recovery, "power_off", attempt, json!({"why": "x"})));
        write(&kit.db, async |tx| intents::record(tx, &twins, &[], later(1)).await).await.unwrap();
        let page = fence_history(&kit.db, kit.host, 1, None).await.unwrap();
        assert_eq!(page.len(), 2, "else the second would be on no page");
        assert!(fence_history(&kit.db, kit.host, 1, Some(later(1))).await.unwrap().is_empty());
    }
}
