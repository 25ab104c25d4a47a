//! Templates for the receivers that most clouds have. Each is the receiver's documented request, with the ticket's key where
//! that receiver takes its key for repeats, so that one recovery is one ticket however often a delivery is repeated.

use super::ticket::TicketAction;

/// The CloudEvent itself; no template at all.
pub(super) const GENERIC: &str = "generic";

/// A receiver's shape and words.
#[derive(Debug)]
pub(super) struct Preset {
    pub name: &'static str,
    pub template: &'static str,
    /// It opens and closes tickets, so it is told only of what moves one, and strictly in order.
    pub tickets: bool,
    /// `params` that it cannot do without.
    pub needs: &'static [&'static str],
    /// Its words for open, update, close: `{{ticket.word}}`.
    actions: [&'static str; 3],
    /// Its words for critical, error, warning, info, and for the end of trouble: `{{severity_word}}`.
    severities: [&'static str; 5],
}

const OWN_ACTIONS: [&str; 3] = ["open", "update", "close"];
const OWN_SEVERITIES: [&str; 5] = ["critical", "error", "warning", "info", "info"];

pub(super) const PRESETS: &[Preset] = &[
    // Event Management's inbound collector (POST /api/global/em/jsonv2): events with one message_key become one alert, whose
    // incident a severity of 0 closes. The table API would need the incident's sys_id for its close, which a POST cannot learn.
    Preset {
        name: "servicenow",
        tickets: true,
        needs: &[],
        actions: OWN_ACTIONS,
        severities: ["1", "2", "4", "5", "0"],
        template: r#"{"records": [{
            "source": "Halberd", "event_class": "{{event.source}}", "message_key": "{{ticket.key}}",
            "node": "{{event.subject}}", "resource": "{{event.subject}}", "type": "{{event.type}}",
            "metric_name": "{{event.type}}", "severity": "{{severity_word}}", "resolution_state": "{{resolution}}",
            "description": "{{text}}", "time_of_event": "{{time_plain}}", "additional_info": "{{details}}"}]}"#,
    },
    // Jira Automation's incoming webhook (header X-Automation-Webhook-Token): the rule creates or moves the issue that has the
    // key as its label. Jira's own REST API would need the issue's key for the close.
    Preset {
        name: "jira",
        tickets: true,
        needs: &[],
        actions: OWN_ACTIONS,
        severities: ["Highest", "High", "Medium", "Low", "Low"],
        template: r#"{"issues": [], "data": {
            "action": "{{ticket.word}}", "key": "{{ticket.key}}", "label": "halberd-{{ticket.key}}",
            "project": "{{params.project}}", "summary": "{{headline}}", "description": "{{text}}",
            "priority": "{{severity_word}}", "event": "{{event}}"}}"#,
    },
    // Events API v2 (POST https://events.pagerduty.com/v2/enqueue). An update is a trigger with the same key, which PagerDuty
    // adds to the open incident.
    Preset {
        name: "pagerduty",
        tickets: true,
        needs: &["routing_key"],
        actions: ["trigger", "trigger", "resolve"],
        severities: OWN_SEVERITIES,
        template: r#"{"routing_key": "{{params.routing_key}}", "event_action": "{{ticket.word}}", "dedup_key": "{{ticket.key}}",
            "client": "Halberd", "payload": {
                "summary": "{{headline}}", "source": "{{event.subject}}", "severity": "{{severity_word}}",
                "timestamp": "{{event.time}}", "class": "{{event.type}}", "custom_details": "{{event}}"}}"#,
    },
    // Alertmanager's POST /api/v2/alerts. The labels are the alert's identity, so nothing that changes stands in them. Without
    // an end it would resolve the alert by itself after its resolve_timeout (5 min), in the middle of the trouble.
    Preset {
        name: "alertmanager",
        tickets: true,
        needs: &[],
        actions: OWN_ACTIONS,
        severities: OWN_SEVERITIES,
        template: r#"[{"labels": {"alertname": "Halberd", "ticket": "{{ticket.key}}", "subject": "{{event.subject}}"},
            "annotations": {"summary": "{{headline}}", "description": "{{text}}", "severity": "{{severity_word}}"},
            "startsAt": "{{event.time}}", "endsAt": "{{ends_at}}"}]"#,
    },
    // Slack's incoming webhooks: told, not ticketed. The text is escaped as Slack asks, so a guest named <!channel> rings nobody.
    Preset {
        name: "slack",
        tickets: false,
        needs: &[],
        actions: OWN_ACTIONS,
        severities: OWN_SEVERITIES,
        template: r#"{"text": "{{slack_text}}"}"#,
    },
];

pub(super) fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The receiver's word for a move of a ticket; without a preset, our own.
pub(super) fn action_word(preset: Option<&Preset>, action: TicketAction) -> &'static str {
    preset.map_or(OWN_ACTIONS, |preset| preset.actions)[action as usize]
}

/// The receiver's word for a severity of ours, `over` being the end of trouble.
pub(super) fn severity_word(preset: Option<&Preset>, severity: &str, over: bool) -> &'static str {
    let words = preset.map_or(OWN_SEVERITIES, |preset| preset.severities);
    let place = OWN_SEVERITIES[..4].iter().position(|own| *own == severity).unwrap_or(3);
    words[if over { 4 } else { place }]
}
