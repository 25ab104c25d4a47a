//! `GET /reconcile-only` and `POST /reconcile-only/leave`: whether the database shows less than was remembered, and a person's word that
//! what was found in the world is known.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use halberd_store::rewind::{self, Rewound};
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::readiness::{ReadinessCheck, ReadinessLevel};
use halberd_types::halberd::reconcile::{ReconcileAudit, ReconcileFinding, ReconcileOnly};
use halberd_types::halberd::wish::{ReasonRequest, Wish, WishKind};

use super::readiness::check;
use crate::halberd::door;
use crate::halberd::input::{self, time};
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record};
use crate::{App, Caller};

const REMEDY: &str = "Look at every finding (`halberd reconcile show`). It ends by itself when none is left, or with `halberd reconcile leave \
                      --reason ..`: open recoveries are then taken up afresh, by what the world shows.";

/// Whether the engines are in reconcile-only, why, and what was found.
#[utoipa::path(
    get, path = "/reconcile-only", operation_id = "show_reconcile_only", tag = "site",
    responses((status = 200, body = ReconcileOnly), (status = 403, body = Problem)),
)]
pub(crate) async fn show(State(app): State<App>, caller: Caller) -> Result<Json<ReconcileOnly>, Failure> {
    door::require(&caller, "halberd:reconcile_only:detail")?;
    Ok(Json(shown(rewind::standing(door::db(&app)).await?)))
}

/// End reconcile-only, knowing what was found.
#[utoipa::path(
    post, path = "/reconcile-only/leave", operation_id = "leave_reconcile_only", tag = "site",
    request_body = ReasonRequest,
    responses(
        (status = 202, description = "The wish was recorded; an engine grants or refuses it.", body = Wish),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
    ),
)]
pub(crate) async fn leave(State(app): State<App>, caller: Caller, body: Bytes) -> Result<Accepted, Failure> {
    door::require(&caller, "halberd:reconcile_only:leave")?;
    record(&app, &caller, WishKind::LeaveReconcileOnly, About::Site, &input::json(&body)?).await
}

fn shown(standing: Option<Rewound>) -> ReconcileOnly {
    let nothing = ReconcileOnly {
        reconcile_only: false,
        remedy: None,
        since: None,
        by: None,
        why: None,
        lost: Vec::new(),
        audit: None,
    };
    let Some(row) = standing else { return nothing };
    let mut lost: Vec<String> = row.lost.into_iter().map(|loss| loss.text).collect();
    if row.unlisted > 0 {
        lost.push(format!("and {} more", row.unlisted));
    }
    let finding = |found: halberd_core::rewind::Finding| ReconcileFinding {
        host: found.host.map(|host| host.0),
        text: found.text,
    };
    ReconcileOnly {
        reconcile_only: true,
        remedy: Some(REMEDY.to_owned()),
        since: Some(time(row.since)),
        by: Some(row.by),
        why: Some(row.why),
        lost,
        audit: row.audit.map(|audit| ReconcileAudit {
            by: audit.by,
            at: time(audit.at),
            hosts: audit.hosts,
            findings: audit.findings.into_iter().map(finding).collect(),
        }),
    }
}

/// For readiness: red while the engines do nothing.
pub(super) fn readiness(row: &Rewound) -> ReadinessCheck {
    let found = match &row.audit {
        None => "hosts and Nova are being looked at".to_owned(),
        Some(audit) => format!("{} findings at {} hosts", audit.findings.len(), audit.hosts),
    };
    let reason = format!("the engines are in reconcile-only and do nothing. {}; {found}", row.why);
    check("database_whole", None, ReadinessLevel::Red, reason, REMEDY)
}

#[cfg(test)]
mod tests {
    use halberd_core::rewind::{Finding, Loss};
    use halberd_core::time::Stamp;
    use halberd_store::rewind::Audited;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_known_is_shown_with_the_way_out() {
        assert!(!shown(None).reconcile_only);
        let mut row = Rewound {
            id: Uuid::nil(),
            by: "one".into(),
            since: Stamp(0),
            why: "counter 5 shown, 9 known".into(),
            lost: vec![Loss::stated("a backup of yesterday was restored")],
            unlisted: 3,
            audit: None,
        };
        assert!(readiness(&row).reason.contains("are being looked at"));
        let finding = Finding { host: None, text: "cmp-01 reads Off".into() };
        row.audit = Some(Audited { by: "one".into(), at: Stamp(1), hosts: 7, findings: vec![finding] });
        let check = readiness(&row);
        assert_eq!(check.level, ReadinessLevel::Red);
        assert!(check.reason.contains("counter 5 shown") && check.reason.contains("1 findings at 7 hosts"));
        let view = shown(Some(row));
        assert_eq!(view.lost, ["a backup of yesterday was restored", "and 3 more"]);
        assert_eq!(view.audit.expect("the look").findings[0].text, "cmp-01 reads Off");
        assert!(view.remedy.expect("the way out").contains("halberd reconcile leave"));
    }
}
