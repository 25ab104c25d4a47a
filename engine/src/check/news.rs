//! What of a check has to be told: turns between ready and not, and what somebody should look at, each once. Pure.

use std::collections::BTreeSet;

use halberd_store::fence_devices::CheckRow;

/// How the warning begins that another owner cannot be looked for. It concerns all hosts alike, so it is shown with each and told
/// with none.
pub(super) const UNSEEN: &str = "whether ironic owns this machine cannot be seen";

/// One thing to tell of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It cannot fence as it is.
    Bad { device: String, text: String },
    /// It can, but somebody should look.
    Warned { device: String, text: String },
    /// It can again.
    Good { device: String, text: String },
}

/// Compares a check with the stored one before it. `bad`: devices told to be bad, also of a description that was replaced since.
pub(super) fn of(before: &[CheckRow], after: &[CheckRow], bad: &BTreeSet<String>) -> Vec<News> {
    let mut news = Vec::new();
    for row in after {
        let place = (row.level, row.position);
        let was = before.iter().find(|was| (was.level, was.position) == place);
        let device = row.device.clone();
        let was_bad = was.map_or(bad.contains(&row.device), |was| !was.ok);
        if !row.ok && !was_bad {
            news.push(News::Bad { device: device.clone(), text: row.text.clone() });
        } else if row.ok && was_bad {
            news.push(News::Good { device: device.clone(), text: format!("{}: ready again", row.device) });
        }
        let known: BTreeSet<String> = was.map(|was| warnings(was).map(gist).collect()).unwrap_or_default();
        let fresh: Vec<&str> = warnings(row).filter(|text| !known.contains(&gist(text))).collect();
        if row.ok && !fresh.is_empty() {
            news.push(News::Warned { device, text: format!("{}: {}", row.device, fresh.join("; ")) });
        }
    }
    if before.is_empty() {
        let gone = bad.iter().filter(|device| !after.iter().any(|row| row.device == **device));
        news.extend(gone.map(|device| News::Good {
            device: device.clone(),
            text: format!("{device}: no longer a device of this host"),
        }));
    }
    news
}

fn warnings(row: &CheckRow) -> impl Iterator<Item = &str> {
    let listed = row.detail["warnings"].as_array().into_iter().flatten();
    listed.filter_map(|warning| warning.as_str()).filter(|warning| !warning.starts_with(UNSEEN))
}

/// A warning without its numbers: days left of a certificate are counted down, and that is no news each day.
fn gist(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use halberd_core::id::HostId;
    use halberd_core::time::Stamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn row(position: u32, ok: bool, warnings: &[&str]) -> CheckRow {
        CheckRow {
            host: HostId(Uuid::from_u128(1)),
            level: 0,
            position,
            device: format!("ipmi bmc-{position}"),
            at: Stamp(0),
            ok,
            power: None,
            text: if ok { "ready".into() } else { "login refused: correct the password".into() },
            detail: json!({"warnings": warnings}),
        }
    }

    fn told(before: &[CheckRow], after: &[CheckRow], bad: &[&str]) -> Vec<&'static str> {
        let bad = bad.iter().map(|device| (*device).to_owned()).collect();
        let word = |news: &News| match news {
            News::Bad { .. } => "bad",
            News::Warned { .. } => "warned",
            News::Good { .. } => "good",
        };
        of(before, after, &bad).iter().map(word).collect()
    }

    #[test]
    fn turns_are_told_once_and_a_first_check_that_fails_is_one() {
        assert_eq!(told(&[], &[row(0, false, &[])], &[]), ["bad"]);
        assert_eq!(told(&[], &[row(0, true, &[])], &[]), Vec::<&str>::new());
        assert_eq!(told(&[row(0, false, &[])], &[row(0, false, &[])], &[]), Vec::<&str>::new());
        assert_eq!(told(&[row(0, false, &[])], &[row(0, true, &[])], &[]), ["good"]);
        assert_eq!(told(&[row(0, true, &[])], &[row(0, false, &[])], &[]), ["bad"]);
        let two = [row(0, true, &[]), row(1, false, &[])];
        assert_eq!(told(&[row(0, true, &[]), row(1, true, &[])], &two, &[]), ["bad"]);
    }

    #[test]
    fn what_setting_devices_anew_mended_is_told() {
        assert_eq!(told(&[], &[row(0, true, &[])], &["ipmi bmc-0"]), ["good"]);
        assert_eq!(told(&[], &[row(0, false, &[])], &["ipmi bmc-0"]), Vec::<&str>::new(), "told before");
        assert_eq!(told(&[], &[row(0, true, &[])], &["ipmi elsewhere"]), ["good"], "removed");
    }

    #[test]
    fn a_warning_is_told_once_and_its_countdown_is_none() {
        let aged = |days: &str| row(0, true, &[&format!("the certificate ends in {days} days")]);
        assert_eq!(told(&[], &[aged("30")], &[]), ["warned"]);
        assert_eq!(told(&[aged("30")], &[aged("29")], &[]), Vec::<&str>::new());
        assert_eq!(told(&[aged("30")], &[row(0, true, &["weak suite 3", "x"])], &[]), ["warned"]);
        assert_eq!(told(&[], &[row(0, false, &["weak suite 3"])], &[]), ["bad"], "the worse is told alone");
        let unseen = format!("{UNSEEN}: forbidden");
        assert_eq!(told(&[], &[row(0, true, &[&unseen])], &[]), Vec::<&str>::new());
    }
}
