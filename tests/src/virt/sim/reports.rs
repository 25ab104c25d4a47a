//! Reports, and the recoveries that they or an engine's own verdict open.

use super::*;

impl Sim {
    pub(super) fn report(&mut self, name: &str) {
        let Some(host) = self.store.host_named(name).cloned() else { return };
        let open = self.store.open_for(&Subject::Host { host: host.id }).is_some();
        if open || host.admission != Admission::In || host.maintenance.operator {
            return self.say(format!("* a report that {name} is down is answered 409"));
        }
        self.say(format!("* {name} is reported down: 202"));
        self.onlooker.reported.insert(name.to_owned());
        let report = self.notification(&host, Origin::Caller, NotificationStatus::New);
        self.store.notifications.insert(report.id, report);
    }

    pub(super) fn guest_down(&mut self, number: usize) {
        let Some(guest) = self.world.guest_ids().get(number).copied() else { return };
        let now = self.now;
        let at = self.world.running_on(guest);
        self.world.inject(now, Fault::GuestCrash { guest });
        let Some(host) = at.first().cloned() else { return };
        self.say(format!("* a guest on {host} crashes and is reported: 202"));
        let id = guest.to_string();
        let words =
            [("event", "LIFECYCLE"), ("vir_domain_event", "STOPPED_FAILED"), ("instance_uuid", id.as_str())];
        self.report_of(&host, NotificationType::Vm, &words);
    }

    pub(super) fn report_of(&mut self, host: &str, kind: NotificationType, words: &[(&str, &str)]) {
        let Some(host) = self.store.host_named(host).cloned() else { return };
        let payload = words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let report = self.notification(&host, Origin::Caller, NotificationStatus::New);
        let report = Notification { kind, payload, ..report };
        self.store.notifications.insert(report.id, report);
    }

    pub(super) fn notification(
        &mut self,
        host: &Host,
        origin: Origin,
        status: NotificationStatus,
    ) -> Notification {
        let words = [("event", "STOPPED"), ("host_status", "NORMAL"), ("cluster_status", "OFFLINE")];
        Notification {
            id: NotificationId(self.chance.uuid()),
            kind: NotificationType::ComputeHost,
            host: host.id,
            segment: self.segment,
            generated_at: self.stamp(),
            payload: words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            origin,
            status,
            message: None,
        }
    }

    pub(super) fn recovery(&mut self, notification: NotificationId, host: &Host) -> Recovery {
        Recovery {
            id: RecoveryId(self.chance.uuid()),
            notification,
            segment: self.segment,
            subject: Subject::Host { host: host.id },
            host_name: host.name.clone(),
            method: self.setup.method,
            policy: self.setup.policy.clone(),
            body: Body::Host(HostRecovery::new()),
            reason: "opened".into(),
            hooks: self.hooks.for_kind("host"),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 0,
            version: 0,
            opened_at: self.stamp(),
            closed_at: None,
        }
    }

    pub(super) fn open_by_verdict(&mut self, number: usize, host: HostId, judgement: &Judgement) {
        let row = self.store.hosts[&host].clone();
        if row.maintenance.operator
            || row.admission != Admission::In
            || self.store.open_for(&Subject::Host { host }).is_some()
        {
            return;
        }
        let report = self.notification(&row, Origin::Engine, NotificationStatus::Running);
        let recovery = self.recovery(report.id, &row);
        let engine = self.engines[number].name.clone();
        let class = judgement.class.map_or("?".to_owned(), |class| class.to_string());
        self.say(format!("{engine} judges {}: failed ({class})", row.name));
        self.store.open(recovery, Some(report));
    }

    pub(super) fn intake(&mut self, number: usize) {
        let new: Vec<Notification> = self
            .store
            .notifications
            .values()
            .filter(|report| report.status == NotificationStatus::New)
            .cloned()
            .collect();
        let seen = mono(self.now);
        let at = if self.engines[number].first { Mono(0) } else { seen };
        self.engines[number].first = false;
        for report in new {
            let host = self.store.hosts[&report.host].clone();
            let mut recovery = self.recovery(report.id, &host);
            match report.claim() {
                Claim::GuestDown { instance } => {
                    let instance = instance.parse().expect("a uuid");
                    recovery.subject = Subject::Guest { instance, host: host.id };
                    recovery.body = Body::Instance(InstanceRecovery { state: InstanceState::Confirming });
                }
                Claim::ProcessDown { name } => {
                    recovery.subject = Subject::Process { host: host.id, name };
                    recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Confirming });
                }
                _ => {
                    let known = self.engines[number].fleet.note_report(host.id, report.id, at, seen, false);
                    assert!(known, "every host is known from the beginning");
                }
            }
            recovery.hooks = self.hooks.for_kind(recovery.subject.kind());
            self.store.open(recovery, None);
        }
    }
}
